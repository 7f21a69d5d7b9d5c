package program_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest/agent"
	"holdfast/sqlguest/agent/program"
	"holdfast/sqlguest/agent/trust"
	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/server"
)

const canary = "canary-4711"

// begin starts Main in a directory of its own, against a laboratory's SQL Server.
func begin(t *testing.T, password string, log *slog.Logger) (string, *trust.Keys, chan error) {
	t.Helper()
	return beginWith(t, program.Config{Password: password}, log)
}

// beginWith is begin with more of the configuration.
func beginWith(t *testing.T, c program.Config, log *slog.Logger) (string, *trust.Keys, chan error) {
	t.Helper()
	l, err := lab.Start(lab.Options{BackupDirectory: t.TempDir(), Path: func(p string) string { return p },
		Logins: []lab.Login{{Name: "sa", Password: canary, Sysadmin: true}}})
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	service, client, err := trust.New(time.Now())
	must(t, err)
	dir := filepath.Join(t.TempDir(), "agent")
	must(t, os.Mkdir(dir, 0o700))
	var config bytes.Buffer
	c.Listen, c.Keys, c.Address, c.User = "127.0.0.1:0", service, l.Address(), "sa"
	must(t, c.Write(&config))
	path := filepath.Join(dir, program.ConfigName)
	must(t, os.WriteFile(path, config.Bytes(), 0o600))
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); done <- program.Main(ctx, []string{path}, log) }()
	t.Cleanup(func() { cancel(); <-ended })
	return dir, client, done
}

// ready waits for the agent's file.
func ready(t *testing.T, dir string, done chan error) int {
	t.Helper()
	for {
		data, err := os.ReadFile(filepath.Join(dir, program.ReadyName))
		if err == nil {
			var r program.Ready
			must(t, json.Unmarshal(data, &r))
			return r.Port
		}
		select {
		case err := <-done:
			t.Fatal(err)
		default:
		}
	}
}

// TestAgentIsABackupAndLeavesNothing: the whole program over a real SQL Server's
// rules, from its configuration to its directory's end.
func TestAgentIsABackupAndLeavesNothing(t *testing.T) {
	var logged bytes.Buffer
	dir, keys, done := begin(t, canary, slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug})))
	port := ready(t, dir, done)
	if _, err := os.Stat(filepath.Join(dir, program.ConfigName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("secrets are still there: %v", err)
	}
	c, err := agent.Connect(t.Context(), agent.ClientOptions{Keys: keys, Dial: func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	}})
	must(t, err)
	for _, text := range []string{"CREATE DATABASE d", "CREATE TABLE d.dbo.t (id int PRIMARY KEY)", "INSERT INTO d.dbo.t (id) VALUES (42)"} {
		_, err := c.Query(t.Context(), text)
		must(t, err)
	}
	b, err := c.Backup(t.Context(), server.Statement{Text: "BACKUP DATABASE [d] TO %s", Name: "{00000000-0000-4000-8000-000000000001}", Devices: 1, Transport: server.Disk})
	must(t, err)
	data, err := readAll(b)
	must(t, err)
	_, err = b.Commit(t.Context())
	must(t, err)
	_, err = c.Restore(t.Context(), server.Statement{Name: "{00000000-0000-4000-8000-000000000002}", Transport: server.Disk,
		Text: `RESTORE DATABASE [e] FROM %s WITH MOVE N'd' TO N'C:\e.mdf', MOVE N'd_log' TO N'C:\e.ldf'`}, []io.Reader{bytes.NewReader(data[0])})
	must(t, err)
	rows, err := c.Query(t.Context(), "SELECT id FROM e.dbo.t")
	if err != nil || rows.Values[0][0] != int64(42) {
		t.Errorf("restored %+v: %v", rows, err)
	}
	log := server.Statement{Text: "BACKUP LOG [d] TO %s", Name: "{00000000-0000-4000-8000-000000000003}", Devices: 1, Transport: server.Disk}
	adoptsKeptLog(t, c, log)
	checks, err := c.Checks(t.Context())
	must(t, err)
	for _, k := range checks {
		if k.Status != "ok" && k.Remedy == "" {
			t.Errorf("check %+v", k)
		}
	}
	must(t, c.Goodbye(t.Context()))
	must(t, <-done)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory is still there: %v", err)
	}
	if strings.Contains(logged.String(), canary) {
		t.Error("the password was logged")
	}
}

// adoptsKeptLog aborts a staged log backup: SQL Server has truncated, so its file
// stays and is found and taken in from afar.
func adoptsKeptLog(t *testing.T, c *agent.Client, st server.Statement) {
	t.Helper()
	_, err := c.Query(t.Context(), "ALTER DATABASE d SET RECOVERY FULL")
	must(t, err)
	full := st
	full.Text, full.Name = "BACKUP DATABASE [d] TO %s", "{00000000-0000-4000-8000-000000000004}"
	b, err := c.Backup(t.Context(), full)
	must(t, err)
	_, err = readAll(b)
	must(t, err)
	_, err = b.Commit(t.Context())
	must(t, err)
	b, err = c.Backup(t.Context(), st)
	must(t, err)
	data, err := readAll(b)
	must(t, err)
	var kept *direct.Kept
	if err := b.Abort(t.Context()); !errors.As(err, &kept) || kept.Device != st.Name {
		t.Fatalf("abort: %v", err)
	}
	devices, err := c.Staged(t.Context(), "", "")
	if err != nil || len(devices) != 1 || devices[0] != st.Name {
		t.Fatalf("staged %q: %v", devices, err)
	}
	b, err = c.Adopt(t.Context(), st)
	must(t, err)
	again, err := readAll(b)
	must(t, err)
	if !bytes.Equal(again[0], data[0]) {
		t.Error("adopted bytes differ")
	}
	_, err = b.Commit(t.Context())
	must(t, err)
	if devices, err = c.Staged(t.Context(), "", ""); err != nil || len(devices) != 0 {
		t.Errorf("staged %q after the commit: %v", devices, err)
	}
}

func TestAgentTellsWhyItCannotBegin(t *testing.T) {
	dir, _, done := begin(t, canary+"-wrong", nil)
	err := <-done
	var said *server.Error
	if !errors.As(err, &said) || !said.Has(18456) {
		t.Errorf("main: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, program.FailedName))
	if err != nil || !strings.Contains(string(text), "18456") || strings.Contains(string(text), canary) {
		t.Errorf("told %q, %v", text, err)
	}
	must(t, program.Tidy(dir))
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory is still there: %v", err)
	}
}

// TestPatientAgentLooksAtItsMachine although the SQL Server lets nobody in; and every
// agent ends with its first session, for nobody comes back to one that was cut.
func TestPatientAgentLooksAtItsMachine(t *testing.T) {
	dir, keys, done := beginWith(t, program.Config{Password: "wrong", Patient: true}, nil)
	port := ready(t, dir, done)
	c, err := agent.Connect(t.Context(), agent.ClientOptions{Keys: keys, Dial: func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	}})
	must(t, err)
	var said *server.Error
	if _, err := c.Query(t.Context(), "SELECT 1 AS one"); !errors.As(err, &said) || !said.Has(18456) {
		t.Errorf("query: %v", err)
	}
	if _, err := c.Hold(t.Context(), "d"); !errors.As(err, &said) {
		t.Errorf("hold: %v", err)
	}
	if lines, err := c.Checks(t.Context()); err != nil || len(lines) == 0 {
		t.Errorf("checks %+v: %v", lines, err)
	}
	must(t, c.Close()) // without a goodbye
	if err := <-done; !errors.Is(err, agent.ErrOver) {
		t.Errorf("main: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory is still there: %v", err)
	}
}

// TestTidyGoesThroughNoLink: neither a directory that is a link, nor a file; and a
// stranger's file stays.
func TestTidyGoesThroughNoLink(t *testing.T) {
	base := t.TempDir()
	victim := filepath.Join(base, "victim")
	must(t, os.Mkdir(victim, 0o700))
	must(t, os.WriteFile(filepath.Join(victim, program.MarkerName), []byte("mine"), 0o600))
	link := filepath.Join(base, "link")
	if err := os.Symlink(victim, link); err != nil {
		t.Skip("this system makes no links: ", err)
	}
	if err := program.Tidy(link); err == nil {
		t.Error("tidied through a link")
	}
	dir := filepath.Join(base, "dir")
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.Symlink(filepath.Join(victim, program.MarkerName), filepath.Join(dir, program.MarkerName)))
	must(t, os.WriteFile(filepath.Join(dir, "theirs"), nil, 0o600))
	if err := program.Tidy(dir); err == nil {
		t.Error("deleted a directory with a stranger's file")
	}
	for _, kept := range []string{filepath.Join(victim, program.MarkerName), filepath.Join(dir, "theirs")} {
		if _, err := os.Stat(kept); err != nil {
			t.Error(err)
		}
	}
	if err := os.Symlink(filepath.Join(victim, program.MarkerName), filepath.Join(dir, program.ConfigName)); err != nil {
		t.Fatal(err)
	}
	if _, err := program.LoadConfig(filepath.Join(dir, program.ConfigName)); !errors.Is(err, program.ErrConfig) {
		t.Errorf("configuration behind a link: %v", err)
	}
}

// TestMarkerStaysWithWhatStays: Windows does not let a running program be deleted;
// here it is a directory of its name that cannot.
func TestMarkerStaysWithWhatStays(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, program.BinaryName, "sub"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, program.MarkerName), nil, 0o600))
	if err := program.Tidy(dir); err == nil {
		t.Error("tidied what cannot be deleted")
	}
	if _, err := os.Stat(filepath.Join(dir, program.MarkerName)); err != nil {
		t.Error(err)
	}
}

func readAll(b server.Backup) ([][]byte, error) {
	out := make([][]byte, len(b.Streams()))
	for i, s := range b.Streams() {
		var err error
		if out[i], err = io.ReadAll(s); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
