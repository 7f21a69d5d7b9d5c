package check

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"
)

// system looks at the services that a backup leans on, and at the event log.
func system(ctx context.Context) []Line {
	manager, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT|windows.SC_MANAGER_ENUMERATE_SERVICE)
	if err != nil {
		return []Line{{Name: "services", Detail: err.Error(), Remedy: "run elevated"}, events(ctx)}
	}
	defer func() { _ = windows.CloseServiceHandle(manager) }()
	lines := []Line{
		shadowCopy(look(manager, "VSS")),
		writer(look(manager, "SQLWriter")),
	}
	names, err := (&mgr.Mgr{Handle: manager}).ListServices()
	if err != nil {
		return append(lines, Line{Name: "services", Detail: err.Error(), Remedy: "run elevated"}, events(ctx))
	}
	for _, name := range names {
		if strings.EqualFold(name, "MSSQLSERVER") || strings.HasPrefix(strings.ToUpper(name), "MSSQL$") {
			lines = append(lines, instance(look(manager, name)))
		}
	}
	return append(lines, events(ctx))
}

// service is what a look at one finds.
type service struct {
	name    string
	missing bool
	err     error
	state   svc.State
	start   uint32
	account string
}

// look asks for no more rights than it needs, which the manager's own Open does.
func look(manager windows.Handle, name string) service {
	s := service{name: name}
	text, err := windows.UTF16PtrFromString(name)
	if err != nil {
		s.err = err
		return s
	}
	handle, err := windows.OpenService(manager, text, windows.SERVICE_QUERY_CONFIG|windows.SERVICE_QUERY_STATUS)
	if err != nil {
		s.missing = errors.Is(err, windows.ERROR_SERVICE_DOES_NOT_EXIST)
		s.err = err
		return s
	}
	opened := &mgr.Service{Name: name, Handle: handle}
	defer func() { _ = opened.Close() }()
	config, err := opened.Config()
	if err == nil {
		var status svc.Status
		status, err = opened.Query()
		s.state, s.start, s.account = status.State, config.StartType, config.ServiceStartName
	}
	s.err = err
	return s
}

// shadowCopy must not be disabled; it is started when somebody wants it.
func shadowCopy(s service) Line {
	return s.line(s.start != mgr.StartDisabled, "set the service VSS (Volume Shadow Copy) to manual start")
}

// writer must run, for images of the machine in which databases are whole.
func writer(s service) Line {
	return s.line(s.state == svc.Running, "start the service SQLWriter and set it to automatic start")
}

func instance(s service) Line {
	return s.line(s.state == svc.Running, "start the service "+s.name)
}

func (s service) line(isWell bool, remedy string) Line {
	l := Line{Name: "service " + s.name, OK: s.err == nil && isWell, Remedy: remedy}
	switch {
	case s.missing:
		l.Detail = "not installed"
	case s.err != nil:
		l.Detail = s.err.Error()
	case s.state == svc.Running:
		l.Detail = "running as " + s.account
	case s.start == mgr.StartDisabled:
		l.Detail = "disabled"
	default:
		l.Detail = "stopped"
	}
	return l
}

// eventsQuery finds NTFS's warnings and errors of the last day that say that a shadow
// copy could not be kept, or that data was lost on its way to the disk.
const eventsQuery = `*[System[Provider[@Name='Ntfs' or @Name='Microsoft-Windows-Ntfs'] and (EventID=57 or EventID=137 or EventID=140) and TimeCreated[timediff(@SystemTime) <= 86400000]]]`

func events(ctx context.Context) Line {
	l := Line{Name: "events 57, 137, 140", Remedy: "look at the System log: shadow copies of the volume may be of no use, and databases in them not recoverable"}
	dir, err := windows.GetSystemDirectory()
	if err != nil {
		l.Detail = err.Error()
		return l
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "wevtutil.exe"), "qe", "System", "/q:"+eventsQuery, "/c:10", "/f:text").Output()
	if err != nil {
		l.Detail = fmt.Sprintf("ask the event log: %v", err)
		return l
	}
	count := strings.Count(string(out), "Event[")
	if l.OK = count == 0; count > 0 {
		l.Detail = fmt.Sprintf("%d or more in the last 24 hours", count)
	}
	return l
}
