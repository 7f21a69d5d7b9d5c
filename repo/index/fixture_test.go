package index

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"holdfast/repo/blob"
	"holdfast/repo/index/segment"
)

// table is a pack with its entries, as the packer hands them over.
type table struct {
	pack    Pack
	entries []Entry
}

// lawful sets count, size and sum from the entries.
func lawful(t table) table {
	t.pack.Count, t.pack.Sum, t.pack.Bytes = uint32(len(t.entries)), 0, 4096
	for _, e := range t.entries {
		t.pack.Sum += EntryHash(e.ID, e.Offset, e.Stored)
		t.pack.Bytes = max(t.pack.Bytes, e.Offset+e.Stored)
	}
	return t
}

// testSID is a session name; different n, different sessions.
func testSID(n int) string { return fmt.Sprintf("%08x-%016x-%016x", n%7, n%3, n) }

// testPack makes pack n with entries whose ids are drawn by id.
func testPack(n, entries int, id func(i int) blob.ID) table {
	t := table{pack: Pack{SID: testSID(n / 4), Kind: uint8(1 + n%2), Epoch: uint32(n)}}
	binary.BigEndian.PutUint64(t.pack.ID[:], uint64(n)*0x9e3779b97f4a7c15)
	at := uint32(4096)
	for i := range entries {
		stored := uint32(60 + (n+i*7)%1000)
		t.entries = append(t.entries, Entry{ID: id(i), Offset: at, Stored: stored})
		at += stored
	}
	return lawful(t)
}

// randomID draws an id.
func randomID(r *rand.Rand) blob.ID {
	var id blob.ID
	for i := 0; i < len(id); i += 8 {
		binary.LittleEndian.PutUint64(id[i:], r.Uint64())
	}
	return id
}

// randomTables makes packs that share some chunks.
func randomTables(r *rand.Rand, packs, most int) []table {
	var tables []table
	var known []blob.ID
	for n := range packs {
		tables = append(tables, testPack(n, 1+r.IntN(most), func(int) blob.ID {
			if len(known) > 0 && r.IntN(4) == 0 {
				return known[r.IntN(len(known))]
			}
			known = append(known, randomID(r))
			return known[len(known)-1]
		}))
	}
	return tables
}

// segmentBytes builds a segment of tables.
func segmentBytes(tb testing.TB, tables ...table) []byte {
	tb.Helper()
	var b Builder
	for _, t := range tables {
		b.Add(t.pack, t.entries)
	}
	data, err := b.Bytes()
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// model is what an index of tables must answer.
func model(tables []table) map[Key][]Location {
	m := map[Key][]Location{}
	seen := map[string]bool{}
	for _, t := range tables {
		if seen[t.pack.Name()] {
			continue
		}
		seen[t.pack.Name()] = true
		for _, e := range t.entries {
			m[KeyOf(e.ID)] = append(m[KeyOf(e.ID)], Location{Pack: t.pack, Offset: e.Offset, Stored: e.Stored})
		}
	}
	for _, places := range m {
		sortPlaces(places)
	}
	return m
}

func sortPlaces(places []Location) {
	slices.SortFunc(places, func(a, b Location) int {
		if c := segment.Compare(a.Pack, b.Pack); c != 0 {
			return c
		}
		return int(a.Offset) - int(b.Offset)
	})
}

// fullID widens a key to an id that has it.
func fullID(k Key) (id blob.ID) {
	copy(id[:], k[:])
	return id
}

// fataler is what both testing.TB and rapid.T offer.
type fataler interface {
	Fatalf(format string, args ...any)
	Fatal(args ...any)
}
