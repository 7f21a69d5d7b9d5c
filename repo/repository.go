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
	"time"

	"holdfast/repo/backend"
	"holdfast/repo/catalog"
	"holdfast/repo/heads"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/parity"
	"holdfast/repo/record"
	"holdfast/repo/seal"
	"holdfast/repo/session"
	"holdfast/repo/slot"
)

// ErrNoRepository: there is neither a config nor its spare at the place.
var ErrNoRepository = errors.New("no repository here")

// ErrNotEmpty: init found something at the place.
var ErrNotEmpty = errors.New("the place is not empty")

// ErrCutOff: an init was cut off at the place before there was a config, so nothing can
// have been stored there.
var ErrCutOff = errors.New("an init was cut off here")

// ErrConfigLost: there is a repository, and both copies of its config are gone.
var ErrConfigLost = fmt.Errorf("config and its copy are gone: %w", pack.ErrDamaged)

// ErrParameter: a parameter of init is outside what the format allows.
var ErrParameter = errors.New("parameter not allowed")

// Options are what a repository takes from its surroundings. Rand and Now are
// required; the rest has working zero values.
type Options struct {
	CacheDir   string                                // below it lies the local index; "" keeps it in memory
	Log        *slog.Logger                          // nil: nothing is logged
	Now        func() time.Time                      // for records and hints, never for safety
	Rand       io.Reader                             // crypto/rand.Reader
	Host       string                                // kept in sessions and points
	Program    string                                // name and version, kept in points
	PID        int                                   // kept in sessions
	VerifyFull bool                                  // decode and re-hash every chunk before it leaves memory, not one in ten
	Healed     func(name string)                     // told each time a read had to heal an object; may be nil
	Vanished   func(point string)                    // told when a point that this machine has seen is gone and nobody forgot it; may be nil
	Unlisted   func(packs int)                       // told when packs are found that the index does not list, by a read that needs one or as a session begins; may be nil
	Locks      func(repository string) session.Locks // tell prune which sessions of this host are dead; may be nil
}

// Repository is an open repository. It may be used from many goroutines.
type Repository struct {
	be      backend.Backend
	keys    *seal.Keys
	slots   *slot.Keys
	config  ledger.Config
	opts    Options
	log     *slog.Logger
	store   *record.Store
	catalog *catalog.Catalog
	heads   *heads.Heads
}

// Config is what init decided.
func (r *Repository) Config() ledger.Config { return r.config }

// Location names the place without secrets.
func (r *Repository) Location() string { return r.be.Location() }

// Slot is the id of the key slot that opened the repository.
func (r *Repository) Slot() string { return r.slots.Slot() }

// CDCKey keys the cutting of streams.
func (r *Repository) CDCKey() [32]byte { return r.keys.CDC() }

// Close releases the index. The backend belongs to the caller.
func (r *Repository) Close() error { return r.catalog.Close() }

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
	config, err := record.ReadAs[ledger.Config](ctx, r.store, ledger.ConfigObject, parity.Config)
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	if err := r.apply(*config); err != nil {
		return nil, err
	}
	if err := r.openCatalog(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

func newRepository(be backend.Backend, ring *seal.Ring, id string, opts Options) *Repository {
	r := &Repository{be: be, keys: ring.Keys(), opts: opts, log: opts.Log}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.store = &record.Store{
		Backend: be, Ring: ring, Keys: r.keys, Rand: opts.Rand, Now: opts.Now, Log: r.log,
		VerifyFull: opts.VerifyFull, OnHealed: opts.Healed, OnUnlisted: opts.Unlisted, Follow: r.follow,
	}
	r.slots = &slot.Keys{Backend: be, Ring: ring, Rand: opts.Rand, Now: opts.Now, Log: r.log}
	r.slots.Opened(id)
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
	r.config, r.store.Profile = config, profile
	return r.lockObjects()
}

// Exists tells whether there is a repository at all, without any secret:
// ErrNoRepository if there is none, ErrConfigLost if there must have been one.
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
	var err error
	for _, prefix := range []string{ledger.Commits, ledger.Data, ledger.Meta} { // no init writes there
		err = be.List(ctx, prefix, func(info backend.Info) error {
			if ledger.IsOurs(info.Name) {
				return errStop
			}
			return nil
		})
		if err != nil {
			break
		}
	}
	switch {
	case errors.Is(err, errStop):
		return fmt.Errorf("%s holds recovery points or their data: %w", be.Location(), ErrConfigLost)
	case err == nil:
		return fmt.Errorf("%s: %w", be.Location(), ErrNoRepository)
	case errors.Is(err, backend.ErrNotFound): // the place itself is missing, and its kind of store says more of it
		return fmt.Errorf("%s: %w: %w", be.Location(), ErrNoRepository, err)
	}
	return fmt.Errorf("look for a repository: %w", err)
}

func (r *Repository) openCatalog(ctx context.Context) (err error) {
	dir := catalog.Dir(r.opts.CacheDir, r.config.ID)
	r.heads = heads.Open(dir, r.be.Location())
	r.catalog, err = catalog.Open(ctx, r.store, dir)
	return err
}
