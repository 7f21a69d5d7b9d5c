// Package backup moves a source into a repository. A driver says what the
// source is and opens its parts; this package decides what to read, reads it
// in parallel, stores it, and commits the recovery point last. Whatever
// happens, the source is released.
package backup

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"holdfast/repo/image"
	"holdfast/repo/recovery"
)

// Source is something that can be protected: a VM, a disk image, a database.
type Source interface {
	// Kind, Name ("vm/web01") and Identity (what stays when the name changes)
	// say what it is.
	Kind() recovery.Kind
	Name() string
	Identity() string
	// Freeze brings the source to a state that can be read: for a VM, takes the
	// snapshot. parent is the newest point of this source, or nil; the driver
	// decides with it what must be read and says why. If Freeze fails it has
	// left nothing behind.
	Freeze(ctx context.Context, parent *recovery.Point) (Frozen, error)
}

// Frozen is a source that stands still.
type Frozen interface {
	// State says what was reached.
	State() State
	// Items are its parts. Parts are read several at once.
	Items() []Item
	// Committed is called once the point is durable: now the source may forget
	// what the repository has (SQL Server may truncate its log).
	Committed(ctx context.Context, p *recovery.Point) error
	// Release undoes Freeze: removes the snapshot. It is called exactly once,
	// whatever became of the backup, with a context that outlives the run's. It
	// returns nil only when nothing of ours is left on the source.
	Release(ctx context.Context) error
}

// Holder is a Frozen that can lose its stand behind our back: a VM's snapshot
// can be removed by others. It is asked once everything is read and before the
// point is committed; an error means that what was read may be torn, unless it is ErrMute.
type Holder interface {
	Holds(ctx context.Context) error
}

// State is what Freeze reached.
type State struct {
	Time        time.Time // the moment the data is of
	Consistency string    // recovery.Application, FileSystem or Crash
	Downgraded  bool      // something protected was left out or less than asked: exit 3
	Warnings    []string
	Attrs       json.RawMessage // kept in the point
	// Parent is the id of the point that this one cannot be restored without, and
	// Reason and Rule say why it is what it is, where the source decides them itself
	// (a differential, a log backup); "" leaves them to the items.
	Parent, Reason, Rule string
}

// Item is one part of a frozen source: exactly one of Disk and Stream is set.
type Item struct {
	Name   string // unique in the point and the same in the next one: disk-2000
	Label  string // for people
	Key    int32  // device key
	Attrs  json.RawMessage
	Disk   *Disk
	Stream *Stream
}

// Disk is a frozen disk and the areas that must be read.
type Disk struct {
	Bytes int64
	// Incremental: Extents is a superset of what differs from the parent
	// point's item of the same name. Otherwise Extents is a superset of what is
	// not zero; nil then means the whole disk.
	Incremental bool
	Extents     []image.Extent
	ReadMode    string // recovery.ReadCBT, ReadAllocated …
	Reason      string // a sentence
	Rule        string // id of the rule that fired
	// Open gives a reader of the whole disk that many goroutines may use.
	Open func(ctx context.Context) (DiskReader, error)
	// OpenStream, instead of Open, is for a disk that can only be read once
	// from its first byte (standard input); Bytes is -1 then, the end tells.
	OpenStream func(ctx context.Context) (io.ReadCloser, error)
	// Gap is how far apart two areas may lie and still be read in one go, and
	// ReadBytes how large one read should be; 0 means the engine's defaults.
	Gap, ReadBytes int64
}

// DiskReader reads a frozen disk at any offset.
type DiskReader interface {
	ReadAt(ctx context.Context, p []byte, off int64) error // all of p or an error
	Close() error
}

// Stream is a part that is read from its first byte to its last.
type Stream struct {
	Bytes int64 // -1 when not known
	// About is how many bytes will come, roughly, for who watches; 0 when nobody knows.
	// Nothing else depends on it. It counts where Bytes is -1.
	About int64
	Open  func(ctx context.Context) (io.ReadCloser, error)
	// Inline asks to keep it in the manifest if it is small enough (≤ 32 KiB in all).
	Inline bool
	// Fine cuts it into smaller chunks, for data that changes in many small places:
	// a database's pages.
	Fine bool
}

// Expected is how many bytes will come, at least roughly; -1 when nobody knows.
func (s *Stream) Expected() int64 {
	if s.Bytes < 0 && s.About > 0 {
		return s.About
	}
	return s.Bytes
}

// Progress is told what a run does. Methods are called from many goroutines.
// The zero Progress of a quiet run is NoProgress.
type Progress interface {
	Begin(item string, totalBytes int64) // totalBytes < 0: not known
	Read(bytes int64)                    // so many of the begun items' bytes are dealt with
	Note(text string)                    // something the operator should see
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
