package database

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strconv"

	"holdfast/cmd/settings"
	"holdfast/cmd/verdict"
	"holdfast/sqlguest/agent"
	"holdfast/sqlguest/agent/binary"
	"holdfast/sqlguest/agent/inject"
	"holdfast/vmware"
	"holdfast/vmware/guest"
)

// AgentCommand is the word by which the program serves as the agent of a guest that
// has its own system and architecture.
const AgentCommand = "guest-agent"

// Agent serves as the agent that args configure.
func Agent(ctx context.Context, args []string, complain io.Writer) error {
	return agent.Main(ctx, args, slog.New(slog.NewTextHandler(complain, nil)))
}

// Guest is a login to a virtual machine's guest.
type Guest struct {
	User, Password string
	// Address is dialled instead of the one that VMware Tools tell; Port is where the
	// agent listens, 0 for its own.
	Address string
	Port    int
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
// becomes of fn.
func Inside(ctx context.Context, s *vmware.Session, name string, g Guest, l Login, fn func(Place) error) error {
	vm, err := s.FindVM(ctx, name)
	if err != nil {
		return err
	}
	in, err := Inject(ctx, s, vm, g, l)
	if err != nil {
		return err
	}
	err = fn(Place{Server: in.Client, Beside: true, Label: "sql/" + vm.Name, ID: vm.InstanceUUID})
	return errors.Join(err, in.Close(context.WithoutCancel(ctx)))
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
		Config: agent.Config{Address: l.Instance, User: l.User, Password: l.Password},
	}
	if _, err := binary.For(system); errors.Is(err, binary.ErrMissing) && system == runtime.GOOS && runtime.GOARCH == "amd64" {
		o.Arguments = []string{AgentCommand}
		o.Program = func(string) ([]byte, error) { return ownProgram() }
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
