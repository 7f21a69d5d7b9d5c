package plan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lab/backups"
	"holdfast/sqlguest/lab/backups/stream"
	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/storage/filesystem"
	"holdfast/sqlguest/lab/storage/message"
	"holdfast/sqlguest/lab/value"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/server"
)

// rows is what the table holds.
type rows map[int64]string

// moment is what the database held from a time on, by the server's clock.
type moment struct {
	from time.Time // as Local gives it
	rows rows
	void bool // it was being restored
	at   lsn.LSN
	mark string
	was  rows // before it
	fork value.GUID
}

// pending is a mark in the log of a fork.
type pending struct {
	Mark
	fork value.GUID
}

// kept is a backup's streams and what is true of it.
type kept struct {
	chain.Backup
	h       stream.Header
	streams [][]byte
	rows    rows // committed when it was taken
	gone    bool // abandoned by a revert
}

// world is a server with a database that lives through a random history, the
// backups that we have of it, and what it really held when.
type world struct {
	t        testing.TB
	r        *rand.Rand
	s        *backups.Server
	now      time.Time
	rows     rows
	open     *storage.Tx
	work     rows
	life     []moment
	taken    []*kept // ours, as they were made
	next     int64
	marks    map[string][]Mark
	pend     []pending
	snapPend []pending
	count    map[string]int
	snap     *backups.Server
	snapAt   int // backups that were there
	snapOf   rows
	due      []string // sets to be abandoned by the next full
	names    int
	// reverts is how many there had been, in all worlds, before this one.
	reverts int
}

func (w *world) look() time.Time {
	w.now = w.now.Add(time.Duration(100+w.r.IntN(2500)) * time.Millisecond)
	return w.now
}

func newLab(t testing.TB, seed uint64, now func() time.Time) *backups.Server {
	t.Helper()
	s, err := backups.New(backups.Options{FS: &filesystem.Memory{}, Now: now, Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newWorld(t testing.TB, seed uint64, count map[string]int) *world {
	w := &world{t: t, r: rand.New(rand.NewPCG(seed, 5)), now: time.Date(2026, 3, 2, 8, 0, 0, 0, time.FixedZone("", 3600)),
		rows: rows{}, marks: map[string][]Mark{}, count: count, reverts: count["revert"]}
	w.s = newLab(t, seed, w.look)
	models := []storage.Model{storage.Full, storage.Full, storage.Full, storage.BulkLogged, storage.Simple}
	if _, err := w.s.Create(backups.CreateOptions{Name: "sales", Model: models[w.r.IntN(len(models))]}); err != nil {
		t.Fatal(err)
	}
	tx := w.begin()
	if _, err := tx.CreateTable("t", []value.Column{{Name: "id"}, {Name: "v"}}, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	w.life = append(w.life, moment{from: storage.Local(w.now), rows: rows{}})
	if w.r.IntN(5) > 0 {
		w.backup(backups.Full, false, true)
	}
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) db() *storage.Database {
	db, err := w.s.Database("sales")
	w.must(err)
	return db
}

func (w *world) begin() *storage.Tx {
	tx, err := w.db().Begin(context.Background(), "")
	w.must(err)
	return tx
}

func (w *world) step() {
	if len(w.due) > 0 { // decide takes a full once it has seen a revert
		w.end()
		if w.backup(backups.Full, false, true) == nil {
			w.t.Fatal("no full after a revert")
		}
		return
	}
	switch n := w.r.IntN(100); {
	case n < 46:
		w.write()
	case n < 52:
		w.backup(backups.Full, w.r.IntN(4) == 0, true)
	case n < 59:
		w.backup(backups.Differential, false, true)
	case n < 82:
		w.backup(backups.Log, w.r.IntN(10) == 0, true)
	case n < 84:
		w.backup(backups.Log, false, false)
	case n < 85:
		w.backup(backups.Full, false, false)
	case n < 87:
		w.end()
		models := []storage.Model{storage.Full, storage.Full, storage.Full, storage.Full, storage.Full, storage.BulkLogged, storage.BulkLogged, storage.Simple}
		_, err := w.db().SetModel(context.Background(), models[w.r.IntN(len(models))])
		w.must(err)
		w.count["recovery model"]++
	case n < 90:
		w.damage()
	case n < 92:
		w.end()
		s, err := w.s.Clone()
		w.must(err)
		w.snap, w.snapAt, w.snapOf, w.snapPend = s, len(w.taken), maps.Clone(w.rows), slices.Clone(w.pend)
	case n < 94:
		w.revert()
	case n < 97:
		w.end()
		w.back()
	default:
		w.look()
	}
}

// write changes a few rows in a transaction that may stay open.
func (w *world) write() {
	if w.open == nil {
		w.open, w.work = w.begin(), maps.Clone(w.rows)
	}
	for range 1 + w.r.IntN(3) {
		text := strings.Repeat(string(rune('a'+w.r.IntN(26))), 1+w.r.IntN(60))
		w.next++
		if w.r.IntN(4) == 0 {
			w.must(w.open.BulkInsert("t", [][]any{{w.next, text}}))
			w.work[w.next] = text
			continue
		}
		list, err := w.open.Scan("t")
		w.must(err)
		if len(list) > 0 && w.r.IntN(3) == 0 {
			v := list[w.r.IntN(len(list))]
			w.must(w.open.Delete("t", v.ID))
			delete(w.work, v.Values[0].(int64))
			continue
		}
		_, err = w.open.Insert("t", []any{w.next, text})
		w.must(err)
		w.work[w.next] = text
	}
	if w.r.IntN(8) > 0 {
		w.end()
	}
}

// end commits the open transaction, if there is one.
func (w *world) end() {
	if w.open == nil {
		return
	}
	tx, mark := w.open, ""
	w.open = nil
	if w.r.IntN(3) == 0 {
		w.names++
		mark = fmt.Sprintf("mark %d", w.names-w.r.IntN(2)*w.r.IntN(2)) // now and then one twice
		tx.SetMark(mark, "", "sa")
	}
	c, err := tx.Commit()
	w.must(err)
	w.count["commit"]++
	if c.LSN.IsZero() {
		return
	}
	i := w.db().Info()
	w.life = append(w.life, moment{from: storage.Local(w.now), rows: w.work, at: c.LSN, mark: mark, was: w.rows, fork: i.Fork()})
	w.rows = w.work
	if mark != "" {
		w.pend = append(w.pend, pending{Mark{mark, c.LSN, storage.Local(w.now)}, i.Fork()})
		w.count["mark"]++
	}
}

// backup takes one; ours is kept, somebody else's is not.
func (w *world) backup(kind backups.Kind, copyOnly, ours bool) *kept {
	var devices []backups.Device
	var buffers []*bytes.Buffer
	for i := range 1 + w.r.IntN(2) {
		buffers = append(buffers, &bytes.Buffer{})
		devices = append(devices, backups.Device{Name: fmt.Sprintf("{d%d}", i), W: buffers[i]})
	}
	o := backups.BackupOptions{Database: "sales", Kind: kind, CopyOnly: copyOnly, Checksum: w.r.IntN(2) == 0}
	run, err := w.s.BeginBackup(context.Background(), o, devices)
	if err != nil {
		for _, n := range []int32{3035, 4208, 4214} {
			if message.Has(err, n) {
				return nil
			}
		}
		w.t.Fatal(err)
	}
	k := &kept{h: run.Header, rows: maps.Clone(w.rows)}
	if w.r.IntN(3) == 0 {
		w.write() // behind what the backup holds
	}
	_, err = run.Complete()
	w.must(err)
	what := map[backups.Kind]string{backups.Full: "full", backups.Differential: "differential", backups.Log: "log"}[kind]
	if copyOnly {
		what = "copy-only " + what
	}
	if !ours {
		w.count["foreign "+what]++
		return nil
	}
	w.count[what]++
	for _, b := range buffers {
		k.streams = append(k.streams, b.Bytes())
	}
	k.Backup = w.describe(k, run.Header)
	if kind == backups.Full && len(w.due) > 0 {
		k.Abandons, w.due = w.due, nil
	}
	w.taken = append(w.taken, k)
	for _, m := range w.pend {
		if k.Kind == chain.Log && !m.LSN.Less(k.First) && m.LSN.Less(k.Last) && storage.ForkAt(k.h.Boot.Forks, m.LSN) == m.fork {
			w.marks[k.Point] = append(w.marks[k.Point], m.Mark)
		}
	}
	return k
}

func guid(g value.GUID) string {
	if g == (value.GUID{}) {
		return ""
	}
	return g.String()
}

// describe reads the header as msdb's row is read.
func (w *world) describe(k *kept, h stream.Header) chain.Backup {
	local := func(t time.Time) time.Time {
		return t.Add(-time.Duration(h.TimeZone) * 15 * time.Minute).In(time.FixedZone("", h.TimeZone*15*60))
	}
	b := chain.Backup{Header: chain.Header{
		Set: guid(h.BackupSetGUID), Kind: map[uint8]chain.Kind{1: chain.Full, 2: chain.Log, 5: chain.Diff}[h.BackupType],
		Database: h.DatabaseName, Family: guid(h.FamilyGUID), DatabaseGUID: guid(h.BindingID),
		FirstFork: guid(h.FirstRecoveryForkID), Fork: guid(h.RecoveryForkID), ForkPoint: h.ForkPointLSN,
		First: h.FirstLSN, Last: h.LastLSN, Checkpoint: h.CheckpointLSN, DatabaseBackup: h.DatabaseBackupLSN,
		Base: guid(h.DifferentialBaseGUID), BaseLSN: h.DifferentialBaseLSN, CopyOnly: h.IsCopyOnly,
		BulkLogged: h.HasBulkLoggedData, BeginsChain: h.BeginsLogChain, Checksums: h.HasBackupChecksums,
		Started: local(h.StartDate), Finished: local(h.FinishDate), Model: h.RecoveryModel,
	}, Point: fmt.Sprintf("p%d", len(w.taken)), State: chain.Confirmed, Stripes: len(k.streams)}
	for _, s := range k.streams {
		b.StreamBytes = append(b.StreamBytes, int64(len(s)))
	}
	for _, f := range h.Files {
		b.Files = append(b.Files, chain.File{ID: int(f.ID), GUID: guid(f.GUID), Type: int(f.Type), Name: f.Logical, Path: f.Physical})
	}
	return b
}

// damage takes a backup of ours away.
func (w *world) damage() {
	if len(w.taken) > 0 {
		w.taken[w.r.IntN(len(w.taken))].Damage = "its data are damaged"
		w.count["damage"]++
	}
}

// revert sets the machine back to its snapshot, if that takes backups from us.
func (w *world) revert() {
	if w.snap == nil || w.snapAt == len(w.taken) {
		return
	}
	w.end()
	w.s, w.rows, w.pend = w.snap, w.snapOf, w.snapPend
	w.look()
	w.life = append(w.life, moment{from: storage.Local(w.now), rows: w.rows})
	for _, k := range w.taken[w.snapAt:] {
		k.gone = true
		w.due = append(w.due, k.Set)
	}
	w.snap = nil
	w.count["revert"]++
}

// ours is what a planner gets to see.
func (w *world) ours() []chain.Backup {
	var list []chain.Backup
	for _, k := range w.taken {
		list = append(list, k.Backup)
	}
	return list
}

func (w *world) options() Options { return Options{Marks: w.marks, Replace: true} }

// back restores the database over itself to a moment: a new fork.
func (w *world) back() {
	target := Target{At: w.someTime(), Bare: true}
	if w.r.IntN(2) == 0 && len(w.taken) > 0 {
		target = Target{Point: w.taken[w.r.IntN(len(w.taken))].Point}
	}
	p, err := Make(target, w.ours(), w.options())
	if err != nil {
		return
	}
	w.look()
	w.life = append(w.life, moment{from: storage.Local(w.now), void: true})
	w.execute(w.s, p)
	w.rows = scan(w.t, w.s)
	w.look()
	w.life = append(w.life, moment{from: storage.Local(w.now), rows: w.rows})
	w.count["restore over it"]++
}

// someTime is a time at or near something that happened.
func (w *world) someTime() time.Time {
	m := w.life[w.r.IntN(len(w.life))].from
	if len(w.taken) > 0 && w.r.IntN(3) == 0 {
		k := w.taken[w.r.IntN(len(w.taken))]
		m = []time.Time{k.h.StartDate, k.h.FinishDate}[w.r.IntN(2)]
	}
	near := []time.Duration{0, 0, 0, -time.Millisecond, time.Millisecond, -time.Second, time.Second, time.Duration(w.r.IntN(20000)) * time.Millisecond}
	return m.Add(near[w.r.IntN(len(near))])
}

// heldAt is what the database held at a time; ok is false before its life and while
// it was being restored.
func (w *world) heldAt(t time.Time) (rows, bool) {
	var m *moment
	for i := range w.life {
		if !w.life[i].from.After(t) {
			m = &w.life[i]
		}
	}
	if m == nil || m.void {
		return nil, false
	}
	return m.rows, true
}

// execute runs a plan on a server, with nothing but the streams.
func (w *world) execute(s *backups.Server, p Plan) {
	w.t.Helper()
	stop := backups.Stop{At: p.Stop.At, Mark: p.Stop.Mark, Before: p.Stop.Before, After: p.Stop.After}
	reached := false
	for _, step := range p.Steps {
		o := backups.RestoreOptions{Database: "sales", End: backups.NoRecovery}
		if step.Do == DoFinish {
			_, err := s.Restore(context.Background(), backups.RestoreOptions{Database: "sales"}, nil)
			w.must(err)
			continue
		}
		if reached {
			continue
		}
		k := w.point(step.Point)
		o.Replace, o.Checksum = step.Do == DoFull, strings.Contains(step.Text, "CHECKSUM")
		if o.Log = step.Do == DoLog; o.Log {
			o.Stop = stop
		}
		said, err := s.Restore(context.Background(), o, k.sources())
		if err != nil {
			w.t.Fatalf("%s of the plan to %s: %v\n%s", step.Text, p.Target, err, w.show(p))
		}
		out := server.Outcome{Messages: said}
		reached = o.Log && !p.Stop.IsZero() && !out.Has(4322) && !out.Has(4329)
		db, err := s.Database("sales")
		w.must(err)
		if i := db.Info(); i.RedoStart != step.After && (!step.May || step.After.Less(i.RedoStart)) {
			w.t.Fatalf("after %s redo is at %s, the plan to %s says %s\n%s", step.Text, i.RedoStart, p.Target, step.After, w.show(p))
		}
		if reached && !step.May {
			w.t.Fatalf("%s stops where the plan to %s does not expect it\n%s", step.Text, p.Target, w.show(p))
		}
	}
}

func (w *world) point(id string) *kept {
	for _, k := range w.taken {
		if k.Point == id {
			return k
		}
	}
	w.t.Fatalf("point %s is none", id)
	return nil
}

func (k *kept) sources() []backups.Device {
	var out []backups.Device
	for i, s := range k.streams {
		out = append(out, backups.Device{Name: fmt.Sprintf("{s%d}", i), R: bytes.NewReader(s)})
	}
	return out
}

func scan(t testing.TB, s *backups.Server) rows {
	t.Helper()
	db, err := s.Database("sales")
	if err != nil {
		t.Fatal(err)
	}
	list, err := db.Scan(context.Background(), "t")
	if err != nil && !message.Has(err, 208) {
		t.Fatal(err)
	}
	out := rows{}
	for _, r := range list {
		out[r.Values[0].(int64)] = r.Values[1].(string)
	}
	return out
}

// show is everything that a failure needs.
func (w *world) show(p Plan) string {
	var b strings.Builder
	for _, k := range w.taken {
		fmt.Fprintf(&b, "%s %s %s..%s fork %.4s>%.4s at %s, %s..%s copy %v bulk %v damage %q abandons %d gone %v set %.4s base %.4s newest full %s checkpoint %s\n", k.Point, k.Kind, short(k.First), short(k.Last),
			k.FirstFork, k.Fork, short(k.ForkPoint), k.Started.Format("15:04:05"), k.Finished.Format("15:04:05"), k.CopyOnly, k.BulkLogged, k.Damage, len(k.Abandons), k.gone, k.Set, k.Base, short(k.DatabaseBackup), short(k.Checkpoint))
	}
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "  %s %s %s\n", s.Do, s.Point, s.Text)
	}
	return b.String()
}

func short(l lsn.LSN) string { return l.Hex() }

func unreachable(err error) *Unreachable {
	var u *Unreachable
	if errors.As(err, &u) {
		return u
	}
	return nil
}
