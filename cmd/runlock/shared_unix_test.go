//go:build unix

package runlock

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/repo/ledger"
)

func makePipe(t *testing.T, path string) {
	t.Helper()
	if err := unix.Mkfifo(path, 0o666); err != nil {
		t.Fatal(err)
	}
}

// TestFreeLockOfAnotherUserProvesNothing: anybody could have laid it.
func TestFreeLockOfAnotherUserProvesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	s := Sessions{Shared: t.TempDir(), Repository: "r"}
	path := s.paths(aSID)[0]
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := s.State(aSID); got != ledger.LockFree {
		t.Fatalf("one's own: %v", got)
	}
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if got := s.State(aSID); got != ledger.LockUnknown {
		t.Errorf("another's: %v", got)
	}
}

// TestLockCanBeReadByAllWhateverTheUmask: a backup by root, a prune by somebody else.
func TestLockCanBeReadByAllWhateverTheUmask(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	s := Sessions{Shared: t.TempDir(), Repository: "r"}
	release, err := s.Hold(aSID)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if info, err := os.Stat(s.paths(aSID)[0]); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

func TestSharedDirectoryIsTheSystems(t *testing.T) {
	dir, err := Shared()
	if err != nil {
		t.Skip("this host has none: ", err)
	}
	info, err := os.Lstat(dir)
	if err != nil || info.Mode()&os.ModeSticky == 0 {
		t.Errorf("%s: %v %v", dir, info, err)
	}
}
