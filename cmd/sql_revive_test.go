package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/cmd/practice"
	"holdfast/sqlguest/direct"
	sqllab "holdfast/sqlguest/lab"
)

// reviveWorld is a guestWorld with a second SQL Server: the one on the disks of the VM
// that will be restored, as they were before anything happened.
type reviveWorld struct {
	*guestWorld
	disks *sqllab.Lab
	gate  atomic.Pointer[restoreGate] // nil: restores open their backups at once
}

// restoreGate holds a restore that opens a backup, and tells that one has come.
type restoreGate struct{ entered, release chan struct{} }

func (g *restoreGate) pass() {
	select {
	case g.entered <- struct{}{}:
	case <-g.release:
	}
	<-g.release
}

func newReviveWorld(t *testing.T, instances ...string) *reviveWorld {
	t.Helper()
	w := &reviveWorld{guestWorld: newGuestWorld(t, instances...)}
	w.disks = w.onDisks("SQL01", 0)
	return w
}

// onDisks is a SQL Server on the disks. The seed makes all GUIDs: those of the original.
func (w *reviveWorld) onDisks(name string, seed uint64) *sqllab.Lab {
	w.t.Helper()
	l, err := sqllab.Start(sqllab.Options{Name: name, Sample: true, BackupDirectory: w.t.TempDir(), Seed: seed,
		Logins: []sqllab.Login{{Name: w.sql.User, Password: w.sql.Password, Sysadmin: true}},
		Path: func(path string) string {
			if g := w.gate.Load(); g != nil {
				g.pass()
			}
			return path
		}})
	w.must(err)
	w.t.Cleanup(func() { w.must(l.Close()) })
	return l
}

// on runs T-SQL at an address and gives the values of its result.
func (w *reviveWorld) on(address, text string) string {
	w.t.Helper()
	s, err := direct.Open(w.t.Context(), direct.Options{Address: address, User: w.sql.User, Password: w.sql.Password})
	w.must(err)
	defer s.Close() //nolint:errcheck // a test's connection
	rows, err := s.Query(w.t.Context(), text)
	w.must(err)
	var all []string
	for _, row := range rows.Values {
		for _, v := range row {
			all = append(all, fmt.Sprint(v))
		}
	}
	return strings.Join(all, " ")
}

// rows are what sales holds at an address of what this test wrote.
func (w *reviveWorld) rows(address string) string {
	return w.on(address, "SELECT name FROM sales.dbo.customers WHERE id > 20 ORDER BY id")
}

func (w *reviveWorld) write(address string, id int, name string) {
	w.on(address, fmt.Sprintf("INSERT INTO sales.dbo.customers (id, name) VALUES (%d, N'%s')", id, name))
}

// restoring points the program at the restored machine's own SQL Server; the returned
// function points it back.
func (w *reviveWorld) restoring() (back func()) {
	was := w.env["HOLDFAST_SQL_ADDRESS"]
	w.env["HOLDFAST_SQL_ADDRESS"] = w.disks.Address()
	return func() { w.env["HOLDFAST_SQL_ADDRESS"] = was }
}

// command is the program with the world's variables.
func (w *reviveWorld) command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, w.program, args...)
	for name, value := range w.env {
		c.Env = append(c.Env, name+"="+value)
	}
	return c
}

// plain is what the program writes without --json.
func (w *reviveWorld) plain(code int, args ...string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 3*time.Minute)
	defer cancel()
	c := w.command(ctx, args...)
	out, _ := c.CombinedOutput() // the code tells
	if got := c.ProcessState.ExitCode(); got != code {
		w.t.Fatalf("holdfast %s: code %d, want %d\n%s", strings.Join(args, " "), got, code, out)
	}
	return string(out)
}

// clean tells that nothing of an agent is left in the guest of a VM.
func (w *reviveWorld) clean(vm string) {
	w.t.Helper()
	left, err := os.ReadDir(filepath.Join(w.lab.VM(vm).GuestDir(), "var", "lib", "holdfast-agent"))
	if err != nil && !os.IsNotExist(err) || len(left) != 0 {
		w.t.Errorf("left in the guest of %s: %v %v", vm, left, err)
	}
}

// ids are the points of a source, the oldest first.
func (w *reviveWorld) ids(source string) (list []string) {
	w.t.Helper()
	_, all := w.run(0, "points", "--source", source)
	var points []struct{ ID, Source string }
	w.must(json.Unmarshal([]byte(all), &points))
	for _, p := range points {
		list = append(list, p.ID)
	}
	if len(list) == 0 {
		w.t.Fatalf("no points of %s", source)
	}
	return list
}

func (w *reviveWorld) latest(source string) string {
	list := w.ids(source)
	return list[len(list)-1]
}

// says tells that all of the texts were written.
func (w *reviveWorld) says(all string, texts ...string) {
	w.t.Helper()
	for _, text := range texts {
		if !strings.Contains(all, text) {
			w.t.Errorf("%q is missing in\n%s", text, all)
		}
	}
}

// TestV12DatabasesAreTheLastStepOfARestore: the databases of a VM come back to what was
// stored in the run that made its point, inside the new VM; the original, which is
// alive, and its chain are not touched.
func TestV12DatabasesAreTheLastStepOfARestore(t *testing.T) {
	w := newReviveWorld(t)
	w.write(w.sql.Address(), 21, "run")
	w.run(0, "backup", "vm", "sql01", "--app", "sql", "--consistency", "crash")
	w.write(w.sql.Address(), 22, "later")
	w.run(0, "backup", "sql", "--vm", "sql01", "--type", "log", "-d", "sales") // of another run than the VM's point
	w.write(w.sql.Address(), 23, "alive")
	w.write(w.disks.Address(), 24, "disks")
	_, before := w.run(0, "points")
	defer w.restoring()()

	_, all := w.run(0, "restore", "vm", "latest:vm/sql01", "--name", "again", "--app", "sql", "--plan")
	w.says(all, `"power_on":true`, `"databases":[{"source":"sql/sql01/`, `"source":"sql/sql01/sales","database":"sales","point":"`, `"system":true`)
	w.says(w.plain(0, "restore", "vm", "latest:vm/sql01", "--name", "again", "--app", "sql", "--plan"),
		"then        the VM is powered on, and its databases are restored inside it", "database    sql/sql01/sales, at ", ", backups: 1")
	w.want(w.lab.VMs(), "sql01")
	did, all := w.run(0, "restore", "vm", "latest:vm/sql01", "--name", "again", "--app", "sql")
	w.want(did, "sql/sql01/it's, ünï", "sql/sql01/sales", "sql/sql01/stock", "vm/sql01")
	w.says(all, `"source":"sql/sql01/sales","database":"sales","server":"SQL01"`, `"source":"sql/sql01/master","rule":"M22"`, `"target":"again"`, `"state":"recovery"`)
	if strings.Contains(all, `"kind":"sql-log"`) {
		t.Errorf("a backup was taken of the copy:\n%s", all)
	}
	if got := w.rows(w.disks.Address()); got != "run" {
		t.Errorf("the restored VM's sales has %q", got)
	}
	if got := w.rows(w.sql.Address()); got != "run later alive" {
		t.Errorf("the original's sales has %q", got)
	}
	if _, after := w.run(0, "points"); after != before {
		t.Errorf("points came or went:\n%s\n%s", before, after)
	}
	w.clean("again")
	w.guestIsClean()
	w.env["HOLDFAST_SQL_ADDRESS"] = w.sql.Address()
	did, _ = w.run(0, "backup", "sql", "--vm", "sql01", "--type", "log", "-d", "sales")
	w.want(did, "sql/sql01/sales sql-log S-log")
}

// TestV12EachInstanceGetsItsOwn: two SQL Servers in the guest have databases of the same
// names.
func TestV12EachInstanceGetsItsOwn(t *testing.T) {
	w := newReviveWorld(t, "REPORTS")
	first, second, _ := strings.Cut(w.env["HOLDFAST_SQL_ADDRESS"], " ")
	w.write(first, 21, "first")
	w.write(second, 21, "second")
	w.run(0, "backup", "vm", "sql01", "--app", "sql", "--consistency", "crash")
	reports := w.onDisks(`SQL01\REPORTS`, 1)
	w.env["HOLDFAST_SQL_ADDRESS"] = reports.Address() + " " + w.disks.Address() // in another order
	did, all := w.run(0, "restore", "vm", "latest:vm/sql01", "--name", "again", "--app", "sql")
	if len(did) != 7 || did[6] != "vm/sql01" {
		t.Errorf("did %q\n%s", did, all)
	}
	if got := w.rows(w.disks.Address()) + " " + w.rows(reports.Address()); got != "first second" {
		t.Errorf("the restored VM's two sales have %q", got)
	}
	w.clean("again")
}

// TestV12NeverIntoAnotherMachine: before anything is made the run refuses what might
// lead elsewhere, and what has nothing to restore.
func TestV12NeverIntoAnotherMachine(t *testing.T) {
	w := newReviveWorld(t)
	vm := []string{"restore", "vm", "latest:vm/sql01", "--name", "again", "--app", "sql"}
	w.run(0, "backup", "vm", "sql01", "--consistency", "crash")
	_, all := w.run(16, vm...)
	w.says(all, "the disks are newer than the backups of the databases", "was made without them", "leave --app away")
	w.run(1, append(vm[:5:5], "--app", "oracle")...)
	w.run(0, "backup", "vm", "sql01", "--app", "sql", "--consistency", "crash")
	w.run(1, append(vm[:len(vm):len(vm)], "--disk", "2000")...)
	for _, address := range []string{"sql01", "10.0.0.7:1433", `SQL01\TWO`, w.disks.Address() + " sql01"} {
		w.env["HOLDFAST_SQL_ADDRESS"] = address
		_, all := w.run(16, vm...)
		w.says(all, "is not the restored machine's own")
		w.run(16, append(vm[:len(vm):len(vm)], "--plan")...)
	}
	w.want(w.lab.VMs(), "sql01")
}

// TestV12WhatCannotBeRestoredStaysAsTheDisksHaveIt: of several databases some fail (3);
// one that the disks do not have any more is not brought back.
func TestV12WhatCannotBeRestoredStaysAsTheDisksHaveIt(t *testing.T) {
	w := newReviveWorld(t)
	w.run(0, "backup", "vm", "sql01", "--app", "sql", "--consistency", "crash")
	defer w.restoring()()
	w.on(w.disks.Address(), "DROP DATABASE stock")
	w.on(w.disks.Address(), "CREATE DATABASE stock") // another one
	w.on(w.disks.Address(), "DROP DATABASE [it's, ünï]")
	did, all := w.run(3, "restore", "vm", "latest:vm/sql01", "--name", "again", "--app", "sql")
	w.want(did, "sql/sql01/it's, ünï V12-gone", "sql/sql01/sales", "vm/sql01")
	w.says(all, `"item":"sql/sql01/stock"`, "database stock there is not the one of these backups", `"code":3`)
	if got := w.on(w.disks.Address(), "SELECT COUNT(*) FROM sys.databases WHERE name LIKE 'it%'"); got != "0" {
		t.Errorf("a database that was dropped came back")
	}

	// None can be: the exit code is that of the reason, and the VM stays all the same.
	w.env["HOLDFAST_SQL_PASSWORD"] = "wrong"
	did, all = w.run(14, "restore", "vm", "latest:vm/sql01", "--name", "third", "--app", "sql")
	w.want(did, "vm/sql01")
	w.says(all, "third is restored, verified and powered on, and stays; none of its databases was restored", "18456", "3 databases not reached",
		"check HOLDFAST_SQL_USER", "then holdfast restore sql", " --to-vm third --point ", " --replace ") // the same command again would meet the name
	w.says(strings.Join(w.lab.VMs(), " "), "again sql01 third")
	w.clean("third")
	text := w.plain(14, "restore", "vm", "latest:vm/sql01", "--name", "fourth", "--app", "sql") // told once, not once a database
	if strings.Count(text, "18456") != 1 || strings.Count(text, "hint: ") != 1 {
		t.Errorf("told not once, or without a hint:\n%s", text)
	}
}

// TestV12DroppedDatabasesAreNotMissing: neither one that was dropped since, whatever its
// backups are worth, nor one that was dropped and made anew before the run, which knew the
// new one alone.
func TestV12DroppedDatabasesAreNotMissing(t *testing.T) {
	w := newReviveWorld(t)
	w.run(0, "backup", "vm", "sql01", "--app", "sql", "--consistency", "crash")
	w.on(w.sql.Address(), "DROP DATABASE stock")
	w.on(w.sql.Address(), "CREATE DATABASE stock")
	w.on(w.sql.Address(), "ALTER DATABASE [it's, ünï] SET OFFLINE")
	w.run(3, "backup", "vm", "sql01", "--app", "sql", "--consistency", "crash")
	w.on(w.sql.Address(), "DROP DATABASE [it's, ünï]")                                          // so that it has backups of no use, and is not there
	did, all := w.run(0, "restore", "vm", "latest:vm/sql01", "--name", "again", "--app", "sql") // in the laboratory, over the same server
	w.want(did, "sql/sql01/it's, ünï V12-gone", "sql/sql01/sales", "sql/sql01/stock", "vm/sql01")
	if strings.Contains(all, "a later database is called stock") {
		t.Errorf("the run's own list was not asked:\n%s", all)
	}
}

// TestV12PointWhoseRunWasNotDoneWithItsDatabasesIsRefused: the disks of such a point are
// newer than every backup of its databases, so that nothing is made; --plan says so, too,
// and show tells it of the point. What another run did before is of no matter.
func TestV12PointWhoseRunWasNotDoneWithItsDatabasesIsRefused(t *testing.T) {
	w := newReviveWorld(t)
	w.run(0, "backup", "vm", "sql01", "--app", "sql", "--consistency", "crash")
	w.says(w.plain(0, "show", "latest:vm/sql01"), "databases    backed up by ")
	good := w.env["HOLDFAST_SQL_PASSWORD"]
	w.env["HOLDFAST_SQL_PASSWORD"] = "wrong"
	w.run(3, "backup", "vm", "sql01", "--app", "sql", "--consistency", "crash")
	w.env["HOLDFAST_SQL_PASSWORD"] = good
	w.says(w.plain(0, "show", "latest:vm/sql01"), "databases    could not be backed up in this run")
	_, all := w.run(0, "show", "latest:vm/sql01")
	w.says(all, `"apps":{"failed":true}`)
	vm := []string{"restore", "vm", "latest:vm/sql01", "--name", "again", "--app", "sql"}
	for _, args := range [][]string{vm, append(vm[:len(vm):len(vm)], "--plan")} {
		_, all := w.run(16, args...)
		w.says(all, "the disks are newer than the backups of the databases", "could not back them up", "leave --app away: the disks have the databases", "holdfast restore sql")
	}
	w.want(w.lab.VMs(), "sql01")

	w.run(0, "backup", "vm", "sql01", "--consistency", "crash")
	if text := w.plain(0, "show", "latest:vm/sql01"); strings.Contains(text, "databases  ") {
		t.Errorf("a point made without --app speaks of databases:\n%s", text)
	}
	w.run(16, vm...)
	w.want(w.lab.VMs(), "sql01")
}

// TestV12MissedInTheRunStaysAsTheDisksHaveIt: a database whose backup failed when the VM
// was backed up is newer on the disks than in any point.
func TestV12MissedInTheRunStaysAsTheDisksHaveIt(t *testing.T) {
	w := newReviveWorld(t)
	w.run(0, "backup", "vm", "sql01", "--app", "sql", "--consistency", "crash")
	w.on(w.sql.Address(), "ALTER DATABASE sales SET OFFLINE")
	w.run(3, "backup", "vm", "sql01", "--app", "sql", "--consistency", "crash")
	defer w.restoring()()
	w.write(w.disks.Address(), 24, "disks")
	_, all := w.run(3, "restore", "vm", "latest:vm/sql01", "--name", "again", "--app", "sql")
	w.says(all, "it has no point of the run", `"source":"sql/sql01/stock","database":"stock"`)
	if got := w.rows(w.disks.Address()); got != "disks" {
		t.Errorf("the restored VM's sales has %q", got)
	}

	for _, name := range []string{"stock", "[it's, ünï]"} { // none is left
		w.on(w.sql.Address(), "ALTER DATABASE "+name+" SET OFFLINE")
	}
	w.env["HOLDFAST_SQL_ADDRESS"] = w.sql.Address()
	w.run(3, "backup", "vm", "sql01", "--app", "sql", "--consistency", "crash")
	_, all = w.run(15, "restore", "vm", "latest:vm/sql01", "--name", "third", "--app", "sql")
	w.says(all, "third is restored, verified and powered on, and stays; none of its databases was restored", `"target":"third"`)
	w.want(w.lab.VMs(), "again", "sql01", "third")
}

// TestV12ForgottenBackupsAreNotSilence: the VM's point knows which databases its run
// protected. One whose backups were forgotten since stays as the disks have it, and that
// is said, by --plan, too; one that was dropped before the run is not spoken of.
func TestV12ForgottenBackupsAreNotSilence(t *testing.T) {
	w := newReviveWorld(t)
	w.on(w.sql.Address(), "CREATE DATABASE old")
	w.run(0, "backup", "sql", "--vm", "sql01", "-d", "old")
	w.on(w.sql.Address(), "DROP DATABASE old")
	w.run(0, "backup", "vm", "sql01", "--app", "sql", "--consistency", "crash")
	point := w.latest("vm/sql01")
	w.says(w.plain(0, "show", point), "sql/sql01/sales up to point "+w.latest("sql/sql01/sales"), "sql/sql01/stock up to point "+w.latest("sql/sql01/stock"))
	stocks := w.ids("sql/sql01/stock")
	last := w.latest("sql/sql01/sales")
	w.run(0, append([]string{"forget", last}, stocks...)...)
	w.run(0, "backup", "sql", "--vm", "sql01", "--type", "full", "-d", "stock", "-d", "sales") // of later: no use to that point
	defer w.restoring()()
	w.write(w.disks.Address(), 24, "disks")

	restore := []string{"restore", "vm", point, "--name", "again", "--app", "sql"}
	plan := w.plain(0, append(restore[:len(restore):len(restore)], "--plan")...)
	const lost = " stays as the disks have it: the backup that it would come to is not in the repository any more, or cannot be read: point "
	w.says(plan, "warning     sql/sql01/sales"+lost+last, "warning     sql/sql01/stock"+lost, "database    sql/sql01/it's, ünï, at ")
	if strings.Contains(plan, "sql/sql01/old") {
		t.Errorf("a database that was dropped before the run:\n%s", plan)
	}
	did, all := w.run(3, restore...)
	w.want(did, "sql/sql01/it's, ünï", "vm/sql01")
	w.says(all, `"item":"sql/sql01/stock"`, `"item":"sql/sql01/sales"`, `"code":3`, "left as the virtual machine's disks have it: the backup that it would come to")
	if got := w.rows(w.disks.Address()); got != "disks" {
		t.Errorf("the restored VM's sales has %q", got)
	}

	w.run(0, append([]string{"forget"}, w.ids("sql/sql01/it's, ünï")...)...)
	w.run(0, append([]string{"forget"}, w.ids("sql/sql01/sales")...)...)
	_, all = w.run(16, append(restore[:3:3], "--name", "third", "--app", "sql")...) // nothing of any is left
	w.says(all, "the repository holds no databases of this virtual machine from before its point: sql/sql01/it's, ünï, sql/sql01/sales, sql/sql01/stock")
	w.want(w.lab.VMs(), "again", "sql01")
}

// TestV12PlanAndRestoreTellTheSameMoment: where the logs since the last change are empty a
// restore needs none of them, and comes to the end of the newest all the same.
func TestV12PlanAndRestoreTellTheSameMoment(t *testing.T) {
	w := newReviveWorld(t)
	w.run(0, "backup", "vm", "sql01", "--app", "sql", "--consistency", "crash")
	w.write(w.sql.Address(), 21, "run")
	w.run(0, "backup", "sql", "--vm", "sql01", "--type", "log", "-d", "sales")
	w.run(0, "backup", "vm", "sql01", "--app", "sql", "--consistency", "crash")
	defer w.restoring()()
	restore := []string{"restore", "vm", "latest:vm/sql01", "--name", "again", "--app", "sql"}
	told := regexp.MustCompile(`sales[^\n]*, at (20\S+ \S+ [^\s,:]+:[0-9]+)`)
	plan, did := w.plain(0, append(restore[:len(restore):len(restore)], "--plan")...), w.plain(0, restore...)
	a, b := told.FindStringSubmatch(plan), told.FindAllStringSubmatch(did, -1)
	if len(a) == 0 || len(b) < 2 {
		t.Fatalf("no moment in\n%s\n%s", plan, did)
	}
	for _, m := range b { // as it begins, and as it ends
		if m[1] != a[1] {
			t.Errorf("planned %s, told %s", a[1], m[1])
		}
	}
	if strings.Count(did, "is given up") != 3 { // stock is SIMPLE
		t.Errorf("not of each database:\n%s", did)
	}
}

// TestV12InterruptedWhileADatabaseIsRestored: 130, the agent is out, and the VM stays and
// is named.
func TestV12InterruptedWhileADatabaseIsRestored(t *testing.T) {
	w := newReviveWorld(t)
	w.run(0, "backup", "vm", "sql01", "--app", "sql", "--consistency", "crash")
	defer w.restoring()()
	g := &restoreGate{make(chan struct{}), make(chan struct{})}
	w.gate.Store(g)
	release := sync.OnceFunc(func() { close(g.release) })
	defer release()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := w.command(ctx, "restore", "vm", "latest:vm/sql01", "--name", "again", "--app", "sql")
	var out watched
	c.Stdout, c.Stderr = &out, &out
	w.must(c.Start())
	select {
	case <-g.entered:
	case <-ctx.Done():
		text, _ := out.state()
		t.Fatalf("no restore began:\n%s", text)
	}
	w.must(c.Process.Signal(os.Interrupt))
	out.await("cleaning up, please wait", time.Minute)
	w.must(c.Process.Signal(os.Interrupt))
	if _, ok := out.await("still cleaning up", time.Minute); !ok {
		t.Error("the second signal was not heard")
	}
	release()
	_ = c.Wait() // the code tells
	text, _ := out.state()
	if code := c.ProcessState.ExitCode(); code != 130 {
		t.Errorf("code %d", code)
	}
	w.says(text, "error: interrupted: again is restored, verified and powered on, and stays; of its databases 0 are restored", "--to-vm again --point")
	w.says(strings.Join(w.lab.VMs(), " "), "again sql01")
	w.clean("again")
}

// TestV12LabServesBothMachines: in the laboratory the original and the restored VM share
// one SQL Server.
func TestV12LabServesBothMachines(t *testing.T) {
	w := newReviveWorld(t)
	w.write(w.sql.Address(), 21, "run")
	w.run(0, "backup", "vm", "sql01", "--app", "sql", "--consistency", "crash")
	w.run(0, "restore", "vm", "latest:vm/sql01", "--name", "again", "--app", "sql")
	if got := w.rows(w.sql.Address()); got != "run" {
		t.Errorf("sales has %q", got)
	}
}

// TestV3VMWithoutSQLServerIsSkipped: a guest that is proven to have none costs the run
// nothing, and one that nobody can enter makes it incomplete; both VMs are backed up. A
// wrong password is told once, with what helps.
func TestV3VMWithoutSQLServerIsSkipped(t *testing.T) {
	w := newReviveWorld(t)
	if _, err := os.Stat("/opt/mssql/bin/sqlservr"); err == nil {
		t.Fatal("this machine, which plays the guest, has a SQL Server of its own")
	}
	vm := []string{"backup", "vm", "--all", "--app", "sql", "--consistency", "crash"}
	address := w.env["HOLDFAST_SQL_ADDRESS"]
	delete(w.env, "HOLDFAST_SQL_ADDRESS")
	did, all := w.run(0, vm...)
	w.want(did, "sql/sql01 S-none", did[len(did)-1])
	w.says(all, "no SQL Server is installed in the guest", `"source":"vm/sql01"`)
	w.env["HOLDFAST_SQL_ADDRESS"] = address

	w.must(practice.AddWeb01(w.lab)) // a guest with another login
	_, all = w.run(3, vm...)
	w.says(all, `"source":"vm/web01"`, `"source":"vm/sql01"`, `"item":"sql/web01"`, "guest refused the login", `"hint":"check HOLDFAST_GUEST_USER`)

	w.env["HOLDFAST_SQL_PASSWORD"] = "wrong"
	text := w.plain(3, "backup", "vm", "sql01", "--app", "sql", "--consistency", "crash")
	if strings.Count(text, "18456") != 1 || !strings.Contains(text, "hint: ") {
		t.Errorf("told not once, or without a hint:\n%s", text)
	}
}
