package facts

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"holdfast/sqlguest/server"
)

// TestX7StagingVolumeIsTheDeepest: of the volumes that SQL Server knows the one with the
// longest mount point above the directory; none where it knows none.
func TestX7StagingVolumeIsTheDeepest(t *testing.T) {
	volumes := &server.Rows{Columns: []string{"volume_mount_point", "available_bytes", "total_bytes", "file_system_type", "path"}}
	for i, mount := range []string{`C:\`, `D:\`, `D:\mount\`, `/`, `/var/opt`} {
		volumes.Values = append(volumes.Values, []any{mount, int64(i), int64(9), "NTFS", `d:\Mount\backup`})
	}
	for staging, want := range map[string]string{
		"": `D:\mount\`, `D:\mountain`: `D:\`, `c:\x`: `C:\`, `E:\`: "", `\\nas\share`: "",
		"/var/opt/backup": "/var/opt", "/var/optional": "/", "/var/opt": "/var/opt",
	} {
		old := &server.Error{All: []server.Message{{Number: 208, Severity: 16}}}
		s := &script{t: t, answers: map[string]any{"dm_os_volume_stats": volumes, "fixed_drives": old}}
		v, err := AskStaging(t.Context(), s, staging)
		name := ""
		if v != nil {
			name = v.Name
		}
		if err != nil || name != want || v != nil && v.Use != UseStaging {
			t.Errorf("staging %q is on %q, want %q (%v)", staging, name, want, err)
		}
	}
}

// TestX7StagingOnADriveWithoutDatabases: SQL Server 2017 and later tell of every drive.
func TestX7StagingOnADriveWithoutDatabases(t *testing.T) {
	s := &script{t: t, answers: map[string]any{
		"dm_os_volume_stats": &server.Rows{Columns: []string{"volume_mount_point", "available_bytes", "total_bytes", "file_system_type", "path"}},
		"fixed_drives":       rows("fixed_drive_path", `E:\`, "free_space_in_bytes", int64(7), "path", `C:\Backup`),
	}}
	for staging, want := range map[string]*Volume{`e:\stage`: {Name: `E:\`, Use: UseStaging, Available: 7}, "": nil} {
		v, err := AskStaging(t.Context(), s, staging)
		if err != nil || (v == nil) != (want == nil) || v != nil && *v != *want {
			t.Errorf("staging %q: %+v, %v", staging, v, err)
		}
	}
}

// answering gives every question the same answer.
type answering struct {
	server.Server
	err  error
	rows *server.Rows
}

func (a answering) Query(context.Context, string, ...server.Arg) (*server.Rows, error) {
	return a.rows, a.err
}

func TestFileThatIsNoBackupHasNoRow(t *testing.T) {
	at := &Instance{}
	said := &server.Error{All: []server.Message{{Number: 3241, Severity: 16}}}
	if _, err := AskFile(t.Context(), answering{err: said}, at, "x.bak"); !errors.Is(err, ErrNoRow) {
		t.Errorf("unreadable file: %v", err)
	}
	for _, number := range []int32{3201, 3203, 701, 596} { // unreadable is not absent
		busy := &server.Error{All: []server.Message{{Number: number, Severity: 16}, {Number: 3013, Severity: 16}}}
		if _, err := AskFile(t.Context(), answering{err: busy}, at, "x.bak"); err == nil || errors.Is(err, ErrNoRow) {
			t.Errorf("file that could not be read (%d): %v", number, err)
		}
	}
	cut := errors.New("cut")
	if _, err := AskFile(t.Context(), answering{err: cut}, at, "x.bak"); !errors.Is(err, cut) || errors.Is(err, ErrNoRow) {
		t.Errorf("lost connection: %v", err)
	}
	if _, err := AskFile(t.Context(), answering{rows: &server.Rows{}}, at, "x.bak"); !errors.Is(err, ErrNoRow) {
		t.Errorf("empty media: %v", err)
	}
}

// reading is a server that reads its streams to the end and says that they are no backup.
type reading struct {
	server.Server
	rows *server.Rows
}

func (r reading) Restore(_ context.Context, _ server.Statement, streams []io.Reader) (*server.Outcome, error) {
	for _, s := range streams {
		_, _ = io.Copy(io.Discard, s)
	}
	if r.rows != nil {
		return &server.Outcome{Rows: r.rows}, nil
	}
	return nil, &server.Error{All: []server.Message{{Number: 3241, Severity: 16}, {Number: 3013, Severity: 16}}}
}

// TestTornStreamIsNoProof: SQL Server finds no backup in a stream of which it got the torso
// alone; that says nothing of the whole one.
func TestTornStreamIsNoProof(t *testing.T) {
	ask := func(s server.Server, from io.Reader) error {
		_, err := AskStreams(t.Context(), s, &Instance{}, server.Statement{}, []io.Reader{from})
		return err
	}
	if err := ask(reading{}, strings.NewReader("no backup")); !errors.Is(err, ErrNoRow) {
		t.Errorf("whole stream: %v", err)
	}
	torn := io.MultiReader(strings.NewReader("a back"), iotest.ErrReader(errors.New("cut")))
	if err := ask(reading{}, torn); err == nil || errors.Is(err, ErrNoRow) {
		t.Errorf("torn stream: %v", err)
	}
	if err := ask(reading{rows: &server.Rows{}}, strings.NewReader("")); !errors.Is(err, ErrNoRow) {
		t.Errorf("no set: %v", err)
	}
	if err := AskSeen(t.Context(), reading{}, server.Statement{}); err != nil {
		t.Errorf("seen: %v", err)
	}
}
