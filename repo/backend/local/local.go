// Package local keeps a repository's objects as files in one directory.
//
// An object's name is its path below that directory. Bytes first go to a file
// of this process's own folder tmp/<random>/ on the same file system and take
// their name in one atomic step, so that nobody sees half an object:
//
//   - Put renames over the name. A name that is new gets its fsync at the next
//     Sync (one barrier for many packs suits slow disks); after a power cut an
//     object that no Sync has covered may be missing or torn, which its own
//     checksums tell. A name that is taken is replaced only by bytes that are
//     already on stable storage, so a healed object is never lost to its cure.
//   - PutIfAbsent writes, syncs, then lets the file system decide: link(2)
//     refuses a taken name everywhere POSIX holds; where there are no links,
//     renameat2(RENAME_NOREPLACE), renamex_np(RENAME_EXCL) or MoveFileEx do.
//     Which of them works is tried out, not believed. Creating the final name
//     with O_EXCL would show a half-written object and is never done.
//   - A full disk is pruned by help of a reserve, see reserve.go.
//   - A file whose fsync failed is never synced again: Linux marks the lost
//     pages clean, so the second fsync answers "fine" (Rebello et al., "Can
//     Applications Recover from fsync Failures?", USENIX ATC 2020).
//
// Every access goes through os.Root: a symbolic link planted in the directory
// leads nowhere outside it. Nothing here reads a clock.
package local

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"holdfast/repo/backend"
	"holdfast/repo/backend/local/folder"
	"holdfast/repo/backend/local/mount"
)

// ErrNotEmpty: Create found something in the directory, which may be a
// repository or somebody's files.
var ErrNotEmpty = errors.New("directory not empty")

// ErrLocked: another process holds the writers' lock.
var ErrLocked = folder.ErrLocked

// ErrName: the name cannot name an object here: it breaks backend.ValidName, or
// is one that this store keeps for itself ("lock", "tmp" and all below it).
var ErrName = errors.New("bad object name")

// errClosed is what every method answers after Close.
var errClosed = errors.New("backend is closed")

// Names at the top of the directory that are no objects.
const (
	lockName = "lock" // OS lock of the one writer, where only one may write
	tempName = "tmp"  // unfinished writes, one folder a process
)

// Options tune a local backend; the zero value is right for a local disk.
type Options struct {
	// UnsyncedFiles is how many files may wait, open, for the next Sync; beyond
	// it each Put syncs its own. Bounds open files. 0 means 256.
	UnsyncedFiles int
	// SyncParallel is how many files are synced at a time. 0 means 8.
	SyncParallel int
	// ReserveBytes is the room kept back for maintenance on a full disk. 0 means
	// 16 MiB, less than 0 none.
	ReserveBytes int64
	// Random names this process's folder of unfinished writes. nil means crypto/rand.
	Random io.Reader
	// Log hears of left-overs that were or could not be removed. nil discards.
	Log *slog.Logger
}

// Backend is a directory of objects; it implements backend.Backend.
type Backend struct {
	disk    folder.Tree
	dir     string // absolute
	network string // why one writer only, by the kind of file system
	opts    Options

	syncing chan struct{} // holds one token while a Sync runs: a second one must not return before the first

	mu       sync.Mutex
	closed   bool
	work     *workspace          // nil until the first write
	writer   bool                // LockWriter is held
	spent    bool                // UseReserve was called, and Refill not yet
	owing    bool                // the reserve is missing, wholly or in part, as far as this process knows
	spending io.Closer           // the lock that goes with it, if it could be had
	unsynced map[string]*waiting // objects that took their name before their fsync
	dirty    map[string]struct{} // folders whose entries changed since they were synced
	deadDirs map[string]error    // folders whose fsync failed: it is not tried again
}

var (
	_ backend.Backend      = (*Backend)(nil)
	_ backend.WriterLocker = (*Backend)(nil)
)

// Create makes dir, with its parents, mode 0700, and opens it. A directory that
// holds anything but empty folders is refused with ErrNotEmpty.
func Create(ctx context.Context, dir string, opts Options) (*Backend, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("create %s: %w", dir, err)
	}
	if err := makeDir(dir); err != nil {
		return nil, explain("create", dir, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, explain("create", dir, err)
	}
	for _, e := range entries {
		if e.Name() == lockName || e.Name() == tempName {
			continue
		}
		if bare, err := isBare(filepath.Join(dir, e.Name())); err != nil {
			return nil, explain("create", dir, err)
		} else if !bare {
			return nil, fmt.Errorf("create %s: %w", dir, ErrNotEmpty)
		}
	}
	return Open(ctx, dir, opts)
}

// isBare reports whether there are nothing but folders at path: what is left
// where a repository was begun and taken back.
func isBare(path string) (bool, error) {
	bare := true
	err := filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			bare = false
			return filepath.SkipAll
		}
		return err
	})
	return bare, err
}

// makeDir makes dir and what is missing above it, and makes each new entry
// durable: a repository must not vanish whole because its own name was lost.
func makeDir(dir string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	_, err = os.Lstat(abs)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(abs)
	if parent == abs {
		return err
	}
	if err := makeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(abs, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncPath(parent)
}

// Open opens the directory dir, which must exist (else ErrNotFound). It writes
// nothing: a place that can only be read can be restored from.
func Open(ctx context.Context, dir string, opts Options) (*Backend, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	if info, err := os.Stat(abs); err != nil || !info.IsDir() {
		return nil, explain("open", dir, notFolder(abs, err))
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, explain("open", dir, err)
	}
	b := Over(&rootFS{root: root}, abs, opts)
	b.network = mount.Network(abs)
	return b, nil
}

// Over is a backend over a directory tree that stands already, called dir. It
// is how a test brings a file system of its own; Open is for all others. Close
// closes the tree.
func Over(disk folder.Tree, dir string, opts Options) *Backend {
	opts.UnsyncedFiles = cmp.Or(opts.UnsyncedFiles, 256)
	opts.SyncParallel = cmp.Or(opts.SyncParallel, 8)
	opts.ReserveBytes = cmp.Or(opts.ReserveBytes, reserveDefault)
	if opts.Random == nil {
		opts.Random = rand.Reader
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Backend{
		disk: disk, dir: dir, opts: opts,
		syncing:  make(chan struct{}, 1),
		unsynced: map[string]*waiting{},
		dirty:    map[string]struct{}{},
		deadDirs: map[string]error{},
	}
}

// Location is the directory's absolute path.
func (b *Backend) Location() string { return b.dir }

// SingleWriter tells why only one process may write at a time; then a writer
// must hold LockWriter. To learn it the directory is written to, unless it is
// of a kind that is known.
func (b *Backend) SingleWriter() string {
	if b.network != "" {
		return b.network
	}
	work, err := b.workspace()
	if err == nil && work.method == underLock {
		return "this file system can neither link files nor rename without replacing, so it cannot decide between two writers"
	}
	return ""
}

// LockWriter takes the OS lock on <dir>/lock and returns what gives it back,
// or ErrLocked at once if somebody has it. The lock ends with the process,
// however that dies, so it never has to be cleared by hand.
func (b *Backend) LockWriter(ctx context.Context) (unlock func() error, err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("lock %s: %w", b.dir, err)
	}
	held, err := b.disk.Lock(lockName)
	if err != nil {
		return nil, explain("lock", b.dir, err)
	}
	b.mu.Lock()
	b.writer = true
	b.mu.Unlock()
	return func() error {
		b.mu.Lock()
		b.writer = false
		b.mu.Unlock()
		return held.Close()
	}, nil
}

// Close removes this process's temporary folder. It does not sync: what no
// Sync has covered stays as uncertain as it was.
func (b *Backend) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	work := b.work
	b.work = nil
	b.endSpending()
	if work != nil && b.owing { // there may be room now
		if missing, err := b.keepReserve(work); err != nil || missing > 0 {
			b.opts.Log.Warn("no room is kept back for pruning a full disk", "missing_bytes", missing, "err", err)
		}
	}
	for name, w := range b.unsynced {
		w.close()
		delete(b.unsynced, name)
	}
	b.mu.Unlock()
	if work != nil {
		b.removeWorkspace(work)
	}
	if err := b.disk.Close(); err != nil {
		return fmt.Errorf("close %s: %w", b.dir, cause(err))
	}
	return nil
}

// admit is the gate of every method: the caller still wants it, the backend is
// open, and name is an object's.
func (b *Backend) admit(ctx context.Context, verb, name string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", verb, name, err)
	}
	if !backend.ValidName(name) || reserved(name) {
		return fmt.Errorf("%s %q: %w", verb, name, ErrName)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return fmt.Errorf("%s %s: %w", verb, name, errClosed)
	}
	return nil
}
