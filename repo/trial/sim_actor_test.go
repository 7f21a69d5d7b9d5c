package trial_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/retry"
	"holdfast/repo/backend/sim"
	"holdfast/repo/blob"
	"holdfast/repo/image"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/recovery"
	"holdfast/repo/stream"
)

// actor is one machine that does one kind of work, in one process after the other.
type actor struct {
	*storm
	ctx    context.Context
	name   string
	number uint64
	rng    *rand.Rand
	locks  *stormLocks // of its host; nil: another system's

	runs   int
	client *sim.Client
	be     backend.Backend
	r      *repo.Repository
}

// process begins a new one: nothing is remembered.
func (a *actor) process(do func() error) {
	a.runs++
	a.client = a.w.Client(fmt.Sprintf("%s.%d", a.name, a.runs), true)
	defer a.client.Exit()
	a.client.Mislead(a.plan.stale)
	a.be = a.client
	if a.plan.retry {
		a.be = retry.New(a.client, retry.Options{Attempts: 3, BusyAttempts: 3, Rand: func() float64 { return 0.5 }})
	}
	err := a.open()
	if err == nil {
		err = do()
	}
	if err != nil && !a.excused(err) {
		a.fail(fmt.Errorf("%s.%d: %w", a.name, a.runs, err))
	}
	if a.r != nil {
		_ = a.r.Close() // in memory
	}
}

func (a *actor) open() (err error) {
	a.r, err = repo.Open(a.ctx, a.be, a.secret, a.options(a.client, a.number<<16|uint64(a.runs), a.locks))
	if err != nil {
		a.r = nil
		return fmt.Errorf("open: %w", err)
	}
	return nil
}

// excused reports whether an error is no more than the store's unreliability,
// honestly told.
func (a *actor) excused(err error) bool {
	if errors.Is(err, errWrongBytes) || errors.Is(err, errBroken) {
		return false
	}
	if a.client.Dead() || a.plan.lies() {
		a.model.note("errors of dead or deceived")
		return true
	}
	for _, target := range []error{sim.ErrInjected, sim.ErrKilled, context.DeadlineExceeded, repo.ErrPruneContended} {
		if errors.Is(err, target) {
			return true
		}
	}
	if a.deceived() {
		for _, target := range []error{repo.ErrMissing, pack.ErrDamaged, repo.ErrPruneBlocked} {
			if errors.Is(err, target) {
				a.model.note("lying listings that were noticed")
				return true // loud, and the next look may be better
			}
		}
	}
	// A rotten byte makes an object differ from what its writer sends again.
	return a.plan.faults.Rot > 0 && errors.Is(err, backend.ErrExists)
}

// deceived: listings may lie.
func (a *actor) deceived() bool { return a.plan.stale > 0 }

// errBroken marks a promise that was not kept, whatever the store did.
var errBroken = errors.New("promise broken")

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errBroken, fmt.Errorf(format, args...))
}

// draw makes content: new, or a change of what is there.
func (a *actor) draw(from stormDisk) stormDisk {
	d := stormDisk{chunks: maps.Clone(from.chunks), text: fmt.Sprintf("text %d", a.rng.IntN(6))}
	if d.chunks == nil {
		d.chunks = map[int64]int{}
	}
	for range 1 + a.rng.IntN(4) {
		at := int64(a.rng.IntN(3) + 128*a.rng.IntN(2))
		if a.rng.IntN(6) == 0 {
			delete(d.chunks, at)
		} else {
			d.chunks[at] = a.rng.IntN(a.plan.pool)
		}
	}
	return d
}

// backup makes a point.
func (a *actor) backup() error {
	source := fmt.Sprintf("image/%d", a.rng.IntN(a.plan.sources))
	want := a.model.expect()
	s, err := a.r.Begin(a.ctx, source, source)
	if errors.Is(err, repo.ErrSessionLost) {
		a.model.note("begins given up")
		return nil
	}
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if from := s.Parent(); from != nil && want.never[from.ID] {
		return broken("the parent %s was forgotten or lost before the backup began", from.SID)
	}
	sid := s.SID()
	d, p, err := a.store(s, source)
	if err != nil || a.rng.IntN(12) == 0 {
		if err != nil && !errors.Is(err, errBroken) && a.w.Had(ledger.CommitName(sid)) {
			err = nil // it was revoked meanwhile: nobody waits for it
		}
		s.Abort()
		a.model.note("sessions aborted")
		return err
	}
	point := a.model.propose(s.ID(), sid.String(), d)
	err = s.Commit(a.ctx, p)
	switch {
	case err == nil:
		a.model.tell(func() { point.kept = true })
		a.model.note("points committed")
		return nil
	case errors.Is(err, repo.ErrSessionLost):
		a.model.tell(func() { point.lost = true })
		a.model.note("points lost")
		err = nil
	default:
		a.model.note("points unsure")
	}
	s.Abort()
	return err
}

// store puts a point's content, now and then with a flush or a long pause between.
func (a *actor) store(s *repo.Session, source string) (d stormDisk, p *recovery.Point, err error) {
	var parent *image.Map
	if from := s.Parent(); from != nil && a.rng.IntN(100) < a.plan.follow {
		old, known := a.model.get(from.ID)
		if !known {
			return d, nil, broken("parent %s is no point", from.ID)
		}
		d, parent = a.draw(old.stormDisk), from.Items[0].Disk
		m, err := a.disk(s, d, old.stormDisk, parent)
		if err != nil {
			return d, nil, err
		}
		return a.rest(s, source, d, m)
	}
	d = a.draw(stormDisk{})
	m, err := a.disk(s, d, stormDisk{}, nil)
	if err != nil {
		return d, nil, err
	}
	return a.rest(s, source, d, m)
}

// disk stores what differs from the parent.
func (a *actor) disk(s *repo.Session, d, old stormDisk, parent *image.Map) (m image.Map, err error) {
	b, err := image.NewBuilder(s, a.r, parent, stormChunks*stormChunk, stormChunk)
	if err != nil {
		return m, err
	}
	for at := range int64(stormChunks) {
		n, has := d.chunks[at]
		was, had := old.chunks[at]
		if has == had && n == was && (parent != nil || !has) {
			continue
		}
		id := blob.ID{}
		if has {
			if id, err = s.Put(a.ctx, blob.DiskChunk, stormPlain()[n]); err != nil {
				return m, err
			}
		}
		if err := b.Set(a.ctx, at, id); err != nil {
			return m, err
		}
		if err := a.dawdle(s); err != nil {
			return m, err
		}
	}
	return b.Finish(a.ctx)
}

// dawdle is what takes time in a backup.
func (a *actor) dawdle(s *repo.Session) error {
	if a.rng.IntN(100) >= a.plan.dawdle {
		return nil
	}
	switch a.rng.IntN(4) {
	case 0:
		time.Sleep(time.Duration(a.rng.IntN(30)) * time.Hour)
	case 1:
		time.Sleep(time.Duration(a.rng.IntN(120)) * time.Second)
	default:
		return s.Flush(a.ctx)
	}
	return nil
}

// uncut is a stream of one chunk.
type uncut struct{ text string }

func (u *uncut) Next() ([]byte, error) {
	text := u.text
	if u.text = ""; text == "" {
		return nil, io.EOF
	}
	return []byte(text), nil
}

func (a *actor) rest(s *repo.Session, source string, d stormDisk, m image.Map) (stormDisk, *recovery.Point, error) {
	st, err := stream.Write(a.ctx, s, &uncut{text: d.text}, stream.Options{})
	if err != nil {
		return d, nil, err
	}
	now := a.client.Now()
	return d, &recovery.Point{
		Kind: recovery.Image, Source: source, Identity: source, Time: now, Finished: now, BytesTotal: m.Bytes,
		Items: []recovery.Item{{Name: "disk-0", Bytes: m.Bytes, Disk: &m}, {Name: "text", Bytes: st.Bytes, Stream: &st}},
	}, nil
}

// list reads the points and holds them against the model.
func (a *actor) list() ([]repo.Entry, error) {
	want := a.model.expect()
	points, problems, err := a.r.Points(a.ctx)
	if err != nil {
		return nil, fmt.Errorf("list points: %w", err)
	}
	if len(problems) > 0 {
		if a.plan.lies() {
			return nil, problems[0]
		}
		return nil, broken("%v", problems[0])
	}
	if err := a.model.wantListed(want, points); err != nil {
		if a.deceived() {
			a.model.note("listings that lied")
			return points, nil
		}
		return nil, broken("%w", err)
	}
	return points, nil
}

// restore brings some point back. That it was forgotten meanwhile is an excuse.
func (a *actor) restore() error {
	points, err := a.list()
	if err != nil || len(points) == 0 {
		return err
	}
	p := points[a.rng.IntN(len(points))]
	want, _ := a.model.get(p.ID)
	err = readStorm(a.ctx, a.r, p.Point, want.stormDisk)
	if now, _ := a.model.get(p.ID); err != nil && !errors.Is(err, errWrongBytes) && now.forgotten {
		a.model.note("restores of forgotten points failed")
		return nil
	}
	if err != nil {
		return fmt.Errorf("restore %s: %w", p.SID, err)
	}
	a.model.note("points restored")
	return nil
}

// forget drops some of the points.
func (a *actor) forget() error {
	points, err := a.list()
	if err != nil {
		return err
	}
	for _, p := range points {
		if a.rng.IntN(100) >= a.plan.forget {
			continue
		}
		promise := a.model.of(p.ID)
		a.model.tell(func() { promise.forgotten = true })
		if err := a.r.Forget(a.ctx, p, "storm"); err != nil {
			return fmt.Errorf("forget %s: %w", p.SID, err)
		}
		a.model.tell(func() { promise.dropped = true })
		a.model.note("points forgotten")
	}
	return nil
}

// thin is forget and prune in one go.
func (a *actor) thin() error {
	if err := a.forget(); err != nil {
		return err
	}
	return a.prune()
}

func (a *actor) prune() error {
	opts := repo.PruneOptions{DeadAfter: []time.Duration{0, 1, time.Hour}[a.rng.IntN(3)], DryRun: a.rng.IntN(10) == 0}
	if a.rng.IntN(3) > 0 {
		unused := []float64{0, 0.3}[a.rng.IntN(2)]
		opts.MaxUnused = &unused
	}
	rep, err := a.r.Prune(a.ctx, opts)
	if rep != nil && !rep.DryRun {
		a.model.notes("packs removed", rep.PacksRemoved)
		a.model.notes("packs repacked", rep.PacksRepacked)
		a.model.notes("sessions revoked", len(rep.Revoked))
	}
	if err != nil {
		return fmt.Errorf("prune: %w", err)
	}
	a.model.note("prunes done")
	return nil
}

// check looks at everything; nothing but rot may be found.
func (a *actor) check() error {
	before := a.model.forgotten()
	rep, err := a.r.Check(a.ctx, repo.CheckOptions{ReadData: a.rng.IntN(2) == 0})
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	a.model.note("checks done")
	for _, f := range rep.Findings {
		if f.Lost && !a.plan.lies() && !a.deceived() {
			if len(f.Hits) > 0 && a.model.forgotten() > before {
				continue // a point that was forgotten while it was looked at
			}
			if len(f.Hits) == 0 && isOvertaken(f, a.w) {
				a.model.note("findings of a check that a prune overtook")
				continue
			}
			return broken("check found %+v", f)
		}
	}
	return nil
}

// isOvertaken reports whether a finding may be no more than what a prune took
// away while the check ran: a pack, or the point before another. It names no
// point as hit, and what points need the model watches by itself.
func isOvertaken(f repo.Finding, w *sim.World) bool {
	return f.What == "missing" && !w.Has(f.Object) || strings.HasPrefix(f.Object, ledger.Commits) && strings.Contains(f.What, " is gone")
}

func (a *actor) scrub() error {
	rep, err := repo.Scrub(a.ctx, a.be, repo.ScrubOptions{Heal: a.rng.IntN(4) > 0})
	if err != nil {
		return fmt.Errorf("scrub: %w", err)
	}
	a.model.note("scrubs done")
	a.model.notes("objects healed", rep.Healed)
	for _, f := range rep.Findings {
		if f.Lost && !a.plan.lies() && !a.plan.volatile {
			return broken("scrub found %+v", f)
		}
	}
	return nil
}

func (a *actor) label() error {
	points, err := a.list()
	if err != nil || len(points) == 0 {
		return err
	}
	p := points[a.rng.IntN(len(points))]
	err = a.r.SetLabel(a.ctx, p, func(l *ledger.Label) { l.Tags = append(l.Tags, fmt.Sprintf("t%d", len(l.Tags))) })
	if now, _ := a.model.get(p.ID); err != nil && now.forgotten && errors.Is(err, backend.ErrNotFound) {
		return nil
	}
	if err != nil && a.deceived() {
		a.model.note("lying listings that were noticed")
		return nil // the labels that are there were not shown, so that each try found its name taken
	}
	if err != nil {
		return fmt.Errorf("label %s: %w", p.SID, err)
	}
	a.model.note("labels set")
	return nil
}

func (a *actor) repair() error {
	rep, err := a.r.RepairIndex(a.ctx, nil)
	if errors.Is(err, repo.ErrSessionLost) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	a.model.note("repairs done")
	if len(rep.Unreadable) > 0 && !a.plan.lies() && !a.plan.volatile {
		return broken("repair found %+v", rep)
	}
	return nil
}

// nap is what lies between two pieces of work.
func (a *actor) nap() { time.Sleep(time.Duration(a.rng.IntN(3000)) * time.Millisecond) }

// anyOf does one of several things, by weight.
func (a *actor) anyOf(choices map[string]int) error {
	do := map[string]func() error{
		"backup": a.backup, "restore": a.restore, "forget": a.forget, "prune": a.prune, "thin": a.thin,
		"check": a.check, "scrub": a.scrub, "label": a.label, "repair": a.repair,
	}
	total := 0
	keys := slices.Sorted(maps.Keys(choices))
	for _, k := range keys {
		total += choices[k]
	}
	n := a.rng.IntN(total)
	for _, k := range keys {
		if n -= choices[k]; n < 0 {
			return do[k]()
		}
	}
	return nil
}
