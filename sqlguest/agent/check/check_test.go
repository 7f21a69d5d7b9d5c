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

// lines are the looks at a laboratory, by name.
func lines(t *testing.T, l *lab.Lab, user string, o check.Options) map[string]check.Line {
	t.Helper()
	s, err := direct.Open(t.Context(), direct.Options{Address: l.Address(), User: user})
	must(t, err)
	defer s.Close()
	all := map[string]check.Line{}
	for _, line := range check.All(t.Context(), s, o) {
		if line.OK == (line.Remedy != "") {
			t.Errorf("a remedy belongs to what is not well, and only there: %+v", line)
		}
		all[line.Name] = line
	}
	return all
}

func TestLooksTellWhatIsNotWell(t *testing.T) {
	space := int64(5 << 30)
	l, err := lab.Start(lab.Options{
		Logins: []lab.Login{{Name: "sa", Sysadmin: true}, {Name: "clerk"}},
		Volume: func(string) (string, int64, int64, string) { return `C:\`, space, 9 << 30, "NTFS" },
	})
	must(t, err)
	defer l.Close()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	port := taken.Addr().(*net.TCPAddr).Port
	busy := lines(t, l, "clerk", check.Options{Port: port})
	must(t, taken.Close())
	if busy["sysadmin"].OK || !strings.Contains(busy["sysadmin"].Remedy, "sysadmin") {
		t.Errorf("login without the role: %+v", busy["sysadmin"])
	}
	for name, line := range busy {
		if strings.HasPrefix(name, "port ") && line.OK {
			t.Errorf("port that is taken: %+v", line)
		}
	}
	space = 1 << 20
	free := lines(t, l, "sa", check.Options{Port: port})
	if !free["sysadmin"].OK {
		t.Errorf("login with the role: %+v", free["sysadmin"])
	}
	if line, ok := free[`free space on C:\`]; !ok || line.OK || line.Detail != "1 MiB free (NTFS)" {
		t.Errorf("full volume: %+v", free)
	}
	space = 1 << 30
	if line := lines(t, l, "sa", check.Options{Port: port})[`free space on C:\`]; !line.OK {
		t.Errorf("volume with room: %+v", line)
	}
}
