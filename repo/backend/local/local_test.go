package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"holdfast/repo/backend"
	"holdfast/repo/backend/backendtest"
)

// create makes a backend in a directory that the test removes.
func create(t testing.TB, opts Options) *Backend {
	t.Helper()
	b, err := Create(t.Context(), filepath.Join(t.TempDir(), "repo"), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err, sentinel error) {
	t.Helper()
	if !errors.Is(err, sentinel) {
		t.Errorf("%s: got %v, want %v", what, err, sentinel)
	}
}

func TestConformance(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) backend.Backend { return create(t, Options{}) })
}

func TestConformanceWithoutRoomForUnsyncedFiles(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) backend.Backend { return create(t, Options{UnsyncedFiles: 1, SyncParallel: 1}) },
		"Put", "Sync", "Writers", "Delete")
}

// TestConformanceOfEachMethod forces the ways of taking a free name that the
// probe passes over on this file system.
func TestConformanceOfEachMethod(t *testing.T) {
	for m, name := range map[method]string{byRename: "rename without replacing", underLock: "under the lock"} {
		t.Run(name, func(t *testing.T) {
			backendtest.Run(t, func(t *testing.T) backend.Backend {
				b := create(t, Options{})
				work, err := b.workspace()
				must(t, err)
				if ok, err := b.proves(work, byRename); m == byRename && !ok {
					t.Skipf("this file system cannot rename without replacing (%v)", err)
				}
				work.method = m
				return b
			}, "PutIfAbsent", "PutAgain", "LargeObject", "EmptyObject", "BadNames", "Cancelled")
		})
	}
}

func TestProbeFindsThatThisSystemCanLinkAndRename(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("depends on the volume's file system")
	}
	b := create(t, Options{})
	work, err := b.workspace()
	must(t, err)
	for _, m := range []method{byLink, byRename} {
		if ok, err := b.proves(work, m); !ok || err != nil {
			t.Errorf("method %d: %v, %v", m, ok, err)
		}
	}
	if work.method != byLink || b.SingleWriter() != "" {
		t.Errorf("method %d, single writer %q", work.method, b.SingleWriter())
	}
}

func TestCreateRefusesNonEmptyDirectory(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "Holiday.JPG"), nil, 0o600))
	_, err := Create(t.Context(), dir, Options{})
	wantErr(t, "create", err, ErrNotEmpty)

	empty := filepath.Join(t.TempDir(), "a", "b", "c")
	b, err := Create(t.Context(), empty, Options{})
	must(t, err)
	must(t, b.Put(t.Context(), "config", []byte("x")))
	must(t, b.Close())
	_, err = Create(t.Context(), empty, Options{})
	wantErr(t, "create again", err, ErrNotEmpty)
}

// TestCreateTakesFoldersWithoutFiles: what is left where an init was interrupted
// and took back what it had written.
func TestCreateTakesFoldersWithoutFiles(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "spare", "keys"), 0o700))
	b, err := Create(t.Context(), dir, Options{})
	must(t, err)
	must(t, b.Close())
	must(t, os.WriteFile(filepath.Join(dir, "spare", "keys", "x"), nil, 0o600))
	_, err = Create(t.Context(), dir, Options{})
	wantErr(t, "create", err, ErrNotEmpty)
}

func TestCreateTakesWhatAnInterruptedCreateLeft(t *testing.T) {
	b := create(t, Options{})
	_ = b.SingleWriter() // makes tmp
	unlock, err := b.LockWriter(t.Context())
	must(t, err)
	must(t, unlock())
	must(t, b.Close())
	again, err := Create(t.Context(), b.Location(), Options{})
	must(t, err)
	must(t, again.Close())
}

func TestOpenOfMissingDirectoryIsErrNotFound(t *testing.T) {
	_, err := Open(t.Context(), filepath.Join(t.TempDir(), "no"), Options{})
	wantErr(t, "open", err, backend.ErrNotFound)
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	_, err = Open(t.Context(), file, Options{})
	wantErr(t, "open a file", err, backend.ErrNotFound)
}

func TestOpenAndReadWriteNothing(t *testing.T) {
	b := create(t, Options{})
	must(t, b.Put(t.Context(), "data/x", []byte("x")))
	must(t, b.Close())
	must(t, os.RemoveAll(filepath.Join(b.Location(), tempName)))
	before := tree(t, b.Location())
	r, err := Open(t.Context(), b.Location(), Options{})
	must(t, err)
	defer r.Close()
	_, err = r.Get(t.Context(), "data/x", 0, -1)
	must(t, err)
	must(t, r.List(t.Context(), "", func(backend.Info) error { return nil }))
	if after := tree(t, b.Location()); !slices.Equal(before, after) {
		t.Errorf("reading changed the directory: %q to %q", before, after)
	}
}

// tree lists all paths below dir with their modes.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		rel, _ := filepath.Rel(dir, path)
		all = append(all, fmt.Sprint(filepath.ToSlash(rel), " ", info.Mode()))
		return err
	}))
	return all
}

func TestModesArePrivateAndCloseLeavesNoTemporaryFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes are not Windows' way")
	}
	b := create(t, Options{})
	must(t, b.Put(t.Context(), "data/s/p", []byte("x")))
	must(t, b.PutIfAbsent(t.Context(), "commit/s/1", []byte("x")))
	must(t, b.Sync(t.Context()))
	must(t, b.Close())
	want := []string{
		". drwx------", "commit drwx------", "commit/s drwx------", "commit/s/1 -rw-------",
		"data drwx------", "data/s drwx------", "data/s/p -rw-------", "tmp drwx------", "tmp/reserve -rw-------",
	}
	if got := tree(t, b.Location()); !slices.Equal(got, want) {
		t.Errorf("directory holds\n%q\nwant\n%q", got, want)
	}
}

func TestDeleteRemovesEmptyFoldersBelowTheTop(t *testing.T) {
	b := create(t, Options{})
	must(t, b.Put(t.Context(), "data/s1/p1", nil))
	must(t, b.Put(t.Context(), "data/s1/p2", nil))
	must(t, b.Delete(t.Context(), "data/s1/p1"))
	if _, err := os.Stat(filepath.Join(b.dir, "data", "s1")); err != nil {
		t.Errorf("folder of a living object: %v", err)
	}
	must(t, b.Delete(t.Context(), "data/s1/p2"))
	if _, err := os.Stat(filepath.Join(b.dir, "data", "s1")); !os.IsNotExist(err) {
		t.Errorf("empty folder stays: %v", err)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "data")); err != nil {
		t.Errorf("top folder: %v", err)
	}
	must(t, b.Sync(t.Context()))
}

func TestForeignFilesAndLinksAreNotListed(t *testing.T) {
	b := create(t, Options{})
	must(t, b.Put(t.Context(), "data/p", []byte("x")))
	for _, name := range []string{"README.TXT", "data/p~", "data/.DS_Store", "data/UPPER"} {
		must(t, os.WriteFile(filepath.Join(b.dir, name), nil, 0o600))
	}
	must(t, os.Mkdir(filepath.Join(b.dir, "Lost+Found"), 0o700))
	_ = os.Symlink("p", filepath.Join(b.dir, "data", "link")) // Windows may refuse; then there is less to pass over
	var names []string
	must(t, b.List(t.Context(), "", func(info backend.Info) error {
		names = append(names, info.Name)
		return nil
	}))
	if !slices.Equal(names, []string{"data/p"}) {
		t.Errorf("listed %q", names)
	}
}

func TestReservedNamesAreRefused(t *testing.T) {
	b := create(t, Options{})
	for _, name := range []string{"lock", "tmp", "tmp/x"} {
		wantErr(t, "put "+name, b.Put(t.Context(), name, nil), ErrName)
		wantErr(t, "put new "+name, b.PutIfAbsent(t.Context(), name, nil), ErrName)
		_, err := b.Get(t.Context(), name, 0, -1)
		wantErr(t, "get "+name, err, ErrName)
		wantErr(t, "delete "+name, b.Delete(t.Context(), name), ErrName)
	}
}

func TestLinksLeadNowhereOutside(t *testing.T) {
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	must(t, os.WriteFile(secret, []byte("secret"), 0o600))
	b := create(t, Options{})
	for link, target := range map[string]string{"data": outside, "config": secret} {
		if err := os.Symlink(target, filepath.Join(b.dir, link)); err != nil {
			t.Skipf("cannot make symbolic links here: %v", err)
		}
	}
	for _, name := range []string{"data/secret", "config"} {
		if data, err := b.Get(t.Context(), name, 0, -1); err == nil {
			t.Errorf("get %s: read %q", name, data)
		}
	}
	if b.Put(t.Context(), "data/new", []byte("x")) == nil || b.PutIfAbsent(t.Context(), "data/new", []byte("x")) == nil {
		t.Error("put through a link")
	}
	_ = b.Put(t.Context(), "config", []byte("x")) // may replace the link, must not follow it
	_ = b.Delete(t.Context(), "data/secret")
	if got, err := os.ReadFile(secret); err != nil || string(got) != "secret" {
		t.Errorf("file outside: %q, %v", got, err)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("outside: %v, %v", entries, err)
	}
}

func TestPutBelowAnObjectSaysNotADirectory(t *testing.T) {
	b := create(t, Options{})
	must(t, b.Put(t.Context(), "a", nil))
	for _, err := range []error{b.Put(t.Context(), "a/b", nil), b.PutIfAbsent(t.Context(), "a/b", nil)} {
		if err == nil || errors.Is(err, backend.ErrNotFound) {
			t.Errorf("put below an object: %v", err)
		}
	}
}

func TestWritersLockExcludesASecondWriter(t *testing.T) {
	b := create(t, Options{})
	other, err := Open(t.Context(), b.dir, Options{})
	must(t, err)
	defer other.Close()
	unlock, err := b.LockWriter(t.Context())
	must(t, err)
	_, err = other.LockWriter(t.Context())
	wantErr(t, "second lock", err, ErrLocked)
	must(t, unlock())
	unlock, err = other.LockWriter(t.Context())
	must(t, err)
	must(t, unlock())
	must(t, b.List(t.Context(), "", func(info backend.Info) error { return fmt.Errorf("listed %s", info.Name) }))
}

func TestPutUnderLockNeedsTheLock(t *testing.T) {
	b := create(t, Options{})
	work, err := b.workspace()
	must(t, err)
	work.method = underLock
	if b.SingleWriter() == "" {
		t.Error("no reason for a single writer")
	}
	other, err := Open(t.Context(), b.dir, Options{})
	must(t, err)
	defer other.Close()
	unlock, err := other.LockWriter(t.Context())
	must(t, err)
	wantErr(t, "put new while another writes", b.PutIfAbsent(t.Context(), "config", nil), ErrLocked)
	must(t, unlock())
	must(t, b.PutIfAbsent(t.Context(), "config", nil))
	unlock, err = b.LockWriter(t.Context())
	must(t, err)
	must(t, b.PutIfAbsent(t.Context(), "ledger/0", nil))
	must(t, unlock())
}

func TestClosedBackendRefuses(t *testing.T) {
	b := create(t, Options{})
	must(t, b.Put(t.Context(), "a", nil))
	must(t, b.Close())
	must(t, b.Close())
	for what, err := range map[string]error{
		"put":     b.Put(t.Context(), "a", nil),
		"put new": b.PutIfAbsent(t.Context(), "b", nil),
		"delete":  b.Delete(t.Context(), "a"),
		"sync":    b.Sync(t.Context()),
		"list":    b.List(t.Context(), "", func(backend.Info) error { return nil }),
	} {
		wantErr(t, what, err, errClosed)
	}
}

func BenchmarkPut(b *testing.B) {
	for _, bytes := range []int{4 << 10, 1 << 20, 34 << 20} {
		b.Run(fmt.Sprint(bytes>>10, "KiB"), func(b *testing.B) {
			store := create(b, Options{})
			data := backendtest.Bytes(1, bytes)
			b.SetBytes(int64(bytes))
			for i := 0; b.Loop(); i++ {
				must(b, store.Put(context.Background(), fmt.Sprintf("data/s/%d", i%32), data))
			}
			must(b, store.Sync(context.Background()))
		})
	}
}

func BenchmarkGet(b *testing.B) {
	for _, bytes := range []int{4 << 10, 128 << 10, 34 << 20} {
		b.Run(fmt.Sprint(bytes>>10, "KiB"), func(b *testing.B) {
			store := create(b, Options{})
			must(b, store.Put(context.Background(), "data/s/p", backendtest.Bytes(1, 34<<20)))
			b.SetBytes(int64(bytes))
			for b.Loop() {
				_, err := store.Get(context.Background(), "data/s/p", 0, int64(bytes))
				must(b, err)
			}
		})
	}
}
