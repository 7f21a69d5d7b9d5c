package segment

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// raggedBytes is a segment whose pages are full or not by chance, as the format
// allows and the builder does not do.
func raggedBytes(tb fataler, r *rand.Rand, tables ...table) []byte {
	var packs []Pack
	for _, t := range tables {
		packs = append(packs, t.pack)
	}
	packs, err := Distinct(packs)
	if err != nil {
		tb.Fatal(err)
	}
	var rows []Row
	for _, t := range tables {
		own, err := t.pack.Rows(t.entries)
		if err != nil {
			tb.Fatal(err)
		}
		for _, row := range own {
			row.Pack = uint32(Ordinal(packs, t.pack))
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, compareRows)
	var out bytes.Buffer
	w := newSegmentWriter(&out, packs)
	for _, row := range rows {
		err := w.add(row)
		if err == nil && r.IntN(20) == 0 {
			err = w.flush()
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.finish(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

type where struct{ seg, at int }

// TestUnionEqualsModel reads random overlapping segments as one, with pages full
// or not, and some packs left out: every row once, in order, and each found again
// by its key at the very place that the walk told.
func TestUnionEqualsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 5))
		tables := randomTables(r, rapid.IntRange(1, 12).Draw(t, "packs"), rapid.SampledFrom([]int{3, 200}).Draw(t, "most"))
		var segs []*Segment
		dropped, kept := map[string]bool{}, map[string]table{}
		for range rapid.IntRange(0, 5).Draw(t, "segments") {
			var some []table
			for _, p := range tables {
				if r.IntN(3) > 0 {
					some = append(some, p)
					kept[p.pack.Name()] = p
				}
			}
			data := raggedBytes(t, r, some...)
			s, err := Open(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				t.Fatal(err)
			}
			segs = append(segs, s)
		}
		var left []table
		for name, p := range kept {
			if dropped[name] = r.IntN(4) == 0; !dropped[name] {
				left = append(left, p)
			}
		}
		u, err := Unite(segs, func(p Pack) bool { return !dropped[p.Name()] })
		if err != nil {
			t.Fatal(err)
		}
		unionEquals(t, u, segs, model(left))
		sortedEquals(t, u, segs, model(left))
	})
}

func unionEquals(t *rapid.T, u *Union, segs []*Segment, want map[Key][]Location) {
	got, at := map[Key][]Location{}, map[where]Key{}
	first := map[Key]map[int]int{} // by segment
	var last *Row
	err := u.Walk(func(r Row, seg, place int) error {
		if last != nil && !before(last, &r) {
			t.Fatalf("row %x out of order", r.Key)
		}
		last = &r
		if _, taken := at[where{seg, place}]; taken || place < 0 || place >= segs[seg].Span() {
			t.Fatalf("place %d of segment %d taken twice or beyond its span", place, seg)
		}
		at[where{seg, place}] = r.Key
		if first[r.Key] == nil {
			first[r.Key] = map[int]int{}
		}
		if _, ok := first[r.Key][seg]; !ok {
			first[r.Key][seg] = place
		}
		got[r.Key] = append(got[r.Key], Location{u.Packs()[r.Pack], r.Offset, r.Stored})
		return nil
	})
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d keys, want %d: %v", len(got), len(want), err)
	}
	for key, places := range want {
		if !slices.Equal(got[key], places) {
			t.Fatalf("key %x at %v, want %v", key, got[key], places)
		}
		for seg := range segs {
			place, ok, err := u.Find(seg, key)
			if told, has := first[key][seg]; err != nil || ok != has || ok && place != told {
				t.Fatalf("key %x in segment %d: found %d %v (%v), walked over %d %v", key, seg, place, ok, err, told, has)
			}
		}
	}
}

func TestUnionRefusesContradiction(t *testing.T) {
	r := rand.New(rand.NewPCG(18, 18))
	a := randomTables(r, 1, 10)[0]
	b := table{a.pack, slices.Clone(a.entries)}
	b.entries[0].ID[0] ^= 1
	b = lawful(b)
	segs := []*Segment{openBytes(t, segmentBytes(t, a)), openBytes(t, segmentBytes(t, b))}
	if _, err := Unite(segs, nil); !errors.Is(err, ErrConservation) {
		t.Errorf("got %v", err)
	}
}

func TestUnionOfDamagedInput(t *testing.T) {
	r := rand.New(rand.NewPCG(19, 19))
	data := segmentBytes(t, randomTables(r, 9, 300)...)
	s := openBytes(t, data)
	if len(s.fences) < 3 {
		t.Fatal("too small a segment for this test")
	}
	var last Key
	for item, err := range s.Entries() {
		if last = item.Key; err != nil {
			t.Fatal(err)
		}
	}
	data[(len(s.fences)-1)*4096+100] ^= 4
	u, err := Unite([]*Segment{s}, nil)
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	if err := u.Walk(func(Row, int, int) error { rows++; return nil }); !errors.Is(err, ErrCorrupt) {
		t.Errorf("walk: %v", err)
	}
	if rows < s.Len()-pageEntries || rows == s.Len() {
		t.Errorf("%d rows of %d before the damage in the last page", rows, s.Len())
	}
	if _, _, err := u.Find(0, last); !errors.Is(err, ErrCorrupt) {
		t.Errorf("find: %v", err)
	}
	if err := u.Walk(func(Row, int, int) error { return errBroken }); err != errBroken {
		t.Errorf("the caller's error: %v", err)
	}
}
