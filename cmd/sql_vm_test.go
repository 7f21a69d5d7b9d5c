package cmd

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/cmd/practice"
	"holdfast/vmware/lab"
)

// TestDatabasesOfAVMAreBackedUpByTheAgent: the real program puts itself into the
// laboratory's guest, and nothing of it is left there, whatever became of the run.
func TestDatabasesOfAVMAreBackedUpByTheAgent(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	program := theProgram(t)
	l, err := lab.Start(ctx, lab.Options{})
	must(err)
	defer l.Close()
	sql, err := practice.StartSQL("")
	must(err)
	defer sql.Close() //nolint:errcheck // it goes as a whole
	env, err := sql.AddSQL01(l)
	must(err)
	maps.Copy(env, l.Env())
	env["HOLDFAST_REPOSITORY"], env["HOLDFAST_PASSWORD"] = filepath.Join(dir, "r"), "a password"
	env["XDG_CACHE_HOME"], env["HOME"], env["PATH"] = filepath.Join(dir, "cache"), dir, os.Getenv("PATH")
	run := func(code int, says string, args ...string) {
		t.Helper()
		c := exec.CommandContext(ctx, program, args...)
		for name, value := range env {
			c.Env = append(c.Env, name+"="+value)
		}
		out, _ := c.CombinedOutput() // the code tells
		if got := c.ProcessState.ExitCode(); got != code || !strings.Contains(string(out), says) {
			t.Fatalf("holdfast %s: code %d, want %d with %q\n%s", strings.Join(args, " "), got, code, says, out)
		}
	}
	run(0, "made repository", "init")
	run(0, `"name":"stock","model":"SIMPLE"`, "sql", "databases", "--vm", "sql01", "--json")
	run(0, `"source":"sql/sql01/it's, ünï"`, "backup", "sql", "--vm", "sql01", "--json")
	run(0, `"kind":"sql-log"`, "backup", "sql", "--vm", "sql01", "--type", "log", "-d", "sales", "--json")
	run(1, "--vm and --instance", "backup", "sql", "--vm", "sql01", "--instance", ".")
	run(1, "no such virtual machine", "backup", "sql", "--vm", "nobody")
	good, guest := env["HOLDFAST_SQL_PASSWORD"], env["HOLDFAST_GUEST_PASSWORD"]
	env["HOLDFAST_SQL_PASSWORD"] = "wrong"
	run(14, "Login failed", "backup", "sql", "--vm", "sql01")
	env["HOLDFAST_SQL_PASSWORD"], env["HOLDFAST_GUEST_PASSWORD"] = good, "wrong"
	run(14, "guest refused the login", "backup", "sql", "--vm", "sql01")
	env["HOLDFAST_GUEST_PASSWORD"] = guest
	run(0, "database sales on SQL01, which is open", "restore", "sql", "sales", "--replace", "--kick-users") // to where it came from
	run(0, "database elsewhere on SQL01, which is open", "restore", "sql", "sql01/sales", "--as", "elsewhere", "--to-instance", sql.Address())
	run(0, "0 damaged", "check")
	left, err := os.ReadDir(filepath.Join(l.VM("sql01").GuestDir(), "var", "lib", "holdfast-agent"))
	if !os.IsNotExist(err) || len(left) != 0 {
		t.Errorf("left in the guest: %v %v", left, err)
	}
}
