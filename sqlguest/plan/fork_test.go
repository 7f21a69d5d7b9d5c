package plan

import (
	"testing"
	"time"

	"holdfast/sqlguest/chain"
)

// TestForkIsNamedByItsFirstCharacters: nobody types a GUID.
func TestForkIsNamedByItsFirstCharacters(t *testing.T) {
	const old, now = "5FF099DA-107B-4D68-9CB6-97DD1F1DBF98", "5FF1A0C2-0000-4D68-9CB6-97DD1F1DBF98"
	on := func(fork string, b chain.Backup) chain.Backup {
		b.Fork, b.FirstFork = fork, fork
		return b
	}
	s := on(now, set(chain.Log, "S", 200, 400, 40))
	s.FirstFork, s.ForkPoint = old, l(250)
	all := []chain.Backup{on(old, set(chain.Full, "A", 100, 110, 0)), on(old, set(chain.Log, "L1", 100, 200, 10)), on(old, set(chain.Log, "L2", 200, 300, 20)), s}
	for fork, want := range map[string]string{
		"": "A L1 S", old: "A L1 L2", now: "A L1 S", "5FF0": "A L1 L2", "5ff0": "A L1 L2", "5ff1a0c2-0": "A L1 S", "{" + old + "}": "A L1 L2",
		"5FF":   "refused: - -", // too short to be meant
		"5FF2":  "refused: - -",
		"FF1A0": "refused: - -",
	} {
		if got := told(Make(Target{}, all, Options{Fork: fork})); got != want {
			t.Errorf("%q: %q, want %q", fork, got, want)
		}
	}
	// Only GUIDs that begin alike are not told apart.
	for i := range all {
		if all[i].Fork == now {
			all[i].Fork = old[:9] + "2222-4D68-9CB6-97DD1F1DBF98"
		}
	}
	if got, want := told(Make(Target{}, all, Options{Fork: old[:9]})), "ambiguous: 00:00Z"+old[:9]+"2222-4D68-9CB6-97DD1F1DBF98 00:00Z"+old; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestAHistoryThatARevertLeftIsReachedByItsPoints: both are on one fork, whose name
// means the one that goes on.
func TestAHistoryThatARevertLeftIsReachedByItsPoints(t *testing.T) {
	full := set(chain.Full, "B", 250, 260, 30)
	full.Abandons = []string{"L2"}
	all := []chain.Backup{set(chain.Full, "A", 100, 110, 0), set(chain.Log, "L1", 100, 200, 10), set(chain.Log, "L2", 200, 300, 20), full, set(chain.Log, "M", 260, 400, 40)}
	for _, x := range []struct {
		target Target
		want   string
	}{{Target{}, "B M"}, {Target{Point: "L2"}, "A L1 L2"}} {
		if got := told(Make(x.target, all, Options{Fork: "F1"})); got != x.want {
			t.Errorf("%s: %q, want %q", x.target, got, x.want)
		}
	}
}

// TestForkIsWarnedOfBetweenTheTwoMomentsAlone: behind the restore that a log spans the time
// names one state, as it does without the fork's name.
func TestForkIsWarnedOfBetweenTheTwoMomentsAlone(t *testing.T) {
	const old, now = "5FF099DA-107B-4D68-9CB6-97DD1F1DBF98", "C1F1A0C2-0000-4D68-9CB6-97DD1F1DBF98"
	on := func(fork string, b chain.Backup) chain.Backup {
		b.Fork, b.FirstFork = fork, fork
		return b
	}
	s := on(now, set(chain.Log, "S", 200, 400, 40))
	s.FirstFork, s.ForkPoint = old, l(250)
	all := []chain.Backup{on(old, set(chain.Full, "A", 100, 110, 0)), on(old, set(chain.Log, "L1", 100, 200, 10)), on(old, set(chain.Log, "L2", 200, 300, 20)), on(now, set(chain.Full, "B", 260, 270, 30)), s}
	for minute, warns := range map[int]bool{15: true, 25: true, 35: false} {
		at := Target{At: time.Date(2026, 3, 2, 8, minute, 0, 0, time.UTC), Bare: true}
		p, err := Make(at, all, Options{Fork: now})
		if err != nil || (len(p.Warnings) > 0) != warns {
			t.Errorf("08:%d: %s, %q", minute, told(p, err), p.Warnings)
		}
		if plain, err := Make(at, all, Options{}); !warns && (err != nil || told(plain, err) != told(p, nil)) {
			t.Errorf("08:%d without the fork: %s", minute, told(plain, err))
		}
	}
}
