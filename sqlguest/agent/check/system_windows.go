package check

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"
)

// system looks at the services that a backup leans on, and at the event log.
func system(ctx context.Context) []Line {
	manager, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT|windows.SC_MANAGER_ENUMERATE_SERVICE)
	if err != nil {
		return []Line{unlisted(err), events(ctx)}
	}
	defer func() { _ = windows.CloseServiceHandle(manager) }()
	lines := []Line{
		shadowCopy(look(manager, "VSS")),
		writer(look(manager, "SQLWriter")),
		providers(),
	}
	names, err := (&mgr.Mgr{Handle: manager}).ListServices()
	if err != nil {
		return append(lines, unlisted(err), events(ctx))
	}
	for _, name := range names {
		if strings.EqualFold(name, "MSSQLSERVER") || strings.HasPrefix(strings.ToUpper(name), "MSSQL$") {
			lines = append(lines, engine(look(manager, name)))
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

func unlisted(err error) Line {
	return Line{ID: "services", Name: "services", Status: Warning, Detail: err.Error(), Remedy: "run elevated"}
}

func elevated() bool { return windows.GetCurrentProcessToken().IsElevated() }

// shadowCopy must not be disabled; it is started when somebody wants it.
func shadowCopy(s service) Line {
	return s.line("Q2-vss", s.start != mgr.StartDisabled, "set the service VSS (Volume Shadow Copy) to manual start: quiesced snapshots of the machine need it; backup sql does not")
}

// writer must run, for images of the machine in which databases are whole.
func writer(s service) Line {
	return s.line("Q3-writer", s.state == svc.Running, "start the service SQLWriter and set it to automatic start: quiesced snapshots of the machine need it; backup sql does not")
}

// engine is a SQL Server.
func engine(s service) Line {
	return s.line("service-"+s.name, s.state == svc.Running, "start the service "+s.name)
}

func (s service) line(id string, isWell bool, remedy string) Line {
	l := Line{ID: id, Name: "service " + s.name, Remedy: remedy}
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
	return l.When(s.err == nil && isWell, Warning)
}

// ownProvider is Microsoft's provider of shadow copies, which every Windows has.
const ownProvider = "{b5946137-7b9f-4925-af80-51abd60b20d5}"

// providers looks for those of other makers, which take over shadow copies.
func providers() Line {
	l := Line{ID: "Q2-providers", Name: "shadow copy providers", Detail: "Microsoft's own alone",
		Remedy: "third-party providers and backup software with VSS may break quiesced snapshots; Microsoft's own is recommended"}
	key, err := registry.OpenKey(registry.LOCAL_MACHINE, `SYSTEM\CurrentControlSet\Services\VSS\Providers`, registry.READ)
	if err != nil {
		l.Detail = "none is registered"
		return l.When(errors.Is(err, registry.ErrNotExist), Warning)
	}
	defer func() { _ = key.Close() }()
	names, err := key.ReadSubKeyNames(-1)
	if err != nil {
		l.Detail = err.Error()
		return l.When(false, Warning)
	}
	var others []string
	for _, name := range names {
		if !strings.EqualFold(name, ownProvider) {
			others = append(others, name+providerName(key, name))
		}
	}
	if len(others) > 0 {
		l.Detail = "others than Microsoft's: " + strings.Join(others, ", ")
	}
	return l.When(len(others) == 0, Warning)
}

// providerName is what a provider calls itself, with a blank before it.
func providerName(key registry.Key, id string) string {
	sub, err := registry.OpenKey(key, id, registry.READ)
	if err != nil {
		return ""
	}
	defer func() { _ = sub.Close() }()
	name, _, err := sub.GetStringValue("")
	if err != nil {
		return ""
	}
	return " " + name
}

// eventsQuery finds NTFS's warnings and errors of the last day that say that a shadow
// copy could not be kept, or that data was lost on its way to the disk.
const eventsQuery = `*[System[Provider[@Name='Ntfs' or @Name='Microsoft-Windows-Ntfs'] and (EventID=57 or EventID=137 or EventID=140) and TimeCreated[timediff(@SystemTime) <= 86400000]]]`

func events(ctx context.Context) Line {
	l := Line{ID: "Q28-events", Name: "events 57, 137, 140", Detail: "none in the last 24 hours",
		Remedy: "look at the System log: a shadow copy could not be kept, or data was lost on its way to the disk; databases in such snapshots may be unrecoverable"}
	dir, err := windows.GetSystemDirectory()
	if err != nil {
		l.Detail = err.Error()
		return l.When(false, Warning)
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "wevtutil.exe"), "qe", "System", "/q:"+eventsQuery, "/c:10", "/f:text").Output()
	if err != nil {
		l.Detail = fmt.Sprintf("ask the event log: %v", err)
		return l.When(false, Warning)
	}
	count := strings.Count(string(out), "Event[")
	if count > 0 {
		l.Detail = fmt.Sprintf("%d or more in the last 24 hours", count)
	}
	return l.When(count == 0, Warning)
}
