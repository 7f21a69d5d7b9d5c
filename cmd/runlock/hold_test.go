package runlock

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

func TestOneHoldsAtATimeAndLeavesNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "guard")
	release, err := Hold(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Hold(path); !errors.Is(err, ErrHeld) {
		t.Errorf("a second holder: %v", err)
	}
	release()
	release() // once is enough, twice does no harm
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the file stays: %v", err)
	}
	if release, err = Hold(path); err != nil {
		t.Fatal(err)
	}
	release()
	if _, err := Hold(filepath.Join(path, "missing", "guard")); err == nil || errors.Is(err, ErrHeld) {
		t.Errorf("without a folder: %v", err)
	}
}

// TestHoldersNeverMeet: the file is removed and made again all the time, and one
// who opened it before it was removed must not think that he holds it.
func TestHoldersNeverMeet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "guard")
	var holders, held atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 300 {
				release, err := Hold(path)
				if err != nil {
					continue
				}
				if holders.Add(1) != 1 {
					t.Error("two hold it")
				}
				held.Add(1)
				holders.Add(-1)
				release()
			}
		})
	}
	all.Wait()
	if held.Load() == 0 {
		t.Error("nobody ever held it")
	}
}

// TestDeadHolderIsSucceeded: kill -9 leaves the file, and nobody who holds it.
func TestDeadHolderIsSucceeded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "guard")
	other := exec.Command(os.Args[0], "-test.run=^TestHolds$")
	other.Env = append(os.Environ(), "RUNLOCK_HOLDS="+path)
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
	if _, err := Hold(path); !errors.Is(err, ErrHeld) {
		t.Errorf("while the other lives: %v", err)
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	other.Wait() //nolint:errcheck // that it ended is all that counts
	if _, err := os.Lstat(path); err != nil {
		t.Fatalf("the dead one left nothing, so nothing is tested: %v", err)
	}
	release, err := Hold(path)
	if err != nil {
		t.Fatal(err)
	}
	release()
}

// TestHolds is the other process of the test above.
func TestHolds(t *testing.T) {
	path := os.Getenv("RUNLOCK_HOLDS")
	if path == "" {
		return
	}
	release, err := Hold(path)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	os.Stdout.WriteString("held\n")
	os.Stdin.Read(make([]byte, 1)) //nolint:errcheck // it waits for the end
}

func TestLinkIsNoGuard(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "guard")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), path); err != nil {
		if runtime.GOOS == "windows" {
			t.Skip("links need a privilege on Windows")
		}
		t.Fatal(err)
	}
	if _, err := Hold(path); err == nil || errors.Is(err, ErrHeld) {
		t.Errorf("got %v", err)
	}
}
