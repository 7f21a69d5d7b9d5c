// Package lab is a vCenter to practise on. It is govmomi's simulator (vcsim) with what
// that lacks: disks that have bytes, snapshots that freeze them while the guest goes on
// writing, changed-block tracking, quiescing with a VSS manifest, the datastore's file
// door with its locks, export and import leases that carry real streamOptimized disks,
// guest operations on a directory, sessions that end, and faults on demand.
//
// A Lab enforces the rules of a real server with the real faults; it is never told what
// its caller wants to hear. Whoever can back up and restore here can still fail in
// front of a real host, so README.md lists where the laboratory is not like one.
//
// How vcsim is extended: its objects stay in its registry, for it asserts their types
// in many places. A wrapper with the methods to override goes into the registry of the
// caller's session, which wins when a call is dispatched (see dispatch.go). The package
// machine is the VMs, chain the bytes, snapshots and tracking of one disk, guest the
// inside of a VM, trouble the faults; this package joins them and adds what a vCenter
// does over HTTP: sessions, the file door, leases.
//
// vcsim writes remarks to the standard logger; a program that runs a Lab may want to
// send that elsewhere.
package lab

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/lab/guest"
	"holdfast/vmware/lab/machine"
	"holdfast/vmware/lab/template"
	"holdfast/vmware/lab/trouble"
)

// Names of the inventory that every Lab has. There are as many hosts as Options say:
// DC0_C0_H0, DC0_C0_H1, …
const (
	Datacenter    = "DC0"
	Cluster       = "DC0_C0"
	ResourcePool  = "Resources"
	Datastore1    = "datastore1"
	Datastore2    = "datastore2"
	Network       = "VM Network"
	SecondNetwork = "DC0_DVPG0" // a distributed port group

	defaultUser    = "administrator@vsphere.local"
	defaultSession = 30 * time.Minute
	defaultLease   = 300 * time.Second
	defaultExtents = 2000
)

// Options shape a Lab; the zero value works.
type Options struct {
	Listen         string        // host:port, default 127.0.0.1:0
	User, Password string        // the only login; default administrator@vsphere.local and a random password
	Dir            string        // where the datastores lie; default a temporary directory that Close removes
	Datastores     []string      // names, default datastore1 and datastore2
	Hosts          int           // hosts of the cluster, default 1
	CBTBlock       int64         // bytes of a tracked block, default 64 KiB
	MaxExtents     int           // extents in one answer of QueryChangedDiskAreas, default 2000
	LeaseTimeout   time.Duration // a lease ends so long after its last HttpNfcLeaseProgress, default 300 s
	SessionTimeout time.Duration // a session ends after so long without a call, default 30 min
	Now            func() time.Time
}

func (o *Options) fill() {
	o.Listen = or(o.Listen, "127.0.0.1:0")
	o.User = or(o.User, defaultUser)
	o.Password = or(o.Password, randomHex(12))
	o.Hosts = or(o.Hosts, 1)
	o.MaxExtents = or(o.MaxExtents, defaultExtents)
	o.LeaseTimeout = or(o.LeaseTimeout, defaultLease)
	o.SessionTimeout = or(o.SessionTimeout, defaultSession)
	if len(o.Datastores) == 0 {
		o.Datastores = []string{Datastore1, Datastore2}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

func or[T comparable](v, fallback T) T {
	var none T
	if v == none {
		return fallback
	}
	return v
}

// Lab is a running vCenter.
type Lab struct {
	opt     Options
	dir     string
	ownDir  bool
	model   *simulator.Model
	svc     *simulator.Service
	server  *simulator.Server
	cert    tls.Certificate
	guests  *guest.Operations
	vms     *machine.Inventory
	trouble *trouble.Set
	counts  counts
	dcRef   types.ManagedObjectReference
	closing chan struct{} // closed by Close, ends what waits

	mu       sync.Mutex
	logins   map[string]login // of guests, by what their VMs carry in their configuration
	users    map[string]login // of imported VMs' guests, by the VM
	sessions map[string]time.Time
	tickets  map[string]ticket
	leases   map[string]*lease
}

// Start runs a Lab until Close. The context bounds the start only.
func Start(ctx context.Context, opt Options) (*Lab, error) {
	opt.fill()
	l := &Lab{
		opt: opt, dir: opt.Dir, closing: make(chan struct{}),
		trouble: trouble.New(),
		logins:  map[string]login{}, users: map[string]login{},
		sessions: map[string]time.Time{}, tickets: map[string]ticket{}, leases: map[string]*lease{},
	}
	if err := l.start(ctx); err != nil {
		l.Close()
		return nil, fmt.Errorf("start laboratory: %w", err)
	}
	return l, nil
}

func (l *Lab) start(ctx context.Context) error {
	if l.dir == "" {
		dir, err := os.MkdirTemp("", "holdfast-lab-")
		if err != nil {
			return err
		}
		l.dir, l.ownDir = dir, true
	}
	l.model = simulator.VPX()
	l.model.Machine, l.model.Host, l.model.Datastore, l.model.ClusterHost = 0, 0, 0, l.opt.Hosts
	if err := template.Alone(l.model.Create); err != nil {
		return fmt.Errorf("create inventory: %w", err)
	}
	l.svc = l.model.Service
	l.dcRef = l.svc.Context.Map.Any("Datacenter").Reference()
	if err := l.addDatastores(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	l.extend()
	return l.listen()
}

// addDatastores mounts each datastore, a directory of its own, on every host.
func (l *Lab) addDatastores() error {
	reg := l.svc.Context.Map
	for _, name := range l.opt.Datastores {
		dir := l.datastoreDir(name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		for _, e := range reg.All("HostSystem") {
			host := e.(*simulator.HostSystem)
			sys := reg.Get(*host.ConfigManager.DatastoreSystem).(*simulator.HostDatastoreSystem)
			r := sys.CreateLocalDatastore(l.ctx(), &types.CreateLocalDatastore{This: sys.Self, Name: name, Path: dir})
			body := r.(*methods.CreateLocalDatastoreBody)
			if body.Fault_ != nil {
				return fmt.Errorf("mount datastore %s: %s", name, body.Fault_.String)
			}
		}
	}
	for _, e := range reg.All("Datastore") {
		ds := e.(*simulator.Datastore)
		ds.Summary.Type = "VMFS"
		ds.Summary.Capacity, ds.Summary.FreeSpace = 64<<40, 64<<40
		ds.Info.GetDatastoreInfo().FreeSpace = 64 << 40
	}
	return nil
}

func (l *Lab) datastoreDir(name string) string { return filepath.Join(l.dir, name) }

// listen opens the server. vcsim panics when it cannot listen, so the address is tried
// first.
func (l *Lab) listen() error {
	// Between this attempt and vcsim's the port could be lost, which then still panics; with
	// port 0, as in tests, it cannot.
	try, err := net.Listen("tcp", l.opt.Listen)
	if err != nil {
		return err
	}
	if err := try.Close(); err != nil {
		return err
	}
	if l.cert, err = newCertificate(l.opt.Listen, l.opt.Now()); err != nil {
		return err
	}
	l.svc.Listen = &url.URL{Host: l.opt.Listen, User: url.UserPassword(l.opt.User, l.opt.Password)}
	l.svc.TLS = &tls.Config{Certificates: []tls.Certificate{l.cert}, MinVersion: tls.VersionTLS12}
	l.svc.ServeMux = http.NewServeMux()
	l.routes(l.svc.ServeMux)
	l.server = l.svc.NewServer()
	return nil
}

// Close ends all leases, processes and connections and removes every file, those in
// Options.Dir as well.
func (l *Lab) Close() {
	select {
	case <-l.closing:
		return
	default:
		close(l.closing)
		l.trouble.Close()
	}
	if l.server != nil {
		l.ExpireSessions()
		// vcsim's Close waits for all connections, and a client may hold one open in
		// WaitForUpdatesEx for half an hour.
		l.server.CloseClientConnections()
		l.server.Close()
	}
	l.mu.Lock()
	leases := l.leases
	l.leases = map[string]*lease{}
	l.mu.Unlock()
	for _, ls := range leases {
		ls.timer.Stop()
	}
	if l.guests != nil {
		l.guests.Close()
	}
	if l.vms != nil {
		l.vms.Close()
	}
	for _, name := range l.opt.Datastores {
		_ = os.RemoveAll(l.datastoreDir(name))
	}
	_ = os.RemoveAll(filepath.Join(l.dir, "guests"))
	if l.model != nil {
		l.model.Remove()
	}
	if l.ownDir {
		_ = os.RemoveAll(l.dir)
	}
}

// URL is the address of the API without user and password, https://host:port/sdk.
func (l *Lab) URL() *url.URL {
	u := *l.server.URL
	u.User = nil
	return &u
}

// User is the login's name.
func (l *Lab) User() string { return l.opt.User }

// Password is the login's password.
func (l *Lab) Password() string { return l.opt.Password }

// Env are the settings with which a program finds this vCenter.
func (l *Lab) Env() map[string]string {
	sha256, _ := l.Thumbprint()
	return map[string]string{
		"HOLDFAST_VCENTER_URL":        l.URL().String(),
		"HOLDFAST_VCENTER_USER":       l.opt.User,
		"HOLDFAST_VCENTER_PASSWORD":   l.opt.Password,
		"HOLDFAST_VCENTER_THUMBPRINT": sha256,
	}
}

// ctx is a fresh vcsim context of this server. vcsim's locks belong to contexts, so
// every use takes its own.
func (l *Lab) ctx() *simulator.Context {
	c := *l.svc.Context
	c.Context = context.Background()
	return &c
}

// randomHex panics never: crypto/rand.Read does not fail.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}
