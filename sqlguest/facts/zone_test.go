package facts

import (
	"testing"

	"holdfast/sqlguest/server"
)

// TestTheTimeZoneIsAskedForWhereItCanBeTold, and its absence stops no backup.
func TestTheTimeZoneIsAskedForWhereItCanBeTold(t *testing.T) {
	berlin := rows("zone", "W. Europe Standard Time")
	for _, c := range []struct {
		version string
		answer  any
		want    string
	}{
		{"16.0.1000.6", berlin, "W. Europe Standard Time"},
		{"15.0.2000.5", berlin, ""}, // it has no such function
		{"", berlin, ""},
		{"17.0.1.1", &server.Error{All: []server.Message{{Number: 195, Severity: 15}}}, ""},
	} {
		s := &script{t: t, answers: map[string]any{"CURRENT_TIMEZONE_ID()": c.answer}}
		if got, err := AskZone(t.Context(), s, &Instance{Version: c.version}); got != c.want || err != nil {
			t.Errorf("%s: %q, %v, want %q", c.version, got, err, c.want)
		}
	}
}
