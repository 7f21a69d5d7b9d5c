// Package guest works inside a virtual machine without any network to it: files are
// copied, programs started and watched through VMware Tools, over the vCenter and the
// machine's host (vSphere's guest operations).
//
// The login is one of the guest's own. Every call proves it anew; nothing of it is
// kept in the guest. Its methods use the standard library's types alone, so that who
// puts something into a guest need not know VMware.
//
// Privileges: VirtualMachine.GuestOperations.Query, .Modify and .Execute. Files travel
// directly between this machine and the host, on port 443, by one-time URLs.
//
// Facts: the vSphere Web Services API's reference of GuestFileManager,
// GuestProcessManager and GuestAuthManager.
package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strconv"

	"github.com/vmware/govmomi/fault"
	govguest "github.com/vmware/govmomi/guest"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/types"
)

var (
	// ErrTools: VMware Tools do not run in the guest, or the machine is off.
	ErrTools = errors.New("VMware Tools do not answer")
	// ErrOff: the machine is powered off. It comes beside ErrTools.
	ErrOff = errors.New("virtual machine is powered off")
	// ErrLogin: the guest refused user or password.
	ErrLogin = errors.New("guest refused the login")
	// ErrDenied: the guest's system does not let this user do that. Of an
	// administrator's login the token is filtered (User Account Control).
	ErrDenied = fmt.Errorf("guest denied access: %w", fs.ErrPermission)
	// ErrPrivilege: vCenter does not let its user do that with this machine.
	ErrPrivilege = errors.New("vcenter user lacks a guest operations privilege")
	// ErrAddress: the guest has no address that could be dialled.
	ErrAddress = errors.New("guest tells no network address")
)

// Options are the guest's login.
type Options struct {
	User     string // DOMAIN\user or user
	Password string
	// Address is dialled instead of what Tools tell; a name or an IP.
	Address string
}

// Guest is one machine's guest with one login.
type Guest struct {
	client  *vim25.Client
	vm      types.ManagedObjectReference
	address string
	auth    *types.NamePasswordAuthentication
	files   *govguest.FileManager
	program *govguest.ProcessManager
}

// Open proves the login. Errors: ErrOff, ErrTools, ErrLogin, ErrPrivilege.
func Open(ctx context.Context, client *vim25.Client, vm types.ManagedObjectReference, o Options) (*Guest, error) {
	m := govguest.NewOperationsManager(client, vm)
	auth, err := m.AuthManager(ctx)
	if err != nil {
		return nil, fmt.Errorf("find guest operations: %w", err)
	}
	files, err := m.FileManager(ctx)
	if err != nil {
		return nil, fmt.Errorf("find guest operations: %w", err)
	}
	program, err := m.ProcessManager(ctx)
	if err != nil {
		return nil, fmt.Errorf("find guest operations: %w", err)
	}
	g := &Guest{client: client, vm: vm, address: o.Address, files: files, program: program,
		auth: &types.NamePasswordAuthentication{Username: o.User, Password: o.Password}}
	if err := auth.ValidateCredentials(ctx, g.auth); err != nil {
		err = classify(err)
		if state, looked := Look(ctx, client, vm); errors.Is(err, ErrTools) && looked == nil && !state.On {
			err = fmt.Errorf("%w: %w", ErrOff, err)
		}
		return nil, fmt.Errorf("log in to the guest as %s: %w", o.User, err)
	}
	return g, nil
}

// classify gives a fault the sentinel that tells what helps.
func classify(err error) error {
	if err == nil {
		return nil
	}
	for _, k := range []struct {
		target types.BaseMethodFault
		is     error
	}{
		{&types.InvalidGuestLogin{}, ErrLogin},
		{&types.GuestOperationsUnavailable{}, ErrTools},
		{&types.ToolsUnavailable{}, ErrTools},
		{&types.InvalidPowerState{}, ErrTools},
		{&types.GuestPermissionDenied{}, ErrDenied},
		{&types.NoPermission{}, ErrPrivilege},
		{&types.FileNotFound{}, fs.ErrNotExist},
		{&types.FileAlreadyExists{}, fs.ErrExist},
		{&types.CannotAccessFile{}, fs.ErrPermission},
	} {
		if fault.Is(err, k.target) {
			return fmt.Errorf("%w: %w", k.is, err)
		}
	}
	return err
}

// System is windows or linux, or another name of VMware's (other).
func (g *Guest) System(ctx context.Context) (string, error) {
	s, err := Look(ctx, g.client, g.vm)
	if err != nil {
		return "", err
	}
	return s.System, nil
}

// Free is the room on the file system that holds the path, in bytes; known is false
// where Tools do not tell.
func (g *Guest) Free(ctx context.Context, path string) (bytes int64, known bool, err error) {
	s, err := Look(ctx, g.client, g.vm)
	if err != nil {
		return 0, false, err
	}
	d, known := s.Holds(path)
	return d.Free, known, nil
}

// Addresses are those that Tools tell, IPv4 first, without those of one link only.
func (g *Guest) Addresses(ctx context.Context) ([]string, error) {
	if g.address != "" {
		return []string{g.address}, nil
	}
	s, err := Look(ctx, g.client, g.vm)
	if err != nil {
		return nil, err
	}
	if len(s.Addresses) == 0 {
		return nil, ErrAddress
	}
	return s.Addresses, nil
}

// Seen is this machine's address as the guest sees it, if nothing between the two
// translates addresses: the one by which this machine reaches the guest. No packet
// travels for that.
func (g *Guest) Seen(ctx context.Context) (string, error) {
	list, err := g.Addresses(ctx)
	if err != nil {
		return "", err
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "udp", net.JoinHostPort(list[0], "9"))
	if err != nil {
		return "", fmt.Errorf("find the way to the guest: %w", err)
	}
	defer func() { _ = c.Close() }()
	host, _, err := net.SplitHostPort(c.LocalAddr().String())
	if err != nil {
		return "", fmt.Errorf("find the way to the guest: %w", err)
	}
	return host, nil
}

// Dial connects to a TCP port of the guest by the first of its addresses that answers.
func (g *Guest) Dial(ctx context.Context, port int) (net.Conn, error) {
	list, err := g.Addresses(ctx)
	if err != nil {
		return nil, fmt.Errorf("dial port %d of the guest: %w", port, err)
	}
	var all error
	for _, a := range list {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(a, strconv.Itoa(port)))
		if err == nil {
			return c, nil
		}
		all = errors.Join(all, err)
	}
	return nil, fmt.Errorf("dial port %d of the guest: %w", port, all)
}
