package replay_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"holdfast/backup"
	"holdfast/repo/recovery"
	"holdfast/sqlguest"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/server"
)

// full is a repository that has no room when everything was read.
type full struct{ sqlguest.Keeper }

func (full) Store(ctx context.Context, src backup.Source) (*recovery.Point, error) {
	f, err := src.Freeze(ctx, nil)
	if err != nil {
		return nil, err
	}
	s, err := f.Items()[0].Stream.Open(ctx)
	if err == nil {
		_, err = io.Copy(io.Discard, s)
	}
	return nil, errors.Join(errFault, err, f.Release(ctx))
}

// noMemory is a server that cannot look into files just now.
type noMemory struct{ *direct.Server }

func (n noMemory) Query(ctx context.Context, text string, args ...server.Arg) (*server.Rows, error) {
	if strings.HasPrefix(text, "RESTORE HEADERONLY") {
		return nil, &server.Error{All: []server.Message{{Number: 701, Severity: 17, Text: "There is insufficient system memory"}}}
	}
	return n.Server.Query(ctx, text, args...)
}

// TestSQL150RestoreTellsOfAFileThatCannotBeRead: the latest moment may lie in it, and it
// is still there afterwards.
func TestSQL150RestoreTellsOfAFileThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	w := newWorldOn(t, lab.Options{BackupDirectory: dir, Path: func(p string) string { return p }})
	w.live()
	w.add(77, "kept")
	run := &sqlguest.Run{Server: w.sql, Label: "sql/LAB", Place: "lab", Request: decide.Request{Want: decide.Log}, Transport: server.Disk, Keep: full{w.keep()}, Databases: []string{"sales"}, Device: w.device}
	_, err := run.All(t.Context())
	w.must(err)
	r := w.job(w.instance, plan.Target{}, plan.Options{As: "copy"})
	r.Transport, r.Server = server.Disk, noMemory{w.sql}
	res, err := r.Do(t.Context())
	w.must(err)
	if said := strings.Join(res.Warnings, " "); !strings.Contains(said, "could not read it") || !strings.Contains(said, dir) && !strings.Contains(said, ".bak") {
		t.Errorf("warnings %q", res.Warnings)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("files %v, %v", list, err)
	}
}

// TestSQL152RestoreThroughTwoDirectories is refused before the database is touched, and
// the plan says so.
func TestSQL152RestoreThroughTwoDirectories(t *testing.T) {
	dir := t.TempDir()
	w := newWorldOn(t, lab.Options{BackupDirectory: dir, Path: func(p string) string { return p }})
	w.live()
	before := w.settings("sales")
	r := w.job(w.instance, plan.Target{}, plan.Options{Replace: true, Kick: true})
	r.Transport, r.Staging, r.Local = server.Disk, dir, t.TempDir()
	if _, err := r.Preview(t.Context()); !errors.Is(err, direct.ErrStaging) {
		t.Errorf("plan: %v", err)
	}
	if _, err := r.Do(t.Context()); !errors.Is(err, direct.ErrStaging) {
		t.Errorf("restore: %v", err)
	}
	if after := w.settings("sales"); after != before {
		t.Errorf("sales is %s, was %s", after, before)
	}
	w.want("sales", "full log mark behind diff last tail")
}
