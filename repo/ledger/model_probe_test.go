package ledger

import (
	"os"
	"testing"
	"time"
)

func TestProbe(t *testing.T) {
	if os.Getenv("PROBE") == "" {
		t.Skip("probe")
	}
	cfgs := []config{
		{name: "zombie 2w1p r3", writers: 2, pruners: 1, rounds: 3, fine: true, start: zombie},
		{name: "reused 2w2p r1 f1", writers: 2, pruners: 2, rounds: 1, forgets: 1, start: reused},
		{name: "reused 2w1p r2 f1 d1", writers: 2, pruners: 1, rounds: 2, forgets: 1, dups: 1, revokes: 1, start: reused},
		{name: "2w1p r2 f1 rev1 d1", writers: 2, pruners: 1, rounds: 2, forgets: 1, revokes: 1, dups: 1},
		{name: "2w2p r1 f1", writers: 2, pruners: 2, rounds: 1, forgets: 1},
	}
	for i := range cfgs {
		cfgs[i].sober = true
	}
	for _, mut := range allMutations {
		if p := os.Getenv("PROBE"); p != "1" && p != string(mut) {
			continue
		}
		for _, cfg := range cfgs {
			begin := time.Now()
			m := newModel(cfg, mut)
			n, broken, trace := m.run(2_000_000)
			if broken != "" {
				t.Logf("CAUGHT %-90s %-40s %8d states depth %d %v: %s", mut, cfg.name, n, len(trace), time.Since(begin).Round(time.Millisecond), broken)
				break
			}
			t.Logf("   missed %-80s %-40s %8d states", mut, cfg.name, n)
		}
	}
}
