package local

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

func renameNoReplace(fromDir int, from string, toDir int, to string) error {
	return unix.RenameatxNp(fromDir, from, toDir, to, unix.RENAME_EXCL)
}

// Allocate asks by F_PREALLOCATE, which leaves the length alone, and then sets that.
func (f diskFile) Allocate(bytes int64) (granted bool, err error) {
	want := unix.Fstore_t{Flags: unix.F_ALLOCATEALL, Posmode: unix.F_PEOFPOSMODE, Length: bytes}
	err = unix.FcntlFstore(f.Fd(), unix.F_PREALLOCATE, &want)
	switch {
	case errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EPERM):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("allocate: %w", err)
	}
	return true, f.Truncate(bytes)
}
