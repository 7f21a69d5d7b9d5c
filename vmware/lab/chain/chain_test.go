package chain_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"holdfast/vmware/lab/chain"
)

const (
	size  = 150_016 // no multiple of a block or a grain
	block = 8192
)

func open(t interface {
	Fatal(...any)
	Cleanup(func())
}, dir string) *chain.Disk {
	d, err := chain.Open(filepath.Join(dir, "disk.vmdk"), size, chain.Options{Block: block})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// model is the disk as a plain picture of bytes.
type model struct {
	now   []byte
	shots map[string]picture
	next  int
}

type picture struct {
	bytes    []byte
	changeID string
	line     []picture // from whose change IDs this point can be asked, oldest first; a revert uses sequences twice
}

// TestModel lets random guests write, snapshot, revert, remove and consolidate, and
// compares all content and all change queries with a model: an answer may have too
// much, never too little.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "chain")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		d := open(t, dir)
		d.Track(true, false)
		m := &model{now: make([]byte, size), shots: map[string]picture{}}
		var line []picture
		pick := func() string {
			names := []string{}
			for n := range m.shots {
				names = append(names, n)
			}
			slices.Sort(names)
			return rapid.SampledFrom(names).Draw(t, "snapshot")
		}
		steps := rapid.IntRange(1, 25).Draw(t, "steps")
		for range steps {
			switch op := rapid.IntRange(0, 9).Draw(t, "op"); {
			case op < 4:
				off := rapid.Int64Range(0, size-1).Draw(t, "off")
				p := bytes.Repeat([]byte{byte(rapid.IntRange(0, 255).Draw(t, "byte"))}, int(min(size-off, rapid.Int64Range(1, 20_000).Draw(t, "len"))))
				if _, err := d.WriteAt(p, off); err != nil {
					t.Fatal(err)
				}
				copy(m.now[off:], p)
			case op < 7 && len(m.shots) < 8:
				m.next++
				id := fmt.Sprint(m.next)
				if err := d.Freeze(id, op == 6); err != nil {
					t.Fatal(err)
				}
				m.shots[id] = picture{bytes: bytes.Clone(m.now), changeID: d.ChangeID(id), line: slices.Clone(line)}
				line = append(line, m.shots[id])
			case op == 7 && len(m.shots) > 0:
				id := pick()
				if err := d.Revert(id); err != nil {
					t.Fatal(err)
				}
				m.now = bytes.Clone(m.shots[id].bytes)
				line = append(slices.Clone(m.shots[id].line), m.shots[id])
			case op >= 8 && len(m.shots) > 0:
				id := pick()
				d.Release(id)
				delete(m.shots, id)
				if err := d.Consolidate(); err != nil {
					t.Fatal(err)
				}
			}
			compare(t, d, m)
		}
		for id := range m.shots {
			d.Release(id)
		}
		if err := d.Consolidate(); err != nil {
			t.Fatal(err)
		}
		if links := d.Chain(""); len(links) != 1 || links[0].Descriptor != "disk.vmdk" {
			t.Fatalf("chain after the last removal: %v", links)
		}
		files, _ := os.ReadDir(dir)
		if got := content(t, d); !bytes.Equal(got, m.now) || len(files) != 2 {
			t.Fatalf("content or files (%d) differ at the end", len(files))
		}
	})
}

func content(t *rapid.T, d *chain.Disk) []byte {
	b := make([]byte, size)
	if _, err := d.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func compare(t *rapid.T, d *chain.Disk, m *model) {
	if !bytes.Equal(content(t, d), m.now) {
		t.Fatal("live content differs")
	}
	for id, p := range m.shots {
		f, err := d.At(id)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, f.Bytes)
		if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, p.bytes) {
			t.Fatalf("snapshot %s differs: %v", id, err)
		}
		patched(t, d, id, "*", make([]byte, size), p.bytes)
		for _, since := range p.line {
			patched(t, d, id, since.changeID, since.bytes, p.bytes)
		}
	}
}

// patched asks for changes in small answers and applies them to the old picture.
func patched(t *rapid.T, d *chain.Disk, id, since string, old, want []byte) {
	got := bytes.Clone(old)
	for at := int64(0); at < size; {
		areas, length, err := d.Changed(id, since, at, 2)
		if err != nil || length <= 0 || len(areas) > 2 {
			t.Fatalf("changed since %s at %d: %d areas over %d: %v", since, at, len(areas), length, err)
		}
		for _, a := range areas {
			if a.Start < at || a.Start+a.Length > at+length {
				t.Fatalf("area %v outside of %d+%d", a, at, length)
			}
			copy(got[a.Start:a.Start+a.Length], want[a.Start:])
		}
		at += length
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("changes of %s since %s miss something", id, since)
	}
}

func TestReplaceHidesFromTracking(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	d.Track(true, false)
	if err := d.Freeze("a", false); err != nil {
		t.Fatal(err)
	}
	since := d.ChangeID("a")
	if err := d.Replace(bytes.NewReader(nil)); err == nil {
		t.Error("replaced under a snapshot")
	}
	d.Release("a")
	if err := d.Consolidate(); err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte{7}, size)
	if err := d.Replace(bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if err := d.Freeze("b", false); err != nil {
		t.Fatal(err)
	}
	areas, _, err := d.Changed("b", since, 0, 100)
	if err != nil || len(areas) != 0 {
		t.Errorf("tracking saw the upload: %v %v", areas, err)
	}
	areas, _, err = d.Changed("b", "*", 0, 100)
	if err != nil || len(areas) != 1 || areas[0].Length != size {
		t.Errorf("written blocks %v %v", areas, err)
	}
}

func TestAdoptsExistingContent(t *testing.T) {
	dir := t.TempDir()
	flat := make([]byte, size)
	flat[3*block+5] = 1
	if err := os.WriteFile(filepath.Join(dir, "disk-flat.vmdk"), flat, 0o600); err != nil {
		t.Fatal(err)
	}
	d := open(t, dir)
	d.Track(true, false)
	if err := d.Freeze("a", false); err != nil {
		t.Fatal(err)
	}
	f, err := d.At("a")
	if err != nil {
		t.Fatal(err)
	}
	if w := f.Written(); len(w) != 1 || w[0] != (chain.Extent{Start: 3 * block, Length: block}) {
		t.Errorf("written %v", w)
	}
}

// TestRemoveLeavesNoFile deletes all layers, also those of snapshots.
func TestRemoveLeavesNoFile(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	for _, id := range []string{"a", "b"} {
		if err := d.Freeze(id, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Remove(); err != nil {
		t.Fatal(err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Errorf("left: %v", files)
	}
}
