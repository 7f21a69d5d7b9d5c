// Package session is how content gets into a repository: one attempt to make one
// point, from the record that announces it to the slot that makes the point
// exist (FORMAT.md §9, steps W1 to W8). A session that makes no point, as those
// of prune and repair, is revoked by its owner when it is done.
package session

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"holdfast/repo/blob"
	"holdfast/repo/catalog"
	"holdfast/repo/index"
	"holdfast/repo/ledger"
	"holdfast/repo/parity"
	"holdfast/repo/record"
)

// ErrLost: a pruner has revoked this session or passed its horizon while it was
// away (a suspended machine). Its data is garbage; run again.
var ErrLost = errors.New("the session was declared dead meanwhile")

const (
	heartbeatEvery = time.Hour
	beginAttempts  = 16
	abortTimeout   = time.Minute // for keeping what an interrupted run has stored
)

// Locks tell the living from the dead on one host: a session's lock is held for
// as long as its process lives, and no longer.
type Locks interface {
	// Hold takes the lock of a new session.
	Hold(sid string) (release func(), err error)
	// State tells what is known of a session's lock here.
	State(sid string) ledger.Lock
	// Settled says that a dead session was revoked: nobody asks again.
	Settled(sid string)
}

// Options describe who writes. The zero value works.
type Options struct {
	Name        string // what it is about, for people
	Host        string
	PID         int
	Compression string
	Locks       Locks // may be nil
}

// Stats count what a session stored.
type Stats struct {
	BytesAdded int64 // stored in packs, after compression, without parity
	ChunksNew  int64
}

// Session makes one recovery point. Put may be called from many goroutines;
// Commit, Abort or Revoke ends it; a Commit that failed leaves the end to Abort.
type Session struct {
	c    *catalog.Catalog
	opts Options
	sid  ledger.SID
	roll uint32       // its number there
	view *ledger.View // the ledger that it began with

	inRun func(index.Pack) bool // listed by a run of that ledger

	data, meta *packer
	segment    segmentWriter

	mu    sync.Mutex
	fresh map[blob.ID]struct{} // put by this session, not yet in a published segment
	stats Stats

	stop    func() // ends the heart
	release func() // gives back the lock
}

// Begin starts a session for the source of that name (rule 1 of FORMAT.md §9) and
// brings the catalog up to date.
func Begin(ctx context.Context, c *catalog.Catalog, src string, opts Options) (*Session, error) {
	s, err := open(ctx, c, src, opts)
	if err != nil {
		return nil, err
	}
	if err := c.Refresh(ctx); err != nil {
		s.Revoke(ctx, "it could not begin")
		return nil, err
	}
	s.inRun = c.Index.InSegments(s.view.Runs())
	return s, nil
}

// open writes the session's record into the roll and makes sure that no ledger
// entry came between reading the ledger and writing it: then every pruner that
// writes an entry after the one read here finds the session in the roll. If one
// did come, the roll may begin above the number taken, and nobody would look there.
func open(ctx context.Context, c *catalog.Catalog, src string, opts Options) (*Session, error) {
	for range beginAttempts {
		view, err := c.ReadLedger(ctx)
		if err != nil {
			return nil, err
		}
		if later, err := c.MeetLast(ctx, view); err != nil {
			return nil, err
		} else if later {
			continue // to what the ledger says by now
		}
		random, err := c.RandomHex(8)
		if err != nil {
			return nil, err
		}
		s := newSession(ctx, c, view, ledger.SID{Gen: view.Number, Src: src, Rand: random}, opts)
		if err := s.begun(ctx); err != nil { // what a process remembers may be no more
			return nil, err
		}
		if err := s.announce(ctx); err != nil {
			return nil, err
		}
		again, err := c.ReadLedger(ctx)
		if err == nil && again.Number == view.Number {
			return s, nil
		}
		s.Revoke(ctx, "the ledger moved while the session began")
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("begin session: the ledger moved %d times: %w", beginAttempts, ErrLost)
}

func newSession(ctx context.Context, c *catalog.Catalog, view *ledger.View, sid ledger.SID, opts Options) *Session {
	s := &Session{c: c, opts: opts, sid: sid, view: view, fresh: map[blob.ID]struct{}{}, stop: func() {}, release: func() {}}
	s.data, s.meta = newPacker(ctx, s, parity.Data), newPacker(ctx, s, parity.Meta)
	s.segment.s = s
	return s
}

// announce takes the lock, then enters the roll and starts the heart: whoever
// reads the record finds the lock held. A write that failed may have been done
// all the same, so the session is then revoked.
func (s *Session) announce(ctx context.Context) error {
	if s.opts.Locks != nil {
		held, err := s.opts.Locks.Hold(s.sid.String())
		if err != nil {
			s.c.Log.Warn("the session's lock cannot be taken; if this run dies, prune waits longer", "error", err)
		} else {
			s.release = sync.OnceFunc(held)
		}
	}
	if err := s.enroll(ctx); err != nil {
		s.Revoke(ctx, "it could not begin")
		return err
	}
	s.stop = s.beat(ctx)
	return nil
}

// enroll takes the next free number of the roll. That another session was faster
// is progress of somebody's, so it tries on until it has one.
func (s *Session) enroll(ctx context.Context) error {
	for from := uint32(0); ; {
		n, err := s.c.RollEnd(ctx, s.view, from)
		if err != nil {
			return err
		}
		err = s.c.Write(ctx, ledger.RollName(n), parity.Session, s.beatRecord())
		if err == nil || record.IsTaken(err) {
			s.roll = n
			s.c.SawRoll(n + 1)
		}
		if !record.IsTaken(err) {
			return err
		}
		from = n + 1
	}
}

func (s *Session) beatRecord() ledger.Session {
	return ledger.Session{Version: ledger.Version, SID: s.sid.String(), Host: s.opts.Host, PID: s.opts.PID, Started: s.c.Now(), Source: s.opts.Name}
}

// beat writes a heartbeat an hour until the returned function is called. A
// missed beat costs nothing but patience elsewhere, so errors are only logged.
// Numbers are dense: one that was not written is tried again.
func (s *Session) beat(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(heartbeatEvery)
		defer ticker.Stop()
		for n := uint32(1); ; {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			err := s.c.Write(ctx, ledger.BeatName(s.sid, n), parity.Session, s.beatRecord())
			if err == nil || record.IsTaken(err) { // taken by the last try, whose answer was lost
				n++
				continue
			}
			s.c.Log.Warn("heartbeat not written", "sid", s.sid.String(), "error", err)
		}
	}()
	return sync.OnceFunc(func() { cancel(); <-done })
}

// Turn is one more than the session's number in the roll: of two sessions of a
// repository, the one that began when the other was over has the higher one, whatever
// clocks say and listings hide.
func (s *Session) Turn() int64 { return int64(s.roll) + 1 }

// SID names the session.
func (s *Session) SID() ledger.SID { return s.sid }

// Stats tells what was stored so far.
func (s *Session) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Put stores content unless the repository has it, and returns its id. plain may
// be reused after Put returns. It is durable only when Commit has returned.
func (s *Session) Put(ctx context.Context, kind blob.Kind, plain []byte) (blob.ID, error) {
	id := s.c.Keys.ID(kind, plain)
	if id.IsZero() {
		return id, fmt.Errorf("store chunk: its id is zero")
	}
	if !s.claim(id) {
		return id, nil
	}
	have, err := s.reusable(ctx, id)
	if err != nil {
		return id, err
	}
	if have {
		s.unclaim(id)
		return id, nil
	}
	return id, s.packerOf(kind).add(id, kind, plain)
}

// Copy stores content anew, whether the repository has it or not: a repack moves
// it into this session's packs.
func (s *Session) Copy(kind blob.Kind, id blob.ID, plain []byte) error {
	if !s.claim(id) {
		return nil
	}
	return s.packerOf(kind).add(id, kind, plain)
}

func (s *Session) packerOf(kind blob.Kind) *packer {
	if kind.IsMeta() {
		return s.meta
	}
	return s.data
}

// claim reports whether this session is the first to put id.
func (s *Session) claim(id blob.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.fresh[id]; ok {
		return false
	}
	s.fresh[id] = struct{}{}
	return true
}

func (s *Session) unclaim(ids ...blob.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		delete(s.fresh, id)
	}
}

func (s *Session) count(stored, chunks int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.BytesAdded += stored
	s.stats.ChunksNew += chunks
}

// reusable reports whether a pack holds id that may stand in for a copy of our
// own: rule W5, by the ledger that the session began with and by any later one
// that it has seen.
func (s *Session) reusable(ctx context.Context, id blob.ID) (bool, error) {
	locations, err := s.c.Load.Lookup(ctx, id)
	if err != nil {
		return false, err
	}
	for _, at := range locations {
		if s.MayReuse(at.Pack) {
			return true, nil
		}
	}
	return false, nil
}

// MayReuse reports whether content of the pack may stand in for content of the
// session's own.
func (s *Session) MayReuse(p index.Pack) bool {
	if p.SID == s.sid.String() {
		return true
	}
	owner, err := ledger.ParseSID(p.SID)
	if err != nil {
		return false
	}
	inRun := owner.Gen < s.view.Entry.Horizon && s.inRun(p)
	return s.view.MayReuse(p.Name(), owner, inRun) && !s.c.View().IsCondemned(p.Name())
}

// Flush stores everything that was put so far and makes it durable and known:
// packs, barrier, segment, barrier.
func (s *Session) Flush(ctx context.Context) error {
	if err := s.data.close(); err != nil {
		return err
	}
	if err := s.meta.close(); err != nil {
		return err
	}
	return s.segment.publish(ctx)
}

// Segments are the names of the index segments that the session has published.
func (s *Session) Segments() []string {
	s.segment.mu.Lock()
	defer s.segment.mu.Unlock()
	var names []string
	for n := range s.segment.next {
		names = append(names, ledger.IndexName(s.sid, n))
	}
	return names
}

// PublishSegment writes a segment of other sessions' packs under this session's
// name: a run of prune, a list made by a repair. It is durable on return.
func (s *Session) PublishSegment(ctx context.Context, segment []byte) (string, error) {
	s.segment.mu.Lock()
	defer s.segment.mu.Unlock()
	return s.segment.write(ctx, segment)
}

// Commit makes the point exist: everything it needs is made durable first, the
// slot is written last, and success is returned only after the ledger has shown
// that nobody gave the session up meanwhile. After an error Abort has still to
// settle the session.
func (s *Session) Commit(ctx context.Context, manifest json.RawMessage) error {
	defer s.stop()
	if err := s.Flush(ctx); err != nil {
		return err
	}
	if err := s.begun(ctx); err != nil {
		return err
	}
	slot := ledger.Slot{Version: ledger.Version, Point: manifest}
	err := s.c.Write(ctx, ledger.CommitName(s.sid), parity.Commit, slot)
	if err != nil {
		err = s.slotUnsure(ctx, manifest, err)
	} else {
		err = s.stillAlive(ctx)
	}
	if err == nil || errors.Is(err, ErrLost) {
		s.release()
	}
	return err
}

// begun is ErrLost where neither the entry that the session began under is there, nor any
// later one: an older state of the repository was brought back while it ran. What it lists
// or commits would be of a ledger that nobody has.
func (s *Session) begun(ctx context.Context) error {
	there, err := s.c.HasBegun(ctx, s.sid.Gen)
	if err == nil && !there {
		return fmt.Errorf("%s, under which the session began, is gone: was the repository brought back from a mirror? %w", ledger.LedgerName(s.sid.Gen), ErrLost)
	}
	return err
}

// slotUnsure looks at the slot after its write did not succeed: the answer may
// have been lost, or a pruner's revocation may stand there. cause is returned
// when the slot tells nothing.
func (s *Session) slotUnsure(ctx context.Context, manifest []byte, cause error) error {
	payload, err := s.c.Read(ctx, ledger.CommitName(s.sid), parity.Commit)
	if record.IsGone(err) && record.IsTaken(cause) {
		return fmt.Errorf("commit point: %w", ErrLost) // a revocation stood there, and was pruned since
	}
	if err != nil {
		return fmt.Errorf("%w; what stands there cannot be read: %w", cause, err)
	}
	slot, err := ledger.Decode[ledger.Slot](payload)
	if err != nil {
		return fmt.Errorf("read slot: %w", err)
	}
	if slot.Revoked != nil || !bytes.Equal(slot.Point, manifest) {
		return fmt.Errorf("commit point: %w", ErrLost)
	}
	return s.stillAlive(ctx)
}

// stillAlive is step W8: a point below the horizon that the ledger does not list
// is void for everybody.
func (s *Session) stillAlive(ctx context.Context) error {
	view, err := s.c.ReadLedger(ctx)
	if err != nil {
		return fmt.Errorf("point %s was written, whether it counts is unknown: %w", s.sid.Rand, err)
	}
	if view.IsVoid(s.sid) {
		return fmt.Errorf("commit point: %w", ErrLost)
	}
	return nil
}

// Abort ends a session that will not commit. The packs that it has written are
// made durable and known, so that the next run does not send them again; if that
// fails, too, they are garbage that the next prune collects. Nobody waits for an
// aborted session: it revokes itself.
func (s *Session) Abort() {
	s.data.drop()
	s.meta.drop()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.data.ctx), abortTimeout)
	defer cancel()
	if err := s.segment.publish(ctx); err != nil {
		s.c.Log.Warn("keep what was stored", "error", err)
	}
	s.Revoke(ctx, "the run was given up")
}

// Revoke ends a session that makes no point, so that nobody waits for it. If that
// cannot be written the lock is kept until the process ends: whoever gets it then
// knows that the session is dead, and need not wait for its silence.
func (s *Session) Revoke(ctx context.Context, why string) {
	defer s.stop()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	if err := Revoke(ctx, s.c.Store, s.sid, why); err != nil && !record.IsTaken(err) {
		s.c.Log.Warn("revoke own session", "sid", s.sid.String(), "error", err)
		return
	}
	s.release()
}

// Alive returns ErrLost when somebody has declared the session dead: from then on a
// prune may take what it wrote.
func (s *Session) Alive(ctx context.Context) error {
	_, err := s.c.Backend.Stat(ctx, ledger.CommitName(s.sid))
	switch {
	case err == nil:
		return ErrLost
	case !record.IsGone(err):
		return err
	}
	return s.stillAlive(ctx)
}

// Revoke settles a session by putting a revocation into its slot, if the slot is
// free. backend.ErrExists means that the session was faster.
func Revoke(ctx context.Context, s *record.Store, sid ledger.SID, why string) error {
	slot := ledger.Slot{Version: ledger.Version, Revoked: &ledger.Revocation{By: why, Time: s.Now()}}
	return s.Write(ctx, ledger.CommitName(sid), parity.Commit, slot)
}
