package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"holdfast/repo/blob"
)

func TestSegmentAnswersWhatWasAdded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		tables := randomTables(r, rapid.IntRange(0, 12).Draw(t, "packs"), rapid.SampledFrom([]int{1, 5, 150, 300}).Draw(t, "most"))
		var b Builder
		for _, i := range r.Perm(len(tables)) {
			b.Add(tables[i].pack, tables[i].entries)
		}
		data, err := b.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		s, err := Open(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		equalModel(t, s, model(tables))
		if !slices.IsSortedFunc(s.Packs(), Compare) || len(s.Packs()) != len(tables) {
			t.Fatalf("packs: %v", s.Packs())
		}
	})
}

func TestManyEqualIDsStraddlePages(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	same := randomID(r)
	var tables []table
	for n := range 500 { // 500 places of one id: more than three pages
		tables = append(tables, testPack(n, 3, func(i int) blob.ID {
			if i == 1 {
				return same
			}
			return randomID(r)
		}))
	}
	s := openBytes(t, segmentBytes(t, tables...))
	equalModel(t, s, model(tables))
	if got, _ := s.Lookup(same); len(got) != 500 {
		t.Fatalf("%d places, want 500", len(got))
	}
}

// TestSegmentLayout holds the bytes against FORMAT.md §8, read by hand.
func TestSegmentLayout(t *testing.T) {
	one := testPack(6, 147, func(i int) blob.ID { return blob.ID{0: byte(i), 1: 9, 16: 0xff} })
	data := segmentBytes(t, one)
	if want := 2*4096 + 96 + 2*16 + 64; len(data) != want {
		t.Fatalf("%d bytes, want %d", len(data), want)
	}
	le := binary.LittleEndian
	if le.Uint16(data[4088:]) != 146 || le.Uint16(data[4096+4088:]) != 1 {
		t.Error("entry counts of the pages")
	}
	e := data[5*28:]
	if e[0] != 5 || e[1] != 9 || le.Uint32(e[16:]) != 0 || le.Uint32(e[20:]) != one.entries[5].Offset || le.Uint32(e[24:]) != one.entries[5].Stored {
		t.Errorf("entry 5: %x", e[:28])
	}
	p := data[2*4096:]
	if string(p[:42]) != one.pack.SID || p[42] != 1 || p[43] != 0 || !bytes.Equal(p[44:60], one.pack.ID[:]) ||
		le.Uint32(p[60:]) != 6 || le.Uint32(p[64:]) != one.pack.Bytes || le.Uint32(p[68:]) != 147 || le.Uint64(p[72:]) != one.pack.Sum {
		t.Errorf("pack: %x", p[:96])
	}
	if fence := data[2*4096+96+16:]; fence[0] != 146 || fence[1] != 9 {
		t.Errorf("second fence: %x", fence[:16])
	}
	tr := data[len(data)-64:]
	if string(tr[:8]) != "HFINDEX1" || le.Uint32(tr[8:]) != 2 || le.Uint32(tr[12:]) != 1 || le.Uint64(tr[16:]) != 147 {
		t.Errorf("trailer: %x", tr)
	}
}

func TestBuilderRefusesWhatBreaksTheLaw(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	good := func() table { return testPack(0, 5, func(int) blob.ID { return randomID(r) }) }
	for name, c := range map[string]struct {
		spoil func(*table)
		want  error
	}{
		"entry lost":     {func(t *table) { t.entries = t.entries[1:] }, ErrConservation},
		"entry twice":    {func(t *table) { t.entries = append(t.entries, t.entries[0]) }, ErrConservation},
		"offset changed": {func(t *table) { t.entries[2].Offset-- }, ErrConservation},
		"id changed":     {func(t *table) { t.entries[2].ID[3] ^= 1 }, ErrConservation},
		"length changed": {func(t *table) { t.entries[2].Stored-- }, ErrConservation},
		"sum changed":    {func(t *table) { t.pack.Sum++ }, ErrConservation},
		"outside pack":   {func(t *table) { t.pack.Bytes-- }, ErrPack},
		"no chunks":      {func(t *table) { t.entries, t.pack.Count, t.pack.Sum = nil, 0, 0 }, ErrPack},
		"kind 3":         {func(t *table) { t.pack.Kind = 3 }, ErrPack},
		"bad session":    {func(t *table) { t.pack.SID = t.pack.SID[:41] + "G" }, ErrPack},
	} {
		p := good()
		p.entries = slices.Clone(p.entries)
		c.spoil(&p)
		var b Builder
		b.Add(p.pack, p.entries)
		if _, err := b.Bytes(); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
		if _, err := p.pack.Rows(p.entries); !errors.Is(err, c.want) {
			t.Errorf("%s, rows of the pack: got %v, want %v", name, err, c.want)
		}
	}
}

func TestPackAddedTwice(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	p := testPack(0, 9, func(int) blob.ID { return randomID(r) })
	if twice, once := segmentBytes(t, p, p), segmentBytes(t, p); !bytes.Equal(twice, once) {
		t.Error("a pack added twice makes other bytes than once")
	}
	other := p
	other.pack.Epoch++
	var b Builder
	b.Add(p.pack, p.entries)
	b.Add(other.pack, other.entries)
	if _, err := b.Bytes(); !errors.Is(err, ErrConservation) {
		t.Errorf("contradicting packs: %v", err)
	}
}

// TestEveryBitFlip flips each bit of a small segment: each look-up gives the
// right answer or an error, and Verify always notices.
func TestEveryBitFlip(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	tables := []table{
		testPack(0, 3, func(int) blob.ID { return randomID(r) }),
		testPack(1, 2, func(int) blob.ID { return randomID(r) }),
	}
	data, want := segmentBytes(t, tables...), model(tables)
	for bit := range len(data) * 8 {
		data[bit/8] ^= 1 << (bit % 8)
		s, err := Open(bytes.NewReader(data), int64(len(data)))
		if err == nil {
			for k, places := range want {
				got, err := s.Lookup(fullID(k))
				if err != nil && !errors.Is(err, ErrCorrupt) || err == nil && !slices.Equal(got, places) {
					t.Fatalf("bit %d: got %v, %v", bit, got, err)
				}
			}
			err = s.Verify()
		}
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrConservation) {
			t.Fatalf("bit %d unnoticed: %v", bit, err)
		}
		data[bit/8] ^= 1 << (bit % 8)
	}
}

func TestTruncatedSegment(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	data := segmentBytes(t, randomTables(r, 3, 200)...)
	for n := range data {
		if _, err := Open(bytes.NewReader(data[:n]), int64(n)); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("first %d bytes: %v", n, err)
		}
	}
	// The size is told, the bytes are not there.
	if _, err := Open(bytes.NewReader(data[64:]), int64(len(data))); !errors.Is(err, ErrCorrupt) {
		t.Errorf("short reader: %v", err)
	}
}

// reseal makes the checks of a spoilt segment right again, as a faulty writer
// would have.
func reseal(data []byte) {
	size := len(data)
	le := binary.LittleEndian
	pages, packs := int(le.Uint32(data[size-64+8:])), int(le.Uint32(data[size-64+12:]))
	for i := range pages {
		page := data[i*4096 : (i+1)*4096]
		sealPage(page, int(le.Uint16(page[countAt:])))
	}
	tr := trailer{uint32(pages), uint32(packs), le.Uint64(data[size-64+16:]), 0}
	lists := data[pages*4096 : size-64]
	tr.check = sum64(lists)
	tr.put(data[size-64:])
}

func TestWrongSegmentWithRightChecks(t *testing.T) {
	r := rand.New(rand.NewPCG(10, 10))
	tables := randomTables(r, 4, 120)
	good := segmentBytes(t, tables...)
	pages := int(binary.LittleEndian.Uint32(good[len(good)-64+8:]))
	if pages < 2 {
		t.Fatal("too small a segment for this test")
	}
	packs := pages * 4096
	for name, spoil := range map[string]func(d []byte){
		"entries swapped":      func(d []byte) { a := slices.Clone(d[28:56]); copy(d[28:56], d[56:84]); copy(d[56:84], a) },
		"pages swapped":        func(d []byte) { a := slices.Clone(d[:4096]); copy(d[:4096], d[4096:8192]); copy(d[4096:8192], a) },
		"pack ordinal too big": func(d []byte) { d[28+16] = 200 },
		"offset outside":       func(d []byte) { d[28+23] = 0xff },
		"offset changed":       func(d []byte) { d[28+20] ^= 1 },
		"page count 0":         func(d []byte) { d[4088] = 0 },
		"packs swapped": func(d []byte) {
			a := slices.Clone(d[packs : packs+96])
			copy(d[packs:packs+96], d[packs+96:packs+192])
			copy(d[packs+96:packs+192], a)
		},
		"reserved byte of pack": func(d []byte) { d[packs+95] = 1 },
		"pack sum":              func(d []byte) { d[packs+72] ^= 1 },
		"pack count":            func(d []byte) { d[packs+68] ^= 1 },
		"fence changed":         func(d []byte) { d[packs+4*96+15] ^= 1 },
		"fences swapped": func(d []byte) {
			f := packs + 4*96
			a := slices.Clone(d[f : f+16])
			copy(d[f:f+16], d[f+16:f+32])
			copy(d[f+16:f+32], a)
		},
	} {
		data := slices.Clone(good)
		spoil(data)
		reseal(data)
		if bytes.Equal(data, good) {
			t.Fatalf("%s: nothing spoilt", name)
		}
		s, err := Open(bytes.NewReader(data), int64(len(data)))
		if err == nil {
			err = s.Verify()
		}
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrConservation) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzOpenSegment(f *testing.F) {
	r := rand.New(rand.NewPCG(11, 11))
	f.Add(segmentBytes(f), false)
	f.Add(segmentBytes(f, randomTables(r, 2, 3)...), true)
	f.Add(segmentBytes(f, randomTables(r, 5, 200)...), true)
	f.Add([]byte("HFINDEX1"), false)
	f.Fuzz(func(t *testing.T, data []byte, mend bool) {
		if mend && len(data) >= 64 && uint64(binary.LittleEndian.Uint32(data[len(data)-56:]))*4096+64 <= uint64(len(data)) {
			data = slices.Clone(data)
			for i := range int(binary.LittleEndian.Uint32(data[len(data)-56:])) {
				data[i*4096+countAt] %= pageEntries + 1
				data[i*4096+countAt+1] = 0
			}
			reseal(data)
		}
		s, err := Open(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		if s.Verify() != nil {
			_, _ = s.Lookup(blob.ID{0: 7})
			return
		}
		// Sound: then merging it alone must give the same content.
		var out bytes.Buffer
		if _, err := Merge(&out, []*Segment{s}, nil); err != nil {
			t.Fatal(err)
		}
		again := openBytes(t, out.Bytes())
		if again.Len() != s.Len() || !slices.Equal(again.Packs(), s.Packs()) {
			t.Fatal("merge of a sound segment changed it")
		}
		for item, err := range s.Entries() {
			if err != nil {
				t.Fatal(err)
			}
			if got, err := again.Lookup(fullID(item.Key)); err != nil || !slices.Contains(got, item.Location) {
				t.Fatalf("entry %x: got %v, %v", item.Key, got, err)
			}
		}
	})
}
