package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"holdfast/repo/blob"
	"holdfast/repo/chunk"
	"holdfast/repo/image"
	"holdfast/repo/seal"
	"holdfast/repo/stream"
)

// noteStore gives content its id and notes it, in the order in which it came.
type noteStore struct {
	keys *seal.Keys
	kept map[blob.ID][]byte
	told func(kind blob.Kind, id blob.ID, bytes int)
}

func (s *noteStore) Put(_ context.Context, kind blob.Kind, plain []byte) (blob.ID, error) {
	id := s.keys.ID(kind, plain)
	if _, there := s.kept[id]; !there && s.told != nil {
		s.told(kind, id, len(plain))
	}
	s.kept[id] = bytes.Clone(plain)
	return id, nil
}

func (s *noteStore) Load(_ context.Context, _ blob.Kind, ids []blob.ID, fn func(i int, plain []byte) error) error {
	for i, id := range ids {
		if err := fn(i, s.kept[id]); err != nil {
			return err
		}
	}
	return nil
}

// TestSameInputAndKeysGiveTheSameIDs holds, on every platform and with or
// without assembly (I11), what decides whether content is known already: ids,
// map nodes, names of sources, and where streams are cut. A line that changes is
// a change of the format.
func TestSameInputAndKeysGiveTheSameIDs(t *testing.T) {
	ring, err := seal.NewRing(seeded(4))
	if err != nil {
		t.Fatal(err)
	}
	keys := ring.Keys()
	var out strings.Builder
	for _, kind := range []blob.Kind{blob.DiskChunk, blob.StreamChunk, blob.Record, blob.MapNode, blob.MapNode + 1, blob.StreamNode} {
		for _, size := range []int{0, 1, 63, 64, 65, 1023, 1024, 1025, 2048, 3073, 8192, 31744, 65536, 131072, 1 << 20} {
			data := make([]byte, size)
			seeded(uint64(size), 5).Read(data)
			fmt.Fprintf(&out, "id kind %#02x length %d: %s\n", uint8(kind), size, keys.ID(kind, data))
		}
	}
	for _, source := range []string{"", "vm/web01", "5013c3f1-0000-1111-2222-333344445555", "ünï"} {
		fmt.Fprintf(&out, "source %q: %s\n", source, keys.SourceName(source))
	}
	fmt.Fprintf(&out, "object: %x\n", keys.ObjectID([16]byte{1, 2, 3}, []byte("table")))
	removal, err := ring.Removal("removals/00000000", "0011223344556677")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&out, "removal: %x\n", removal)
	writeMaps(t, &out, keys)
	writeCuts(t, &out, keys)
	compareGolden(t, "ids.txt", out.String())
}

// writeMaps tells every node of disks, the last one against a parent.
func writeMaps(t *testing.T, out *strings.Builder, keys *seal.Keys) {
	t.Helper()
	store := &noteStore{keys: keys, kept: map[blob.ID][]byte{}}
	store.told = func(kind blob.Kind, id blob.ID, bytes int) {
		if kind != blob.DiskChunk {
			fmt.Fprintf(out, "  node kind %#02x of %d bytes: %s\n", uint8(kind), bytes, id)
		}
	}
	disk := goldenDisk(1)
	for _, size := range []int{0, 1, len(disk), 130 * testChunk, 300 * testChunk} {
		data := make([]byte, size)
		for at := 0; at < size; at += len(disk) + 5*testChunk {
			copy(data[at:], disk)
		}
		m, err := storeDisk(t.Context(), store, store, nil, data)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(out, "disk of %d bytes: %+v\n", size, m)
		if size < testChunk {
			continue
		}
		b, err := image.NewBuilder(store, store, &m, int64(size), testChunk)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Set(t.Context(), 3, keys.ID(blob.DiskChunk, disk[:testChunk])); err != nil {
			t.Fatal(err)
		}
		if m, err = b.Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(out, "disk of %d bytes, chunk 3 changed: %+v\n", size, m)
	}
}

// writeCuts tells where streams are cut, and their roots.
func writeCuts(t *testing.T, out *strings.Builder, keys *seal.Keys) {
	t.Helper()
	noisy := make([]byte, 9<<20)
	seeded(6).Read(noisy)
	for _, c := range []struct {
		name   string
		data   []byte
		params chunk.Params
	}{
		{"noise, files", noisy, chunk.Files()}, {"noise, sql", noisy[:3<<20], chunk.SQL()},
		{"text, files", goldenText(1, 9<<20), chunk.Files()}, {"text, sql", goldenText(2, 3<<20), chunk.SQL()},
		{"zeros, sql", make([]byte, 3<<20), chunk.SQL()}, {"short, files", noisy[:1000], chunk.Files()}, {"none, sql", nil, chunk.SQL()},
	} {
		fmt.Fprintf(out, "cuts of %s:", c.name)
		cutter, at := chunk.New(bytes.NewReader(c.data), keys.CDC(), c.params), 0
		for {
			piece, err := cutter.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			at += len(piece)
			fmt.Fprintf(out, " %d", at)
		}
		store := &noteStore{keys: keys, kept: map[blob.ID][]byte{}}
		st, err := stream.Write(t.Context(), store, chunk.New(bytes.NewReader(c.data), keys.CDC(), c.params), stream.Options{})
		if err != nil || at != len(c.data) {
			t.Fatalf("%s: %d of %d bytes: %v", c.name, at, len(c.data), err)
		}
		fmt.Fprintf(out, "\n  stream: %+v\n", st)
	}
}
