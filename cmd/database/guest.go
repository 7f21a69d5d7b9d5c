package database

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strconv"

	"holdfast/backup"
	"holdfast/cmd/runlock"
	"holdfast/cmd/settings"
	"holdfast/cmd/verdict"
	"holdfast/sqlguest/agent"
	"holdfast/sqlguest/agent/binary"
	"holdfast/sqlguest/agent/inject"
	"holdfast/sqlguest/agent/program"
	"holdfast/vmware"
	"holdfast/vmware/guest"
)

// AgentCommand is the word by which the program serves as the agent of a guest that
// has its own system and architecture.
const AgentCommand = "guest-agent"

// Agent serves as the agent that args configure.
func Agent(ctx context.Context, args []string, complain io.Writer) error {
	return program.Main(ctx, args, slog.New(slog.NewTextHandler(complain, nil)))
}

// Guest is a login to a virtual machine's guest.
type Guest struct {
	User, Password string
	// Address is dialled instead of the one that VMware Tools tell; Port is where the
	// agent listens, 0 for its own.
	Address string
	Port    int
	// Lock is this run's, by which others prove it dead and it others; nil takes every
	// run for alive whose agent runs.
	Lock *runlock.Lock
}

// GuestOf reads the settings of section guest, but for the password.
func GuestOf(setting func(name string) string) (Guest, error) {
	g := Guest{User: setting("guest.user"), Address: setting("guest.address")}
	if g.User == "" {
		return g, settings.Usagef("give HOLDFAST_GUEST_USER and HOLDFAST_GUEST_PASSWORD", "no login to the guest was given")
	}
	if text := setting("guest.port"); text != "" {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return g, settings.Usagef("a port's number, such as 3542", "guest.port %q is no port", text)
		}
		g.Port = int(port)
	}
	return g, nil
}

// Inside runs fn with an agent in the VM of that name, and takes it out again whatever
// becomes of fn. If l says Each and the guest has several SQL Servers, fn is run for one
// after the other, each with an agent of its own; else for the first that lets us in.
func Inside(ctx context.Context, s *vmware.Session, name string, g Guest, l Login, fn func(Place) error) error {
	vm, err := s.FindVM(ctx, name)
	if err != nil {
		return err
	}
	return InsideVM(ctx, s, vm, g, l, fn)
}

// InsideVM is Inside a VM that was found already.
func InsideVM(ctx context.Context, s *vmware.Session, vm vmware.VM, g Guest, l Login, fn func(Place) error) error {
	var others []string
	several := false
	one := func(l Login) error {
		in, err := Inject(ctx, s, vm, g, l)
		if err != nil {
			return err
		}
		host, err := in.Client.Host(ctx)
		if err == nil {
			if !several {
				others = host.Others
			}
			several = several || len(others) > 0
			err = fn(Place{Server: in.Client, Beside: true, Label: "sql/" + vm.Name, Several: several, Guest: vm.Name})
		}
		if left := in.Close(context.WithoutCancel(ctx)); left != nil {
			err = errors.Join(err, verdict.Advise(fmt.Errorf("%w: %w", backup.ErrRelease, left), "the next run into this guest takes out what is left of the agent"))
		}
		return err
	}
	all := one(l)
	if !l.Each {
		return all
	}
	for _, l.Instance = range others {
		if ctx.Err() != nil {
			break
		}
		if err := one(l); err != nil {
			all = errors.Join(all, fmt.Errorf("SQL Server %s of %s: %w", l.Instance, vm.Name, err))
		}
	}
	return all
}

// Inject puts the agent into the VM's guest, where it logs in to the SQL Server. Close
// takes it out again.
func Inject(ctx context.Context, s *vmware.Session, vm vmware.VM, g Guest, l Login) (*inject.Injected, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("ask for this machine's name: %w", err)
	}
	in, err := guest.Open(ctx, s.Client(), vm.Ref, guest.Options{User: g.User, Password: g.Password, Address: g.Address})
	if err != nil {
		return nil, fmt.Errorf("enter the guest of %s: %w", vm.Name, err)
	}
	system, err := in.System(ctx)
	if err != nil {
		return nil, fmt.Errorf("enter the guest of %s: %w", vm.Name, err)
	}
	o := inject.Options{
		Guest: in, Program: binary.For, Host: host, PID: os.Getpid(), Port: g.Port, Logger: l.Log,
		Config: program.Config{Address: l.Instance, User: l.User, Password: l.Password, Patient: l.Patient},
	}
	if _, err := binary.For(system); errors.Is(err, binary.ErrMissing) && system == runtime.GOOS && runtime.GOARCH == "amd64" {
		o.Arguments = []string{AgentCommand}
		o.Program = func(string) ([]byte, error) { return ownProgram() }
	}
	if g.Lock != nil {
		o.Life, o.Dead = g.Lock.Life(), func(m inject.Marker) bool {
			return g.Lock.Dead(cmp.Or(m.Life, inject.LifeOf(m.Run, g.Lock.Lives())))
		}
	}
	if o.From, err = in.Seen(ctx); err != nil { // only Windows' firewall needs it
		l.Log.Debug("this machine's address is not known", "error", err)
	}
	if ip := net.ParseIP(g.Address); ip != nil && ip.IsLoopback() {
		port := g.Port
		if port == 0 {
			port = agent.Port
		}
		o.Config.Listen = net.JoinHostPort(g.Address, strconv.Itoa(port)) // nobody else needs to reach it
	}
	i, err := inject.Open(ctx, o)
	if err != nil {
		if hint := inject.Hint(err); hint != "" {
			err = verdict.Advise(err, hint)
		}
		return nil, fmt.Errorf("protect %s: %w", vm.Name, err)
	}
	return i, nil
}

func ownProgram() ([]byte, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read this program: %w", err)
	}
	return program, nil
}
