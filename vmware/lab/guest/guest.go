// Package guest plays the inside of the laboratory's guests: a directory for the file
// system and local processes for programs, behind vSphere's guest operations
// (authentication, files, processes). "C:\x" and "/x" are x in that directory.
//
// Programs run on this machine with this user's rights, with exactly the environment
// that the caller passed, as VMware Tools do. A path in their arguments that begins
// with a drive letter is put into the directory, too, for the program sees this
// machine's file system.
package guest

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Account is a VM's guest and its only login.
type Account struct {
	ID             string // of the guest
	User, Password string
	Ready          bool // Tools run in it
	Filtered       bool // the login's token is, as User Account Control does it
	Inside         *Inside
	// Used is called when room was used.
	Used func()
}

// Options connect guest operations to the VMs.
type Options struct {
	// Find tells about a VM.
	Find func(vm types.ManagedObjectReference) Account
	// Dir is the directory of a guest.
	Dir func(id string) string
}

// Operations are the guest operations of one vCenter.
type Operations struct {
	opt    Options
	ctx    context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup

	mu        sync.Mutex
	processes map[string]map[int64]*process // by guest
	transfers map[string]transfer
	rules     map[string][]string // of the guests' firewalls, by guest
	access    map[string]*access  // to directories of Windows guests, by this machine's paths
}

// New makes guest operations. Close ends all programs.
func New(opt Options) *Operations {
	ctx, cancel := context.WithCancel(context.Background())
	return &Operations{opt: opt, ctx: ctx, cancel: cancel, processes: map[string]map[int64]*process{}, transfers: map[string]transfer{}, rules: map[string][]string{}, access: map[string]*access{}}
}

// Close ends all programs that still run and waits for them.
func (g *Operations) Close() {
	g.cancel()
	g.wait.Wait()
}

// Install puts the managers into vcsim's registry. Nobody asserts their types there, so
// they may replace vcsim's.
func (g *Operations) Install(reg *simulator.Registry) {
	content := reg.Get(types.ManagedObjectReference{Type: "ServiceInstance", Value: "ServiceInstance"}).(*simulator.ServiceInstance).Content
	m := reg.Get(*content.GuestOperationsManager).(*simulator.GuestOperationsManager)
	m.AuthManager = &types.ManagedObjectReference{Type: "GuestAuthManager", Value: "guestOperationsAuthManager"}
	auth := &authManager{g: g}
	auth.Self = *m.AuthManager
	files := &fileManager{g: g}
	files.Self = *m.FileManager
	programs := &processManager{g: g}
	programs.Self = *m.ProcessManager
	for _, o := range []mo.Reference{auth, files, programs} {
		reg.Put(o)
	}
}

// enter checks the guest and the login, and returns the guest and its directory.
func (g *Operations) enter(vm types.ManagedObjectReference, auth types.BaseGuestAuthentication) (a Account, dir string, fault *soap.Fault) {
	a = g.opt.Find(vm)
	if !a.Ready {
		return a, "", simulator.Fault("", &types.GuestOperationsUnavailable{})
	}
	// Only a name and a password: tickets and SAML tokens need a domain to check them.
	login, ok := auth.(*types.NamePasswordAuthentication)
	if !ok || login.Username != a.User || login.Password != a.Password {
		return a, "", simulator.Fault("Failed to authenticate with the guest operating system using the supplied credentials.", &types.InvalidGuestLogin{})
	}
	dir = g.opt.Dir(a.ID)
	for _, d := range []string{dir, filepath.Join(dir, "tmp"), filepath.Join(dir, "var", "lib"), filepath.Join(dir, "Windows", "Temp"), filepath.Join(dir, "ProgramData")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return a, "", simulator.Fault(err.Error(), &types.GuestOperationsFault{})
		}
	}
	return a, dir, nil
}

// inside maps a path of the guest into its directory; ".." cannot leave it.
func inside(dir, p string) string {
	p = strings.ReplaceAll(p, `\`, "/")
	if len(p) >= 2 && p[1] == ':' {
		p = p[2:]
	}
	return filepath.Join(dir, filepath.FromSlash(filepath.Clean("/"+p)))
}

// guestFault is the fault for a file operation that went wrong.
func guestFault(p string, err error) *soap.Fault {
	file := types.FileFault{File: p}
	switch {
	case os.IsNotExist(err):
		return simulator.Fault(err.Error(), &types.FileNotFound{FileFault: file})
	case os.IsExist(err):
		return simulator.Fault(err.Error(), &types.FileAlreadyExists{FileFault: file})
	}
	return simulator.Fault(err.Error(), &types.CannotAccessFile{FileFault: file})
}

// command prepares a program of the guest.
func (g *Operations) command(dir string, spec *types.GuestProgramSpec) *exec.Cmd {
	program := spec.ProgramPath
	if local := inside(dir, program); exists(local) {
		program = local
	}
	var args []string
	for _, a := range fields(spec.Arguments) {
		if len(a) > 2 && a[1] == ':' && a[2] == '\\' {
			a = inside(dir, a)
		}
		args = append(args, a)
	}
	// A program of the guest is found in the guest first, and on this machine second, so that
	// a test can run sh or sleep without copying them.
	cmd := exec.CommandContext(g.ctx, program, args...)
	cmd.Env = append([]string{}, spec.EnvVariables...) // replaces, never inherits
	cmd.Dir = dir
	if spec.WorkingDirectory != "" {
		cmd.Dir = inside(dir, spec.WorkingDirectory)
	}
	return cmd
}

func exists(p string) bool {
	fi, err := os.Stat(p)
	return err == nil && !fi.IsDir()
}

// fields splits a command line at blanks outside of double quotes.
func fields(line string) (out []string) {
	var b strings.Builder
	quoted, some := false, false
	for _, r := range line {
		switch {
		case r == '"':
			quoted, some = !quoted, true
		case r == ' ' && !quoted:
			if some {
				out = append(out, b.String())
			}
			b.Reset()
			some = false
		default:
			b.WriteRune(r)
			some = true
		}
	}
	if some {
		out = append(out, b.String())
	}
	return out
}

// ServeHTTP moves files in and out under the URLs of the file manager, once each.
func (g *Operations) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := r.URL.Query().Get("token")
	g.mu.Lock()
	t, ok := g.transfers[token]
	if ok && t.method == r.Method {
		delete(g.transfers, token)
	}
	g.mu.Unlock()
	switch {
	case !ok:
		http.NotFound(w, r)
	case t.method != r.Method:
		http.Error(w, "405 Method Not Allowed", http.StatusMethodNotAllowed)
	case r.Method == http.MethodPut:
		t.receive(w, r)
	default:
		http.ServeFile(w, r, t.file)
	}
}
