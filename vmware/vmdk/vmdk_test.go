package vmdk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"holdfast/vmware/vmdk/extent"
)

const mib = 1 << 20

// diskSizes are the ones where formats break: less than a grain, exactly one,
// an odd tail, more than one table, much hole.
var diskSizes = []int64{512, 64 << 10, mib, 3*mib + 3584, 70 * mib, 1024 * mib}

func sizeName(size int64) string { return fmt.Sprintf("%dB", size) }

// rawDisk makes a sparse raw file with random data at the edges of disk,
// grains and tables, and returns it with the ranges that were written.
func rawDisk(t testing.TB, dir string, size int64) (*os.File, []Extent) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	var written []Extent
	rnd := rand.NewChaCha8([32]byte{byte(size)})
	for _, e := range []Extent{
		{0, 512}, {60 << 10, 8 << 10}, {mib - 512, 1024}, {2*mib + 4096, 300 << 10},
		{32*mib - 100, 200}, {64 * mib, 64 << 10}, {512 * mib, mib}, {size - 512, 512},
	} {
		if e.Start < 0 || e.Start+e.Length > size {
			continue
		}
		p := make([]byte, e.Length)
		rnd.Read(p)
		if e.Length > 256<<10 {
			clear(p[e.Length/2:]) // something that deflates
		}
		if _, err := f.WriteAt(p, e.Start); err != nil {
			t.Fatal(err)
		}
		written = append(written, e)
	}
	return f, written
}

// wantSame reads both in windows and compares. Of a large disk only the
// written ranges and their neighbourhood are read, and that nothing else is
// allocated is told by wantHoles.
func wantSame(t testing.TB, got io.ReaderAt, want io.ReaderAt, size int64, written []Extent) {
	t.Helper()
	windows := []Extent{{0, size}}
	if size > 100*mib {
		windows = nil
		for _, e := range written {
			start := max(0, e.Start-mib)
			windows = append(windows, Extent{start, min(size, e.Start+e.Length+mib) - start})
		}
	}
	// An odd window, so that requests do not fall together with grains.
	const step = 1234567
	a, b := make([]byte, step), make([]byte, step)
	for _, w := range windows {
		for off := w.Start; off < w.Start+w.Length; off += step {
			n := min(step, w.Start+w.Length-off)
			if k, err := got.ReadAt(a[:n], off); int64(k) != n || (err != nil && err != io.EOF) {
				t.Fatalf("read %d at %d: %d, %v", n, off, k, err)
			}
			if _, err := want.ReadAt(b[:n], off); err != nil && err != io.EOF {
				t.Fatal(err)
			}
			if !bytes.Equal(a[:n], b[:n]) {
				t.Fatalf("bytes differ between %d and %d", off, off+n)
			}
		}
	}
}

// wantHoles checks that the allocation map covers all that was written, and no
// grain (of grain bytes) besides.
func wantHoles(t testing.TB, im *Image, written []Extent, grain int64) {
	t.Helper()
	got, err := im.Allocated(0, im.Size())
	if err != nil {
		t.Fatal(err)
	}
	inside := func(list []Extent, e Extent) bool {
		for _, l := range list {
			if e.Start >= l.Start && e.Start+e.Length <= l.Start+l.Length {
				return true
			}
		}
		return false
	}
	var widened []Extent
	for _, e := range written {
		start := e.Start / grain * grain
		end := min(extent.RoundUp(e.Start+e.Length, grain), im.Size())
		for ; start < end; start += grain {
			widened = append(widened, Extent{start, min(grain, im.Size()-start)})
		}
		if half := e.Length / 2; e.Length > 256<<10 {
			e.Length = half // the rest was zeros
		}
		if !inside(got, e) {
			t.Errorf("written %v is not in the map %v", e, got)
		}
	}
	for _, e := range got {
		for at := e.Start; at < e.Start+e.Length; at += grain {
			if !inside(widened, Extent{at, min(grain, e.Start+e.Length-at)}) {
				t.Fatalf("map has %d, which nobody wrote: %v", at, got)
			}
		}
	}
}

// qemuImg runs qemu-img, the judge of most tests here.
func qemuImg(t testing.TB, args ...string) {
	t.Helper()
	needQemu(t)
	out, err := exec.Command("qemu-img", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img %v: %v\n%s", args, err, out)
	}
}

func needQemu(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		if os.Getenv("HOLDFAST_DEMAND_PARTS") == "1" {
			t.Fatal("qemu-img is demanded and not installed")
		}
		t.Skip("qemu-img is not installed: nothing to judge our files with")
	}
}

// fileOpener opens the files of a directory for Open, and counts on its names
// being clean.
func fileOpener(t testing.TB, dir string) OpenExtent {
	return func(name string) (io.ReaderAt, int64, error) {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return nil, 0, err
		}
		t.Cleanup(func() { f.Close() })
		st, err := f.Stat()
		return f, st.Size(), err
	}
}

func openFile(t testing.TB, dir, name string) *Image {
	t.Helper()
	im, err := openFileAs(t, dir, name, Open)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func openFileAs(t testing.TB, dir, name string, open func(io.ReaderAt, int64, OpenExtent) (*Image, error)) (*Image, error) {
	t.Helper()
	opener := fileOpener(t, dir)
	r, size, err := opener(name)
	if err != nil {
		t.Fatal(err)
	}
	return open(r, size, opener)
}

// readStreamTo decodes a stream into a sparse file and returns it.
func readStreamTo(t testing.TB, r io.Reader, dir string) (*os.File, int64) {
	t.Helper()
	out, err := os.Create(filepath.Join(dir, "decoded.raw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	size, err := ReadStream(context.Background(), r, func(off int64, grain []byte) error {
		_, err := out.WriteAt(grain, off)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return out, size
}

func openOS(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// wantError checks that err is one of the sentinels.
func wantError(t testing.TB, err error, sentinels ...error) {
	t.Helper()
	for _, s := range sentinels {
		if errors.Is(err, s) {
			return
		}
	}
	t.Fatalf("got error %v, want %v", err, sentinels)
}

// memFile is a file in memory, growing as it is written.
type memFile struct{ b []byte }

func (m *memFile) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(m.b)) {
		return 0, io.EOF
	}
	n := copy(p, m.b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memFile) WriteAt(p []byte, off int64) (int, error) {
	if end := off + int64(len(p)); end > int64(len(m.b)) {
		m.b = append(m.b, make([]byte, end-int64(len(m.b)))...)
	}
	return copy(m.b[off:], p), nil
}
