package segment

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"
	"pgregory.net/rapid"
)

func sum64(b []byte) uint64 { return xxhash.Sum64(b) }

// TestMergeEqualsModel merges random groups of packs, with packs in several
// groups and some dropped, and compares with a map. The result must also be the
// very bytes that building it at once gives.
func TestMergeEqualsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
		tables := randomTables(r, rapid.IntRange(1, 12).Draw(t, "packs"), rapid.SampledFrom([]int{2, 20, 300}).Draw(t, "most"))
		builders := make([]Builder, rapid.IntRange(1, 6).Draw(t, "segments"))
		for _, p := range tables {
			for range 1 + r.IntN(3) { // once to three times
				builders[r.IntN(len(builders))].Add(p.pack, p.entries)
			}
		}
		var segs []*Segment
		for i := range builders {
			data, err := builders[i].Bytes()
			if err != nil {
				t.Fatal(err)
			}
			s, err := Open(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				t.Fatal(err)
			}
			segs = append(segs, s)
		}
		dropped := map[string]bool{}
		var kept []table
		var whole Builder
		for _, p := range tables {
			if r.IntN(3) == 0 {
				dropped[p.pack.Name()] = true
				continue
			}
			kept = append(kept, p)
			whole.Add(p.pack, p.entries)
		}
		var out bytes.Buffer
		if _, err := Merge(&out, segs, func(p Pack) bool { return !dropped[p.Name()] }); err != nil {
			t.Fatal(err)
		}
		s, err := Open(bytes.NewReader(out.Bytes()), int64(out.Len()))
		if err != nil {
			t.Fatal(err)
		}
		equalModel(t, s, model(kept))
		if want, err := whole.Bytes(); err != nil || !bytes.Equal(want, out.Bytes()) {
			t.Fatalf("merged bytes differ from built bytes (%v)", err)
		}
	})
}

// TestLawCatchesMergeBugs plants one mistake at a time in the merge.
func TestLawCatchesMergeBugs(t *testing.T) {
	r := rand.New(rand.NewPCG(12, 12))
	tables := randomTables(r, 6, 200)
	segs := []*Segment{
		openBytes(t, segmentBytes(t, tables[:4]...)),
		openBytes(t, segmentBytes(t, tables[2:]...)),
	}
	total := model(tables)
	once := func(at int, spoil func(Row, func(Row) error) error) func(Row, func(Row) error) error {
		n := 0
		return func(r Row, out func(Row) error) error {
			if n++; n == at {
				return spoil(r, out)
			}
			return out(r)
		}
	}
	bugs := map[string]merger{
		"entry lost":      {spoilRows: once(70, func(Row, func(Row) error) error { return nil })},
		"last entry lost": {spoilRows: once(entryCount(total), func(Row, func(Row) error) error { return nil })},
		"entry twice": {spoilRows: once(70, func(r Row, out func(Row) error) error {
			return errors.Join(out(r), out(r))
		})},
		"entry twice at another offset": {spoilRows: once(70, func(r Row, out func(Row) error) error {
			again := r
			again.Offset++
			again.Stored--
			return errors.Join(out(r), out(again))
		})},
		"offset changed":       {spoilRows: once(70, func(r Row, out func(Row) error) error { r.Offset--; return out(r) })},
		"length changed":       {spoilRows: once(70, func(r Row, out func(Row) error) error { r.Stored--; return out(r) })},
		"moved to other pack":  {spoilRows: once(1, func(r Row, out func(Row) error) error { r.Pack ^= 1; r.Offset = 0; return out(r) })},
		"pack dropped":         {spoilPacks: func(p []Pack) []Pack { return slices.Delete(slices.Clone(p), 2, 3) }},
		"last pack dropped":    {spoilPacks: func(p []Pack) []Pack { return p[:len(p)-1] }},
		"all packs dropped":    {spoilPacks: func([]Pack) []Pack { return nil }},
		"pack from nowhere":    {spoilPacks: func(p []Pack) []Pack { q := p[len(p)-1]; q.ID[0]++; q.SID = testSID(6); return append(p, q) }},
		"a pack's sum changed": {spoilPacks: func(p []Pack) []Pack { p = slices.Clone(p); p[1].Sum++; return p }},
	}
	for name, m := range bugs {
		m.segs, m.keep = segs, func(Pack) bool { return true }
		var out bytes.Buffer
		_, err := m.run(&out)
		if !errors.Is(err, ErrConservation) {
			t.Errorf("%s: got %v, want ErrConservation", name, err)
		}
		if _, err := Open(bytes.NewReader(out.Bytes()), int64(out.Len())); err == nil {
			t.Errorf("%s: the output is a segment all the same", name)
		}
	}
}

func entryCount(m map[Key][]Location) int {
	n := 0
	for _, places := range m {
		n += len(places)
	}
	return n
}

func TestMergeRefusesContradiction(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 13))
	a := randomTables(r, 1, 10)[0]
	b := table{a.pack, slices.Clone(a.entries)}
	b.entries[0].ID[0] ^= 1
	b = lawful(b)
	segs := []*Segment{openBytes(t, segmentBytes(t, a)), openBytes(t, segmentBytes(t, b))}
	if _, err := Merge(io.Discard, segs, nil); !errors.Is(err, ErrConservation) {
		t.Errorf("got %v", err)
	}
}

func TestMergeOfDamagedInput(t *testing.T) {
	r := rand.New(rand.NewPCG(14, 14))
	data := segmentBytes(t, randomTables(r, 3, 300)...)
	s := openBytes(t, data)
	data[4096+100] ^= 4
	if _, err := Merge(io.Discard, []*Segment{s}, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

// brokenWriter fails after so many bytes.
type brokenWriter int

var errBroken = errors.New("disk on fire")

func (w *brokenWriter) Write(b []byte) (int, error) {
	if *w -= brokenWriter(len(b)); *w < 0 {
		return 0, errBroken
	}
	return len(b), nil
}

func TestMergeTellsWriteError(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 15))
	data := segmentBytes(t, randomTables(r, 3, 300)...)
	for n := 0; n < len(data); n += 1000 {
		w := brokenWriter(n)
		if _, err := Merge(&w, []*Segment{openBytes(t, data)}, nil); !errors.Is(err, errBroken) {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
}
