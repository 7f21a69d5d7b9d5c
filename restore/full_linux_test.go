package restore_test

import (
	"errors"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"holdfast/restore"
)

// TestDiskThatIsFullLeavesNothing lets the operating system refuse what goes
// beyond a size, as a full disk would.
func TestDiskThatIsFullLeavesNothing(t *testing.T) {
	v := newVault(t, 40*chunkBytes)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	for _, sparse := range []bool{true, false} {
		for _, limit := range []uint64{1, chunkBytes, 20 * chunkBytes, 40*chunkBytes - 1} {
			dir := t.TempDir()
			if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: old.Max}); err != nil {
				t.Fatal(err)
			}
			_, err := restore.Run(t.Context(), v.r, v.point, v.disk(), &restore.FileTarget{Path: filepath.Join(dir, "disk"), Sparse: sparse}, opts)
			if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
				t.Fatal(err)
			}
			if !errors.Is(err, syscall.EFBIG) {
				t.Errorf("limit %d: %v", limit, err)
			}
			if left := files(t, dir); len(left) != 0 {
				t.Errorf("limit %d: left %v", limit, left)
			}
		}
	}
}
