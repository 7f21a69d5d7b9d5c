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
// where we run as root. Where the directory is its group's, too, SQL Server may be that
// group alone, which may read then; nobody else ever may.
func lend(path string) {
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		given := os.Chown(path, int(owner.Uid), int(owner.Gid)) == nil
		if !given {
			given = os.Chown(path, -1, int(owner.Gid)) == nil && int(owner.Uid) == os.Getuid()
		}
		if alone := given && info.Mode().Perm()&0o070 == 0; !alone {
			_ = os.Chmod(path, 0o640) // SQL Server itself says if it may not read it
		}
	}
}
