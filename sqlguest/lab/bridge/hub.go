package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"holdfast/sqlguest/vdi"
)

// ErrDeviceCount: the statement names more or fewer devices than the set has.
var ErrDeviceCount = errors.New("statement and set differ in the number of devices")

// Options of a Hub.
type Options struct {
	// Instances are the names that clients may ask for; empty is the default
	// instance alone, whose name is "".
	Instances []string
	// Faults are scripted for every set.
	Faults Faults
}

// Faults make SQL Server's side behave as it may at worst. Zero is a good day.
type Faults struct {
	// NoComplete is a server before KB3188454: VDC_Complete is not granted.
	NoComplete bool
	// FlushEvery sends a Flush after so many Writes of a device.
	FlushEvery int
	// EmptyWrites sends a Write of no bytes before each Flush.
	EmptyWrites bool
	// OddCommands sends, to begin with, commands that a pipe need not know and one
	// that it must (ClearError), and fails if the answers are not what they must be.
	OddCommands bool
	// AbortAt gives the set up in place of its nth command, counted over all devices.
	AbortAt int
	// Before is called before a command is handed out; it delays by not returning.
	Before func(device int, code vdi.Code)
}

// Hub is the place where both sides find each other. It implements Devices.
type Hub struct {
	options Options

	mu   sync.Mutex
	sets map[string]*link // by instance and name
}

var _ Devices = (*Hub)(nil)

// NewHub makes an empty hub.
func NewHub(o Options) *Hub {
	if len(o.Instances) == 0 {
		o.Instances = []string{""}
	}
	return &Hub{options: o, sets: map[string]*link{}}
}

func key(instance, name string) string { return instance + "\\" + name }

// Create makes a set, as CreateEx does. Errors: ErrInstanceName, ErrNotSupported,
// ErrInvalid and ErrBusy of package vdi.
func (h *Hub) Create(instance, name string, config vdi.Config) (*Client, error) {
	switch {
	case !slices.Contains(h.options.Instances, instance):
		return nil, vdi.ErrInstanceName
	case config.DeviceCount < 1 || config.DeviceCount > vdi.MaxDevices:
		return nil, vdi.ErrNotSupported
	case name == "":
		return nil, vdi.ErrInvalid
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sets[key(instance, name)] != nil {
		return nil, vdi.ErrBusy
	}
	l := &link{
		key: key(instance, name), faults: h.options.Faults, config: config,
		configured: make(chan struct{}), ready: make(chan struct{}), aborted: make(chan struct{}), closed: make(chan struct{}),
	}
	h.sets[l.key] = l
	return &Client{hub: h, link: l}, nil
}

// OpenSet is vdi.Open for a client in this process.
func (h *Hub) OpenSet(o vdi.SetOptions) (vdi.Set, error) {
	c, err := h.Create(o.Instance, o.Name, vdi.Config{DeviceCount: uint32(o.Devices), Features: vdi.RequestComplete})
	if err != nil {
		return nil, fmt.Errorf("open virtual device set: %w", err)
	}
	return c, nil
}

func (h *Hub) remove(l *link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sets[l.key] == l {
		delete(h.sets, l.key)
	}
}

// Open is SQL Server's side.
func (h *Hub) Open(ctx context.Context, r Request) (Set, error) {
	if len(r.Names) == 0 {
		return nil, ErrNoSet
	}
	h.mu.Lock()
	l := h.sets[key(r.Instance, r.Names[0])]
	h.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("open %s: %w", r.Names[0], ErrNoSet)
	}
	s, err := l.configure(r)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", r.Names[0], err)
	}
	s.stop = context.AfterFunc(ctx, l.abort)
	select {
	case <-l.ready:
		return s, nil
	case <-l.aborted:
		s.stop()
		return nil, fmt.Errorf("open %s: %w", r.Names[0], ErrAborted)
	}
}

// link is what both sides share of one set.
type link struct {
	key    string
	faults Faults

	configured chan struct{} // SQL Server has connected: config and ports stand
	ready      chan struct{} // the client has opened every device
	aborted    chan struct{} // either side gave up
	closed     chan struct{} // SQL Server closed the devices in order

	mu       sync.Mutex
	config   vdi.Config
	ports    []*port
	open     int // devices that the client has opened
	isOver   bool
	commands int // handed out so far
	lastRef  uintptr
}

func (l *link) abort() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.isOver {
		l.isOver = true
		close(l.aborted)
	}
}

func (l *link) isAborted() bool {
	select {
	case <-l.aborted:
		return true
	default:
		return false
	}
}

// configure fills in the server's half of the configuration.
func (l *link) configure(r Request) (*serverSet, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.isOver:
		return nil, ErrAborted
	case l.ports != nil:
		return nil, ErrNoSet // somebody else's statement has it
	case int(l.config.DeviceCount) != len(r.Names):
		return nil, ErrDeviceCount
	}
	asked := l.config.Features
	l.config.Features = vdi.ReadMedia
	if r.Write {
		l.config.Features = vdi.WriteMedia
	}
	if asked&vdi.RequestComplete != 0 && !l.faults.NoComplete {
		l.config.Features |= vdi.CompleteEnabled
	}
	l.config.BlockSize, l.config.MaxTransferSize = 65536, 1<<20
	if r.BlockBytes > 0 {
		l.config.BlockSize = uint32(r.BlockBytes)
	}
	if r.TransferBytes > 0 {
		l.config.MaxTransferSize = uint32(r.TransferBytes)
	}
	l.config.MaxIODepth = 4
	l.config.BufferAreaSize = 4 * l.config.MaxTransferSize * l.config.DeviceCount
	s := &serverSet{link: l}
	for i, name := range r.Names {
		p := &port{link: l, index: i, name: name, commands: make(chan *pending), active: map[uintptr]*pending{}}
		l.ports = append(l.ports, p)
		s.devices = append(s.devices, &serverDevice{port: p, canWrite: r.Write})
	}
	close(l.configured)
	return s, nil
}

// port is what both sides share of one device.
type port struct {
	link  *link
	index int
	name  string

	commands chan *pending

	mu     sync.Mutex
	isOpen bool
	active map[uintptr]*pending // taken by the client and not completed
}

// pending is a command on its way.
type pending struct {
	command vdi.Command
	done    chan answer
}

// answer is the client's completion.
type answer struct {
	code  vdi.Completion
	bytes uint32
}
