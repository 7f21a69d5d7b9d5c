package lab

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
	"golang.org/x/sync/errgroup"

	"holdfast/sqlguest/lab/backups"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/server"
	"holdfast/sqlguest/vdi"
)

// statement runs a BACKUP or RESTORE text on a connection, as package vdi wants it.
func statement(c queryer, text string, args ...any) vdi.Statement {
	return func(ctx context.Context) (*server.Outcome, error) {
		_, err := c.ExecContext(ctx, text, args...)
		var e mssql.Error
		if errors.As(err, &e) {
			out := &server.Error{}
			for _, m := range e.All {
				out.All = append(out.All, server.Message{Number: m.Number, Severity: m.Class, State: m.State, Text: m.Message})
			}
			return nil, out
		}
		return &server.Outcome{}, err
	}
}

// save runs a BACKUP over virtual devices and returns their bytes; with commit false it
// is aborted after everything has been read.
func save(t *testing.T, hub *bridge.Hub, c queryer, what string, devices int, commit bool) ([][]byte, error) {
	t.Helper()
	name := "{" + strings.ReplaceAll(fmt.Sprintf("%s %d", t.Name(), devices), "/", "-") + "}"
	set, err := hub.OpenSet(vdi.SetOptions{Name: name, Devices: devices})
	if err != nil {
		t.Fatal(err)
	}
	names := vdi.Names(name, devices)
	var clause []string
	for _, n := range names {
		clause = append(clause, "VIRTUAL_DEVICE=N'"+n+"'")
	}
	b, err := vdi.Save(t.Context(), set, names, statement(c, strings.Replace(what, "%s", strings.Join(clause, ", "), 1)), vdi.Options{})
	if err != nil {
		return nil, err
	}
	out := make([][]byte, devices)
	var g errgroup.Group
	for i, s := range b.Streams() {
		g.Go(func() error {
			var err error
			out[i], err = io.ReadAll(s)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, errors.Join(err, b.Abort(t.Context()))
	}
	if !commit {
		return out, b.Abort(t.Context())
	}
	_, err = b.Commit(t.Context())
	return out, err
}

// load runs a RESTORE from streams over virtual devices.
func load(t *testing.T, hub *bridge.Hub, c queryer, what string, streams [][]byte) error {
	t.Helper()
	name := "{restore " + strings.ReplaceAll(t.Name(), "/", "-") + "}"
	set, err := hub.OpenSet(vdi.SetOptions{Name: name, Devices: len(streams)})
	if err != nil {
		t.Fatal(err)
	}
	names := vdi.Names(name, len(streams))
	var clause []string
	var readers []io.Reader
	for i, n := range names {
		clause = append(clause, "VIRTUAL_DEVICE=N'"+n+"'")
		readers = append(readers, bytes.NewReader(streams[i]))
	}
	_, err = vdi.Load(t.Context(), set, names, readers, statement(c, strings.Replace(what, "%s", strings.Join(clause, ", "), 1)), vdi.Options{})
	return err
}

func TestVirtualDevicesCarryADatabaseToAnotherInstance(t *testing.T) {
	hub := bridge.NewHub(bridge.Options{})
	l := start(t, Options{Sample: true, Devices: hub})
	c := one(t, l)
	full, err := save(t, hub, c, "BACKUP DATABASE sales TO %s WITH CHECKSUM, MAXTRANSFERSIZE=65536, STATS=20", 3, true)
	if err != nil {
		t.Fatal(all(err))
	}
	run(t, c, "DELETE FROM sales.dbo.orders WHERE id>10")
	diff, err := save(t, hub, c, "BACKUP DATABASE sales TO %s WITH DIFFERENTIAL", 2, true)
	if err != nil {
		t.Fatal(err)
	}
	run(t, c, "INSERT INTO sales.dbo.customers VALUES (4,'after',NULL)")
	log, err := save(t, hub, c, "BACKUP LOG sales TO %s", 1, true)
	if err != nil {
		t.Fatal(err)
	}
	if got := tableOf(t, c, "SELECT type, COUNT(*) FROM msdb.dbo.backupset s JOIN msdb.dbo.backupmediafamily f ON f.media_set_id=s.media_set_id WHERE f.device_type=7 GROUP BY type ORDER BY type"); got != "D|3\nI|2\nL|1" {
		t.Errorf("msdb: %s", got)
	}
	otherHub := bridge.NewHub(bridge.Options{})
	other := one(t, start(t, Options{Name: `TWO`, Devices: otherHub, Seed: 2}))
	for _, step := range []struct {
		text    string
		streams [][]byte
	}{{"RESTORE DATABASE sales FROM %s WITH NORECOVERY, CHECKSUM", full}, {"RESTORE DATABASE sales FROM %s WITH NORECOVERY", diff}, {"RESTORE LOG sales FROM %s WITH RECOVERY", log}} {
		if err := load(t, otherHub, other, step.text, step.streams); err != nil {
			t.Fatal(step.text, err)
		}
	}
	if got := tableOf(t, other, "SELECT (SELECT COUNT(*) FROM sales.dbo.orders), (SELECT MAX(name) FROM sales.dbo.customers WHERE id=4)"); got != "10|after" {
		t.Error(got)
	}
	if got := tableOf(t, other, "SELECT restore_type FROM msdb.dbo.restorehistory ORDER BY restore_history_id"); got != "D\nI\nL" {
		t.Error(got)
	}
}

func TestAbortedLogBackupTruncatesNothing(t *testing.T) {
	hub := bridge.NewHub(bridge.Options{})
	c := one(t, start(t, Options{Sample: true, Devices: hub}))
	if _, err := save(t, hub, c, "BACKUP DATABASE sales TO %s", 1, true); err != nil {
		t.Fatal(err)
	}
	state := "SELECT CONVERT(varchar(26),last_log_backup_lsn), (SELECT COUNT(*) FROM msdb.dbo.backupset) FROM sys.database_recovery_status WHERE database_id=DB_ID('sales')"
	before := tableOf(t, c, state)
	if _, err := save(t, hub, c, "BACKUP LOG sales TO %s", 2, false); err != nil {
		t.Fatalf("abort: %v", err)
	}
	if after := tableOf(t, c, state); after != before {
		t.Errorf("before %s, after %s", before, after)
	}
	if _, err := save(t, hub, c, "BACKUP LOG sales TO %s", 2, true); err != nil {
		t.Fatal(err)
	}
	if after := tableOf(t, c, state); after == before {
		t.Error("a committed log backup changed nothing")
	}
}

func TestStatementThatIsRefusedNeverTouchesItsDevices(t *testing.T) {
	hub := bridge.NewHub(bridge.Options{})
	c := one(t, start(t, Options{Sample: true, Devices: hub}))
	_, err := save(t, hub, c, "BACKUP LOG stock TO %s", 1, true)
	var e *server.Error
	if !errors.As(err, &e) || !e.Has(4208) || !e.Has(3013) {
		t.Fatal(err)
	}
	fails(t, c, "BACKUP DATABASE sales TO VIRTUAL_DEVICE='{nobody}'", 3201, 3013)
	fails(t, c, "BACKUP LOG sales TO VIRTUAL_DEVICE='{nobody}'", 4214, 3013)
}

func TestDiskBackupDropAndRestore(t *testing.T) {
	l := start(t, Options{Sample: true})
	c := one(t, l)
	run(t, c, `BACKUP DATABASE [it's, ünï] TO DISK=N'C:\Backup\a.bak' WITH INIT, NAME='first'`,
		`INSERT INTO [it's, ünï].dbo.notes VALUES (3,N'three')`,
		`DECLARE @db sysname = N'it''s, ünï', @to nvarchar(260) = N'C:\Backup\a.bak'; BACKUP LOG @db TO DISK=@to`,
		`DROP DATABASE [it's, ünï]`)
	fails(t, c, "SELECT * FROM [it's, ünï].dbo.notes", 208)
	if got := tableOf(t, c, `RESTORE HEADERONLY FROM DISK='C:\Backup\a.bak'`); !strings.HasPrefix(got, "first|<nil>|1|<nil>|false|1|2|sa|") || !strings.Contains(got, "\n<nil>|<nil>|2|<nil>|false|2|2|sa|") {
		t.Errorf("HEADERONLY: %s", got)
	}
	if got := tableOf(t, c, `RESTORE FILELISTONLY FROM DISK='C:\Backup\a.bak'`); !strings.Contains(got, `it's, ünï_log|`) {
		t.Errorf("FILELISTONLY: %s", got)
	}
	run(t, c, `RESTORE VERIFYONLY FROM DISK='C:\Backup\a.bak' WITH FILE=2`,
		`RESTORE DATABASE copy FROM DISK='C:\Backup\a.bak' WITH FILE=1, NORECOVERY, MOVE 'it''s, ünï' TO 'C:\Data\copy.mdf', MOVE 'it''s, ünï_log' TO 'C:\Log\copy.ldf'`)
	fails(t, c, "USE copy", 927)
	if got := tableOf(t, c, "SELECT state_desc FROM sys.databases WHERE name='copy'"); got != "RESTORING" {
		t.Error(got)
	}
	run(t, c, `RESTORE LOG copy FROM DISK='C:\Backup\a.bak' WITH FILE=2, STANDBY='C:\Data\undo'`)
	if got := tableOf(t, c, "SELECT COUNT(*), (SELECT is_in_standby FROM sys.databases WHERE name='copy') FROM copy.dbo.notes"); got != "3|true" {
		t.Error(got)
	}
	fails(t, c, "DELETE FROM copy.dbo.notes", 3906)
	fails(t, c, "BACKUP DATABASE copy TO DISK='NUL'", 3036, 3013)
	run(t, c, "RESTORE DATABASE copy WITH RECOVERY", "DELETE FROM copy.dbo.notes WHERE id=1")
	fails(t, c, `RESTORE DATABASE copy FROM DISK='C:\Backup\nothing.bak'`, 3201, 3013)
	run(t, c, "USE copy")
	fails(t, c, `RESTORE DATABASE copy FROM DISK='C:\Backup\a.bak' WITH REPLACE`, 3102, 3013)
	other := one(t, l)
	fails(t, other, `RESTORE DATABASE copy FROM DISK='C:\Backup\a.bak' WITH REPLACE, MOVE 'it''s, ünï' TO 'C:\Data\copy.mdf', MOVE 'it''s, ünï_log' TO 'C:\Log\copy.ldf'`, 3101, 3013)
}

func TestDetachAttachAndChangedPages(t *testing.T) {
	c := one(t, start(t, Options{Sample: true}))
	usage := "SELECT CASE WHEN SUM(modified_extent_page_count)=SUM(total_page_count) THEN 'all' WHEN SUM(modified_extent_page_count)<SUM(total_page_count) THEN 'some' END FROM sales.sys.dm_db_file_space_usage"
	if got := tableOf(t, c, usage); got != "all" {
		t.Error(got)
	}
	run(t, c, "ALTER DATABASE sales ADD FILE (NAME=big, FILENAME='C:\\Data\\big.ndf', SIZE=4MB)", "BACKUP DATABASE sales TO DISK='full'")
	if got := tableOf(t, c, usage); got != "some" {
		t.Error(got)
	}
	run(t, c, "EXEC sp_detach_db 'sales'")
	fails(t, c, "USE sales", 911)
	fails(t, c, "CREATE DATABASE sales ON (FILENAME='C:\\Data\\nothing.mdf') FOR ATTACH", 5120)
	run(t, c, "CREATE DATABASE shop ON (FILENAME='C:\\Data\\sales.mdf') FOR ATTACH")
	if got := tableOf(t, c, "SELECT COUNT(*) FROM shop.dbo.customers"); got != "3" {
		t.Error(got)
	}
}

func TestStopAtMark(t *testing.T) {
	c := one(t, start(t, Options{Sample: true}))
	run(t, c, "BACKUP DATABASE sales TO DISK='full'", "BEGIN TRAN m1 WITH MARK; INSERT sales.dbo.customers VALUES (10,'marked',NULL); COMMIT",
		"INSERT sales.dbo.customers VALUES (11,'later',NULL)", "BACKUP LOG sales TO DISK='log'")
	for _, k := range []struct{ option, want string }{{"STOPATMARK", "10"}, {"STOPBEFOREMARK", "3"}} {
		run(t, c, "RESTORE DATABASE sales FROM DISK='full' WITH REPLACE, NORECOVERY", "RESTORE LOG sales FROM DISK='log' WITH RECOVERY, "+k.option+"='m1'")
		if got := tableOf(t, c, "SELECT MAX(id) FROM sales.dbo.customers"); got != k.want {
			t.Errorf("%s: %s", k.option, got)
		}
	}
}

func TestCancelledBackupChangesNothing(t *testing.T) {
	l := start(t, Options{Sample: true})
	c := one(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	l.BreakDevice(func(running context.Context, _ string, written int64) error {
		if written > 0 {
			cancel()
			<-running.Done() // until the attention has reached the statement
		}
		return nil
	})
	if _, err := c.ExecContext(ctx, "BACKUP DATABASE sales TO DISK='slow'"); err == nil {
		t.Fatal("no error")
	}
	l.BreakDevice(nil)
	if got := tableOf(t, c, "SELECT COUNT(*) FROM msdb.dbo.backupset"); got != "0" {
		t.Errorf("%s rows in msdb", got)
	}
	l.BreakDevice(func(context.Context, string, int64) error { return errors.New("disk full") })
	fails(t, c, "BACKUP DATABASE sales TO DISK='full'", 3202, 3013)
	fails(t, c, "BACKUP LOG sales TO DISK='full'", 4214, 3013)
}

func TestCutConnectionAbortsTheBackup(t *testing.T) {
	l := start(t, Options{Sample: true})
	c, watch := one(t, l), one(t, l)
	begun, over := make(chan struct{}), make(chan struct{})
	l.BreakDevice(func(_ context.Context, _ string, written int64) error {
		if written > 0 {
			return nil
		}
		close(begun)
		<-over
		return nil
	})
	failed := make(chan error, 1)
	go func() {
		_, err := c.ExecContext(t.Context(), "BACKUP DATABASE sales TO DISK='cut'")
		failed <- err
	}()
	<-begun
	if got := tableOf(t, watch, "SELECT command, DB_NAME(database_id) FROM sys.dm_exec_requests WHERE command LIKE 'BACKUP%'"); got != "BACKUP DATABASE|master" {
		t.Errorf("running: %s", got)
	}
	id := tableOf(t, watch, "SELECT session_id FROM sys.dm_exec_requests WHERE command='BACKUP DATABASE'")
	run(t, watch, "KILL "+id)
	close(over)
	if err := <-failed; err == nil {
		t.Error("a killed session's backup succeeded")
	}
	l.BreakDevice(nil)
	fails(t, watch, "BACKUP LOG sales TO DISK='log'", 4214, 3013)
}

func TestLoginsAndPermissions(t *testing.T) {
	l := start(t, Options{Sample: true, Logins: []Login{{Name: "sa", Sysadmin: true}, {Name: "reader", Password: "r"}}})
	if err := connect(t, l, Login{Name: "reader", Password: "x"}, "").PingContext(t.Context()); err == nil || !strings.Contains(err.Error(), "Login failed") {
		t.Errorf("wrong password: %v", err)
	}
	if err := connect(t, l, sa, "nowhere").PingContext(t.Context()); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("unknown database: %v", err)
	}
	c := connect(t, l, Login{Name: "reader", Password: "r"}, "")
	if got := tableOf(t, c, "SELECT IS_SRVROLEMEMBER('sysadmin'), SUSER_SNAME(), IS_SRVROLEMEMBER('nothing')"); got != "0|reader|<nil>" {
		t.Error(got)
	}
	fails(t, c, "BACKUP DATABASE sales TO DISK='x'", 262, 3013)
	fails(t, c, "RESTORE DATABASE sales FROM DISK='x'", 3110, 3013)
	fails(t, c, "SELECT * FROM msdb.dbo.backupset", 229)
	fails(t, c, "USE sales", 916)
	fails(t, c, "CREATE DATABASE mine", 262)
	fails(t, c, "ALTER DATABASE sales SET READ_ONLY", 5011, 5069)
}

func TestDatabaseOptionsAndStates(t *testing.T) {
	l := start(t, Options{Sample: true})
	a, b := one(t, l), one(t, l)
	state := func(name string) string {
		return tableOf(t, a, "SELECT recovery_model_desc, user_access_desc, is_read_only, state_desc, is_auto_close_on FROM sys.databases WHERE name=@p1", name)
	}
	run(t, a, "ALTER DATABASE sales SET RECOVERY BULK_LOGGED", "ALTER DATABASE sales SET AUTO_CLOSE ON", "ALTER DATABASE sales SET READ_ONLY WITH ROLLBACK IMMEDIATE")
	if got := state("sales"); got != "BULK_LOGGED|MULTI_USER|true|ONLINE|true" {
		t.Error(got)
	}
	fails(t, a, "DELETE FROM sales.dbo.orders", 3906)
	run(t, b, "USE stock")
	fails(t, a, "ALTER DATABASE stock SET SINGLE_USER WITH NO_WAIT", 5070, 5069)
	run(t, a, "ALTER DATABASE stock SET SINGLE_USER WITH ROLLBACK IMMEDIATE", "USE stock")
	if err := connect(t, l, sa, "stock").PingContext(t.Context()); err == nil {
		t.Error("a second session entered a single-user database")
	}
	fails(t, one(t, l), "USE stock", 924)
	fails(t, b, "BACKUP DATABASE stock TO DISK='NUL'", 596)
	fails(t, one(t, l), "BACKUP DATABASE stock TO DISK='NUL'", 924, 3013)
	run(t, a, "BACKUP DATABASE stock TO DISK='NUL'")
	run(t, a, "USE master", "ALTER DATABASE stock SET MULTI_USER", "ALTER DATABASE stock SET OFFLINE")
	fails(t, a, "USE stock", 942)
	fails(t, a, "BACKUP DATABASE stock TO DISK='x'", 942, 3013)
	if got := tableOf(t, a, "SELECT family_guid FROM sys.database_recovery_status WHERE database_id=DB_ID('stock')"); got != "<nil>" {
		t.Error(got)
	}
	run(t, a, "ALTER DATABASE stock SET ONLINE", `ALTER DATABASE stock ADD FILE (NAME=more, FILENAME='C:\Data\more.ndf', SIZE=1MB)`, "ALTER DATABASE stock MODIFY NAME = [new name]")
	if got := tableOf(t, a, "SELECT name, size FROM sys.master_files WHERE database_id=DB_ID('new name') AND type=0 ORDER BY file_id"); got != "stock|24\nmore|128" {
		t.Error(got)
	}
	run(t, a, "USE [new name]", "DBCC SHRINKFILE (more, EMPTYFILE)", "ALTER DATABASE CURRENT REMOVE FILE more", "DBCC CHECKDB WITH NO_INFOMSGS", "CHECKPOINT", "USE master", "DROP DATABASE [new name]")
	if got := state("new name"); got != "" {
		t.Error(got)
	}
}

func TestKilledSessionsTransactionRollsBack(t *testing.T) {
	l := start(t, Options{Sample: true})
	a, b := one(t, l), one(t, l)
	run(t, b, "USE sales", "BEGIN TRAN; DELETE FROM customers")
	run(t, a, "ALTER DATABASE sales SET SINGLE_USER WITH ROLLBACK IMMEDIATE", "ALTER DATABASE sales SET MULTI_USER")
	if got := tableOf(t, a, "SELECT COUNT(*) FROM sales.dbo.customers"); got != "3" {
		t.Error(got)
	}
	fails(t, b, "COMMIT", 596)
}

func TestApplicationLockEndsWithItsSession(t *testing.T) {
	l := start(t, Options{})
	pool, b := connect(t, l, sa, ""), one(t, l)
	pool.SetMaxOpenConns(1)
	lock := "DECLARE @r int; EXEC @r = sp_getapplock @Resource=N'holdfast', @LockMode='Exclusive', @LockOwner='Session', @LockTimeout=0; SELECT @r"
	a, err := pool.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := tableOf(t, a, lock); got != "0" {
		t.Error(got)
	}
	if got := tableOf(t, b, lock); got != "-1" {
		t.Errorf("the second session got %s", got)
	}
	fails(t, b, "EXEC sp_releaseapplock @Resource='holdfast', @LockOwner='Session'", 1223)
	fails(t, b, "EXEC sp_getapplock @Resource='x', @LockMode='Exclusive'", 3928)
	waiting := make(chan string, 1)
	go func() {
		got, err := rowsOf(t.Context(), b, strings.Replace(lock, "@LockTimeout=0", "@LockTimeout=60000", 1))
		waiting <- fmt.Sprint(got, err)
	}()
	if err := errors.Join(a.Close(), pool.Close()); err != nil { // the connection ends, and with it the session
		t.Fatal(err)
	}
	// 1 says that it was granted after waiting, 0 that the other was gone already.
	if got := <-waiting; got != "1<nil>" && got != "0<nil>" {
		t.Errorf("after the first session's end: %s", got)
	}
}

func TestProcedureCalledByNameGivesItsStatus(t *testing.T) {
	c := one(t, start(t, Options{}))
	call := func(args ...any) mssql.ReturnStatus {
		var status mssql.ReturnStatus
		if _, err := c.ExecContext(t.Context(), "sp_getapplock", append(args, &status)...); err != nil {
			t.Fatal(all(err))
		}
		return status
	}
	args := []any{sql.Named("Resource", "x"), sql.Named("LockMode", "Exclusive"), sql.Named("LockOwner", "Session"), sql.Named("LockTimeout", 0)}
	if got := call(args...); got != 0 {
		t.Errorf("status %d", got)
	}
	var r int64
	if _, err := c.ExecContext(t.Context(), "SET @out = @in * 2", sql.Named("in", 21), sql.Named("out", sql.Out{Dest: &r})); err != nil || r != 42 {
		t.Errorf("output %d, %v", r, err)
	}
	_, err := c.ExecContext(t.Context(), "sp_nothing")
	var e mssql.Error
	if !errors.As(err, &e) || e.Number != 2812 {
		t.Error(err)
	}
}

func TestServiceStopDuringABackup(t *testing.T) {
	l := start(t, Options{Sample: true})
	c := one(t, l)
	begun := make(chan struct{})
	hold := make(chan struct{})
	l.BreakDevice(func(_ context.Context, _ string, written int64) error {
		if written == 0 {
			close(begun)
			<-hold
		}
		return nil
	})
	failed := make(chan error, 1)
	go func() {
		_, err := c.ExecContext(t.Context(), "BACKUP DATABASE sales TO DISK='cut'")
		failed <- err
	}()
	<-begun
	stopped := make(chan error, 1)
	go func() { stopped <- l.StopService() }()
	if err := <-failed; err == nil {
		t.Error("the backup succeeded")
	}
	close(hold)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	l.BreakDevice(nil)
	if err := l.StartService(); err != nil {
		t.Fatal(err)
	}
	again := one(t, l)
	if got := tableOf(t, again, "SELECT COUNT(*), (SELECT COUNT(*) FROM msdb.dbo.backupset) FROM sales.dbo.orders"); got != "100|0" {
		t.Error(got)
	}
	fails(t, again, "BACKUP LOG sales TO DISK='log'", 4214, 3013)
}

func TestSnapshotRevertTakesHistoryBackAndKeepsTheFork(t *testing.T) {
	l := start(t, Options{Sample: true})
	c := one(t, l)
	run(t, c, "BACKUP DATABASE sales TO DISK='full'")
	fork := "SELECT CONVERT(nvarchar(40),recovery_fork_guid) FROM sys.database_recovery_status WHERE database_id=DB_ID('sales')"
	before := tableOf(t, c, fork)
	snapshot, err := l.TakeSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	run(t, c, "DELETE FROM sales.dbo.orders", "BACKUP LOG sales TO DISK='log'")
	if err := l.Revert(snapshot); err != nil {
		t.Fatal(err)
	}
	c = one(t, l)
	if got := tableOf(t, c, "SELECT COUNT(*), (SELECT COUNT(*) FROM msdb.dbo.backupset) FROM sales.dbo.orders"); got != "100|1" {
		t.Error(got)
	}
	if got := tableOf(t, c, fork); got != before {
		t.Errorf("the fork changed from %s to %s", before, got)
	}
	l.LoseMSDB(false)
	if got := tableOf(t, c, "SELECT COUNT(*) FROM msdb.dbo.backupset"); got != "0" {
		t.Error(got)
	}
	if err := l.ForeignBackup(t.Context(), backups.BackupOptions{Database: "sales", Kind: backups.Log}); err != nil {
		t.Fatal(err)
	}
	if got := tableOf(t, c, "SELECT s.type, s.user_name, f.physical_device_name FROM msdb.dbo.backupset s JOIN msdb.dbo.backupmediafamily f ON f.media_set_id=s.media_set_id"); got != `L|FOREIGN\tool|NUL` {
		t.Error(got)
	}
}

func TestClockJumpAndZone(t *testing.T) {
	at := time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC)
	zone := time.FixedZone("CEST", 2*3600)
	l := start(t, Options{Sample: true, Now: func() time.Time { return at }})
	l.SetZone(zone)
	c := one(t, l)
	if got := tableOf(t, c, "SELECT CONVERT(varchar(40),SYSDATETIMEOFFSET()), CONVERT(varchar(30),GETDATE(),126), CONVERT(varchar(30),GETUTCDATE(),126)"); got != "2026-10-25 02:30:00.0000000 +02:00|2026-10-25T02:30:00|2026-10-25T00:30:00" {
		t.Error(got)
	}
	l.JumpClock(-24 * time.Hour)
	run(t, c, "BACKUP DATABASE sales TO DISK='full'")
	if got := tableOf(t, c, "SELECT CONVERT(varchar(30),backup_start_date,126), time_zone FROM msdb.dbo.backupset"); got != "2026-10-24T02:30:00|8" {
		t.Error(got)
	}
}

// TestQuestionsAsTheyStand runs the questions that a backup puts before it begins.
func TestQuestionsAsTheyStand(t *testing.T) {
	l := start(t, Options{Sample: true, Name: `SQL01\PROD`})
	c := connect(t, l, sa, "")
	run(t, c, "BACKUP DATABASE sales TO DISK='full'", "BACKUP LOG sales TO DISK='log'")
	db := sql.Named("db", "sales")
	for _, k := range []struct {
		text string
		args []any
		want string // "" for anything
	}{
		{`SELECT CONVERT(nvarchar(256),SERVERPROPERTY('ServerName')) srv, CONVERT(nvarchar(128),SERVERPROPERTY('InstanceName')) inst,
 CONVERT(nvarchar(64),SERVERPROPERTY('ProductVersion')) ver, CONVERT(int,SERVERPROPERTY('EngineEdition')) eng,
 CONVERT(int,SERVERPROPERTY('IsClustered')) fci, CONVERT(int,SERVERPROPERTY('IsHadrEnabled')) hadr,
 IS_SRVROLEMEMBER('sysadmin') sa`, nil, `SQL01\PROD|PROD|16.0.1000.6|3|0|0|1`},
		{`SELECT SYSDATETIMEOFFSET() local_now, SYSUTCDATETIME() utc_now, (SELECT sqlserver_start_time FROM sys.dm_os_sys_info) started`, nil, ""},
		{`SELECT d.name, d.state_desc, d.user_access_desc, d.recovery_model_desc, d.is_read_only, d.is_in_standby,
 d.is_auto_close_on, d.is_encrypted, d.replica_id, m.mirroring_guid,
 CASE WHEN r.family_guid IS NULL THEN 0 ELSE 1 END, CASE WHEN r.recovery_fork_guid=r.first_recovery_fork_guid THEN 1 ELSE 0 END,
 CASE WHEN r.last_log_backup_lsn IS NULL THEN 0 ELSE 1 END, CONVERT(varchar(26),r.fork_point_lsn) fork_lsn,
 CASE WHEN f.differential_base_guid IS NULL THEN 0 ELSE 1 END
FROM sys.databases d
LEFT JOIN sys.database_recovery_status r ON r.database_id=d.database_id
LEFT JOIN sys.database_mirroring m ON m.database_id=d.database_id
LEFT JOIN sys.master_files f ON f.database_id=d.database_id AND f.file_id=1
WHERE d.database_id<>2 AND d.source_database_id IS NULL AND d.name IN ('sales','stock') ORDER BY d.name;`, nil,
			"sales|ONLINE|MULTI_USER|FULL|false|false|false|false|<nil>|<nil>|1|1|1|<nil>|1\nstock|ONLINE|MULTI_USER|SIMPLE|false|false|false|false|<nil>|<nil>|1|1|0|<nil>|0"},
		{`SELECT file_id, type, data_space_id, name, physical_name, state_desc, is_read_only,
 CONVERT(varchar(26),drop_lsn) d, CONVERT(varchar(26),redo_start_lsn) redo, redo_start_fork_guid FROM sys.master_files WHERE database_id=DB_ID(@db) ORDER BY file_id`, []any{db},
			`1|0|1|sales|C:\Data\sales.mdf|ONLINE|false|<nil>|<nil>|<nil>` + "\n" + `2|1|0|sales_log|C:\Log\sales_log.ldf|ONLINE|false|<nil>|<nil>|<nil>`},
		{`SELECT s.type, s.is_copy_only, s.is_snapshot, s.begins_log_chain, s.has_bulk_logged_data, s.is_force_offline,
 CASE WHEN s.last_lsn>s.first_lsn THEN 1 ELSE 0 END, s.user_name, x.device_type, x.physical_device_name
FROM msdb.dbo.backupset s CROSS APPLY (SELECT TOP 1 device_type, physical_device_name FROM msdb.dbo.backupmediafamily
 WHERE media_set_id=s.media_set_id ORDER BY family_sequence_number) x
WHERE s.database_name=@db AND s.last_lsn>=CONVERT(numeric(25,0),@lsn) ORDER BY s.backup_set_id;`, []any{db, sql.Named("lsn", "1")},
			"D|false|false|false|false|false|1|sa|2|full\nL|false|false|true|false|false|1|sa|2|log"},
		{`SELECT restore_date, restore_type, [replace], recovery, stop_at FROM msdb.dbo.restorehistory WHERE destination_database_name=@db AND restore_date>=@t;`, []any{db, sql.Named("t", "2020-01-01")}, ""},
		{`SELECT mark_name, description, user_name, CONVERT(varchar(26),lsn) lsn, mark_time FROM msdb.dbo.logmarkhistory
WHERE database_name=@db AND lsn>=CONVERT(numeric(25,0),@f) AND lsn<CONVERT(numeric(25,0),@l);`, []any{db, sql.Named("f", "1"), sql.Named("l", "2")}, ""},
		{`SELECT session_id, command, DB_NAME(database_id) db, percent_complete FROM sys.dm_exec_requests WHERE command LIKE 'BACKUP%' OR command LIKE 'RESTORE%';`, nil, ""},
		{`SELECT DISTINCT v.volume_mount_point, v.available_bytes, v.file_system_type FROM sys.master_files f CROSS APPLY sys.dm_os_volume_stats(f.database_id,f.file_id) v WHERE f.database_id=DB_ID(@db);`, []any{db}, `C:\|107374182400|NTFS`},
		{`SELECT sys.fn_hadr_backup_is_preferred_replica(@db), (SELECT role FROM sys.dm_hadr_availability_replica_states WHERE is_local=1 AND replica_id=@replica);`, []any{db, sql.Named("replica", "40700425-0080-11D2-851F-00C04FC21759")}, "true|<nil>"},
		{`SELECT k.encryption_state, k.encryptor_type, k.encryptor_thumbprint, c.name FROM sys.dm_database_encryption_keys k LEFT JOIN master.sys.certificates c ON c.thumbprint=k.encryptor_thumbprint WHERE k.database_id=DB_ID(@db);`, []any{db}, ""},
	} {
		if got := tableOf(t, c, k.text, k.args...); k.want != "" && got != k.want {
			t.Errorf("%s\n got %q\nwant %q", k.text, got, k.want)
		}
	}
}
