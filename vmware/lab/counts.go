package lab

import (
	"maps"
	"sync"

	"github.com/vmware/govmomi/vim25/types"
	"holdfast/vmware/lab/machine"
	"holdfast/vmware/lab/spec"

	"holdfast/vmware/lab/trouble"
)

// The names under which a caller of this package knows the parts of a Lab.
type (
	// VM is a virtual machine of the laboratory.
	VM = machine.VM
	// VMSpec describes a VM to add.
	VMSpec = spec.VM
	// DiskSpec describes a disk of it.
	DiskSpec = spec.Disk
	// SOAPFault is an answer to give instead of the real one.
	SOAPFault = trouble.SOAP
	// HTTPFault is damage to do to a transfer.
	HTTPFault = trouble.HTTP
)

// What a VMSpec says about quiescing and VMware Tools.
const (
	NoVSS             = spec.NoVSS
	FileSystemVSS     = spec.FileSystemVSS
	ApplicationVSS    = spec.ApplicationVSS
	ToolsRunning      = spec.ToolsRunning
	ToolsNotRunning   = spec.ToolsNotRunning
	ToolsNotInstalled = spec.ToolsNotInstalled
)

// GuestDenied is the fault of a guest whose system does not let its user do that,
// NoPrivilege that of a vCenter.
func GuestDenied() types.BaseMethodFault { return &types.GuestPermissionDenied{} }

// NoPrivilege is the fault of a vCenter whose user lacks the privilege of that id.
func NoPrivilege(id string) types.BaseMethodFault { return &types.NoPermission{PrivilegeId: id} }

// FailSOAP arms a SOAP fault. Several are tried in the order of arming.
func (l *Lab) FailSOAP(f SOAPFault) { l.trouble.FailSOAP(f) }

// FailHTTP arms a fault of a transfer.
func (l *Lab) FailHTTP(f HTTPFault) { l.trouble.FailHTTP(f) }

// ClearFaults disarms all faults and gives full datastores their room back.
func (l *Lab) ClearFaults() { l.trouble.Clear() }

// Hold makes the next task of the SOAP method stop, with the VM locked as by a slow
// host, until release is called; entered is closed when it has stopped. It works for
// the methods of SOAPFault.InTask that have a task.
func (l *Lab) Hold(method string) (entered <-chan struct{}, release func()) {
	return l.trouble.Hold(method)
}

// SetFreeSpace lets only so many bytes more be stored on the datastore; negative means
// no limit.
func (l *Lab) SetFreeSpace(datastore string, bytes int64) { l.trouble.SetFreeSpace(datastore, bytes) }

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
