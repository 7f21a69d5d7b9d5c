package pack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"holdfast/repo/blob"
	"holdfast/repo/parity"
	"holdfast/repo/seal"
)

// craft seals any table and footer into an object of the smallest shape.
func craft(t testing.TB, keys *seal.Keys, kind parity.Kind, chunks [][]byte, table, foot []byte) []byte {
	t.Helper()
	h := parity.Header{Kind: kind, Suite: parity.SuiteGCM, Epoch: 1, Shape: parity.Shape{K: 1, M: 2, ShardBytes: 4096}}
	obj, _ := parity.Alloc(h.Shape)
	aead, err := keys.AEAD(kind, 1, h.ID)
	if err != nil {
		t.Fatal(err)
	}
	w := crypter{aead: aead, name: []byte("x")}
	at := 4096
	for _, c := range chunks {
		at = w.seal(obj, at, c)
	}
	tableAt := 8192 - footerBytes - len(table) - seal.TagBytes
	w.seal(obj, at, obj[at:tableAt-seal.TagBytes])
	w.seal(obj, tableAt, table)
	w.seal(obj, 8192-len(foot)-seal.TagBytes, foot)
	if err := parity.Finish(obj, h); err != nil {
		t.Fatal(err)
	}
	return obj
}

func TestAuthenticNonsenseIsRefused(t *testing.T) {
	keys := testKeys(t)
	plain := []byte("content")
	frame := Compress(None, blob.DiskChunk, plain, nil)
	good := Entry{ID: keys.ID(blob.DiskChunk, plain), Kind: blob.DiskChunk, Raw: 7, Offset: 4096, Stored: uint32(len(frame) + 16)}
	tableAt := func(n int) uint32 { return uint32(8192 - footerBytes - n*entryBytes - 16) }
	type spec struct {
		kind    parity.Kind
		entries []Entry
		foot    footer
	}
	base := func() spec {
		return spec{kind: parity.Data, entries: []Entry{good}, foot: footer{tableAt(1), 1, Sum([]Entry{good})}}
	}
	cases := map[string]func(*spec){
		"sum":                func(s *spec) { s.foot.sum++ },
		"count 0":            func(s *spec) { s.foot.count = 0 },
		"count 2":            func(s *spec) { s.foot.count = 2 },
		"count huge":         func(s *spec) { s.foot.count = 1<<32 - 1 },
		"count too large":    func(s *spec) { s.foot.count = MaxChunks + 1 },
		"table moved":        func(s *spec) { s.foot.table-- },
		"table before D":     func(s *spec) { s.foot.table = 5 },
		"table at the end":   func(s *spec) { s.foot.table = 1<<32 - 1 },
		"zero id":            func(s *spec) { s.entries[0].ID = blob.ID{}; s.foot.sum = Sum(s.entries) },
		"content kind":       func(s *spec) { s.entries[0].Kind = 0x66 },
		"raw too large":      func(s *spec) { s.entries[0].Raw = MaxRawBytes + 1 },
		"stored too small":   func(s *spec) { s.entries[0].Stored = 20; s.foot.sum = Sum(s.entries) },
		"stored too large":   func(s *spec) { s.entries[0].Stored = 4000; s.foot.sum = Sum(s.entries) },
		"stored huge":        func(s *spec) { s.entries[0].Stored = 1<<32 - 1; s.foot.sum = Sum(s.entries) },
		"disk chunk, commit": func(s *spec) { s.kind = parity.Commit },
	}
	for name, change := range cases {
		s := base()
		change(&s)
		obj := craft(t, keys, s.kind, [][]byte{frame}, appendTable(nil, s.entries), s.foot.append(nil))
		if _, _, err := OpenTable(keys, "x", obj); !errors.Is(err, ErrFormat) && !errors.Is(err, ErrTampered) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := base()
	obj := craft(t, keys, s.kind, [][]byte{frame}, appendTable(nil, s.entries), s.foot.append(nil))
	if err := VerifyAll(keys, "x", obj, nil); err != nil {
		t.Fatalf("the base is refused itself: %v", err)
	}
	s.entries[0].Raw = 8
	obj = craft(t, keys, s.kind, [][]byte{frame}, appendTable(nil, s.entries), s.foot.append(nil))
	if err := VerifyAll(keys, "x", obj, nil); !errors.Is(err, ErrFormat) {
		t.Errorf("raw length of table and frame differ: %v", err)
	}
}

func TestUnneededlyLargeShapeIsRefused(t *testing.T) {
	keys := testKeys(t)
	o, err := EncodeRecord(Params{Keys: keys, Kind: parity.Commit, NameOf: fixedName("x"), Rand: stuck{}}, recordPayload)
	if err != nil {
		t.Fatal(err)
	}
	o.Header.Shape = parity.Shape{K: 4, M: 2, ShardBytes: 4096}
	e := encoder{Params: Params{Keys: keys, Kind: parity.Commit, Epoch: 1}, cipherOf: keys.AEAD}
	frame := Compress(Auto, blob.Record, recordPayload, nil)
	if err := e.seal(o, []Chunk{{Data: frame}}, appendTable(nil, o.Entries)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenRecord(keys, "x", parity.Commit, o.Bytes); !errors.Is(err, ErrFormat) {
		t.Fatal(err)
	}
}

func TestSlotContainerRefuses(t *testing.T) {
	keys := testKeys(t)
	if _, err := DecodeSlot(smallObject(t, keys, parity.Commit).obj); !errors.Is(err, ErrFormat) {
		t.Errorf("a commit as a slot: %v", err)
	}
	odd, err := parity.Protect(parity.Header{Kind: parity.Key, Epoch: 1, Shape: parity.Shape{K: 1, M: 2, ShardBytes: 4096}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeSlot(odd); !errors.Is(err, ErrFormat) {
		t.Errorf("a slot with an epoch: %v", err)
	}
	if _, err := DecodeSlot(make([]byte, 20480)); !errors.Is(err, ErrDamaged) {
		t.Errorf("zeros as a slot: %v", err)
	}
	if _, err := EncodeSlot(make([]byte, 33<<20)); !errors.Is(err, parity.ErrTooLarge) {
		t.Errorf("a huge slot: %v", err)
	}
	s := slotObject(t)
	for _, torn := range [][]byte{s.obj[:12288], s.obj[8192:]} {
		if got, err := s.read(torn); err != nil || !bytes.Equal(got, s.want) {
			t.Errorf("half a slot: %v", err)
		}
	}
}

func FuzzRecord(f *testing.F) {
	keys := testKeys(f)
	s := smallObject(f, keys, parity.Commit)
	f.Add([]byte{}, 0)
	f.Add([]byte("junk"), 5000)
	f.Add(slices.Clone(s.obj[4096:8192]), 12288)
	f.Fuzz(func(t *testing.T, junk []byte, at int) {
		bad := bytes.Clone(s.obj)
		at = int(uint(at) % uint(len(bad)))
		copy(bad[at:], junk)
		if got, err := s.read(bad); err == nil && !bytes.Equal(got, s.want) {
			t.Fatalf("read other bytes: %q", got)
		}
		if got, err := s.read(junk); err == nil && !bytes.Equal(got, s.want) {
			t.Fatalf("junk reads as %q", got)
		}
		_, _ = DecodeSlot(junk)
	})
}

func FuzzTable(f *testing.F) {
	keys := testKeys(f)
	plain := []byte("content")
	frame := Compress(None, blob.DiskChunk, plain, nil)
	good := Entry{ID: keys.ID(blob.DiskChunk, plain), Kind: blob.DiskChunk, Raw: 7, Offset: 4096, Stored: uint32(len(frame) + 16)}
	f.Add(appendTable(nil, []Entry{good}), uint32(8192-footerBytes-entryBytes-16), uint32(1), Sum([]Entry{good}), false)
	f.Add([]byte("short"), uint32(0), uint32(1<<31), uint64(0), true)
	f.Fuzz(func(t *testing.T, table []byte, at, count uint32, sum uint64, fit bool) {
		if len(table) > 3900 {
			return
		}
		if fit { // a footer that agrees with the table, so that the entries are reached
			at, count = uint32(8192-footerBytes-len(table)-16), uint32(len(table)/entryBytes)
			if entries, _, err := parseTable(table, 4096, 8000); err == nil {
				sum = Sum(entries)
			}
		}
		obj := craft(t, keys, parity.Data, [][]byte{frame}, table, footer{at, count, sum}.append(nil))
		h, entries, err := OpenTable(keys, "x", obj)
		if err != nil {
			return
		}
		end := uint32(h.Shape.DataOffset())
		for _, e := range entries {
			if e.Offset != end || e.Stored < minStoredBytes || e.Raw > MaxRawBytes {
				t.Fatalf("entry %+v accepted", e)
			}
			end += e.Stored
		}
		if end+seal.TagBytes > at || len(entries) != int(count) || Sum(entries) != sum {
			t.Fatalf("%d entries to %d accepted", len(entries), end)
		}
		_ = VerifyAll(keys, "x", obj, nil)
	})
}

func FuzzDecompress(f *testing.F) {
	for seed := range uint64(3) {
		for _, mode := range []Mode{Auto, None, Fast, Max} {
			f.Add(Compress(mode, blob.DiskChunk, mixed(seed, 3000), nil))
		}
	}
	f.Add([]byte{codecZstd, 255, 255, 255, 1, 0x28, 0xb5, 0x2f, 0xfd})
	f.Fuzz(func(t *testing.T, b []byte) {
		if out, err := Decompress(b, nil); err == nil {
			if len(out) != int(binary.LittleEndian.Uint32(b[1:])) {
				t.Fatalf("%d bytes", len(out))
			}
		} else if !errors.Is(err, ErrCodec) {
			t.Fatal(err)
		}
		for _, mode := range []Mode{Auto, None, Fast, Max} {
			framed := Compress(mode, blob.Record, b, nil)
			if out, err := Decompress(framed, make([]byte, 3)); err != nil || !bytes.Equal(out, b) {
				t.Fatalf("%s does not round-trip: %v", mode, err)
			}
		}
	})
}
