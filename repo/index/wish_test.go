package index

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestMarkAllEqualsMark: chunks that are marked together are those that are
// marked one by one, over several files, beside and beyond another set, with
// wishes that occur twice and wishes for what is not there.
func TestMarkAllEqualsMark(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 9))
		tables := randomTables(r, rapid.IntRange(1, 10).Draw(t, "packs"), rapid.SampledFrom([]int{5, 500}).Draw(t, "most"))
		rem := &remote{objects: map[string][]byte{}}
		for i := 0; i < len(tables); i += 2 {
			rem.objects[fmt.Sprintf("index/one/%08d", i)] = builtOf(t, tables[i:min(i+2, len(tables))])
		}
		l, err := OpenLocal("", LocalOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		refresh(t, l, rem)
		all := marked(model(tables))
		live, err := l.NewMarks()
		if err != nil {
			t.Fatal(err)
		}
		again := live.Beyond()
		defer func() { _, _ = live.Close(), again.Close() }()
		in := markTogether(t, r, live, all, nil)
		marksEqual(t, live, in)
		marksEqual(t, again, markTogether(t, r, again, all, in))
	})
}

// builtOf is a segment of tables.
func builtOf(t *rapid.T, tables []table) []byte {
	var b Builder
	for _, table := range tables {
		b.Add(table.pack, table.entries)
	}
	data, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// markTogether marks half of all, and returns what of it is not in under.
func markTogether(t *rapid.T, r *rand.Rand, m *Marks, all, under marked) marked {
	want, absent := marked{}, map[uint32]Key{}
	var wishes []Wish
	for key, places := range all {
		if r.IntN(2) == 0 {
			continue
		}
		if _, below := under[key]; !below {
			want[key] = places
		}
		for range 1 + r.IntN(2) {
			wishes = append(wishes, Wish{Key: key, By: uint32(len(wishes))})
		}
		if r.IntN(3) == 0 {
			key[5] ^= 0x40
			absent[uint32(len(wishes))] = key
			wishes = append(wishes, Wish{Key: key, By: uint32(len(wishes))})
		}
	}
	r.Shuffle(len(wishes), func(a, b int) { wishes[a], wishes[b] = wishes[b], wishes[a] })
	unknown, err := m.MarkAll(wishes)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range unknown {
		if absent[w.By] != w.Key {
			t.Fatalf("wish %d for %x is called unknown", w.By, w.Key)
		}
		delete(absent, w.By)
	}
	if len(absent) > 0 {
		t.Fatalf("%d wishes for what is not there are not called unknown", len(absent))
	}
	return want
}

// TestWishesAreSortedHoweverTheyAreSpread: keys that are no hashes cost time,
// never order.
func TestWishesAreSortedHoweverTheyAreSpread(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for name, key := range map[string]func(i int) Key{
		"even":      func(int) Key { return KeyOf(randomID(r)) },
		"equal":     func(int) Key { return Key{7} },
		"at an end": func(i int) Key { return Key{0xff, 0xff, 0xff, byte(r.IntN(256)), byte(i)} },
		"few":       func(int) Key { return Key{byte(r.IntN(3)), 15: byte(r.IntN(3))} },
	} {
		for _, n := range []int{0, 1, fewWishes - 1, fewWishes, 50_000} {
			wishes := make([]Wish, n)
			for i := range wishes {
				wishes[i] = Wish{Key: key(i), By: uint32(i)}
			}
			want := slices.Clone(wishes)
			slices.SortFunc(want, compareWishes)
			sortWishes(wishes)
			seen := make([]bool, n)
			for i, w := range wishes {
				if w.Key != want[i].Key || seen[w.By] {
					t.Fatalf("%s, %d: %x at %d, want %x (seen %v)", name, n, w.Key, i, want[i].Key, seen[w.By])
				}
				seen[w.By] = true
			}
			if !slices.IsSortedFunc(wishes, func(a, b Wish) int { return bytes.Compare(a.Key[:], b.Key[:]) }) {
				t.Fatalf("%s, %d: not sorted", name, n)
			}
		}
	}
}
