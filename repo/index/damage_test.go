package index

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"holdfast/repo/blob"
)

// TestDamagedLocalFile damages the cache in every way a disk knows; the next
// refresh must leave a right index, and no look-up may ever give a wrong answer.
func TestDamagedLocalFile(t *testing.T) {
	rem, tables := fill(12, 200)
	want := model(tables)
	for name, spoil := range map[string]func(data []byte) []byte{
		"deleted":             func([]byte) []byte { return nil },
		"empty":               func([]byte) []byte { return []byte{} },
		"cut in a page":       func(b []byte) []byte { return b[:2000] },
		"tail cut":            func(b []byte) []byte { return b[:len(b)-1] },
		"a page flipped":      func(b []byte) []byte { b[100] ^= 1; return b },
		"a fence flipped":     func(b []byte) []byte { b[segmentEnd(b)-64-5] ^= 1; return b },
		"the trailer flipped": func(b []byte) []byte { b[segmentEnd(b)-40] ^= 1; return b },
		"a name flipped":      func(b []byte) []byte { b[len(b)-tailBytes-20] ^= 1; return b },
		"the tail zeroed":     func(b []byte) []byte { clear(b[len(b)-tailBytes:]); return b },
		"zeros":               func(b []byte) []byte { clear(b); return b },
		"a longer file":       func(b []byte) []byte { return append(b, b...) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := openLocal(t, dir)
			refresh(t, l, rem)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			spoilFiles(t, dir, spoil)
			l = openLocal(t, dir)
			refresh(t, l, rem)
			bad := countDamaged(t, l, want)
			if (bad > 0) != (name == "a page flipped") {
				t.Errorf("%d look-ups met the damage", bad)
			}
			refresh(t, l, rem)
			localEquals(t, l, want)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			rem.takeFetched()
			l = openLocal(t, dir)
			refresh(t, l, rem)
			localEquals(t, l, want)
			if n := rem.takeFetched(); n > 0 {
				t.Errorf("%d segments fetched again after the repair", n)
			}
		})
	}
}

// countDamaged looks everything up and counts the answers that are an error;
// the others must be right.
func countDamaged(t *testing.T, l *Local, want map[Key][]Location) (bad int) {
	t.Helper()
	for k, places := range want {
		got, _, err := l.Lookup(fullID(k))
		sortPlaces(got)
		switch {
		case errors.Is(err, ErrCorrupt):
			bad++
		case err != nil || !slices.Equal(got, places):
			t.Fatalf("wrong answer: %v, %v", got, err)
		}
	}
	return bad
}

// largest is the content of the largest local file.
func (st store) largest(t *testing.T) (data []byte) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(st.dir, "*"+localSuffix))
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > len(data) {
			data = b
		}
	}
	return data
}

// segmentEnd is where the segment ends in a local file.
func segmentEnd(file []byte) uint64 {
	return binary.LittleEndian.Uint64(file[len(file)-tailBytes+8:])
}

func spoilFiles(t *testing.T, dir string, spoil func([]byte) []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"+localSuffix))
	if err != nil || len(files) == 0 {
		t.Fatalf("no local files: %v", err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if data = spoil(data); data == nil {
			err = os.Remove(path)
		} else {
			err = os.WriteFile(path, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestDamageFoundByMerge: a page goes bad that no look-up meets; the merge that
// reads it has it fetched again within the same refresh.
func TestDamageFoundByMerge(t *testing.T) {
	dir := t.TempDir()
	rem, tables := fill(3, 200)
	l := openLocal(t, dir)
	refresh(t, l, rem)
	_ = l.Close()
	largest := len(l.store.largest(t))
	spoilFiles(t, dir, func(b []byte) []byte {
		if len(b) < largest { // the base stays out of a merge of small files
			b[50] ^= 8
		}
		return b
	})
	l = openLocal(t, dir)
	_, more := fill(20, 30) // enough small segments to force a merge
	for i, p := range more {
		p.pack.ID[15] = 1
		rem.objects[fmt.Sprintf("index/more/%08d", i)] = segmentBytes(t, p)
		tables = append(tables, p)
	}
	refresh(t, l, rem)
	localEquals(t, l, model(tables))
	if n := rem.takeFetched(); n != 3+20+2 {
		t.Errorf("%d fetches, want 3 + 20 and the 2 damaged ones again", n)
	}
}

func TestBadSegmentDoesNotStopTheOthers(t *testing.T) {
	rem, tables := fill(10, 50)
	names := rem.names()
	slices.Sort(names)
	damaged, lost := names[3], names[7]
	good := slices.Clone(rem.objects[damaged])
	rem.objects[damaged][10] ^= 1
	l := openLocal(t, t.TempDir())
	asked := rem.names()
	back := rem.objects[lost]
	delete(rem.objects, lost)
	err := l.Refresh(context.Background(), asked, rem.fetch)
	if !errors.Is(err, ErrCorrupt) || !errors.Is(err, errGone) {
		t.Fatalf("got %v", err)
	}
	if all := segmentErrors(err); !slices.Equal(all, []string{damaged, lost}) {
		t.Errorf("segments named in the error: %v", all)
	}
	found := 0
	for _, p := range tables {
		if ok, err := l.Has(p.entries[0].ID); ok && err == nil {
			found++
		}
	}
	if found < 8 {
		t.Errorf("%d of 8 sound segments in effect", found)
	}
	rem.objects[damaged], rem.objects[lost] = good, back
	refresh(t, l, rem)
	localEquals(t, l, model(tables))
}

// segmentErrors are the names of all SegmentErrors in err, sorted.
func segmentErrors(err error) []string {
	var names []string
	var walk func(error)
	walk = func(err error) {
		switch e := err.(type) {
		case *SegmentError:
			names = append(names, e.Name)
		case interface{ Unwrap() []error }:
			for _, e := range e.Unwrap() {
				walk(e)
			}
		case interface{ Unwrap() error }:
			walk(e.Unwrap())
		}
	}
	walk(err)
	slices.Sort(names)
	return names
}

func FuzzOpenLocalFile(f *testing.F) {
	rem, _ := fill(3, 10)
	for name, data := range rem.objects {
		var m memory
		_, err := write(&m, func(w io.Writer) (int64, error) { n, err := w.Write(data); return int64(n), err }, func(s *Segment) []named {
			return []named{{name, []uint32{0}}, {"index/b", nil}}
		})
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(m), uint16(len(data)))
	}
	f.Add([]byte("HFLOCAL1"), uint16(0))
	f.Fuzz(func(t *testing.T, data []byte, segBytes uint16) {
		m := memory(mendTail(data, segBytes))
		s, err := openShard(&m, int64(len(m)))
		if err != nil {
			return
		}
		for _, n := range s.names {
			for _, i := range n.Packs {
				_ = s.seg.Packs()[i] // getNames promised that it is there
			}
			if live := s.liveIn(map[string]bool{n.Name: true}); len(live) != len(s.seg.Packs()) {
				t.Fatal("live list of another length")
			}
		}
		_, _ = s.seg.Lookup(blob.ID{3})
	})
}

// mendTail makes tail and check fit, so that the fuzzer reaches the names.
func mendTail(data []byte, segBytes uint16) []byte {
	if len(data) < tailBytes || int(segBytes) > len(data)-tailBytes {
		return data
	}
	data = slices.Clone(data)
	tail := data[len(data)-tailBytes:]
	copy(tail, localMagic)
	clear(tail[8:])
	tail[8], tail[9] = byte(segBytes), byte(segBytes>>8)
	check := tailCheck(data[segBytes:len(data)-tailBytes], tail)
	for i := range 8 {
		tail[24+i] = byte(check >> (8 * i))
	}
	return data
}
