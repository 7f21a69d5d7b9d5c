// Package mem keeps objects in memory, for tests. It is no easier on its
// callers than a disk: it forgets what was not synced when asked to crash, and
// with Options.Strict it refuses what would go unnoticed on a disk and hurt
// years later (see strict.go). It can also be full (see quota.go).
//
// Each object has two states, the one that everybody sees and the one on
// stable storage. Put and Delete change the first; Sync carries all to the
// second; PutIfAbsent carries its own object. Crash returns a new backend that
// holds what a power cut at this moment could have left.
package mem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/repo/backend"
)

// ErrName: the name breaks backend.ValidName.
var ErrName = errors.New("bad object name")

// Options tune a memory backend; the zero value is a plain store.
type Options struct {
	// Strict refuses calls that break the rules of strict.go with ErrStrict.
	Strict bool
	// QuotaBytes bounds the bytes of all objects and the reserve together; what
	// does not fit is ErrNoSpace. 0 means no bound. SetQuota changes it.
	QuotaBytes int64
	// ReserveBytes is kept back for UseReserve.
	ReserveBytes int64
	// Now stamps objects. nil means time.Now.
	Now func() time.Time
}

// Backend is a map of objects; it implements backend.Backend.
type Backend struct {
	opts Options

	mu      sync.Mutex
	visible map[string]object // what everybody sees
	durable map[string]object // what a power cut leaves
	quota   int64             // bytes; 0 means no bound
	reserve int64             // bytes kept back now
}

// object is never changed once it is in a map.
type object struct {
	data     []byte
	modified time.Time
}

var _ backend.Backend = (*Backend)(nil)

// New makes an empty store.
func New() *Backend { return Open(Options{}) }

// Open makes an empty store with options.
func Open(opts Options) *Backend {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Backend{
		opts: opts, quota: opts.QuotaBytes, reserve: opts.ReserveBytes,
		visible: map[string]object{}, durable: map[string]object{},
	}
}

func admit(ctx context.Context, verb, name string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", verb, name, err)
	}
	if !backend.ValidName(name) {
		return fmt.Errorf("%s %q: %w", verb, name, ErrName)
	}
	return nil
}

func (b *Backend) object(data []byte) object {
	return object{data: append([]byte{}, data...), modified: b.opts.Now()}
}

// Put writes an object; it is lost by Crash until Sync.
func (b *Backend) Put(ctx context.Context, name string, data []byte) error {
	if err := admit(ctx, "put", name); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.opts.Strict {
		if err := b.checkPut(name, data); err != nil {
			return err
		}
	}
	if err := b.checkRoom("put", name, len(data)); err != nil {
		return err
	}
	b.visible[name] = b.object(data)
	return nil
}

// PutIfAbsent writes an object if the name is free; it survives Crash.
func (b *Backend) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	if err := admit(ctx, "put new", name); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if have, taken := b.visible[name]; taken {
		if !bytes.Equal(have.data, data) {
			return fmt.Errorf("put new %s: %w", name, backend.ErrExists)
		}
		b.durable[name] = have
		return nil
	}
	if b.opts.Strict {
		if err := b.checkFolders(name); err != nil {
			return err
		}
	}
	if err := b.checkRoom("put new", name, len(data)); err != nil {
		return err
	}
	b.visible[name] = b.object(data)
	b.durable[name] = b.visible[name]
	return nil
}

// Get reads length bytes from offset, or to the end if length < 0.
func (b *Backend) Get(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	if err := admit(ctx, "get", name); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.visible[name]
	if !ok {
		return nil, fmt.Errorf("get %s: %w", name, backend.ErrNotFound)
	}
	size := int64(len(o.data))
	if length < 0 {
		length = size - offset
	}
	if offset < 0 || length < 0 || offset > size-length {
		return nil, fmt.Errorf("get %s: %d bytes from %d of %d: %w", name, length, offset, size, backend.ErrRange)
	}
	return append([]byte{}, o.data[offset:offset+length]...), nil
}

// Stat returns size and time of one object.
func (b *Backend) Stat(ctx context.Context, name string) (backend.Info, error) {
	if err := admit(ctx, "stat", name); err != nil {
		return backend.Info{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.visible[name]
	if !ok {
		return backend.Info{}, fmt.Errorf("stat %s: %w", name, backend.ErrNotFound)
	}
	return o.info(name), nil
}

func (o object) info(name string) backend.Info {
	return backend.Info{Name: name, Bytes: int64(len(o.data)), Modified: o.modified}
}

// List calls fn for each object whose name starts with prefix, sorted by name,
// of the moment when it was called.
func (b *Backend) List(ctx context.Context, prefix string, fn func(backend.Info) error) error {
	b.mu.Lock()
	var infos []backend.Info
	for _, name := range slices.Sorted(maps.Keys(b.visible)) {
		if strings.HasPrefix(name, prefix) {
			infos = append(infos, b.visible[name].info(name))
		}
	}
	b.mu.Unlock()
	for _, info := range infos {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("list %s: %w", prefix, err)
		}
		if err := fn(info); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("list %s: %w", prefix, err)
	}
	return nil
}

// Delete removes an object; Crash may bring it back until Sync.
func (b *Backend) Delete(ctx context.Context, name string) error {
	if err := admit(ctx, "delete", name); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.visible, name)
	return nil
}

// Sync makes all that was put or deleted survive Crash.
func (b *Backend) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.durable = maps.Clone(b.visible)
	return nil
}

// Location is "memory".
func (b *Backend) Location() string { return "memory" }

// SingleWriter is "": the map decides between any number of writers.
func (b *Backend) SingleWriter() string { return "" }

// Close does nothing: the objects stay, as they would on a disk.
func (b *Backend) Close() error { return nil }

// Damage replaces an object's bytes, visible and durable, by what change makes
// of a copy of them; nil removes it. It stands for a sick disk, so no rule
// hinders it. A missing object is ErrNotFound.
func (b *Backend) Damage(name string, change func([]byte) []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.visible[name]
	if !ok {
		return fmt.Errorf("damage %s: %w", name, backend.ErrNotFound)
	}
	o.data = change(bytes.Clone(o.data))
	if o.data == nil {
		delete(b.visible, name)
		delete(b.durable, name)
		return nil
	}
	b.visible[name], b.durable[name] = o, o
	return nil
}

// CrashOptions say what a power cut does to what was not synced. The zero value
// loses it all.
type CrashOptions struct {
	// Rand decides for each change that was not synced whether it reached the
	// disk; nil means none did. Equal seeds on equal stores decide equally.
	Rand *rand.Rand
	// Torn lets a new object also survive in part: cut short, or with zeros at
	// its end, as file systems leave data that they had not written yet.
	// Objects that were replaced are old or new, never torn.
	Torn bool
}

// CrashClone returns a store as a power cut at this moment could leave it. The
// old store is untouched, so many outcomes of one moment can be tried.
func (b *Backend) CrashClone(opts CrashOptions) *Backend {
	b.mu.Lock()
	defer b.mu.Unlock()
	after := Open(b.opts)
	after.quota, after.reserve = b.quota, b.reserve
	names := map[string]struct{}{}
	for name := range b.visible {
		names[name] = struct{}{}
	}
	for name := range b.durable {
		names[name] = struct{}{}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		seen, isSeen := b.visible[name]
		kept, isKept := b.durable[name]
		changed := isSeen != isKept || isSeen && !bytes.Equal(seen.data, kept.data)
		if changed && opts.Rand != nil && opts.Rand.IntN(2) == 0 {
			if opts.Torn && !isKept && opts.Rand.IntN(2) == 0 {
				seen.data = tear(seen.data, opts.Rand)
			}
			kept, isKept = seen, isSeen
		}
		if isKept {
			after.visible[name], after.durable[name] = kept, kept
		}
	}
	return after
}

// tear cuts data at a random place, or zeroes it from there.
func tear(data []byte, r *rand.Rand) []byte {
	cut := r.IntN(len(data) + 1)
	if r.IntN(2) == 0 {
		return bytes.Clone(data[:cut])
	}
	torn := bytes.Clone(data)
	clear(torn[cut:])
	return torn
}
