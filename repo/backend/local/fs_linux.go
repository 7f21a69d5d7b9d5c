package local

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

func renameNoReplace(fromDir int, from string, toDir int, to string) error {
	return unix.Renameat2(fromDir, from, toDir, to, unix.RENAME_NOREPLACE)
}

// Allocate asks by fallocate(2). ZFS grants it and reserves nothing: whoever
// needs the blocks looks at them afterwards.
func (f diskFile) Allocate(bytes int64) (granted bool, err error) {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, bytes)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EPERM):
			return false, nil
		case err != nil:
			return false, fmt.Errorf("allocate: %w", err)
		}
		return true, nil
	}
}
