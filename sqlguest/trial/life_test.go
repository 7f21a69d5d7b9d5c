package trial

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab/backups"
	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/storage/message"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
	"holdfast/sqlguest/replay/check"
)

// operation is something that happens to a database, so many times in a thousand.
type operation struct {
	name  string
	share int
	do    func(w *world)
}

var operations = []operation{
	{"write", 400, (*world).write},
	{"full", 50, func(w *world) { w.run(decide.Full, w.r.IntN(4) == 0) }},
	{"diff", 70, func(w *world) { w.run(decide.Diff, false) }},
	{"log", 170, func(w *world) { w.run(decide.Log, w.r.IntN(10) == 0) }},
	{"auto", 50, func(w *world) { w.run(decide.Auto, w.r.IntN(12) == 0) }},
	{"foreign log", 15, func(w *world) { w.foreign(backups.Log) }},
	{"foreign full", 8, func(w *world) { w.foreign(backups.Full) }},
	{"foreign diff", 4, func(w *world) { w.foreign(backups.Differential) }},
	{"model", 22, (*world).model},
	{"snapshot", 20, (*world).snapshot},
	{"revert", 20, (*world).revert},
	{"volume", 8, (*world).volume},
	{"back", 30, (*world).back},
	{"copied", 10, (*world).copied},
	{"forget", 15, (*world).forget},
	{"hurt", 40, (*world).hurt},
	{"rename", 10, (*world).rename},
	{"addFile", 10, (*world).addFile},
	{"loseMSDB", 8, (*world).loseMSDB},
	{"jump", 10, (*world).jump},
	{"wait", 15, (*world).wait},
	{"restart", 8, (*world).restart},
}

// step is one thing that happens.
func (w *world) step() {
	n := 0
	for _, o := range operations {
		n += w.share(o)
	}
	n = w.r.IntN(n)
	for _, o := range operations {
		if n -= w.share(o); n < 0 {
			w.tick()
			o.do(w)
			return
		}
	}
}

func (w *world) share(o operation) int {
	if slices.Contains(w.mutant.often, o.name) {
		return 10 * o.share
	}
	return o.share
}

// foreign is somebody else's backup, whose bytes we never see.
func (w *world) foreign(kind backups.Kind) {
	copyOnly := kind != backups.Differential && w.r.IntN(5) == 0
	err := w.lab.ForeignBackup(w.ctx, backups.BackupOptions{Database: w.name, Kind: kind, CopyOnly: copyOnly})
	for _, n := range []int32{3035, 4208, 4214} { // nothing to back up: no base, SIMPLE, no full yet
		if message.Has(err, n) {
			return
		}
	}
	w.must(err)
	w.count[fmt.Sprintf("op: foreign %s", map[backups.Kind]string{backups.Full: "full", backups.Differential: "differential", backups.Log: "log"}[kind])]++
}

func (w *world) model() {
	w.end()
	models := []storage.Model{storage.Full, storage.Full, storage.Full, storage.Full, storage.Full, storage.BulkLogged, storage.BulkLogged, storage.Simple}
	_, err := w.db().SetModel(w.ctx, models[w.r.IntN(len(models))])
	w.must(err)
	w.count["op: recovery model"]++
}

// snapshot is one of the whole machine.
func (w *world) snapshot() {
	w.end()
	if guid, _ := w.knows(nil); !guid {
		return
	}
	s, err := w.lab.TakeSnapshot()
	w.must(err)
	w.snap, w.snapAt, w.snapOf, w.snapName = s, len(w.taken), w.rows, w.name
	w.snapPath, w.snapEnd, w.snapLife, w.snapFiles = w.path, w.db().Info().LogEnd, len(w.life), w.fileNames()
	w.count["op: snapshot"]++
}

// revert sets the machine back to its snapshot.
func (w *world) revert() {
	if w.snap == nil {
		return
	}
	w.end()
	w.must(w.lab.Revert(w.snap))
	w.name = w.snapName
	w.reverted(false)
	w.count["op: revert"]++
}

// volume sets the disk of the database back to the snapshot, and nothing else.
func (w *world) volume() {
	if w.snap == nil || w.snapFiles != w.fileNames() {
		return // a restore has put others in place of the files
	}
	w.end()
	w.must(w.lab.RevertFiles(w.snap, w.name))
	w.reverted(true)
	w.count["op: revert of the disk alone"]++
}

// fileNames are the files that the database cannot be opened without.
func (w *world) fileNames() (names string) {
	for _, f := range w.db().Info().Files {
		names += f.Physical + " "
	}
	return names
}

// reverted is what is true after a revert.
func (w *world) reverted(disk bool) {
	w.rows = w.snapOf
	w.leaves(w.snapPath, w.snapEnd)
	lost := &lostWorld{w.rows, w.snapEnd, slices.Clone(w.taken[w.snapAt:]), disk}
	for i := w.snapLife; i < len(w.life); i++ {
		w.life[i].lost = lost
	}
	for _, k := range lost.taken {
		k.gone = true
	}
	w.tick()
	w.lives(moment{rows: w.rows})
	w.snap = nil
	w.reverts++
	if w.r.IntN(3) == 0 {
		w.write()
	}
}

// back restores the database over itself to a moment: a new fork. The tail of its log
// becomes a point before that, unless nobody wants it.
func (w *world) back() {
	w.end()
	here := w.here()
	if len(here) == 0 {
		return
	}
	if _, name := w.knows(nil); !name {
		return // it was renamed, and no backup knows that name
	}
	t := plan.Target{Point: here[w.r.IntN(len(here))].Point}
	want := []rows{w.point(t.Point).rows}
	if w.r.IntN(2) == 0 && !w.jumped {
		t = plan.Target{At: w.someTime(), Bare: true}
		want = w.heldAt(t.At)
	}
	o := w.planning()
	o.As, o.Replace = w.name, true
	r := w.restoring(devices{w.sql, w}, w.repo, w.ours(), t, o)
	r.Keep, r.NoTail = w.keeper(w.repo), w.r.IntN(3) == 0
	before, leads := w.db().Info().Forks, w.leads()
	w.tick()
	w.lives(moment{rows: w.rows})
	w.alone = true
	done, err := r.Do(w.ctx)
	w.busy.Store(nil)
	w.alone = false
	w.refresh()
	from := w.path
	switch {
	case err == nil:
		w.rows = w.selected(w.sql, w.name)
		if !contains(want, w.rows, same) {
			w.fatalf("restore over it to %s: rows %v\n%s", t, slices.Sorted(maps.Keys(w.rows)), w.show(done.Plan))
		}
		from = w.lastOf(done.Plan).path
		w.count["op: restore over it"]++
		if done.Tail != "" {
			w.count["op: tail of the log"]++
		}
	case errors.Is(err, replay.ErrLeft):
		w.fatalf("restore over it to %s: %v", t, err)
	case isAmbiguous(err), unreachable(err) != nil:
		w.count["op: restore over it, refused"]++
	case !r.NoTail && !leads && forbidden(err, "P-tail"):
		w.count["op: restore over it, refused for its tail"]++
	default:
		w.fatalf("restore over it to %s (the tail leads on: %v): %v", t, leads, err)
	}
	if forks := w.db().Info().Forks; forks[len(forks)-1].GUID != before[len(before)-1].GUID {
		w.leaves(from, forks[len(forks)-1].Start)
	}
	w.tick()
	w.lives(moment{rows: w.rows})
	w.tick()
}

// leads tells whether the tail of the log surely goes on from a backup of ours that can be
// restored: a full or a log that ends where it begins or later, on the line of now.
func (w *world) leads() bool {
	next := w.db().Info().LastLogBackup
	for k := range w.truths() {
		if !next.IsZero() && !k.Traceless() && k.path.now() == w.path.now() && next.Compare(k.Last) <= 0 {
			return true
		}
	}
	return false
}

// forbidden tells whether a restore was refused by a rule, before anything was touched.
func forbidden(err error, rule string) bool {
	var refused *check.Refused
	return errors.As(err, &refused) && slices.ContainsFunc(refused.Findings, func(f check.Finding) bool { return f.Forbids && f.Rule == rule })
}

// uncopied drops the copy beside the database: of two of one family, when one was
// restored over and renamed, nobody could tell which is ours (SQL-5).
func (w *world) uncopied() {
	if _, err := w.lab.Server().Database("copy"); err == nil {
		w.exec("DROP DATABASE [copy]")
	}
}

// copied restores a copy beside the database: two of one family, from then on, until
// the copy is dropped.
func (w *world) copied() {
	if _, err := w.lab.Server().Database("copy"); err == nil {
		w.exec("DROP DATABASE [copy]")
		return
	}
	here := w.here()
	if len(here) == 0 {
		return
	}
	o := w.planning()
	o.As = "copy"
	k := here[w.r.IntN(len(here))]
	_, err := w.restoring(w.sql, w.repo, w.ours(), plan.Target{Point: k.Point}, o).Do(w.ctx)
	if isAmbiguous(err) || unreachable(err) != nil {
		return
	}
	w.must(err)
	if got := w.selected(w.sql, "copy"); !same(got, k.rows) {
		w.fatalf("copy of point %s: rows %v", k.Point, slices.Sorted(maps.Keys(got)))
	}
	w.count["op: copy beside it"]++
}

// forget takes one of our points out of the repository.
func (w *world) forget() {
	here := w.here()
	if len(here) < 3 {
		return
	}
	k := here[w.r.IntN(len(here))]
	if w.r.IntN(2) == 0 { // what most stands on
		for _, o := range here {
			if o.Kind == chain.Full {
				k = o
			}
		}
	}
	if slices.ContainsFunc(here, func(o *kept) bool { return slices.Contains(k.Abandons, o.Set) || slices.Contains(o.Abandons, k.Set) }) {
		return // what tells of a revert stays as long as what it is told of; see package retain
	}
	if guid, name := w.knows(k); !guid && !name {
		return
	}
	e, err := w.repo.Find(w.ctx, k.Point)
	w.must(err)
	w.must(w.repo.Forget(w.ctx, e, "trial"))
	w.held = slices.DeleteFunc(w.held, func(h *held) bool { return h.id == k.Point })
	w.refresh()
	if !k.lost {
		w.fatalf("point %s was forgotten and is still there", k.Point)
	}
	w.count["op: forget a point"]++
	if w.r.IntN(3) > 0 { // a log that nothing leads to any more, perhaps
		w.run(decide.Log, w.r.IntN(3) > 0)
	}
}

// hurt lets the next backup fail somewhere.
func (w *world) hurt() {
	w.fault = []fault{full, mute, unspoken, unwritten}[w.r.IntN(4)]
	if w.fault == unwritten {
		w.lossy = true
		w.lab.LoseMSDB(true)
		defer w.lab.LoseMSDB(false)
	}
	w.run([]decide.Want{decide.Log, decide.Log, decide.Diff, decide.Full}[w.r.IntN(4)], w.r.IntN(8) == 0)
}

// rename gives the database another name. A copy beside it goes first.
func (w *world) rename() {
	w.end()
	if guid, _ := w.knows(nil); !guid {
		return
	}
	w.uncopied()
	w.n++
	name := fmt.Sprintf("sales %d", w.n)
	w.exec("ALTER DATABASE [" + w.name + "] MODIFY NAME = [" + name + "]")
	w.name = name
	w.lossy = true // of a log that is settled after this the marks are asked for under the old name
	w.count["op: rename"]++
}

func (w *world) addFile() {
	w.end()
	w.files++
	name := fmt.Sprintf("more%d", w.files)
	w.must(w.db().AddFile(w.ctx, storage.File{Logical: name, Physical: `D:\` + name + `.ndf`}))
	w.count["op: file added"]++
}

func (w *world) loseMSDB() {
	w.lab.LoseMSDB(false)
	w.lossy = true
	w.count["op: msdb lost"]++
}

// jump sets the server's clock back or forth.
func (w *world) jump() {
	w.end()
	by := time.Duration(w.r.IntN(240)-120) * time.Second
	if by < 0 {
		w.count["op: clock set back"]++
	} else {
		w.count["op: clock set forth"]++
	}
	past := w.reading()
	w.now = w.now.Add(by)
	w.changed(past)
	w.tick()
}

// wait lets more time pass; where clocks are changed about now, sometimes an hour, so
// that the clock shows again what it has shown.
func (w *world) wait() {
	w.end()
	d := time.Duration(1+w.r.IntN(90)) * time.Second
	if w.zone == berlin && w.r.IntN(2) == 0 {
		d = time.Hour - d
	}
	w.pass(d)
}

// restart stops and starts the service.
func (w *world) restart() {
	w.end()
	w.must(w.lab.StopService())
	w.must(w.lab.StartService())
	w.count["op: service restarted"]++
}

// someTime is a reading at or near something that happened.
func (w *world) someTime() time.Time {
	m := w.life[w.r.IntN(len(w.life))].from
	if here := w.here(); len(here) > 0 && w.r.IntN(3) == 0 {
		k := here[w.r.IntN(len(here))]
		m = wall([]time.Time{k.Started, k.Finished}[w.r.IntN(2)])
		if m.IsZero() || m.Year() < 2000 {
			m = w.life[0].from
		}
	}
	near := []time.Duration{0, 0, 0, -time.Millisecond, time.Millisecond, -time.Second, time.Second, time.Duration(w.r.IntN(20000)) * time.Millisecond}
	return m.Add(near[w.r.IntN(len(near))])
}

// wall is the reading of the clock that showed t, as if it were UTC.
func wall(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// live is one history: a life, and then targets.
func live(ctx context.Context, seed uint64, count map[string]int, m mutant) (err error) {
	w := newWorld(ctx, seed, count, m)
	defer w.close()
	if err := safely(w.whole); err != nil {
		return fmt.Errorf("seed %d: %w\n%s", seed, err, w.show(plan.Plan{}))
	}
	return nil
}

func (w *world) whole() {
	w.start()
	if w.r.IntN(6) > 0 {
		w.run(decide.Full, false)
	}
	for range 12 + w.r.IntN(26) {
		w.step()
	}
	w.end()
	if len(w.here()) == 0 {
		return
	}
	asked := w.restores()
	if w.seed%forgetful != 0 {
		return
	}
	w.retention(asked)
	w.restores()
	for range w.r.IntN(6) { // and life goes on
		w.step()
	}
	w.end()
	w.restores()
}

// forgetful is one in how many histories ends with a policy.
const forgetful = 4

func contains(list []rows, r rows, same func(a, b rows) bool) bool {
	return slices.ContainsFunc(list, func(o rows) bool { return same(o, r) })
}
