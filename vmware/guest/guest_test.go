package guest_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi"

	"holdfast/vmware/guest"
	"holdfast/vmware/lab"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// machine is a laboratory's VM, and what opens its guest.
func machine(t *testing.T, spec lab.VMSpec) (*lab.VM, func(guest.Options) (*guest.Guest, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	l, err := lab.Start(ctx, lab.Options{})
	must(t, err)
	t.Cleanup(l.Close)
	u := l.URL()
	u.User = url.UserPassword(l.User(), l.Password())
	c, err := govmomi.NewClient(ctx, u, true)
	must(t, err)
	spec.Name, spec.GuestUser, spec.GuestPassword = "vm", "Administrator", "right"
	vm, err := l.AddVM(spec)
	must(t, err)
	return vm, func(o guest.Options) (*guest.Guest, error) { return guest.Open(ctx, c.Client, vm.Ref(), o) }
}

var right = guest.Options{User: "Administrator", Password: "right"}

func TestLoginsAndTools(t *testing.T) {
	vm, open := machine(t, lab.VMSpec{PoweredOn: true})
	g, err := open(right)
	must(t, err)
	_, err = open(guest.Options{User: "Administrator", Password: "canary-wrong"})
	if !errors.Is(err, guest.ErrLogin) || strings.Contains(err.Error(), "canary") {
		t.Errorf("wrong password: %v", err)
	}
	must(t, vm.PowerOff())
	if _, err := open(right); !errors.Is(err, guest.ErrTools) {
		t.Errorf("powered off: %v", err)
	}
	if _, err := g.List(t.Context(), `C:\`); !errors.Is(err, guest.ErrTools) {
		t.Errorf("list of a machine that is off: %v", err)
	}
	_, open = machine(t, lab.VMSpec{PoweredOn: true, Tools: lab.ToolsNotRunning})
	if _, err := open(right); !errors.Is(err, guest.ErrTools) {
		t.Errorf("without tools: %v", err)
	}
}

func TestFilesGoInAndOut(t *testing.T) {
	vm, open := machine(t, lab.VMSpec{PoweredOn: true})
	g, err := open(right)
	must(t, err)
	ctx := t.Context()
	must(t, g.MakeDirectory(ctx, `C:\d`))
	if err := g.MakeDirectory(ctx, `C:\d`); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second make: %v", err)
	}
	if err := g.MakeDirectory(ctx, `C:\no\parent`); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a parent: %v", err)
	}
	must(t, g.Copy(ctx, `C:\d\f`, 5, strings.NewReader("hello")))
	if err := g.Copy(ctx, `C:\d\f`, 5, strings.NewReader("other")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	if err := g.Copy(ctx, `C:\d\short`, 9, strings.NewReader("hello")); err == nil {
		t.Error("a file of another size was taken")
	}
	body, err := g.ReadFile(ctx, `C:\d\f`)
	must(t, err)
	data, err := io.ReadAll(body)
	must(t, errors.Join(err, body.Close()))
	if string(data) != "hello" {
		t.Errorf("read %q", data)
	}
	if _, err := g.ReadFile(ctx, `C:\d\none`); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("file that is not there: %v", err)
	}
	must(t, os.Symlink("/etc", filepath.Join(vm.GuestDir(), "d", "link")))
	list, err := g.List(ctx, `C:\d`)
	must(t, err)
	if len(list) != 2 || list[0].Name() != "f" || list[0].Size() != 5 || list[0].IsDir() || list[1].Mode()&fs.ModeSymlink == 0 {
		t.Errorf("list %+v", list)
	}
	if err := g.DeleteDirectory(ctx, `C:\d`); err == nil {
		t.Error("deleted a directory that is not empty")
	}
	must(t, g.Delete(ctx, `C:\d\f`))
	must(t, g.Delete(ctx, `C:\d\link`))
	must(t, g.DeleteDirectory(ctx, `C:\d`))
}

func TestProgramsAreWatched(t *testing.T) {
	_, open := machine(t, lab.VMSpec{PoweredOn: true})
	g, err := open(right)
	must(t, err)
	for program, code := range map[string]int{"true": 0, "false": 1} {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Skipf("needs %s to play the guest's program", program)
		}
		pid, err := g.Start(t.Context(), path, nil, "/", nil)
		must(t, err)
		for {
			running, got, known, err := g.Process(t.Context(), pid)
			must(t, err)
			if !known {
				t.Fatal("the program is not known")
			}
			if !running {
				if got != code {
					t.Errorf("%s ended with %d", program, got)
				}
				break
			}
		}
	}
	sleep, err := exec.LookPath("sleep")
	must(t, err)
	pid, err := g.Start(t.Context(), sleep, []string{"600"}, "/", nil)
	must(t, err)
	list, err := g.Programs(t.Context())
	if err != nil || !strings.HasSuffix(list[pid], "sleep 600") {
		t.Errorf("programs %v: %v", list, err)
	}
	must(t, g.Kill(t.Context(), pid))
	for running := true; running; {
		running, _, _, err = g.Process(t.Context(), pid)
		must(t, err)
	}
	if _, err := g.Start(t.Context(), `C:\none.exe`, nil, `C:\`, nil); err == nil {
		t.Error("started what is not there")
	}
}

func TestDialGoesToTheGuest(t *testing.T) {
	_, open := machine(t, lab.VMSpec{PoweredOn: true})
	g, err := open(right)
	must(t, err)
	if _, err := g.Dial(t.Context(), 3542); !errors.Is(err, guest.ErrAddress) {
		t.Errorf("dial without an address: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	here := right
	here.Address = "127.0.0.1"
	g, err = open(here)
	must(t, err)
	c, err := g.Dial(t.Context(), l.Addr().(*net.TCPAddr).Port)
	must(t, err)
	must(t, c.Close())
	if s, err := g.System(t.Context()); err != nil || s != "windows" && s != "linux" {
		t.Errorf("system %q: %v", s, err)
	}
}

// cutter ends a request while its body is sent.
type cutter struct{ cancel func() }

func (c cutter) Read(p []byte) (int, error) {
	c.cancel()
	return len(p), nil
}

func TestTokensOfTransfersAreInNoError(t *testing.T) {
	_, open := machine(t, lab.VMSpec{PoweredOn: true})
	g, err := open(right)
	must(t, err)
	cut := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	err = g.Copy(ctx, `C:\f`, 1<<30, cutter{func() { cancel(cut) }})
	if err == nil || strings.Contains(err.Error(), "token") || strings.Contains(err.Error(), "?") {
		t.Errorf("an interrupted copy: %v", err)
	}
}
