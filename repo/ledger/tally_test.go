package ledger

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestTallyTellsWhatTheMarkerIsTold: by number or by name, the same packs are
// kept and rescued, with the same use, and the same decision follows.
func TestTallyTellsWhatTheMarkerIsTold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var packs []string
		for n := range 8 {
			packs = append(packs, packOf(sidOf(uint32(n/3), n%4), byte(n)))
		}
		some := func(name string) (chosen []string) {
			for i, in := range rapid.SliceOfN(rapid.Bool(), len(packs), len(packs)).Draw(t, name) {
				if in {
					chosen = append(chosen, packs[i])
				}
			}
			return chosen
		}
		entry := Entry{Horizon: 1, Condemned: []Condemned{{Since: 2, Packs: some("waiting")}, {Since: 1, Going: true, Packs: some("going")}}}
		view, err := NewView(2, &entry)
		if err != nil {
			t.Fatal(err)
		}
		l := &Listing{Ledger: view, Packs: some("there"), Slots: []Held{{SID: sidOf(0, 0).Pack(), Kind: PointSlot}}, Segments: []Segment{{Name: "index/x", Packs: packs}}}
		byName, byNumber := Look(l).Marker(), Look(l).Marker()
		tally := byNumber.Tally(packs)
		for range rapid.IntRange(0, 6).Draw(t, "chunks") {
			var names []string
			numbers := rapid.SliceOfDistinct(rapid.Uint32Range(0, uint32(len(packs)-1)), rapid.ID).Draw(t, "holders")
			for _, n := range numbers {
				names = append(names, packs[n])
			}
			if rapid.Bool().Draw(t, "live") {
				byName.Live(10, names)
				tally.Live(10, numbers)
			} else {
				byName.Again(names)
				tally.Again(numbers)
			}
		}
		tally.Close()
		if !maps.Equal(byName.live, byNumber.live) || !maps.Equal(byName.rescued, byNumber.rescued) || !maps.Equal(byName.ranks, byNumber.ranks) {
			t.Fatalf("live %v and %v, rescued %v and %v", byName.live, byNumber.live, byName.rescued, byNumber.rescued)
		}
		if byName.missing != byNumber.missing || byName.rescueAll != byNumber.rescueAll {
			t.Fatalf("missing %d and %d, all rescued %v and %v", byName.missing, byNumber.missing, byName.rescueAll, byNumber.rescueAll)
		}
		a, b := byName.Decide(nil), byNumber.Decide(nil)
		if !sameEntry(a.Next, b.Next) || !slices.Equal(a.Run, b.Run) {
			t.Fatalf("%+v and %+v", a.Next, b.Next)
		}
	})
}
