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
	"holdfast/sqlguest/agent/program"
	"holdfast/sqlguest/agent/trust"
	"holdfast/sqlguest/direct"
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
	// Free is the room on the file system that holds the path; known is false where
	// nobody tells.
	Free(ctx context.Context, path string) (bytes int64, known bool, err error)
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
	Config program.Config
	// Host and PID say in the marker whose run this is, for people: names of hosts and
	// numbers of processes are given twice.
	Host string
	PID  int
	// Life is by what Dead knows this run: the lock that it holds, and where.
	Life string
	// Dead tells whether the run that left a marker is proven to have ended; nil proves
	// nothing. A run that is not proven dead lives while its agent runs.
	Dead func(Marker) bool
	// Port is where the agent listens, agent.Port if 0. Config.Listen wins.
	Port int
	// From is our address as the guest sees it: the firewall of a Windows guest lets
	// nobody else in. "" leaves the firewall alone.
	From string
	// Parent is the directory that holds the agents' directories; "" is
	// C:\ProgramData\holdfast-agent or /var/lib/holdfast-agent.
	Parent string
	// Pause is the longest time between two looks at what happens in the guest (1 s if 0), StartLimit
	// how long the agent may take to listen (2 minutes), DialLimit to answer (30 s).
	Pause, StartLimit, DialLimit time.Duration
	// Now is the time that stands in certificates, where nobody looks at it.
	Now    func() time.Time
	Logger *slog.Logger
}

// Marker says whose an agent's directory is. Of one that was made and has no marker yet
// Run alone is known, which is its name.
type Marker struct {
	Run  string `json:"run"`
	Host string `json:"host"`
	PID  int    `json:"pid"`
	Life string `json:"life,omitempty"` // Options.Life
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

	hasParent, hasDirectory, hasRule bool
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
	i := &Injected{opt: o, log: o.Logger, place: p, run: runOf(o.Life)}
	if err := i.inject(ctx, system); err != nil {
		if ctx.Err() != nil { // whatever was looked at then says nothing of the guest
			err = context.Cause(ctx)
		}
		if said := (*word)(nil); !errors.As(err, &said) {
			err = fmt.Errorf("inject agent: %w", err)
		}
		return nil, errors.Join(err, i.remove(ctx))
	}
	return i, nil
}

// Parent is the directory in the guest that holds the agents' directories.
func (i *Injected) Parent() string { return i.place.parent }

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
	binary, err := i.opt.Program(system)
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
	if err := i.fill(ctx, binary, service); err != nil {
		return err
	}
	if err := i.openFirewall(ctx); err != nil {
		return err
	}
	args := append(slices.Clone(i.opt.Arguments), program.ConfigName)
	if i.pid, err = i.opt.Guest.Start(ctx, i.place.path(i.run, i.place.binary), args, i.place.path(i.run), nil); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: it is gone: %w", ErrAltered, err)
		}
		return err
	}
	port, err := i.awaitReady(ctx)
	if err != nil {
		return err
	}
	return i.connect(ctx, client, port)
}

// prepare makes our directory, which is ours alone, and clears orphans away.
func (i *Injected) prepare(ctx context.Context) error {
	if err := i.directory(ctx); err != nil {
		return err
	}
	dir := i.place.path(i.run)
	if err := i.lock(ctx, dir); err != nil {
		return err
	}
	if err := i.isDirectory(ctx, dir); err != nil {
		return err
	}
	list, err := i.opt.Guest.List(ctx, dir)
	if err != nil {
		return err
	}
	if len(list) > 0 {
		return fmt.Errorf("%w: somebody has put %s into %s", ErrPlace, list[0].Name(), dir)
	}
	return i.orphans(ctx)
}

// directory makes the parent safe, and our directory in it. Another run that ends takes
// a parent away that is empty, so it is tried again.
func (i *Injected) directory(ctx context.Context) error {
	g := i.opt.Guest
	for try := 1; ; try++ {
		made := g.MakeDirectory(ctx, i.place.parent)
		if made != nil && !errors.Is(made, fs.ErrExist) {
			return made
		}
		gone := false
		err := i.isDirectory(ctx, i.place.parent)
		switch {
		case err == nil && made == nil:
			i.hasParent = true
			err = i.lock(ctx, i.place.parent)
		case err == nil:
			gone, err = i.found(ctx)
			i.hasParent = err == nil && !gone
		}
		if gone && try < 3 {
			continue
		}
		if err == nil {
			err = g.MakeDirectory(ctx, i.place.path(i.run))
		}
		if err == nil || try == 3 || !errors.Is(err, fs.ErrNotExist) {
			i.hasDirectory = err == nil
			return err
		}
	}
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
	if !slices.ContainsFunc(list, func(e fs.FileInfo) bool { return strings.EqualFold(e.Name(), name) }) {
		return fmt.Errorf("look at %s in the guest: %w", path, fs.ErrNotExist)
	}
	return fmt.Errorf("%w: %s is no plain directory", ErrPlace, path)
}

// fill copies the marker first, so that the directory says whose it is, and the
// secrets last, once the program has been found to be ours.
func (i *Injected) fill(ctx context.Context, binary []byte, keys *trust.Keys) error {
	marker, err := json.Marshal(Marker{Run: i.run, Host: i.opt.Host, PID: i.opt.PID, Life: i.opt.Life})
	if err != nil {
		return fmt.Errorf("encode marker: %w", err)
	}
	if err := i.copy(ctx, program.MarkerName, marker); err != nil {
		return err
	}
	if err := i.copyProgram(ctx, binary); err != nil {
		return err
	}
	if err := i.compare(ctx, binary); err != nil {
		return err
	}
	config := i.opt.Config
	config.Keys = keys
	if i.place.windows && i.opt.From != "" {
		config.Rule = ruleName(i.run)
	}
	var secrets bytes.Buffer
	if err := config.Write(&secrets); err != nil {
		return err
	}
	defer clear(secrets.Bytes())
	return i.copy(ctx, program.ConfigName, secrets.Bytes())
}

func (i *Injected) copy(ctx context.Context, name string, data []byte) error {
	return i.opt.Guest.Copy(ctx, i.place.path(i.run, name), int64(len(data)), bytes.NewReader(data))
}

// spareBytes is what the agent needs beside its program.
const spareBytes = 1 << 20

// copyProgram copies the program if there is room for it, as far as anybody tells.
func (i *Injected) copyProgram(ctx context.Context, binary []byte) error {
	need := int64(len(binary)) + spareBytes
	free, known, err := i.opt.Guest.Free(ctx, i.place.parent)
	if err != nil {
		return err
	}
	if known && free < need {
		return fmt.Errorf("%w: %s has %d MiB free, %d MiB are needed", ErrRoom, i.place.parent, free>>20, (need+1<<20-1)>>20)
	}
	err = i.copy(ctx, i.place.binary, binary)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if free, known, looked := i.opt.Guest.Free(ctx, i.place.parent); looked == nil && known && free < need {
		err = fmt.Errorf("%w: %w", ErrRoom, err)
	}
	return err
}

// compare reads the program back: what will run is what was sent.
func (i *Injected) compare(ctx context.Context, binary []byte) error {
	body, err := i.opt.Guest.ReadFile(ctx, i.place.path(i.run, i.place.binary))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: it is gone", ErrAltered)
	}
	if err != nil {
		return err
	}
	h := sha256.New()
	_, err = io.Copy(h, io.LimitReader(body, int64(len(binary))+1))
	if err = errors.Join(err, body.Close()); err != nil {
		return fmt.Errorf("read the agent back: %w", err)
	}
	if want := sha256.Sum256(binary); !bytes.Equal(h.Sum(nil), want[:]) {
		return ErrAltered
	}
	return nil
}

// awaitReady waits for the agent's word that it listens, or why it does not.
func (i *Injected) awaitReady(ctx context.Context) (port int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, i.opt.StartLimit, fmt.Errorf("%w: it said nothing for %s", ErrAgent, i.opt.StartLimit))
	defer cancel()
	wait := i.waiting()
	for {
		var r program.Ready
		data, err := i.read(ctx, program.ReadyName)
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
		if err := wait.next(ctx); err != nil {
			return 0, err
		}
	}
}

// ended is why an agent ended before it listened: its own words, else its exit code.
func (i *Injected) ended(ctx context.Context, code int, known bool) error {
	if said, err := i.read(ctx, program.FailedName); err == nil {
		return i.told(ctx, strings.TrimSpace(string(said)))
	}
	if _, err := i.opt.Guest.List(ctx, i.place.path(i.run)); err == nil && i.isGone(ctx, i.place.binary) {
		return fmt.Errorf("%w: it has ended and is gone", ErrAltered)
	}
	if !known {
		return fmt.Errorf("%w: it is gone", ErrAgent)
	}
	return fmt.Errorf("%w: it ended with exit code %d", ErrAgent, code)
}

// told is an agent's own words. A port that is taken is another run's that came at the
// same time, if one has its agent here.
func (i *Injected) told(ctx context.Context, said string) error {
	for _, known := range []error{ErrNoServer, direct.ErrElsewhere, ErrLogin, ErrSilent} {
		if rest, is := strings.CutPrefix(said, known.Error()); is {
			return &word{known, rest}
		}
	}
	if !strings.HasPrefix(said, program.ErrListen.Error()) {
		return fmt.Errorf("%w: %s", ErrAgent, said)
	}
	all, err := i.opt.Guest.Programs(ctx)
	for pid, line := range all {
		if run := i.place.agent(line); err == nil && pid != i.pid && run != "" && run != i.run {
			return fmt.Errorf("%w: its process is %d", ErrOccupied, pid)
		}
	}
	return fmt.Errorf("%w: %s", ErrTaken, said)
}

// isGone tells whether a file of ours has been taken away.
func (i *Injected) isGone(ctx context.Context, name string) bool {
	body, err := i.opt.Guest.ReadFile(ctx, i.place.path(i.run, name))
	if err == nil {
		_ = body.Close()
	}
	return errors.Is(err, fs.ErrNotExist)
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
