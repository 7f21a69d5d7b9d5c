package vdi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/lab/wine"
	"holdfast/sqlguest/server"
	"holdfast/sqlguest/vdi"
)

// windowsClient is the client for Windows, under Wine, beside a SQL Server here.
type windowsClient struct {
	prefix  *wine.Prefix
	program string
}

// rehearsal is one run of it.
type rehearsal struct {
	act      string
	sets     int // at once; 0 is 1
	devices  int
	instance string // that the client asks for
	faults   bridge.Faults
	dir      string // of the files; a fresh one if it is ""
}

// played is what a rehearsal left behind.
type played struct {
	Available bool
	Outcome   *server.Outcome
	Error     string
	Result    uint32
	Aborted   string

	exit   int
	server *sqlServer            // of the first set
	byName map[string]*sqlServer // of every set
	said   error                 // the statements' verdicts
	dir    string
}

// newWindowsClient builds the client and the prefix it runs in.
func newWindowsClient(t *testing.T) *windowsClient {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("Wine is used on Linux on amd64")
	}
	prefix, err := wine.New(t.Context(), t.TempDir())
	if errors.Is(err, wine.ErrAbsent) && os.Getenv("HOLDFAST_DEMAND_PARTS") == "" {
		t.Skip("Wine's parts are missing: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := prefix.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	program := filepath.Join(t.TempDir(), "rehearse.exe")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./testdata/rehearse")
	build.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build client: %v: %s", err, out)
	}
	return &windowsClient{prefix: prefix, program: program}
}

// listen serves on a port of loopback until the test is over.
func listen(t *testing.T, serve func(context.Context, net.Listener)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { serve(ctx, l) })
	t.Cleanup(func() { cancel(); _ = l.Close(); serving.Wait() })
	return l.Addr().String()
}

func (w *windowsClient) play(t *testing.T, r rehearsal) *played {
	t.Helper()
	hub := bridge.NewHub(bridge.Options{Instances: []string{"", "PAYROLL"}, Faults: r.faults})
	p := &played{dir: r.dir, byName: map[string]*sqlServer{}}
	if p.dir == "" {
		p.dir = filepath.Join(t.TempDir(), "saved")
	}
	name := "{6F1C2B5E-0000-4000-8000-000000000002}"
	for set := max(r.sets, 1) - 1; set >= 0; set-- {
		p.prepare(t, r, hub, name, set)
	}
	w.prefix.Bridge = listen(t, func(ctx context.Context, l net.Listener) {
		if err := hub.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	ran := make(chan error, 1)
	control := listen(t, func(ctx context.Context, l net.Listener) { ran <- p.runStatements(ctx, l) })
	command := w.prefix.Command(t.Context(), w.program, "-act", r.act, "-control", control, "-dir", wine.Path(p.dir),
		"-instance", r.instance, "-name", name, "-devices", strconv.Itoa(r.devices), "-sets", strconv.Itoa(max(r.sets, 1)))
	out, err := wine.Output(command)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		p.exit = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if len(out) > 0 {
		if err := json.Unmarshal(out, p); err != nil {
			t.Fatalf("client said %q: %v", out, err)
		}
	}
	if p.Result == 0 {
		p.said = <-ran
	}
	return p
}

// prepare makes the server of one set, with data of its own.
func (p *played) prepare(t *testing.T, r rehearsal, hub *bridge.Hub, name string, set int) {
	t.Helper()
	dir := p.dir
	if set > 0 {
		name, dir = fmt.Sprintf("%s-%d", name, set), fmt.Sprintf("%s-%d", dir, set)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := &sqlServer{devices: hub, instance: r.instance, names: vdi.Names(name, r.devices), piece: 50_000}
	for i := range r.devices {
		s.data = append(s.data, pattern(set*10+i, 700_000+i*12_345))
	}
	p.byName[name], p.server = s, s
}

// runStatements runs one statement for each set.
func (p *played) runStatements(ctx context.Context, l net.Listener) error {
	var statements errgroup.Group
	for range p.byName {
		conn, err := l.Accept()
		if err != nil {
			return errors.Join(err, statements.Wait())
		}
		statements.Go(func() error { return p.runStatement(ctx, conn) })
	}
	return statements.Wait()
}

// runStatement runs one statement for the client. The loss of its connection does
// not end it: only the devices do.
func (p *played) runStatement(ctx context.Context, conn net.Conn) error {
	defer func() { _ = conn.Close() }()
	var request struct {
		Restore bool     `json:"restore"`
		Names   []string `json:"names"`
	}
	if err := json.NewDecoder(bufio.NewReader(conn)).Decode(&request); err != nil {
		return err
	}
	s := p.byName[request.Names[0]]
	run := s.backup
	if request.Restore {
		run = s.restore
	}
	var reply struct {
		Outcome *server.Outcome `json:"outcome,omitempty"`
		Error   *server.Error   `json:"error,omitempty"`
	}
	outcome, err := run(ctx)
	reply.Outcome = outcome
	if err != nil && !errors.As(err, &reply.Error) {
		return fmt.Errorf("statement failed in an unknown way: %w", err)
	}
	_ = json.NewEncoder(conn).Encode(reply) // the client may be dead
	return err
}

// mustSave is a rehearsal that ends well: every set's files are its server's data.
func (p *played) mustSave(t *testing.T) {
	t.Helper()
	if !p.Available || p.Error != "" || p.said != nil || !p.Outcome.Has(3014) {
		t.Fatalf("available %v, client: %s, server: %v", p.Available, p.Error, p.said)
	}
	for name, s := range p.byName {
		if !s.truncated.Load() {
			t.Fatalf("backup of %s is not finished", name)
		}
		var got [][]byte
		for i := range s.data {
			_, suffix, _ := strings.Cut(name, "}")
			data, err := os.ReadFile(filepath.Join(p.dir+suffix, fmt.Sprintf("device%d", i)))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, data)
		}
		sameAs(t, got, s.data)
	}
}

// TestWindowsClient runs the client for Windows: COM, the tables of methods, the
// structures and the shared buffers of the interface, without cgo.
func TestWindowsClient(t *testing.T) {
	w := newWindowsClient(t)
	t.Run("backup and restore", func(t *testing.T) {
		saved := w.play(t, rehearsal{act: "commit", devices: 3})
		saved.mustSave(t)
		loaded := w.play(t, rehearsal{act: "restore", devices: 3, dir: saved.dir})
		if loaded.Error != "" || loaded.said != nil {
			t.Fatalf("client: %s, server: %v", loaded.Error, loaded.said)
		}
		sameAs(t, loaded.server.restored, saved.server.data)
		cut := w.play(t, rehearsal{act: "restore", devices: 3, dir: saved.dir, faults: bridge.Faults{AbortAt: 9}})
		if cut.Error == "" || cut.said == nil {
			t.Fatalf("restore that SQL Server gave up: client: %s, server: %v", cut.Error, cut.said)
		}
	})
	t.Run("several sets at once", func(t *testing.T) {
		w.play(t, rehearsal{act: "commit", sets: 4, devices: 2}).mustSave(t)
	})
	t.Run("odd commands", func(t *testing.T) {
		w.play(t, rehearsal{act: "commit", devices: 1, faults: bridge.Faults{OddCommands: true}}).mustSave(t)
	})
	t.Run("named instance", func(t *testing.T) {
		w.play(t, rehearsal{act: "commit", devices: 1, instance: "PAYROLL"}).mustSave(t)
	})
	t.Run("no such instance", func(t *testing.T) {
		if p := w.play(t, rehearsal{act: "commit", devices: 1, instance: "NOBODY"}); p.Result != uint32(vdi.ErrInstanceName) {
			t.Fatalf("client: %s", p.Error)
		}
	})
	t.Run("too many devices", func(t *testing.T) {
		if p := w.play(t, rehearsal{act: "commit", devices: 65}); p.Result != uint32(vdi.ErrNotSupported) {
			t.Fatalf("client: %s", p.Error)
		}
	})
	t.Run("server without complete", func(t *testing.T) {
		w.play(t, rehearsal{act: "commit", devices: 2, faults: bridge.Faults{NoComplete: true}}).mustSave(t)
	})
	t.Run("several flushes and empty writes", func(t *testing.T) {
		w.play(t, rehearsal{act: "commit", devices: 2, faults: bridge.Faults{FlushEvery: 4, EmptyWrites: true}}).mustSave(t)
	})
	for _, act := range []string{"abort", "abort early", "die"} {
		for _, noComplete := range []bool{false, true} {
			t.Run(fmt.Sprintf("client's %s, no complete %v", act, noComplete), func(t *testing.T) {
				p := w.play(t, rehearsal{act: act, devices: 2, faults: bridge.Faults{NoComplete: noComplete}})
				if p.said == nil || p.server.truncated.Load() || p.Aborted != "" {
					t.Fatalf("statement: %v, truncated %v, abort: %s", p.said, p.server.truncated.Load(), p.Aborted)
				}
				if (p.exit == 7) != (act == "die") {
					t.Fatalf("exit code %d", p.exit)
				}
			})
		}
	}
	t.Run("server's abort", func(t *testing.T) {
		p := w.play(t, rehearsal{act: "commit", devices: 2, faults: bridge.Faults{AbortAt: 9}})
		if p.said == nil || p.Error == "" || p.server.truncated.Load() {
			t.Fatalf("client: %s, statement: %v", p.Error, p.said)
		}
	})
}
