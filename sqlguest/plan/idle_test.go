package plan

import (
	"errors"
	"strings"
	"testing"

	"holdfast/sqlguest/chain"
)

// TestIdleTimeIsReached: where a database rests its logs are empty, and a restore needs
// none of them; but that they were taken says that nothing came in between.
func TestIdleTimeIsReached(t *testing.T) {
	full, log, empty := set(chain.Full, "A", 100, 110, 0), set(chain.Log, "L1", 100, 200, 10), set(chain.Log, "E", 200, 200, 30)
	for _, x := range []struct {
		what    string
		backups []chain.Backup
		target  Target
		want    string
	}{
		{"behind the last log, before an empty one", []chain.Backup{full, log, empty}, clockAt(20, 0, 0), "A L1"},
		{"as the empty one began", []chain.Backup{full, log, empty}, clockAt(30, 0, 0), "A L1"},
		{"behind it", []chain.Backup{full, log, empty}, clockAt(30, 1, 0), "refused: 08:30:00 E"},
		{"in a log before", []chain.Backup{full, log, empty}, clockAt(5, 0, 0), "A L1?"},
		{"behind a full, before a log that holds no more", []chain.Backup{full, set(chain.Log, "L", 100, 110, 10)}, clockAt(5, 0, 0), "A"},
		{"an empty one on another fork", []chain.Backup{full, log, func() chain.Backup { b := empty; b.Fork, b.FirstFork = "F2", "F2"; return b }()}, clockAt(20, 0, 0), "refused: L1 -"},
	} {
		if got := told(Make(x.target, x.backups, Options{})); got != x.want {
			t.Errorf("%s: %q; want %q", x.what, got, x.want)
		}
	}
}

// TestRefusalNamesTimesThatCanBeAsked: never the second that was just refused.
func TestRefusalNamesTimesThatCanBeAsked(t *testing.T) {
	full, log := set(chain.Full, "A", 100, 110, 0), set(chain.Log, "L1", 100, 200, 10)
	for _, x := range []struct {
		backups []chain.Backup
		target  Target
		want    string
		again   bool
	}{
		{[]chain.Backup{full, log}, clockAt(10, 6, 0), "end of point L1 (LSN " + l(200).String() + ", 2026-03-02T08:10:00+01:00)", true},
		{[]chain.Backup{full}, clockAt(0, 6, 0), "end of point A (LSN " + l(110).String() + ", 2026-03-02T08:00:05+01:00)", false},
	} {
		_, err := Make(x.target, x.backups, Options{})
		var miss *Unreachable
		if !errors.As(err, &miss) || !strings.Contains(err.Error(), "nearest before: "+x.want) {
			t.Fatal(err)
		}
		if _, err = Make(Target{At: miss.Before.Time}, x.backups, Options{}); x.again != (err == nil) {
			t.Errorf("what was named can be asked for: %v", err)
		}
	}
}
