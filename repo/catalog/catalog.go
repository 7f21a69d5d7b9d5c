// Package catalog is what one process knows of a repository: the newest ledger
// entry, the index of chunks, and the way to load them. It is brought up to date
// by Refresh; what it does not know yet is found, what it knows too much of is
// noticed (FORMAT.md §8, §9).
package catalog

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"holdfast/repo/index"
	"holdfast/repo/ledger"
	"holdfast/repo/load"
	"holdfast/repo/parity"
	"holdfast/repo/record"
)

// Catalog may be used from many goroutines.
type Catalog struct {
	*record.Store
	Index *index.Local
	Load  *load.Loader

	mu      sync.Mutex
	view    *ledger.View
	roll    uint32                   // a number of the roll below which all are known to have been taken
	unread  bool                     // the newest entry is damaged; view is what readers go by
	proof   proof                    // of the latest entry that was there
	listed  []string                 // segments of the last Refresh
	hidden  []string                 // segments that Reveal has found, which a listing may hide
	young   map[uint32]ledger.Packed // the roll as Young has read it: who has a number never changes
	damaged error                    // what the last Refresh could not take in
}

// Open makes the catalog of a repository, with the local index in dir ("" keeps
// it in memory), and brings it up to date.
func Open(ctx context.Context, s *record.Store, dir string) (*Catalog, error) {
	local, err := index.OpenLocal(dir, index.LocalOptions{Logger: s.Log})
	if err != nil && dir != "" {
		s.Log.Warn("the cache cannot be used; the index stays in memory", "error", err)
		local, err = index.OpenLocal("", index.LocalOptions{Logger: s.Log})
	}
	if err != nil {
		return nil, fmt.Errorf("open local index: %w", err)
	}
	c := &Catalog{Store: s, Index: local}
	c.Load = &load.Loader{Backend: s.Backend, Keys: s.Keys, Index: local, Refresh: c.Refresh, Healed: s.NoteHealed, Follow: s.Follow}
	c.Load.Ledger = func() uint32 { return c.View().Number }
	c.Load.Unlisted, c.Load.Lacking = c.unlisted, c.lacking
	if err := c.Refresh(ctx); err != nil {
		return nil, errors.Join(err, local.Close())
	}
	return c, nil
}

// Dir is the folder of a repository's local index below a cache folder.
func Dir(cache, repository string) string {
	if cache == "" {
		return ""
	}
	return filepath.Join(cache, repository)
}

// Close releases the index.
func (c *Catalog) Close() error { return c.Index.Close() }

// Refresh reads the newest ledger entry and then the list of segments. What a
// lost segment listed is simply not found: the read that needs it fails by name,
// check reports it, and a repair of the index brings it back. Damage tells.
func (c *Catalog) Refresh(ctx context.Context) error {
	if err := c.LookLedger(ctx); err != nil {
		return err
	}
	names, err := c.segments(ctx)
	if err != nil {
		return err
	}
	err = c.Index.Refresh(ctx, names, c.fetchSegment)
	if err != nil && !onlySegments(err) {
		return fmt.Errorf("refresh index: %w", err)
	}
	if err != nil {
		c.Log.Warn("index is incomplete", "error", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listed, c.damaged = names, err
	return nil
}

// Damage is what the last Refresh could not take in, or nil.
func (c *Catalog) Damage() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.damaged
}

// onlySegments reports whether err is nothing but lost segments of which the
// place of storage gave a definite answer.
func onlySegments(err error) bool {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		var one *index.SegmentError
		return errors.As(err, &one) && record.IsDefinite(one.Err)
	}
	for _, e := range joined.Unwrap() {
		var one *index.SegmentError
		if !errors.As(e, &one) || !record.IsDefinite(one.Err) {
			return false
		}
	}
	return true
}

// ReadLedger finds and reads the newest ledger entry, whatever listings say. That it is
// lost, or that a later one must have been there, is ErrLedger.
func (c *Catalog) ReadLedger(ctx context.Context) (*ledger.View, error) {
	c.mu.Lock()
	known, unread, proof := c.view, c.unread, c.proof // which was met before anything is asked below
	c.mu.Unlock()
	if unread {
		known = nil
	}
	newest, err := c.newestLedger(ctx, known, proof)
	if err != nil {
		return nil, err
	}
	if known != nil && known.Number >= newest {
		return known, proof.outlives(known.Number)
	}
	entry, err := record.ReadAs[ledger.Entry](ctx, c.Store, ledger.LedgerName(newest), parity.Ledger)
	if err != nil {
		if record.IsDefinite(err) {
			return nil, fmt.Errorf("%w: %w", ErrLedger, err)
		}
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	view, err := ledger.NewView(newest, entry)
	if err != nil {
		return nil, err
	}
	c.SetView(view)
	return view, proof.outlives(newest)
}

// SetView takes over an entry that is known to be in the ledger. An older one
// than is known changes nothing.
func (c *Catalog) SetView(view *ledger.View) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.view == nil || c.unread || view.Number > c.view.Number {
		c.view, c.unread = view, false
	}
}

// LookLedger is ReadLedger for readers. A ledger that is damaged beyond its
// parity keeps no point from being restored: then no session counts as void and
// no pack as condemned. Writers use ReadLedger, and refuse.
func (c *Catalog) LookLedger(ctx context.Context) error {
	_, err := c.ReadLedger(ctx)
	if err == nil || !record.IsDefinite(err) {
		return err
	}
	c.Log.Warn("the ledger cannot be read; points that were given up may be listed", "error", err)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.view == nil {
		c.view, err = ledger.NewView(0, &ledger.Entry{Version: ledger.Version})
		c.unread = true
		return err
	}
	return nil
}

// View is the newest ledger entry read so far.
func (c *Catalog) View() *ledger.View {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view
}

// MayBeGone returns a function that tells, of the ledger and the index as they
// are now, whether a prune may have removed a pack that a segment still lists:
// the ledger has condemned it, or it is of a session below the horizon and no run
// lists it. No writer reuses such a pack.
func (c *Catalog) MayBeGone() func(index.Pack) bool {
	view := c.View()
	inRun := c.Index.InSegments(view.Runs())
	return func(p index.Pack) bool {
		owner, err := ledger.ParseSID(p.SID)
		return err == nil && !view.MayReuse(p.Name(), owner, owner.Gen < view.Entry.Horizon && inRun(p))
	}
}
