package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"holdfast/repo/blob"
	"holdfast/repo/ledger"
	"holdfast/repo/points"
	"holdfast/repo/recovery"
	"holdfast/repo/seal"
	"holdfast/repo/session"
)

// Stats count what a session stored.
type Stats = session.Stats

// Session makes one recovery point. Put may be called from many goroutines;
// Commit or Abort ends it, exactly one of them.
type Session struct {
	*session.Session
	r        *Repository
	parent   *recovery.Point
	previous string
	made     int64 // see recovery.Point
}

// Begin starts a session for the source of that identity (steps W1–W4 of
// FORMAT.md §9). name is for people.
func (r *Repository) Begin(ctx context.Context, name, identity string) (*Session, error) {
	if err := r.follow(ctx); err != nil { // what is written from here on is sealed by the newest root
		return nil, fmt.Errorf("begin session: %w", err)
	}
	src := r.keys.SourceName(identity)
	inner, err := session.Begin(ctx, r.catalog, src, r.sessionOptions(name))
	if err != nil {
		return nil, err
	}
	s := &Session{Session: inner, r: r}
	taken, err := s.Adopt(ctx)
	if err != nil {
		s.Abort()
		return nil, err
	}
	if taken > 0 {
		r.log.Info("found what an interrupted run of this source had stored", "packs", taken)
	}
	err = s.findParent(ctx, src)
	if err == nil {
		err = r.tellUnlisted(ctx, s.parent)
	}
	if err != nil {
		s.Revoke(ctx, "it could not begin")
		return nil, err
	}
	return s, nil
}

func (r *Repository) sessionOptions(name string) session.Options {
	who := session.Options{Name: name, Host: r.opts.Host, PID: r.opts.PID, Compression: r.config.Compression}
	if r.opts.Locks != nil {
		who.Locks = r.opts.Locks(r.config.ID)
	}
	return who
}

// findParent picks the newest point of the source. A damaged newest manifest is
// passed over: an older parent only means that more is read.
func (s *Session) findParent(ctx context.Context, src string) error {
	known, problems, peak, err := points.Known(ctx, s.r.catalog, src, s.Turn())
	if err != nil {
		return err
	}
	for _, p := range problems {
		if errors.Is(p, seal.ErrUnknownEpoch) { // to go on would be to write what keys before a rotation open
			return fmt.Errorf("find parent: %w", p)
		}
		s.r.log.Warn("manifest cannot be read", "point", p.ID, "error", p.Err)
	}
	listed := seenIn(known, problems)
	s.made = points.NextMade(known, peak, s.r.catalog.Now())
	for newest := points.LastMade(known); newest != nil; newest = points.LastMade(known) {
		stands, err := s.stands(ctx, newest.Session())
		if err != nil {
			return err
		}
		if stands {
			s.parent, s.previous = newest.Point, newest.Hash()
			break
		}
		known = slices.DeleteFunc(known, func(e points.Entry) bool { return e.Session() == newest.Session() })
	}
	if s.parent == nil { // else the ledger was asked since the points were listed
		if _, err := s.r.catalog.ReadLedger(ctx); err != nil {
			return err
		}
	}
	gone, err := s.r.seenNewest(ctx, []string{src})
	if err != nil {
		return err
	}
	named, err := s.r.unfollowed(ctx, listed.Has, []string{src})
	if err != nil {
		return err
	}
	for _, sid := range distinct(append(gone, named...)) {
		if err := s.r.heads.Miss(sid); err != nil {
			s.r.log.Info("a point that has vanished is not remembered here", "error", err)
		}
		s.r.log.Warn("the newest point of this source that is known is gone, and nobody has forgotten it", "point", sid.Rand)
		if s.r.opts.Vanished != nil {
			s.r.opts.Vanished(sid.Rand)
		}
	}
	return nil
}

// seenIn are the sessions of what a listing has found, readable or not.
func seenIn(known []Entry, problems []*PointError) (listed ledger.Pile) {
	for _, e := range known {
		listed.Add(e.Session())
	}
	for _, p := range problems {
		if sid, err := p.Session(); err == nil { // else it is a label's, and its point is known
			listed.Add(sid)
		}
	}
	listed.Sort()
	return listed
}

// stands reports whether a point that was listed exists now: its tombstone, which a
// listing may hide, is asked for by name, and then the ledger, since a tombstone goes
// once its point is void. Only after this may a session lean on the point's map.
func (s *Session) stands(ctx context.Context, sid ledger.SID) (bool, error) {
	forgotten, err := s.r.catalog.Has(ctx, ledger.ForgetName(sid))
	if err != nil || forgotten {
		return false, err
	}
	view, err := s.r.catalog.ReadLedger(ctx)
	if err != nil {
		return false, err
	}
	return !view.IsVoid(sid), nil
}

// Parent is the newest point of the source when the session began, or nil.
func (s *Session) Parent() *recovery.Point { return s.parent }

// ID is the id that the point will have.
func (s *Session) ID() string { return s.SID().Rand }

// IDOf is the id that content has in this repository, without storing it.
func (r *Repository) IDOf(kind blob.Kind, plain []byte) blob.ID { return r.keys.ID(kind, plain) }

// Commit makes the point exist: everything it needs is made durable first, the
// slot is written last, and success is returned only after the ledger has shown
// that nobody gave the session up meanwhile. p's ID, SID, Previous, Host and
// Program are filled in, and unless p is a copy, Turn and Made.
func (s *Session) Commit(ctx context.Context, p *recovery.Point) error {
	p.ID, p.SID, p.Previous = s.ID(), s.SID().String(), s.previous
	p.Host, p.Program = s.r.opts.Host, s.r.opts.Program
	if p.Origin == "" {
		p.Turn, p.Made = s.Turn(), s.made
	}
	manifest, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	if err := s.Session.Commit(ctx, manifest); err != nil {
		return err
	}
	if err := s.r.heads.Saw(s.SID()); err != nil {
		s.r.log.Info("newest point not remembered here", "error", err)
	}
	return nil
}

// Expect returns recovery.ErrUnknown unless the point still exists. A parent that
// the caller found before the session began counts only after this: from then on
// nothing that it needs can go before the session is over (FORMAT.md §9).
func (s *Session) Expect(ctx context.Context, p *recovery.Point) error {
	sid, err := ledger.ParseSID(p.SID)
	if err != nil {
		return err
	}
	known, problems, err := points.Of(ctx, s.r.catalog, sid.Src)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(known, func(e points.Entry) bool { return e.ID == p.ID }) {
		stands, err := s.stands(ctx, sid)
		if err != nil || stands {
			return err
		}
	}
	for _, problem := range problems {
		if problem.ID == p.ID {
			return problem
		}
	}
	return fmt.Errorf("point %s was forgotten meanwhile: %w", p.ID, recovery.ErrUnknown)
}
