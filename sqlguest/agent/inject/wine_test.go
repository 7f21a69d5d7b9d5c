package inject_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"testing"
	"time"

	"holdfast/sqlguest/agent/inject"
	"holdfast/sqlguest/agent/program"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/lab/machine"
	"holdfast/sqlguest/lab/wine"
	"holdfast/sqlguest/server"
)

// windowsProgram builds the agent for Windows.
func windowsProgram(t *testing.T) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "agent.exe")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", out, "holdfast/sqlguest/agent/guest")
	build.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build agent: %v: %s", err, text)
	}
	data, err := os.ReadFile(out)
	must(t, err)
	return data
}

// windowsGround is a Windows guest, under Wine, with the laboratory's SQL Server
// beside it and a sqlvdi.dll between the two.
func windowsGround(t *testing.T, now func() time.Time) (*machine.Guest, inject.Options) {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("Wine is used on Linux on amd64")
	}
	prefix, err := wine.New(t.Context(), t.TempDir())
	if errors.Is(err, wine.ErrAbsent) && os.Getenv("HOLDFAST_DEMAND_PARTS") == "" {
		t.Skip("Wine's parts are missing: ", err)
	}
	must(t, err)
	t.Cleanup(func() { must(t, prefix.Close(context.Background())) })
	hub := bridge.NewHub(bridge.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = hub.Serve(ctx, l) }()
	t.Cleanup(func() { cancel(); <-ended })
	prefix.Bridge = l.Addr().String()
	sql, err := lab.Start(lab.Options{Devices: hub, Now: now, Logins: []lab.Login{{Name: "sa", Password: canary, Sysadmin: true}}})
	must(t, err)
	t.Cleanup(func() { must(t, sql.Close()) })
	g := newLocalAt(t, prefix.Drive())
	g.Windows = true
	g.Command = func(program string, args ...string) *exec.Cmd {
		return prefix.Command(context.Background(), program, args...)
	}
	binary := windowsProgram(t)
	return g, inject.Options{
		Guest: g, Program: func(string) ([]byte, error) { return binary, nil }, Host: "here", PID: 1, From: "127.0.0.1", Pause: 20 * time.Millisecond,
		Config: program.Config{Listen: "127.0.0.1:0", Address: sql.Address(), User: "sa", Password: canary},
	}
}

// TestWindowsAgentUnderWine: injected, over mutual TLS, through COM and virtual
// devices: full, log and restore; an aborted log truncates nothing. Then the same by
// whole runs with a repository, and restores to moments of all kinds. Nothing is left.
func TestWindowsAgentUnderWine(t *testing.T) {
	w := newWineWorld(t)
	g, o := windowsGround(t, w.clock)
	i, err := inject.Open(t.Context(), o)
	must(t, err)
	h, err := i.Host(t.Context())
	if err != nil || h.System != "windows" || !h.HasVDI {
		t.Fatalf("host %+v: %v", h, err)
	}
	looks(t, g, i)
	query := func(text string) [][]any {
		t.Helper()
		rows, err := i.Query(t.Context(), text)
		must(t, err)
		return rows.Values
	}
	for _, text := range []string{"CREATE DATABASE d", "ALTER DATABASE d SET RECOVERY FULL", "CREATE TABLE d.dbo.t (id int PRIMARY KEY)", "INSERT INTO d.dbo.t (id) VALUES (1)"} {
		query(text)
	}
	begin := func(text, device string) (server.Backup, []byte) {
		t.Helper()
		b, err := i.Backup(t.Context(), server.Statement{Text: text, Name: "{00000000-0000-4000-8000-00000000000" + device + "}", Devices: 1, Transport: server.VDI})
		must(t, err)
		data, err := io.ReadAll(b.Streams()[0])
		must(t, err)
		return b, data
	}
	b, full := begin("BACKUP DATABASE [d] TO %s", "1")
	_, err = b.Commit(t.Context())
	must(t, err)
	query("INSERT INTO d.dbo.t (id) VALUES (2)")
	next := "SELECT last_log_backup_lsn FROM sys.database_recovery_status WHERE database_id = DB_ID(N'd')"
	before := query(next)
	b, _ = begin("BACKUP LOG [d] TO %s", "2")
	must(t, b.Abort(t.Context()))
	if after := query(next); !reflect.DeepEqual(before, after) {
		t.Errorf("an aborted log backup moved the log from %v to %v", before, after)
	}
	b, log := begin("BACKUP LOG [d] TO %s", "3")
	_, err = b.Commit(t.Context())
	must(t, err)
	if after := query(next); reflect.DeepEqual(before, after) {
		t.Error("a committed log backup truncated nothing")
	}
	restore := func(text, device string, data []byte) {
		t.Helper()
		_, err := i.Restore(t.Context(), server.Statement{Text: text, Name: "{00000000-0000-4000-8000-00000000000" + device + "}", Transport: server.VDI}, []io.Reader{bytes.NewReader(data)})
		must(t, err)
	}
	restore(`RESTORE DATABASE [e] FROM %s WITH NORECOVERY, MOVE N'd' TO N'C:\e.mdf', MOVE N'd_log' TO N'C:\e.ldf'`, "4", full)
	restore("RESTORE LOG [e] FROM %s WITH RECOVERY", "5", log)
	if rows := query("SELECT id FROM e.dbo.t ORDER BY id"); len(rows) != 2 {
		t.Errorf("restored %v", rows)
	}
	w.sql = i.Client
	w.backsUp()
	w.restores()
	w.killedWhileStreaming(g, o, i)
}
