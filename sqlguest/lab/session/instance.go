// Package session is the clients of the laboratory's SQL Server: who may log in, what each
// is doing, their transactions and locks, and the statements that only a server can run:
// databases made and changed, BACKUP, RESTORE, KILL.
package session

import (
	"context"
	"fmt"
	"log/slog"
	randv2 "math/rand/v2"
	"slices"
	"sync"
	"time"

	"holdfast/sqlguest/lab/applock"
	"holdfast/sqlguest/lab/backups"
	"holdfast/sqlguest/lab/media"
	"holdfast/sqlguest/lab/tds"
	"holdfast/sqlguest/lab/tsql/eval"
	"holdfast/sqlguest/lab/tsql/plan"
)

// Login is a login with a password.
type Login struct {
	Name, Password string
	Sysadmin       bool
}

// Options are the server behind the sessions. All fields are needed.
type Options struct {
	// Server gives the databases; they may be others after a revert.
	Server func() *backups.Server
	// Now is the server's local time with its offset, Started when the service began.
	Now, Started func() time.Time
	Edition      string
	Logins       []Login
	// Media gives what backups are written to.
	Media func() media.Options
	// Volume says how much room a path's volume has.
	Volume func(path string) (mount string, available, total int64, system string)
	Seed   uint64
	Log    *slog.Logger
}

// Instance is the SQL Server that sessions are of. It is a tds.Handler.
type Instance struct {
	opt   Options
	locks *applock.Locks

	mu       sync.Mutex
	sessions map[int64]*session
	nextID   int64
	random   *randv2.ChaCha8
}

var _ tds.Handler = (*Instance)(nil)

// New makes an instance without sessions. The first gets number 51, as on a real server.
func New(opt Options) *Instance {
	var seed [32]byte
	for i := range 8 {
		seed[i] = byte(opt.Seed >> (8 * i))
	}
	return &Instance{opt: opt, locks: applock.New(), sessions: map[int64]*session{}, nextID: 51, random: randv2.NewChaCha8(seed)}
}

// all are the sessions by their numbers.
func (l *Instance) all() []*session {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*session
	for _, s := range l.sessions {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *session) int { return int(a.id - b.id) })
	return out
}

// In is how many sessions have a database as their current one.
func (l *Instance) In(database string) int { return l.others(nil, database) }

// others are the sessions besides s that have a database as their current one.
func (l *Instance) others(s *session, database string) int {
	n := 0
	for _, other := range l.all() {
		if other != s && l.opt.Server().Same(other.Database(), database) {
			n++
		}
	}
	return n
}

// Run runs a batch as a member of sysadmin whom nobody sees. Its rows go nowhere; the first
// error is returned.
func (l *Instance) Run(ctx context.Context, text string) error {
	s := &session{of: l, login: Login{Name: "sa", Sysadmin: true}, database: "master", since: l.opt.Now()}
	c := &eval.Quiet{}
	err := eval.NewBatch(s, c, &plan.State{}).Run(ctx, text)
	s.rollback()
	if c.Err != nil {
		err = c.Err
	}
	if err != nil {
		return fmt.Errorf("run batch: %w", err)
	}
	return nil
}
