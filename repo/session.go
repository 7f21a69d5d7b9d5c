package repo

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"holdfast/repo/blob"
	"holdfast/repo/ledger"
	"holdfast/repo/parity"
	"holdfast/repo/recovery"
)

// ErrSessionLost: a pruner has revoked this session or passed its horizon
// while it was away (a suspended machine). Its data is garbage; run again.
var ErrSessionLost = errors.New("the session was declared dead meanwhile")

const (
	heartbeatEvery = time.Hour
	beginAttempts  = 16
	abortTimeout   = time.Minute // for keeping what an interrupted run has stored
)

// Stats count what a session stored.
type Stats struct {
	BytesAdded int64 // stored in packs, after compression, without parity
	ChunksNew  int64
}

// Session makes one recovery point. Put may be called from many goroutines;
// Commit or Abort ends it, exactly one of them.
type Session struct {
	r        *Repository
	sid      ledger.SID
	parent   *recovery.Point
	previous string

	data, meta *packer
	segment    segmentWriter

	mu    sync.Mutex
	fresh map[blob.ID]struct{} // put by this session, not yet in a published segment
	stats Stats

	stopBeat func()
}

// Begin starts a session for the source of that identity (steps W1–W4 of
// FORMAT.md §9). name is for people.
func (r *Repository) Begin(ctx context.Context, name, identity string) (*Session, error) {
	src := r.keys.SourceName(identity)
	sid, err := r.openSession(ctx, src, name)
	if err != nil {
		return nil, err
	}
	if err := r.refresh(ctx); err != nil {
		return nil, err
	}
	s := &Session{r: r, sid: sid, fresh: map[blob.ID]struct{}{}}
	s.data, s.meta = newPacker(ctx, s, parity.Data), newPacker(ctx, s, parity.Meta)
	s.segment.s = s
	if err := s.findParent(ctx, src); err != nil {
		return nil, err
	}
	s.stopBeat = s.beat(ctx)
	return s, nil
}

// openSession writes the session's first record and makes sure that no ledger
// entry came between reading the ledger and writing it.
func (r *Repository) openSession(ctx context.Context, src, name string) (ledger.SID, error) {
	for range beginAttempts {
		gen, err := r.readLedger(ctx)
		if err != nil {
			return ledger.SID{}, err
		}
		random, err := randomHex(r.opts.Rand, 8)
		if err != nil {
			return ledger.SID{}, err
		}
		sid := ledger.SID{Gen: gen, Src: src, Rand: random}
		record := ledger.Session{Version: ledger.Version, Host: r.opts.Host, PID: r.opts.PID, Started: r.opts.Now(), Source: name}
		if err := r.writeRecord(ctx, ledger.SessionName(sid, 0), parity.Session, record); err != nil {
			return ledger.SID{}, err
		}
		newest, err := r.readLedger(ctx)
		if err != nil {
			return ledger.SID{}, err
		}
		if newest == gen {
			return sid, nil
		}
		r.revoke(ctx, sid, "the ledger moved while the session began")
	}
	return ledger.SID{}, fmt.Errorf("begin session: the ledger moved %d times: %w", beginAttempts, ErrSessionLost)
}

// revoke gives up a sid of our own, so that nobody waits for it.
func (r *Repository) revoke(ctx context.Context, sid ledger.SID, why string) {
	slot := ledger.Slot{Version: ledger.Version, Revoked: &ledger.Revocation{By: why, Time: r.opts.Now()}}
	if err := r.writeRecord(ctx, ledger.CommitName(sid), parity.Commit, slot); err != nil {
		r.log.Warn("revoke own session", "sid", sid.String(), "error", err)
	}
}

// findParent picks the newest point of the source. A damaged newest manifest
// is passed over: an older parent only means that more is read.
func (s *Session) findParent(ctx context.Context, src string) error {
	points, problems, err := s.r.pointsOf(ctx, src)
	if err != nil {
		return err
	}
	for _, p := range problems {
		s.r.log.Warn("manifest cannot be read", "point", p.ID, "error", p.Err)
	}
	if newest := lastMade(points); newest != nil {
		s.parent, s.previous = newest.Point, newest.hash
	}
	return nil
}

// lastMade is the point that was made last, by the chain of manifests: the one
// that no other names as the one before. A point's time cannot tell, for it may
// be what an operator says it is. Several ends (two machines at once) are told
// apart by ledger generation and the time they were finished.
func lastMade(points []Entry) *Entry {
	followed := map[string]bool{}
	for _, e := range points {
		followed[e.Previous] = true
	}
	var last *Entry
	for i := range points {
		e := &points[i]
		if followed[e.hash] {
			continue
		}
		if last == nil || e.sid.Gen > last.sid.Gen || e.sid.Gen == last.sid.Gen && e.Finished.After(last.Finished) {
			last = e
		}
	}
	return last
}

// Parent is the newest point of the source when the session began, or nil.
func (s *Session) Parent() *recovery.Point { return s.parent }

// ID is the id that the point will have.
func (s *Session) ID() string { return s.sid.Rand }

// Stats tells what was stored so far.
func (s *Session) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// beat writes a heartbeat an hour until the returned function is called. A
// missed beat costs nothing but patience elsewhere, so errors are only logged.
func (s *Session) beat(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(heartbeatEvery)
		defer ticker.Stop()
		for n := 1; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			record := ledger.Session{Version: ledger.Version, Host: s.r.opts.Host, PID: s.r.opts.PID, Started: s.r.opts.Now()}
			if err := s.r.writeRecord(ctx, ledger.SessionName(s.sid, n), parity.Session, record); err != nil {
				s.r.log.Warn("write heartbeat", "error", err)
			}
		}
	}()
	return sync.OnceFunc(func() { cancel(); <-done })
}

// IDOf is the id that content has in this repository, without storing it.
func (r *Repository) IDOf(kind blob.Kind, plain []byte) blob.ID { return r.keys.ID(kind, plain) }

// Put stores content unless the repository has it, and returns its id. plain
// may be reused after Put returns. It is durable only when Commit has returned.
func (s *Session) Put(ctx context.Context, kind blob.Kind, plain []byte) (blob.ID, error) {
	id := s.r.keys.ID(kind, plain)
	if id.IsZero() {
		return id, fmt.Errorf("store chunk: its id is zero: %w", ErrParameter)
	}
	if !s.claim(id) {
		return id, nil
	}
	have, err := s.r.reusable(ctx, id)
	if err != nil {
		return id, err
	}
	if have {
		s.unclaim(id)
		return id, nil
	}
	if kind.IsMeta() {
		return id, s.meta.add(id, kind, plain)
	}
	return id, s.data.add(id, kind, plain)
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

// reusable reports whether a pack that nobody has condemned holds id.
func (r *Repository) reusable(ctx context.Context, id blob.ID) (bool, error) {
	locations, err := r.load.Lookup(ctx, id)
	if err != nil {
		return false, err
	}
	entry := r.ledgerEntry()
	for _, at := range locations {
		if len(entry.Condemned) == 0 || !entry.IsCondemned(at.Pack.Name()) {
			return true, nil
		}
	}
	return false, nil
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

// Commit makes the point exist: everything it needs is made durable first, the
// slot is written last, and success is returned only after the ledger has
// shown that nobody gave the session up meanwhile. p's ID, SID, Previous,
// Host and Program are filled in.
func (s *Session) Commit(ctx context.Context, p *recovery.Point) error {
	defer s.stopBeat()
	if err := s.Flush(ctx); err != nil {
		return err
	}
	p.ID, p.SID, p.Previous = s.sid.Rand, s.sid.String(), s.previous
	p.Host, p.Program = s.r.opts.Host, s.r.opts.Program
	manifest, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	slot := ledger.Slot{Version: ledger.Version, Point: manifest}
	name := ledger.CommitName(s.sid)
	if err := s.r.writeRecord(ctx, name, parity.Commit, slot); err != nil {
		return s.slotUnsure(ctx, name, manifest, err)
	}
	return s.r.stillAlive(ctx, s.sid)
}

// slotUnsure looks at the slot after its write did not succeed: the answer may
// have been lost, or a pruner's revocation may stand there. cause is returned
// when the slot tells nothing.
func (s *Session) slotUnsure(ctx context.Context, name string, manifest []byte, cause error) error {
	payload, err := s.r.readRecord(ctx, name, parity.Commit)
	if err != nil {
		return cause
	}
	slot, err := ledger.Decode[ledger.Slot](payload)
	if err != nil {
		return fmt.Errorf("read slot: %w", err)
	}
	if slot.Revoked != nil || !bytes.Equal(slot.Point, manifest) {
		return fmt.Errorf("commit point: %w", ErrSessionLost)
	}
	return s.r.stillAlive(ctx, s.sid)
}

// stillAlive is step W8: a point below the horizon that the ledger does not
// list is void for everybody.
func (r *Repository) stillAlive(ctx context.Context, sid ledger.SID) error {
	if _, err := r.readLedger(ctx); err != nil {
		return fmt.Errorf("point %s was written, whether it counts is unknown: %w", sid.Rand, err)
	}
	if r.ledgerEntry().IsVoid(sid) {
		return fmt.Errorf("commit point: %w", ErrSessionLost)
	}
	return nil
}

// Abort ends a session that will not commit. The packs that it has written are
// made durable and known, so that the next run does not send them again; if that
// fails, too, they are garbage that the next prune collects.
func (s *Session) Abort() {
	s.stopBeat()
	s.data.drop()
	s.meta.drop()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.data.ctx), abortTimeout)
	defer cancel()
	if err := s.segment.publish(ctx); err != nil {
		s.r.log.Warn("keep what was stored", "error", err)
	}
}

// hashManifest is the value that the source's next point carries as Previous.
func (r *Repository) hashManifest(manifest []byte) string {
	id := r.keys.ID(blob.Record, manifest)
	return hex.EncodeToString(id[:])
}
