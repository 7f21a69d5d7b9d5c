// Package prune removes what no recovery point needs, while backups run.
//
// A round reads the newest ledger entry, looks at everything that is there,
// follows the map of every live point, and lets package ledger decide. The
// decision becomes the next ledger entry by put-if-absent, and only under an entry
// that is in the ledger is anything deleted (FORMAT.md §9, P1 to P7). A round
// that loses the number starts over; a round that dies at any moment leaves what
// the next one recognizes. Repacking is writing: the pruner opens a session like
// a backup, copies what is still needed of wasteful packs into its own, makes
// that durable, and the next round finds that nobody needs the old packs.
package prune

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/repo/backend"
	"holdfast/repo/catalog"
	"holdfast/repo/index"
	"holdfast/repo/ledger"
	"holdfast/repo/parity"
	"holdfast/repo/prune/shelf"
	"holdfast/repo/record"
	"holdfast/repo/session"
)

var (
	// ErrBlocked: something that live points need cannot be read. Nothing was
	// removed on this word; the report names what it is.
	ErrBlocked = errors.New("nothing may be pruned while something that points need cannot be read")
	// ErrContended: other pruners decided faster, again and again.
	ErrContended = errors.New("other pruners were faster")
)

const (
	roundTries       = 16
	defaultMaxUnused = 0.05
	// DefaultDeadAfter is how long a session elsewhere may be silent.
	DefaultDeadAfter = 24 * time.Hour
)

// Options steer a prune. The zero value works.
type Options struct {
	MaxUnused  *float64        // share of unused data that is left alone; nil: 0.05
	MaxRepack  int64           // bytes to copy at most; 0: as much as it takes
	Reencrypt  bool            // also repack what is sealed by an older key
	DeadAfter  time.Duration   // silence of a session elsewhere; 0: DefaultDeadAfter
	DryRun     bool            // decide and report, change nothing
	Without    []ledger.SID    // of a dry run: as if these points had been forgotten
	Vanished   []ledger.SID    // sessions that are over, though their points are gone: not given up while an operator may bring them back
	Lock       bool            // the place locks objects: lock what is needed for as long again, from now
	Leaving    map[string]bool // of Lock: objects beside those that prune knows which are not to be locked again
	Src        string          // source name of the pruner's own sessions
	Who        session.Options // of the pruner's own sessions; its Locks tell which sessions are dead
	Progress   func(Progress)  // may be nil; called from one goroutine at a time
	packsInRun int             // for tests: entries of a run at most; 0: runEntries
}

// Progress tells how far a prune has come.
type Progress struct {
	Stage       string // listing, marking, repacking, removing
	Done, Total int64  // of the stage, in the stage's own unit
}

// Report is what a prune did, or would do.
type Report struct {
	DryRun         bool           `json:"dry_run"`
	Ledger         uint32         `json:"ledger"` // the newest entry
	Points         int            `json:"points"` // that are kept
	PacksLive      int            `json:"packs_live"`
	BytesLive      int64          `json:"bytes_live"`   // of those packs, as stored
	BytesUnused    int64          `json:"bytes_unused"` // in those packs, estimated by chunks
	PacksRemoved   int            `json:"packs_removed"`
	BytesRemoved   int64          `json:"bytes_removed"`   // of packs
	ObjectsRemoved int            `json:"objects_removed"` // packs included; a dry run counts them alone
	PacksRepacked  int            `json:"packs_repacked"`
	BytesRepacked  int64          `json:"bytes_repacked"` // copied
	PacksWaiting   int            `json:"packs_waiting"`  // condemned, but a session that may need them is open
	BytesWaiting   int64          `json:"bytes_waiting"`
	Open           []OpenSession  `json:"open"`      // sessions that others still write, or that died elsewhere
	Revoked        []string       `json:"revoked"`   // sessions found dead
	Locked         int            `json:"locked"`    // objects that the place refused to delete: their lock has not ended
	Prolonged      int            `json:"prolonged"` // objects whose lock was prolonged
	Blocked        []BlockedBy    `json:"blocked"`
	Warnings       []string       `json:"warnings"`
	Rules          map[string]int `json:"rules"` // how many decisions by rule
}

// OpenSession is a session without a slot.
type OpenSession struct {
	SID    string    `json:"sid"`
	Host   string    `json:"host"`
	Source string    `json:"source"`
	Heard  time.Time `json:"heard"` // its newest record, by the store's clock

	Vanished bool `json:"vanished"` // it has ended: its point was there, and is gone
}

// BlockedBy names an object that keeps prune from deciding.
type BlockedBy struct {
	Object string `json:"object"`
	Why    string `json:"why"`
}

// pruner carries one prune.
type pruner struct {
	c    *catalog.Catalog
	opts Options
	rep  *Report

	slots  shelf.Shelf
	roll   map[uint32]ledger.Packed // as read: whose record has a number never changes
	gone   map[string]bool          // going packs that were asked for and are not there
	locked map[string]bool          // what the place refused to delete, once an object
}

// Run prunes. It returns ErrBlocked with the report when damage keeps it from
// deciding, and the report of what was done so far with any error.
func Run(ctx context.Context, c *catalog.Catalog, opts Options) (*Report, error) {
	if opts.DeadAfter == 0 {
		opts.DeadAfter = DefaultDeadAfter
	}
	if opts.packsInRun == 0 {
		opts.packsInRun = runEntries
	}
	p := &pruner{c: c, opts: opts, roll: map[uint32]ledger.Packed{}, gone: map[string]bool{}, locked: map[string]bool{}, rep: &Report{
		DryRun: opts.DryRun, Open: []OpenSession{}, Revoked: []string{}, Blocked: []BlockedBy{}, Warnings: []string{}, Rules: map[string]int{},
	}}
	err := p.c.WithReserve(ctx, p.run)
	return p.rep, err
}

// run makes rounds; then, if it pays, a repack and the rounds that let the old
// packs go.
func (p *pruner) run(ctx context.Context) error {
	r, err := p.rounds(ctx)
	if err != nil {
		return err
	}
	defer func() { r.close() }()
	chosen := r.chooseRepack()
	if p.opts.DryRun {
		p.rep.PacksRepacked, p.rep.BytesRepacked = len(chosen.packs), chosen.copy
		p.rep.PacksRemoved += len(chosen.packs) // once their live part is copied
		for _, name := range chosen.packs {
			p.rep.BytesRemoved += r.bytes[name]
		}
		p.rep.ObjectsRemoved = p.rep.PacksRemoved
		return nil
	}
	if len(chosen.packs) > 0 {
		if err := r.repack(ctx, chosen); err != nil {
			if !errors.Is(err, backend.ErrNoSpace) {
				return fmt.Errorf("repack: %w", err)
			}
			p.rep.Warnings = append(p.rep.Warnings, "there is no room to repack: only whole packs were removed; with some space free, or with --max-repack below it, prune again")
		}
		r.close()
		r = nil // what it has listed makes room for what the next one lists
		if r, err = p.rounds(ctx); err != nil {
			return err
		}
	}
	if err := r.keepSpares(ctx); err != nil {
		return err
	}
	return r.prolong(ctx)
}

// roundsMost is how many rounds in a row can be of use: one condemns, one lets
// go and writes the runs, one collects what the second one left, and one more
// for what others did meanwhile.
const roundsMost = 4

// rounds makes rounds until one more would change nothing. With sessions open
// that is soon; without any, what was condemned goes in the same run.
func (p *pruner) rounds(ctx context.Context) (*round, error) {
	for n := 1; ; n++ {
		r, err := p.round(ctx)
		if err != nil || p.opts.DryRun || n == roundsMost || !r.pending() {
			return r, err
		}
		r.close()
	}
}

// round decides and removes, until its entry is the ledger's.
func (p *pruner) round(ctx context.Context) (*round, error) {
	for range roundTries {
		r, err := p.tryRound(ctx)
		switch {
		case errors.Is(err, errAgain), errors.Is(err, index.ErrCorrupt):
			// Somebody was faster, a session was revoked, or a file of the local
			// index was damaged: look at the world anew.
			r.close()
			if err := p.c.Refresh(ctx); err != nil {
				return nil, err
			}
			continue
		case err != nil:
			r.close()
			return r, err
		}
		return r, nil
	}
	return nil, ErrContended
}

var errAgain = errors.New("the round starts over")

func (p *pruner) tryRound(ctx context.Context) (*round, error) {
	r := &round{pruner: p}
	for _, step := range []func(context.Context) error{r.look, r.revokeGone, r.mark, r.decide} {
		if err := step(ctx); err != nil {
			return r, err
		}
	}
	if len(r.survey.Blocked) > 0 {
		if err := r.overtaken(ctx); err != nil {
			return r, err
		}
	}
	r.report(ctx)
	if len(r.survey.Blocked) == 0 {
		if err := r.plan.Next.CheckSize(); err != nil {
			return r, err // before anything is written for it
		}
	}
	if p.opts.DryRun || len(r.survey.Blocked) > 0 {
		return r, r.blocked()
	}
	before := r.view
	wrote, err := r.write(ctx)
	if err != nil {
		return r, err
	}
	if err := r.remove(ctx); err != nil {
		return r, err
	}
	if !wrote {
		return r, nil
	}
	return r, r.revokeSilent(ctx, before)
}

// overtaken is errAgain if what the round could not read may have been removed
// beside it, by a pruner that forgot what this round took for live: then the
// ledger has moved, or a segment is not there any more; or if a listing was
// behind. What still blocks then is damage.
func (r *round) overtaken(ctx context.Context) error {
	view, err := r.c.ReadLedger(ctx)
	if err != nil {
		return err
	}
	if view.Number != r.view.Number {
		return errAgain
	}
	for _, name := range r.missing {
		there, err := r.c.Has(ctx, name)
		if err != nil {
			return err
		}
		if !there {
			return errAgain
		}
	}
	return r.unseen(ctx)
}

// unseen is errAgain if sessions have segments that no listing has shown: what they
// list may be all that was missing. Only what a name does not lead to is damage.
func (r *round) unseen(ctx context.Context) error {
	var young ledger.Pile
	for _, e := range r.listing.Roll {
		if e.SID.Gen() >= r.view.Entry.Horizon {
			young = append(young, e.SID)
		}
	}
	found, err := r.c.Reveal(ctx, young)
	if err != nil {
		return err
	}
	if found > 0 {
		r.c.Log.Warn("a listing is behind: it does not show all of the index", "segments", found)
		return errAgain
	}
	return nil
}

func (r *round) blocked() error {
	if len(r.survey.Blocked) == 0 {
		return nil
	}
	first := r.survey.Blocked[0]
	return fmt.Errorf("%s: %s: %w", first.Object, first.Why, ErrBlocked)
}

// write makes the decision the ledger's, and reports whether there was anything
// to write.
func (r *round) write(ctx context.Context) (bool, error) {
	if err := r.writeRuns(ctx); err != nil {
		return false, err
	}
	r.wroteRuns = len(r.plan.Run) > 0
	if !r.plan.Changed && !r.mustWrite() {
		return false, nil
	}
	number := r.view.Number + 1
	payload, err := r.plan.Next.Payload()
	if err != nil {
		return false, err
	}
	err = r.c.WritePayload(ctx, ledger.LedgerName(number), parity.Ledger, payload)
	if record.IsTaken(err) {
		return false, errAgain
	}
	if err != nil {
		return false, fmt.Errorf("write ledger %d: %w", number, err)
	}
	view, err := ledger.NewView(number, r.plan.Next)
	if err != nil {
		return false, err
	}
	r.c.SetView(view)
	r.view, r.rep.Ledger = view, number
	return true, nil
}

// mustWrite: an entry that says nothing new is still worth its number when a
// silent session waits to be judged (the entry's time is the store's clock), or
// when packs of this very generation are to be repacked (a copy must be younger).
func (r *round) mustWrite() bool {
	for _, open := range r.plan.Next.Open {
		for _, old := range r.view.Entry.Open {
			if open == old {
				return true
			}
		}
	}
	if r.pending() {
		return true
	}
	for _, name := range r.chooseRepack().packs {
		if owner, _, err := ledger.ParsePack(name); err == nil && !ledger.MayRepack(owner, r.view.Number) {
			return true
		}
	}
	return false
}
