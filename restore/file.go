package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"holdfast/repo/recovery"
)

// ErrFileExists: the file is there and overwriting was not asked for.
var ErrFileExists = errors.New("the file exists")

// Format writes and reads back a disk in some file format. A nil Format is raw.
type Format struct {
	Name string
	// Encode writes the disk to w.
	Encode func(ctx context.Context, w io.Writer, src Disk) error
	// Decode opens what Encode wrote, as the raw disk.
	Decode func(f *os.File, size int64) (io.ReaderAt, int64, error)
}

// FileTarget restores one disk into a file. Until it is complete and verified
// the bytes lie under a temporary name beside it, which no failure leaves.
type FileTarget struct {
	Path      string
	Format    *Format
	Sparse    bool // leave holes where the disk is zero; otherwise zeros are written
	Overwrite bool
}

// Create makes the temporary file.
func (t *FileTarget) Create(_ context.Context, _ *recovery.Point, items []recovery.Item) (Placed, error) {
	if len(items) != 1 || !items[0].IsDisk() {
		return nil, fmt.Errorf("restore to %s: a file takes exactly one disk: %w", t.Path, ErrItem)
	}
	if _, err := os.Lstat(t.Path); err == nil && !t.Overwrite {
		return nil, fmt.Errorf("restore to %s: %w", t.Path, ErrFileExists)
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("restore to %s: %w", t.Path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(t.Path), TempPattern(t.Path))
	if err != nil {
		return nil, fmt.Errorf("restore to %s: %w", t.Path, err)
	}
	return &placedFile{t: t, f: f}, nil
}

// longestBase is how much of a file's name a temporary one repeats: most systems
// allow 255 bytes in all.
const longestBase = 200

// TempPattern is the pattern, for os.CreateTemp and filepath.Match, of the
// temporary names beside path.
func TempPattern(path string) string { return "." + TempBase(path) + ".restoring-*" }

// TempBase is the file name of path, cut to what a longer name beside it can repeat.
func TempBase(path string) string {
	base := filepath.Base(path)
	if len(base) <= longestBase {
		return base
	}
	return strings.ToValidUTF8(base[:longestBase], "")
}

type placedFile struct {
	t *FileTarget
	f *os.File
}

func (p *placedFile) WriteStream(context.Context, recovery.Item, io.Reader) error { return nil }

func (p *placedFile) WriteDisk(ctx context.Context, item recovery.Item, src Disk) error {
	if p.t.Format != nil {
		return p.t.Format.Encode(ctx, p.f, src)
	}
	if err := p.f.Truncate(item.Bytes); err != nil {
		return fmt.Errorf("size %s: %w", p.t.Path, err)
	}
	if !p.t.Sparse {
		if err := p.writeZeros(ctx, src); err != nil {
			return err
		}
	}
	return src.Copy(ctx, func(off int64, data []byte) error {
		if _, err := p.f.WriteAt(data, off); err != nil {
			return fmt.Errorf("write %s: %w", p.t.Path, err)
		}
		return nil
	})
}

// writeZeros fills what Copy will not write, so that the space is taken now and
// not on the day it is needed.
func (p *placedFile) writeZeros(ctx context.Context, src Disk) error {
	zeros := make([]byte, 1<<20)
	next := int64(0)
	fill := func(end int64) error {
		for next < end {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := p.f.WriteAt(zeros[:min(int64(len(zeros)), end-next)], next)
			if err != nil {
				return fmt.Errorf("write %s: %w", p.t.Path, err)
			}
			next += int64(n)
		}
		return nil
	}
	err := src.Extents(ctx, func(start, length int64) error {
		if err := fill(start); err != nil {
			return err
		}
		next = start + length
		return nil
	})
	if err != nil {
		return err
	}
	return fill(src.Size())
}

// Verify reads the file back and compares every chunk's id with the point's.
func (p *placedFile) Verify(ctx context.Context, item recovery.Item, src Disk) (string, error) {
	info, err := p.f.Stat()
	if err != nil {
		return "", fmt.Errorf("read back %s: %w", p.t.Path, err)
	}
	var back io.ReaderAt = p.f
	size := info.Size()
	if p.t.Format != nil {
		if back, size, err = p.t.Format.Decode(p.f, size); err != nil {
			return "", fmt.Errorf("read back %s: %w", p.t.Path, err)
		}
	}
	if size < item.Bytes {
		return "", fmt.Errorf("read back %s: %d bytes, not %d: %w", p.t.Path, size, item.Bytes, ErrVerify)
	}
	if err := VerifyReader(ctx, back, src); err != nil {
		return "", fmt.Errorf("read back %s: %w", p.t.Path, err)
	}
	return "read back", nil
}

// VerifyReader compares a whole disk that a target holds with the point's.
func VerifyReader(ctx context.Context, back io.ReaderAt, src Disk) error {
	buf := make([]byte, 4<<20) // a multiple of every chunk size
	for off := int64(0); off < src.Size(); off += int64(len(buf)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := buf[:min(int64(len(buf)), src.Size()-off)]
		if n, err := back.ReadAt(part, off); n < len(part) {
			return fmt.Errorf("%d bytes at %d: %w", len(part), off, err)
		}
		same, err := src.Matches(ctx, off, part)
		if err != nil {
			return err
		}
		if !same {
			return fmt.Errorf("between %d and %d: %w", off, off+int64(len(part)), ErrVerify)
		}
	}
	return nil
}

// Commit makes the file durable and gives it its name.
func (p *placedFile) Commit(context.Context) error {
	if err := errors.Join(p.f.Sync(), p.f.Close()); err != nil {
		return fmt.Errorf("finish %s: %w", p.t.Path, err)
	}
	if !p.t.Overwrite {
		// Link never replaces: a file that appeared meanwhile is not lost.
		err := os.Link(p.f.Name(), p.t.Path)
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("finish %s: %w", p.t.Path, ErrFileExists)
		}
		if err == nil {
			return errors.Join(os.Remove(p.f.Name()), syncFolder(p.t.Path))
		}
	}
	if err := os.Rename(p.f.Name(), p.t.Path); err != nil {
		return fmt.Errorf("finish %s: %w", p.t.Path, err)
	}
	return syncFolder(p.t.Path)
}

// syncFolder makes a file's name durable. Windows has no such call, and its
// file systems keep names in a journal.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("finish %s: %w", path, err)
	}
	defer folder.Close()
	if err := folder.Sync(); err != nil {
		return fmt.Errorf("finish %s: %w", path, err)
	}
	return nil
}

// Abort removes the temporary file.
func (p *placedFile) Abort(context.Context) error {
	p.f.Close()
	if err := os.Remove(p.f.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", p.f.Name(), err)
	}
	return nil
}
