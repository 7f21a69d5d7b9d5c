// Package inject puts the agent into a guest, connects to it, and takes it out again.
//
//	look for orphans → a directory of our own, made safe → marker, program, secrets
//	→ firewall → start → wait until it listens → dial → session
//
// Whatever goes wrong on the way is undone on the way back, and so is everything at
// Close. What a run that was killed has left is found by the next one (see orphans):
// each directory says in its marker whose it is. Files are deleted by their known
// names, in directories that are no links; nothing is ever deleted recursively.
package inject

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"holdfast/sqlguest/agent"
	"holdfast/sqlguest/agent/trust"
)

// Guest is what injecting asks of a machine. Errors of files wrap fs.ErrNotExist and
// fs.ErrExist.
type Guest interface {
	System(ctx context.Context) (string, error) // windows or linux
	MakeDirectory(ctx context.Context, path string) error
	Copy(ctx context.Context, path string, size int64, from io.Reader) error // into a new file
	ReadFile(ctx context.Context, path string) (io.ReadCloser, error)
	List(ctx context.Context, path string) ([]fs.FileInfo, error) // links are told as links
	Delete(ctx context.Context, path string) error
	DeleteDirectory(ctx context.Context, path string) error // an empty one
	Start(ctx context.Context, program string, args []string, directory string, env []string) (pid int64, err error)
	Process(ctx context.Context, pid int64) (running bool, code int, known bool, err error)
	Programs(ctx context.Context) (map[int64]string, error) // command lines of what runs
	Kill(ctx context.Context, pid int64) error
	Dial(ctx context.Context, port int) (net.Conn, error)
}

var (
	// ErrOccupied: another run's agent is in the guest.
	ErrOccupied = errors.New("another run has its agent in the guest")
	// ErrPlace: the directory for the agent is not safe.
	ErrPlace = errors.New("directory for the agent is not safe")
	// ErrAltered: the program in the guest is not the one that was copied.
	ErrAltered = errors.New("the agent was altered in the guest")
	// ErrAgent: the agent could not begin.
	ErrAgent = errors.New("agent could not begin")
	// ErrPort: the agent listens in the guest, and its port cannot be reached.
	ErrPort = errors.New("agent's port cannot be reached")
	// ErrSystem: there is no agent for the guest's system.
	ErrSystem = errors.New("no agent for the guest's system")
)

// hints are what helps, by error.
var hints = []struct {
	is   error
	text string
}{
	{ErrOccupied, "wait until the other run has ended; the agent of a run that was killed ends by itself within 10 minutes"},
	{ErrPlace, "look at the directory in the guest: a link or a stranger's file is where the agent's would be"},
	{ErrAltered, "look at what changes programs in the guest, such as a virus scanner, and let the agent's directory pass"},
	{ErrPort, "let TCP from this machine to the agent's port of the guest pass (3542 unless another one was chosen), in the network and in the guest's firewall"},
	{ErrAgent, "the agent's own words say why; for a login, look at the SQL Server's user and password"},
}

// Hint is a sentence of what helps against an error, "" if nothing is known.
func Hint(err error) string {
	for _, h := range hints {
		if errors.Is(err, h.is) {
			return h.text
		}
	}
	return ""
}

// Options say what is put where. Guest, Program and Host are required.
type Options struct {
	Guest Guest
	// Program gives the agent's program for a system (windows, linux).
	Program func(system string) ([]byte, error)
	// Arguments stand before the configuration's name when the program is started:
	// the command of a program that is more than an agent.
	Arguments []string
	// Config is the agent's: the SQL Server and its login. Its Keys are made here.
	Config agent.Config
	// Host and PID say in the marker whose run this is.
	Host string
	PID  int
	// Alive tells whether the run of a marker of this host is still there; nil takes
	// every run for alive whose agent runs.
	Alive func(Marker) bool
	// Port is where the agent listens, agent.Port if 0. Config.Listen wins.
	Port int
	// From is our address as the guest sees it: the firewall of a Windows guest lets
	// nobody else in. "" leaves the firewall alone.
	From string
	// Parent is the directory that holds the agents' directories; "" is
	// C:\ProgramData\holdfast-agent or /var/lib/holdfast-agent.
	Parent string
	// Pause is between two looks at what happens in the guest (1 s if 0), StartLimit
	// how long the agent may take to listen (2 minutes), DialLimit to answer (30 s).
	Pause, StartLimit, DialLimit time.Duration
	// Now is the time that stands in certificates, where nobody looks at it.
	Now    func() time.Time
	Logger *slog.Logger
}

// Marker says whose an agent's directory is.
type Marker struct {
	Run  string `json:"run"`
	Host string `json:"host"`
	PID  int    `json:"pid"`
}

// cleanupLimit is for taking everything out again.
const cleanupLimit = 2 * time.Minute

// Injected is an agent in a guest, and a session with it.
type Injected struct {
	*agent.Client
	opt   Options
	log   *slog.Logger
	place place
	run   string
	pid   int64 // 0 until it was started

	hasDirectory, hasRule bool
}

// Open puts an agent into the guest and begins a session with it. If anything fails,
// nothing of it is left, or the error says what is.
func Open(ctx context.Context, o Options) (*Injected, error) {
	o = o.defaults()
	system, err := o.Guest.System(ctx)
	if err != nil {
		return nil, fmt.Errorf("inject agent: %w", err)
	}
	p, err := placeFor(system, o.Parent)
	if err != nil {
		return nil, fmt.Errorf("inject agent: %w", err)
	}
	i := &Injected{opt: o, log: o.Logger, place: p, run: rand.Text()}
	if err := i.inject(ctx, system); err != nil {
		return nil, errors.Join(fmt.Errorf("inject agent: %w", err), i.remove(ctx))
	}
	return i, nil
}

func (o Options) defaults() Options {
	if o.Port == 0 {
		o.Port = agent.Port
	}
	if o.Config.Listen == "" {
		o.Config.Listen = fmt.Sprintf(":%d", o.Port)
	}
	if o.Pause <= 0 {
		o.Pause = time.Second
	}
	if o.StartLimit <= 0 {
		o.StartLimit = 2 * time.Minute
	}
	if o.DialLimit <= 0 {
		o.DialLimit = 30 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func (i *Injected) inject(ctx context.Context, system string) error {
	program, err := i.opt.Program(system)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrSystem, system, err)
	}
	if err := i.prepare(ctx); err != nil {
		return err
	}
	service, client, err := trust.New(i.opt.Now())
	if err != nil {
		return err
	}
	if err := i.fill(ctx, program, service); err != nil {
		return err
	}
	if err := i.openFirewall(ctx); err != nil {
		return err
	}
	args := append(slices.Clone(i.opt.Arguments), agent.ConfigName)
	if i.pid, err = i.opt.Guest.Start(ctx, i.place.path(i.run, i.place.binary), args, i.place.path(i.run), nil); err != nil {
		return err
	}
	port, err := i.awaitReady(ctx)
	if err != nil {
		return err
	}
	return i.connect(ctx, client, port)
}

// prepare makes the parent, clears orphans away and makes our directory.
func (i *Injected) prepare(ctx context.Context) error {
	g := i.opt.Guest
	if err := g.MakeDirectory(ctx, i.place.parent); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := i.isDirectory(ctx, i.place.parent); err != nil {
		return err
	}
	if err := i.lock(ctx, i.place.parent); err != nil {
		return err
	}
	if err := i.orphans(ctx); err != nil {
		return err
	}
	dir := i.place.path(i.run)
	if err := g.MakeDirectory(ctx, dir); err != nil {
		return err
	}
	i.hasDirectory = true
	if err := i.lock(ctx, dir); err != nil {
		return err
	}
	if err := i.isDirectory(ctx, dir); err != nil {
		return err
	}
	list, err := g.List(ctx, dir)
	if err != nil {
		return err
	}
	if len(list) > 0 {
		return fmt.Errorf("%w: somebody has put %s into %s", ErrPlace, list[0].Name(), dir)
	}
	return nil
}

// isDirectory refuses what is a link, or no directory.
func (i *Injected) isDirectory(ctx context.Context, path string) error {
	parent, name := i.place.split(path)
	list, err := i.opt.Guest.List(ctx, parent)
	if err != nil {
		return err
	}
	for _, e := range list {
		if strings.EqualFold(e.Name(), name) && e.IsDir() && e.Mode()&fs.ModeSymlink == 0 {
			return nil
		}
	}
	return fmt.Errorf("%w: %s is no plain directory", ErrPlace, path)
}

// fill copies the marker first, so that the directory says whose it is, and the
// secrets last, once the program has been found to be ours.
func (i *Injected) fill(ctx context.Context, program []byte, keys *trust.Keys) error {
	marker, err := json.Marshal(Marker{Run: i.run, Host: i.opt.Host, PID: i.opt.PID})
	if err != nil {
		return fmt.Errorf("encode marker: %w", err)
	}
	if err := i.copy(ctx, agent.MarkerName, marker); err != nil {
		return err
	}
	if err := i.copy(ctx, i.place.binary, program); err != nil {
		return err
	}
	if err := i.compare(ctx, program); err != nil {
		return err
	}
	config := i.opt.Config
	config.Keys = keys
	var secrets bytes.Buffer
	if err := config.Write(&secrets); err != nil {
		return err
	}
	defer clear(secrets.Bytes())
	return i.copy(ctx, agent.ConfigName, secrets.Bytes())
}

func (i *Injected) copy(ctx context.Context, name string, data []byte) error {
	return i.opt.Guest.Copy(ctx, i.place.path(i.run, name), int64(len(data)), bytes.NewReader(data))
}

// compare reads the program back: what will run is what was sent.
func (i *Injected) compare(ctx context.Context, program []byte) error {
	body, err := i.opt.Guest.ReadFile(ctx, i.place.path(i.run, i.place.binary))
	if err != nil {
		return err
	}
	h := sha256.New()
	_, err = io.Copy(h, io.LimitReader(body, int64(len(program))+1))
	if err = errors.Join(err, body.Close()); err != nil {
		return fmt.Errorf("read the agent back: %w", err)
	}
	if want := sha256.Sum256(program); !bytes.Equal(h.Sum(nil), want[:]) {
		return ErrAltered
	}
	return nil
}

// awaitReady waits for the agent's word that it listens, or why it does not.
func (i *Injected) awaitReady(ctx context.Context) (port int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, i.opt.StartLimit, fmt.Errorf("%w: it said nothing for %s", ErrAgent, i.opt.StartLimit))
	defer cancel()
	for {
		var r agent.Ready
		data, err := i.read(ctx, agent.ReadyName)
		if err == nil {
			if err := json.Unmarshal(data, &r); err != nil || r.Port < 1 || r.Port > 65535 {
				return 0, fmt.Errorf("%w: its word cannot be read", ErrAgent)
			}
			return r.Port, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		running, code, known, err := i.opt.Guest.Process(ctx, i.pid)
		if err != nil {
			return 0, err
		}
		if !running {
			return 0, i.ended(ctx, code, known)
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(i.opt.Pause):
		}
	}
}

// ended is why an agent ended before it listened: its own words, else its exit code.
func (i *Injected) ended(ctx context.Context, code int, known bool) error {
	if said, err := i.read(ctx, agent.FailedName); err == nil {
		return fmt.Errorf("%w: %s", ErrAgent, strings.TrimSpace(string(said)))
	}
	if !known {
		return fmt.Errorf("%w: it is gone", ErrAgent)
	}
	return fmt.Errorf("%w: it ended with exit code %d", ErrAgent, code)
}

// maxWord bounds the small files that a guest says something in.
const maxWord = 64 << 10

func (i *Injected) read(ctx context.Context, name string) ([]byte, error) {
	return i.readAt(ctx, i.place.path(i.run, name))
}

func (i *Injected) readAt(ctx context.Context, path string) ([]byte, error) {
	body, err := i.opt.Guest.ReadFile(ctx, path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(body, maxWord))
	return data, errors.Join(err, body.Close())
}

// connect dials the port and proves identities. A port that nobody answers is told
// from an agent that refuses.
func (i *Injected) connect(ctx context.Context, keys *trust.Keys, port int) error {
	ctx, cancel := context.WithTimeout(ctx, i.opt.DialLimit)
	defer cancel()
	probe, err := i.opt.Guest.Dial(ctx, port)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPort, err)
	}
	_ = probe.Close()
	i.Client, err = agent.Connect(ctx, agent.ClientOptions{Keys: keys, Logger: i.log,
		Dial: func(ctx context.Context) (net.Conn, error) { return i.opt.Guest.Dial(ctx, port) }})
	return err
}
