package lab

import (
	"net/http"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// ticketCookie is the cookie of a generic service ticket.
const ticketCookie = "vmware_cgi_ticket"

// A ticket opens one URL with one method, once.
type ticket struct{ url, method string }

// routes registers what the laboratory answers itself. Patterns with a method win over
// vcsim's own.
func (l *Lab) routes(mux *http.ServeMux) {
	// vcsim registers "/sdk", "/folder/" and "/nfc/" without a method. A pattern with one is
	// more specific, so both live in the same mux.
	mux.Handle("POST /sdk", l.counted(l.sdk))
	for _, method := range []string{"GET", "PUT", "POST", "DELETE"} {
		mux.Handle(method+" /folder/{path...}", l.counted(l.folder))
		mux.Handle(method+" /nfc/{lease}/{name}", l.counted(l.nfc))
	}
	mux.Handle("/guestFile", l.counted(l.guests.ServeHTTP))
}

// sdk is vcsim's API behind a session clock.
func (l *Lab) sdk(w http.ResponseWriter, r *http.Request) {
	l.expire(l.opt.Now().Add(-l.opt.SessionTimeout))
	if c, err := r.Cookie(soap.SessionCookieName); err == nil {
		l.mu.Lock()
		if _, ok := l.sessions[c.Value]; ok {
			l.sessions[c.Value] = l.opt.Now()
		}
		l.mu.Unlock()
	}
	// vcsim has a session clock of its own, but it is one goroutine for each login that
	// nothing ends, and it lets the property collector through to strangers.
	l.svc.ServeSDK(&loginWatcher{w, l}, r)
}

// loginWatcher notes the session that a login's answer carries, before the caller can
// use it.
type loginWatcher struct {
	http.ResponseWriter
	lab *Lab
}

func (w *loginWatcher) WriteHeader(status int) {
	for _, line := range w.Header()["Set-Cookie"] {
		if c, err := http.ParseSetCookie(line); err == nil && c.Name == soap.SessionCookieName {
			w.lab.mu.Lock()
			w.lab.sessions[c.Value] = w.lab.opt.Now()
			w.lab.mu.Unlock()
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

// ExpireSessions ends every session now, as if its holder had been idle too long: the
// next call gets NotAuthenticated.
func (l *Lab) ExpireSessions() { l.expire(l.opt.Now().Add(time.Hour)) }

// expire ends the sessions last used before then.
func (l *Lab) expire(then time.Time) {
	l.mu.Lock()
	var old []string
	for id, last := range l.sessions {
		if last.Before(then) {
			old = append(old, id)
			delete(l.sessions, id)
		}
	}
	l.mu.Unlock()
	c := l.ctx()
	for _, id := range old {
		c.Session = &simulator.Session{}
		c.Map.SessionManager().TerminateSession(c, &types.TerminateSession{SessionId: []string{id}})
	}
}

// admitted says whether a request to a file door carries a live session or the right
// ticket. Reading files does not keep a session alive, as on a real vCenter.
func (l *Lab) admitted(r *http.Request) (ok, byTicket bool) {
	l.expire(l.opt.Now().Add(-l.opt.SessionTimeout))
	l.mu.Lock()
	defer l.mu.Unlock()
	if c, err := r.Cookie(soap.SessionCookieName); err == nil {
		if _, ok := l.sessions[c.Value]; ok {
			return true, false
		}
	}
	c, err := r.Cookie(ticketCookie)
	if err != nil {
		return false, false
	}
	t, ok := l.tickets[c.Value]
	if !ok || t.method != "" && !strings.EqualFold(t.method, "http"+r.Method) || !strings.HasSuffix(t.url, r.URL.RequestURI()) {
		return false, false
	}
	// One ticket, one request. A client that retries must ask for another.
	delete(l.tickets, c.Value)
	return true, true
}

// sessionsWrapper remembers the tickets that vcsim gives out.
type sessionsWrapper struct {
	View mo.SessionManager // what property collectors see: this session's; vcsim finds it as the first field
	*simulator.SessionManager
	lab *Lab
}

// AcquireGenericServiceTicket gives a ticket for one request.
func (s *sessionsWrapper) AcquireGenericServiceTicket(req *types.AcquireGenericServiceTicket) soap.HasFault {
	res := s.SessionManager.AcquireGenericServiceTicket(req)
	body := res.(*methods.AcquireGenericServiceTicketBody)
	spec, ok := req.Spec.(*types.SessionManagerHttpServiceRequestSpec)
	if !ok {
		return &methods.AcquireGenericServiceTicketBody{Fault_: invalid("spec")}
	}
	_, body.Res.Returnval.SslThumbprint = s.lab.Thumbprint()
	s.lab.mu.Lock()
	defer s.lab.mu.Unlock()
	s.lab.tickets[body.Res.Returnval.Id] = ticket{url: spec.Url, method: spec.Method}
	return body
}

func (l *Lab) loggedOut(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.sessions, id)
}

// counted counts requests and lets the armed damage happen.
func (l *Lab) counted(next http.HandlerFunc) http.Handler {
	damaged := l.trouble.Damage(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		l.counts.add(func() {
			l.counts.requests[r.Method+" /"+first]++
			l.counts.connections[r.RemoteAddr] = true
		})
		damaged(w, r)
	})
}

// invalid is the fault for a bad argument.
func invalid(property string) *soap.Fault {
	return simulator.Fault("A specified parameter was not correct: "+property, &types.InvalidArgument{InvalidProperty: property})
}
