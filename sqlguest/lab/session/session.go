package session

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/sqlguest/lab/catalog"
	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/tables"
	"holdfast/sqlguest/lab/tds"
	"holdfast/sqlguest/lab/tsql/eval"
	"holdfast/sqlguest/lab/tsql/expr"
	"holdfast/sqlguest/lab/tsql/plan"
	"holdfast/sqlguest/lab/value"
	"holdfast/sqlguest/server"
)

// session is one client's. It is a tds.Session and the evaluator's Host.
type session struct {
	of    *Instance
	id    int64
	login Login
	about tds.Login
	since time.Time
	state plan.State
	out   *tds.Writer // of the request that runs

	// The rest is read by other sessions too.
	mu       sync.Mutex
	database string
	command  string
	began    time.Time
	percent  float64
	cancel   context.CancelFunc // of the request that runs
	killed   bool

	tran        transaction
	xactAbort   bool
	uncommitted bool // READ UNCOMMITTED
}

// Login lets a client in: 18456 for a wrong name or password, 4060 for a database that
// cannot be opened.
func (l *Instance) Login(_ context.Context, about *tds.Login, _ net.Addr) (tds.Session, error) {
	at := slices.IndexFunc(l.opt.Logins, func(k Login) bool { return strings.EqualFold(k.Name, about.User) })
	if about.Integrated || at < 0 || l.opt.Logins[at].Password != about.Password {
		return nil, value.Severe(18456, 14, "Login failed for user '%s'.", about.User)
	}
	s := &session{of: l, login: l.opt.Logins[at], about: *about, since: l.opt.Now(), database: "master"}
	if about.Database != "" {
		if err := s.use(about.Database); err != nil {
			e := value.Severe(4060, 11, "Cannot open database \"%s\" requested by the login. The login failed.", about.Database)
			e.All = append(e.All, value.Severe(18456, 14, "Login failed for user '%s'.", about.User).All...)
			return nil, e
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.id = l.nextID
	l.nextID++
	l.sessions[s.id] = s
	return s, nil
}

// ID is the session's number.
func (s *session) ID() uint16 { return uint16(s.id) }

// Database is the session's current database.
func (s *session) Database() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.database
}

// Close rolls back and lets go of everything.
func (s *session) Close() {
	s.mu.Lock()
	s.rollback()
	s.mu.Unlock()
	s.of.locks.ReleaseAll(s.id)
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	delete(s.of.sessions, s.id)
}

// Reset is what a pool asks for before somebody else gets the connection.
func (s *session) Reset(_ context.Context, w *tds.Writer) {
	s.mu.Lock()
	s.rollback()
	s.mu.Unlock()
	s.of.locks.ReleaseAll(s.id)
	s.xactAbort, s.uncommitted, s.state = false, false, plan.State{}
	database := "master"
	if s.about.Database != "" {
		database = s.about.Database
	}
	if before := s.Database(); before != database && s.use(database) == nil {
		w.Database(before, database)
	}
}

// begin notes that a request runs, and returns what ends it.
func (s *session) begin(ctx context.Context, w *tds.Writer) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out, s.cancel, s.command, s.began = w, cancel, "BATCH", s.of.opt.Now()
	return ctx, func() {
		cancel()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cancel, s.command, s.percent = nil, "", 0
	}
}

// does names the statement that runs, for sys.dm_exec_requests.
func (s *session) does(command string) func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.command
	s.command, s.percent = command, 0
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.command = before
	}
}

// kill ends the session: what runs is stopped and hears 596, with which its connection
// ends and Close rolls back. Between requests the session's own goroutine touches nothing,
// so the killer rolls back for it at once; the next request hears 596.
func (s *session) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.killed = true
	s.database = "master"
	s.of.locks.ReleaseAll(s.id)
	if s.cancel != nil {
		s.cancel()
		return
	}
	s.rollback()
}

func (s *session) dead() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.killed {
		return value.Severe(596, 21, "Cannot continue the execution because the session is in the kill state.")
	}
	return nil
}

// Batch runs a batch; the evaluator has sent the errors when it returns.
func (s *session) Batch(ctx context.Context, text string, w *tds.Writer) error {
	ctx, end := s.begin(ctx, w)
	defer end()
	if err := s.dead(); err != nil {
		return err
	}
	_ = eval.NewBatch(s, w, &s.state).Run(ctx, text)
	return s.dead()
}

// Call runs a procedure that a client calls by name.
func (s *session) Call(ctx context.Context, c *tds.Call, w *tds.Writer) (int32, error) {
	ctx, end := s.begin(ctx, w)
	defer end()
	if err := s.dead(); err != nil {
		return 0, err
	}
	args := make([]eval.Argument, len(c.Params))
	for i := range c.Params {
		p := &c.Params[i]
		args[i] = eval.Argument{Name: p.Name, Value: p.Value, Type: p.Type}
		if p.Output {
			args[i].Set = func(v any) (err error) {
				p.Value, err = value.Convert(v, value.TypeOf(v), p.Type, 0)
				return err
			}
		}
	}
	b := eval.NewBatch(s, w, &s.state)
	status, err := b.Call(ctx, strings.Split(c.Name, "."), args)
	if errors.Is(err, eval.ErrBatch) {
		return int32(status), nil
	}
	return int32(status), err
}

// instance is the server as this session sees it.
func (s *session) instance() *catalog.Instance {
	l := s.of
	return &catalog.Instance{Server: l.opt.Server(), Started: l.opt.Started(), Edition: l.opt.Edition, Now: l.opt.Now, Sessions: l.describe, Volume: l.opt.Volume,
		Me: s.id, Login: s.login.Name, Database: s.Database(), Sysadmin: s.login.Sysadmin}
}

// describe are the sessions for the views.
func (l *Instance) describe() []catalog.Session {
	var out []catalog.Session
	for _, s := range l.all() {
		s.mu.Lock()
		out = append(out, catalog.Session{ID: s.id, Login: s.login.Name, Host: s.about.Host, Program: s.about.Application, Database: s.database,
			LoginTime: s.since, RequestTime: s.began, Command: s.command, Percent: s.percent})
		s.mu.Unlock()
	}
	return out
}

// Global is @@name.
func (s *session) Global(name string) (any, value.Type, bool) {
	sysname := value.Text(128)
	switch name {
	case "@@VERSION":
		return s.instance().Version(), value.Text(300), true
	case "@@SERVERNAME":
		return s.of.opt.Server().Options().Name, sysname, true
	case "@@SERVICENAME":
		_, instance, ok := strings.Cut(s.of.opt.Server().Options().Name, `\`)
		if !ok {
			instance = "MSSQLSERVER"
		}
		return instance, sysname, true
	case "@@SPID":
		return s.id, value.Type{Kind: value.SmallInt}, true
	case "@@TRANCOUNT":
		return int64(s.tran.depth), expr.Int, true
	case "@@LANGUAGE":
		return "us_english", sysname, true
	case "@@NESTLEVEL", "@@LOCK_TIMEOUT", "@@CONNECTIONS":
		return int64(0), expr.Int, true
	case "@@MAX_PRECISION":
		return int64(38), value.Type{Kind: value.TinyInt}, true
	case "@@MICROSOFTVERSION":
		v := tds.WireVersion(s.of.opt.Server().Options().Version)
		return int64(v[0])<<24 | int64(v[1])<<16 | int64(v[2])<<8 | int64(v[3]), expr.Int, true
	}
	return nil, value.Type{}, false
}

// Function is a function that knows the instance or the session.
func (s *session) Function(name []string, _ []any) *expr.Function {
	if len(name) == 1 && strings.EqualFold(name[0], "XACT_STATE") {
		return &expr.Function{Type: value.Type{Kind: value.SmallInt}, Call: func([]any) (any, error) { return int64(min(s.tran.depth, 1)), nil }}
	}
	return s.instance().Function(name)
}

// Now is the server's time.
func (s *session) Now() time.Time { return s.of.opt.Now() }

// Random fills b from the instance's seed.
func (s *session) Random(b []byte) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	_, _ = s.of.random.Read(b)
}

// Failed ends the batch, and the transaction, where XACT_ABORT is on.
func (s *session) Failed(*value.Error) bool {
	if s.xactAbort && s.tran.depth > 0 {
		s.rollback()
		return true
	}
	return false
}

// use makes a database the session's current one: 911, 916, 924, 927, 942.
func (s *session) use(name string) error {
	db, err := s.of.opt.Server().Database(name)
	if err != nil {
		return failure(err)
	}
	info := db.Info()
	if err := s.of.canOpen(s, info); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.database = info.Name
	return nil
}

// canOpen tells whether a session may be in a database.
func (l *Instance) canOpen(s *session, d storage.Info) error {
	switch d.State {
	case storage.Restoring:
		return value.Severe(927, 14, "Database '%s' cannot be opened. It is in the middle of a restore.", d.Name)
	case storage.Offline:
		return value.Severe(942, 14, "Database '%s' cannot be opened because it is offline.", d.Name)
	case storage.RecoveryPending:
		return value.Severe(945, 14, "Database '%s' cannot be opened due to inaccessible files or insufficient memory or disk space. See the SQL Server errorlog for details.", d.Name)
	}
	if !s.login.Sysadmin && d.ID > 4 || d.Access == storage.RestrictedUser && !s.login.Sysadmin {
		return value.Severe(916, 14, "The server principal \"%s\" is not able to access the database \"%s\" under the current security context.", s.login.Name, d.Name)
	}
	if d.Access == storage.SingleUser {
		for _, other := range l.all() {
			if other != s && l.opt.Server().Same(other.Database(), d.Name) {
				return value.Severe(924, 14, "Database '%s' is already open and can only have one user at a time.", d.Name)
			}
		}
	}
	return nil
}

// failure turns the storage's errors into those that travel.
func failure(err error) error { return tables.Failure(err) }

func message(m server.Message) value.Message { return tables.Message(m) }
