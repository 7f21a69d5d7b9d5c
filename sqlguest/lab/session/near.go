package session

import (
	"context"

	"holdfast/sqlguest/lab/tsql/eval"
	"holdfast/sqlguest/lab/tsql/plan"
	"holdfast/sqlguest/lab/value"
)

// Near is a client in this process, without a wire: a session like any other to the
// server, a member of sysadmin, for tests that ask too often to pay for a connection each
// time. It is for one goroutine.
type Near struct{ s *session }

// Near lets a client in.
func (l *Instance) Near() *Near {
	s := &session{of: l, login: Login{Name: "sa", Sysadmin: true}, database: "master", since: l.opt.Now()}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.id = l.nextID
	l.nextID++
	l.sessions[s.id] = s
	return &Near{s}
}

// Run runs a batch with parameters, whose names have their @, as sp_executesql does. What
// it says goes to out; the error tells that the batch was ended, or that it was cancelled.
func (n *Near) Run(ctx context.Context, text string, args []eval.Argument, out eval.Sink) error {
	ctx, end := n.s.begin(ctx, nil)
	defer end()
	if err := n.s.dead(); err != nil {
		return err
	}
	b := eval.NewBatch(n.s, out, &n.s.state)
	for _, a := range args {
		if err := b.Declare(a.Name, a.Type, a.Value, value.TypeOf(a.Value)); err != nil {
			return err
		}
	}
	if err := b.Run(ctx, text); err != nil {
		return err
	}
	return n.s.dead()
}

// Close ends the session.
func (n *Near) Close() {
	n.s.Close()
	n.s.state = plan.State{}
}
