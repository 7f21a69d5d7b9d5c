package segment

import (
	"bytes"
	"math/rand/v2"
	"slices"

	"pgregory.net/rapid"
)

// sortedEquals asks for many keys at once, some twice and some that are not
// there, and holds the answers against those of Find: few keys, so that single
// pages are read, and all, so that they are read in a row.
func sortedEquals(t *rapid.T, u *Union, segs []*Segment, want map[Key][]Location) {
	r := rand.New(rand.NewPCG(uint64(len(want)), 6))
	for _, share := range []int{1, 3, 300} {
		var keys []Key
		for key := range want {
			if r.IntN(share) > 0 {
				continue
			}
			absent := key
			absent[7] ^= 1
			keys = append(keys, key, absent)
			if r.IntN(4) == 0 {
				keys = append(keys, key)
			}
		}
		slices.SortFunc(keys, func(a, b Key) int { return bytes.Compare(a[:], b[:]) })
		for seg := range segs {
			told := map[int]int{}
			err := u.FindSorted(seg, len(keys), func(i int) Key { return keys[i] }, func(i, at int) {
				if _, twice := told[i]; twice {
					t.Fatalf("key %d told twice", i)
				}
				told[i] = at
			})
			if err != nil {
				t.Fatal(err)
			}
			for i, key := range keys {
				at, ok, err := u.Find(seg, key)
				if got, has := told[i]; err != nil || ok != has || ok && got != at {
					t.Fatalf("key %x in segment %d: %d %v at once, %d %v (%v) alone", key, seg, got, has, at, ok, err)
				}
			}
		}
	}
}
