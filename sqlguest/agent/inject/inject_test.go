package inject_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/sqlguest/agent"
	"holdfast/sqlguest/agent/inject"
	"holdfast/sqlguest/agent/program"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/lab/machine"
)

const canary = "canary-0815"

// built is the real agent, once.
var built = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "agent")
	if text, err := exec.Command("go", "build", "-o", out, "holdfast/sqlguest/agent/guest").CombinedOutput(); err != nil {
		return nil, errors.New(string(text))
	}
	return os.ReadFile(out)
})

// ground is a guest with a SQL Server in it.
func ground(t *testing.T) (*machine.Guest, inject.Options) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("plays a Linux guest with this machine's own programs")
	}
	if _, err := exec.LookPath("go"); err != nil {
		if os.Getenv("HOLDFAST_DEMAND_PARTS") == "1" {
			t.Fatal(err)
		}
		t.Skip("needs the go command to build the agent: ", err)
	}
	l, err := lab.Start(lab.Options{Logins: []lab.Login{{Name: "sa", Password: canary, Sysadmin: true}}})
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	g := newLocal(t)
	return g, inject.Options{
		Guest: g, Program: func(string) ([]byte, error) { return built() }, Host: "here", PID: 1, Pause: 5 * time.Millisecond,
		Config: program.Config{Listen: "127.0.0.1:0", Address: l.Address(), User: "sa", Password: canary},
	}
}

func clean(t *testing.T, g *machine.Guest) {
	t.Helper()
	left, err := g.Left()
	must(t, err)
	if len(left) > 0 {
		t.Errorf("left in the guest: %q", left)
	}
	if running := g.Running(); len(running) > 0 {
		t.Errorf("still running in the guest: %v", running)
	}
}

func TestInjectedAgentAnswersAndIsTakenOut(t *testing.T) {
	g, o := ground(t)
	i, err := inject.Open(t.Context(), o)
	must(t, err)
	rows, err := i.Query(t.Context(), "SELECT 1 AS one")
	if err != nil || rows.Values[0][0] != int64(1) {
		t.Errorf("query %+v: %v", rows, err)
	}
	secrets := 0
	left, err := g.Left()
	must(t, err)
	for _, path := range left {
		info, err := os.Stat(path)
		must(t, err)
		if info.IsDir() {
			if info.Mode().Perm() != 0o700 {
				t.Errorf("%s is open to others: %v", path, info.Mode())
			}
			continue
		}
		data, err := os.ReadFile(path)
		must(t, err)
		if strings.Contains(string(data), canary) || filepath.Base(path) == program.ConfigName {
			secrets++
		}
	}
	for _, line := range g.Running() {
		if strings.Contains(line, canary) {
			secrets++
		}
	}
	if secrets > 0 {
		t.Errorf("secrets in %d places of the guest", secrets)
	}
	must(t, i.Close(t.Context()))
	clean(t, g)
}

// TestFailuresLeaveTheGuestClean: each has its own error, with what helps.
func TestFailuresLeaveTheGuestClean(t *testing.T) {
	for name, k := range map[string]struct {
		spoil func(*machine.Guest, *inject.Options)
		is    error
		says  string
	}{
		"closed port":      {func(g *machine.Guest, _ *inject.Options) { g.SetClosed(true) }, inject.ErrPort, "refused"},
		"wrong login":      {func(_ *machine.Guest, o *inject.Options) { o.Config.Password = "wrong" }, inject.ErrLogin, "18456"},
		"closed SQL port":  {func(_ *machine.Guest, o *inject.Options) { o.Config.Address = "127.0.0.1:1" }, inject.ErrSilent, "127.0.0.1:1"},
		"altered":          {func(g *machine.Guest, _ *inject.Options) { g.Altered = isProgram }, inject.ErrAltered, ""},
		"no administrator": {func(g *machine.Guest, _ *inject.Options) { g.Refused = "/usr/bin/test" }, inject.ErrRights, "exit code 1"},
		"disk full":        {func(g *machine.Guest, _ *inject.Options) { g.Room = 1 << 20 }, inject.ErrRoom, "1 MiB free"},
		"quarantined":      {func(g *machine.Guest, _ *inject.Options) { g.Lost = isProgram }, inject.ErrAltered, "gone"},
		"port taken":       {takePort, inject.ErrTaken, "address already in use"},
		"killed at once": {func(g *machine.Guest, o *inject.Options) {
			o.Program = func(string) ([]byte, error) { return []byte("#!/bin/sh\nrm -f $0; kill -9 $$\n"), nil }
		}, inject.ErrAltered, "gone"},
		"unsafe":         {func(g *machine.Guest, _ *inject.Options) { g.Refused = "/bin/chmod" }, inject.ErrPlace, "chmod"},
		"no such system": {func(_ *machine.Guest, o *inject.Options) { o.Program = noProgram }, inject.ErrSystem, "linux"},
		"agent dies": {func(_ *machine.Guest, o *inject.Options) {
			o.Program = func(string) ([]byte, error) { return []byte("#!/bin/sh\nexit 7\n"), nil }
		}, inject.ErrAgent, "exit code 7"},
	} {
		t.Run(name, func(t *testing.T) {
			g, o := ground(t)
			k.spoil(g, &o)
			i, err := inject.Open(t.Context(), o)
			if err == nil {
				_ = i.Close(t.Context())
			}
			if !errors.Is(err, k.is) || !strings.Contains(err.Error(), k.says) || strings.Contains(err.Error(), canary) {
				t.Errorf("open: %v", err)
			}
			if k.is != inject.ErrSystem && inject.Hint(err) == "" {
				t.Error("nothing is said of what helps")
			}
			for _, word := range map[error][]string{
				inject.ErrLogin: {"HOLDFAST_SQL_PASSWORD"}, inject.ErrSilent: {"HOLDFAST_SQL_ADDRESS", "service"}, inject.ErrTaken: {"HOLDFAST_GUEST_PORT"},
			}[k.is] {
				if !strings.Contains(inject.Hint(err), word) || strings.Contains(inject.Hint(err), "virus") || strings.Contains(err.Error(), inject.ErrAgent.Error()) {
					t.Errorf("%v: %s", err, inject.Hint(err))
				}
			}
			clean(t, g)
		})
	}
}

// takePort lets a stranger listen where the agent would.
func takePort(g *machine.Guest, o *inject.Options) {
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		o.Config.Listen = l.Addr().String()
		g.Strangers = append(g.Strangers, l)
	}
}

func isProgram(path string) bool { return strings.HasSuffix(path, program.BinaryName) }

func noProgram(string) ([]byte, error) { return nil, errors.New("not built in") }

// TestKilledAgent: the session ends, and the guest is clean after Close.
func TestKilledAgent(t *testing.T) {
	g, o := ground(t)
	i, err := inject.Open(t.Context(), o)
	must(t, err)
	for pid := range g.Running() {
		must(t, g.Kill(t.Context(), pid))
	}
	<-i.Done()
	if _, err := i.Query(t.Context(), "SELECT 1 AS one"); !errors.Is(err, agent.ErrCut) {
		t.Errorf("query: %v", err)
	}
	must(t, i.Close(t.Context()))
	clean(t, g)
}

// TestCancelledRunLeavesTheGuestClean: Close has time of its own.
func TestCancelledRunLeavesTheGuestClean(t *testing.T) {
	g, o := ground(t)
	ctx, cancel := context.WithCancel(t.Context())
	i, err := inject.Open(ctx, o)
	must(t, err)
	cancel()
	must(t, i.Close(ctx))
	clean(t, g)
	if _, err := inject.Open(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("open of a cancelled run: %v", err)
	}
	clean(t, g)
}

// TestLostConnectionTakesItselfOut: nobody comes back, and the agent leaves nothing.
func TestLostConnectionTakesItselfOut(t *testing.T) {
	g, o := ground(t)
	o.Config.IdleTimeout = 2 * time.Second // a session must begin within it
	i, err := inject.Open(t.Context(), o)
	must(t, err)
	must(t, i.Client.Close())
	g.Wait()
	clean(t, g)
}

// TestOrphans: what a killed run has left is taken out by the next; a live run's is
// not touched, and is named.
func TestOrphans(t *testing.T) {
	g, o := ground(t)
	o.Life = "lock 1"
	first, err := inject.Open(t.Context(), o)
	must(t, err)
	other := o
	other.Host = "elsewhere"
	if _, err := inject.Open(t.Context(), other); !errors.Is(err, inject.ErrOccupied) || !strings.Contains(err.Error(), "here") {
		t.Errorf("second run from elsewhere: %v", err)
	}
	// Same name of the host, same number of the process, and yet another machine: a
	// clone, a container.
	if _, err := inject.Open(t.Context(), o); !errors.Is(err, inject.ErrOccupied) {
		t.Errorf("second run of the same name: %v", err)
	}
	same := o
	same.Dead = func(m inject.Marker) bool { return m.Life != "lock 1" }
	if _, err := inject.Open(t.Context(), same); !errors.Is(err, inject.ErrOccupied) {
		t.Errorf("second run from here: %v", err)
	}
	if _, err := first.Query(t.Context(), "SELECT 1 AS one"); err != nil {
		t.Errorf("the first run was disturbed: %v", err)
	}
	// The first run's program is killed: nothing is said to its agent.
	must(t, first.Client.Close())
	next := o
	next.Dead = func(m inject.Marker) bool { return m.Life == "lock 1" }
	second, err := inject.Open(t.Context(), next)
	must(t, err)
	if n := len(g.Running()); n != 1 {
		t.Errorf("%d agents run", n)
	}
	must(t, second.Close(t.Context()))
	clean(t, g)
}

// TestStrangerWhoLooksAtAnAgentIsNotKilled: a program whose arguments name a dead run's
// agent goes on.
func TestStrangerWhoLooksAtAnAgentIsNotKilled(t *testing.T) {
	g, o := ground(t)
	parent := g.Inside("/var/lib/holdfast-agent")
	run := strings.Repeat("C", 26)
	dir := filepath.Join(parent, run)
	must(t, os.MkdirAll(dir, 0o700))
	must(t, os.WriteFile(filepath.Join(dir, program.MarkerName), []byte(`{"run":"`+run+`","host":"here"}`), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, program.BinaryName), nil, 0o600))
	pid, err := g.Start(t.Context(), "/usr/bin/tail", []string{"-f", "/dev/null", "/var/lib/holdfast-agent/" + run + "/" + program.BinaryName}, "/var/lib", nil)
	must(t, err)
	o.Dead = func(inject.Marker) bool { return true }
	i, err := inject.Open(t.Context(), o)
	must(t, err)
	if g.Running()[pid] == "" {
		t.Error("a stranger's program was killed")
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the dead run's directory: %v", err)
	}
	must(t, g.Kill(t.Context(), pid))
	must(t, i.Close(t.Context()))
}

// TestTwoRunsAtOnce: both begin before either can see the other; one has the port, and
// the other says that a run is there.
func TestTwoRunsAtOnce(t *testing.T) {
	g, o := ground(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	o.Config.Listen = l.Addr().String()
	must(t, l.Close())
	errs := make([]error, 2)
	runs := make([]*inject.Injected, 2)
	var both sync.WaitGroup
	for n := range runs {
		mine := o
		mine.Host = []string{"here", "there"}[n]
		both.Go(func() { runs[n], errs[n] = inject.Open(t.Context(), mine) })
	}
	both.Wait()
	refused := 0
	for n, err := range errs {
		switch {
		case err == nil:
			if _, err := runs[n].Query(t.Context(), "SELECT 1 AS one"); err != nil {
				t.Errorf("the run that was first was disturbed: %v", err)
			}
			must(t, runs[n].Close(t.Context()))
		case errors.Is(err, inject.ErrOccupied):
			refused++
		default:
			t.Errorf("run %d: %v", n, err)
		}
	}
	if refused != 1 {
		t.Errorf("%d of two runs were refused", refused)
	}
	clean(t, g)
}

// TestOrphansOfOtherHosts: a directory of a run that has no agent yet is that of one
// that begins, unless it is old; an empty one without a name is nobody's then.
func TestOrphansOfOtherHosts(t *testing.T) {
	g, o := ground(t)
	parent := g.Inside("/var/lib/holdfast-agent")
	must(t, os.Mkdir(parent, 0o700))
	long := time.Now().Add(-time.Hour)
	made := map[string]string{}
	for _, name := range []string{"AYOUNG", "BEMPTY", "COLD", "DEMPTYOLD"} {
		dir := filepath.Join(parent, name+strings.Repeat("A", 26-len(name)))
		must(t, os.Mkdir(dir, 0o700))
		made[name] = dir
		if name == "AYOUNG" || name == "COLD" {
			must(t, os.WriteFile(filepath.Join(dir, program.MarkerName), []byte(`{"run":"`+filepath.Base(dir)+`","host":"elsewhere"}`), 0o600))
			must(t, os.WriteFile(filepath.Join(dir, program.ReadyName+".new"), nil, 0o600))
		}
		if strings.HasSuffix(name, "OLD") {
			must(t, os.Chtimes(dir, long, long))
		}
	}
	i, err := inject.Open(t.Context(), o)
	must(t, err)
	must(t, i.Close(t.Context()))
	for name, dir := range made {
		_, err := os.Stat(dir)
		if stays := !strings.HasSuffix(name, "OLD"); stays != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// cutOff is a guest whose run is killed when its directory is made and nothing is in it.
type cutOff struct{ inject.Guest }

func (cutOff) Copy(context.Context, string, int64, io.Reader) error { return errors.New("killed") }
func (cutOff) DeleteDirectory(context.Context, string) error        { return errors.New("killed") }

// TestEmptyDirectoryOfAKilledRunGoesNext: it has no marker yet, and its name says whose it
// is. Another run's stays, which may have just begun.
func TestEmptyDirectoryOfAKilledRunGoesNext(t *testing.T) {
	g, o := ground(t)
	left := func() int {
		list, err := os.ReadDir(g.Inside("/var/lib/holdfast-agent"))
		if !errors.Is(err, fs.ErrNotExist) {
			must(t, err)
		}
		return len(list)
	}
	for _, life := range []string{"boot/1/killed", "boot/2/alive"} {
		dying := o
		dying.Guest, dying.Life = cutOff{g}, life
		if _, err := inject.Open(t.Context(), dying); err == nil {
			t.Fatal("it was not killed")
		}
	}
	o.Life = "boot/3/next"
	o.Dead = func(m inject.Marker) bool {
		return inject.LifeOf(m.Run, []string{"boot/3/next", "boot/2/alive", "boot/1/killed"}) == "boot/1/killed"
	}
	if n := left(); n != 2 {
		t.Fatalf("%d directories are left of two killed runs", n)
	}
	i, err := inject.Open(t.Context(), o)
	must(t, err)
	must(t, i.Close(t.Context()))
	if n := left(); n != 1 {
		t.Errorf("%d directories are left, one is not proven dead", n)
	}
}

// TestStrangersStay: a link, a file and a directory that only look like ours.
func TestStrangersStay(t *testing.T) {
	g, o := ground(t)
	victim := t.TempDir()
	must(t, os.WriteFile(filepath.Join(victim, program.MarkerName), []byte(`{"run":"AAAAAAAAAAAAAAAAAAAAAAAAAA"}`), 0o600))
	parent := g.Inside("/var/lib/holdfast-agent")
	must(t, os.Mkdir(parent, 0o700))
	must(t, os.Symlink(victim, filepath.Join(parent, strings.Repeat("A", 26))))
	theirs := filepath.Join(parent, strings.Repeat("B", 26))
	must(t, os.Mkdir(theirs, 0o700))
	must(t, os.WriteFile(filepath.Join(theirs, program.MarkerName), []byte(`{"run":"`+strings.Repeat("B", 26)+`","host":"dead"}`), 0o600))
	must(t, os.WriteFile(filepath.Join(theirs, "precious"), nil, 0o600))
	i, err := inject.Open(t.Context(), o)
	must(t, err)
	must(t, i.Close(t.Context()))
	for _, path := range []string{filepath.Join(victim, program.MarkerName), filepath.Join(theirs, "precious")} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	must(t, os.RemoveAll(parent))
	must(t, os.Symlink(victim, parent))
	if _, err := inject.Open(t.Context(), o); !errors.Is(err, inject.ErrPlace) {
		t.Errorf("parent that is a link: %v", err)
	}
}

// hasty is a guest whose operator presses Ctrl-C while a program of it is watched.
type hasty struct {
	inject.Guest
	stop func()
}

func (h *hasty) Process(ctx context.Context, pid int64) (running bool, code int, known bool, err error) {
	h.stop()
	if ctx.Err() != nil {
		return false, 0, false, fmt.Errorf("ask for programs: %w", context.Cause(ctx))
	}
	return h.Guest.Process(ctx, pid)
}

// TestInterruptionIsNoAttack: a directory that could not be looked at is not unsafe.
func TestInterruptionIsNoAttack(t *testing.T) {
	g, o := ground(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("interrupted")
	o.Guest = &hasty{o.Guest, func() { cancel(why) }}
	_, err := inject.Open(ctx, o)
	if !errors.Is(err, why) || errors.Is(err, inject.ErrPlace) || inject.Hint(err) != "" {
		t.Errorf("open: %v", err)
	}
	clean(t, g)
}
