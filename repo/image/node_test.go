package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"testing"

	"holdfast/repo/blob"
)

func TestDepthIsTheSmallestThatHolds(t *testing.T) {
	for _, c := range []struct {
		bytes, chunkBytes, chunks int64
		depth                     int
	}{
		{0, 512, 0, 1}, {1, 512, 1, 1}, {512, 512, 1, 1}, {513, 512, 2, 1},
		{128 * 512, 512, 128, 1}, {128*512 + 1, 512, 129, 2},
		{128 * 128 * 512, 512, 128 * 128, 2}, {128*128*512 + 1, 512, 128*128 + 1, 3},
		{1 << 40, 128 << 10, 1 << 23, 4}, {math.MaxInt64, 512, 1 << 54, 8},
	} {
		m := Map{Bytes: c.bytes, ChunkBytes: c.chunkBytes}
		if m.Chunks() != c.chunks || m.Depth() != c.depth || m.Depth() > maxDepth || m.Validate() != nil {
			t.Errorf("%d bytes: %d chunks, depth %d, %v", c.bytes, m.Chunks(), m.Depth(), m.Validate())
		}
	}
}

func TestValidateRefusesImpossibleMaps(t *testing.T) {
	for _, m := range []Map{
		{Bytes: -1, ChunkBytes: 512}, {Bytes: 1}, {Bytes: 1, ChunkBytes: -512}, {Bytes: 1, ChunkBytes: 256},
		{Bytes: 1, ChunkBytes: 8 << 20}, {Bytes: 1, ChunkBytes: 513}, {Bytes: 1, ChunkBytes: math.MinInt64},
		{ChunkBytes: 512, Root: chunkID(1)},
	} {
		if err := m.Validate(); !errors.Is(err, ErrMap) {
			t.Errorf("%+v: %v", m, err)
		}
		if _, err := NewReader(t.Context(), nil, m); !errors.Is(err, ErrMap) {
			t.Errorf("reader of %+v: %v", m, err)
		}
		if err := Extents(t.Context(), nil, m, nil); !errors.Is(err, ErrMap) {
			t.Errorf("extents of %+v: %v", m, err)
		}
		if err := Diff(t.Context(), nil, m, Map{ChunkBytes: 512}, nil); !errors.Is(err, ErrMap) {
			t.Errorf("diff of %+v: %v", m, err)
		}
	}
}

func TestMapAsJSON(t *testing.T) {
	for _, m := range []Map{{Bytes: 5, ChunkBytes: 512}, {Bytes: 5, ChunkBytes: 512, Root: chunkID(3)}} {
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var got Map
		if err := json.Unmarshal(text, &got); err != nil || got != m {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

// Every way a node may be wrong is found by all who read nodes.
func TestBadNodesAreNoticed(t *testing.T) {
	const bytesOfDisk = 130 * 512 // a leaf of 128, a leaf of 2
	row := func(ids ...int64) []byte {
		var plain []byte
		for _, n := range ids {
			id := chunkID(n)
			plain = append(plain, id[:]...)
		}
		return plain
	}
	for name, leaf := range map[string][]byte{
		"empty":             {},
		"half an id":        row(1)[:16],
		"an id and a half":  append(row(1), 1),
		"trailing zero":     row(1, 0),
		"only zeros":        row(0),
		"too long":          bytes.Repeat(row(1), Fanout+1),
		"beyond the end":    row(1, 2, 3),
		"far beyond":        bytes.Repeat(row(1), Fanout),
		"zeros then beyond": row(0, 0, 1),
	} {
		s := newMemStore()
		good := mustPut(t, s, blob.MapNode, row(1, 2))
		bad := mustPut(t, s, blob.MapNode, leaf)
		root := mustPut(t, s, blob.MapNode+1, append(bytes.Clone(good[:]), bad[:]...))
		m := Map{Bytes: bytesOfDisk, ChunkBytes: 512, Root: root}
		for reader, err := range readAll(s, m) {
			if !errors.Is(err, ErrMap) {
				t.Errorf("%s: %s: %v", name, reader, err)
			}
		}
	}
}

func TestUndeliveredNodeIsNoticed(t *testing.T) {
	s := newMemStore()
	m := full(t, s, model{bytes: 1000 * 512, chunkBytes: 512, at: map[int64]int64{0: 1, 999: 2}})
	s.short = blob.MapNode + 1
	for reader, err := range readAll(s, m) {
		if !errors.Is(err, ErrMap) {
			t.Errorf("%s: %v", reader, err)
		}
	}
}

// A chunk that does not come must not read as zeros, and a broken connection
// must not look like the end of the disk.
func TestUndeliveredChunkIsNotReadAsZeros(t *testing.T) {
	s := newMemStore()
	m, _ := dense(t, s, 1000, 512, func(int64) bool { return false })
	r, err := NewReader(t.Context(), s, m)
	if err != nil {
		t.Fatal(err)
	}
	s.short = blob.DiskChunk
	if n, err := r.ReadAt(make([]byte, 1000), 0); n != 0 || !errors.Is(err, ErrMap) {
		t.Errorf("read: %d bytes, %v", n, err)
	}
	if err := Copy(t.Context(), s, m, CopyOptions{}, func(int64, []byte) error { return nil }); !errors.Is(err, ErrMap) {
		t.Errorf("copy: %v", err)
	}
	s.end = io.EOF
	if n, err := r.ReadAt(make([]byte, 1000), 0); n != 0 || errors.Is(err, io.EOF) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("broken connection: %d bytes, %v", n, err)
	}
}

// readAll reads all of a map in every way and returns what came of it.
func readAll(s *memStore, m Map) map[string]error {
	ctx := context.Background()
	out := map[string]error{}
	out["walk"] = Walk(ctx, s, m, 0, m.Chunks(), func(int64, blob.ID) error { return nil })
	out["nodes"] = Nodes(ctx, s, m, func(blob.Kind, blob.ID) error { return nil }, nil)
	out["diff"] = Diff(ctx, s, m, Map{Bytes: m.Bytes, ChunkBytes: m.ChunkBytes}, func(int64, blob.ID, blob.ID) error { return nil })
	r, err := NewReader(ctx, s, m)
	if err == nil {
		_, err = r.tree.nodes(ctx, m.Depth()-1, []place{{0, m.Root}})
	}
	if err == nil {
		_, err = r.ReadAt(make([]byte, 512), 128*512)
	}
	out["reader"] = err
	b, err := NewBuilder(s, s, &m, m.Bytes, m.ChunkBytes)
	if err == nil {
		err = b.Set(ctx, 128, chunkID(77))
	}
	if err == nil {
		_, err = b.Finish(ctx)
	}
	out["builder"] = err
	return out
}

func mustPut(t *testing.T, s *memStore, kind blob.Kind, plain []byte) blob.ID {
	t.Helper()
	id, err := s.Put(t.Context(), kind, plain)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestChunkOfWrongLengthIsNoticed(t *testing.T) {
	for _, length := range []int{0, 511, 513} {
		s := newMemStore()
		id := mustPut(t, s, blob.DiskChunk, bytes.Repeat([]byte{1}, length))
		root := mustPut(t, s, blob.MapNode, id[:])
		m := Map{Bytes: 100, ChunkBytes: 512, Root: root}
		if err := Copy(t.Context(), s, m, CopyOptions{}, func(int64, []byte) error { return nil }); !errors.Is(err, ErrMap) {
			t.Errorf("copy, %d bytes: %v", length, err)
		}
		r, err := NewReader(t.Context(), s, m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrMap) || errors.Is(err, io.EOF) {
			t.Errorf("read, %d bytes: %v", length, err)
		}
	}
}

// Whatever decodes is in the one form that encoding gives.
func FuzzNode(f *testing.F) {
	one := chunkID(1)
	f.Add(one[:], uint8(128))
	f.Add(append(make([]byte, 32), one[:]...), uint8(2))
	f.Add(append(one[:], make([]byte, 32)...), uint8(2))
	f.Add([]byte{}, uint8(0))
	f.Add(bytes.Repeat(one[:], 129), uint8(128))
	f.Fuzz(func(t *testing.T, plain []byte, limit uint8) {
		n, err := decodeNode(plain, int(limit))
		if err != nil {
			if !errors.Is(err, ErrMap) {
				t.Fatalf("error without ErrMap: %v", err)
			}
			return
		}
		if len(n) == 0 || len(n) > int(limit) || len(n) > Fanout || !bytes.Equal(encodeNode(nil, n), plain) {
			t.Fatalf("%d ids of %d bytes, limit %d", len(n), len(plain), limit)
		}
	})
}
