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
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/fault"
	govguest "github.com/vmware/govmomi/guest"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

var (
	// ErrTools: VMware Tools do not run in the guest, or the machine is off.
	ErrTools = errors.New("VMware Tools do not answer")
	// ErrLogin: the guest refused user or password.
	ErrLogin = errors.New("guest refused the login")
	// ErrDenied: the guest's system does not let this user do that. Of an
	// administrator's login the token is filtered (User Account Control).
	ErrDenied = errors.New("guest denied access")
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

// Open proves the login. Errors: ErrTools, ErrLogin, ErrPrivilege.
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
		return nil, fmt.Errorf("log in to the guest as %s: %w", o.User, classify(err))
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

// properties are what vCenter knows of the guest.
func (g *Guest) properties(ctx context.Context) (*mo.VirtualMachine, error) {
	var vm mo.VirtualMachine
	err := property.DefaultCollector(g.client).RetrieveOne(ctx, g.vm, []string{"guest", "config.guestId"}, &vm)
	if err != nil {
		return nil, fmt.Errorf("ask for the guest's properties: %w", err)
	}
	return &vm, nil
}

// System is windows or linux, or another name of VMware's (other).
func (g *Guest) System(ctx context.Context) (string, error) {
	vm, err := g.properties(ctx)
	if err != nil {
		return "", err
	}
	family := ""
	if vm.Guest != nil {
		family = vm.Guest.GuestFamily
	}
	if vm.Config != nil && family == "" { // Tools have not told yet
		if family = "linuxGuest"; strings.HasPrefix(vm.Config.GuestId, "win") {
			family = "windowsGuest"
		}
	}
	return strings.TrimSuffix(family, "Guest"), nil
}

// Addresses are those that Tools tell, IPv4 first, without those of one link only.
func (g *Guest) Addresses(ctx context.Context) ([]string, error) {
	if g.address != "" {
		return []string{g.address}, nil
	}
	vm, err := g.properties(ctx)
	if err != nil {
		return nil, err
	}
	var list []string
	if vm.Guest != nil {
		list = append(list, vm.Guest.IpAddress)
		for _, n := range vm.Guest.Net {
			list = append(list, n.IpAddress...)
		}
	}
	list = slices.DeleteFunc(list, func(a string) bool {
		ip := net.ParseIP(a)
		return ip == nil || ip.IsLinkLocalUnicast() || ip.IsUnspecified()
	})
	slices.SortStableFunc(list, func(a, b string) int {
		return strings.Count(a, ":") - strings.Count(b, ":")
	})
	list = slices.Compact(list)
	if len(list) == 0 {
		return nil, ErrAddress
	}
	return list, nil
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
