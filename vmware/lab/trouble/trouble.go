// Package trouble is what goes wrong in the laboratory on purpose: SOAP faults, damaged
// transfers, tasks that hang, full datastores.
//
// Everything is armed beforehand and counted, so that a test says exactly which call it
// wants to fail, and nothing depends on chance or time.
package trouble

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// SOAP is an answer to give instead of the real one.
type SOAP struct {
	Method string                // SOAP name, as "CreateSnapshotEx_Task"; "" means any method
	VM     string                // only for the VM of this name and its snapshots; "" means any object
	Skip   int                   // let so many matching calls pass first
	Count  int                   // then fault so many, default 1, negative for all
	Fault  types.BaseMethodFault // what to answer
	// InTask lets the call return a task that ends with the fault. It works for the
	// snapshot methods and RemoveSnapshot_Task, RevertToSnapshot_Task,
	// ConsolidateVMDisks_Task, and for ImportVApp and ExportSnapshot, whose lease goes
	// into error.
	InTask bool
}

// HTTP is damage to do to a transfer. Of the fields that do damage, several may be set.
type HTTP struct {
	Method      string        // GET, PUT, …; "" means any
	Path        string        // part of the decoded URL path, as "/folder/" or "-flat.vmdk"; "" means any
	Skip, Count int           // as in SOAP
	Delay       time.Duration // wait before answering
	Status      int           // answer with this status and nothing else
	CutAfter    int64         // cut the connection after so many bytes of body, sent or received; 0 means do not
	Short       int64         // answer a range with so many bytes less, consistently announced
	IgnoreRange bool          // answer 200 with the whole file to a range
}

// Set is the trouble of one laboratory. Its methods may be called from several
// goroutines.
type Set struct {
	closing chan struct{}
	mu      sync.Mutex
	soap    []*SOAP
	http    []*HTTP
	holds   map[string]*hold
	room    map[string]int64
}

// New makes a Set without any trouble.
func New() *Set {
	return &Set{closing: make(chan struct{}), holds: map[string]*hold{}, room: map[string]int64{}}
}

// Close lets everything go on that is held. It must be called once.
func (s *Set) Close() { close(s.closing) }

type hold struct {
	entered, release chan struct{}
	once             sync.Once
}

// FailSOAP arms a fault. Several are tried in the order of arming.
func (s *Set) FailSOAP(f SOAP) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.Count == 0 {
		f.Count = 1
	}
	s.soap = append(s.soap, &f)
}

// FailHTTP arms a fault of a transfer.
func (s *Set) FailHTTP(f HTTP) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.Count == 0 {
		f.Count = 1
	}
	s.http = append(s.http, &f)
}

// Clear disarms all faults and gives full datastores their room back.
func (s *Set) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.soap, s.http, s.room = nil, nil, map[string]int64{}
}

// Hold makes the next task of the SOAP method stop, with the VM locked as by a slow
// host, until release is called. Entered is closed when a task has stopped. It works
// for the methods of SOAP.InTask that have a task.
func (s *Set) Hold(method string) (entered <-chan struct{}, release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &hold{entered: make(chan struct{}), release: make(chan struct{})}
	s.holds[method] = h
	return h.entered, func() { h.once.Do(func() { close(h.release) }) }
}

// SetFreeSpace lets only so many bytes more be stored on the datastore by uploads,
// imports and new disks; negative means no limit.
func (s *Set) SetFreeSpace(datastore string, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room[datastore] = bytes
	if bytes < 0 {
		delete(s.room, datastore)
	}
}

// Take uses room on a datastore, and says whether there was enough.
func (s *Set) Take(datastore string, bytes int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	left, limited := s.room[datastore]
	if limited && bytes > left {
		return false
	}
	if limited {
		s.room[datastore] = left - bytes
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

// Answer is the fault for this call, or nil.
func (s *Set) Answer(method, vm string, inTask bool) types.BaseMethodFault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.soap {
		if f.InTask == inTask && (f.Method == "" || f.Method == method) && (f.VM == "" || f.VM == vm) && due(&f.Skip, &f.Count) {
			return f.Fault
		}
	}
	return nil
}

func (s *Set) transfer(r *http.Request) *HTTP {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.http {
		if (h.Method == "" || h.Method == r.Method) && strings.Contains(r.URL.Path, h.Path) && due(&h.Skip, &h.Count) {
			return h
		}
	}
	return nil
}

// InTask is what every task of the laboratory does first: stop when held, then fail
// when told to.
func (s *Set) InTask(method, vm string) types.BaseMethodFault {
	s.mu.Lock()
	// A hold catches one task; the next of the method passes.
	h := s.holds[method]
	delete(s.holds, method)
	s.mu.Unlock()
	if h != nil {
		close(h.entered)
		select {
		case <-h.release:
		case <-s.closing:
		}
	}
	return s.Answer(method, vm, true)
}
