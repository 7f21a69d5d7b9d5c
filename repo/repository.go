// Package repo is the engine: a repository of recovery points over any backend.
//
// Everything in a repository is the same sealed, self-checking, self-healing
// container, written once under a name that nobody else can take; FORMAT.md in
// this folder is the law of the bytes and of the order in which they are
// written. A Repository is opened with a secret; a Session makes one point;
// Load brings chunks back; Check and Scrub tell whether all is well.
package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"holdfast/repo/backend"
	"holdfast/repo/index"
	"holdfast/repo/ledger"
	"holdfast/repo/load"
	"holdfast/repo/pack"
	"holdfast/repo/parity"
	"holdfast/repo/seal"
	"holdfast/repo/slot"
)

// ErrNoRepository: there is neither a config nor its spare at the place.
var ErrNoRepository = errors.New("no repository here")

// ErrNotEmpty: init found something at the place.
var ErrNotEmpty = errors.New("the place is not empty")

// ErrParameter: a parameter of init is outside what the format allows.
var ErrParameter = errors.New("parameter not allowed")

// Options are what a repository takes from its surroundings. Rand and Now are
// required; the rest has working zero values.
type Options struct {
	CacheDir   string            // below it lies the local index; "" keeps it in memory
	Log        *slog.Logger      // nil: nothing is logged
	Now        func() time.Time  // for records and hints, never for safety
	Rand       io.Reader         // crypto/rand.Reader
	Host       string            // kept in sessions and points
	Program    string            // name and version, kept in points
	PID        int               // kept in sessions
	VerifyFull bool              // decode and re-hash every chunk before it leaves memory, not one in ten
	Healed     func(name string) // told each time a read had to heal an object; may be nil
}

// Repository is an open repository. It may be used from many goroutines.
type Repository struct {
	be      backend.Backend
	ring    *seal.Ring
	keys    *seal.Keys
	slot    string // the key slot that opened it
	config  ledger.Config
	profile parity.Profile
	opts    Options
	log     *slog.Logger
	index   *index.Local
	load    *load.Loader

	mu     sync.Mutex
	newest uint32 // number of the ledger entry below
	entry  *ledger.Entry
}

// Config is what init decided.
func (r *Repository) Config() ledger.Config { return r.config }

// Location names the place without secrets.
func (r *Repository) Location() string { return r.be.Location() }

// Slot is the id of the key slot that opened the repository.
func (r *Repository) Slot() string { return r.slot }

// CDCKey keys the cutting of streams.
func (r *Repository) CDCKey() [32]byte { return r.keys.CDC() }

// Close releases the index. The backend belongs to the caller.
func (r *Repository) Close() error { return r.index.Close() }

// Open opens the repository at be with one secret. Errors: ErrNoRepository,
// seal.ErrWrongKey, pack.ErrDamaged, backend.ErrUnreachable.
func Open(ctx context.Context, be backend.Backend, secret seal.Secret, opts Options) (*Repository, error) {
	if err := Exists(ctx, be); err != nil {
		return nil, err
	}
	ring, id, err := slot.Open(ctx, be, secret)
	if err != nil {
		return nil, err
	}
	r := newRepository(be, ring, id, opts)
	payload, err := r.readRecord(ctx, ledger.ConfigObject, parity.Config)
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	config, err := ledger.Decode[ledger.Config](payload)
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	if err := r.apply(*config); err != nil {
		return nil, err
	}
	return r, r.openIndex(ctx)
}

func newRepository(be backend.Backend, ring *seal.Ring, slot string, opts Options) *Repository {
	r := &Repository{be: be, ring: ring, keys: ring.Keys(), slot: slot, opts: opts, log: opts.Log}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	return r
}

// apply takes over the parameters of a config.
func (r *Repository) apply(config ledger.Config) error {
	profile, err := parity.ParseProfile(config.Parity)
	if err != nil {
		return fmt.Errorf("read config: %w", err)
	}
	if !chunkAllowed(config.DiskChunkBytes) {
		return fmt.Errorf("read config: disk chunk of %d bytes: %w", config.DiskChunkBytes, ErrParameter)
	}
	r.config, r.profile = config, profile
	return nil
}

// Exists tells whether there is a repository at all, without any secret:
// ErrNoRepository if there is none.
func Exists(ctx context.Context, be backend.Backend) error {
	for _, name := range []string{ledger.ConfigObject, ledger.Spare(ledger.ConfigObject)} {
		_, err := be.Stat(ctx, name)
		if err == nil {
			return nil
		}
		if !errors.Is(err, backend.ErrNotFound) {
			return fmt.Errorf("look for a repository: %w", err)
		}
	}
	err := be.List(ctx, ledger.Commits, func(backend.Info) error { return errStop })
	if errors.Is(err, errStop) {
		return fmt.Errorf("%s holds recovery points, but config and its copy are gone: %w", be.Location(), pack.ErrDamaged)
	}
	if err != nil && !errors.Is(err, backend.ErrNotFound) {
		return fmt.Errorf("look for a repository: %w", err)
	}
	return fmt.Errorf("%s: %w", be.Location(), ErrNoRepository)
}

// openIndex reads the newest ledger and brings the local index up to date.
func (r *Repository) openIndex(ctx context.Context) error {
	dir := ""
	if r.opts.CacheDir != "" {
		dir = filepath.Join(r.opts.CacheDir, r.config.ID)
	}
	local, err := index.OpenLocal(dir, index.LocalOptions{Logger: r.log})
	if err != nil && dir != "" {
		r.log.Warn("the cache cannot be used; the index stays in memory", "error", err)
		local, err = index.OpenLocal("", index.LocalOptions{Logger: r.log})
	}
	if err != nil {
		return fmt.Errorf("open local index: %w", err)
	}
	r.index = local
	r.load = &load.Loader{Backend: r.be, Keys: r.keys, Index: local, Refresh: r.refresh, Healed: r.noteHealed}
	if err := r.refresh(ctx); err != nil {
		local.Close()
		return err
	}
	return nil
}

// refresh reads the newest ledger entry and then the list of segments.
func (r *Repository) refresh(ctx context.Context) error {
	if err := r.lookLedger(ctx); err != nil {
		return err
	}
	names, err := r.list(ctx, ledger.Indexes)
	if err != nil {
		return err
	}
	err = r.index.Refresh(ctx, names, r.fetchSegment)
	if err == nil || onlySegments(err) {
		// What a lost segment listed is simply not found: the read that needs
		// it fails by name, check reports it, and repair index brings it back.
		if err != nil {
			r.log.Warn("index is incomplete", "error", err)
		}
		return nil
	}
	return fmt.Errorf("refresh index: %w", err)
}

// onlySegments reports whether err is nothing but lost segments of which the
// place of storage gave a definite answer.
func onlySegments(err error) bool {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		var one *index.SegmentError
		return errors.As(err, &one) && definite(one.Err)
	}
	for _, e := range joined.Unwrap() {
		var one *index.SegmentError
		if !errors.As(e, &one) || !definite(one.Err) {
			return false
		}
	}
	return true
}

// definite reports whether an error says something of the object, not of the
// way to it.
func definite(err error) bool {
	for _, target := range []error{backend.ErrNotFound, pack.ErrDamaged, pack.ErrTampered, pack.ErrFormat, index.ErrCorrupt} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// readLedger finds and reads the newest ledger entry and returns its number.
func (r *Repository) readLedger(ctx context.Context) (uint32, error) {
	names, err := r.list(ctx, ledger.Ledgers)
	if err != nil {
		return 0, err
	}
	newest, found := uint32(0), false
	for _, name := range names { // sorted; what an operator left beside them is none
		if g, err := ledger.ParseLedger(name); err == nil {
			newest, found = g, true
		}
	}
	if !found {
		return 0, fmt.Errorf("read ledger: no entry: %w", pack.ErrDamaged)
	}
	r.mu.Lock()
	known := r.entry != nil && r.newest == newest
	r.mu.Unlock()
	if known {
		return newest, nil
	}
	payload, err := r.readRecord(ctx, ledger.LedgerName(newest), parity.Ledger)
	if err != nil {
		return 0, fmt.Errorf("read ledger: %w", err)
	}
	entry, err := ledger.Decode[ledger.Entry](payload)
	if err != nil {
		return 0, fmt.Errorf("read ledger %d: %w", newest, err)
	}
	r.mu.Lock()
	r.newest, r.entry = newest, entry
	r.mu.Unlock()
	return newest, nil
}

// lookLedger is readLedger for readers. A ledger that is damaged beyond its
// parity keeps no point from being restored: then no session counts as void and
// no pack as condemned. Writers use readLedger, and refuse.
func (r *Repository) lookLedger(ctx context.Context) error {
	_, err := r.readLedger(ctx)
	if err == nil || !definite(err) {
		return err
	}
	r.log.Warn("the ledger cannot be read; points that were given up may be listed", "error", err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.entry == nil {
		r.entry = &ledger.Entry{Version: ledger.Version}
		r.newest = unreadLedger
	}
	return nil
}

// unreadLedger is no ledger's number: what comes next is read anew.
const unreadLedger = 1<<32 - 1

// ledgerEntry is the newest entry read so far.
func (r *Repository) ledgerEntry() *ledger.Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.entry
}

// list returns the names below prefix, sorted.
func (r *Repository) list(ctx context.Context, prefix string) ([]string, error) {
	var names []string
	err := r.be.List(ctx, prefix, func(info backend.Info) error {
		names = append(names, info.Name)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", prefix, err)
	}
	return names, nil
}
