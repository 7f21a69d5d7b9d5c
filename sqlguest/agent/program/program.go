// Package program is the agent as a program in a guest: the files by which it is told
// what to do and tells that it does it, and how it takes everything away at its end.
//
//	config.json   secret, read once and deleted before anything else
//	ready.json    it listens; failed.txt: why it does not
//	run.json      whose the directory is, deleted last
package program

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"holdfast/sqlguest/agent"
	"holdfast/sqlguest/agent/check"
	"holdfast/sqlguest/agent/trust"
	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/server"
)

// Names of what lies in an agent's directory. Nothing else there is an agent's.
const (
	ConfigName = "config.json" // secret: read once and deleted
	ReadyName  = "ready.json"  // Ready, when the agent listens
	FailedName = "failed.txt"  // why it could not
	MarkerName = "run.json"    // whose directory it is
	BinaryName = "holdfast-agent"
	ParentName = "holdfast-agent" // of the directory that holds the agents' directories
)

// Names are all of them, with the program's on either system; the marker is the last
// that is deleted.
func Names() []string {
	return []string{ConfigName, ReadyName, FailedName, ReadyName + unfinished, FailedName + unfinished, BinaryName, BinaryName + ".exe", MarkerName}
}

// unfinished is added to the name of a file that is being written.
const unfinished = ".new"

// ErrListen: the port is taken, or cannot be had.
var ErrListen = errors.New("listen for the client")

var (
	// ErrLogin: the SQL Server answers, and lets this login not in.
	ErrLogin = errors.New("SQL Server in the guest refuses the login")
	// ErrSilent: nothing answers where the SQL Server should be.
	ErrSilent = errors.New("no SQL Server answers in the guest")
)

// ErrConfig: the configuration is not there, is no plain file of ours, or cannot be
// deleted after it was read.
var ErrConfig = errors.New("agent's configuration cannot be used")

// Config is what an agent is told. It travels in a file, for arguments and
// environments can be read by everybody on the machine.
type Config struct {
	Listen   string      `json:"listen"` // host:port
	Keys     *trust.Keys `json:"keys"`
	Address  string      `json:"address"` // of the SQL Server, or of several; see direct.OpenFirst
	Instance string      `json:"instance"`
	User     string      `json:"user"` // "" is Windows authentication
	Password string      `json:"password"`
	// Patient keeps an agent whose SQL Server cannot be logged in to: each request tells
	// why, and the machine can be looked at.
	Patient     bool          `json:"patient,omitempty"`
	Rule        string        `json:"rule,omitempty"` // of the guest's firewall, for this agent
	IdleTimeout time.Duration `json:"idle_timeout"`   // nanoseconds, as Lifetime; 0 as in agent.ServiceOptions
	Lifetime    time.Duration `json:"lifetime"`
}

// Ready says where an agent listens.
type Ready struct {
	Port int `json:"port"`
	PID  int `json:"pid"`
}

const (
	maxConfigBytes = 1 << 20
	cleanupLimit   = time.Minute // for what an end must end
)

// LoadConfig reads the file and deletes it. A file that cannot be deleted is not used.
func LoadConfig(path string) (*Config, error) {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	defer func() { _ = root.Close() }()
	name := filepath.Base(path)
	info, err := root.Lstat(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxConfigBytes {
		return nil, fmt.Errorf("%w: no plain file of a configuration's size", ErrConfig)
	}
	data, err := root.ReadFile(name)
	if removed := remove(root, name); err != nil || removed != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, errors.Join(err, removed))
	}
	defer clear(data)
	c := &Config{}
	if json.Unmarshal(data, c) != nil || c.Keys == nil || c.Listen == "" { // the decoder's error may quote a secret
		return nil, fmt.Errorf("%w: it cannot be read", ErrConfig)
	}
	return c, nil
}

// Main is the agent as a program: args are the path of its configuration. It serves
// until it has nothing more to do, and takes its files away, as far as the system
// lets a program delete itself (Windows does not).
func Main(ctx context.Context, args []string, log *slog.Logger) error {
	if len(args) != 1 {
		return fmt.Errorf("%w: its path is the only argument", ErrConfig)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	path, err := filepath.Abs(args[0])
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	dir := filepath.Dir(path)
	listening := false
	c, err := LoadConfig(path)
	if err == nil {
		err = serve(ctx, dir, c, log, &listening)
	}
	if err != nil && !listening {
		// Whoever has started this waits for one of the two files.
		if wrote := leave(dir, FailedName, []byte(err.Error())); wrote != nil {
			return errors.Join(err, wrote, Tidy(dir))
		}
		return err
	}
	return errors.Join(err, c.closeFirewall(ctx, err), tidyAll(dir))
}

// tidyAll is Tidy, and takes away the directory around it if nobody else uses it.
func tidyAll(dir string) error {
	if err := Tidy(dir); err != nil {
		return err
	}
	if parent := filepath.Dir(dir); filepath.Base(parent) == ParentName {
		_ = os.Remove(parent) // it stays if another agent's directory is there
	}
	return nil
}

// closeFirewall removes the rule that lets the client in, unless the client does that,
// which has said goodbye.
func (c *Config) closeFirewall(ctx context.Context, ended error) error {
	if ended == nil || c.Rule == "" {
		return nil
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
	defer cancel()
	return dropRule(limit, c.Rule)
}

// open logs in to the SQL Server; see Config.Patient.
func (c *Config) open(ctx context.Context, log *slog.Logger) (server.Server, error) {
	sql, err := direct.OpenFirst(ctx, direct.Options{Address: c.Address, Instance: c.Instance, User: c.User, Password: c.Password, Logger: log})
	said, failed := (*server.Error)(nil), (*net.OpError)(nil)
	switch {
	case err == nil:
		return sql, nil
	case c.Patient:
		return absent{err}, nil
	case errors.Is(err, direct.ErrNone), errors.Is(err, direct.ErrElsewhere):
		return nil, err
	case errors.As(err, &said):
		return nil, fmt.Errorf("%w: %w", ErrLogin, err)
	case errors.As(err, &failed), strings.Contains(err.Error(), "unable to open tcp connection"): // the driver keeps net's words only
		return nil, fmt.Errorf("%w: %w", ErrSilent, err)
	}
	return nil, err
}

func serve(ctx context.Context, dir string, c *Config, log *slog.Logger, listening *bool) error {
	sql, err := c.open(ctx, log)
	if err != nil {
		return err
	}
	defer func() { _ = sql.Close() }()
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrListen, err)
	}
	ready, err := json.Marshal(Ready{Port: l.Addr().(*net.TCPAddr).Port, PID: os.Getpid()})
	if err == nil {
		err = leave(dir, ReadyName, ready)
	}
	if err != nil {
		return errors.Join(err, l.Close())
	}
	*listening = true
	return agent.Serve(ctx, l, agent.ServiceOptions{
		Server: sql, Keys: c.Keys, Once: true, IdleTimeout: c.IdleTimeout, Lifetime: c.Lifetime, Logger: log,
		Checks: func(ctx context.Context) []agent.Check { return check.Machine(ctx, check.MachineOptions{}) },
	})
}

// leave writes a file for the other side, whole or not at all, never over another.
func leave(dir, name string, data []byte) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer func() { _ = root.Close() }()
	f, err := root.OpenFile(name+unfinished, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = root.Rename(name+unfinished, name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, errors.Join(err, root.Remove(name+unfinished)))
	}
	return nil
}

// remove deletes a file of an opened directory. Where the system does not know the
// way that needs no path (file systems for Windows without POSIX semantics), it goes
// by the path, for plain files.
func remove(root *os.Root, name string) error {
	err := root.Remove(name)
	if err == nil || errors.Is(err, fs.ErrNotExist) || runtime.GOOS != "windows" {
		return err
	}
	info, looked := root.Lstat(name)
	if looked != nil || !info.Mode().IsRegular() {
		return err
	}
	return os.Remove(filepath.Join(root.Name(), name))
}

// Tidy deletes an agent's files and its directory. It goes through no link, and
// leaves what is not an agent's, together with the directory.
func Tidy(dir string) error {
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !info.IsDir() {
		return fmt.Errorf("tidy %s: no directory (%w)", dir, errors.Join(err, fs.ErrInvalid))
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("tidy agent's directory: %w", err)
	}
	var all error
	for _, name := range Names() {
		if name == MarkerName && all != nil {
			break // what stays must say whose it is, for the next run
		}
		if err := remove(root, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = errors.Join(all, err)
		}
	}
	if all = errors.Join(all, root.Close()); all == nil {
		all = os.Remove(dir)
	}
	if all != nil {
		return fmt.Errorf("tidy agent's directory: %w", all)
	}
	return nil
}

// Write puts the configuration into JSON, for LoadConfig.
func (c *Config) Write(to io.Writer) error {
	if err := json.NewEncoder(to).Encode(c); err != nil {
		return fmt.Errorf("write agent's configuration: %w", err)
	}
	return nil
}
