package plan

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lsn"
)

// TestRefusalsTellScriptsTheNearestMoments: exit code 15 alone is no help to a program.
func TestRefusalsTellScriptsTheNearestMoments(t *testing.T) {
	at := time.Date(2026, 3, 2, 8, 0, 5, 0, cet)
	for _, x := range []struct {
		err  error
		want string
	}{
		{&Unreachable{Target: "x", Before: &chain.Moment{Point: "p", LSN: l(7), Time: at}, After: &chain.Moment{Time: at.Add(time.Hour), LSN: l(8)}},
			`{"nearest_after":"2026-03-02T09:00:05+01:00","nearest_before":"2026-03-02T08:00:05+01:00","nearest_before_lsn":"` + l(7).String() + `","nearest_before_point":"p","target":"x"}`},
		{&Unreachable{Target: "x", After: &chain.Moment{Point: TailPoint, LSN: lsn.Max, Time: at}}, `{"nearest_after":"2026-03-02T08:00:05+01:00","target":"x"}`},
		{&Unreachable{Target: "x"}, `{"target":"x"}`},
		{&Ambiguous{Target: "x", Readings: []Reading{{Time: at}, {LSN: l(7), Fork: "F"}}}, `{"readings":[{"time":"2026-03-02T08:00:05+01:00"},{"lsn":"` + l(7).String() + `","fork":"F"}],"target":"x"}`},
	} {
		var f interface{ Fields() map[string]any }
		if !errors.As(x.err, &f) {
			t.Fatalf("%T", x.err)
		}
		if got, err := json.Marshal(f.Fields()); err != nil || string(got) != x.want {
			t.Errorf("%s (%v), want %s", got, err, x.want)
		}
	}
}
