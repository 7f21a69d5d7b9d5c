package cmd

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptProcesses are the processes that a script has started, by name.
type scriptProcesses struct{ running map[string]*scriptProcess }

type processesKey struct{}

type scriptProcess struct {
	*exec.Cmd
	out, errs bytes.Buffer
}

func (p *scriptProcesses) close() {
	for _, c := range p.running {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
}

// newProcess prepares a command with the script's directory and variables.
func newProcess(ts *testscript.TestScript, args []string) *scriptProcess {
	path, err := exec.LookPath(args[0])
	ts.Check(err)
	c := &scriptProcess{Cmd: exec.Command(path, args[1:]...)}
	c.Dir = ts.MkAbs(".")
	c.Env = os.Environ()
	for _, name := range []string{"HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "LocalAppData", "ProgramData", "HOLDFAST_REPOSITORY", "HOLDFAST_KEY_FILE",
		"HOLDFAST_VCENTER_URL", "HOLDFAST_VCENTER_USER", "HOLDFAST_VCENTER_PASSWORD", "HOLDFAST_VCENTER_THUMBPRINT"} {
		if value := ts.Getenv(name); value != "" {
			c.Env = append(c.Env, name+"="+value)
		}
	}
	c.Stdout, c.Stderr = &c.out, &c.errs
	return c
}

// startProcess runs a command in the background: start NAME COMMAND ….
func startProcess(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME COMMAND …")
	}
	all := ts.Value(processesKey{}).(*scriptProcesses)
	if all.running == nil {
		all.running = map[string]*scriptProcess{}
	}
	c := newProcess(ts, args[1:])
	ts.Check(c.Start())
	all.running[args[0]] = c
}

// signalProcess sends a process Ctrl-C or kills it: signal NAME INT|KILL.
func signalProcess(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: signal NAME INT|KILL")
	}
	c := ts.Value(processesKey{}).(*scriptProcesses).running[args[0]]
	signal := os.Interrupt
	if args[1] == "KILL" {
		signal = os.Kill
	}
	ts.Check(c.Process.Signal(signal))
}

// endedProcess waits for a process and compares its exit code; its output goes
// to NAME.out and NAME.err: ended NAME CODE.
func endedProcess(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: ended NAME CODE")
	}
	all := ts.Value(processesKey{}).(*scriptProcesses)
	c := all.running[args[0]]
	delete(all.running, args[0])
	_ = c.Wait() // the code is compared below
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".out"), c.out.Bytes(), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".err"), c.errs.Bytes(), 0o600))
	if got := strconv.Itoa(c.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("%s ended with %s, want %s\n%s%s", args[0], got, args[1], c.out.String(), c.errs.String())
	}
}

// killRounds starts a command ROUNDS times and kills it each time at another
// moment of its life, drawn by SEED: killrounds ROUNDS SEED COMMAND …. After
// each round the repository must check clean.
func killRounds(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: killrounds ROUNDS SEED COMMAND …")
	}
	rounds, err := strconv.Atoi(args[0])
	ts.Check(err)
	seed, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	whole := newProcess(ts, args[2:])
	began := time.Now()
	ts.Check(whole.Run())
	life := time.Since(began)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range rounds {
		c := newProcess(ts, args[2:])
		ts.Check(c.Start())
		// A process has no other clock to be killed by than that on the wall; what
		// is checked holds whenever it dies.
		timer := time.AfterFunc(time.Duration(rng.Int64N(int64(life))), func() { _ = c.Process.Kill() })
		_ = c.Wait()
		timer.Stop()
		ts.Check(ts.Exec("holdfast", "check", "--read-data"))
	}
}
