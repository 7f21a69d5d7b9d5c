// Package machine is a guest to practise on without a hypervisor: a directory of this
// machine is its file system, its programs are this machine's processes, its ports are
// ports of loopback. It has what putting an agent into a guest asks for, and goes wrong
// on purpose.
package machine

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
)

// Guest is one. Its exported fields are set before it is used.
type Guest struct {
	root string
	wait sync.WaitGroup

	mu        sync.Mutex
	processes map[int64]*exec.Cmd
	ended     map[int64]int
	lines     map[int64]string
	conns     []net.Conn
	closed    bool

	// Windows says that paths begin with a drive and programs are run by Command.
	Windows bool
	Command func(program string, args ...string) *exec.Cmd
	// Altered says which files change on their way, Lost which are gone a moment after.
	Altered, Lost func(path string) bool
	// Refused is a program that fails.
	Refused string
	// Room is what the file system tells to be free; negative is nothing told.
	Room int64
	// Strangers are other programs' listeners in the guest; Close closes them.
	Strangers []net.Listener
	// Started hears of each program as it starts.
	Started func(pid int64, program string)
}

// New makes a guest over a directory that is there. Close ends its programs.
func New(root string) (*Guest, error) {
	g := &Guest{root: root, Room: -1, processes: map[int64]*exec.Cmd{}, ended: map[int64]int{}, lines: map[int64]string{}}
	for _, dir := range []string{"/var/lib", "/ProgramData"} {
		if err := os.MkdirAll(g.Inside(dir), 0o700); err != nil {
			return nil, fmt.Errorf("make guest: %w", err)
		}
	}
	return g, nil
}

// Close ends all programs and waits for them.
func (g *Guest) Close() {
	for pid := range g.Running() {
		_ = g.Kill(context.Background(), pid)
	}
	for _, l := range g.Strangers {
		_ = l.Close()
	}
	g.wait.Wait()
}

// Wait waits until no program runs any more.
func (g *Guest) Wait() { g.wait.Wait() }

// Inside is the file of this machine that a path of the guest is.
func (g *Guest) Inside(path string) string {
	if g.Windows {
		path = strings.ReplaceAll(strings.TrimPrefix(path, "C:"), `\`, "/")
	}
	return filepath.Join(g.root, filepath.Clean("/"+path))
}

// System is windows or linux.
func (g *Guest) System(context.Context) (string, error) {
	if g.Windows {
		return "windows", nil
	}
	return "linux", nil
}

// MakeDirectory makes one directory.
func (g *Guest) MakeDirectory(_ context.Context, path string) error {
	return os.Mkdir(g.Inside(path), 0o755)
}

// Copy puts size bytes into a new file.
func (g *Guest) Copy(_ context.Context, path string, size int64, from io.Reader) error {
	f, err := os.OpenFile(g.Inside(path), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, from)
	if g.Altered != nil && g.Altered(path) {
		_, err = f.WriteString("!")
	}
	if err == nil && n != size {
		err = fmt.Errorf("%d of %d bytes", n, size)
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if g.Lost != nil && g.Lost(path) && err == nil {
		err = os.Remove(f.Name())
	}
	return err
}

// ReadFile opens a file.
func (g *Guest) ReadFile(_ context.Context, path string) (io.ReadCloser, error) {
	return os.Open(g.Inside(path))
}

// List tells what a directory holds.
func (g *Guest) List(_ context.Context, path string) ([]fs.FileInfo, error) {
	entries, err := os.ReadDir(g.Inside(path))
	var list []fs.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			list = append(list, info)
		}
	}
	return list, err
}

// Delete deletes a file.
func (g *Guest) Delete(_ context.Context, path string) error { return os.Remove(g.Inside(path)) }

// DeleteDirectory deletes an empty one.
func (g *Guest) DeleteDirectory(_ context.Context, path string) error {
	return os.Remove(g.Inside(path))
}

// Start starts a program of the guest, or of this machine if the guest has none of the
// name.
func (g *Guest) Start(_ context.Context, program string, args []string, directory string, env []string) (int64, error) {
	cmd := g.prepare(program, args, env)
	cmd.Dir = g.Inside(directory)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	pid := int64(cmd.Process.Pid)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.Started != nil {
		g.Started(pid, program)
	}
	g.processes[pid], g.lines[pid] = cmd, strings.Join(append([]string{program}, args...), " ")
	g.wait.Go(func() {
		_ = cmd.Wait()
		g.mu.Lock()
		defer g.mu.Unlock()
		g.ended[pid] = cmd.ProcessState.ExitCode()
	})
	return pid, nil
}

func (g *Guest) prepare(program string, args, env []string) *exec.Cmd {
	if g.Command != nil {
		return g.Command(program, args...)
	}
	path := g.Inside(program)
	if _, err := os.Stat(path); err != nil {
		path = program // of the system
	}
	if program == g.Refused {
		path = "/bin/false"
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append([]string{}, env...)
	return cmd
}

// Process tells whether a program runs, and else how it ended.
func (g *Guest) Process(_ context.Context, pid int64) (bool, int, bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	code, ended := g.ended[pid]
	return !ended, code, g.processes[pid] != nil, nil
}

// Running are the command lines of the programs that run.
func (g *Guest) Running() map[int64]string {
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

// Programs is Running.
func (g *Guest) Programs(context.Context) (map[int64]string, error) { return g.Running(), nil }

// Kill ends a program as nothing can be caught.
func (g *Guest) Kill(_ context.Context, pid int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if cmd := g.processes[pid]; cmd != nil {
		_ = cmd.Process.Kill() // it may have ended
	}
	return nil
}

// Dial connects to a port of loopback.
func (g *Guest) Dial(ctx context.Context, port int) (net.Conn, error) {
	g.mu.Lock()
	closed := g.closed
	g.mu.Unlock()
	if closed {
		return nil, fmt.Errorf("dial: connection refused")
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err == nil {
		g.mu.Lock()
		g.conns = append(g.conns, c)
		g.mu.Unlock()
	}
	return c, err
}

// SetClosed closes the guest's ports to us, or opens them again.
func (g *Guest) SetClosed(closed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = closed
}

// Cut ends all connections to the guest, as a cable does.
func (g *Guest) Cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.conns {
		_ = c.Close()
	}
	g.conns = nil
}

// Free is Room.
func (g *Guest) Free(context.Context, string) (bytes int64, known bool, err error) {
	return g.Room, g.Room >= 0, nil
}

// Left are all files and directories below, and with, the parent of the agents, as
// paths of this machine.
func (g *Guest) Left() (names []string, err error) {
	parent := g.Inside("/var/lib/holdfast-agent")
	if g.Windows {
		parent = g.Inside("/ProgramData/holdfast-agent")
	}
	err = filepath.WalkDir(parent, func(path string, _ fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err == nil {
			names = append(names, path)
		}
		return err
	})
	return names, err
}
