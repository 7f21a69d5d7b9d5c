package cmd

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptProcesses are the processes that a script has started, by name.
type scriptProcesses struct{ running map[string]*scriptProcess }

type processesKey struct{}

type scriptProcess struct {
	*exec.Cmd
	out, errs watched
}

// watched is a buffer that others can wait on.
type watched struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed at the next write; nil when nobody waits
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
	return w.text.Write(p)
}

// state is what was written, and a channel that is closed when there is more.
func (w *watched) state() (string, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.text.String(), w.changed
}

// await waits until a line holds the text, and returns that line.
func (w *watched) await(text string, limit time.Duration) (string, bool) {
	deadline := time.After(limit)
	for {
		all, changed := w.state()
		for line := range strings.Lines(all) {
			if strings.Contains(line, text) && strings.HasSuffix(line, "\n") {
				return line, true
			}
		}
		select {
		case <-changed:
		case <-deadline:
			return all, false
		}
	}
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

// runInto runs a command whose output is no text: into FILE CODE COMMAND …
func runInto(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: into FILE CODE COMMAND …")
	}
	c := newProcess(ts, args[2:])
	_ = c.Run() // the code is compared below
	out, _ := c.out.state()
	errs, _ := c.errs.state()
	if got := strconv.Itoa(c.ProcessState.ExitCode()); got != args[1] || errs != "" {
		ts.Fatalf("%v ended with %s, want %s\n%s", args[2:], got, args[1], errs)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(out), 0o600))
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

// awaitOutput waits until a process has written a line with TEXT to its
// standard output or standard error: await NAME out|err TEXT.
func awaitOutput(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: await NAME out|err TEXT")
	}
	c := ts.Value(processesKey{}).(*scriptProcesses).running[args[0]]
	stream := &c.out
	if args[1] == "err" {
		stream = &c.errs
	}
	line, ok := stream.await(args[2], 30*time.Second)
	if !ok {
		ts.Fatalf("%s never wrote %q, only:\n%s", args[0], args[2], line)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".line"), []byte(line), 0o600))
}

// useLab sets the variables that a line of lab serve --json holds: uselab FILE.
func useLab(ts *testscript.TestScript, neg bool, args []string) {
	var serve struct{ Env map[string]string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &serve))
	for name, value := range serve.Env {
		ts.Setenv(name, value)
	}
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
	out, _ := c.out.state()
	errs, _ := c.errs.state()
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".out"), []byte(out), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".err"), []byte(errs), 0o600))
	if got := strconv.Itoa(c.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("%s ended with %s, want %s\n%s%s", args[0], got, args[1], out, errs)
	}
}

// killRounds starts a command ROUNDS times and kills it each time at another
// moment of its life, drawn by SEED: killrounds ROUNDS SEED COMMAND … [-- COMMAND
// …]…. What follows a -- is run before each round and must succeed; @ in it is the
// number of the round, from 0. After each round the repository must check clean.
func killRounds(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: killrounds ROUNDS SEED COMMAND … [-- COMMAND …]…")
	}
	args, before := splitCommands(args)
	prepare := func(round int) {
		for _, command := range before {
			words := make([]string, len(command))
			for i, word := range command {
				words[i] = strings.ReplaceAll(word, "@", strconv.Itoa(round))
			}
			ts.Check(ts.Exec(words[0], words[1:]...))
		}
	}
	rounds, err := strconv.Atoi(args[0])
	ts.Check(err)
	seed, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	prepare(0)
	whole := newProcess(ts, args[2:])
	began := time.Now()
	ts.Check(whole.Run())
	life := time.Since(began)
	rng := rand.New(rand.NewPCG(seed, 0))
	for round := range rounds {
		prepare(round + 1)
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

// splitCommands takes a line apart at each --.
func splitCommands(words []string) (first []string, others [][]string) {
	commands := [][]string{nil}
	for _, word := range words {
		if word == "--" {
			commands = append(commands, nil)
			continue
		}
		last := len(commands) - 1
		commands[last] = append(commands[last], word)
	}
	return commands[0], commands[1:]
}
