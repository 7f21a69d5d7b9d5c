package check

import (
	"maps"
	"slices"
	"strings"
)

// found is what Windows says of itself; what is made of it needs no Windows.
type found struct {
	vss, writer *service  // nil: nobody could be asked
	engines     []service // of SQL Servers
	listing     error     // why the services could not be listed
	// providers are the names of the registered providers of shadow copies, by GUID in
	// braces. The registry has them as they are; vssadmin says the same in the system's
	// language.
	providers    map[string]string
	providersErr error
	events       []byte // as wevtutil writes them with /f:xml
	eventsErr    error
}

// lines are the looks at it.
func (f *found) lines() []Line {
	var lines []Line
	if f.vss != nil {
		lines = append(lines, shadowCopy(*f.vss))
	}
	if f.writer != nil {
		lines = append(lines, writer(*f.writer))
	}
	lines = append(lines, providers(f.providers, f.providersErr))
	if f.listing != nil {
		lines = append(lines, Line{ID: "services", Name: "services", Status: Warning, Detail: f.listing.Error(), Remedy: "run elevated"})
	}
	for _, s := range f.engines {
		lines = append(lines, engine(s))
	}
	return append(lines, events(f.events, f.eventsErr))
}

// service is what a look at one finds.
type service struct {
	name              string
	missing           bool
	err               error
	running, disabled bool
	account           string
}

// isEngine tells whether a service is a SQL Server: the default instance, or one with a
// name.
func isEngine(name string) bool {
	return strings.EqualFold(name, "MSSQLSERVER") || strings.HasPrefix(strings.ToUpper(name), "MSSQL$")
}

// shadowCopy must not be disabled; it is started when somebody wants it.
func shadowCopy(s service) Line {
	return s.line("Q2-vss", !s.disabled, "set the service VSS (Volume Shadow Copy) to manual start: quiesced snapshots of the machine need it; backup sql does not")
}

// writer must run, for images of the machine in which databases are whole.
func writer(s service) Line {
	return s.line("Q3-writer", s.running, "start the service SQLWriter and set it to automatic start: quiesced snapshots of the machine need it; backup sql does not")
}

// engine is a SQL Server.
func engine(s service) Line {
	return s.line("service-"+s.name, s.running, "start the service "+s.name)
}

func (s service) line(id string, isWell bool, remedy string) Line {
	l := Line{ID: id, Name: "service " + s.name, Remedy: remedy}
	switch {
	case s.missing:
		l.Detail = "not installed"
	case s.err != nil:
		l.Detail = s.err.Error()
	case s.running:
		l.Detail = "running as " + s.account
	case s.disabled:
		l.Detail = "disabled"
	default:
		l.Detail = "stopped"
	}
	return l.When(s.err == nil && !s.missing && isWell, Warning)
}

// Microsoft's providers of shadow copies: of volumes, which every Windows has, and of file
// shares, which Windows has since 8 and Server 2012.
const (
	ownProvider   = "{b5946137-7b9f-4925-af80-51abd60b20d5}"
	shareProvider = "{89300202-3cec-4981-9171-19f59559e0f2}"
)

// providers looks for those of other makers, which take over shadow copies. Microsoft's
// own for file shares stands beside its own for volumes and does not touch them.
func providers(names map[string]string, err error) Line {
	l := Line{ID: "Q2-providers", Name: "shadow copy providers", Detail: "Microsoft's own alone",
		Remedy: "third-party providers and backup software with VSS may break quiesced snapshots; Microsoft's own is recommended"}
	var others []string
	isOwn := false
	for _, id := range slices.Sorted(maps.Keys(names)) {
		switch {
		case strings.EqualFold(id, ownProvider):
			isOwn = true
		case strings.EqualFold(id, shareProvider):
		default:
			others = append(others, strings.TrimSpace(id+" "+names[id]))
		}
	}
	switch {
	case err != nil:
		l.Detail = err.Error()
	case len(others) > 0:
		l.Detail = "others than Microsoft's: " + strings.Join(others, ", ")
	case !isOwn:
		l.Detail = "none is registered"
	}
	return l.When(err == nil && len(others) == 0, Warning)
}
