package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"testing"

	"holdfast/repo/blob"
)

func TestImpossibleStreamsAreRefused(t *testing.T) {
	some := blob.ID{1}
	for _, m := range []Stream{
		{Bytes: -1, Root: some}, {Bytes: 1}, {Root: some}, {Level: 1},
		{Bytes: 1, Level: -1, Root: some}, {Bytes: 1, Level: maxLevel + 1, Root: some},
	} {
		if err := m.Validate(); !errors.Is(err, ErrStream) {
			t.Errorf("%+v: %v", m, err)
		}
		for how, err := range readAll(t, newMemStore(), m) {
			if !errors.Is(err, ErrStream) {
				t.Errorf("%+v: %s: %v", m, how, err)
			}
		}
	}
}

// readAll reads a stream in every way.
func readAll(t *testing.T, s *memStore, m Stream) map[string]error {
	t.Helper()
	out := map[string]error{}
	r := Open(t.Context(), s, m)
	_, out["reader"] = io.Copy(io.Discard, struct{ io.Reader }{r})
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	at, err := NewReaderAt(t.Context(), s, m)
	if err == nil {
		_, err = at.ReadAt(make([]byte, 100), 0)
	}
	out["reader at"] = err
	out["nodes"] = Nodes(t.Context(), s, m, func(blob.Kind, blob.ID) error { return nil }, nil)
	return out
}

func put(t *testing.T, s *memStore, kind blob.Kind, plain []byte) blob.ID {
	t.Helper()
	id, err := s.Put(t.Context(), kind, plain)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Every way a node may be wrong is found by all who read nodes.
func TestBadNodesAreNoticed(t *testing.T) {
	s := newMemStore()
	four := put(t, s, blob.StreamChunk, []byte("four"))
	good := encodeNode(nil, []entry{{four, 4}, {four, 4}})
	huge := binary.LittleEndian.AppendUint64(bytes.Clone(four[:]), math.MaxUint64)
	for name, plain := range map[string][]byte{
		"empty":         {},
		"cut":           good[:79],
		"more":          append(bytes.Clone(good), 0),
		"too short":     encodeNode(nil, []entry{{four, 4}, {four, 3}}),
		"too long":      encodeNode(nil, []entry{{four, 4}, {four, 5}}),
		"nothing":       encodeNode(nil, []entry{{four, 4}, {four, 0}, {four, 4}}),
		"negative":      append(encodeNode(nil, []entry{{four, 8}}), huge...),
		"no id":         encodeNode(nil, []entry{{four, 4}, {blob.ID{}, 4}}),
		"many":          bytes.Repeat(encodeNode(nil, []entry{{four, 4}}), NodeEntries+1),
		"beyond a pack": encodeNode(nil, []entry{{four, MaxChunkBytes + 1}}),
	} {
		root := put(t, s, blob.StreamNode, plain)
		bytesOfStream := int64(8)
		switch name {
		case "many":
			bytesOfStream = 4 * (NodeEntries + 1)
		case "beyond a pack":
			bytesOfStream = MaxChunkBytes + 1
		}
		for how, err := range readAll(t, s, Stream{Bytes: bytesOfStream, Root: root}) {
			if !errors.Is(err, ErrStream) {
				t.Errorf("%s: %s: %v", name, how, err)
			}
		}
	}
	leaf := put(t, s, blob.StreamNode, good)
	lone := put(t, s, blob.StreamNode+1, encodeNode(nil, []entry{{leaf, 8}}))
	for how, err := range readAll(t, s, Stream{Bytes: 8, Level: 1, Root: lone}) {
		if !errors.Is(err, ErrStream) {
			t.Errorf("root above a single node: %s: %v", how, err)
		}
	}
}

func TestChunkOfWrongLengthIsNoticed(t *testing.T) {
	s := newMemStore()
	for _, length := range []int{0, 3, 5} {
		id := put(t, s, blob.StreamChunk, make([]byte, length))
		m := Stream{Bytes: 4, Root: put(t, s, blob.StreamNode, encodeNode(nil, []entry{{id, 4}}))}
		errs := readAll(t, s, m)
		if !errors.Is(errs["reader"], ErrStream) || !errors.Is(errs["reader at"], ErrStream) {
			t.Errorf("%d bytes for 4: %v", length, errs)
		}
	}
}

func TestUndeliveredContentIsNoticed(t *testing.T) {
	s := newMemStore()
	m := write(t, s, noise(3000), Options{}, 2)
	for _, kind := range []blob.Kind{blob.StreamNode + 1, blob.StreamNode} {
		s.short = kind
		for how, err := range readAll(t, s, m) {
			if !errors.Is(err, ErrStream) {
				t.Errorf("kind %#x: %s: %v", kind, how, err)
			}
		}
	}
	s.short = blob.StreamChunk
	errs := readAll(t, s, m)
	if !errors.Is(errs["reader"], ErrStream) || !errors.Is(errs["reader at"], ErrStream) {
		t.Errorf("chunks: %v", errs)
	}
}

// A broken connection must not look like the end of the stream.
func TestLoadersEndIsNotTheStreamsEnd(t *testing.T) {
	s := newMemStore()
	m := write(t, s, noise(3000), Options{}, 2)
	s.end = io.EOF
	errs := readAll(t, s, m)
	if !errors.Is(errs["reader"], io.ErrUnexpectedEOF) || !errors.Is(errs["reader at"], io.ErrUnexpectedEOF) {
		t.Errorf("%v", errs)
	}
}

// Whatever decodes is in the one form that encoding gives, and sums up.
func FuzzStreamNode(f *testing.F) {
	one := entry{blob.ID{1}, 5}
	f.Add(encodeNode(nil, []entry{one}), uint8(0), int64(5))
	f.Add(encodeNode(nil, []entry{one, one}), uint8(1), int64(10))
	f.Add(encodeNode(nil, []entry{one, {blob.ID{}, 3}}), uint8(0), int64(8))
	f.Add(encodeNode(nil, []entry{{blob.ID{1}, math.MaxInt64}, one}), uint8(3), int64(math.MaxInt64))
	f.Add([]byte{}, uint8(0), int64(0))
	f.Fuzz(func(t *testing.T, plain []byte, level uint8, length int64) {
		entries, err := decodeNode(plain, int(level), length)
		if err != nil {
			if !errors.Is(err, ErrStream) {
				t.Fatalf("error without ErrStream: %v", err)
			}
			return
		}
		rest := length
		for _, e := range entries {
			if e.length <= 0 || level == 0 && e.length > MaxChunkBytes || e.id.IsZero() {
				t.Fatalf("entry %+v", e)
			}
			rest -= e.length
		}
		if rest != 0 || len(entries) == 0 || len(entries) > NodeEntries || !bytes.Equal(encodeNode(nil, entries), plain) {
			t.Fatalf("%d entries, %d bytes left", len(entries), rest)
		}
	})
}
