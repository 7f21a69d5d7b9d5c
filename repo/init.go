package repo

import (
	"context"
	"errors"
	"fmt"

	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/repo/parity"
	"holdfast/repo/record"
	"holdfast/repo/seal"
	"holdfast/repo/slot"
)

// Default and bounds of the disk chunk, in bytes.
const (
	DefaultDiskChunkBytes = 128 << 10
	minDiskChunkBytes     = 64 << 10
	maxDiskChunkBytes     = 4 << 20
)

// Compression modes that init accepts.
var compressions = []string{"auto", "none", "fast", "max"}

// InitParams are the choices that last. Zero values mean the defaults.
type InitParams struct {
	Parity         string // standard, strong, off
	DiskChunkBytes int64
	Compression    string      // auto, none, fast, max
	Lock           *ObjectLock // lock each object as it is written; nil: none is locked
	Keys           []NewKey
}

func chunkAllowed(bytes int64) bool {
	return bytes >= minDiskChunkBytes && bytes <= maxDiskChunkBytes && bytes&(bytes-1) == 0
}

// Check refuses what the format does not allow (ErrParameter); keys apart.
func (p InitParams) Check() error { return p.normalize() }

// normalize fills in defaults and refuses what the format does not allow.
func (p *InitParams) normalize() error {
	if p.Parity == "" {
		p.Parity = "standard"
	}
	if p.DiskChunkBytes == 0 {
		p.DiskChunkBytes = DefaultDiskChunkBytes
	}
	if p.Compression == "" {
		p.Compression = "auto"
	}
	if _, err := parity.ParseProfile(p.Parity); err != nil {
		return fmt.Errorf("parity %q: %w", p.Parity, ErrParameter)
	}
	if !chunkAllowed(p.DiskChunkBytes) {
		return fmt.Errorf("disk chunk of %d bytes (a power of two from 64 KiB to 4 MiB): %w", p.DiskChunkBytes, ErrParameter)
	}
	for _, c := range compressions {
		if p.Compression == c {
			return nil
		}
	}
	return fmt.Errorf("compression %q: %w", p.Compression, ErrParameter)
}

// Init makes a repository at an empty place: keys first, the ledger, the
// config last, so that an interrupted init leaves no repository. ErrNoLock if
// objects are to be locked where none can be.
func Init(ctx context.Context, be backend.Backend, p InitParams, opts Options) (*Repository, error) {
	if err := p.normalize(); err != nil {
		return nil, err
	}
	if len(p.Keys) == 0 {
		return nil, fmt.Errorf("make repository without a key: %w", ErrParameter)
	}
	if err := CheckLock(ctx, be, p.Lock); err != nil {
		return nil, err
	}
	if err := Vacant(ctx, be); err != nil {
		return nil, err
	}
	ring, err := seal.NewRing(opts.Rand)
	if err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	r := newRepository(be, ring, "", opts)
	id, err := r.store.RandomHex(16)
	if err != nil {
		return nil, err
	}
	config := ledger.Config{Version: ledger.Version, ID: id, Created: opts.Now(), Parity: p.Parity, DiskChunkBytes: p.DiskChunkBytes, Compression: p.Compression, Lock: p.Lock}
	if err := r.apply(config); err != nil {
		return nil, err
	}
	if made, err := r.found(ctx, p.Keys, config); err != nil {
		return nil, errors.Join(err, r.undo(ctx, made))
	}
	return r, r.openCatalog(ctx)
}

// found writes the first objects, the config last, and returns the names of the
// key slots that it may have written.
func (r *Repository) found(ctx context.Context, keys []NewKey, config ledger.Config) (made []string, err error) {
	for i, key := range keys {
		id, err := r.slots.First(ctx, key)
		if id != "" {
			made = append(made, ledger.Keys+id, ledger.Spare(ledger.Keys+id))
		}
		if id != "" && !errors.Is(err, backend.ErrExists) { // else the number is another's
			name := slot.RollName(uint32(i))
			made = append(made, name, ledger.Spare(name))
		}
		if err != nil {
			return made, err
		}
	}
	if err := r.store.Write(ctx, ledger.LedgerName(0), parity.Ledger, ledger.Entry{Version: ledger.Version}); err != nil {
		return made, err
	}
	return made, r.store.Write(ctx, ledger.ConfigObject, parity.Config, config)
}

// undo takes back what a failed init has written, so that the next one finds
// the place as it was. Of two inits at once the one whose ledger stands owns
// the place; the other takes away its own keys and nothing else. With a config
// the place is a repository and stays.
func (r *Repository) undo(ctx context.Context, made []string) error {
	ctx = context.WithoutCancel(ctx)
	_, err := r.store.Read(ctx, ledger.LedgerName(0), parity.Ledger)
	switch {
	case err == nil: // it opens with our keys, so it is ours
		if err := Exists(ctx, r.be); !errors.Is(err, ErrNoRepository) {
			return nil
		}
		made = append(made, ledger.LedgerName(0), ledger.Spare(ledger.LedgerName(0)))
	case !record.IsDefinite(err):
		return fmt.Errorf("undo init: %w", err)
	}
	var errs []error
	for _, name := range made {
		errs = append(errs, r.be.Delete(ctx, name))
	}
	if err := errors.Join(append(errs, r.be.Sync(ctx))...); err != nil {
		return fmt.Errorf("undo init: %w", err)
	}
	return nil
}

var errStop = errors.New("stop listing")

// Vacant refuses a place that holds any object: ErrNotEmpty. Where all of it is what an
// init leaves that was cut off, it is ErrCutOff as well.
func Vacant(ctx context.Context, be backend.Backend) error {
	found, cutOff := "", true
	err := be.List(ctx, "", func(info backend.Info) error {
		found, cutOff = info.Name, isBeginning(info.Name)
		if !cutOff {
			return errStop
		}
		return nil
	})
	switch {
	case err != nil && !errors.Is(err, errStop):
		return fmt.Errorf("look at %s: %w", be.Location(), err)
	case found == "":
		return nil
	case cutOff:
		return fmt.Errorf("%s holds %s: %w: %w", be.Location(), found, ErrCutOff, ErrNotEmpty)
	}
	return fmt.Errorf("%s holds %s: %w", be.Location(), found, ErrNotEmpty)
}

// ClearCutOff removes what an init has left that was cut off, and nothing where anything
// else lies. The caller sees to it that no other init is running there, and that the
// place shows all that it holds.
func ClearCutOff(ctx context.Context, be backend.Backend) error {
	if err := Vacant(ctx, be); !errors.Is(err, ErrCutOff) {
		return err
	}
	if err := Exists(ctx, be); !errors.Is(err, ErrNoRepository) {
		return errors.Join(err, fmt.Errorf("clear %s: %w", be.Location(), ErrNotEmpty))
	}
	var names []string
	err := be.List(ctx, "", func(info backend.Info) error {
		names = append(names, info.Name)
		return nil
	})
	for _, name := range names {
		if err == nil && isBeginning(name) {
			err = be.Delete(ctx, name)
		}
	}
	if err == nil {
		err = be.Sync(ctx)
	}
	if err != nil {
		return fmt.Errorf("clear away what an init has left: %w", err)
	}
	return nil
}

// isBeginning reports whether an object of that name is one of those that init writes
// before there is a config: without it nobody can have stored anything.
func isBeginning(name string) bool {
	name = ledger.TrueName(name)
	return slot.IsSlotName(name) || name == ledger.LedgerName(0)
}
