package lab

import (
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// SOAPFault is an answer to give instead of the real one.
type SOAPFault struct {
	Method string                // SOAP name, as "CreateSnapshotEx_Task"; "" means any method
	VM     string                // only for the VM of this name and its snapshots; "" means any object
	Skip   int                   // let so many matching calls pass first
	Count  int                   // then fault so many, default 1, negative for all
	Fault  types.BaseMethodFault // what to answer
	// InTask lets the call return a task that ends with the fault. It works for the snapshot methods and RemoveSnapshot_Task,
	// RevertToSnapshot_Task, ConsolidateVMDisks_Task, and for ImportVApp and ExportSnapshot, whose lease goes into error.
	InTask bool
}

// HTTPFault is damage to do to a transfer. Of the fields that do damage, several may be set.
type HTTPFault struct {
	Method      string        // GET, PUT, …; "" means any
	Path        string        // part of the decoded URL path, as "/folder/" or "-flat.vmdk"; "" means any
	Skip, Count int           // as in SOAPFault
	Delay       time.Duration // wait before answering
	Status      int           // answer with this status and nothing else
	CutAfter    int64         // cut the connection after so many bytes of body, sent or received; 0 means do not
	Short       int64         // answer a range with so many bytes less, consistently announced
	IgnoreRange bool          // answer 200 with the whole file to a range
}

// faults are the ones still to come, the holds and the full datastores.
type faults struct {
	mu    sync.Mutex
	soap  []*SOAPFault
	http  []*HTTPFault
	holds map[string]*hold
	room  map[string]int64
}

type hold struct {
	entered, release chan struct{}
	once             sync.Once
}

// FailSOAP arms a fault. Several are tried in the order of arming.
func (l *Lab) FailSOAP(f SOAPFault) {
	l.faults.mu.Lock()
	defer l.faults.mu.Unlock()
	f.Count = or(f.Count, 1)
	l.faults.soap = append(l.faults.soap, &f)
}

// FailHTTP arms a fault of a transfer.
func (l *Lab) FailHTTP(f HTTPFault) {
	l.faults.mu.Lock()
	defer l.faults.mu.Unlock()
	f.Count = or(f.Count, 1)
	l.faults.http = append(l.faults.http, &f)
}

// ClearFaults disarms all faults and gives full datastores their room back.
func (l *Lab) ClearFaults() {
	l.faults.mu.Lock()
	defer l.faults.mu.Unlock()
	l.faults.soap, l.faults.http, l.faults.room = nil, nil, nil
}

// Hold makes the next task of the SOAP method stop, with the VM locked as by a slow host, until release is called. Entered is closed
// when a task has stopped. It works for the methods of SOAPFault.InTask that have a task.
func (l *Lab) Hold(method string) (entered <-chan struct{}, release func()) {
	l.faults.mu.Lock()
	defer l.faults.mu.Unlock()
	h := &hold{entered: make(chan struct{}), release: make(chan struct{})}
	if l.faults.holds == nil {
		l.faults.holds = map[string]*hold{}
	}
	l.faults.holds[method] = h
	return h.entered, func() { h.once.Do(func() { close(h.release) }) }
}

// SetFreeSpace lets only so many bytes more be stored on the datastore by uploads, imports and new disks; negative means no limit.
func (l *Lab) SetFreeSpace(datastore string, bytes int64) {
	l.faults.mu.Lock()
	defer l.faults.mu.Unlock()
	if l.faults.room == nil {
		l.faults.room = map[string]int64{}
	}
	l.faults.room[datastore] = bytes
	if bytes < 0 {
		delete(l.faults.room, datastore)
	}
}

// take uses room on a datastore, and says whether there was enough.
func (f *faults) take(datastore string, bytes int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	left, limited := f.room[datastore]
	if limited && bytes > left {
		return false
	}
	if limited {
		f.room[datastore] = left - bytes
	}
	return true
}

// due counts a match of a fault down.
func due(skip, count *int) bool {
	if *skip > 0 {
		*skip--
		return false
	}
	if *count == 0 {
		return false
	}
	*count--
	return true
}

// answer is the fault for this call, or nil.
func (f *faults) answer(method, vm string, inTask bool) types.BaseMethodFault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.soap {
		if s.InTask == inTask && (s.Method == "" || s.Method == method) && (s.VM == "" || s.VM == vm) && due(&s.Skip, &s.Count) {
			return s.Fault
		}
	}
	return nil
}

func (f *faults) transfer(r *http.Request) *HTTPFault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range f.http {
		if (h.Method == "" || h.Method == r.Method) && strings.Contains(r.URL.Path, h.Path) && due(&h.Skip, &h.Count) {
			return h
		}
	}
	return nil
}

// inTask is what every task of the laboratory does first: stop when held, then fail when told to.
func (l *Lab) inTask(method, vm string) types.BaseMethodFault {
	l.faults.mu.Lock()
	h := l.faults.holds[method]
	delete(l.faults.holds, method)
	l.faults.mu.Unlock()
	if h != nil {
		close(h.entered)
		select {
		case <-h.release:
		case <-l.closing:
		}
	}
	return l.faults.answer(method, vm, true)
}

// Counts is what the server has seen so far.
type Counts struct {
	Calls       map[string]int   // by SOAP method
	Served      map[string]int64 // body bytes answered to GET by /folder, by datastore path "[ds] dir/file"
	Requests    map[string]int   // requests by "METHOD /first-path-element", as "GET /folder"
	Connections int              // TCP connections that sent a request
	Sessions    int              // sessions that are logged in now
}

type counts struct {
	mu          sync.Mutex
	calls       map[string]int
	served      map[string]int64
	requests    map[string]int
	connections map[string]bool
}

// Counts returns a copy.
func (l *Lab) Counts() Counts {
	l.mu.Lock()
	sessions := len(l.sessions)
	l.mu.Unlock()
	l.counts.mu.Lock()
	defer l.counts.mu.Unlock()
	return Counts{
		Calls: maps.Clone(l.counts.calls), Served: maps.Clone(l.counts.served), Requests: maps.Clone(l.counts.requests),
		Connections: len(l.counts.connections), Sessions: sessions,
	}
}

func (c *counts) add(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		c.calls, c.served, c.requests, c.connections = map[string]int{}, map[string]int64{}, map[string]int{}, map[string]bool{}
	}
	fn()
}
