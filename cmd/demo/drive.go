package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/diskfs/go-diskfs/backend"

	"holdfast/vmware/lab"
)

// drive is a disk as software on it sees one.
type drive interface {
	io.ReaderAt
	io.WriterAt
	Size() int64 // bytes
}

// vmDrive is a disk of a laboratory VM, written as its guest writes: into the
// newest layer of the disk, seen by changed-block tracking.
type vmDrive struct {
	vm    *lab.VM
	index int
	bytes int64
}

func (d vmDrive) ReadAt(p []byte, off int64) (int, error) { return d.vm.ReadDisk(d.index, p, off) }
func (d vmDrive) Size() int64                             { return d.bytes }

func (d vmDrive) WriteAt(p []byte, off int64) (int, error) {
	if err := d.vm.WriteDisk(d.index, off, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// fileDrive is a raw image in a file.
type fileDrive struct {
	*os.File
	bytes int64
}

func (d fileDrive) Size() int64 { return d.bytes }

// digest is a hash of every byte of a drive: its size, and all pieces that are
// not zero with their places. Zeros are looked at and not hashed, which makes
// large sparse disks bearable.
func digest(ctx context.Context, d drive) (sum [sha256.Size]byte, err error) {
	const piece = 256 << 10
	hash := sha256.New()
	buf, zeros := make([]byte, piece), make([]byte, piece)
	place := func(n int64) { hash.Write(binary.BigEndian.AppendUint64(nil, uint64(n))) }
	place(d.Size())
	for off := int64(0); off < d.Size(); off += piece {
		if err := ctx.Err(); err != nil {
			return sum, err
		}
		p := buf[:min(piece, d.Size()-off)]
		if _, err := readFull(d, p, off); err != nil {
			return sum, err
		}
		if !bytes.Equal(p, zeros[:len(p)]) {
			place(off)
			hash.Write(p)
		}
	}
	return [sha256.Size]byte(hash.Sum(nil)), nil
}

// dirtyPages is how many pages a cache gathers before it writes them: 32 MiB.
const dirtyPages = 8192

// cache stands between the file system code and a drive as the page cache of a
// kernel does. go-diskfs writes whole tables again and again; only the pages
// that really differ reach the drive, joined to long writes, so that
// changed-block tracking sees what it would see of a real guest.
//
// It implements backend.Storage for one goroutine.
type cache struct {
	under   drive
	pages   map[int64][]byte // written and not yet flushed, by number
	pos     int64            // of Read and Seek
	written int64            // bytes that reached the drive
}

func newCache(under drive) *cache { return &cache{under: under, pages: map[int64][]byte{}} }

// ReadAt implements io.ReaderAt: what the drive holds, below what was written.
func (c *cache) ReadAt(p []byte, off int64) (int, error) {
	n, err := readFull(c.under, p, off)
	for at := off; at < off+int64(n); at += pageBytes - at%pageBytes {
		if page, ok := c.pages[at/pageBytes]; ok {
			copy(p[at-off:n], page[at%pageBytes:])
		}
	}
	return n, err
}

// WriteAt implements io.WriterAt.
func (c *cache) WriteAt(p []byte, off int64) (int, error) {
	for done := 0; done < len(p); {
		at := off + int64(done)
		page, err := c.page(at/pageBytes, at%pageBytes == 0 && len(p)-done >= pageBytes)
		if err != nil {
			return done, err
		}
		done += copy(page[at%pageBytes:], p[done:])
	}
	if len(c.pages) >= dirtyPages {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// page is the n-th page, in the cache from now on. One that is overwritten as
// a whole need not be read.
func (c *cache) page(n int64, overwritten bool) ([]byte, error) {
	if page, ok := c.pages[n]; ok {
		return page, nil
	}
	page := make([]byte, min(pageBytes, c.under.Size()-n*pageBytes))
	if !overwritten {
		if _, err := readFull(c.under, page, n*pageBytes); err != nil {
			return nil, err
		}
	}
	c.pages[n] = page
	return page, nil
}

// flush writes the pages that differ from the drive and forgets all.
func (c *cache) flush() error {
	const longest = 1 << 20 // bytes of one write
	var run []byte
	var start int64
	write := func() error {
		if len(run) == 0 {
			return nil
		}
		_, err := c.under.WriteAt(run, start)
		c.written += int64(len(run))
		run = run[:0]
		return err
	}
	old := make([]byte, pageBytes)
	for _, n := range slices.Sorted(maps.Keys(c.pages)) {
		page := c.pages[n]
		if _, err := readFull(c.under, old[:len(page)], n*pageBytes); err != nil {
			return err
		}
		if bytes.Equal(page, old[:len(page)]) {
			continue
		}
		if start+int64(len(run)) != n*pageBytes || len(run) >= longest {
			if err := write(); err != nil {
				return err
			}
			start = n * pageBytes
		}
		run = append(run, page...)
	}
	clear(c.pages)
	return write()
}

// readFull reads all of p; the end of the drive within p is io.EOF.
func readFull(r io.ReaderAt, p []byte, off int64) (int, error) {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		err = nil
	}
	return n, err
}

// Read implements io.Reader.
func (c *cache) Read(p []byte) (int, error) {
	n, err := c.ReadAt(p, c.pos)
	c.pos += int64(n)
	return n, err
}

// Seek implements io.Seeker.
func (c *cache) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += c.pos
	case io.SeekEnd:
		offset += c.under.Size()
	}
	if offset < 0 {
		return c.pos, fs.ErrInvalid
	}
	c.pos = offset
	return offset, nil
}

// Close implements io.Closer; what was not flushed is lost.
func (c *cache) Close() error { return nil }

// Stat implements fs.File.
func (c *cache) Stat() (fs.FileInfo, error) { return driveInfo(c.under.Size()), nil }

// Sys implements backend.Storage: there is no file of the operating system.
func (c *cache) Sys() (*os.File, error) { return nil, backend.ErrNotSuitable }

// Writable implements backend.Storage.
func (c *cache) Writable() (backend.WritableFile, error) { return c, nil }

// Path implements backend.Storage.
func (c *cache) Path() string { return "" }

// driveInfo describes a drive of so many bytes as a file.
type driveInfo int64

func (i driveInfo) Name() string     { return "drive" }
func (i driveInfo) Size() int64      { return int64(i) }
func (driveInfo) Mode() fs.FileMode  { return 0o600 }
func (driveInfo) ModTime() time.Time { return time.Time{} }
func (driveInfo) IsDir() bool        { return false }
func (driveInfo) Sys() any           { return nil }
