package trial

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/repo"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
	"holdfast/sqlguest/server"
)

// other is a second SQL Server, and the repository as somebody opens it who has
// never seen the first.
type other struct {
	w    *world
	lab  *lab.Lab
	sql  server.Server
	repo *repo.Repository
	ours []chain.Backup
	n    int
	done []question // what was restored
}

func (w *world) other() *other {
	hub := bridge.NewHub(bridge.Options{})
	l, err := lab.Start(lab.Options{Name: "OTHER", Devices: hub, Now: w.look, Seed: w.seed ^ 0xb, Logins: logins, Deaf: w.seed%48 != 0})
	w.must(err)
	w.closers = append(w.closers, l.Close)
	sql := w.connect(l, hub)
	r, err := repo.Open(w.ctx, w.be, w.secret, w.options(3))
	w.must(err)
	w.closers = append(w.closers, r.Close)
	o := &other{w: w, lab: l, sql: sql, repo: r, ours: w.read(r)}
	return o
}

// planning are the options that all plans have.
func (w *world) planning() plan.Options {
	var o plan.Options
	if w.r.IntN(2) == 0 && w.zone == berlin {
		o.Zone = berlin
	}
	return o
}

// restoring is a restore on a server, from what a repository holds.
func (w *world) restoring(s server.Server, r *repo.Repository, ours []chain.Backup, t plan.Target, o plan.Options) *replay.Run {
	return &replay.Run{
		Server: s, Streams: &replay.Repository{Repo: r, Identity: w.identity}, Backups: ours, Target: t, Options: o,
		Identity: w.identity, Place: place, Label: "sql/LAB", Device: w.device,
	}
}

// stopped tells of a stop clause that was met where the plan did not expect it, or in
// a bulk-logged log (4341), before the log (4335) or not at all: the clock went back in the middle of a log,
// which no backup tells, and msdb's rows of marks cannot tell on which side they are.
func stopped(err error) bool {
	var said *server.Error
	return errors.Is(err, replay.ErrAstray) || errors.Is(err, replay.ErrMissed) || errors.As(err, &said) && (said.Has(4341) || said.Has(4335))
}

// selected is what a SELECT gives.
func (w *world) selected(s server.Server, name string) rows {
	got, err := s.Query(w.ctx, "SELECT id, v FROM "+facts.Quote(name)+".dbo.t")
	var e *server.Error
	if errors.As(err, &e) && e.Has(208) {
		return rows{} // before the table was made
	}
	w.must(err)
	out := rows{}
	for _, r := range got.Values {
		out[r[0].(int64)] = r[1].(string)
	}
	return out
}

// restore tries a target on the other server, and gives what is there then. The plan is
// told even if the restore failed. A refusal is the error; every other failure is a
// violation, but for the one that early tells of.
func (o *other) restore(t plan.Target, opt plan.Options) (p plan.Plan, got rows, early bool, err error) {
	w := o.w
	r := w.mutant.restore(w.restoring(o.sql, o.repo, o.ours, t, opt))
	done, err := r.Do(w.ctx)
	if isAmbiguous(err) || unreachable(err) != nil {
		return p, nil, false, err
	}
	name := opt.As
	if err == nil {
		p, name = done.Plan, done.Database
	}
	if stopped(err) && (w.jumped || w.unmade(t.Mark)) {
		var left *replay.Left
		if !errors.As(err, &left) {
			w.fatalf("%s: %v", t, err)
		}
		name, early, err = left.Database, true, nil
	}
	if err != nil {
		w.fatalf("%s: %v", t, err)
	}
	if !early {
		got = w.selected(o.sql, name)
	}
	_, err = o.sql.Query(w.ctx, "DROP DATABASE "+facts.Quote(name))
	w.must(err)
	if !early {
		o.done = append(o.done, question{t, opt, p, got})
	}
	return p, got, early, nil
}

// unmade tells of a mark that msdb remembers, and which the disk of the database was set
// back behind: a log that seems to hold it does not.
func (w *world) unmade(mark string) bool {
	return mark != "" && slices.ContainsFunc(w.life, func(m moment) bool { return m.mark == mark && m.lost != nil && m.lost.disk })
}

// options are those of one restore: now and then over the original's name.
func (o *other) options() plan.Options {
	opt := o.w.planning()
	o.n++
	if o.n%3 != 0 {
		opt.As = fmt.Sprintf("restored %d's", o.n)
	}
	if o.n%2 == 0 {
		opt.DataDir, opt.LogDir = `E:\Data`, `F:\Log`
	}
	return opt
}

// restores tries targets of every kind, and tells which could be restored.
func (w *world) restores() []question {
	o := w.other()
	w.agree(o.ours)
	if len(o.ours) == 0 {
		return nil
	}
	for range 2 {
		o.tryTime()
		o.tryPoint()
		o.tryLSN()
	}
	o.tryMark()
	o.tryLatest()
	return o.done
}

func same(a, b rows) bool { return maps.Equal(a, b) }

func (o *other) check(what string, p plan.Plan, got rows, want ...rows) {
	if !contains(want, got, same) {
		var expected []string
		for _, r := range want {
			expected = append(expected, fmt.Sprint(slices.Sorted(maps.Keys(r))))
		}
		o.w.fatalf("%s: %s: rows %v, want %s\n%s", what, p.Target, slices.Sorted(maps.Keys(got)), strings.Join(expected, " or "), o.w.show(p))
	}
	o.w.count["target: "+what+": restored"]++
}

func unreachable(err error) *plan.Unreachable {
	var u *plan.Unreachable
	if errors.As(err, &u) {
		return u
	}
	return nil
}

func isAmbiguous(err error) bool {
	var a *plan.Ambiguous
	return errors.As(err, &a)
}

// refused tells whether a refusal is one of the plan's, and counts it.
func (o *other) refused(what string, err error) {
	switch {
	case isAmbiguous(err):
		o.w.count["target: "+what+": ambiguous"]++
	case unreachable(err) != nil:
		o.w.count["target: "+what+": refused"]++
	default:
		o.w.fatalf("%s: %v", what, err)
	}
}

func (o *other) tryTime() {
	w := o.w
	reading := w.someTime()
	t := plan.Target{At: reading, Bare: true}
	want := w.heldAt(reading)
	if w.r.IntN(3) == 0 {
		m := w.life[w.r.IntN(len(w.life))]
		t = plan.Target{At: m.begun.Add(time.Duration(w.r.IntN(3000)) * time.Millisecond)}
		want = w.heldAtInstant(t.At)
		reading = wall(t.At)
	}
	p, got, early, err := o.restore(t, o.options())
	if err != nil {
		o.refused("time", err)
		// Between backups of two offsets, in a zone that nobody knows, an instant may be
		// either reading.
		doubtful := w.jumped || w.zone == berlin && isAmbiguous(err) || o.behindItself(reading)
		if way := w.truthAt(reading); way != "" && !doubtful {
			w.fatalf("%s: refused (%v), and %s leads there\n%s", t, err, way, w.show(p))
		}
		if u := unreachable(err); u != nil && t.Bare {
			o.neighbours(t, u)
		}
		return
	}
	if early {
		w.count["target: time: stopped early after the clock was set back"]++
		return
	}
	if len(want) == 0 {
		w.fatalf("%s: nothing was there, and it was restored\n%s", t, w.show(p))
	}
	if t.Bare && o.twofold(reading, want) {
		w.fatalf("%s: the clock showed it twice, which backups tell, and one was chosen\n%s", t, w.show(p))
	}
	o.check("time", p, got, want...)
}

// behindItself tells whether a reading lies between a log that stands by itself and the
// backup after it: the database may have been set back in between.
func (o *other) behindItself(reading time.Time) bool {
	var previous *chain.Backup
	for i := range o.ours {
		b := &o.ours[i]
		if b.State != chain.Confirmed {
			continue
		}
		if !wall(b.Started).Before(reading) {
			break
		}
		previous = b
	}
	if previous == nil || previous.By != chain.ByItself {
		return false
	}
	o.w.count["(time behind a log that stands by itself)"]++
	return true
}

// twofold tells whether a reading lies in the hour that was shown twice, with something
// else in the database each time, between backups that know both offsets.
func (o *other) twofold(reading time.Time, held []rows) bool {
	if o.w.zone != berlin || contains(held[1:], held[0], same) || len(held) < 2 {
		return false
	}
	const second, first = 3600, 7200 // of Berlin's hours of that name, in seconds east
	_, before := reading.Add(-first * time.Second).In(berlin).Zone()
	_, after := reading.Add(-second * time.Second).In(berlin).Zone()
	offsets := map[int]bool{}
	for _, b := range o.ours {
		if _, at := b.Started.Zone(); b.State == chain.Confirmed {
			offsets[at] = true
		}
	}
	return before != after && offsets[first] && offsets[second]
}

// neighbours restores what a refusal offers: the one before holds nothing of later.
func (o *other) neighbours(t plan.Target, u *plan.Unreachable) {
	w := o.w
	opt := o.options()
	opt.Nearest = plan.Before
	if u.Before == nil {
		opt.Nearest = plan.After
	}
	p, got, early, err := o.restore(t, opt)
	if u.Before == nil && u.After == nil {
		if unreachable(err) == nil {
			w.fatalf("%s: nothing is near, and: %v", t, err)
		}
		return
	}
	if early {
		return
	}
	if err != nil || p.Instead == nil {
		if w.jumped {
			return
		}
		w.fatalf("%s: the neighbour of %v: %v\n%s", t, u, err, w.show(p))
	}
	if !w.jumped && (u.Before != nil && wall(u.Before.Time).After(t.At) || u.After != nil && !wall(u.After.Time).After(t.At)) {
		w.fatalf("%s: the neighbours are on the wrong sides: %v", t, u)
	}
	want := w.heldAt(wall(p.Instead.Time))
	if p.Instead.Point != "" {
		want = []rows{w.point(p.Instead.Point).rows}
	}
	o.check("neighbour", p, got, want...)
}

func (w *world) point(id string) *kept {
	for _, k := range w.taken {
		if k.Point == id {
			return k
		}
	}
	w.fatalf("point %s is none", id)
	return nil
}

func (o *other) tryPoint() {
	w := o.w
	here := w.here()
	k := here[w.r.IntN(len(here))]
	p, got, _, err := o.restore(plan.Target{Point: k.Point}, o.options())
	if err == nil {
		o.check("point", p, got, k.rows)
		return
	}
	o.refused("point", err)
	if w.truths()[k] {
		w.fatalf("point %s: refused (%v), and it can be reached\n%s", k.Point, err, w.show(p))
	}
}

func (o *other) tryLSN() {
	w := o.w
	m := w.life[w.r.IntN(len(w.life))]
	if m.at.IsZero() {
		return
	}
	t := plan.Target{LSN: m.at, Before: w.r.IntN(3) == 0}
	p, got, early, err := o.restore(t, o.options())
	if early {
		w.fatalf("%s: it was not met where it is", t)
	}
	if err != nil {
		o.refused("LSN", err)
		if way := w.truthThrough(m.at, m.line); way != "" && unreachable(err) != nil && !t.Before {
			w.fatalf("LSN %s of line %d: refused (%v), and %s leads there\n%s", short(m.at), m.line, err, way, w.show(p))
		}
		return
	}
	o.check("LSN", p, got, w.heldThrough(t, w.lastOf(p).path))
}

// heldThrough is what the database held through an LSN on a way: what was committed
// last on it.
func (w *world) heldThrough(t plan.Target, p path) rows {
	var best lsn.LSN
	want := rows{}
	for _, v := range w.life {
		c := v.at.Compare(t.LSN)
		if v.at.IsZero() || c > 0 || c == 0 && t.Before || p.at(v.at) != v.line {
			continue
		}
		if best.Less(v.at) {
			best, want = v.at, v.rows
		}
	}
	return want
}

func (o *other) tryMark() {
	w := o.w
	for range 3 {
		m := w.life[w.r.IntN(len(w.life))]
		if m.mark == "" {
			continue
		}
		t := plan.Target{Mark: m.mark, Before: w.r.IntN(2) == 0, Bare: true}
		what := map[bool]string{true: "before mark", false: "mark"}[t.Before]
		twice := 0
		for _, v := range w.life {
			if v.mark == m.mark {
				twice++
			}
		}
		if twice > 1 {
			t.After = m.from
			what = "mark after a time"
			if w.r.IntN(2) == 0 {
				t.After, t.Bare, what = m.begun, false, "mark after an instant"
			}
		}
		p, got, early, err := o.restore(t, o.options())
		if early {
			w.count["target: mark: not met after the clock or the disk was set back"]++
			continue
		}
		if err != nil {
			o.refused(what, err)
			if !w.marked(m) {
				continue
			}
			if way := w.truthThrough(m.at, m.line); way != "" && unreachable(err) != nil && !t.Before && twice == 1 && w.tellsOf(way, m) {
				w.fatalf("%s (%s on line %d, path %v): refused (%v), and %s leads there\n%s", t, short(m.at), m.line, w.path, err, way, w.show(p))
			}
			continue
		}
		want := m.rows
		if t.Before {
			want = m.was
		}
		if twice > 1 && !wall(p.At).Equal(m.from) { // another one of that name
			early := func(v moment) bool {
				return v.mark == m.mark && v.from.Equal(wall(p.At)) && v.begun.Before(m.begun)
			}
			if !t.Bare && !w.jumped && slices.ContainsFunc(w.life, early) {
				w.fatalf("%s after %s: restored the one of %s\n%s", t, t.After, p.At, w.show(p))
			}
			continue
		}
		o.check(what, p, got, want)
	}
}

// tellsOf: the log that a way ends in knows the mark. Another one may hold the same
// transaction, and its row in msdb was lost.
func (w *world) tellsOf(way string, m moment) bool {
	points := strings.Fields(way)
	k := w.point(points[len(points)-1])
	return slices.ContainsFunc(k.Marks, func(c chain.Mark) bool { return c.LSN == m.at && c.Name == m.mark })
}

// marked tells whether a log of ours knows a mark. One whose row msdb has lost is known
// to nobody, and after the clock was set back msdb's times no longer tell which rows
// are of this life of the database; in all other lives every log knows its marks.
func (w *world) marked(m moment) bool {
	holds := false
	for _, k := range w.here() {
		if k.Kind != chain.Log || k.State != chain.Confirmed || m.at.Less(k.First) || !m.at.Less(k.Last) || k.path.at(m.at) != m.line {
			continue
		}
		holds = true
		if slices.ContainsFunc(k.Marks, func(c chain.Mark) bool { return c.LSN == m.at && c.Name == m.mark }) {
			return true
		}
	}
	if holds && !w.jumped && !w.lossy {
		w.fatalf("mark %s at %s is in no log's confirmation", m.mark, short(m.at))
	}
	w.count["(mark whose row msdb has lost)"]++
	return false
}

func (o *other) tryLatest() {
	w := o.w
	opt := o.options()
	p, got, _, err := o.restore(plan.Target{}, opt)
	newest := w.newest()
	if err != nil && newest != nil && w.unsettled() {
		// Nobody on this server can say what the newest backup is worth, so what is
		// confirmed is restored only to who says that it will do.
		w.count["(latest is refused on top of an unconfirmed backup)"]++
		opt.Nearest = plan.Before
		p, got, _, err = o.restore(plan.Target{}, opt)
	}
	if err == nil {
		if newest == nil {
			w.fatalf("latest: a plan of nothing confirmed\n%s", w.show(p))
		}
		if p.Instead != nil && p.Instead.Point != "" && !w.truths()[newest] {
			newest = w.point(p.Instead.Point) // the nearest that can be reached
		}
		o.check("latest", p, got, newest.rows)
		return
	}
	o.refused("latest", err)
	if newest != nil && w.truths()[newest] {
		w.fatalf("latest: refused (%v), and it can be reached\n%s", err, w.show(p))
	}
}

// unsettled tells whether a backup of ours that nobody confirmed is the newest.
func (w *world) unsettled() bool {
	for _, k := range slices.Backward(w.here()) {
		if k.State != chain.Denied {
			return k.State == chain.Unconfirmed
		}
	}
	return false
}

// newest is our newest backup that SQL Server has confirmed and that is not of a world
// that was left, as far as our own backups say, the unconfirmed ones among them; nor does
// it stand by itself alone.
func (w *world) newest() *kept {
	here := w.here()
	for _, k := range slices.Backward(here) {
		left := slices.ContainsFunc(here, func(o *kept) bool { return slices.Contains(o.Abandons, k.Set) })
		if k.State == chain.Confirmed && !left && k.By != chain.ByItself {
			return k
		}
	}
	return nil
}
