package lab

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// ticketCookie is the cookie of a generic service ticket.
const ticketCookie = "vmware_cgi_ticket"

// A ticket opens one URL with one method, once.
type ticket struct{ url, method string }

// routes registers what the laboratory answers itself. Patterns with a method win over vcsim's own.
func (l *Lab) routes(mux *http.ServeMux) {
	mux.Handle("POST /sdk", l.damaged(l.sdk))
	for _, method := range []string{"GET", "PUT", "POST", "DELETE"} {
		mux.Handle(method+" /folder/{path...}", l.damaged(l.folder))
		mux.Handle(method+" /nfc/{lease}/{name}", l.damaged(l.nfc))
	}
	mux.Handle("/guestFile", l.damaged(l.guests.ServeHTTP))
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
	l.svc.ServeSDK(&loginWatcher{w, l}, r)
}

// loginWatcher notes the session that a login's answer carries, before the caller can use it.
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

// ExpireSessions ends every session now, as if its holder had been idle too long: the next call gets NotAuthenticated.
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

// admitted says whether a request to a file door carries a live session or the right ticket. Reading files
// does not keep a session alive, as on a real vCenter.
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
	delete(l.tickets, c.Value)
	return true, true
}

// sessionsWrapper remembers the tickets that vcsim gives out.
type sessionsWrapper struct {
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

// damaged counts requests and does the damage that is due.
func (l *Lab) damaged(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		l.counts.add(func() {
			l.counts.requests[r.Method+" /"+first]++
			l.counts.connections[r.RemoteAddr] = true
		})
		f := l.faults.transfer(r)
		if f == nil {
			next(w, r)
			return
		}
		if f.Delay > 0 {
			select {
			case <-time.After(f.Delay):
			case <-l.closing:
			}
		}
		if f.Status != 0 {
			http.Error(w, http.StatusText(f.Status), f.Status)
			return
		}
		if f.IgnoreRange {
			r.Header.Del("Range")
		}
		shorten(r, f.Short)
		if f.CutAfter > 0 {
			c := &cutter{ResponseWriter: w, body: r.Body, left: f.CutAfter}
			w, r.Body = c, c
		}
		next(w, r)
	})
}

// shorten takes bytes off the end of a "bytes=a-b" range.
func shorten(r *http.Request, by int64) {
	from, to, ok := strings.Cut(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-")
	end, err := strconv.ParseInt(to, 10, 64)
	if by > 0 && ok && err == nil {
		r.Header.Set("Range", "bytes="+from+"-"+strconv.FormatInt(end-by, 10))
	}
}

// cutter aborts the connection after left bytes in either direction.
type cutter struct {
	http.ResponseWriter
	body io.ReadCloser
	left int64
}

func (c *cutter) pass(n int) int {
	return int(min(int64(n), c.left))
}

func (c *cutter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:c.pass(len(p))])
	if c.left -= int64(n); c.left <= 0 {
		if f, ok := c.ResponseWriter.(http.Flusher); ok {
			f.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	return n, err
}

func (c *cutter) Read(p []byte) (int, error) {
	if c.left <= 0 {
		panic(http.ErrAbortHandler)
	}
	n, err := c.body.Read(p[:c.pass(len(p))])
	c.left -= int64(n)
	return n, err
}

func (c *cutter) Close() error { return c.body.Close() }

// invalid is the fault for a bad argument.
func invalid(property string) *soap.Fault {
	return simulator.Fault("A specified parameter was not correct: "+property, &types.InvalidArgument{InvalidProperty: property})
}
