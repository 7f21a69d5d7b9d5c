package database

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"

	"holdfast/cmd/verdict"
	"holdfast/repo/backend"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/server"
)

// TestQ11X5GuestsHaveTheirRules: a request inside a guest says so, and one beside the
// server does not.
func TestQ11X5GuestsHaveTheirRules(t *testing.T) {
	host := &server.Host{SystemDrive: "C:"}
	cluster := decide.Facts{Instance: facts.Instance{Name: "FCI", SysAdmin: true, Clustered: true, Engine: 3, Version: "16.0.1000.6"},
		Database: facts.Database{ID: 5, Name: "d", State: "ONLINE", Family: "F", Fork: "K"}}
	group := cluster
	group.Instance.Clustered, group.Database.Replica = false, "R"
	for _, f := range []decide.Facts{cluster, group} {
		o := Options{Request: decide.Request{Want: decide.Full}}
		if d := decide.Decide(o.request(Place{Label: "sql/vm"}, host), f, nil); d.Do != decide.Refuse || d.Rule != "Q11" && d.Rule != "X5" || d.Exit != decide.ExitRefused {
			t.Errorf("in a guest: %+v", d)
		}
		if d := decide.Decide(o.request(Place{}, host), f, nil); d.Do != decide.DoFull {
			t.Errorf("beside the server: %+v", d)
		}
		o.Request.AllowAG = true
		if d := decide.Decide(o.request(Place{Label: "sql/vm"}, host), f, nil); d.Do != decide.DoFull {
			t.Errorf("with --allow-ag: %+v", d)
		}
	}
}

func TestNamesOfSources(t *testing.T) {
	for _, c := range []struct {
		at   Place
		in   facts.Instance
		want string
	}{
		{Place{}, facts.Instance{Name: `HOST\SQL`, Instance: "SQL"}, `sql/HOST\SQL`},
		{Place{Label: "sql/vm"}, facts.Instance{Name: `HOST\SQL`, Instance: "SQL"}, "sql/vm"},
		{Place{Label: "sql/vm", Several: true}, facts.Instance{Name: `HOST\SQL`, Instance: "SQL"}, `sql/vm\SQL`},
		{Place{Label: "sql/vm", Several: true}, facts.Instance{Name: "HOST"}, "sql/vm"},
	} {
		if got := c.at.label(&c.in); got != c.want {
			t.Errorf("%+v: %s, want %s", c.at, got, c.want)
		}
	}
}

// TestWayOfTheData: virtual devices where they are, else files that both sides reach.
func TestWayOfTheData(t *testing.T) {
	with, without := &server.Host{HasVDI: true}, &server.Host{WhyNoVDI: "no Windows"}
	for _, c := range []struct {
		transport, staging string
		host               *server.Host
		beside             bool
		want               string // "" is ErrTransport
	}{
		{"auto", "", with, true, "vdi"}, {"auto", "", without, true, "disk"}, {"auto", "", without, false, ""},
		{"auto", "S=L", without, false, "disk"}, {"auto", "S=L", with, true, "disk"}, {"vdi", "", without, true, ""},
		{"vdi", "", with, true, "vdi"}, {"disk", "", with, true, "disk"}, {"disk", "", without, false, ""},
	} {
		o := Options{Transport: c.transport, Staging: c.staging}
		got, staging, local, err := o.way(c.host, c.beside)
		if got != c.want || (err != nil) != (c.want == "") || err != nil && !errors.Is(err, ErrTransport) || c.staging != "" && (staging != "S" || local != "L") {
			t.Errorf("%+v: %q %q %q, %v", c, got, staging, local, err)
		}
	}
}

// TestKeptLogOfAFullRepositoryAsksForRoomToo: the next run takes the file in if it can.
func TestKeptLogOfAFullRepositoryAsksForRoomToo(t *testing.T) {
	kept := &direct.Kept{Files: []string{"x.bak"}}
	for _, x := range []struct {
		cause error
		room  bool
	}{{backend.ErrNoSpace, true}, {syscall.ENOSPC, true}, {io.ErrUnexpectedEOF, false}} {
		_, hint := verdict.Table{}.Classify(roomy(fmt.Errorf("%w: %w", kept, x.cause)))
		if strings.Contains(hint, "free space in the repository's place") != x.room || !strings.Contains(hint, kept.Hint()) {
			t.Errorf("%v: %q", x.cause, hint)
		}
	}
	if err := roomy(backend.ErrNoSpace); err != backend.ErrNoSpace {
		t.Errorf("without a file: %v", err)
	}
}

// TestHomeOfADefaultInstanceIsItsMachine: the name of a server without an instance is
// no instance of this machine.
func TestHomeOfADefaultInstanceIsItsMachine(t *testing.T) {
	for name, want := range map[string]string{"DB01": "DB01:1433", `DB01\TWO`: `DB01\TWO`, "HERE": ".", `here\two`: `here\two`} {
		if got := instanceOf(name, "here"); got != want {
			t.Errorf("%s: %s; want %s", name, got, want)
		}
	}
	if vm, instance := Home([]chain.Backup{{Header: chain.Header{ServerName: "OLD"}}, {Guest: "sql01", Header: chain.Header{ServerName: "NEW"}}}); vm != "sql01" || instance != "" {
		t.Errorf("the newest is of a VM: %q, %q", vm, instance)
	}
	if vm, instance := Home([]chain.Backup{{Address: "db01:14330", Header: chain.Header{ServerName: "DB01"}}}); vm != "" || instance != "db01:14330" {
		t.Errorf("the port is kept: %q, %q", vm, instance)
	}
}

// TestHomeIsToldByTheNewestPointThatTellsIt: one of a file that was taken in without a word
// of it has the server's name alone.
func TestHomeIsToldByTheNewestPointThatTellsIt(t *testing.T) {
	server := chain.Header{ServerName: "SQL01"}
	kept := chain.Backup{Header: server, Rule: chain.RuleKept}
	if vm, instance := Home([]chain.Backup{{Header: server, Guest: "sql01"}, kept, kept}); vm != "sql01" || instance != "" {
		t.Errorf("%q, %q", vm, instance)
	}
	if vm, instance := Home([]chain.Backup{{Header: server, Guest: "old"}, {Header: server}, kept}); vm != "" || instance != "SQL01:1433" {
		t.Errorf("it is reached directly now: %q, %q", vm, instance)
	}
	if vm, instance := Home([]chain.Backup{kept}); vm != "" || instance != "SQL01:1433" {
		t.Errorf("nothing else tells: %q, %q", vm, instance)
	}
}
