package plan

import (
	"errors"
	"strings"
	"testing"

	"holdfast/sqlguest/chain"
)

// TestRestartIsBlamedOnlyIfItIsTheReason: a differential that the next log may not follow
// (chain.Tie) says nothing of a target that the logs do not reach either.
func TestRestartIsBlamedOnlyIfItIsTheReason(t *testing.T) {
	of := func(run string, b chain.Backup) chain.Backup {
		b.Run = run
		return b
	}
	a := of("1", set(chain.Full, "A", 100, 110, 0))
	l1, d := of("1", set(chain.Log, "L1", 100, 200, 10)), of("1", diffOf(a, "D", 240, 250, 15))
	l2, same := of("2", set(chain.Log, "L2", 200, 300, 20)), of("1", set(chain.Log, "L2", 200, 300, 20))
	bulk := l2
	bulk.BulkLogged = true
	whole, holed := []chain.Backup{a, l1, d, l2}, []chain.Backup{a, d, l2}
	on := Options{Standing: &Standing{Redo: l(250), Fork: "F1", Set: "D"}}
	for _, x := range []struct {
		what   string
		list   []chain.Backup
		o      Options
		target Target
		want   string
	}{
		{"behind the last log", whole, Options{}, clockAt(40, 0, 0), "after the last log backup"},
		{"behind the last log, where nothing else leads", holed, Options{}, clockAt(40, 0, 0), "after the last log backup"},
		{"before the first", whole, Options{}, Target{LSN: l(50)}, "no full, differential and logs lead there"},
		{"the end of a differential, before its LSN", holed, Options{}, Target{LSN: l(250), Before: true}, "started anew"},
		{"the same, with no log", []chain.Backup{a, d}, Options{}, Target{LSN: l(250), Before: true}, "there are no log backups"},
		{"in a bulk-logged log behind the restart", []chain.Backup{a, d, bulk}, Options{}, Target{LSN: l(280)}, "bulk-logged"},
		{"in the log behind the restart", holed, Options{}, Target{LSN: l(280)}, "started anew"},
		{"the log behind the restart", holed, Options{}, Target{Point: "L2"}, "started anew"},
		{"on from there", whole, on, Target{Point: "L2"}, "stands on was made before"},
		{"on from there, behind the last log", whole, on, clockAt(40, 0, 0), "no logs lead there from where"},
		{"on from there, in one run", []chain.Backup{a, l1, d, same}, on, clockAt(40, 0, 0), "no logs lead there from where"},
	} {
		_, err := Make(x.target, x.list, x.o)
		var miss *Unreachable
		if !errors.As(err, &miss) || !strings.Contains(miss.Why, x.want) {
			t.Errorf("%s: %v; want %q", x.what, err, x.want)
		}
	}
}
