package sqlguest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"holdfast/backup"
	"holdfast/repo/backend"
	"holdfast/repo/recovery"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/decide/kept"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/locks"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/server"
)

// ErrNoDatabase: no database of that name is on the server.
var ErrNoDatabase = facts.ErrNoDatabase

var (
	// ErrRefused: a rule refuses what was asked for; the error names it.
	ErrRefused = errors.New("refused")
	// ErrImpossible: what was asked for cannot be had of this database; the error names
	// the rule.
	ErrImpossible = errors.New("not done")
)

// Keeper is what a run needs of the repository.
type Keeper interface {
	// ID is the repository's.
	ID() string
	// Backups are ours of that identity, the oldest first, each with SQL Server's
	// word as far as it is known.
	Backups(ctx context.Context, identity string) ([]chain.Backup, error)
	// Store makes a recovery point of the source.
	Store(ctx context.Context, src backup.Source) (*recovery.Point, error)
	// Confirm keeps SQL Server's word on a point.
	Confirm(ctx context.Context, p *recovery.Point, word json.RawMessage) error
	// Open opens the streams of a point, by its id, in the order of its devices.
	Open(ctx context.Context, point string) ([]io.ReadCloser, error)
	// Settle keeps it of a point of an earlier run, by its id.
	Settle(ctx context.Context, point string, word json.RawMessage) error
}

// Run backs up databases of one SQL Server.
type Run struct {
	Server server.Server
	Keep   Keeper

	Label   string // sql/VM or sql/INSTANCE, the first part of the sources' names
	Place   string // see Identity; "" is PlaceOf the server
	Guest   string // see chain.Backup, and so Address
	Address string
	// Request is what is asked for of each database; what depends on the database is
	// filled in.
	Request   decide.Request
	Databases []string // only these; none: all
	Exclude   []string // but these, by name or pattern; they need not be there

	Transport, Staging, Local string // see server.Statement
	Parallel                  int    // databases at once; 0 is 1
	// Device makes a fresh GUID in braces. Many goroutines may ask at once.
	Device func() string
	// Tell hears of each step as it ends, from one goroutine at a time.
	Tell func(Step)
	// Warn hears what concerns no single database, before the first step; nil: nobody does.
	Warn func(text string)

	// Log is told of details; nil for nobody.
	Log *slog.Logger

	tell  chan struct{}    // holds one token: Tell is called by who has it
	all   []facts.Database // of the server, as the run began
	guids []string         // theirs

	mu      sync.Mutex
	devices []string        // that this run has made
	told    map[string]bool // staging files that were warned of
}

func (r *Run) log() *slog.Logger {
	if r.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return r.Log
}

// Step is one decision about one database, and what became of it.
type Step struct {
	Source   string
	Database string // its name
	Identity string // "" if it is not known: the database is not open
	Decision decide.Decision
	Point    *recovery.Point // of a full, a differential or a log backup that is stored
	Err      error           // with a Point: it is stored and not confirmed
}

// All runs and returns the steps, database by database in the server's order. The
// error is that of the server itself; a database's own is in its step.
func (r *Run) All(ctx context.Context) ([]Step, error) {
	at, all, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	if r.Place == "" {
		r.Place = PlaceOf(at)
	}
	jobs, err := r.choose(at, all)
	if err != nil {
		return nil, err
	}
	r.all = all
	for _, d := range all {
		r.guids = append(r.guids, d.GUID)
	}
	r.tell = make(chan struct{}, 1)
	steps := make([][]Step, len(jobs))
	var group errgroup.Group // a failed database does not stop its neighbours
	group.SetLimit(max(r.Parallel, 1))
	for i, j := range jobs {
		group.Go(func() error {
			steps[i] = j.run(ctx)
			return nil
		})
	}
	_ = group.Wait() // none of them returns an error
	return slices.Concat(steps...), ctx.Err()
}

// look asks for the server and all its databases.
func (r *Run) look(ctx context.Context) (*facts.Instance, []facts.Database, error) {
	at, err := facts.AskInstance(ctx, r.Server)
	if err != nil {
		return nil, nil, err
	}
	all, err := facts.AskDatabases(ctx, r.Server, at)
	return at, all, err
}

// choose makes a job of each database, and fails for chosen names that fit none.
func (r *Run) choose(at *facts.Instance, all []facts.Database) ([]*job, error) {
	only, err := facts.Find(r.Databases, at, all)
	if err != nil {
		return nil, err
	}
	except, idle, err := facts.Except(r.Exclude, at, all)
	if err != nil {
		return nil, err
	}
	if len(idle) > 0 && r.Warn != nil {
		r.Warn(fmt.Sprintf("no database of %s fits --exclude-db %s", at.Name, strings.Join(idle, ", ")))
	}
	var jobs []*job
	users := 0
	for i, d := range all {
		if len(r.Databases) > 0 && !slices.Contains(only, i) {
			continue
		}
		j := &job{owner: r, name: d.Name, guid: d.GUID, request: r.Request}
		j.request.Excluded = slices.Contains(except, i)
		if !j.request.Excluded {
			if !d.System() && d.SnapshotOf == 0 {
				users++
			}
		}
		jobs = append(jobs, j)
	}
	for _, j := range jobs {
		j.request.Alone = users == 1
		if len(r.Databases) == 0 {
			j.request.SetHash = facts.SetOf(all, except, r.Exclude)
		}
	}
	return jobs, nil
}

// job is one database's part of a run.
type job struct {
	owner   *Run
	name    string
	guid    string
	id      string         // "" if it is not known: the database is not open
	closed  facts.Database // as it was then
	lock    string         // see LockName
	locks   *locks.Locks   // nil: none is needed
	request decide.Request
	steps   []Step
	heads   map[string]*chain.Header // what SQL Server has read in streams, by their points
	unread  []string                 // kept files of the database that it could not read, and why
	// lost is why the repository cannot give points back, by point, "" if it can; those that
	// were not looked for are not in it.
	lost map[string]string
}

// maxRounds is how many backups of a database one run takes: a log, the full that mends
// its chain, and the log that follows that are three.
const maxRounds = 5

// errCircle: each backup called for the next one, without an end.
var errCircle = errors.New("backup does not change what it was to mend")

// run does a database's part, under its locks.
func (j *job) run(ctx context.Context) []Step {
	if err := j.identify(ctx); err != nil {
		j.note(Step{Err: err})
		return j.steps
	}
	if j.locks == nil {
		j.work(ctx)
		return j.steps
	}
	if err := j.locks.Take(ctx); err != nil {
		j.note(Step{Err: err})
		return j.steps
	}
	if j.takeKept(ctx) {
		j.work(ctx)
	}
	if err := j.locks.Drop(); err != nil {
		j.note(Step{Err: err})
	}
	return j.steps
}

// work decides and does until nothing more follows.
func (j *job) work(ctx context.Context) {
	queue := []decide.Request{j.request}
	for round := 0; len(queue) > 0 && ctx.Err() == nil; round++ {
		if round == maxRounds {
			j.note(Step{Err: errCircle})
			break
		}
		request := queue[0]
		d, ok := j.do(ctx, request)
		queue = queue[1:]
		if !ok {
			continue
		}
		for _, want := range d.Then {
			next := j.request
			next.Want, next.Cause, next.Resolved = want, &d, true
			queue = append(queue, next)
		}
	}
}

// do makes one decision true. It is false if nothing may follow. Whether the locks are
// still ours is asked between the decision and the deed: a decision on facts that
// others may have changed meanwhile is made anew.
func (j *job) do(ctx context.Context, request decide.Request) (decide.Decision, bool) {
	request.Repository = j.owner.Keep.ID()
	for {
		f, ours, err := j.ask(ctx)
		if err != nil {
			j.note(Step{Err: err})
			return decide.Decision{}, false
		}
		d := decide.Decide(request, *f, ours)
		if anew, err := j.prove(ctx, decide.Stands(request, *f, ours, d)); err != nil {
			j.note(Step{Decision: d, Err: err})
			return d, false
		} else if anew {
			continue
		}
		if d.Do != decide.Skip && d.Do != decide.Refuse {
			sure, err := j.locks.Sure(ctx)
			if err != nil {
				j.note(Step{Decision: d, Err: err})
				return d, false
			}
			if !sure {
				j.owner.log().Warn("the database's locks were lost and taken again", "source", j.source())
				continue
			}
		}
		switch d.Do {
		case decide.Resolve:
			if err := j.settle(ctx, f, ours, d); err != nil {
				j.note(Step{Decision: d, Err: err})
				return d, false
			}
			request.Resolved = true
			continue
		case decide.Skip:
			j.note(Step{Decision: d})
			return d, true
		case decide.Refuse:
			if len(d.Then) > 0 { // what was asked for cannot be done, and something else mends it
				j.note(Step{Decision: d})
				return d, true
			}
			j.note(Step{Decision: d, Err: refusal(d)})
			return d, false
		}
		p, err := j.back(ctx, f, d, ours)
		var said *server.Error
		if p == nil && errors.As(err, &said) && request.Failed == 0 && d.Do != decide.DoFull {
			// Others may have come between the look and the statement: look again.
			request.Failed = cause(said)
			continue
		}
		if p != nil {
			j.proven(p.ID) // what follows stands on what was just stored
		}
		j.note(Step{Decision: d, Point: p, Err: err})
		if errors.Is(err, ErrBroken) && !request.CopyOnly {
			d.Then = []decide.Want{decide.Full}
			return d, true
		}
		return d, err == nil
	}
}

// refusal is a decision's reason as an error.
func refusal(d decide.Decision) error {
	if d.Exit != decide.ExitRefused {
		return fmt.Errorf("%s (rule %s): %w", d.Reason, d.Rule, ErrImpossible)
	}
	return fmt.Errorf("%s (rule %s): %w", d.Reason, d.Rule, ErrRefused)
}

// cause is the number of the first error among SQL Server's messages.
func cause(e *server.Error) int32 {
	for _, m := range e.All {
		if m.Severity > 10 && m.Number != 3013 {
			return m.Number
		}
	}
	return 3013
}

// ask looks at the server and the repository afresh.
func (j *job) ask(ctx context.Context) (*decide.Facts, []chain.Backup, error) {
	r := j.owner
	at, all, err := r.look(ctx)
	if err != nil {
		return nil, nil, err
	}
	i := j.among(all)
	if i < 0 {
		return nil, nil, fmt.Errorf("find database %q on %s: %w", j.name, at.Name, ErrNoDatabase)
	}
	f := &decide.Facts{Instance: *at, Database: all[i]}
	if j.id == "" && f.Database.Family != "" && j.closed.Name != "" { // opened just now: the next run's
		f.Database = j.closed
	}
	if j.id == "" || j.request.Excluded || !at.SysAdmin { // the rest would fail, and the rule be unsaid
		return f, nil, nil
	}
	ours, err := r.Keep.Backups(ctx, j.id)
	if err != nil {
		return nil, nil, err
	}
	if err := j.stays(ctx, all, i, ours); err != nil {
		return nil, nil, err
	}
	j.mark(ours)
	if err := details(ctx, r.Server, &f.Database); err != nil {
		return nil, nil, err
	}
	if r.Transport == server.Disk {
		v, err := facts.AskStaging(ctx, r.Server, r.Staging)
		if err != nil {
			return nil, nil, err
		}
		if v != nil {
			f.Database.Volumes = append(f.Database.Volumes, *v)
			if err := estimate(ctx, r.Server, &f.Database); err != nil {
				return nil, nil, err
			}
		}
	}
	f.History, err = history(ctx, r.Server, at, &f.Database, ours)
	return f, ours, err
}

// details asks for what only open databases can tell.
func details(ctx context.Context, s server.Server, d *facts.Database) (err error) {
	if d.State != "ONLINE" {
		return nil
	}
	if d.Volumes, err = facts.AskVolumes(ctx, s, d.Name); err != nil {
		return err
	}
	if d.Replica != "" {
		if d.Group, err = facts.AskGroup(ctx, s, d.Name, d.Replica); err != nil {
			return err
		}
	}
	// A database that is not encrypted any more has its key still, until that is dropped.
	if d.Encryption, err = facts.AskEncryption(ctx, s, d.Name); err != nil {
		return err
	}
	log, err := facts.AskLog(ctx, s, d.Name)
	d.LogEnd = log.End
	return err
}

// estimate asks how much room backups will need where they are staged.
func estimate(ctx context.Context, s server.Server, d *facts.Database) error {
	if d.State != "ONLINE" {
		return nil
	}
	e, err := facts.AskEstimate(ctx, s, d.Name)
	d.Estimate = &e
	return err
}

// history asks msdb for what happened since our newest backup.
func history(ctx context.Context, s server.Server, at *facts.Instance, d *facts.Database, ours []chain.Backup) (h facts.History, err error) {
	var from lsn.LSN
	if h.Rows, err = facts.AskHistory(ctx, s, at, d.Family, from); err != nil {
		return h, err
	}
	if h.LastRestore, err = facts.AskLastRestore(ctx, s, at, d.Name, ours); err != nil {
		return h, err
	}
	h.Running, err = facts.AskRunning(ctx, s)
	return h, err
}

// settle finds out what SQL Server says of our points that nobody has confirmed.
func (j *job) settle(ctx context.Context, f *decide.Facts, ours []chain.Backup, d decide.Decision) error {
	for _, b := range ours {
		if !slices.Contains(d.Unconfirmed, b.Point) {
			continue
		}
		row, err := facts.FindDevice(ctx, j.owner.Server, &f.Instance, b.Device)
		if err != nil && !errors.Is(err, facts.ErrNoRow) {
			return err
		}
		var header *chain.Header
		if row == nil {
			if header, err = j.header(ctx, f, b); errors.Is(err, backend.ErrUnreachable) {
				return err // the next run may know more
			} else if err != nil {
				j.owner.log().Warn("point's stream not read, SQL Server's word on it stays unknown", "source", j.source(), "point", b.Point, "error", err)
				continue
			}
		}
		settled := decide.Settle(b, row, header, decide.Stood(header, ours, &f.Database))
		if settled.State == chain.Unconfirmed {
			j.owner.log().Warn("point stays unconfirmed", "source", j.source(), "point", b.Point, "reason", settled.Reason)
			continue
		}
		addMarks(ctx, j.owner.Server, &f.Instance, &f.Database, &settled, ours, true)
		word, err := json.Marshal(settled)
		if err != nil {
			return fmt.Errorf("settle point %s: %w", b.Point, err)
		}
		if err := j.owner.Keep.Settle(ctx, b.Point, word); err != nil {
			return err
		}
	}
	return nil
}

// header is what SQL Server reads in a point's streams, nil if it finds no backup there.
// Anything else that keeps it from reading them is an error, and says nothing of the point.
// The streams never change, so that they are read once a run.
func (j *job) header(ctx context.Context, f *decide.Facts, b chain.Backup) (*chain.Header, error) {
	r := j.owner
	if h, known := j.heads[b.Point]; known {
		return h, nil
	}
	if r.Transport == server.Disk { // they go into the staging directory for that
		if err := facts.AskRoom(ctx, r.Server, r.Staging, b.StreamBytes); err != nil {
			return nil, err
		}
	}
	streams, err := r.Keep.Open(ctx, b.Point)
	if err != nil {
		return nil, err
	}
	readers := make([]io.Reader, len(streams))
	for i, s := range streams {
		defer s.Close() //nolint:errcheck // nothing was written
		readers[i] = s
	}
	h, err := facts.AskStreams(ctx, r.Server, &f.Instance, server.Statement{Name: r.device(""), Transport: r.Transport, Staging: r.Staging, Local: r.Local}, readers)
	if err != nil && !errors.Is(err, facts.ErrNoRow) {
		return nil, err
	}
	if j.heads == nil {
		j.heads = map[string]*chain.Header{}
	}
	j.heads[b.Point] = h
	return h, nil
}

// back makes the backup.
func (j *job) back(ctx context.Context, f *decide.Facts, d decide.Decision, ours []chain.Backup) (*recovery.Point, error) {
	r := j.owner
	if f.Database.Estimate == nil { // asked before for files only; who watches wants it always
		if err := estimate(ctx, r.Server, &f.Database); err != nil {
			return nil, err
		}
	}
	return r.Keep.Store(ctx, &Source{
		Server: r.Server, Instance: f.Instance, Database: f.Database, Decision: d, LastRestore: f.LastRestore(), Ours: ours,
		Label: j.source(), ID: j.id, Guest: r.Guest, Address: r.Address, Repository: r.Keep.ID(), Device: r.device(j.stamp() + kept.InRun(f.Instance.Run(&f.Database))), Transport: r.Transport, Staging: r.Staging, Local: r.Local,
		SetHash: j.request.SetHash, Confirm: r.Keep.Confirm,
	})
}

func (j *job) source() string { return j.owner.Label + "/" + j.name }

// note keeps a step and tells it.
func (j *job) note(s Step) {
	s.Source, s.Database, s.Identity = j.source(), j.name, j.id
	j.steps = append(j.steps, s)
	if j.owner.Tell == nil {
		return
	}
	j.owner.tell <- struct{}{}
	defer func() { <-j.owner.tell }()
	j.owner.Tell(s)
}
