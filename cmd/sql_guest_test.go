package cmd

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/cmd/practice"
	"holdfast/vmware/lab"
)

// guestWorld is the real program, a vCenter, and SQL Servers in the guest of sql01.
type guestWorld struct {
	t       *testing.T
	program string
	env     map[string]string
	lab     *lab.Lab
	sql     *practice.SQL
}

func newGuestWorld(t *testing.T, instances ...string) *guestWorld {
	t.Helper()
	dir := t.TempDir()
	w := &guestWorld{t: t, program: theProgram(t)}
	var err error
	w.lab, err = lab.Start(t.Context(), lab.Options{})
	w.must(err)
	t.Cleanup(func() { w.lab.Close() })
	w.sql, err = practice.StartSQL("")
	w.must(err)
	t.Cleanup(func() { w.must(w.sql.Close()) })
	for _, name := range instances {
		_, err := w.sql.AddInstance(name)
		w.must(err)
	}
	w.env, err = w.sql.AddSQL01(w.lab)
	w.must(err)
	maps.Copy(w.env, w.lab.Env())
	w.env["HOLDFAST_REPOSITORY"], w.env["HOLDFAST_PASSWORD"] = filepath.Join(dir, "r"), "a password"
	w.env["XDG_CACHE_HOME"], w.env["HOME"], w.env["PATH"] = filepath.Join(dir, "cache"), dir, os.Getenv("PATH")
	w.run(0, "init")
	return w
}

func (w *guestWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// run runs the program with --json; it must end with the code. It returns
// "source kind rule" of each point and skip, in their order, and everything written.
func (w *guestWorld) run(code int, args ...string) (did []string, all string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 3*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, w.program, append(args, "--json")...)
	for name, value := range w.env {
		c.Env = append(c.Env, name+"="+value)
	}
	out, _ := c.CombinedOutput() // the code tells
	if got := c.ProcessState.ExitCode(); got != code {
		w.t.Fatalf("holdfast %s: code %d, want %d\n%s", strings.Join(args, " "), got, code, out)
	}
	for line := range strings.Lines(string(out)) {
		var m struct {
			Type               string `json:"message_type"`
			Source, Kind, Rule string
		}
		if json.Unmarshal([]byte(line), &m) == nil && (m.Type == "summary" || m.Type == "skipped") && !isSystem(m.Source) {
			did = append(did, strings.Join(strings.Fields(m.Source+" "+m.Kind+" "+m.Rule), " "))
		}
	}
	return did, string(out)
}

// isSystem tells whether the source is one of SQL Server's own databases.
func isSystem(source string) bool {
	name := source[strings.LastIndex(source, "/")+1:]
	return slices.Contains([]string{"master", "model", "msdb", "tempdb"}, name)
}

func (w *guestWorld) want(got []string, want ...string) {
	w.t.Helper()
	if !slices.Equal(got, want) {
		w.t.Errorf("got  %q\nwant %q", got, want)
	}
}

func (w *guestWorld) guestIsClean() {
	w.t.Helper()
	left, err := os.ReadDir(filepath.Join(w.lab.VM("sql01").GuestDir(), "var", "lib", "holdfast-agent"))
	if err != nil && !os.IsNotExist(err) || len(left) != 0 {
		w.t.Errorf("left in the guest: %v %v", left, err)
	}
}

// TestAllSQLServersOfAVMAreProtected: two instances in one guest, and one that is down
// does not keep the other from its backup.
func TestAllSQLServersOfAVMAreProtected(t *testing.T) {
	w := newGuestWorld(t, "REPORTS")
	did, _ := w.run(0, "backup", "sql", "--vm", "sql01", "-d", "sales", "-d", "stock")
	w.want(did, "sql/sql01/sales sql-full M12", "sql/sql01/sales sql-log S-log", "sql/sql01/stock sql-full M11.1",
		`sql/sql01\REPORTS/sales sql-full M12`, `sql/sql01\REPORTS/sales sql-log S-log`, `sql/sql01\REPORTS/stock sql-full M11.1`)
	w.guestIsClean()
	_, all := w.run(0, "sql", "databases", "--vm", "sql01")
	if !strings.Contains(all, `"server":"SQL01","name":"stock"`) || !strings.Contains(all, `"server":"SQL01\\REPORTS","name":"stock"`) {
		t.Errorf("databases:\n%s", all)
	}

	// SQL-5: reached without the VM it is the same server, and its logs go on.
	did, _ = w.run(0, "backup", "sql", "--instance", w.sql.Address(), "--type", "log", "-d", "sales")
	w.want(did, "sql/SQL01/sales sql-log S-log")
	did, _ = w.run(0, "backup", "sql", "--vm", "sql01", "--type", "log", "-d", "sales")
	w.want(did, "sql/sql01/sales sql-log S-log", `sql/sql01\REPORTS/sales sql-log S-log`)

	w.must(w.sql.StopService())
	did, all = w.run(3, "backup", "sql", "--vm", "sql01", "--type", "log", "-d", "sales")
	w.want(did, `sql/sql01\REPORTS/sales sql-log S-log`)
	if !strings.Contains(all, w.sql.Address()) {
		t.Errorf("nobody says which one is down:\n%s", all)
	}
	w.guestIsClean()
}

// TestV3DatabasesBeforeTheSnapshot: --app sql takes the databases first; what fails
// there does not keep the VM from its point, and the exit code says that something is
// missing.
func TestV3DatabasesBeforeTheSnapshot(t *testing.T) {
	w := newGuestWorld(t)
	vm := []string{"backup", "vm", "sql01", "--app", "sql", "--consistency", "crash"}
	did, _ := w.run(0, vm...)
	if n := len(did) - 1; n < 4 || did[0] != "sql/sql01/sales sql-full M12" || !strings.HasPrefix(did[n], "vm/sql01 vm") {
		t.Errorf("did %q", did)
	}
	w.guestIsClean()
	good := w.env["HOLDFAST_SQL_PASSWORD"]
	w.env["HOLDFAST_SQL_PASSWORD"] = "wrong"
	did, all := w.run(3, vm...)
	if len(did) != 1 || !strings.HasPrefix(did[0], "vm/sql01 ") || !strings.Contains(all, "sql/sql01") {
		t.Errorf("did %q\n%s", did, all)
	}
	w.env["HOLDFAST_SQL_PASSWORD"] = good
	delete(w.env, "HOLDFAST_GUEST_USER")
	if did, _ := w.run(1, vm...); len(did) > 0 {
		t.Errorf("did %q without a login to the guest", did)
	}
	w.run(1, "backup", "vm", "sql01", "--app", "oracle")
	w.guestIsClean()
}
