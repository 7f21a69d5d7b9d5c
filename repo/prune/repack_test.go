package prune

import (
	"fmt"
	"testing"

	"holdfast/repo/index"
	"holdfast/repo/ledger"
)

// TestPacksThatAreFullByNumberAreNotMerged: packs of very short chunks, as the
// nodes of small streams are, would be copied into as many packs at every prune.
func TestPacksThatAreFullByNumberAreNotMerged(t *testing.T) {
	for _, c := range []struct{ count, packs, want int }{
		{count: index.MaxPackEntries, packs: 2 * smallMany, want: 0},
		{count: 10, packs: smallMany - 1, want: 0},
		{count: 10, packs: smallMany, want: smallMany},
	} {
		view, err := ledger.NewView(1, &ledger.Entry{Version: ledger.Version, Horizon: 1})
		if err != nil {
			t.Fatal(err)
		}
		r := &round{
			pruner: &pruner{}, packs: map[string]index.Pack{}, plan: &ledger.Plan{Live: map[string]ledger.Use{}},
			survey: ledger.Look(&ledger.Listing{Ledger: view}),
		}
		for n := range c.packs {
			p := index.Pack{SID: fmt.Sprintf("00000000-00000000000000aa-%016x", n), Kind: index.MetaPack, Bytes: 1 << 20, Count: uint32(c.count)}
			r.packs[p.Name()] = p
			r.plan.Live[p.Name()] = ledger.Use{Bytes: 1 << 20, Chunks: c.count}
		}
		if got := len(r.chooseRepack().packs); got != c.want {
			t.Errorf("of %d packs of %d chunks %d are repacked, want %d", c.packs, c.count, got, c.want)
		}
	}
}
