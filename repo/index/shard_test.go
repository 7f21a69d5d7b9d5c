package index

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestMergeThatCannotBeWrittenIsPutOff: a full or broken cache directory costs
// speed, not answers.
func TestMergeThatCannotBeWrittenIsPutOff(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("skipped on Windows: a directory with open files cannot be taken away there")
	}
	dir := filepath.Join(t.TempDir(), "cache")
	rem, tables := fill(maxRecent+4, 20)
	for name, data := range rem.objects {
		s, err := store{dir}.take(name, data)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	l, err := OpenLocal(dir, LocalOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // where a directory should be
		t.Fatal(err)
	}
	refresh(t, l, rem)
	localEquals(t, l, model(tables))
	if !strings.Contains(log.String(), "put off") || len(l.parts) != len(tables) {
		t.Errorf("%d parts, log %q", len(l.parts), log.String())
	}
	if err := l.AddSegment("index/x", segmentBytes(t, tables[0])); err == nil {
		t.Error("a segment was stored where there is no directory")
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	refresh(t, l, rem) // the directory comes back by itself
	localEquals(t, l, model(tables))
	if len(l.parts) > 2 {
		t.Errorf("still %d parts", len(l.parts))
	}
}

func TestOldTemporaryFilesAreSwept(t *testing.T) {
	dir := t.TempDir()
	old, fresh := filepath.Join(dir, "1.tmp"), filepath.Join(dir, "2.tmp")
	for _, path := range []string{old, fresh} {
		if err := os.WriteFile(path, []byte("half a file"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(old)
	if err != nil {
		t.Fatal(err)
	}
	then := info.ModTime().Add(-2 * staleTemp)
	if err := os.Chtimes(old, then, then); err != nil {
		t.Fatal(err)
	}
	rem, _ := fill(1, 3)
	refresh(t, openLocal(t, dir), rem)
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("old temporary file: %v", err)
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Errorf("another process's temporary file: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, tempPattern)); len(left) != 1 {
		t.Errorf("temporary files left: %v", left)
	}
}

// TestNameTakenByAnOpenFile stands for Windows, where a file that someone has
// open cannot be replaced: a directory of that name cannot be either.
func TestNameTakenByAnOpenFile(t *testing.T) {
	rem, tables := fill(1, 30)
	first := t.TempDir()
	refresh(t, openLocal(t, first), rem)
	files, err := os.ReadDir(first)
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	second := t.TempDir()
	if err := os.MkdirAll(filepath.Join(second, files[0].Name(), "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	l := openLocal(t, second)
	refresh(t, l, rem)
	localEquals(t, l, model(tables))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	rem.takeFetched()
	l = openLocal(t, second)
	refresh(t, l, rem)
	localEquals(t, l, model(tables))
	if n := rem.takeFetched(); n != 0 {
		t.Errorf("%d fetches: the second name was not found", n)
	}
}

// TestRedundantFilesAreDropped: what a merge left behind, since another process
// had it open, goes when the directory is opened next.
func TestRedundantFilesAreDropped(t *testing.T) {
	dir := t.TempDir()
	rem, tables := fill(20, 20)
	l := openLocal(t, dir)
	refresh(t, l, rem)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	before, _ := filepath.Glob(filepath.Join(dir, "*"))
	for name, data := range rem.objects {
		s, err := store{dir}.take(name, data)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
	l = openLocal(t, dir)
	after, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(after) > len(before) {
		t.Errorf("%d files, then %d", len(before), len(after))
	}
	refresh(t, l, rem)
	localEquals(t, l, model(tables))
}
