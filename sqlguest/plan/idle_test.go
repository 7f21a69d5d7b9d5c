package plan

import (
	"errors"
	"strings"
	"testing"
	"time"

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

// TestNearestBeforeIsTheLastTimeThatIsTaken: empty logs end where the one before them
// does, and each says that nothing came until it was begun. A restore to the time that is
// named works, and one to the next tick of the clock is the one that was refused.
func TestNearestBeforeIsTheLastTimeThatIsTaken(t *testing.T) {
	full, log := set(chain.Full, "A", 100, 110, 0), set(chain.Log, "L1", 100, 200, 10)
	e1, e2, e3 := set(chain.Log, "E1", 200, 200, 20), set(chain.Log, "E2", 200, 200, 30), set(chain.Log, "E3", 200, 200, 40)
	on := func(b chain.Backup) chain.Backup { b.Fork, b.FirstFork = "F2", "F2"; return b }
	other := set(chain.Log, "S", 200, 300, 50)
	other.Fork, other.ForkPoint = "F2", l(200)
	bulk := func(b chain.Backup) chain.Backup { b.BulkLogged = true; return b }
	diff := diffOf(full, "D", 200, 210, 15)
	diff.Run = "one"
	after := set(chain.Log, "E4", 210, 210, 30)
	after.Run = "two"
	for _, x := range []struct {
		what    string
		backups []chain.Backup
		target  Target
		fork    string
		want    string
		at      string
	}{
		{"behind all", []chain.Backup{full, log, e1, e2}, clockAt(59, 0, 0), "", "E2", "08:30"},
		{"of an LSN behind all", []chain.Backup{full, log, e1, e2}, Target{LSN: l(250)}, "", "E2", "08:30"},
		{"before a bulk-logged log", []chain.Backup{full, log, e1, e2, bulk(set(chain.Log, "L2", 200, 300, 40))}, clockAt(35, 0, 0), "", "E2", "08:30"},
		{"behind a full", []chain.Backup{full, set(chain.Log, "L", 100, 110, 10), set(chain.Log, "E", 110, 110, 20)}, clockAt(59, 0, 0), "", "E", "08:20"},
		{"on a fork that was left", []chain.Backup{full, log, e1, e2, on(other)}, clockAt(45, 0, 0), "F1", "E2", "08:30"},
		{"a log of another run than its differential", []chain.Backup{full, diff, after}, clockAt(59, 0, 0), "", "D", "08:15"},
		{"an empty log on another fork", []chain.Backup{full, log, e1, on(e3)}, clockAt(59, 0, 0), "F1", "E1", "08:20"},
	} {
		o := Options{Fork: x.fork}
		_, err := Make(x.target, x.backups, o)
		var miss *Unreachable
		if !errors.As(err, &miss) || miss.Before == nil || miss.Before.Point != x.want || miss.Before.Time.Format("15:04") != x.at {
			t.Errorf("%s: %v; want %s, %s", x.what, err, x.want, x.at)
			continue
		}
		if _, err := Make(Target{At: miss.Before.Time}, x.backups, o); err != nil && x.want != "D" {
			t.Errorf("%s: what was named cannot be asked for: %v", x.what, err)
		}
		o.Nearest = Before
		if p, err := Make(x.target, x.backups, o); err != nil || p.Instead.Point != x.want {
			t.Errorf("%s: --nearest: %s, %v", x.what, told(p, err), p.Instead)
		}
	}
}

// TestNearestBeforeIsNotBehind: in an hour that was shown twice no time is reached, and the
// database rested over it.
func TestNearestBeforeIsNotBehind(t *testing.T) {
	at := func(b chain.Backup, hour, minute, offset int) chain.Backup {
		b.Started = time.Date(2026, 10, 25, hour, minute, 0, 0, time.FixedZone("", offset*3600))
		b.Finished = b.Started.Add(5 * time.Second)
		return b
	}
	e1, e2 := set(chain.Log, "E1", 200, 200, 0), set(chain.Log, "E2", 200, 200, 0)
	all := []chain.Backup{at(set(chain.Full, "A", 100, 110, 0), 1, 0, 2), at(set(chain.Log, "L1", 100, 200, 0), 1, 30, 2), at(e1, 1, 40, 2), at(e2, 3, 40, 1)}
	target := Target{At: time.Date(2026, 10, 25, 2, 30, 0, 0, time.FixedZone("", 3600))}
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	if got := told(Make(target, all, Options{Zone: zone})); got != "refused: E1 E2" {
		t.Error(got)
	}
}
