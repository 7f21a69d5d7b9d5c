package siege_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// built is the directory of the binary, which all tests share.
var built struct {
	sync.Once
	dir, path string
	err       error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// program builds the program, as go build makes it, once.
func program(t testing.TB) string {
	t.Helper()
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "holdfast-siege"); built.err != nil {
			return
		}
		built.path = filepath.Join(built.dir, "holdfast")
		if runtime.GOOS == "windows" {
			built.path += ".exe"
		}
		c := exec.Command("go", "build", "-buildvcs=false", "-o", built.path, "holdfast")
		c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		if out, err := c.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build the program: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// number reads a number from the environment.
func number(t testing.TB, name string, usual uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

const (
	accessKey = "siege"
	secretKey = "siege-secret"
	// lifeMost is how long a process may live: one that hangs breaks a promise, too.
	lifeMost = 2 * time.Minute
)

// host is a machine on which one process runs at a time: its cache directory,
// its way to the repository, its folder for images.
type host struct {
	path  string // of the program
	dir   string
	url   string // of the repository
	cache string
	key   string

	mu      sync.Mutex
	running *process
}

// process is one run of the program.
type process struct {
	cmd  *exec.Cmd
	shot bool // by us
	done chan struct{}
}

// ended is how a run of the program ended.
type ended struct {
	args     []string
	code     int
	out, err string
	shot     bool // killed, and that before it could end by itself
	life     time.Duration
}

func (e ended) String() string {
	end := fmt.Sprintf("exit code %d", e.code)
	if e.shot {
		end = "killed"
	}
	return fmt.Sprintf("holdfast %s: %s\n%s%s", strings.Join(e.args, " "), end, e.out, e.err)
}

// start begins a run.
func (h *host) start(args ...string) (*process, *exec.Cmd, error) {
	c := exec.Command(h.path, args...)
	c.Dir = h.dir
	for _, name := range []string{"PATH", "SystemRoot", "TMPDIR", "TMP", "TEMP"} {
		if v := os.Getenv(name); v != "" {
			c.Env = append(c.Env, name+"="+v)
		}
	}
	c.Env = append(c.Env, "HOME="+h.dir, "HOLDFAST_REPOSITORY="+h.url, "HOLDFAST_KEY_FILE="+h.key, "HOLDFAST_CACHE_DIR="+h.cache, "HOLDFAST_NO_PROGRESS=true",
		"AWS_ACCESS_KEY_ID="+accessKey, "AWS_SECRET_ACCESS_KEY="+secretKey, "AWS_REGION=us-east-1", "NO_PROXY=127.0.0.1")
	c.Stdout, c.Stderr = &bytes.Buffer{}, &bytes.Buffer{}
	p := &process{cmd: c, done: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := c.Start(); err != nil {
		return nil, nil, err
	}
	h.running = p
	return p, c, nil
}

// run runs the program to its end, whatever that is. The error is that of a run
// that could not begin, or would not end.
func (h *host) run(args ...string) (ended, error) { return h.runFor(0, args...) }

// runFor is run; if the program still lives after limit (0: none) it is killed.
func (h *host) runFor(limit time.Duration, args ...string) (ended, error) {
	began := time.Now()
	p, c, err := h.start(args...)
	if err != nil {
		return ended{}, err
	}
	if limit > 0 {
		defer time.AfterFunc(limit, func() { h.kill(p) }).Stop()
	}
	stuck := time.AfterFunc(lifeMost, func() { _ = c.Process.Kill() })
	_ = c.Wait() // the code tells
	close(p.done)
	if !stuck.Stop() {
		return ended{}, fmt.Errorf("holdfast %s does not end", strings.Join(args, " "))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running = nil
	e := ended{args: args, code: c.ProcessState.ExitCode(), out: c.Stdout.(*bytes.Buffer).String(), err: c.Stderr.(*bytes.Buffer).String(), life: time.Since(began)}
	e.shot = p.shot && e.code != 0
	return e, nil
}

// shoot kills what runs on the host, and waits until it is gone. It reports
// whether anything ran.
func (h *host) shoot() bool {
	h.mu.Lock()
	p := h.running
	h.mu.Unlock()
	if p == nil {
		return false
	}
	h.kill(p)
	<-p.done
	return true
}

// kill kills a process, if it still runs.
func (h *host) kill(p *process) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p.shot = p.cmd.Process.Kill() == nil
}

// must runs the program, which has to end with that code.
func (h *host) must(code int, args ...string) (ended, error) {
	e, err := h.run(args...)
	if err == nil && e.code != code {
		err = fmt.Errorf("want exit code %d: %s", code, e)
	}
	return e, err
}
