package lab

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"holdfast/sqlguest/lab/tds"
)

// freetds runs a script by FreeTDS' tsql, a client that nobody here wrote, and returns
// the rows and, apart, the messages that it prints.
func freetds(t *testing.T, l *Lab, script string) (rows, messages string) {
	t.Helper()
	path, err := exec.LookPath("tsql")
	if err != nil {
		demand(t, "FreeTDS' tsql (package freetds-bin) is not installed")
	}
	host, port, err := net.SplitHostPort(l.Address())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "-H", host, "-p", port, "-U", "sa", "-P", "secret", "-o", "fh")
	cmd.Env = append(os.Environ(), "TDSVER=7.4", "LC_ALL=C.UTF-8", "HOME="+t.TempDir())
	cmd.Stdin = strings.NewReader(script)
	var out, told strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &told
	if err := cmd.Run(); err != nil {
		t.Fatalf("tsql: %v\n%s%s", err, out.String(), told.String())
	}
	return out.String(), told.String()
}

// inOrder demands that all texts stand in out, one after the other.
func inOrder(t *testing.T, out string, texts ...string) {
	t.Helper()
	at := 0
	for _, want := range texts {
		i := strings.Index(out[at:], want)
		if i < 0 {
			t.Fatalf("%q is missing after\n%s\nin\n%s", want, out[:at], out)
		}
		at += i + len(want)
	}
}

func TestFreeTDSLivesThroughADatabasesLife(t *testing.T) {
	script, err := os.ReadFile("testdata/cycle.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []tds.Encryption{tds.EncryptLogin, tds.EncryptAll, tds.EncryptNone, tds.EncryptMust} {
		l := start(t, Options{Logins: []Login{{Name: "sa", Password: "secret", Sysadmin: true}}, Encryption: e})
		rows, messages := freetds(t, l, string(script))
		inOrder(t, rows, "1\tAda\tDec 10 1815", "12.50", "Grace", "7.00", "5\n", "Ada is back", "extra 3 is back", "round 'trip\tleave\tthey leave")
		inOrder(t, messages, "66 percent processed", "BACKUP DATABASE successfully processed", "BACKUP LOG successfully processed", "Msg 208",
			"RESTORE DATABASE successfully processed", "RESTORE LOG successfully processed", "Msg 911", "Msg 3013", "the end")
	}
}
