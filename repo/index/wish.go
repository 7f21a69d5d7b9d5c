package index

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
)

// Wish is a chunk that is to be marked, and who asks for it: By is the caller's own.
type Wish struct {
	Key Key
	By  uint32
}

// MarkAll is Mark for many chunks, in any order; it sorts wishes, and returns
// those that the index has no place for, in the room of wishes. A hundred
// thousand at once cost a small part of as many calls of Mark, because every
// page of the files is then read once, in sequence. Errors are those of Mark;
// some of wishes may be marked then.
func (m *Marks) MarkAll(wishes []Wish) (unknown []Wish, err error) {
	sortWishes(wishes)
	for seg := range m.parts {
		rest := 0 // wishes[:rest] are not in the parts up to this one
		next := 0
		keep := func(upTo int) {
			rest += copy(wishes[rest:], wishes[next:upTo])
			next = upTo + 1
		}
		err := m.union.FindSorted(seg, len(wishes), func(i int) Key { return wishes[i].Key }, func(i, at int) {
			keep(i)
			m.set(seg, at)
		})
		if err != nil {
			m.parts[seg].condemn()
			return nil, fmt.Errorf("mark %d chunks in local index: %w", len(wishes), err)
		}
		keep(len(wishes))
		wishes = wishes[:rest]
	}
	return wishes, nil
}

const (
	fewWishes    = 1 << 10 // are sorted as anything is
	bucketBits   = 18      // at most: two tables of 1 MiB
	perBucket    = 4
	longestChain = 24 // in one bucket, before it is sorted as anything is
)

// sortWishes sorts by key. Keys are parts of hashes, evenly spread, so their
// first bits tell almost exactly where each belongs: it is put there in one
// pass, in place, and then only neighbours are compared.
func sortWishes(wishes []Wish) {
	if len(wishes) < fewWishes {
		slices.SortFunc(wishes, compareWishes)
		return
	}
	shift := 64 - min(bucketBits, bits.Len(uint(len(wishes)/perBucket)))
	bucket := func(w *Wish) uint64 { return binary.BigEndian.Uint64(w.Key[:8]) >> shift }
	ends := make([]uint32, 1<<(64-shift))
	for i := range wishes {
		ends[bucket(&wishes[i])]++
	}
	next := make([]uint32, len(ends)) // where the next one of each bucket goes
	for b, sum := 0, uint32(0); b < len(ends); b++ {
		next[b] = sum
		sum += ends[b]
		ends[b] = sum
	}
	for b, start := 0, uint32(0); b < len(ends); b++ {
		for ; next[b] < ends[b]; next[b]++ {
			w := wishes[next[b]]
			for home := bucket(&w); home != uint64(b); home = bucket(&w) {
				w, wishes[next[home]] = wishes[next[home]], w
				next[home]++
			}
			wishes[next[b]] = w
		}
		sortBucket(wishes[start:ends[b]])
		start = ends[b]
	}
}

// sortBucket sorts the few wishes that begin alike.
func sortBucket(wishes []Wish) {
	if len(wishes) > longestChain {
		slices.SortFunc(wishes, compareWishes)
		return
	}
	for i := 1; i < len(wishes); i++ {
		for j := i; j > 0 && compareWishes(wishes[j-1], wishes[j]) > 0; j-- {
			wishes[j-1], wishes[j] = wishes[j], wishes[j-1]
		}
	}
}

func compareWishes(a, b Wish) int { return bytes.Compare(a.Key[:], b.Key[:]) }
