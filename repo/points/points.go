// Package points lists, finds, labels and forgets recovery points. A point exists
// when its slot holds a manifest that no tombstone and no ledger entry has made
// void (FORMAT.md §2, §9); everything here follows from those four.
package points

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/backend"
	"holdfast/repo/blob"
	"holdfast/repo/catalog"
	"holdfast/repo/ledger"
	"holdfast/repo/parity"
	"holdfast/repo/record"
	"holdfast/repo/recovery"
	"holdfast/repo/seal"
)

const (
	readsAtOnce = 8
	labelTries  = 16
)

// Entry is a point with what was said of it later.
type Entry struct {
	*recovery.Point
	Pinned bool
	hash   blob.ID // of its manifest
	label  int     // number of the label that counts, -1 for none
	sid    ledger.SID
}

// Hash is the hash of the point's manifest, which the next point of the source
// carries as Previous.
func (e Entry) Hash() string { return hex.EncodeToString(e.hash[:]) }

// Session is the session that made the point.
func (e Entry) Session() ledger.SID { return e.sid }

// HashOf is the Hash of the point of a session, forgotten or not; "" if its slot is gone,
// holds none, or cannot be read.
func HashOf(ctx context.Context, c *catalog.Catalog, sid ledger.SID) (string, error) {
	e, err := readPoint(ctx, c, sid, nil)
	switch {
	case e != nil:
		return e.Hash(), nil
	case errors.Is(err, backend.ErrUnreachable) || ctx.Err() != nil:
		return "", err
	}
	return "", nil
}

// HashManifest is the value that the source's next point carries as Previous.
func HashManifest(keys *seal.Keys, manifest []byte) string {
	id := keys.ID(blob.Record, manifest)
	return hex.EncodeToString(id[:])
}

// Unreadable is a point that exists but whose manifest, or label, cannot be
// read. It is never left out silently: every listing names it. A point of which
// only the label is lost is listed all the same, as pinned.
type Unreadable struct {
	ID     string
	Object string // the manifest or the label
	Err    error
}

// Session is the session that made the point; ErrName of package ledger if it is
// the label that cannot be read.
func (e *Unreadable) Session() (ledger.SID, error) { return ledger.ParseSlot(e.Object) }

// Error names the object once: those who open it each put its name before.
func (e *Unreadable) Error() string {
	text, opened := e.Err.Error(), "open "+e.Object+": "
	for strings.HasPrefix(text, opened+opened) {
		text = text[len(opened):]
	}
	return fmt.Sprintf("point %s: %s", e.ID, text)
}
func (e *Unreadable) Unwrap() error { return e.Err }

// All reads all points that exist, oldest first, and names those that
// cannot be read.
func All(ctx context.Context, c *catalog.Catalog) ([]Entry, []*Unreadable, error) {
	return Of(ctx, c, "")
}

// Of reads the points of one source, or of all if src is empty. Memory: about a
// kilobyte a point, and what its driver noted of it; whoever needs less of many
// uses Each.
func Of(ctx context.Context, c *catalog.Catalog, src string) ([]Entry, []*Unreadable, error) {
	var entries []Entry
	problems, err := Each(ctx, c, src, func(e Entry) error {
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	sortEntries(entries)
	return entries, problems, nil
}

// Each reads the points of one source, or of all if src is empty, and gives each
// to fn, one at a time and in no order. The entry is fn's own. fn's error ends it
// and is returned as it is.
func Each(ctx context.Context, c *catalog.Catalog, src string, fn func(Entry) error) ([]*Unreadable, error) {
	look, err := survey(ctx, c, src)
	if err != nil {
		return nil, err
	}
	known := newWords()
	return look.each(ctx, c, func(e Entry) error {
		known.share(&e)
		return fn(e)
	})
}

// each reads what the listing found.
func (look there) each(ctx context.Context, c *catalog.Catalog, fn func(Entry) error) ([]*Unreadable, error) {
	var (
		mu       sync.Mutex
		problems []*Unreadable
	)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsAtOnce)
	for _, packed := range look.slots {
		group.Go(func() error {
			sid := packed.SID()
			entry, err := readPoint(ctx, c, sid, look.labels)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if errors.Is(err, backend.ErrUnreachable) {
				return err // says nothing of the point
			}
			if entry != nil && look.hidden.Has(packed) {
				if forgotten, err := c.Has(ctx, ledger.ForgetName(sid)); err != nil || forgotten {
					return err
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil && !record.IsGone(err) { // else: pruned meanwhile
				object := ledger.CommitName(sid)
				if entry != nil {
					object = ledger.LabelName(sid, entry.label)
				}
				problems = append(problems, &Unreadable{ID: sid.Rand, Object: object, Err: err})
			}
			if entry == nil {
				return nil
			}
			return fn(*entry)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	sort.Slice(problems, func(a, b int) bool { return problems[a].ID < problems[b].ID })
	return problems, nil
}

// there is what a listing finds: slots that may hold points, in their order, and
// labels, by the highest number of each point.
type there struct {
	slots     ledger.Pile
	labels    map[ledger.Packed]int
	forgotten ledger.Pile // of which a tombstone is listed
	hidden    ledger.Pile // of slots: those that no listing shows, found otherwise
}

func survey(ctx context.Context, c *catalog.Catalog, src string) (there, error) {
	if src != "" {
		src += "/"
	}
	// Slots before tombstones: a point forgotten in between is seen as forgotten.
	slots, err := Sessions(ctx, c, ledger.Commits+src)
	if err != nil {
		return there{}, err
	}
	forgotten, err := Sessions(ctx, c, ledger.Forgets+src)
	if err != nil {
		return there{}, err
	}
	// And the ledger last: a tombstone is collected only after the entry that
	// makes its point void.
	if err := c.LookLedger(ctx); err != nil {
		return there{}, err
	}
	found := there{forgotten: forgotten}
	if found.labels, err = newestLabels(ctx, c, src); err != nil {
		return there{}, err
	}
	view := c.View()
	found.slots = slices.DeleteFunc(slots, func(p ledger.Packed) bool { return forgotten.Has(p) || view.IsVoid(p.SID()) })
	return found, nil
}

// Sessions lists the sessions of which there is an object PREFIX/SRC/SID: 20 bytes
// each.
func Sessions(ctx context.Context, c *catalog.Catalog, prefix string) (ledger.Pile, error) {
	var found ledger.Pile
	err := c.Backend.List(ctx, prefix, func(info backend.Info) error {
		if sid, err := ledger.ParseSlot(info.Name); err == nil {
			found.Add(sid)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", prefix, err)
	}
	found.Sort()
	return found, meet(ctx, c, prefix, found)
}

// meet tells the catalog of sessions that are news to it (Catalog.Meet). Tombstones and
// confirmations tell nothing: they may be written at any time, of any session.
func meet(ctx context.Context, c *catalog.Catalog, prefix string, found ledger.Pile) error {
	if !strings.HasPrefix(prefix, ledger.Commits) {
		return nil
	}
	for _, p := range slices.Backward(found) { // the latest first
		if p.Gen() <= c.View().Number {
			return nil
		}
		if err := c.Meet(ctx, parity.Commit, ledger.CommitName(p.SID()), p.SID()); err != nil {
			return err
		}
	}
	return nil
}

// Named is All for whoever must not miss a point that listings hide: the slots of
// the points that the ledger names and of these sessions (Catalog.Young) are asked
// for by name. It costs one question for each session without a point.
func Named(ctx context.Context, c *catalog.Catalog, young ledger.Pile) ([]Entry, []*Unreadable, error) {
	look, err := survey(ctx, c, "")
	if err != nil {
		return nil, nil, err
	}
	view := c.View()
	for _, sid := range slices.Concat(young, view.Entry.Points) {
		if !look.slots.Has(sid) && !look.forgotten.Has(sid) && !view.Voids(sid) {
			look.hidden = append(look.hidden, sid)
		}
	}
	look.hidden.Sort()
	look.slots = append(look.slots, look.hidden...)
	look.slots.Sort()
	var entries []Entry
	known := newWords()
	problems, err := look.each(ctx, c, func(e Entry) error {
		known.share(&e)
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	sortEntries(entries)
	return entries, problems, nil
}

// sortEntries orders by time; equal times by session, so that the order is the
// same everywhere.
func sortEntries(entries []Entry) {
	sort.Slice(entries, func(a, b int) bool {
		x, y := entries[a], entries[b]
		if !x.Time.Equal(y.Time) {
			return x.Time.Before(y.Time)
		}
		return x.SID < y.SID
	})
}

// newestLabels finds the highest label number of each point.
func newestLabels(ctx context.Context, c *catalog.Catalog, src string) (map[ledger.Packed]int, error) {
	newest := map[ledger.Packed]int{}
	err := c.Backend.List(ctx, ledger.Labels+src, func(info backend.Info) error {
		if sid, n, err := ledger.ParseNumbered(info.Name); err == nil {
			if old, ok := newest[sid.Pack()]; !ok || n > old {
				newest[sid.Pack()] = n
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", ledger.Labels+src, err)
	}
	return newest, nil
}

// readPoint reads one slot and its label; nil without an error is a revocation.
// An entry with an error is a point whose label cannot be read: nobody is kept
// from his data by a tag, and what may have been pinned counts as pinned.
func readPoint(ctx context.Context, c *catalog.Catalog, sid ledger.SID, labels map[ledger.Packed]int) (*Entry, error) {
	payload, err := c.Read(ctx, ledger.CommitName(sid), parity.Commit)
	if err != nil {
		return nil, err
	}
	slot, err := ledger.Decode[ledger.Slot](payload)
	if err != nil || slot.Revoked != nil {
		return nil, err
	}
	p := new(recovery.Point)
	if err := json.Unmarshal(slot.Point, p); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if p.SID != sid.String() || p.ID != sid.Rand {
		return nil, fmt.Errorf("read manifest: it says it is %s: %w", p.SID, ledger.ErrName)
	}
	entry := &Entry{Point: p, hash: c.Keys.ID(blob.Record, slot.Point), label: -1, sid: sid}
	n, ok := labels[sid.Pack()]
	if !ok {
		return entry, nil
	}
	entry.label, entry.Pinned = n, true
	payload, err = c.Read(ctx, ledger.LabelName(sid, n), parity.Label)
	if err != nil {
		return entry, err
	}
	label, err := ledger.Decode[ledger.Label](payload)
	if err != nil {
		return entry, err
	}
	entry.Tags, entry.Pinned = label.Tags, label.Pinned
	return entry, nil
}

// Briefs is All without what only a restore needs: some 130 bytes a point while it
// reads, 72 when it is done.
func Briefs(ctx context.Context, c *catalog.Catalog) ([]recovery.Brief, []*Unreadable, error) {
	look, err := survey(ctx, c, "")
	if err != nil {
		return nil, nil, err
	}
	var briefer recovery.Briefer
	briefs := make([]recovery.Brief, 0, len(look.slots))
	problems, err := look.each(ctx, c, func(e Entry) error {
		briefs = append(briefs, briefer.Brief(e.Point, e.Pinned))
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	recovery.SortBriefs(briefs)
	return briefs, problems, nil
}

// Find resolves what an operator typed (recovery.Find) among all points. Of the
// others it holds nothing but what they are found by.
func Find(ctx context.Context, c *catalog.Catalog, spec string) (Entry, error) {
	briefs, problems, err := Briefs(ctx, c)
	if err != nil {
		return Entry{}, err
	}
	b, err := recovery.Find(briefs, spec)
	for _, problem := range problems {
		c.Log.Warn("point cannot be read", "point", problem.ID, "error", problem.Err)
		fits := len(spec) >= 4 && strings.HasPrefix(problem.ID, strings.ToLower(spec))
		switch {
		case !fits || err == nil && b.ID() == problem.ID:
		case err == nil:
			return Entry{}, fmt.Errorf("%q fits %s, and %s which cannot be read: %w", spec, b.ID(), problem.ID, recovery.ErrAmbiguous)
		default:
			return Entry{}, problem
		}
	}
	if err != nil {
		return Entry{}, err
	}
	return Whole(ctx, c, *b)
}

// Whole reads a point of which a brief tells. That it was forgotten since is
// recovery.ErrUnknown or backend.ErrNotFound.
func Whole(ctx context.Context, c *catalog.Catalog, b recovery.Brief) (Entry, error) {
	sid, err := ledger.ParseSID(b.SID())
	if err != nil {
		return Entry{}, err
	}
	labels, err := newestLabels(ctx, c, below(sid))
	if err != nil {
		return Entry{}, err
	}
	again, err := readPoint(ctx, c, sid, labels)
	if again != nil {
		return *again, nil // a label that cannot be read was reported before
	}
	if err == nil {
		err = recovery.ErrUnknown
	}
	return Entry{}, fmt.Errorf("read point %s: %w", b.ID(), err)
}

// below is what the names of a point's labels begin with, after their prefix.
func below(sid ledger.SID) string { return sid.Src + "/" + sid.String() + "/" }

// SetLabel changes tags and pin of a point. If another writer was faster, the
// change is applied to what that one wrote.
func SetLabel(ctx context.Context, c *catalog.Catalog, e Entry, change func(*ledger.Label)) error {
	for range labelTries {
		label := ledger.Label{Version: ledger.Version, Tags: slices.Clone(e.Tags), Pinned: e.Pinned}
		change(&label)
		err := c.Write(ctx, ledger.LabelName(e.sid, e.label+1), parity.Label, label)
		if err == nil {
			return nil
		}
		if !record.IsTaken(err) {
			return err
		}
		labels, err := newestLabels(ctx, c, below(e.sid))
		if err != nil {
			return err
		}
		again, err := readPoint(ctx, c, e.sid, labels)
		if err != nil {
			return err
		}
		e = *again
	}
	return errors.New("set label: others write too fast")
}

// LabelFirst writes the first label of a point whose slot is yet to be written: a
// point that must be pinned is never seen without its pin. The label of a session
// that makes no point goes with it.
func LabelFirst(ctx context.Context, c *catalog.Catalog, sid ledger.SID, label ledger.Label) error {
	label.Version = ledger.Version
	if err := c.Write(ctx, ledger.LabelName(sid, 0), parity.Label, label); err != nil {
		return fmt.Errorf("label point %s: %w", sid.Rand, err)
	}
	return nil
}

// LastMade is the point that was made last, by the chain of manifests: the one
// that no other names as the one before. A point's time cannot tell, for it may
// be what an operator says it is. Several ends (two machines at once) are told
// apart by ledger generation and the time they were finished.
func LastMade(points []Entry) *Entry {
	followed := map[string]bool{}
	for _, e := range points {
		followed[e.Previous] = true
	}
	var last *Entry
	for i := range points {
		e := &points[i]
		if followed[e.Hash()] {
			continue
		}
		if last == nil || e.sid.Gen > last.sid.Gen || e.sid.Gen == last.sid.Gen && e.Finished.After(last.Finished) {
			last = e
		}
	}
	return last
}

// Forget writes the point's tombstone. That it is there already is no error.
func Forget(ctx context.Context, c *catalog.Catalog, e Entry, reason string) error {
	return forget(ctx, c, e.sid, reason)
}

// ForgetBrief is Forget for a point of which there is a brief alone.
func ForgetBrief(ctx context.Context, c *catalog.Catalog, b recovery.Brief, reason string) error {
	sid, err := ledger.ParseSID(b.SID())
	if err != nil {
		return fmt.Errorf("forget point %s: %w", b.ID(), err)
	}
	return forget(ctx, c, sid, reason)
}

// ForgetLost is Forget for a point whose manifest cannot be read.
func ForgetLost(ctx context.Context, c *catalog.Catalog, e *Unreadable, reason string) error {
	sid, err := e.Session()
	if err != nil {
		return fmt.Errorf("forget point %s: its manifest is not what cannot be read: %w", e.ID, err)
	}
	return forget(ctx, c, sid, reason)
}

func forget(ctx context.Context, c *catalog.Catalog, sid ledger.SID, reason string) error {
	tombstone := ledger.Forget{Version: ledger.Version, Time: c.Now(), Reason: reason}
	err := c.WithReserve(ctx, func(ctx context.Context) error {
		return c.Write(ctx, ledger.ForgetName(sid), parity.Forget, tombstone)
	})
	if err != nil && !record.IsTaken(err) {
		return fmt.Errorf("forget point %s: %w", sid.Rand, err)
	}
	return nil
}
