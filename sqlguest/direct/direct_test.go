package direct_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/server"
	"holdfast/sqlguest/vdi"
)

const password = "p;w}d %41 {x=y}"

// laboratory starts a SQL Server with a database d in FULL, and a client beside it.
func laboratory(t *testing.T) (*lab.Lab, *direct.Server) {
	t.Helper()
	dir := t.TempDir()
	hub := bridge.NewHub(bridge.Options{})
	l, err := lab.Start(lab.Options{Devices: hub, BackupDirectory: dir, Path: func(p string) string { return p },
		Logins: []lab.Login{{Name: "sa", Password: password, Sysadmin: true}}})
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	s, err := direct.Open(t.Context(), direct.Options{Address: l.Address(), User: "sa", Password: password, OpenSet: hub.OpenSet})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	exec(t, s, "CREATE DATABASE d")
	exec(t, s, "ALTER DATABASE d SET RECOVERY FULL")
	exec(t, s, "CREATE TABLE d.dbo.t (id int PRIMARY KEY, name nvarchar(50))")
	exec(t, s, "INSERT INTO d.dbo.t (id, name) VALUES (1, N'één')")
	return l, s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func exec(t testing.TB, s server.Server, text string) *server.Rows {
	t.Helper()
	rows, err := s.Query(t.Context(), text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return rows
}

var number int

// guid is a fresh device name.
func guid() string {
	number++
	return fmt.Sprintf("{00000000-0000-4000-8000-%012d}", number)
}

func statement(text, transport string) server.Statement {
	return server.Statement{Text: text, Name: guid(), Devices: 1, Transport: transport}
}

func read(t testing.TB, b server.Backup) [][]byte {
	t.Helper()
	var all [][]byte
	for _, s := range b.Streams() {
		data, err := io.ReadAll(s)
		must(t, err)
		all = append(all, data)
	}
	return all
}

// lastLog is where the next log backup begins: it moves when a log is truncated.
func lastLog(t testing.TB, s server.Server) any {
	t.Helper()
	return exec(t, s, "SELECT last_log_backup_lsn FROM sys.database_recovery_status WHERE database_id = DB_ID(N'd')").Values[0][0]
}

// backUp takes a backup and commits it.
func backUp(t testing.TB, s server.Server, st server.Statement) [][]byte {
	t.Helper()
	b, err := s.Backup(t.Context(), st)
	must(t, err)
	data := read(t, b)
	outcome, err := b.Commit(t.Context())
	must(t, err)
	if !outcome.Has(3014) {
		t.Errorf("no message 3014 in %+v", outcome)
	}
	return data
}

func TestValuesAreOfTheKindsThatRowsPromise(t *testing.T) {
	_, s := laboratory(t)
	rows, err := s.Query(t.Context(), `SELECT CAST(7 AS int) AS i, CAST(NULL AS int) AS n, N'ü' AS s, CAST(1 AS bit) AS b, CAST(12345678901234567890 AS numeric(25,0)) AS l,
CAST('6F1C2B5E-0000-4000-8000-00000000abcd' AS uniqueidentifier) AS g, CAST('2026-03-01T10:20:30' AS datetime) AS d, @p AS p`, server.Arg{Name: "p", Value: "x'y"})
	must(t, err)
	want := []any{int64(7), nil, "ü", true, "12345678901234567890", "6F1C2B5E-0000-4000-8000-00000000ABCD", "2026-03-01T10:20:30", "x'y"}
	if !reflect.DeepEqual(rows.Values, [][]any{want}) || rows.Columns[4] != "l" {
		t.Errorf("values %#v of columns %q", rows.Values, rows.Columns)
	}
}

func TestErrorsCarryNumbersInOrder(t *testing.T) {
	_, s := laboratory(t)
	_, err := s.Query(t.Context(), "BACKUP DATABASE nowhere TO DISK = N'x.bak'")
	var said *server.Error
	if !errors.As(err, &said) || len(said.All) != 2 || said.All[0].Number != 911 || said.All[1].Number != 3013 {
		t.Fatalf("error %v, messages %+v", err, said)
	}
	if rows := exec(t, s, "PRINT 'hello' SELECT 1 AS one SELECT 2 AS two"); len(rows.Values) != 1 || rows.Columns[0] != "one" {
		t.Errorf("rows %+v", rows)
	}
}

func TestWrongPasswordIs18456AndNotQuoted(t *testing.T) {
	l, _ := laboratory(t)
	_, err := direct.Open(t.Context(), direct.Options{Address: l.Address(), User: "sa", Password: "hunter2-canary"})
	var said *server.Error
	if !errors.As(err, &said) || !said.Has(18456) || strings.Contains(err.Error(), "hunter2-canary") {
		t.Fatalf("login: %v", err)
	}
}

func TestServerThatIsNotThere(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, closed.Close())
	if _, err := direct.Open(t.Context(), direct.Options{Address: closed.Addr().String(), User: "sa"}); err == nil || !strings.Contains(err.Error(), closed.Addr().String()) {
		t.Fatalf("open: %v", err)
	}
}

func TestLockIsOneRunsAtATime(t *testing.T) {
	l, s := laboratory(t)
	release, err := s.Hold(t.Context(), "holdfast d")
	must(t, err)
	if _, err := s.Hold(t.Context(), "holdfast d"); !errors.Is(err, server.ErrHeld) {
		t.Fatalf("second hold: %v", err)
	}
	must(t, s.Held(t.Context(), "holdfast d"))
	must(t, release())
	if err := s.Held(t.Context(), "holdfast d"); !errors.Is(err, server.ErrLockLost) {
		t.Errorf("lock that was released: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = s.Hold(ctx, "holdfast d")
	must(t, err)
	cancel()
	for { // the session's end is the server's own business
		release, err = s.Hold(t.Context(), "holdfast d")
		if !errors.Is(err, server.ErrHeld) {
			break
		}
	}
	must(t, err)
	must(t, l.StopService())
	must(t, l.StartService())
	if err := s.Held(t.Context(), "holdfast d"); !errors.Is(err, server.ErrLockLost) {
		t.Errorf("lock of a server that was restarted: %v", err)
	}
	if err := release(); !errors.Is(err, server.ErrLockLost) {
		t.Errorf("release of a lost lock: %v", err)
	}
}

func TestVirtualDeviceBackupIsRestored(t *testing.T) {
	_, s := laboratory(t)
	st := statement("BACKUP DATABASE [d] TO %s WITH CHECKSUM, FORMAT", server.VDI)
	st.Devices = 2
	data := backUp(t, s, st)
	streams := []io.Reader{bytes.NewReader(data[0]), bytes.NewReader(data[1])}
	_, err := s.Restore(t.Context(), statement("RESTORE DATABASE [e] FROM %s WITH MOVE N'd' TO N'C:\\e.mdf', MOVE N'd_log' TO N'C:\\e.ldf'", server.VDI), streams)
	must(t, err)
	if got := exec(t, s, "SELECT name FROM e.dbo.t").Values[0][0]; got != "één" {
		t.Errorf("restored %v", got)
	}
}

// TestAbortedVirtualDeviceBackupTruncatesNothing: everything was read, and the word
// is not given.
func TestAbortedVirtualDeviceBackupTruncatesNothing(t *testing.T) {
	_, s := laboratory(t)
	backUp(t, s, statement("BACKUP DATABASE [d] TO %s", server.VDI))
	before := lastLog(t, s)
	b, err := s.Backup(t.Context(), statement("BACKUP LOG [d] TO %s", server.VDI))
	must(t, err)
	read(t, b)
	must(t, b.Abort(t.Context()))
	if after := lastLog(t, s); !reflect.DeepEqual(before, after) {
		t.Errorf("next log began at %v and now at %v", before, after)
	}
}

func TestStagedBackupLeavesNoFile(t *testing.T) {
	l, s := laboratory(t)
	dir := backupDirectory(t, l, s)
	full := backUp(t, s, statement("BACKUP DATABASE [d] TO %s WITH FORMAT", server.Disk))
	noFiles(t, dir)
	st := statement("RESTORE DATABASE [e] FROM %s WITH MOVE N'd' TO N'C:\\e.mdf', MOVE N'd_log' TO N'C:\\e.ldf'", server.Disk)
	_, err := s.Restore(t.Context(), st, []io.Reader{bytes.NewReader(full[0])})
	must(t, err)
	noFiles(t, dir)
	_, err = s.Restore(t.Context(), statement("RESTORE DATABASE [f] FROM %s", server.Disk), []io.Reader{bytes.NewReader([]byte("no backup"))})
	var said *server.Error
	if !errors.As(err, &said) {
		t.Errorf("restore of nonsense: %v", err)
	}
	noFiles(t, dir)
}

// TestAbortKeepsStagedLog: SQL Server has truncated, so that the file is the only
// copy; the next run finds it and takes it in.
func TestAbortKeepsStagedLog(t *testing.T) {
	l, s := laboratory(t)
	dir := backupDirectory(t, l, s)
	backUp(t, s, statement("BACKUP DATABASE [d] TO %s", server.Disk))
	before := lastLog(t, s)
	st := statement("BACKUP LOG [d] TO %s", server.Disk)
	b, err := s.Backup(t.Context(), st)
	must(t, err)
	data := read(t, b)
	var kept *direct.Kept
	if err := b.Abort(t.Context()); !errors.As(err, &kept) || kept.Unknown || kept.Device != st.Name {
		t.Fatalf("abort: %v", err)
	}
	if reflect.DeepEqual(before, lastLog(t, s)) {
		t.Fatal("the laboratory did not truncate: this test shows nothing")
	}
	if onDisk, err := os.ReadFile(kept.Files[0]); err != nil || !bytes.Equal(onDisk, data[0]) {
		t.Fatalf("kept %d bytes of %d: %v", len(onDisk), len(data[0]), err)
	}
	devices, err := s.Staged(t.Context(), "", "")
	if err != nil || !reflect.DeepEqual(devices, []string{st.Name}) {
		t.Fatalf("staged %q: %v", devices, err)
	}
	adopted, err := s.Adopt(t.Context(), st)
	must(t, err)
	if again := read(t, adopted); !bytes.Equal(again[0], data[0]) {
		t.Error("adopted bytes differ")
	}
	_, err = adopted.Commit(t.Context())
	must(t, err)
	noFiles(t, dir)
}

// TestUnreadStagedLogIsNotCommitted: Commit before the end of the stream deletes
// nothing.
func TestUnreadStagedLogIsNotCommitted(t *testing.T) {
	_, s := laboratory(t)
	backUp(t, s, statement("BACKUP DATABASE [d] TO %s", server.Disk))
	b, err := s.Backup(t.Context(), statement("BACKUP LOG [d] TO %s", server.Disk))
	must(t, err)
	if _, err := b.Streams()[0].Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	_, err = b.Commit(t.Context())
	var kept *direct.Kept
	if !errors.Is(err, vdi.ErrUnread) || !errors.As(err, &kept) {
		t.Fatalf("commit: %v", err)
	}
	if _, err := os.Stat(kept.Files[0]); err != nil {
		t.Error(err)
	}
}

func TestRefusedStagedBackup(t *testing.T) {
	l, s := laboratory(t)
	dir := backupDirectory(t, l, s)
	b, err := s.Backup(t.Context(), statement("BACKUP LOG [nowhere] TO %s", server.Disk))
	must(t, err)
	var said *server.Error
	if _, err := io.ReadAll(b.Streams()[0]); !errors.As(err, &said) || !said.Has(911) {
		t.Errorf("read: %v", err)
	}
	must(t, b.Abort(t.Context()))
	noFiles(t, dir)
	st := statement("BACKUP LOG [d] TO %s", server.Disk)
	st.Local = filepath.Join(dir, "missing")
	if _, err := s.Backup(t.Context(), st); !errors.Is(err, direct.ErrStaging) {
		t.Errorf("staging that is not there: %v", err)
	}
	st.Name = "../../etc/passwd"
	if _, err := s.Backup(t.Context(), st); err == nil {
		t.Error("a path was taken for a device's name")
	}
}

func TestHostSaysWhyThereIsNoVDI(t *testing.T) {
	l, s := laboratory(t)
	h, err := s.Host(t.Context())
	if err != nil || !h.HasVDI || h.Name == "" {
		t.Errorf("host %+v: %v", h, err)
	}
	plain, err := direct.Open(t.Context(), direct.Options{Address: l.Address(), User: "sa", Password: password})
	must(t, err)
	defer plain.Close()
	if h, err = plain.Host(t.Context()); err != nil || !h.HasVDI && h.WhyNoVDI == "" {
		t.Errorf("host %+v: %v", h, err)
	}
}

func backupDirectory(t testing.TB, _ *lab.Lab, s server.Server) string {
	t.Helper()
	return exec(t, s, "SELECT CAST(SERVERPROPERTY('InstanceDefaultBackupPath') AS nvarchar(4000)) AS p").Values[0][0].(string)
}

func noFiles(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		t.Errorf("left behind: %s", e.Name())
	}
}
