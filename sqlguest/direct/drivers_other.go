//go:build !windows

package direct

import (
	"os"
	"path/filepath"
	"syscall"
)

// elevated is for Windows; elsewhere nothing asks for it.
func elevated() bool { return true }

// systemDrive is Windows' word.
func systemDrive() string { return "" }

// lend gives a staging file to whom its directory belongs, which is SQL Server's user
// where we run as root; without that right the directory's mode must do.
func lend(path string) {
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		_ = os.Chown(path, int(owner.Uid), int(owner.Gid))
	}
}
