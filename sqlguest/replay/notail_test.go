package replay_test

import (
	"strings"
	"testing"

	"holdfast/sqlguest/plan"
)

// TestNoTailSaysWhatIsGivenUpOfEveryModel: whoever gives up what the database holds since
// its last backup is told so, whether it has a log that could have kept it or not.
func TestNoTailSaysWhatIsGivenUpOfEveryModel(t *testing.T) {
	for _, c := range []struct {
		change string
		want   bool
	}{
		{"", true},
		{"ALTER DATABASE sales SET RECOVERY SIMPLE", true},
		{"ALTER DATABASE sales SET RECOVERY SIMPLE; ALTER DATABASE sales SET OFFLINE", true},
		{"ALTER DATABASE sales SET OFFLINE", true},
		{"DROP DATABASE sales", false},
	} {
		w := newWorld(t)
		s := w.live()
		if c.change != "" {
			w.exec(c.change)
		}
		r := w.job(w.instance, plan.Target{Point: s.full}, plan.Options{Replace: true})
		r.NoTail = true
		p, err := r.Preview(t.Context())
		w.must(err)
		if text := findings(p); strings.Contains(text, "since its last backup is given up") != c.want || p.Err() != nil {
			t.Errorf("%q: %s", c.change, text)
		}
	}
}
