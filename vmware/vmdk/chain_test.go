package vmdk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"holdfast/vmware/vmdk/extent"
)

// cowdFile builds a COWD extent by the published layout: header, directory,
// then tables and grains of one sector as they come. There is no other maker of
// such files outside of ESXi; qemu-img reads them and judges.
func cowdFile(size int64, sectors map[int64][]byte) []byte {
	total := size / SectorBytes
	entries := (total + 4096 - 1) / 4096
	b := make([]byte, 4*SectorBytes+extent.RoundUp(entries*4, SectorBytes))
	le := binary.LittleEndian
	copy(b, extent.COWDMagic)
	for i, v := range []uint32{1, 3, uint32(total), 1, 4, uint32(entries)} {
		le.PutUint32(b[4+4*i:], v)
	}
	for sector := range total {
		content, ok := sectors[sector]
		if !ok {
			continue
		}
		slot := b[4*SectorBytes+sector/4096*4:]
		if le.Uint32(slot) == 0 {
			le.PutUint32(slot, uint32(len(b)/SectorBytes))
			b = append(b, make([]byte, 4096*4)...)
		}
		table := int64(le.Uint32(b[4*SectorBytes+sector/4096*4:])) * SectorBytes
		le.PutUint32(b[table+sector%4096*4:], uint32(len(b)/SectorBytes))
		b = append(b, content...)
	}
	return b
}

func writeFile(t testing.TB, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// seDelta makes a seSparse delta file and its descriptor over a parent.
func seDelta(t testing.TB, dir, name, parentName string, parent *Image) *SESparse {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, name+"-sesparse.vmdk"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	s, err := CreateSESparse(f, parent.Size(), parent)
	if err != nil {
		t.Fatal(err)
	}
	d := NewDeltaDescriptor(name+"-sesparse.vmdk", parentName, parent.Descriptor().CID, parent.Size())
	d.CID = parent.Descriptor().CID + 1
	writeFile(t, dir, name+".vmdk", []byte(d.String()))
	return s
}

func mustWrite(t testing.TB, w io.WriterAt, want []byte, at int64, p []byte) {
	t.Helper()
	if n, err := w.WriteAt(p, at); n != len(p) || err != nil {
		t.Fatalf("write at %d: %d, %v", at, n, err)
	}
	copy(want[at:], p)
}

func random(seed byte, n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(p)
	return p
}

// TestChainOfAllKinds is a flat base, a COWD delta and two seSparse deltas, the
// last of which was closed and opened again, read by us and by qemu-img.
func TestChainOfAllKinds(t *testing.T) {
	needQemu(t)
	dir := t.TempDir()
	const size = 35*mib + 512
	raw, _ := rawDisk(t, dir, size)
	want := make([]byte, size)
	if _, err := raw.ReadAt(want, 0); err != nil {
		t.Fatal(err)
	}
	base := NewFlatDescriptor("disk.raw", size)
	writeFile(t, dir, "base.vmdk", []byte(base.String()))

	sectors := map[int64][]byte{}
	for _, n := range []int64{0, 1, 2, 77, 4095, 4096, size/SectorBytes - 1} {
		sectors[n] = random(byte(n), SectorBytes)
		copy(want[n*SectorBytes:], sectors[n])
	}
	writeFile(t, dir, "one-delta.vmdk", cowdFile(size, sectors))
	one := NewDeltaDescriptor("one-delta.vmdk", "base.vmdk", base.CID, size)
	one.CreateType, one.Extents[0].Type, one.CID = "vmfsSparse", "VMFSSPARSE", 0x11
	writeFile(t, dir, "one.vmdk", []byte(one.String()))
	parent, err := openFileAs(t, dir, "one.vmdk", OpenChain)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, parent, bytes.NewReader(want), size, nil)

	two := seDelta(t, dir, "two", "one.vmdk", parent)
	mustWrite(t, two, want, 100, random(1, 50))
	mustWrite(t, two, want, 16*mib-5000, random(2, 10_000))
	mustWrite(t, two, want, size-100, random(3, 100))
	if err := two.WriteZeroes(0x13000-10, 9000); err != nil {
		t.Fatal(err)
	}
	clear(want[0x13000-10:][:9000])
	wantSame(t, two, bytes.NewReader(want), size, nil)
	parent, err = openFileAs(t, dir, "two.vmdk", OpenChain)
	if err != nil {
		t.Fatal(err)
	}

	three := seDelta(t, dir, "three", "two.vmdk", parent)
	mustWrite(t, three, want, 8*mib, random(4, 1*mib))
	again, err := os.OpenFile(filepath.Join(dir, "three-sesparse.vmdk"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	st, _ := again.Stat()
	if three, err = OpenSESparse(again, st.Size(), parent); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, three, want, 8*mib+100, random(5, 10))
	mustWrite(t, three, want, 20*mib, random(6, 5000))

	top, err := openFileAs(t, dir, "three.vmdk", OpenChain)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, top, bytes.NewReader(want), size, nil)
	writeFile(t, dir, "want.raw", want)
	qemuImg(t, "compare", "-f", "raw", "-F", "vmdk", filepath.Join(dir, "want.raw"), filepath.Join(dir, "three.vmdk"))

	links := 0
	for im := top; im != nil; im = im.Parent() {
		links++
	}
	if links != 4 {
		t.Errorf("chain of %d links, want 4", links)
	}
	_, err = openFileAs(t, dir, "three.vmdk", Open)
	wantError(t, err, ErrHasParent)
	for _, bare := range []string{"three-sesparse.vmdk", "one-delta.vmdk"} {
		_, err = openFileAs(t, dir, bare, OpenChain)
		wantError(t, err, ErrNeedsDescriptor)
		if !Sniff(openOS(t, filepath.Join(dir, bare))) {
			t.Errorf("%s is not sniffed", bare)
		}
	}
}

// TestAllocatedOfChain: allocation of a chain is what some link stores, and a
// zero of the delta hides the parent's data.
func TestAllocatedOfChain(t *testing.T) {
	files := map[string][]byte{}
	opener := mapOpener(files)
	const size = 64 << 10
	file := func(name string, kind string, d *Descriptor) {
		d.CreateType, d.Extents[0].Type = kind, map[string]string{"seSparse": "SESPARSE", "vmfsSparse": "VMFSSPARSE"}[kind]
		files[name] = []byte(d.String())
	}
	files["base-delta"] = cowdFile(size, map[int64][]byte{8: random(1, 512), 9: random(2, 512), 64: random(3, 512)})
	file("base", "vmfsSparse", NewFlatDescriptor("base-delta", size))
	base, err := Open(bytes.NewReader(files["base"]), int64(len(files["base"])), opener)
	if err != nil {
		t.Fatal(err)
	}
	mem := &memFile{}
	se, err := CreateSESparse(mem, size, base)
	if err != nil {
		t.Fatal(err)
	}
	if err := se.WriteZeroes(4096, 4096); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, se, make([]byte, size), 40960, random(4, 100))
	files["top-se"] = mem.b
	file("top", "seSparse", NewDeltaDescriptor("top-se", "base", DefaultCID, size))
	top, err := OpenChain(bytes.NewReader(files["top"]), int64(len(files["top"])), opener)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		im          *Image
		off, length int64
		want        string
	}{
		{base, 0, size, "[{4096 1024} {32768 512}]"},
		{top, 0, size, "[{32768 512} {40960 4096}]"},
		{top, 33000, 8000, "[{33000 280} {40960 40}]"},
		{top, size - 1, 1 << 62, "[]"},
		{top, size, 1, "[]"},
	} {
		got, err := c.im.Allocated(c.off, c.length)
		if err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("allocated of %d at %d: %v, %v, want %s", c.length, c.off, got, err, c.want)
		}
	}
	if _, err := top.Allocated(-1, 5); !errors.Is(err, ErrSize) {
		t.Errorf("negative offset: %v", err)
	}
	if _, err := top.ReadAt(make([]byte, 1), -1); !errors.Is(err, ErrSize) {
		t.Errorf("negative offset: %v", err)
	}
	if n, err := top.ReadAt(make([]byte, 10), size-4); n != 4 || err != io.EOF {
		t.Errorf("read over the end: %d, %v", n, err)
	}
	if n, err := top.ReadAt(make([]byte, 10), size+4); n != 0 || err != io.EOF {
		t.Errorf("read behind the end: %d, %v", n, err)
	}
}

func mapOpener(files map[string][]byte) OpenExtent {
	return func(name string) (io.ReaderAt, int64, error) {
		b, ok := files[name]
		if !ok {
			return nil, 0, fs.ErrNotExist
		}
		return bytes.NewReader(b), int64(len(b)), nil
	}
}

// TestDiskGrewBetweenSnapshots: the child is longer than its parent.
func TestDiskGrewBetweenSnapshots(t *testing.T) {
	files := map[string][]byte{"flat": random(1, 4096*3)}
	base := NewFlatDescriptor("flat", 4096*3)
	files["base"] = []byte(base.String())
	mem := &memFile{}
	if _, err := CreateSESparse(mem, 4096*5, nil); err != nil {
		t.Fatal(err)
	}
	files["se"] = mem.b
	top := NewDeltaDescriptor("se", "base", base.CID, 4096*5).String()
	im, err := OpenChain(bytes.NewReader([]byte(top)), int64(len(top)), mapOpener(files))
	if err != nil {
		t.Fatal(err)
	}
	got := bytes.Repeat([]byte{1}, 4096*5)
	if _, err := im.ReadAt(got, 0); err != nil || !bytes.Equal(got, append(files["flat"], make([]byte, 8192)...)) {
		t.Fatalf("bytes differ: %v", err)
	}
	if list, err := im.Allocated(0, 4096*5); err != nil || len(list) != 1 || list[0] != (Extent{0, 4096 * 3}) {
		t.Fatalf("%v, %v", list, err)
	}
}

// TestChainRefusals are the chains that must not be read.
func TestChainRefusals(t *testing.T) {
	flat := NewFlatDescriptor("flat", 4096)
	with := func(change func(d *Descriptor)) []byte {
		d := NewFlatDescriptor("flat", 4096)
		change(d)
		return []byte(d.String())
	}
	mem := &memFile{}
	if _, err := CreateSESparse(mem, 4096, nil); err != nil {
		t.Fatal(err)
	}
	dirty := &memFile{b: bytes.Clone(mem.b)}
	dirty.b[SectorBytes+24] = 1
	files := map[string][]byte{
		"flat": make([]byte, 4096), "short": make([]byte, 4095), "se": mem.b, "dirty": dirty.b,
		"base": []byte(flat.String()), "junk": []byte("junk"),
		"loop": with(func(d *Descriptor) { d.ParentCID, d.ParentHint = d.CID, "loop" }),
	}
	for name, c := range map[string]struct {
		change func(d *Descriptor)
		want   error
	}{
		"path up":          {func(d *Descriptor) { d.Extents[0].Name = "../flat" }, ErrFormat},
		"absolute path":    {func(d *Descriptor) { d.Extents[0].Name = "/etc/passwd" }, ErrFormat},
		"windows path":     {func(d *Descriptor) { d.Extents[0].Name = `C:\flat` }, ErrFormat},
		"dots":             {func(d *Descriptor) { d.Extents[0].Name = ".." }, ErrFormat},
		"parent path":      {func(d *Descriptor) { d.ParentHint = "../base" }, ErrFormat},
		"parent unnamed":   {func(d *Descriptor) { d.ParentCID = 5 }, ErrFormat},
		"parent changed":   {func(d *Descriptor) { d.ParentHint, d.ParentCID = "base", 5 }, ErrParentMismatch},
		"parent missing":   {func(d *Descriptor) { d.ParentHint = "nobody" }, fs.ErrNotExist},
		"parent is junk":   {func(d *Descriptor) { d.ParentHint = "junk" }, ErrFormat},
		"parent is itself": {func(d *Descriptor) { d.ParentHint, d.ParentCID = "loop", d.CID }, ErrFormat},
		"extent missing":   {func(d *Descriptor) { d.Extents[0].Name = "nobody" }, fs.ErrNotExist},
		"extent short":     {func(d *Descriptor) { d.Extents[0].Name = "short" }, ErrTruncated},
		"extent offset":    {func(d *Descriptor) { d.Extents[0].Offset = 1 }, ErrTruncated},
		"offset overflows": {func(d *Descriptor) { d.Extents[0].Offset = 1 << 53 }, ErrTruncated},
		"raw mapping":      {func(d *Descriptor) { d.Extents[0].Type = "VMFSRDM" }, ErrUnsupported},
		"no access":        {func(d *Descriptor) { d.Extents[0].Access = "NOACCESS" }, ErrUnsupported},
		"no extents":       {func(d *Descriptor) { d.Extents = nil }, ErrFormat},
		"delta too small":  {func(d *Descriptor) { d.Extents[0] = DescriptorExtent{"RW", 9, "SESPARSE", "se", 0} }, ErrFormat},
		"dirty journal":    {func(d *Descriptor) { d.Extents[0] = DescriptorExtent{"RW", 8, "SESPARSE", "dirty", 0} }, ErrUnsupported},
		"wrong kind":       {func(d *Descriptor) { d.Extents[0] = DescriptorExtent{"RW", 8, "VMFSSPARSE", "se", 0} }, ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			text := with(c.change)
			_, err := OpenChain(bytes.NewReader(text), int64(len(text)), mapOpener(files))
			wantError(t, err, c.want)
		})
	}
	text := flat.String()
	_, err := Open(bytes.NewReader([]byte(text)), int64(len(text)), nil)
	wantError(t, err, ErrUnsupported)
}

// TestZeroExtent is a disk of a hole between two pieces of one file.
func TestZeroExtent(t *testing.T) {
	d := NewFlatDescriptor("flat", 1024)
	d.Extents = []DescriptorExtent{
		{"RW", 1, "FLAT", "flat", 1}, {"RW", 2, "ZERO", "", 0}, {"RDONLY", 1, "FLAT", "flat", 0},
	}
	text, flat := d.String(), random(9, 1024)
	im, err := Open(bytes.NewReader([]byte(text)), int64(len(text)), mapOpener(map[string][]byte{"flat": flat}))
	if err != nil {
		t.Fatal(err)
	}
	want := append(append(bytes.Clone(flat[512:]), make([]byte, 1024)...), flat[:512]...)
	got := bytes.Repeat([]byte{1}, 2048)
	if _, err := im.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("bytes differ: %v", err)
	}
	if list, err := im.Allocated(0, 2048); err != nil || fmt.Sprint(list) != "[{0 512} {1536 512}]" {
		t.Fatalf("%v, %v", list, err)
	}
}
