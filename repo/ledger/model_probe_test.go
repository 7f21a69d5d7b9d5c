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
		{name: "2w1p r2 f1", writers: 2, pruners: 1, rounds: 2, forgets: 1},
		{name: "1w1p r3 repack merge reader", writers: 1, pruners: 1, rounds: 3, forgets: 1, revokes: 1, repack: true, merge: true, reader: true, aged: true},
		{name: "zombie 2w1p r4", writers: 2, pruners: 1, rounds: 4, fine: true, start: zombie},
		{name: "zombie 2w1p r4 f1", writers: 2, pruners: 1, rounds: 4, forgets: 1, fine: true, start: zombie},
		{name: "three 3w1p r3 f1", writers: 3, pruners: 1, rounds: 3, forgets: 1, revokes: 1, start: threeParties},
		{name: "three 3w2p r2 f1", writers: 3, pruners: 2, rounds: 2, forgets: 1, revokes: 0, start: threeParties},
		{name: "2w2p r2 f1", writers: 2, pruners: 2, rounds: 2, forgets: 1},
		{name: "2w1p r2 f1 rev1", writers: 2, pruners: 1, rounds: 2, forgets: 1, revokes: 1},
		{name: "2w1p r3 f2 d1 rev1", writers: 2, pruners: 1, rounds: 3, forgets: 2, revokes: 1, dups: 1},
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
