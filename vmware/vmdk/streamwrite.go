package vmdk

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"github.com/klauspost/compress/zlib"
	"golang.org/x/sync/errgroup"

	"holdfast/vmware/vmdk/extent"
)

// Grain and table are the only sizes that ESXi writes; the room in front is
// what its own streams have.
const (
	streamGrainBytes   = 128 * SectorBytes
	streamTableEntries = 512
	streamOverhead     = 128 // sectors before the first grain
	descriptorSectors  = 20
)

// sectorPadding fills up a record's last sector.
var sectorPadding [SectorBytes]byte

// batchGrains are read and deflated by one worker at a time: 1 MiB.
const batchGrains = 16

// defaultLevel favours speed: the other end inflates, and a network or a host's
// disk is the usual limit.
const defaultLevel = 3

// StreamOptions is how WriteStream writes; its zero value writes all of the
// source.
type StreamOptions struct {
	// Allocated are the ranges that may hold data, in any order; the rest is
	// zero and not read. Nil is the whole disk. Ranges are widened to grains
	// of 64 KiB, and a grain is read whole.
	Allocated []Extent
	// Level of deflate, 1 (fast) to 9 (small); 0 is a fast default.
	Level int
	// Name of the file, which the descriptor repeats: "disk.vmdk" if empty.
	Name string
	// CID is the content id; DefaultCID if 0.
	CID uint32
	// Workers deflate in parallel: 0 is one a processor, at most 8. The bytes
	// written do not depend on it.
	Workers int
}

// WriteStream writes the disk of size bytes in src as a streamOptimized VMDK,
// strictly forward, and returns the number of bytes written. Grains of zeros
// are left out, the last grain is padded with zeros. Equal input and options
// give equal bytes, so a caller that must announce the length first can write
// to io.Discard before.
//
// The size must be a multiple of 512 and at least that, else ErrSize; an odd
// image is passed with CapacityFor(its size), and src may then end inside the
// last sector. ErrSize, too, when the file would pass 2 TiB, which 32-bit
// tables cannot address. Memory is about 4 MiB a worker, and 4 bytes for every
// 32 MiB of disk. The source is read by several goroutines at once.
func WriteStream(ctx context.Context, w io.Writer, src io.ReaderAt, size int64, opt StreamOptions) (int64, error) {
	if size < SectorBytes || size%SectorBytes != 0 || size > MaxCapacity {
		return 0, fmt.Errorf("write vmdk stream: %d bytes: %w", size, ErrSize)
	}
	ranges, err := grainRanges(opt.Allocated, size)
	if err != nil {
		return 0, fmt.Errorf("write vmdk stream: %w", err)
	}
	if opt.Name == "" {
		opt.Name = "disk.vmdk"
	}
	if err := checkName(opt.Name); err != nil {
		return 0, fmt.Errorf("write vmdk stream: %w", err)
	}
	if opt.Level < 0 || opt.Level > 9 {
		return 0, fmt.Errorf("write vmdk stream: deflate level %d is not in 1 to 9", opt.Level)
	}
	s := newStreamWriter(w, size)
	err = s.begin(opt)
	if err == nil {
		err = deflateAll(ctx, src, size, ranges, opt, s.grain)
	}
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return s.written, fmt.Errorf("write vmdk stream: %w", err)
	}
	return s.written, nil
}

// grainRanges turns extents of bytes into sorted, disjoint ranges of grain
// numbers.
func grainRanges(allocated []Extent, size int64) ([]Extent, error) {
	if allocated == nil {
		allocated = []Extent{{0, size}}
	}
	sorted := slices.SortedFunc(slices.Values(allocated), func(a, b Extent) int { return cmp.Compare(a.Start, b.Start) })
	var out []Extent
	for _, e := range sorted {
		if e.Start < 0 || e.Length < 0 || e.Start > size || e.Length > size-e.Start {
			return nil, fmt.Errorf("allocated range of %d bytes at %d, disk of %d: %w", e.Length, e.Start, size, ErrSize)
		}
		if e.Length == 0 {
			continue
		}
		first, end := e.Start/streamGrainBytes, (e.Start+e.Length+streamGrainBytes-1)/streamGrainBytes
		if n := len(out); n > 0 && first <= out[n-1].Start+out[n-1].Length {
			out[n-1].Length = max(out[n-1].Length, end-out[n-1].Start)
			continue
		}
		out = append(out, Extent{first, end - first})
	}
	return out, nil
}

// streamWriter lays out the file. It sees grains in ascending order and keeps
// one table and the directory.
type streamWriter struct {
	w         io.Writer
	written   int64
	header    extent.Header
	table     []byte // of the group being written
	tableUsed bool
	group     int64 // index of that table
	directory []byte
}

func newStreamWriter(w io.Writer, size int64) *streamWriter {
	h := extent.Header{
		Version: 3, Flags: extent.FlagNewlines | extent.FlagDeflate | extent.FlagMarkers,
		Capacity: uint64(size / SectorBytes), Grain: streamGrainBytes / SectorBytes,
		Descriptor: 1, DescriptorLen: descriptorSectors,
		EntriesPerTable: streamTableEntries, Directory: extent.DirectoryAtEnd,
		Overhead: streamOverhead, Algorithm: extent.AlgorithmDeflate,
	}
	return &streamWriter{
		w: w, header: h,
		table:     make([]byte, h.TableBytes()),
		directory: make([]byte, extent.RoundUp(h.Tables()*4, SectorBytes)),
	}
}

func (s *streamWriter) begin(opt StreamOptions) error {
	d := NewFlatDescriptor(opt.Name, s.header.SizeBytes())
	d.CreateType, d.Extents[0].Type = "streamOptimized", "SPARSE"
	d.CID = cmp.Or(opt.CID, DefaultCID)
	head := make([]byte, streamOverhead*SectorBytes)
	copy(head, s.header.Encode())
	if n := copy(head[SectorBytes:SectorBytes*(1+descriptorSectors)], d.String()); n < len(d.String()) {
		return fmt.Errorf("name of %d bytes does not fit: %w", len(opt.Name), ErrSize)
	}
	return s.write(head)
}

func (s *streamWriter) write(p []byte) error {
	n, err := s.w.Write(p)
	s.written += int64(n)
	return err
}

// sector is where the next record starts. Tables hold it in 32 bits.
func (s *streamWriter) sector() (uint32, error) {
	at := s.written / SectorBytes
	if at >= 1<<32 {
		return 0, fmt.Errorf("file of more than 2 TiB: %w", ErrSize)
	}
	return uint32(at), nil
}

// grain writes a whole record (marker, deflated data, padding) of grain number
// index.
func (s *streamWriter) grain(index int64, record []byte) error {
	if group := index / streamTableEntries; group != s.group {
		if err := s.flushTable(); err != nil {
			return err
		}
		s.group = group
	}
	at, err := s.sector()
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(s.table[index%streamTableEntries*4:], at)
	s.tableUsed = true
	return s.write(record)
}

func (s *streamWriter) flushTable() error {
	if !s.tableUsed {
		return nil
	}
	if err := s.write(extent.Metadata(extent.MarkerTable, uint64(len(s.table)/SectorBytes))); err != nil {
		return err
	}
	at, err := s.sector()
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(s.directory[s.group*4:], at)
	err = s.write(s.table)
	clear(s.table)
	s.tableUsed = false
	return err
}

// end writes last table, directory, footer and the end of the stream.
func (s *streamWriter) end() error {
	if err := s.flushTable(); err != nil {
		return err
	}
	if err := s.write(extent.Metadata(extent.MarkerDirectory, uint64(len(s.directory)/SectorBytes))); err != nil {
		return err
	}
	at, err := s.sector()
	if err != nil {
		return err
	}
	s.header.Directory = uint64(at)
	tail := slices.Concat(s.directory, extent.Metadata(extent.MarkerFooter, 1), s.header.Encode(), extent.Metadata(extent.MarkerEnd, 0))
	return s.write(tail)
}

// batch is the unit of the pipeline: neighbouring grains, deflated by a worker,
// written in the order of the queue.
type batch struct {
	first  int64 // number of the first grain
	count  int
	raw    []byte
	out    bytes.Buffer
	ends   [batchGrains]int // where each grain's record ends in out; equal to the one before: zeros
	done   chan struct{}
	failed error
}

// deflateAll reads and deflates the grains of ranges with several workers and
// calls emit for each that is not zero, in ascending order. It owns a fixed
// number of batches: when the writer is slow, the readers wait.
func deflateAll(ctx context.Context, src io.ReaderAt, size int64, ranges []Extent, opt StreamOptions, emit func(int64, []byte) error) error {
	workers := opt.Workers
	if workers <= 0 {
		workers = min(runtime.GOMAXPROCS(0), 8)
	}
	free := make(chan *batch, 2*workers)
	for range cap(free) {
		free <- &batch{raw: make([]byte, batchGrains*streamGrainBytes)}
	}
	work, order := make(chan *batch, cap(free)), make(chan *batch, cap(free))
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(work)
		defer close(order)
		return feed(ctx, ranges, free, work, order)
	})
	for range workers {
		group.Go(func() error { return deflateBatches(src, size, cmp.Or(opt.Level, defaultLevel), work) })
	}
	group.Go(func() error { return drain(ctx, order, free, emit) })
	return group.Wait()
}

func feed(ctx context.Context, ranges []Extent, free <-chan *batch, work, order chan<- *batch) error {
	for _, r := range ranges {
		for at, end := r.Start, r.Start+r.Length; at < end; at += batchGrains {
			select {
			case b := <-free:
				b.first, b.count, b.done = at, int(min(batchGrains, end-at)), make(chan struct{})
				// Both have room for every batch that exists.
				work <- b
				order <- b
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

func deflateBatches(src io.ReaderAt, size int64, level int, work <-chan *batch) error {
	z, err := zlib.NewWriterLevel(nil, level)
	if err != nil {
		return err
	}
	for b := range work {
		b.failed = b.fill(src, size, z)
		close(b.done)
	}
	return nil
}

// drain emits batches in order. It returns the failed batch's error, which
// stops the feed; workers finish what is queued.
func drain(ctx context.Context, order <-chan *batch, free chan<- *batch, emit func(int64, []byte) error) error {
	for b := range order {
		select {
		case <-b.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if b.failed != nil {
			return b.failed
		}
		start := 0
		for i := range b.count {
			if end := b.ends[i]; end > start {
				if err := emit(b.first+int64(i), b.out.Bytes()[start:end]); err != nil {
					return err
				}
				start = end
			}
		}
		free <- b
	}
	return nil
}

// fill reads the batch and deflates its grains into records.
func (b *batch) fill(src io.ReaderAt, size int64, z *zlib.Writer) error {
	off := b.first * streamGrainBytes
	raw := b.raw[:b.count*streamGrainBytes]
	clear(raw)
	want := min(int64(len(raw)), size-off)
	if err := readSource(src, raw[:want], off, size); err != nil {
		return err
	}
	b.out.Reset()
	for i := range b.count {
		grain := raw[i*streamGrainBytes:][:streamGrainBytes]
		if !extent.IsZero(grain) {
			if err := b.deflate(z, b.first+int64(i), grain); err != nil {
				return err
			}
		}
		b.ends[i] = b.out.Len()
	}
	return nil
}

func (b *batch) deflate(z *zlib.Writer, index int64, grain []byte) error {
	start := b.out.Len()
	var head [extent.GrainHeadBytes]byte
	b.out.Write(head[:])
	z.Reset(&b.out)
	if _, err := z.Write(grain); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	record := b.out.Bytes()[start:]
	binary.LittleEndian.PutUint64(record, uint64(index)*streamGrainBytes/SectorBytes)
	binary.LittleEndian.PutUint32(record[8:], uint32(len(record)-extent.GrainHeadBytes))
	b.out.Write(sectorPadding[:extent.RoundUp(int64(len(record)), SectorBytes)-int64(len(record))])
	return nil
}

// readSource fills p from off. The source of an odd image ends inside the
// disk's last sector; an earlier end is an error.
func readSource(src io.ReaderAt, p []byte, off, size int64) error {
	n, err := src.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		if off+int64(n) > size-SectorBytes && off+int64(len(p)) == size {
			return nil
		}
		return fmt.Errorf("read source at %d: ends before %d bytes: %w", off+int64(n), size, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("read source at %d: %w", off, err)
}
