package runlock

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"holdfast/vmware/snapshot"
)

func TestRunLivesUntilItsLockIsFree(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "runs")
	first, err := New(dir, snapshot.Run{Host: "here"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := New(dir, snapshot.Run{Host: "here"})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if !second.Alive(first.Run) || !first.Alive(second.Run) || !first.Alive(first.Run) {
		t.Error("a living run is taken for dead")
	}
	// What kill -9 leaves: the file, and nobody who holds it.
	dead := snapshot.Run{ID: "dead", PID: first.Run.PID}
	if err := os.WriteFile(filepath.Join(dir, dead.ID), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if second.Alive(dead) {
		t.Error("a dead run is taken for living")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if second.Alive(first.Run) {
		t.Error("a run that ended is taken for living")
	}
	second.Prune(time.Now().Add(time.Hour))
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("prune left %v, %v", left, err)
	}
}

// TestRunOfAnotherCacheDirectoryIsNotTakenForDead: its file is not here, but its
// process lives.
func TestRunOfAnotherCacheDirectoryIsNotTakenForDead(t *testing.T) {
	l, err := New(t.TempDir(), snapshot.Run{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	other := exec.Command(os.Args[0], "-test.run=^TestWaits$")
	other.Env = append(os.Environ(), "RUNLOCK_WAITS=1")
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	run := snapshot.Run{ID: "elsewhere", PID: other.Process.Pid}
	if !l.Alive(run) {
		t.Error("a living run is taken for dead")
	}
	in.Close()
	other.Wait() //nolint:errcheck // that it ended is all that counts
	if l.Alive(run) {
		t.Error("a run whose process ended is taken for living")
	}
}

// TestWaits is the other process of the test above.
func TestWaits(t *testing.T) {
	if os.Getenv("RUNLOCK_WAITS") == "" {
		return
	}
	os.Stdin.Read(make([]byte, 1)) //nolint:errcheck // it waits for the end
}
