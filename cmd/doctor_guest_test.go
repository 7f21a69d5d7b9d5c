package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/sqlguest/agent/program"
	sqllab "holdfast/sqlguest/lab"
	"holdfast/vmware/lab"
)

// ward is a VM with a SQL Server in its guest, and the program as an operator runs it.
type ward struct {
	t       *testing.T
	ctx     context.Context
	program string
	vcenter *lab.Lab
	vm      *lab.VM
	sql     *sqllab.Lab
	env     map[string]string
}

func newWard(t *testing.T, guest string) *ward {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	w := &ward{t: t, ctx: ctx}
	w.program = theProgram(t)
	var err error
	w.vcenter, err = lab.Start(ctx, lab.Options{})
	w.must(err)
	t.Cleanup(w.vcenter.Close)
	w.vm, err = w.vcenter.AddVM(lab.VMSpec{Name: "db01", PoweredOn: true, Guest: guest, GuestUser: "root", GuestPassword: "canary-guest"})
	w.must(err)
	w.sql, err = sqllab.Start(sqllab.Options{Sample: true, BackupDirectory: t.TempDir(), Path: func(p string) string { return p },
		Logins: []sqllab.Login{{Name: "sa", Password: "canary-sql", Sysadmin: true}, {Name: "clerk", Password: "canary-sql"}}})
	w.must(err)
	t.Cleanup(func() { w.must(w.sql.Close()) })
	port, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	_, number, err := net.SplitHostPort(port.Addr().String())
	w.must(errors.Join(err, port.Close()))
	dir := t.TempDir()
	w.env = map[string]string{
		"HOLDFAST_GUEST_USER": "root", "HOLDFAST_GUEST_PASSWORD": "canary-guest", "HOLDFAST_GUEST_ADDRESS": "127.0.0.1", "HOLDFAST_GUEST_PORT": number,
		"HOLDFAST_SQL_ADDRESS": w.sql.Address(), "HOLDFAST_SQL_USER": "sa", "HOLDFAST_SQL_PASSWORD": "canary-sql",
		"HOLDFAST_REPOSITORY": filepath.Join(dir, "r"), "HOLDFAST_PASSWORD": "a password",
		"XDG_CACHE_HOME": filepath.Join(dir, "cache"), "HOME": dir, "PATH": os.Getenv("PATH"), "TMPDIR": dir,
	}
	maps.Copy(w.env, w.vcenter.Env())
	w.run(exitDone, "", nil, "init")
	return w
}

func (w *ward) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// command is the program with the ward's settings, and some changed.
func (w *ward) command(change map[string]string, args ...string) *exec.Cmd {
	c := exec.CommandContext(w.ctx, w.program, args...)
	env := maps.Clone(w.env)
	maps.Copy(env, change)
	for name, value := range env {
		c.Env = append(c.Env, name+"="+value)
	}
	return c
}

// run runs the program and returns what it printed.
func (w *ward) run(code exitCode, says string, change map[string]string, args ...string) string {
	w.t.Helper()
	c := w.command(change, args...)
	out, _ := c.CombinedOutput() // the code tells
	w.judge(c, string(out), code, says)
	return string(out)
}

func (w *ward) judge(c *exec.Cmd, out string, code exitCode, says string) {
	w.t.Helper()
	if got := exitCode(c.ProcessState.ExitCode()); got != code || !strings.Contains(out, says) {
		w.t.Errorf("holdfast %s: code %d, want %d with %q\n%s", strings.Join(c.Args[1:], " "), got, code, says, out)
	}
	if strings.Contains(out, "canary-") {
		w.t.Errorf("a password is shown: %s", out)
	}
}

// left is what is in the guest where agents lie.
func (w *ward) left() []string {
	var names []string
	for _, parent := range []string{"var/lib", "ProgramData"} {
		_ = filepath.WalkDir(filepath.Join(w.vm.GuestDir(), parent, program.ParentName), func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				names = append(names, path)
			}
			return nil
		})
	}
	return names
}

func (w *ward) clean() {
	w.t.Helper()
	if left := w.left(); len(left) > 0 {
		w.t.Errorf("left in the guest: %q", left)
	}
}

// TestTroubleInAGuestHasItsOwnMessage: each thing that goes wrong on the way into a
// guest has its line in doctor, its message, its remedy and its code, the same for a
// backup; and leaves the guest clean.
func TestTroubleInAGuestHasItsOwnMessage(t *testing.T) {
	t.Parallel()
	w := newWard(t, "ubuntu64Guest")
	for _, k := range []struct {
		name   string
		spoil  func()
		mend   func()
		change map[string]string
		code   exitCode
		id     string // of doctor's line
		says   string
		remedy string
	}{
		{name: "wrong guest password", change: map[string]string{"HOLDFAST_GUEST_PASSWORD": "wrong"}, code: 14, id: "Q5-login", says: "guest refused the login", remedy: "HOLDFAST_GUEST_PASSWORD"},
		{name: "guest off", spoil: func() { w.must(w.vm.PowerOff()) }, mend: func() { w.must(w.vm.PowerOn()) }, code: 16, id: "Q1-power", says: "powered off", remedy: "power the VM on"},
		{name: "no tools", spoil: func() { w.vm.SetTools(lab.ToolsNotRunning) }, mend: func() { w.vm.SetTools(lab.ToolsRunning) }, code: 16, id: "Q1-tools", says: "VMware Tools do not answer", remedy: "start VMware Tools"},
		{name: "no privilege", spoil: func() {
			w.vcenter.FailSOAP(lab.SOAPFault{Method: "ValidateCredentialsInGuest", Fault: lab.NoPrivilege("VirtualMachine.GuestOperations.Query"), Count: -1})
		}, mend: w.vcenter.ClearFaults, code: 16, id: "Q5-login", says: "lacks a guest operations privilege", remedy: "VirtualMachine.GuestOperations.Query, .Modify"},
		{name: "no administrator", spoil: func() {
			w.vcenter.FailSOAP(lab.SOAPFault{Method: "MakeDirectoryInGuest", Fault: lab.GuestDenied(), Count: -1})
		}, mend: w.vcenter.ClearFaults, code: 16, id: "Q5-admin", says: "guest denied access", remedy: "filtered token"},
		{name: "disk full", spoil: func() { w.vm.SetGuestRoom(3 << 20) }, mend: func() { w.vm.SetGuestRoom(-1) }, code: 16, id: "guest-room", says: "MiB free", remedy: "make room"},
		{name: "altered", spoil: func() { w.vm.Scan(func(_ string, data []byte) []byte { return append(data, 0) }) }, mend: func() { w.vm.Scan(nil) }, code: 16, id: "guest-program", says: "was altered", remedy: "virus scanner"},
		{name: "quarantined", spoil: func() { w.vm.Scan(quarantine) }, mend: func() { w.vm.Scan(nil) }, code: 16, id: "guest-program", says: "it is gone", remedy: "virus scanner"},
		{name: "closed port", change: map[string]string{"HOLDFAST_GUEST_ADDRESS": "127.0.0.1:0"}, code: 14, id: "Q1-port", says: "port cannot be reached", remedy: "3542"},
		{name: "SQL Server is down", change: map[string]string{"HOLDFAST_SQL_ADDRESS": "127.0.0.1:1"}, code: 14, id: "Q5-sql-login", says: "connection refused", remedy: ""},
		{name: "SQL Server of another machine", change: map[string]string{"HOLDFAST_SQL_ADDRESS": "192.0.2.1:1433"}, code: 16, id: "Q5-sql-login", says: "SQL Server is on another machine: 192.0.2.1:1433", remedy: "HOLDFAST_SQL_ADDRESS"},
		{name: "wrong SQL password", change: map[string]string{"HOLDFAST_SQL_PASSWORD": "wrong"}, code: 14, id: "Q5-sql-login", says: "Login failed", remedy: ""},
		{name: "no sysadmin", change: map[string]string{"HOLDFAST_SQL_USER": "clerk"}, code: 16, id: "Q5-sysadmin", says: "no member of sysadmin", remedy: ""},
		{name: "no such VM", change: map[string]string{}, code: 1, id: "guest-vm", says: "no such virtual machine", remedy: "vm list"},
	} {
		t.Run(k.name, func(t *testing.T) {
			w.t = t
			if k.spoil != nil {
				k.spoil()
			}
			vm := "db01"
			if k.id == "guest-vm" {
				vm = "nobody"
			}
			c := w.command(k.change, "doctor", "guest", "sql", "--vm", vm, "--json")
			out, _ := c.Output()
			w.judge(c, string(out), k.code, k.says)
			line := failed(t, out)
			if line.ID != k.id || !strings.Contains(line.Detail, k.says) || !strings.Contains(line.Remedy, k.remedy) || line.Remedy == "" {
				t.Errorf("doctor says %+v", line)
			}
			w.run(k.code, k.says, k.change, "backup", "sql", "--vm", vm)
			if k.mend != nil {
				k.mend()
			}
			w.clean()
		})
	}
	w.t = t
	w.run(exitDone, `"id":"guest-clean","name":"guest afterwards","status":"ok"`, nil, "doctor", "guest", "sql", "--vm", "db01", "--json")
	w.clean()
}

func quarantine(path string, data []byte) []byte {
	if strings.HasSuffix(path, program.BinaryName) {
		return nil
	}
	return data
}

// verdictLine is a line of doctor's.
type verdictLine struct{ ID, Status, Detail, Remedy string }

// failed is the one line that failed.
func failed(t *testing.T, out []byte) verdictLine {
	t.Helper()
	var lines []verdictLine
	if err := json.Unmarshal(out, &lines); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var found []verdictLine
	for _, l := range lines {
		if l.Status == "failed" {
			found = append(found, l)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d lines failed: %+v", len(found), lines)
	}
	return found[0]
}

// TestUnknownSystemOfAGuest: there is no agent for it.
func TestUnknownSystemOfAGuest(t *testing.T) {
	t.Parallel()
	w := newWard(t, "freebsd13_64Guest")
	w.run(exitRefused, "no agent for the guest's system", nil, "doctor", "guest", "--vm", "db01", "--json")
	w.run(exitRefused, "SQL Server runs on Windows and Linux", nil, "backup", "sql", "--vm", "db01")
	w.clean()
}

// mid lets something happen while the BACKUP of sales is written: held is closed then,
// and the BACKUP goes on when let is.
func (w *ward) mid() (held chan struct{}, let func()) {
	held, gate := make(chan struct{}), make(chan struct{})
	var once, free sync.Once
	w.sql.BreakDevice(func(ctx context.Context, _ string, _ int64) error {
		once.Do(func() { close(held) })
		select {
		case <-gate:
		case <-ctx.Done():
		}
		return nil
	})
	return held, func() { free.Do(func() { w.sql.BreakDevice(nil); close(gate) }) }
}

// await waits for the middle of a run.
func (w *ward) await(held chan struct{}) {
	w.t.Helper()
	select {
	case <-held:
	case <-w.ctx.Done():
		w.t.Fatal("no BACKUP was begun")
	}
}

// agentPID is the process that serves in the guest.
func (w *ward) agentPID() int {
	w.t.Helper()
	for _, path := range w.left() {
		if filepath.Base(path) == program.ReadyName {
			data, err := os.ReadFile(path)
			w.must(err)
			var r program.Ready
			w.must(json.Unmarshal(data, &r))
			return r.PID
		}
	}
	w.t.Fatal("no agent runs")
	return 0
}

// TestPartsThatDieInTheMiddleOfARun: a second run is refused, says why, and disturbs
// nothing; an agent that is killed ends the run with its own message; a program that
// is killed leaves an agent that goes by itself; the next run finds a clean guest and
// goes on.
func TestPartsThatDieInTheMiddleOfARun(t *testing.T) {
	t.Parallel()
	w := newWard(t, "ubuntu64Guest")
	args := []string{"backup", "sql", "--vm", "db01", "-d", "sales"}
	begin := func() (*exec.Cmd, *strings.Builder, func()) {
		t.Helper()
		held, let := w.mid()
		t.Cleanup(let)
		c := w.command(nil, args...)
		var out strings.Builder
		c.Stdout, c.Stderr = &out, &out
		w.must(c.Start())
		w.await(held)
		return c, &out, let
	}
	c, out, let := begin()
	w.run(exitBusy, "another run has its agent in the guest", nil, args...)
	w.run(exitBusy, `"id":"guest-occupied"`, nil, "doctor", "guest", "--vm", "db01", "--json")
	let()
	_ = c.Wait()
	w.judge(c, out.String(), exitDone, "sql/db01/sales")
	w.clean()

	c, out, let = begin()
	p, err := os.FindProcess(w.agentPID())
	w.must(err)
	w.must(p.Kill())
	_ = c.Wait()
	let()
	w.judge(c, out.String(), exitFailed, "connection to the agent was cut")
	w.judge(c, out.String(), exitFailed, "and if so its only backup is in")
	w.judge(c, out.String(), exitFailed, "virus scanner")
	w.clean()
	w.run(exitDone, "sql/db01/sales", nil, args...)

	c, _, let = begin()
	w.must(c.Process.Kill())
	_ = c.Wait()
	let()
	w.run(exitDone, "sql/db01/sales", nil, args...)
	w.clean()
	w.run(exitDone, "0 damaged", nil, "check")
}
