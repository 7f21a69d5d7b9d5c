package trial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	_ "time/tzdata" // the clock's zones, wherever this runs

	"holdfast/backup"
	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/mem"
	"holdfast/repo/recovery"
	"holdfast/repo/seal"
	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/lab/backups"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/server"
)

// rows is what the table holds.
type rows map[int64]string

// moment is what the database held for a time, by the server's clock.
type moment struct {
	from, until time.Time // readings, as storage.Local gives them; until is set when it is over
	begun       time.Time // the instant, by the server's clock and its offset
	rows        rows
	at          lsn.LSN
	mark        string
	was         rows // before it
	line        int  // on which line of its life, see path
	lost        *lostWorld
}

// lostWorld is what a revert took back. If no backup of ours is of it, nobody can know
// that it ever was: at its times the database was what it was set back to.
type lostWorld struct {
	rows  rows
	end   lsn.LSN // of the log that was kept
	taken []*kept
	disk  bool // of the database alone: msdb remembers
}

// kept is a backup of ours and what is true of it.
type kept struct {
	chain.Backup
	path path // the database's whole way to it, which headers do not tell
	rows rows // committed when it was taken
	gone bool // abandoned by a revert
	lost bool // forgotten by the repository
	made bool // SQL Server finished it
}

// taking is a BACKUP under way.
type taking struct {
	rows rows
	path path
	made bool
}

// violation is what a history must not come to.
type violation struct{ text string }

func (v violation) Error() string { return v.text }

// world is a SQL Server with a database that lives through a random history, a
// repository that protects it, and what the database really held when.
type world struct {
	ctx   context.Context
	r     *rand.Rand
	seed  uint64
	count map[string]int
	mutant

	now    time.Time
	looks  atomic.Int64
	zone   *time.Location
	jumped bool // the clock went back, or its offset changed

	lab     *lab.Lab
	hub     *bridge.Hub
	sql     server.Server
	be      backend.Backend
	key     []byte // of the repository
	secret  seal.Secret
	repo    *repo.Repository
	n       int64 // devices so far
	closers []func() error

	name     string
	path     path
	lines    int
	rows     rows
	open     *storage.Tx
	work     rows
	life     []moment
	taken    []*kept
	held     []*held
	identity string
	taking   map[string]*taking // by the device's name
	busy     atomic.Pointer[taking]
	next     int64
	names    int
	files    int

	snap      *lab.Snapshot
	snapAt    int
	snapOf    rows
	snapPath  path
	snapLife  int // moments that there were
	snapEnd   lsn.LSN
	snapFiles string
	snapName  string
	reverts   int
	fault     fault
	lossy     bool // msdb lost rows, or has them under another name
	alone     bool // nobody can write: the database is being restored
}

// fault is what goes wrong with the next backup.
type fault int

const (
	none      fault = iota
	full            // the repository takes no more: the BACKUP is aborted
	mute            // killed after SQL Server's word came and before it was kept
	unspoken        // killed after the point was made and before SQL Server was told
	unwritten       // msdb cannot write its rows
)

func (w *world) fatalf(format string, args ...any) {
	panic(violation{fmt.Sprintf(format, args...)})
}

func (w *world) must(err error) {
	if err != nil {
		w.fatalf("%v", err)
	}
}

// look is the server's clock: it stands still until tick moves it.
func (w *world) look() time.Time { return w.now.In(w.zone) }

func (w *world) tick() { w.pass(time.Duration(100+w.r.IntN(2500)) * time.Millisecond) }

// pass lets time pass, in some histories across the hour in which clocks are changed.
func (w *world) pass(d time.Duration) {
	_, before := w.look().Zone()
	past := w.reading()
	w.now = w.now.Add(d)
	if _, after := w.look().Zone(); after != before && len(w.life) > 0 {
		w.count["op: clocks changed (DST)"]++
		w.changed(past)
	}
}

// changed notes that the clock shows something else than before.
func (w *world) changed(past time.Time) {
	last := w.life[len(w.life)-1]
	w.life[len(w.life)-1].until = past
	w.jumped = w.jumped || w.reading().Before(past)
	w.lives(moment{rows: last.rows})
}

func (w *world) reading() time.Time { return storage.Local(w.look()) }

// lives notes a new moment.
func (w *world) lives(m moment) {
	m.from, m.begun = w.reading(), w.look()
	m.begun = m.begun.Add(m.from.Sub(wall(m.begun))) // the log's times are ticks of its clock
	if n := len(w.life); n > 0 && w.life[n-1].until.IsZero() {
		w.life[n-1].until = m.from
	}
	w.life = append(w.life, m)
}

// safely runs what may find a violation on a goroutine that is not the test's own.
func safely(fn func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			v, ok := r.(violation)
			if !ok {
				panic(r)
			}
			err = v
		}
	}()
	fn()
	return nil
}

// devices is the server as a run sees it: it watches what is taken, and moves the
// clock where only the run is at work.
type devices struct {
	server.Server
	w *world
}

func (d devices) Query(ctx context.Context, text string, args ...server.Arg) (*server.Rows, error) {
	if t := d.w.busy.Swap(nil); t != nil { // everything was read, nothing is durable
		d.w.tick()
		if !d.w.alone && d.w.r.IntN(3) == 0 {
			if err := safely(d.w.write); err != nil {
				return nil, err
			}
		}
	}
	return d.Server.Query(ctx, text, args...)
}

func (d devices) Backup(ctx context.Context, st server.Statement) (server.Backup, error) {
	w := d.w
	w.tick()
	t := &taking{rows: w.rows, path: w.path}
	b, err := d.Server.Backup(ctx, st)
	if err != nil {
		return nil, err
	}
	w.taking[st.Name] = t
	w.busy.Store(t)
	return &watched{Backup: b, w: w, t: t}, nil
}

// watched is a BACKUP whose end is known to the test.
type watched struct {
	server.Backup
	w *world
	t *taking
}

func (b *watched) Commit(ctx context.Context) (*server.Outcome, error) {
	b.w.tick()
	if b.w.fault == unspoken {
		b.w.fault = none
		b.w.count["fault: killed before SQL Server was told"]++
		return nil, errors.Join(errKilled, b.Abort(ctx))
	}
	o, err := b.Backup.Commit(ctx)
	b.t.made = err == nil
	return o, err
}

var errKilled = errors.New("killed")

func newWorld(ctx context.Context, seed uint64, count map[string]int, m mutant) *world {
	return &world{ctx: ctx, r: rand.New(rand.NewPCG(seed, 45)), seed: seed, count: count, mutant: m, rows: rows{}, taking: map[string]*taking{}, name: "sales"}
}

// start makes the server with its database, and the repository.
func (w *world) start() {
	w.clock()
	w.hub = bridge.NewHub(bridge.Options{})
	l, err := lab.Start(lab.Options{Devices: w.hub, Now: w.look, Seed: w.seed, Logins: logins, Deaf: w.seed%48 != 0})
	w.must(err)
	w.lab, w.closers = l, append(w.closers, l.Close)
	w.sql = w.connect(l, w.hub)
	w.lab.BreakDevice(func(_ context.Context, _ string, written int64) error {
		if written == 0 { // a BACKUP lasts
			w.tick()
		}
		return nil
	})
	w.repository()
	models := []storage.Model{storage.Full, storage.Full, storage.Full, storage.Full, storage.BulkLogged, storage.Simple}
	_, err = l.Server().Create(backups.CreateOptions{Name: w.name, Model: models[w.r.IntN(len(models))], Owner: "sa"})
	w.must(err)
	w.exec("CREATE TABLE sales.dbo.t (id bigint NOT NULL, v nvarchar(200))")
	w.tick()
	w.lives(moment{rows: w.rows})
	w.tick()
}

const place = "lab"

var logins = []lab.Login{{Name: "sa", Password: "x", Sysadmin: true}}

// connect goes by the wire in one history of 48, and by hand in the others.
func (w *world) connect(l *lab.Lab, hub *bridge.Hub) server.Server {
	if w.seed%48 != 0 {
		return &near{lab: l, hub: hub}
	}
	wire, err := direct.Open(w.ctx, direct.Options{Address: l.Address(), User: "sa", Password: "x", OpenSet: hub.OpenSet})
	w.must(err)
	w.closers = append(w.closers, wire.Close)
	return wire
}

// clock chooses a zone and where in the year the history lies.
func (w *world) clock() {
	w.zone = time.FixedZone("", 3600)
	w.now = time.Date(2026, 3, 2, 7, 0, 0, 0, time.UTC)
	if !w.mutant.dst && w.r.IntN(6) > 0 {
		return
	}
	w.zone = berlin
	// A few minutes before the clocks are changed; some histories come across it.
	w.now = time.Date(2026, 10, 25, 0, 59, 0, 0, time.UTC).Add(-time.Duration(w.r.IntN(40)) * time.Second)
	if !w.mutant.dst && w.r.IntN(3) == 0 {
		w.now = time.Date(2026, 3, 29, 0, 59, 0, 0, time.UTC).Add(-time.Duration(w.r.IntN(40)) * time.Second)
	}
}

var berlin = func() *time.Location {
	z, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		panic(err)
	}
	return z
}()

// repository makes an empty one in memory.
func (w *world) repository() {
	if w.be == nil {
		w.be = mem.New()
	}
	var err error
	w.key, err = seal.NewKeyFile(seeded(w.seed, 1))
	w.must(err)
	w.secret, err = seal.ParseKeyFile(w.key)
	w.must(err)
	w.repo, err = repo.Init(w.ctx, w.be, repo.InitParams{Keys: []repo.NewKey{{Secret: w.secret}}}, w.options(2))
	w.must(err)
	w.closers = append(w.closers, w.repo.Close)
}

// proxy is the clock of the machine that backs up: another one than SQL Server's, which
// never goes back.
func (w *world) proxy() time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(w.looks.Add(1)) * time.Millisecond)
}

func (w *world) options(stream uint64) repo.Options {
	return repo.Options{Now: w.proxy, Rand: seeded(w.seed, stream), Host: "trial", Program: "holdfast trial", PID: 1}
}

func seeded(seed, stream uint64) *rand.ChaCha8 {
	var key [32]byte
	key[0], key[1] = byte(stream), byte(stream>>8)
	for i := range 8 {
		key[8+i] = byte(seed >> (8 * i))
	}
	return rand.NewChaCha8(key)
}

func (w *world) close() {
	for _, c := range slices.Backward(w.closers) {
		_ = c()
	}
}

func (w *world) db() *storage.Database {
	db, err := w.lab.Server().Database(w.name)
	w.must(err)
	return db
}

// exec runs a batch on the server.
func (w *world) exec(text string) {
	_, err := w.sql.Query(w.ctx, text)
	w.must(err)
}

// write changes a few rows in a transaction that may stay open.
func (w *world) write() {
	if w.open == nil {
		tx, err := w.db().Begin(w.ctx, "")
		w.must(err)
		w.open, w.work = tx, maps.Clone(w.rows)
	}
	for range 1 + w.r.IntN(3) {
		text := strings.Repeat(string(rune('a'+w.r.IntN(26))), 1+w.r.IntN(40))
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
	w.count["op: write"]++
	if w.r.IntN(8) > 0 {
		w.end()
	}
}

// end commits the open transaction, or now and then rolls it back.
func (w *world) end() {
	if w.open == nil {
		return
	}
	tx, mark := w.open, ""
	w.open = nil
	if w.r.IntN(10) == 0 {
		w.must(tx.Rollback())
		w.count["op: rollback"]++
		return
	}
	if w.r.IntN(3) == 0 {
		w.names++
		mark = fmt.Sprintf("mark %d", w.names-w.r.IntN(2)*w.r.IntN(2)) // now and then one twice
		tx.SetMark(mark, "", "sa")
	}
	w.tick()
	c, err := tx.Commit()
	w.must(err)
	if c.LSN.IsZero() {
		return
	}
	w.lives(moment{rows: w.work, at: c.LSN, mark: mark, was: w.rows, line: w.path.now()})
	w.rows = w.work
	if mark != "" {
		w.count["op: mark"]++
	}
	w.tick()
}

// device is a fresh name.
func (w *world) device() string {
	w.n++
	return fmt.Sprintf("{%08x-0000-4000-8000-%012d}", uint32(w.seed), w.n)
}

// keeper is the repository as a run has it, with this world's fault in it.
func (w *world) keeper(r *repo.Repository) sqlguest.Keeper {
	return &failing{w: w, Repository: sqlguest.Repository{Repo: r, Back: func(ctx context.Context, src backup.Source) (*recovery.Point, error) {
		res, err := backup.Run(ctx, r, remembering{src, w}, backup.Options{Now: w.proxy})
		if res == nil {
			return nil, err
		}
		return res.Point, err
	}}}
}

// remembering notes a point as soon as it is durable, before SQL Server has its word.
type remembering struct {
	backup.Source
	w *world
}

func (s remembering) Freeze(ctx context.Context, parent *recovery.Point) (backup.Frozen, error) {
	f, err := s.Source.Freeze(ctx, parent)
	if err != nil {
		return nil, err
	}
	return remembered{f, s.w}, nil
}

type remembered struct {
	backup.Frozen
	w *world
}

func (f remembered) Committed(ctx context.Context, p *recovery.Point) error {
	f.w.identity = p.Identity
	f.w.held = append(f.w.held, &held{identity: p.Identity, id: p.ID, attrs: p.Attrs})
	return f.Frozen.Committed(ctx, p)
}

// Holds hands on what backup.Run asks of a source that may have it.
func (f remembered) Holds(ctx context.Context) error {
	if h, ok := f.Frozen.(interface{ Holds(context.Context) error }); ok {
		return h.Holds(ctx)
	}
	return nil
}

// thorough tells of a world whose runs read the repository each time: one in 48,
// and those whose clock went back, for a repository has an order by time, too.
func (w *world) thorough() bool { return w.seed%48 == 0 || w.jumped }

// agree holds the repository against what is remembered of it.
func (w *world) agree(ours []chain.Backup) {
	here := w.here()
	same := slices.EqualFunc(ours, here, func(b chain.Backup, k *kept) bool {
		return b.Point == k.Point && b.State == k.State && b.Header == k.Header
	})
	if !same {
		var got, want []string
		for _, b := range ours {
			got = append(got, b.Point+" "+string(b.State))
		}
		for _, k := range here {
			want = append(want, k.Point+" "+string(k.State))
		}
		w.fatalf("the repository has %q, and made were %q", got, want)
	}
}

// run backs the database up as `backup sql` does.
func (w *world) run(want decide.Want, copyOnly bool) {
	w.tick()
	what := string(want)
	if copyOnly {
		what = "copy-only " + what
	}
	w.count["op: "+what]++
	r := &sqlguest.Run{
		Server: devices{w.sql, w}, Label: "sql/LAB", Place: place, Transport: server.VDI, Databases: []string{w.name},
		Request: decide.Request{Want: want, CopyOnly: copyOnly, MinFree: -1}, Device: w.device, Keep: w.keeper(w.repo),
	}
	if w.r.IntN(6) == 0 {
		r.Request.Bridge = decide.Diff
	}
	steps, err := r.All(w.ctx)
	w.busy.Store(nil)
	w.must(err)
	w.tick()
	w.refresh()
	for _, s := range steps {
		w.judge(s)
	}
	w.fault = none
}

// judge counts a step, and takes no failure that no fault explains.
func (w *world) judge(s sqlguest.Step) {
	w.count[fmt.Sprintf("rule: %s %s", s.Decision.Do, s.Decision.Rule)]++
	switch {
	case s.Err == nil, errors.Is(s.Err, sqlguest.ErrImpossible), errors.Is(s.Err, errKilled), errors.Is(s.Err, errFull), errors.Is(s.Err, sqlguest.ErrRefused):
	case errors.Is(s.Err, sqlguest.ErrUnconfirmed) && strings.Contains(s.Err.Error(), "no row"):
		w.count["fault: msdb did not write its row"]++
	default:
		w.fatalf("run: %s %s: %v", s.Decision.Do, s.Decision.Rule, s.Err)
	}
}

// refresh reads what the repository has now, and joins what is true of it.
func (w *world) refresh() {
	known := map[string]*kept{}
	for _, k := range w.taken {
		known[k.Point] = k
		k.lost = true
	}
	for _, b := range w.known() {
		k := known[b.Point]
		if k == nil {
			t := w.taking[b.Device]
			if t == nil {
				w.fatalf("point %s is of no backup: %+v", b.Point, b)
			}
			k = &kept{path: t.path, rows: t.rows, made: t.made}
			w.taken = append(w.taken, k)
		}
		k.Backup, k.lost = b, false
		if k.State == chain.Confirmed && !k.made && !k.traceless() {
			w.fatalf("point %s is confirmed (%s), and SQL Server has not finished that backup", k.Point, k.By)
		}
		if k.State == chain.Denied && k.made {
			w.count["(denied although SQL Server had finished it)"]++
		}
	}
}

// traceless tells of a backup that changes nothing at the server, or of a log behind
// which the server stands: all of its bytes are here, so that it is as good as one that
// the server has finished (SQL-12).
func (k *kept) traceless() bool {
	return k.Kind == chain.Diff || k.CopyOnly || k.Kind == chain.Log && (k.By == chain.ByServer || k.By == chain.ByItself)
}

// known are the backups as a run gets to know them.
func (w *world) known() []chain.Backup {
	if len(w.held) == 0 {
		return nil
	}
	list, err := w.keeper(w.repo).Backups(w.ctx, w.held[0].identity)
	w.must(err)
	return list
}

// read gives the database's backups as a repository tells them.
func (w *world) read(r *repo.Repository) []chain.Backup {
	entries, problems, err := r.Points(w.ctx)
	w.must(err)
	if len(problems) > 0 {
		w.fatalf("%v", problems)
	}
	var ids []string
	for _, e := range entries {
		if !slices.Contains(ids, e.Identity) {
			ids = append(ids, e.Identity)
		}
	}
	if len(ids) > 1 {
		w.fatalf("one database, and identities %q", ids)
	}
	if len(ids) == 0 {
		return nil
	}
	w.identity = ids[0]
	list, err := (&sqlguest.Repository{Repo: r}).Backups(w.ctx, ids[0])
	w.must(err)
	return list
}

// ours is what a planner gets to see.
func (w *world) ours() []chain.Backup {
	var list []chain.Backup
	for _, k := range w.here() {
		list = append(list, k.Backup)
	}
	return list
}

// here are the backups that the repository still has.
func (w *world) here() []*kept {
	return slices.DeleteFunc(slices.Clone(w.taken), func(k *kept) bool { return k.lost })
}

// show is everything that a failure needs.
func (w *world) show(p plan.Plan) string {
	var b bytes.Buffer
	for _, k := range w.taken {
		fmt.Fprintf(&b, "%.4s %s %s %s..%s fork %.4s>%.4s at %s, %s..%s copy %v bulk %v state %s lost %v made %v abandons %d gone %v set %.4s base %.4s rule %s\n", k.Point, k.Kind, k.Database, short(k.First), short(k.Last),
			k.FirstFork, k.Fork, short(k.ForkPoint), k.Started.Format("15:04:05Z07"), k.Finished.Format("15:04:05Z07"), k.CopyOnly, k.BulkLogged, k.State, k.lost, k.made, len(k.Abandons), k.gone, k.Set, k.Base, k.Rule)
	}
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "  %s %.4s %s\n", s.Do, s.Point, s.Text)
	}
	return b.String()
}

func short(l lsn.LSN) string { return l.Hex() }
