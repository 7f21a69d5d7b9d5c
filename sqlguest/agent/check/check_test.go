package check_test

import (
	"net"
	"strings"
	"testing"

	"holdfast/sqlguest/agent/check"
	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/lab"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// byID are lines, each with what every line must have.
func byID(t *testing.T, lines []check.Line) map[string]check.Line {
	t.Helper()
	all := map[string]check.Line{}
	for _, l := range lines {
		if l.ID == "" || l.Name == "" || l.Detail == "" {
			t.Errorf("a line has an id, a name and a sentence: %+v", l)
		}
		if (l.Status == check.OK) == (l.Remedy != "") {
			t.Errorf("a remedy belongs to what is not well, and only there: %+v", l)
		}
		all[l.ID] = l
	}
	return all
}

// sql are the looks at a laboratory.
func sql(t *testing.T, l *lab.Lab, user string) map[string]check.Line {
	t.Helper()
	s, err := direct.Open(t.Context(), direct.Options{Address: l.Address(), User: user})
	must(t, err)
	defer s.Close()
	return byID(t, check.SQL(t.Context(), s, check.SQLOptions{}))
}

// TestLooksAtASQLServer: role, room, file system, models, what is left out.
func TestLooksAtASQLServer(t *testing.T) {
	space, system := int64(5<<30), "NTFS"
	l, err := lab.Start(lab.Options{
		Logins: []lab.Login{{Name: "sa", Sysadmin: true}, {Name: "clerk"}},
		Volume: func(string) (string, int64, int64, string) { return `C:\`, space, 9 << 30, system },
	})
	must(t, err)
	defer l.Close()
	s, err := direct.Open(t.Context(), direct.Options{Address: l.Address(), User: "sa"})
	must(t, err)
	defer s.Close()
	for _, text := range []string{"CREATE DATABASE plain", "ALTER DATABASE plain SET RECOVERY SIMPLE", "CREATE DATABASE lost", "ALTER DATABASE lost SET OFFLINE"} {
		_, err := s.Query(t.Context(), text)
		must(t, err)
	}
	if line := sql(t, l, "clerk")["Q5-sysadmin"]; line.Status != check.Failed || !strings.Contains(line.Remedy, "sysadmin") {
		t.Errorf("login without the role: %+v", line)
	}
	got := sql(t, l, "sa")
	for id, want := range map[string]struct {
		status check.Status
		says   string
	}{
		"Q5-sysadmin": {check.OK, "member of sysadmin"}, "Q16-free": {check.OK, "5120 MiB free of 9216 MiB (NTFS)"}, "Q9-ntfs": {check.OK, "NTFS"},
		"Q4-shadow": {check.OK, "MiB of databases"}, "Q6-model": {check.OK, "plain"}, "S-offline-left-out": {check.Warning, "lost"},
		"sql-databases": {check.OK, "are backed up"}, "Q25-restoring": {check.OK, "none"}, "S-version": {check.OK, "16."},
	} {
		if line := got[id]; line.Status != want.status || !strings.Contains(line.Detail, want.says) {
			t.Errorf("%s: %+v, want %s with %q", id, line, want.status, want.says)
		}
	}
	space, system = 1<<20, "FAT32"
	got = sql(t, l, "sa")
	for id, status := range map[string]check.Status{"Q16-free": check.Failed, "Q9-ntfs": check.Warning, "Q4-shadow": check.Warning} {
		if got[id].Status != status {
			t.Errorf("narrow volume: %+v", got[id])
		}
	}
	space = 1 << 30
	if line := sql(t, l, "sa")["Q16-free"]; line.Status != check.OK {
		t.Errorf("volume with just enough room: %+v", line)
	}
}

// TestLooksAtTheMachine: somebody listens where another product's agent would.
func TestLooksAtTheMachine(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	o := check.MachineOptions{Port: taken.Addr().(*net.TCPAddr).Port}
	if line := byID(t, check.Machine(t.Context(), o))["Q1-port-other"]; line.Status != check.Warning {
		t.Errorf("port that is taken: %+v", line)
	}
	must(t, taken.Close())
	got := byID(t, check.Machine(t.Context(), o))
	if got["Q1-port-other"].Status != check.OK || got["system"].Status != check.OK || got["vdi"].ID == "" || got["Q5-elevated"].ID == "" {
		t.Errorf("machine: %+v", got)
	}
}
