package direct_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/server"
)

func empty(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
			t.Errorf("left in %s: %v (%v)", dir, list, err)
		}
	}
}

// TestSQL152StagingIsOneDirectory: a typo in --staging, or a share that is not mounted, is
// seen before SQL Server truncates a log into files that nobody finds.
func TestSQL152StagingIsOneDirectory(t *testing.T) {
	_, s := laboratory(t)
	theirs, ours := t.TempDir(), t.TempDir()
	backUp(t, s, statement("BACKUP DATABASE d TO %s", server.VDI))
	before := lastLog(t, s)
	st := statement("BACKUP LOG d TO %s", server.Disk)
	st.Staging, st.Local = theirs, ours
	if _, err := s.Backup(t.Context(), st); !errors.Is(err, direct.ErrStaging) || !strings.Contains(err.Error(), theirs) || !strings.Contains(err.Error(), ours) {
		t.Errorf("backup: %v", err)
	}
	if now := lastLog(t, s); now != before {
		t.Errorf("the log is truncated: it begins at %v, began at %v", now, before)
	}
	empty(t, theirs, ours)
	st.Text = "RESTORE HEADERONLY FROM %s"
	if _, err := s.Restore(t.Context(), st, []io.Reader{strings.NewReader("x")}); !errors.Is(err, direct.ErrStaging) {
		t.Errorf("restore: %v", err)
	}
	empty(t, theirs, ours)
	if runtime.GOOS == "windows" {
		return // links are for administrators there
	}
	link := filepath.Join(t.TempDir(), "mounted") // the same directory by another name
	must(t, os.Symlink(theirs, link))
	st = statement("BACKUP LOG d TO %s", server.Disk)
	st.Staging, st.Local = theirs, link
	backUp(t, s, st)
	empty(t, theirs)
}

// TestSQL152UnmountedMeanwhile: SQL Server has truncated the log, and its file is not seen
// from here. The error says so, and where it is.
func TestSQL152UnmountedMeanwhile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links are for administrators there")
	}
	_, s := laboratory(t)
	theirs, other, link := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "mounted")
	must(t, os.Symlink(theirs, link))
	backup := func(text string) (server.Backup, server.Statement) {
		st := statement(text, server.Disk)
		st.Staging, st.Local = theirs, link
		b, err := s.Backup(t.Context(), st)
		must(t, err)
		return b, st
	}
	first, _ := backup("BACKUP DATABASE d TO %s")
	read(t, first)
	_, err := first.Commit(t.Context())
	must(t, err)
	must(t, os.Remove(link))
	must(t, os.Symlink(other, link))
	b, st := backup("BACKUP LOG d TO %s")
	if _, err := io.ReadAll(b.Streams()[0]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("read: %v", err)
	}
	var kept *direct.Kept
	path := filepath.Join(theirs, st.Name+".bak")
	if err := b.Abort(t.Context()); !errors.As(err, &kept) || !kept.Lost || kept.Unknown || !strings.Contains(err.Error(), path) || !strings.Contains(kept.Hint(), "mount") {
		t.Fatalf("abort: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}
