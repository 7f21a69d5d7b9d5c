package plan

import (
	"errors"
	"strings"
	"testing"
)

// TestContinueBehindATimeIsRefused: a database that stands behind the time already takes
// no log up to it (SQL Server error 4335), and that is said before anything is sent.
func TestContinueBehindATimeIsRefused(t *testing.T) {
	on := func(redo uint32) Options { return Options{Standing: &Standing{Redo: l(redo), Fork: "F1"}} }
	for _, x := range []struct {
		what   string
		redo   uint32
		target Target
		want   string
	}{
		{"behind where the full ends", 110, clockAt(9, 0, 0), "L1?"},
		{"before the full's end", 110, clockAt(0, 3, 0), "refused: - -"},
		{"in the next log", 200, clockAt(15, 0, 0), "L2?"},
		{"in the log that is restored", 200, clockAt(9, 0, 0), "refused: - -"},
		{"in the second of the log's end: it may hold more", 200, clockAt(10, 2, 0), "refused: - -"},
		{"in a log before it", 300, clockAt(9, 0, 0), "refused: - -"},
		{"in the log in which it stands", 250, clockAt(16, 0, 0), "L2?"},
		{"before the differential from which it stands", 250, clockAt(12, 0, 0), "refused: - -"},
	} {
		_, err := Make(x.target, chained(), on(x.redo))
		if got := told(Make(x.target, chained(), on(x.redo))); got != x.want {
			t.Errorf("%s: %q; want %q", x.what, got, x.want)
		}
		var miss *Unreachable
		if errors.As(err, &miss) && (!strings.Contains(miss.Why, "has gone past it already") || strings.Contains(err.Error(), "nearest") || !strings.Contains(miss.Hint(), "later moments") || !strings.Contains(miss.Hint(), "--replace") || strings.Contains(miss.Hint(), "--nearest")) {
			t.Errorf("%s: %v; hint %s", x.what, err, miss.Hint())
		}
	}
	stopped := Options{Standing: &Standing{Redo: l(250), Fork: "F1", Set: "L2", Stop: clockAt(17, 0, 0).At}}
	for at, want := range map[int]string{16: "refused: - -", 17: "L2?", 18: "L2?"} {
		if got := told(Make(clockAt(at, 0, 0), chained(), stopped)); got != want {
			t.Errorf("stopped at 17 minutes, on to %d: %q; want %q", at, got, want)
		}
	}
	for _, target := range []Target{{LSN: l(120)}, {Point: "L1"}} {
		var miss *Unreachable
		if _, err := Make(target, chained(), on(300)); !errors.As(err, &miss) || !strings.Contains(miss.Hint(), "--replace") {
			t.Errorf("%s: %v", target, err)
		}
	}
}
