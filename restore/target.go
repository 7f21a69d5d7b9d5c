// Package restore brings a recovery point back. A driver knows how to make a
// place for it; this package reads the repository, feeds the place, verifies
// what was written and commits, or takes back what it made.
package restore

import (
	"context"
	"io"

	"holdfast/repo/recovery"
)

// Target is a place a point can be restored to: a vCenter, a file.
type Target interface {
	// Create makes the place for the given items of the point. If it fails it
	// has left nothing behind.
	Create(ctx context.Context, p *recovery.Point, items []recovery.Item) (Placed, error)
}

// Placed is a place that waits for its bytes.
type Placed interface {
	// WriteDisk takes a disk. src stays valid during the call.
	WriteDisk(ctx context.Context, item recovery.Item, src Disk) error
	// WriteStream takes a stream item (configuration, NVRAM). A driver may ignore it.
	WriteStream(ctx context.Context, item recovery.Item, r io.Reader) error
	// Verify reads back what was written and compares it with src, or returns
	// how it was assured otherwise. An error means that the target differs.
	Verify(ctx context.Context, item recovery.Item, src Disk) (how string, err error)
	// Commit makes the place what the operator asked for (names it, powers it on).
	Commit(ctx context.Context) error
	// Abort removes everything Create made. It is called instead of Commit,
	// with a context that outlives the run's.
	Abort(ctx context.Context) error
}

// Disk is a disk of a point, to be read by a target.
type Disk interface {
	Size() int64
	// ReadAt reads any range; zeros where nothing was stored.
	io.ReaderAt
	// Sequential is a view whose reads ascend: it fetches ahead in parallel.
	Sequential(ctx context.Context) (io.ReaderAt, func(), error)
	// Extents calls fn for each area that holds data, ascending.
	Extents(ctx context.Context, fn func(start, length int64) error) error
	// Copy calls fn for each chunk that is not zeros, in any order, from several goroutines.
	Copy(ctx context.Context, fn func(off int64, data []byte) error) error
	// Matches compares bytes that a target holds at [off, off+len(data)) with
	// the point's; off must be a multiple of the chunk size, data whole chunks
	// or up to the disk's end.
	Matches(ctx context.Context, off int64, data []byte) (bool, error)
}

// Progress is told what a run does; see backup.Progress.
type Progress interface {
	Begin(item string, totalBytes int64)
	Read(bytes int64)
	Note(text string)
	End(item string)
}

// NoProgress tells nobody.
type NoProgress struct{}

// Begin does nothing.
func (NoProgress) Begin(string, int64) {}

// Read does nothing.
func (NoProgress) Read(int64) {}

// Note does nothing.
func (NoProgress) Note(string) {}

// End does nothing.
func (NoProgress) End(string) {}
