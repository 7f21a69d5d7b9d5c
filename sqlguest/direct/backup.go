package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"holdfast/sqlguest/server"
	"holdfast/sqlguest/vdi"
)

// ErrTransport: the statement names no transport that there is.
var ErrTransport = errors.New("transport is neither vdi nor disk")

// Backup begins a BACKUP. It lives in ctx, up to SQL Server's verdict on Commit.
//
// Errors: server.ErrNoVDI, ErrTransport, what SQL Server said if it refused at once.
func (s *Server) Backup(ctx context.Context, st server.Statement) (server.Backup, error) {
	if err := check(st); err != nil {
		return nil, fmt.Errorf("begin backup: %w", err)
	}
	if st.Transport == server.Disk {
		return s.stage(ctx, st)
	}
	set, err := s.openSet(st)
	if err != nil {
		return nil, err
	}
	names := vdi.Names(st.Name, st.Devices)
	saving, err := vdi.Save(ctx, set, names, s.statement(st, vdi.Clause(names)), vdi.Options{Logger: s.log})
	if err != nil {
		return nil, err
	}
	return saving, nil
}

// Restore runs a RESTORE; without streams the text is run as it is.
func (s *Server) Restore(ctx context.Context, st server.Statement, streams []io.Reader) (*server.Outcome, error) {
	if len(streams) == 0 {
		outcome, err := s.execute(ctx, st.Text, st.Args)
		if err != nil {
			return nil, fmt.Errorf("restore: %w", err)
		}
		return outcome, nil
	}
	st.Devices = len(streams)
	if err := check(st); err != nil {
		return nil, fmt.Errorf("begin restore: %w", err)
	}
	if st.Transport == server.Disk {
		return s.unstage(ctx, st, streams)
	}
	set, err := s.openSet(st)
	if err != nil {
		return nil, err
	}
	names := vdi.Names(st.Name, st.Devices)
	return vdi.Load(ctx, set, names, streams, s.statement(st, vdi.Clause(names)), vdi.Options{Logger: s.log})
}

// deviceName is what a device may be called: it becomes a file's name and an object
// of the system's.
var deviceName = regexp.MustCompile(`^\{?[0-9A-Za-z-]{1,64}\}?$`)

func check(st server.Statement) error {
	switch {
	case st.Transport != server.VDI && st.Transport != server.Disk:
		return fmt.Errorf("%w: %q", ErrTransport, st.Transport)
	case st.Devices < 1 || st.Devices > vdi.MaxDevices:
		return fmt.Errorf("%d devices, must be 1 to %d", st.Devices, vdi.MaxDevices)
	case !deviceName.MatchString(st.Name):
		return fmt.Errorf("device name %q is no GUID", st.Name)
	}
	return nil
}

func (s *Server) openSet(st server.Statement) (vdi.Set, error) {
	if !s.opt.IsHere() {
		return nil, fmt.Errorf("%w: %w", server.ErrNoVDI, ErrElsewhere)
	}
	open := s.opt.OpenSet
	if open == nil {
		open = vdi.Open
	}
	return open(vdi.SetOptions{Instance: s.instance(), Name: st.Name, Devices: st.Devices})
}

// statement is the statement with its devices in place.
func (s *Server) statement(st server.Statement, devices string) vdi.Statement {
	text := place(st.Text, devices)
	return func(ctx context.Context) (*server.Outcome, error) { return s.execute(ctx, text, st.Args) }
}

// place puts devices where the text has %s, and makes %% a percent sign.
func place(text, devices string) string {
	return strings.NewReplacer("%%", "%", "%s", devices).Replace(text)
}
