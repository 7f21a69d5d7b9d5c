package inject_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// local is a guest that is a directory of this machine: its programs are this
// machine's processes, its port a port of loopback.
type local struct {
	root string
	wait sync.WaitGroup

	mu        sync.Mutex
	processes map[int64]*exec.Cmd
	ended     map[int64]int
	lines     map[int64]string

	// windows says that paths begin with a drive and programs are run by command.
	windows bool
	command func(program string, args ...string) *exec.Cmd

	closed  bool                   // the port cannot be reached
	altered func(path string) bool // files that change on their way
	refused string                 // a program that fails
}

func newLocal(t *testing.T) *local {
	t.Helper()
	return newLocalAt(t, t.TempDir())
}

func newLocalAt(t *testing.T, root string) *local {
	t.Helper()
	g := &local{root: root, processes: map[int64]*exec.Cmd{}, ended: map[int64]int{}, lines: map[int64]string{}}
	must(t, os.MkdirAll(g.inside("/var/lib"), 0o700))
	must(t, os.MkdirAll(g.inside("/ProgramData"), 0o700))
	t.Cleanup(func() {
		for pid := range g.running() {
			_ = g.Kill(context.Background(), pid)
		}
		g.wait.Wait()
	})
	return g
}

func (g *local) inside(path string) string {
	if g.windows {
		path = strings.ReplaceAll(strings.TrimPrefix(path, "C:"), `\`, "/")
	}
	return filepath.Join(g.root, filepath.Clean("/"+path))
}

func (g *local) System(context.Context) (string, error) {
	if g.windows {
		return "windows", nil
	}
	return "linux", nil
}

func (g *local) MakeDirectory(_ context.Context, path string) error {
	return os.Mkdir(g.inside(path), 0o755)
}

func (g *local) Copy(_ context.Context, path string, size int64, from io.Reader) error {
	f, err := os.OpenFile(g.inside(path), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, from)
	if g.altered != nil && g.altered(path) {
		_, err = f.WriteString("!")
	}
	if err == nil && n != size {
		err = fmt.Errorf("%d of %d bytes", n, size)
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

func (g *local) ReadFile(_ context.Context, path string) (io.ReadCloser, error) {
	return os.Open(g.inside(path))
}

func (g *local) List(_ context.Context, path string) ([]fs.FileInfo, error) {
	entries, err := os.ReadDir(g.inside(path))
	var list []fs.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			list = append(list, info)
		}
	}
	return list, err
}

func (g *local) Delete(_ context.Context, path string) error { return os.Remove(g.inside(path)) }

func (g *local) DeleteDirectory(_ context.Context, path string) error {
	return os.Remove(g.inside(path))
}

func (g *local) Start(_ context.Context, program string, args []string, directory string, env []string) (int64, error) {
	cmd := g.prepare(program, args, env)
	cmd.Dir = g.inside(directory)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	pid := int64(cmd.Process.Pid)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.processes[pid], g.lines[pid] = cmd, strings.Join(append([]string{program}, args...), " ")
	g.wait.Go(func() {
		_ = cmd.Wait()
		g.mu.Lock()
		defer g.mu.Unlock()
		g.ended[pid] = cmd.ProcessState.ExitCode()
	})
	return pid, nil
}

func (g *local) prepare(program string, args, env []string) *exec.Cmd {
	if g.command != nil {
		return g.command(program, args...)
	}
	path := g.inside(program)
	if _, err := os.Stat(path); err != nil {
		path = program // of the system
	}
	if program == g.refused {
		path = "/bin/false"
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append([]string{}, env...)
	return cmd
}

func (g *local) Process(_ context.Context, pid int64) (bool, int, bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	code, ended := g.ended[pid]
	return !ended, code, g.processes[pid] != nil, nil
}

func (g *local) running() map[int64]string {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := map[int64]string{}
	for pid := range g.processes {
		if _, ended := g.ended[pid]; !ended {
			list[pid] = g.lines[pid]
		}
	}
	return list
}

func (g *local) Programs(context.Context) (map[int64]string, error) { return g.running(), nil }

func (g *local) Kill(_ context.Context, pid int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if cmd := g.processes[pid]; cmd != nil {
		_ = cmd.Process.Kill() // it may have ended
	}
	return nil
}

func (g *local) Dial(ctx context.Context, port int) (net.Conn, error) {
	if g.closed {
		return nil, fmt.Errorf("dial: connection refused")
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}

// left are all files and directories below the parent.
func (g *local) left(t *testing.T) (names []string) {
	t.Helper()
	parent := g.inside("/var/lib/holdfast-agent")
	if g.windows {
		parent = g.inside("/ProgramData/holdfast-agent")
	}
	must(t, filepath.WalkDir(parent, func(path string, _ fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err == nil && path != parent {
			names = append(names, path)
		}
		return err
	}))
	return names
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
