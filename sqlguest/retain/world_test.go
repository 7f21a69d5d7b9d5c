package retain_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"holdfast/repo/recovery"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lab/backups"
	"holdfast/sqlguest/lab/backups/stream"
	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/storage/filesystem"
	"holdfast/sqlguest/lab/storage/message"
	"holdfast/sqlguest/lab/value"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/server"
)

// rows is what the table holds.
type rows map[int64]string

// kept is a recovery point: what the repository knows, its streams, and what the
// database held.
type kept struct {
	chain.Backup // as it is known now
	header       chain.Header
	point        *recovery.Point
	streams      [][]byte
	rows         rows
	lost         bool // SQL Server gave the backup up
}

// world is a server with a database that lives through a random history, and what a
// careful tool has backed up of it: after a revert it takes a full, and what it did not
// hear of it asks for before the next backup.
type world struct {
	t     testing.TB
	r     *rand.Rand
	s     *backups.Server
	now   time.Time
	rows  rows
	next  int64
	taken []*kept
	count map[string]int

	snap   *backups.Server // of the machine
	snapAt int             // backups that were there
	snapOf rows
	due    []string // sets to be abandoned by the next full
}

const source = "sql/LAB/sales"

var noted = []byte("{}") // of a point: its backup is given beside it

func (w *world) look() time.Time {
	w.now = w.now.Add(time.Duration(100+w.r.IntN(2500)) * time.Millisecond)
	return w.now
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func newServer(t testing.TB, seed uint64, now func() time.Time) *backups.Server {
	t.Helper()
	s, err := backups.New(backups.Options{FS: &filesystem.Memory{}, Now: now, Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newWorld has a database whose first full is taken.
func newWorld(t testing.TB, seed uint64, count map[string]int) *world {
	w := &world{t: t, r: rand.New(rand.NewPCG(seed, 9)), now: time.Date(2026, 3, 2, 8, 0, 0, 0, time.FixedZone("", 3600)), rows: rows{}, count: count}
	w.s = newServer(t, seed, w.look)
	w.create()
	w.backup(backups.Full, false)
	return w
}

// create makes the database and its table.
func (w *world) create() {
	_, err := w.s.Create(backups.CreateOptions{Name: "sales", Model: storage.Full})
	w.must(err)
	tx, err := w.db().Begin(context.Background(), "")
	w.must(err)
	_, err = tx.CreateTable("t", []value.Column{{Name: "id"}, {Name: "v"}}, "")
	w.must(err)
	_, err = tx.Commit()
	w.must(err)
}

func (w *world) db() *storage.Database {
	db, err := w.s.Database("sales")
	w.must(err)
	return db
}

// step lets time pass and something happen.
func (w *world) step() {
	if w.r.IntN(2) == 0 {
		w.now = w.now.Add(time.Duration(w.r.IntN(36*60)) * time.Minute)
	}
	if len(w.due) > 0 { // a full follows a revert, before anything else is backed up
		w.backup(backups.Full, false)
		return
	}
	switch n := w.r.IntN(100); {
	case n < 25:
		w.write()
	case n < 33:
		w.backup(backups.Full, w.r.IntN(3) == 0)
	case n < 45:
		w.backup(backups.Differential, false)
	case n < 78:
		w.backup(backups.Log, w.r.IntN(10) == 0)
	case n < 81:
		w.foreign(backups.Log)
	case n < 82:
		w.foreign(backups.Full)
	case n < 86:
		models := []storage.Model{storage.Full, storage.Full, storage.BulkLogged, storage.Simple}
		_, err := w.db().SetModel(context.Background(), models[w.r.IntN(len(models))])
		w.must(err)
		w.count["recovery model"]++
	case n < 89:
		s, err := w.s.Clone()
		w.must(err)
		w.snap, w.snapAt, w.snapOf = s, len(w.taken), maps.Clone(w.rows)
	case n < 93:
		w.revert()
	case n < 97:
		w.back()
	default:
		w.now = w.now.Add(time.Duration(w.r.IntN(9*24)) * time.Hour)
	}
}

func (w *world) write() {
	tx, err := w.db().Begin(context.Background(), "")
	w.must(err)
	for range 1 + w.r.IntN(3) {
		w.next++
		text := strings.Repeat(string(rune('a'+w.r.IntN(26))), 1+w.r.IntN(40))
		if w.r.IntN(4) == 0 { // minimally logged, where the recovery model allows it
			w.must(tx.BulkInsert("t", [][]any{{w.next, text}}))
		} else {
			_, err = tx.Insert("t", []any{w.next, text})
			w.must(err)
		}
		w.rows = maps.Clone(w.rows)
		w.rows[w.next] = text
	}
	_, err = tx.Commit()
	w.must(err)
}

// refused tells that the server's rules forbid the backup: not in SIMPLE, no full yet.
func refused(err error) bool {
	return message.Has(err, 3035) || message.Has(err, 4208) || message.Has(err, 4214)
}

// foreign is somebody else's backup, of which we have nothing.
func (w *world) foreign(kind backups.Kind) {
	_, err := w.s.Backup(context.Background(), backups.BackupOptions{Database: "sales", Kind: kind}, []backups.Device{{Name: "NUL", W: &bytes.Buffer{}}})
	if err != nil && !refused(err) {
		w.t.Fatal(err)
	}
	w.count["foreign"]++
}

// take runs a BACKUP up to where SQL Server waits for its devices, and completes it
// unless it is to be lost; nil if the server's rules forbid it.
func (w *world) take(kind backups.Kind, copyOnly, lost bool) *kept {
	var out bytes.Buffer
	run, err := w.s.BeginBackup(context.Background(), backups.BackupOptions{Database: "sales", Kind: kind, CopyOnly: copyOnly}, []backups.Device{{Name: "{d}", W: &out}})
	if err != nil {
		if !refused(err) {
			w.t.Fatal(err)
		}
		return nil
	}
	k := &kept{header: header(run.Header), rows: maps.Clone(w.rows), streams: [][]byte{out.Bytes()}, lost: lost}
	id := fmt.Sprintf("p%d", len(w.taken))
	k.Point, k.point = id, &recovery.Point{ID: id, SID: "s-" + id, Kind: recovery.Kind("sql-" + string(k.header.Kind)), Source: source, Identity: source, Time: w.now, Attrs: noted}
	if lost {
		run.Abort(nil) // what it returns is for the client
	} else {
		_, err = run.Complete()
		w.must(err)
	}
	w.taken = append(w.taken, k)
	w.count[string(k.header.Kind)]++
	return k
}

// backup takes one of ours. Now and then nobody hears whether it succeeded.
func (w *world) backup(kind backups.Kind, copyOnly bool) {
	w.settle()
	k := w.take(kind, copyOnly, w.r.IntN(30) == 0)
	if k == nil {
		return
	}
	if kind == backups.Full && len(w.due) > 0 {
		k.Abandons, w.due = w.due, nil
	}
	// What is known before SQL Server's word.
	h := k.header
	k.Header = chain.Header{Kind: h.Kind, Family: h.Family, DatabaseGUID: h.DatabaseGUID, FirstFork: h.Fork, Fork: h.Fork, Base: h.Base, CopyOnly: h.CopyOnly, Started: h.Started}
	if h.Kind == chain.Log {
		k.First = h.First
	}
	if w.r.IntN(12) > 0 || h.FirstFork != h.Fork { // nobody takes a log over a fork before a full
		w.settle()
	}
}

// settle finds out what became of backups that nobody has confirmed.
func (w *world) settle() {
	for _, k := range w.taken {
		if k.State == chain.Unconfirmed {
			k.Backup = k.settled()
			w.count[string(k.State)]++
		}
	}
}

// settled is the backup with SQL Server's word.
func (k *kept) settled() chain.Backup {
	if k.lost {
		return k.With(chain.Confirmation{State: chain.Denied, By: chain.ByVerdict})
	}
	return k.With(chain.Confirmation{State: chain.Confirmed, By: chain.ByRow, Header: &k.header})
}

// header reads the stream's header as msdb's row is read.
func header(h stream.Header) chain.Header {
	local := func(t time.Time) time.Time {
		return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.FixedZone("", h.TimeZone*15*60))
	}
	guid := func(g value.GUID) string {
		if g == (value.GUID{}) {
			return ""
		}
		return g.String()
	}
	return chain.Header{
		Set: guid(h.BackupSetGUID), Kind: map[uint8]chain.Kind{1: chain.Full, 2: chain.Log, 5: chain.Diff}[h.BackupType],
		Database: h.DatabaseName, Family: guid(h.FamilyGUID), DatabaseGUID: guid(h.BindingID),
		FirstFork: guid(h.FirstRecoveryForkID), Fork: guid(h.RecoveryForkID), ForkPoint: h.ForkPointLSN,
		First: h.FirstLSN, Last: h.LastLSN, Checkpoint: h.CheckpointLSN, DatabaseBackup: h.DatabaseBackupLSN,
		Base: guid(h.DifferentialBaseGUID), BaseLSN: h.DifferentialBaseLSN, CopyOnly: h.IsCopyOnly,
		BulkLogged: h.HasBulkLoggedData, BeginsChain: h.BeginsLogChain,
		Started: local(h.StartDate), Finished: local(h.FinishDate), Model: h.RecoveryModel,
	}
}

// revert sets the machine back to its snapshot, if that takes backups from us. What was
// not confirmed by then is denied: msdb has lost it.
func (w *world) revert() {
	if w.snap == nil || w.snapAt == len(w.taken) {
		return
	}
	w.s, w.rows, w.snap = w.snap, w.snapOf, nil
	for _, k := range w.taken[w.snapAt:] {
		if k.State == chain.Unconfirmed {
			k.lost = true
		}
		if k.State == chain.Confirmed {
			w.due = append(w.due, k.Set)
		}
	}
	w.count["revert"]++
}

// backups are what the repository knows of the points for which there is true.
func (w *world) backups(there func(k *kept) bool) []chain.Backup {
	var list []chain.Backup
	for _, k := range w.taken {
		if there(k) {
			list = append(list, k.Backup)
		}
	}
	return list
}

func all(*kept) bool { return true }

// back restores the database over itself to the end of one of its backups, or to a
// time: a new fork.
func (w *world) back() {
	k := w.taken[w.r.IntN(len(w.taken))]
	target := plan.Target{Point: k.Point}
	if w.r.IntN(2) == 0 {
		target = plan.Target{At: k.header.Started.Add(time.Duration(w.r.IntN(1000)) * time.Second)}
	}
	p, err := plan.Make(target, w.backups(all), plan.Options{Replace: true})
	if err != nil {
		return
	}
	w.execute(w.s, p)
	w.rows = scan(w.t, w.s)
	w.count["restore over it"]++
}

// execute runs a plan on a server, with nothing but the streams.
func (w *world) execute(s *backups.Server, p plan.Plan) {
	w.t.Helper()
	stop := backups.Stop{At: p.Stop.At, Mark: p.Stop.Mark, Before: p.Stop.Before, After: p.Stop.After}
	reached := false
	for _, step := range p.Steps {
		o := backups.RestoreOptions{Database: "sales", End: backups.NoRecovery, Replace: step.Do == plan.DoFull, Log: step.Do == plan.DoLog}
		var from []backups.Device
		switch {
		case step.Do == plan.DoFinish:
			o.End = backups.Recovery
		case reached:
			continue
		default:
			for i, data := range w.point(step.Point).streams {
				from = append(from, backups.Device{Name: fmt.Sprintf("{s%d}", i), R: bytes.NewReader(data)})
			}
		}
		if o.Log {
			o.Stop = stop
		}
		said, err := s.Restore(context.Background(), o, from)
		if err != nil {
			w.t.Fatalf("%s of the plan to %s: %v\n%s", step.Text, p.Target, err, w.show())
		}
		out := server.Outcome{Messages: said}
		reached = o.Log && !p.Stop.IsZero() && !out.Has(4322) && !out.Has(4329)
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
func (w *world) show() string {
	var b strings.Builder
	for _, k := range w.taken {
		fmt.Fprintf(&b, "%s %s %q %s..%s fork %.4s>%.4s at %s, %s copy %v bulk %v set %.4s base %.4s abandons", k.Point, k.Kind, k.State, k.First.Hex(), k.Last.Hex(),
			k.FirstFork, k.Fork, lsn.LSN.Hex(k.ForkPoint), k.point.Time.Format("2 15:04:05"), k.CopyOnly, k.BulkLogged, k.Set, k.Base)
		for _, set := range k.Abandons {
			fmt.Fprintf(&b, " %.4s", set)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
