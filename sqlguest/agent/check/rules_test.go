package check

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestQ2ShadowCopiesAreNotDisabled: the service may be stopped, for it is started when
// somebody wants it; disabled, missing and unknown are told apart.
func TestQ2ShadowCopiesAreNotDisabled(t *testing.T) {
	for _, c := range []struct {
		s      service
		status Status
		says   string
	}{
		{service{name: "VSS"}, OK, "stopped"},
		{service{name: "VSS", running: true, account: "LocalSystem"}, OK, "running as LocalSystem"},
		{service{name: "VSS", disabled: true}, Warning, "disabled"},
		{service{name: "VSS", missing: true, err: errors.New("1060")}, Warning, "not installed"},
		{service{name: "VSS", err: errors.New("access is denied")}, Warning, "access is denied"},
	} {
		if l := shadowCopy(c.s); l.ID != "Q2-vss" || l.Status != c.status || l.Detail != c.says || (l.Remedy == "") != (c.status == OK) {
			t.Errorf("%+v: %+v", c.s, l)
		}
	}
}

// TestQ2MicrosoftsOwnProvidersAreRecommended: what a Windows Server 2022 has by itself is
// well, its provider for file shares included; another maker's is named. The names are
// those of the registry, whatever the system's language.
func TestQ2MicrosoftsOwnProvidersAreRecommended(t *testing.T) {
	own := map[string]string{
		"{b5946137-7b9f-4925-af80-51abd60b20d5}": "Microsoft Software Shadow Copy provider 1.0",
		"{89300202-3cec-4981-9171-19f59559e0f2}": "Microsoft File Share Shadow Copy provider",
	}
	if l := providers(own, nil); l.Status != OK || l.Detail != "Microsoft's own alone" {
		t.Errorf("Microsoft's own: %+v", l)
	}
	if l := providers(map[string]string{"{B5946137-7B9F-4925-AF80-51ABD60B20D5}": ""}, nil); l.Status != OK {
		t.Errorf("in capitals: %+v", l)
	}
	own["{f4c41a2c-1b9f-4e0b-9a4e-000000000001}"] = "Anderer Hersteller: Schattenkopien für Gäste"
	if l := providers(own, nil); l.Status != Warning || !strings.Contains(l.Detail, "000000000001} Anderer Hersteller: Schattenkopien für Gäste") || strings.Contains(l.Detail, "Microsoft File") {
		t.Errorf("another maker's: %+v", l)
	}
	if l := providers(nil, nil); l.Status != OK || l.Detail != "none is registered" {
		t.Errorf("none: %+v", l)
	}
	if l := providers(nil, errors.New("access is denied")); l.Status != Warning || l.Detail != "access is denied" {
		t.Errorf("unknown: %+v", l)
	}
}

// TestQ3WriterRuns: a writer that is stopped is not well, for it is not started by itself.
func TestQ3WriterRuns(t *testing.T) {
	for _, c := range []struct {
		s      service
		status Status
		says   string
	}{
		{service{name: "SQLWriter", running: true, account: "LocalSystem"}, OK, "running as LocalSystem"},
		{service{name: "SQLWriter"}, Warning, "stopped"},
		{service{name: "SQLWriter", disabled: true}, Warning, "disabled"},
		{service{name: "SQLWriter", missing: true, err: errors.New("1060")}, Warning, "not installed"},
	} {
		if l := writer(c.s); l.ID != "Q3-writer" || l.Status != c.status || l.Detail != c.says || c.status != OK && !strings.Contains(l.Remedy, "SQLWriter") {
			t.Errorf("%+v: %+v", c.s, l)
		}
	}
}

// TestServicesOfSQLServers: instances by name, and none of what stands beside them.
func TestServicesOfSQLServers(t *testing.T) {
	all := []string{"MSSQLSERVER", "mssqlserver", "MSSQL$PROD", "mssql$x", "SQLSERVERAGENT", "SQLAgent$PROD", "MSSQLFDLauncher", "MSSQLServerOLAPService", "SQLBrowser"}
	if got := slices.DeleteFunc(all, func(s string) bool { return !isEngine(s) }); !slices.Equal(got, []string{"MSSQLSERVER", "mssqlserver", "MSSQL$PROD", "mssql$x"}) {
		t.Errorf("SQL Servers: %q", got)
	}
	f := found{listing: errors.New("no rights"), engines: []service{{name: "MSSQL$PROD"}}}
	var ids []string
	for _, l := range f.lines() {
		ids = append(ids, l.ID+" "+string(l.Status))
	}
	if want := []string{"Q2-providers ok", "services warning", "service-MSSQL$PROD warning", "Q28-events ok"}; !slices.Equal(ids, want) {
		t.Errorf("lines %q, want %q", ids, want)
	}
}

// Events as wevtutil writes them with /f:xml: of a provider with a manifest, and of an
// older one, whose ids have qualifiers. The text of an event is not among it, in no
// language; a volume's name is, here in the code page 850 of a German console.
const (
	event140 = `<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System><Provider Name='Microsoft-Windows-Ntfs' Guid='{3ff37a1c-a68d-4d6e-8c9b-f79e8b16c482}'/><EventID>140</EventID><Version>0</Version><Level>3</Level><Task>0</Task><Opcode>0</Opcode><Keywords>0x8000000000000008</Keywords><TimeCreated SystemTime='2026-11-21T22:03:11.4702318Z'/><EventRecordID>41205</EventRecordID><Correlation/><Execution ProcessID='4' ThreadID='212'/><Channel>System</Channel><Computer>db01.example.org</Computer><Security UserID='S-1-5-18'/></System><EventData><Data Name='VolumeId'>` + "K\x81hlung" + `:</Data><Data Name='DeviceName'>\Device\HarddiskVolumeShadowCopy7</Data><Data Name='Error'>0xc000000e</Data></EventData></Event>`
	event137 = `<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System><Provider Name='Ntfs'/><EventID Qualifiers='49156'>137</EventID><Level>2</Level><Task>2</Task><Keywords>0x80000000000000</Keywords><TimeCreated SystemTime='2026-11-21T22:03:10.0000000Z'/><EventRecordID>41204</EventRecordID><Channel>System</Channel><Computer>db01</Computer><Security/></System><EventData><Data></Data><Data>\\?\Volume{5a1c2b3d-0000-0000-0000-100000000000}</Data><Binary>1C0004000200300002000000890004C000000000020100C0</Binary></EventData></Event>`
	event57  = `<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System><Provider Name='Ntfs'/><EventID Qualifiers='32772'>57</EventID><Level>3</Level><Task>2</Task><Keywords>0x80000000000000</Keywords><TimeCreated SystemTime='2026-11-21T22:03:09.0000000Z'/><EventRecordID>41203</EventRecordID><Channel>System</Channel><Computer>db01</Computer><Security/></System><EventData><Data>D:</Data></EventData></Event>`
	event98  = `<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System><Provider Name='Microsoft-Windows-Ntfs' Guid='{3ff37a1c-a68d-4d6e-8c9b-f79e8b16c482}'/><EventID>98</EventID><Level>4</Level><TimeCreated SystemTime='2026-11-21T22:03:08.0000000Z'/></System><EventData><Data Name='DriveName'>D:</Data></EventData></Event>`
)

// TestQ28EventsOfNTFSAreWarnedOf: each of the three, with its time, of a German and of an
// English system alike; others are not counted; what cannot be read is no good sign.
func TestQ28EventsOfNTFSAreWarnedOf(t *testing.T) {
	for _, c := range []struct {
		name, out string
		err       error
		status    Status
		says      string
	}{
		{"none", "", nil, OK, "none in the last 24 hours"},
		{"140", event140 + "\r\n", nil, Warning, `1 in the last 24 hours, the newest: 140 of Microsoft-Windows-Ntfs at 2026-11-21T22:03:11.4702318Z (K?hlung: \Device\HarddiskVolumeShadowCopy7 0xc000000e)`},
		{"137", event137, nil, Warning, "the newest: 137 of Ntfs at 2026-11-21T22:03:10.0000000Z (\\\\?\\Volume{5a1c2b3d"},
		{"57", event57, nil, Warning, "the newest: 57 of Ntfs at 2026-11-21T22:03:09.0000000Z (D:)"},
		{"all", event140 + "\r\n" + event137 + "\r\n" + event57 + "\r\n", nil, Warning, "3 in the last 24 hours, the newest: 140"},
		{"another", event98, nil, OK, "none"},
		{"as many as were asked for", strings.Repeat(event57, maxEvents), nil, Warning, "10 or more"},
		{"cut", event57[:len(event57)-20], nil, Warning, "read events"},
		{"one and a cut one", event57 + event137[:100], nil, Warning, "1 in the last 24 hours"},
		{"no event log", "", errors.New("run wevtutil: exit status 5"), Warning, "ask the event log: run wevtutil: exit status 5"},
	} {
		l := events([]byte(c.out), c.err)
		if l.Status != c.status || !strings.Contains(l.Detail, c.says) || (l.Remedy == "") != (c.status == OK) {
			t.Errorf("%s: %+v, want %s with %q", c.name, l, c.status, c.says)
		}
	}
	asked := strings.Join(eventsArgs(), " ")
	for _, want := range []string{"EventID=57", "EventID=137", "EventID=140", "'Ntfs'", "'Microsoft-Windows-Ntfs'", "/f:xml", "/rd:true", "86400000"} {
		if !strings.Contains(asked, want) {
			t.Errorf("wevtutil is not asked for %s: %s", want, asked)
		}
	}
}

// FuzzEvents: whatever a log holds, looking at it ends, and is well only if no event of
// the three is in it.
func FuzzEvents(f *testing.F) {
	for _, s := range []string{"", event140, event137 + event57, event98, event57[:99]} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, out []byte) {
		l := events(out, nil)
		list, err := readEvents(out)
		bad := err != nil || slices.ContainsFunc(list, func(e event) bool { return e.ID == 57 || e.ID == 137 || e.ID == 140 })
		if (l.Status == OK) == bad {
			t.Errorf("%q: %+v", out, l)
		}
	})
}
