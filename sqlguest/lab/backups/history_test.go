package backups

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest/lab/backups/msdb"
	"holdfast/sqlguest/lab/backups/stream"
	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/storage/message"
	"holdfast/sqlguest/lab/value"
	"holdfast/sqlguest/lsn"
)

// version is what the table held after a commit.
type version struct {
	at   lsn.LSN
	fork value.GUID
	time time.Time
	mark string
	rows map[int64]string
}

// history drives a database at random and keeps what it must hold, beside it.
type history struct {
	*bench
	r        *rand.Rand
	versions []version
	now      map[int64]string
	open     *storage.Tx
	work     map[int64]string
	files    int
	marks    int
	next     int64
	// applied counts what restores took, by type of backup; 100 is stops reached.
	applied map[uint8]int
}

func (h *history) step() {
	switch n := h.r.IntN(100); {
	case n < 45:
		h.transaction()
	case n < 52:
		h.end(h.r.IntN(3) > 0)
		h.begin()
	case n < 58:
		h.data(BackupOptions{Kind: Full, CopyOnly: h.r.IntN(3) == 0})
	case n < 66:
		h.data(BackupOptions{Kind: Differential})
	case n < 84:
		h.data(BackupOptions{Kind: Log, CopyOnly: h.r.IntN(6) == 0})
	case n < 87:
		h.end(true)
		h.addFile()
	case n < 89:
		h.end(true)
		models := []storage.Model{storage.Full, storage.Full, storage.Full, storage.BulkLogged, storage.BulkLogged, storage.Simple}
		if _, err := h.database().SetModel(context.Background(), models[h.r.IntN(len(models))]); err != nil {
			h.t.Fatal(err)
		}
	case n < 92:
		h.end(true)
		h.restart()
	case n < 95:
		h.end(true)
		h.shrink()
	case n < 98:
		h.end(true)
		h.goBack()
	default:
		if h.open == nil {
			if err := h.database().Checkpoint(); err != nil {
				h.t.Fatal(err)
			}
		}
	}
}

// begin opens a transaction that stays open over the next steps.
func (h *history) begin() {
	tx, err := h.database().Begin(context.Background(), "long")
	if err != nil {
		h.t.Fatal(err)
	}
	h.open, h.work = tx, maps.Clone(h.now)
	h.write()
}

// transaction writes in the open transaction or in one of its own.
func (h *history) transaction() {
	if h.open == nil {
		h.begin()
		h.end(h.r.IntN(5) > 0)
		return
	}
	h.write()
}

// write makes a few changes.
func (h *history) write() {
	for range 1 + h.r.IntN(3) {
		list, err := h.open.Scan("t")
		if err != nil {
			h.t.Fatal(err)
		}
		text := strings.Repeat(string(rune('a'+h.r.IntN(26))), 1+h.r.IntN(600))
		h.next++
		switch n := h.r.IntN(10); {
		case n < 1:
			bulk := [][]any{{h.next, text}, {h.next + 1, text}, {h.next + 2, text}}
			err = h.open.BulkInsert("t", bulk)
			for _, row := range bulk {
				h.work[row[0].(int64)] = text
			}
			h.next += 3
		case n < 6 || len(list) == 0:
			_, err = h.open.Insert("t", []any{h.next, text})
			h.work[h.next] = text
		case n < 8:
			v := list[h.r.IntN(len(list))]
			_, err = h.open.Update("t", v.ID, []any{v.Values[0], text})
			h.work[v.Values[0].(int64)] = text
		default:
			v := list[h.r.IntN(len(list))]
			err = h.open.Delete("t", v.ID)
			delete(h.work, v.Values[0].(int64))
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
}

// end commits or rolls back the open transaction, if there is one.
func (h *history) end(commit bool) {
	if h.open == nil {
		return
	}
	tx := h.open
	h.open = nil
	if !commit {
		if err := tx.Rollback(); err != nil {
			h.t.Fatal(err)
		}
		return
	}
	mark := ""
	if h.r.IntN(4) == 0 {
		h.marks++
		mark = "mark" + string(rune('a'+h.marks%20))
		tx.SetMark(mark, "a mark", "sa")
	}
	c, err := tx.Commit()
	if err != nil {
		h.t.Fatal(err)
	}
	h.now = h.work
	if !c.LSN.IsZero() {
		i := h.database().Info()
		h.versions = append(h.versions, version{c.LSN, i.Fork(), storage.Local(h.clock.now), mark, h.now})
	}
}

// data takes a backup; between its end and the verdict, and in the middle of its
// reading, writing goes on. One in five is aborted and must have changed nothing.
func (h *history) data(o BackupOptions) {
	o.Database = h.db
	devices, buffers := sinks(1 + h.r.IntN(3))
	devices[0].W = &interrupter{w: buffers[0], at: 1 + h.r.IntN(6), act: h.meddle}
	before := h.database().Info()
	run, err := h.s.BeginBackup(context.Background(), o, devices)
	if err != nil {
		for _, n := range []int32{3035, 4208, 4214} {
			if message.Has(err, n) {
				return
			}
		}
		h.t.Fatal(err)
	}
	h.meddle()
	if h.r.IntN(5) == 0 {
		refused(h.t, run.Abort(nil), 3204)
		after := h.database().Info()
		// A log backup may have been taken while a data backup ran; nothing else moves.
		if o.Kind == Log && after.LastLogBackup != before.LastLogBackup || after.Files[0].Base != before.Files[0].Base ||
			slices.ContainsFunc(h.s.MSDB().Sets, func(s msdb.BackupSet) bool { return s.UUID == run.Header.BackupSetGUID }) {
			h.t.Fatal("an aborted backup has changed something")
		}
		return
	}
	if _, err := run.Complete(); err != nil {
		h.t.Fatal(err)
	}
	k := &kept{h: run.Header}
	for _, b := range buffers {
		k.streams = append(k.streams, b.Bytes())
	}
	h.taken = append(h.taken, k)
}

// interrupter runs something in the middle of a stream.
type interrupter struct {
	w   interface{ Write([]byte) (int, error) }
	at  int
	act func()
}

func (i *interrupter) Write(p []byte) (int, error) {
	if i.at--; i.at == 0 {
		i.act()
	}
	return i.w.Write(p)
}

// meddle writes while a backup runs, and backs up the log while a data backup does.
func (h *history) meddle() {
	defer func() {
		if h.r.IntN(4) == 0 {
			h.checkpointAndLog()
		}
	}()
	if h.r.IntN(2) == 0 {
		h.transaction()
	}
}

// checkpointAndLog does what would truncate the log under a data backup.
func (h *history) checkpointAndLog() {
	if err := h.database().Checkpoint(); err != nil {
		h.t.Fatal(err)
	}
	k, _, err := h.try(BackupOptions{Kind: Log, CopyOnly: h.r.IntN(4) == 0}, 1)
	if err == nil && h.r.IntN(12) == 0 {
		h.taken = slices.DeleteFunc(h.taken, func(o *kept) bool { return o == k }) // lost
	}
	if err != nil && !message.Has(err, 3023) && !message.Has(err, 4214) && !message.Has(err, 4208) {
		h.t.Fatal(err)
	}
}

func (h *history) addFile() {
	h.files++
	name := "more" + string(rune('a'+h.files))
	if err := h.database().AddFile(context.Background(), storage.File{Logical: name, Physical: `D:\` + name + `.ndf`}); err != nil {
		h.t.Fatal(err)
	}
}

// shrink makes a file smaller or empties it and takes it away.
func (h *history) shrink() {
	db, ctx := h.database(), context.Background()
	for _, f := range db.Info().Files {
		if f.ID > 2 && f.DropLSN.IsZero() {
			if err := db.ShrinkFile(ctx, f.Logical, 0, true); err != nil {
				h.t.Fatal(err)
			}
			if err := db.RemoveFile(ctx, f.Logical); err != nil {
				h.t.Fatal(err)
			}
			return
		}
	}
	if err := db.ShrinkFile(ctx, "sales", 0, false); err != nil {
		h.t.Fatal(err)
	}
}

// restart stops the server without a word and starts it again.
func (h *history) restart() {
	if err := h.s.Close(); err != nil {
		h.t.Fatal(err)
	}
	s, err := New(h.s.Options())
	if err != nil {
		h.t.Fatal(err)
	}
	h.s = s
}

// goBack restores the database over itself to some earlier point: a new fork.
func (h *history) goBack() {
	if h.recoverTo(h.s) {
		h.now = h.expect(h.s)
	}
}

// fits are the numbers that say that a backup does not fit where it was tried.
var fits = []int32{4305, 4312, 4326, 4330, 3136, 3120, 4335, 4338, 4341, 3145, 3117}

// recoverTo restores a random full and whatever of the later backups fits, up to a
// random stop, with nothing but the streams. What does not fit must say so with a
// number, and must have changed nothing.
func (h *history) recoverTo(s *Server) bool {
	var fulls []int
	for i, k := range h.taken {
		if k.h.BackupType == stream.TypeFull {
			fulls = append(fulls, i)
		}
	}
	if len(fulls) == 0 {
		return false
	}
	at := fulls[h.r.IntN(len(fulls))]
	h.must(s, h.taken[at], RestoreOptions{End: NoRecovery, Replace: true})
	stop := h.stop(h.taken[at])
	path := h.r.IntN(4)
	for _, k := range h.taken[at+1:] {
		if k.h.BackupType == stream.TypeFull || h.r.IntN(25) == 0 || path == 0 && k.h.BackupType == stream.TypeLog {
			continue
		}
		o := RestoreOptions{End: NoRecovery}
		if k.h.BackupType == stream.TypeLog {
			o.Stop = stop
		}
		if h.r.IntN(4) == 0 {
			o.End, o.UndoFile = Standby, `C:\undo.tuf`
		}
		db, _ := s.Database("sales")
		before := db.Info()
		messages, err := restore(s, k, o)
		if err != nil {
			if !slices.ContainsFunc(fits, func(n int32) bool { return message.Has(err, n) }) {
				h.t.Fatal(err)
			}
			if after := db.Info(); after.RedoStart != before.RedoStart || after.RedoFork != before.RedoFork {
				h.t.Fatalf("a refused restore has moved the database: %v", err)
			}
			continue
		}
		h.applied[k.h.BackupType]++
		if o.End == Standby {
			h.compare(s, "in standby")
		}
		if !o.Stop.isZero() && before.RedoStart.Less(k.h.LastLSN) {
			reached := !has(messages, 4322) && !has(messages, 4329)
			h.checkStop(db.Info(), before.RedoStart, k, o.Stop, reached)
		}
	}
	h.compareAfterRecovery(s)
	return true
}

// checkStop looks at each commit that the log held: it is in exactly if the stop
// clause lets it in, whatever LSN the restore stopped at.
func (h *history) checkStop(i storage.Info, from lsn.LSN, k *kept, stop Stop, reached bool) {
	h.t.Helper()
	if reached {
		h.applied[100]++
	}
	passed := false // a mark's name counts where it is met first
	for _, v := range h.versions {
		if v.at.Less(from) || !v.at.Less(k.h.LastLSN) || storage.ForkAt(k.h.Boot.Forks, v.at) != v.fork {
			continue
		}
		var in bool
		switch text, isLSN := strings.CutPrefix(stop.Mark, "lsn:"); {
		case stop.Mark == "":
			in = !v.time.After(stop.At)
		case isLSN && stop.Before:
			in = v.at.String() < text
		case isLSN:
			in = v.at.String() <= text
		default:
			met := !passed && v.mark == stop.Mark
			in = !passed && (!met || !stop.Before)
			passed = passed || met
		}
		if got := v.at.Less(i.RedoStart); got != in {
			h.t.Fatalf("commit %s at %s (mark %q) is in: %v, want %v; stop %+v, stopped at %s", v.at, v.time, v.mark, got, in, stop, i.RedoStart)
		}
		if !in && !reached {
			h.t.Fatalf("commit %s is out, but the stop %+v is said not to be reached", v.at, stop)
		}
	}
}

// stop is a random stop clause, often none.
func (h *history) stop(full *kept) Stop {
	if len(h.versions) == 0 {
		return Stop{}
	}
	v := h.versions[h.r.IntN(len(h.versions))]
	var inside []version // of those that a log holds which may be restored
	for _, w := range h.versions {
		for _, k := range h.taken {
			if k.h.BackupType == stream.TypeLog && full.h.LastLSN.Less(w.at) && w.at.Less(k.h.LastLSN) && !w.at.Less(k.h.FirstLSN) {
				inside = append(inside, w)
			}
		}
	}
	if len(inside) > 0 && h.r.IntN(4) > 0 {
		v = inside[h.r.IntN(len(inside))]
	}
	switch h.r.IntN(5) {
	case 0:
		return Stop{At: v.time.Add(time.Duration(h.r.IntN(3)-1) * 300 * time.Millisecond)}
	case 1:
		return Stop{Mark: "lsn:" + v.at.String(), Before: h.r.IntN(2) == 0}
	case 2:
		if v.mark != "" {
			return Stop{Mark: v.mark, Before: h.r.IntN(2) == 0}
		}
	}
	return Stop{}
}

// expect is what a database at its point must hold: the last version before it on
// its path of forks.
func (h *history) expect(s *Server) map[int64]string {
	db, err := s.Database("sales")
	if err != nil {
		h.t.Fatal(err)
	}
	i := db.Info()
	at := i.RedoStart
	if at.IsZero() { // recovered: the last fork's start is the point
		at = i.Forks[len(i.Forks)-1].Start
	}
	var out map[int64]string
	var best lsn.LSN
	for _, v := range h.versions {
		if v.at.Less(at) && storage.ForkAt(i.Forks, v.at) == v.fork && best.Less(v.at) {
			best, out = v.at, v.rows
		}
	}
	return out
}

func (h *history) compare(s *Server, when string) {
	h.t.Helper()
	if got, want := rows(h.t, s, "sales"), h.expect(s); !maps.Equal(got, want) {
		db, _ := s.Database("sales")
		h.t.Fatalf("%s at %s: rows %v, want %v", when, db.Info().RedoStart, keys(got), keys(want))
	}
}

func (h *history) compareAfterRecovery(s *Server) {
	h.t.Helper()
	if _, err := s.Restore(context.Background(), RestoreOptions{Database: "sales"}, nil); err != nil {
		h.t.Fatal(err)
	}
	h.compare(s, "recovered")
	db, _ := s.Database("sales")
	if problems, err := db.Check(); err != nil || len(problems) > 0 {
		h.t.Fatalf("the restored database is not in order: %v %v", problems, err)
	}
}

func keys(m map[int64]string) []int64 { return slices.Sorted(maps.Keys(m)) }

func newHistory(t testing.TB, seed uint64) *history {
	r := rand.New(rand.NewPCG(seed, 7))
	models := []storage.Model{storage.Full, storage.Full, storage.BulkLogged, storage.Simple}
	h := &history{bench: newBench(t, seed, models[r.IntN(len(models))]), r: r, now: map[int64]string{}, applied: map[uint8]int{}}
	// The table's own creation is a version: empty, but there.
	i := h.database().Info()
	h.versions = append(h.versions, version{at: lsn.LSN{VLF: 1}, fork: i.Fork(), time: storage.Local(h.clock.now), rows: map[int64]string{}})
	return h
}

// TestAnyHistoryIsRestoredFromItsStreamsAlone is the model test: see history.
func TestAnyHistoryIsRestoredFromItsStreamsAlone(t *testing.T) {
	n := uint64(150)
	if testing.Short() {
		n = 40
	}
	applied := map[uint8]int{}
	for seed := range n {
		for kind, count := range runHistory(t, seed) {
			applied[kind] += count
		}
	}
	for _, kind := range []uint8{stream.TypeLog, stream.TypeDifferential, 100} {
		if applied[kind] < int(n)/10 {
			t.Errorf("only %d of kind %d in %d histories: the test proves little", applied[kind], kind, n)
		}
	}
	t.Logf("restored by type, stops reached as 100: %v", applied)
}

func runHistory(t testing.TB, seed uint64) map[uint8]int {
	h := newHistory(t, seed)
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	for range 40 {
		h.step()
	}
	h.end(true)
	if got := rows(t, h.s, "sales"); !maps.Equal(got, h.now) {
		t.Fatalf("rows %v, want %v", keys(got), keys(h.now))
	}
	for i := range 3 {
		other, _ := newServer(t, seed+1000+uint64(i))
		h.recoverTo(other)
	}
	return h.applied
}

func BenchmarkHistory(b *testing.B) {
	for i := range b.N {
		runHistory(b, uint64(i))
	}
}
