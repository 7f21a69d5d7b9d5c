package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"holdfast/sqlguest/agent/trust"
	"holdfast/sqlguest/server"
)

// ServiceOptions are an agent's. Server and Keys are required.
type ServiceOptions struct {
	Server server.Server
	Keys   *trust.Keys
	// Checks answer /checks; nil has none.
	Checks func(ctx context.Context) []Check
	// IdleTimeout is how long the agent waits without a session (10 minutes if 0),
	// Lifetime how long it lives before and between sessions at all (24 hours if 0). A
	// session that lives has as long as it needs: a backup or restore may take days, and
	// one whose client is gone is found dead by pings.
	IdleTimeout, Lifetime time.Duration
	// Once ends the agent with its first session: nobody comes back to one that was cut.
	Once   bool
	Logger *slog.Logger
}

// service is an agent at work.
type service struct {
	opt  ServiceOptions
	log  *slog.Logger
	idle *time.Timer
	life *time.Timer
	stop context.CancelCauseFunc

	mu      sync.Mutex
	session *session // nil without one
}

// errGoodbye: the client has told the agent to end.
var errGoodbye = errors.New("goodbye")

// ErrOver: the service ended because its only session was cut.
var ErrOver = errors.New("session is over")

// Serve answers one client at a time on the listener, which it closes. It returns
// when nothing of any session runs any more: nil after a goodbye, else ErrOver,
// ErrIdle, ErrLifetime, ctx's cause or the listener's error.
func Serve(ctx context.Context, l net.Listener, o ServiceOptions) error {
	defer func() { _ = l.Close() }()
	config, err := o.Keys.TLS()
	if err != nil {
		return err
	}
	if o.IdleTimeout <= 0 {
		o.IdleTimeout = idleTimeout
	}
	if o.Lifetime <= 0 {
		o.Lifetime = lifetime
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	s := &service{opt: o, log: o.Logger, stop: stop}
	defer s.wind()()
	h := s.http(ctx)
	served := make(chan struct{})
	go func() {
		defer close(served)
		stop(h.Serve(tls.NewListener(l, config)))
	}()
	<-ctx.Done()
	err = context.Cause(ctx)
	err = errors.Join(s.close(h, err), ignoreGoodbye(err))
	<-served
	return err
}

// wind starts the two timers, which run while nobody has a session.
func (s *service) wind() (stop func()) {
	s.idle = time.AfterFunc(s.opt.IdleTimeout, func() { s.stop(ErrIdle) })
	s.life = time.AfterFunc(s.opt.Lifetime, func() { s.stop(ErrLifetime) })
	return func() { s.idle.Stop(); s.life.Stop() }
}

func ignoreGoodbye(err error) error {
	if errors.Is(err, errGoodbye) {
		return nil
	}
	return fmt.Errorf("agent ended: %w", err)
}

// close ends the HTTP server and waits for the session's end. The answer to a
// goodbye goes out first.
func (s *service) close(h *http.Server, why error) error {
	limit, cancel := context.WithTimeout(context.Background(), cleanupLimit)
	defer cancel()
	var err error
	if errors.Is(why, errGoodbye) {
		err = h.Shutdown(limit)
	}
	err = errors.Join(err, h.Close())
	if current := s.current(); current != nil {
		<-current.ended
	}
	return err
}

func (s *service) current() *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.session
}

// http is the server: HTTP/2 alone, with pings that find dead connections.
func (s *service) http(ctx context.Context) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /session", s.open)
	for pattern, do := range map[string]func(*session, http.ResponseWriter, *http.Request){
		"POST /query": (*session).query, "GET /host": (*session).host, "GET /checks": (*session).checks,
		"POST /staged": (*session).staged,
		"POST /held":   (*session).held, "POST /hold/{id}": (*session).hold, "DELETE /hold/{id}": (*session).release,
		"POST /backup/{id}": (*session).backup, "GET /backup/{id}/{n}": (*session).stream,
		"POST /backup/{id}/commit": (*session).commit, "DELETE /backup/{id}": (*session).abort,
		"POST /restore/{id}": (*session).restore, "PUT /restore/{id}/{n}": (*session).feed, "GET /restore/{id}": (*session).result,
		"POST /goodbye": (*session).goodbye,
	} {
		mux.HandleFunc(pattern, s.within(do))
	}
	var only http.Protocols
	only.SetHTTP2(true)
	return &http.Server{
		Handler: mux, Protocols: &only, ReadHeaderTimeout: 15 * time.Second, MaxHeaderBytes: 64 << 10,
		HTTP2:       &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout, MaxConcurrentStreams: 1024},
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
}

// hello opens a session.
type hello struct {
	Version int    `json:"version"`
	ID      string `json:"id"` // of the session, made by the client
}

// open is the session's request. It lasts as long as the session does.
func (s *service) open(w http.ResponseWriter, r *http.Request) {
	var h hello
	if err := readJSON(r.Body, maxRequestBytes, &h); err != nil || h.ID == "" {
		reply(w, nil, fmt.Errorf("open session: unreadable request"))
		return
	}
	if h.Version != Version {
		reply(w, nil, fmt.Errorf("%w: agent %d, program %d", ErrVersion, Version, h.Version))
		return
	}
	n := newSession(r.Context(), s, h.ID)
	if !s.enter(n) {
		reply(w, nil, ErrBusy)
		return
	}
	defer s.leave(n)
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	if _, err := io.WriteString(w, "\n"); err != nil || flush.Flush() != nil {
		return
	}
	<-n.ctx.Done()
}

// enter makes n the session, if there is none.
func (s *service) enter(n *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session != nil {
		return false
	}
	s.idle.Stop()
	s.life.Stop()
	s.session = n
	s.log.Info("session began")
	return true
}

// leave ends the session: nothing of it runs when the next may come.
func (s *service) leave(n *session) {
	n.end()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session = nil
	s.idle.Reset(s.opt.IdleTimeout)
	s.life.Reset(s.opt.Lifetime)
	close(n.ended)
	s.log.Info("session ended")
	if s.opt.Once {
		s.stop(ErrOver)
	}
}

// within runs a request of the session that it names.
func (s *service) within(do func(*session, http.ResponseWriter, *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n := s.current()
		if n == nil || n.id != r.Header.Get(headerSession) || !n.begin() {
			reply(w, nil, fmt.Errorf("%w: no such session", ErrCut))
			return
		}
		defer n.running.Done()
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(n.ctx, cancel)()
		do(n, w, r.WithContext(ctx))
	}
}
