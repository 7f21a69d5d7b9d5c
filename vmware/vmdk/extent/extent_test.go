package extent

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"testing"
)

var le = binary.LittleEndian

// TestHeaderRefusals changes one field of a sound header at a time.
func TestHeaderRefusals(t *testing.T) {
	good := Header{
		Version: 3, Flags: FlagNewlines | FlagDeflate | FlagMarkers, Capacity: 2048, Grain: 128,
		Descriptor: 1, DescriptorLen: 20, EntriesPerTable: 512, Directory: DirectoryAtEnd, Overhead: 128, Algorithm: 1,
	}
	if got, err := ParseHeader(good.Encode()); err != nil || *got != good {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, c := range map[string]struct {
		change func(h *Header)
		want   error
	}{
		"version 0":            {func(h *Header) { h.Version = 0 }, ErrUnsupported},
		"version 4":            {func(h *Header) { h.Version = 4 }, ErrUnsupported},
		"no markers":           {func(h *Header) { h.Flags &^= FlagMarkers }, ErrUnsupported},
		"flag, no algorithm":   {func(h *Header) { h.Algorithm = 0 }, ErrUnsupported},
		"algorithm, no flag":   {func(h *Header) { h.Flags &^= FlagDeflate }, ErrUnsupported},
		"algorithm 2":          {func(h *Header) { h.Algorithm = 2 }, ErrUnsupported},
		"no capacity":          {func(h *Header) { h.Capacity = 0 }, ErrFormat},
		"capacity of 2^63":     {func(h *Header) { h.Capacity = math.MaxUint64 }, ErrFormat},
		"no grain":             {func(h *Header) { h.Grain = 0 }, ErrFormat},
		"crooked grain":        {func(h *Header) { h.Grain = 96 }, ErrFormat},
		"huge grain":           {func(h *Header) { h.Grain = 4096 }, ErrFormat},
		"many tiny grains":     {func(h *Header) { h.Grain, h.Capacity = 1, 1<<37 }, ErrFormat},
		"many tiny tables":     {func(h *Header) { h.EntriesPerTable, h.Capacity = 1, 1<<32 }, ErrFormat},
		"no entries":           {func(h *Header) { h.EntriesPerTable = 0 }, ErrFormat},
		"too many entries":     {func(h *Header) { h.EntriesPerTable = 513 }, ErrFormat},
		"overhead far out":     {func(h *Header) { h.Overhead = 1 << 60 }, ErrFormat},
		"directory far out":    {func(h *Header) { h.Directory = 1 << 60 }, ErrFormat},
		"descriptor far out":   {func(h *Header) { h.Descriptor = 1 << 60 }, ErrFormat},
		"descriptor too large": {func(h *Header) { h.DescriptorLen = 1 << 40 }, ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			h := good
			c.change(&h)
			_, err := ParseHeader(h.Encode())
			wantError(t, err, c.want)
		})
	}
	_, err := ParseHeader(good.Encode()[:511])
	wantError(t, err, ErrTruncated)
}

// plainFile is a KDMV file of four grains of 4 KiB: absent, zero, stored,
// stored right behind; directory at sector 1, table at 2, grains from 8.
func plainFile() []byte {
	h := Header{
		Version: 1, Flags: FlagNewlines | FlagZeroGrain, Capacity: 32, Grain: 8,
		EntriesPerTable: 4, Directory: 1, Overhead: 8,
	}
	b := append(h.Encode(), make([]byte, 23*SectorBytes)...)
	le.PutUint32(b[512:], 2)
	for i, entry := range []uint32{0, 1, 8, 16} {
		le.PutUint32(b[1024+4*i:], entry)
	}
	copy(b[8*SectorBytes:], random(1, 8192))
	return b
}

func TestPlainSparseFile(t *testing.T) {
	b := plainFile()
	e, h, text, err := OpenHosted(bytes.NewReader(b), int64(len(b)))
	if err != nil || text != nil || h.SizeBytes() != 16384 {
		t.Fatalf("%+v, %q, %v", h, text, err)
	}
	below := random(2, 16384)
	want := slices.Concat(below[:4096], make([]byte, 4096), random(1, 8192))
	if got := readOver(t, e, 16384, below); !bytes.Equal(got, want) {
		t.Fatal("bytes differ")
	}
	// Neighbours in the file are one run, so one request.
	if r, err := e.Locate(9000, 1<<20); err != nil || r != (Run{Data, 16384 - 9000, 8*SectorBytes + 9000 - 8192}) {
		t.Fatalf("%+v, %v", r, err)
	}
}

func TestPlainSparseFileDamaged(t *testing.T) {
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		want   error
	}{
		"grain outside of the file":  {func(b []byte) []byte { le.PutUint32(b[1024+8:], 17); return b }, ErrTruncated},
		"grain far outside":          {func(b []byte) []byte { le.PutUint32(b[1024+8:], math.MaxUint32); return b }, ErrTruncated},
		"grain among the tables":     {func(b []byte) []byte { le.PutUint32(b[1024+8:], 7); return b }, ErrFormat},
		"table outside of the file":  {func(b []byte) []byte { le.PutUint32(b[512:], 24); return b }, ErrTruncated},
		"directory outside the file": {func(b []byte) []byte { le.PutUint64(b[56:], 24); return b }, ErrTruncated},
		"file cut":                   {func(b []byte) []byte { return b[:len(b)-1] }, ErrTruncated},
	} {
		t.Run(name, func(t *testing.T) {
			b := c.change(plainFile())
			e, _, _, err := OpenHosted(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			_, err = e.Locate(8192, 8192)
			wantError(t, err, c.want)
		})
	}
}

// TestOverlappingTables: a table laid over the directory must not confuse the
// cache of blocks, which differ in length only.
func TestOverlappingTables(t *testing.T) {
	b := plainFile()
	le.PutUint32(b[512:], 1)
	e, _, _, err := OpenHosted(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if r, err := e.Locate(0, 16384); err != nil || r.State != Zero {
			t.Fatalf("%+v, %v", r, err)
		}
	}
}

func TestCOWDRefusals(t *testing.T) {
	header := func(version, sectors, grain, directory, entries uint32) []byte {
		b := make([]byte, 4096)
		copy(b, COWDMagic)
		for i, v := range []uint32{version, 3, sectors, grain, directory, entries} {
			le.PutUint32(b[4+4*i:], v)
		}
		return b
	}
	for _, c := range []struct {
		b    []byte
		want error
	}{
		{header(1, 4096, 1, 4, 1), nil},
		{header(2, 4096, 1, 4, 1), ErrUnsupported},
		{header(1, 0, 1, 4, 1), ErrFormat},
		{header(1, 4096, 0, 4, 1), ErrFormat},
		{header(1, 4096, math.MaxUint32, 4, 1), ErrFormat},
		{header(1, 4096, 1, 0, 1), ErrFormat},
		{header(1, 4097, 1, 4, 1), ErrFormat},
		{make([]byte, 4096), ErrFormat},
		{header(1, 4096, 1, 4, 1)[:100], ErrTruncated},
	} {
		_, size, err := OpenCOWD(bytes.NewReader(c.b), int64(len(c.b)))
		wantError(t, err, c.want)
		if c.want == nil && size != 2<<20 {
			t.Errorf("covers %d bytes", size)
		}
	}
}

// TestSESparseRefusals: the format is known from files alone, so anything not
// understood is refused.
func TestSESparseRefusals(t *testing.T) {
	mem := &memFile{}
	if _, err := CreateDelta(mem, 1<<20, nil); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		word int
		to   uint64
		want error
	}{
		"magic":             {0, 1, ErrFormat},
		"version":           {1, 0x2_0000_0002, ErrUnsupported},
		"no capacity":       {2, 0, ErrFormat},
		"capacity":          {2, 1 << 60, ErrFormat},
		"grain size":        {3, 16, ErrUnsupported},
		"table size":        {4, 32, ErrUnsupported},
		"flags":             {5, 1, ErrUnsupported},
		"reserved":          {8, 1, ErrUnsupported},
		"padding":           {63, 1, ErrUnsupported},
		"volatile header":   {10, 5, ErrFormat},
		"volatile far out":  {10, 1 << 30, ErrTruncated},
		"no directory":      {16, 0, ErrFormat},
		"grains far out":    {24, 1 << 60, ErrFormat},
		"directory short":   {2, 1 << 36, ErrFormat},
		"volatile magic":    {64, 1, ErrFormat},
		"journal is needed": {67, 1, ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			file := &memFile{b: bytes.Clone(mem.b)}
			le.PutUint64(file.b[8*c.word:], c.to)
			_, _, err := OpenSESparse(file, file.size())
			wantError(t, err, c.want)
		})
	}
}

func TestIsZero(t *testing.T) {
	for _, n := range []int{0, 1, 511, 4096, 4097, 70_000} {
		b := make([]byte, n)
		if !IsZero(b) {
			t.Errorf("%d zeros are not zero", n)
		}
		for _, at := range []int{0, n / 2, n - 1} {
			if at >= 0 && at < n {
				b[at] = 1
				if IsZero(b) {
					t.Errorf("bit at %d of %d is not seen", at, n)
				}
				b[at] = 0
			}
		}
	}
}
