package runlock

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"holdfast/repo/ledger"
)

const aSID = "00000001-0123456789abcdef-fedcba9876543210"

// TestDeadSessionIsKnownToARunWithAnotherCache: backup and prune are started by
// other hands, with other caches, on one host.
func TestDeadSessionIsKnownToARunWithAnotherCache(t *testing.T) {
	shared := t.TempDir()
	prune := Sessions{Shared: shared, Own: filepath.Join(t.TempDir(), "sessions"), Repository: "r"}
	other := exec.Command(os.Args[0], "-test.run=^TestHoldsSession$")
	other.Env = append(os.Environ(), "RUNLOCK_SHARED="+shared, "RUNLOCK_OWN="+filepath.Join(t.TempDir(), "sessions"))
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%q %v", line, err)
	}
	if got := prune.State(aSID); got != ledger.LockHeld {
		t.Errorf("while it lives: %v", got)
	}
	stranger := prune
	stranger.Repository = "another"
	if got := stranger.State(aSID); got != ledger.LockUnknown {
		t.Errorf("in another repository: %v", got)
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	other.Wait() //nolint:errcheck // that it ended is all that counts
	if got := prune.State(aSID); got != ledger.LockFree {
		t.Errorf("after it died: %v", got)
	}
	prune.Settled(aSID)
	if left, err := os.ReadDir(shared); err != nil || len(left) != 0 {
		t.Errorf("left: %v %v", left, err)
	}
	if got := prune.State(aSID); got != ledger.LockUnknown {
		t.Errorf("once it is settled: %v", got)
	}
}

// TestHoldsSession is the other process of the test above.
func TestHoldsSession(t *testing.T) {
	shared := os.Getenv("RUNLOCK_SHARED")
	if shared == "" {
		return
	}
	release, err := Sessions{Shared: shared, Own: os.Getenv("RUNLOCK_OWN"), Repository: "r"}.Hold(aSID)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	os.Stdout.WriteString("held\n")
	os.Stdin.Read(make([]byte, 1)) //nolint:errcheck // it waits for the end
}

// TestLockFallsBackToTheCacheAndItIsSaidWhereThereIsNone.
func TestLockFallsBackToTheCacheAndItIsSaidWhereThereIsNone(t *testing.T) {
	told := 0
	own := filepath.Join(t.TempDir(), "cache", "sessions")
	s := Sessions{Shared: filepath.Join(t.TempDir(), "missing"), Own: own, Repository: "r", Warn: func(error) { told++ }}
	release, err := s.Hold(aSID)
	if err != nil || told != 0 || s.State(aSID) != ledger.LockHeld {
		t.Fatalf("in the cache: %v, told %d, %v", err, told, s.State(aSID))
	}
	release()
	if left, err := os.ReadDir(own); err != nil || len(left) != 0 || s.State(aSID) != ledger.LockUnknown {
		t.Errorf("left: %v %v", left, err)
	}
	s.Own = ""
	if _, err := s.Hold(aSID); !errors.Is(err, ErrNowhere) || told != 1 {
		t.Errorf("nowhere: %v, told %d", err, told)
	}
}

// TestSharedDirectoryIsNoTrap: what another has put in the way of a lock is neither
// followed nor believed, and a pipe stops nobody.
func TestSharedDirectoryIsNoTrap(t *testing.T) {
	s := Sessions{Shared: t.TempDir(), Repository: "r"}
	path, victim := s.paths(aSID)[0], filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, path); err != nil {
		if runtime.GOOS == "windows" {
			t.Skip("links need a privilege on Windows")
		}
		t.Fatal(err)
	}
	if _, err := s.Hold(aSID); !errors.Is(err, os.ErrExist) {
		t.Errorf("over a link: %v", err)
	}
	if got := s.State(aSID); got != ledger.LockUnknown {
		t.Errorf("a link: %v", got)
	}
	if data, err := os.ReadFile(victim); err != nil || string(data) != "precious" {
		t.Errorf("%q %v", data, err)
	}
	if runtime.GOOS == "windows" {
		return
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	makePipe(t, path)
	if got := s.State(aSID); got != ledger.LockUnknown {
		t.Errorf("a pipe: %v", got)
	}
}
