package local

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// SyncDir flushes the folder. NTFS journals names by itself; flushing the
// folder's handle pushes that journal out now. File systems that refuse it for
// folders offer nothing better, so a refusal is no error.
func (r *rootFS) SyncDir(name string) error {
	if _, err := r.root.Stat(name); err != nil {
		return err
	}
	return syncPath(filepath.Join(r.root.Name(), filepath.FromSlash(name)))
}

func syncPath(dir string) error {
	p, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return err
	}
	h, err := windows.CreateFile(p, windows.GENERIC_WRITE,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE,
		nil, windows.OPEN_EXISTING, windows.FILE_FLAG_BACKUP_SEMANTICS, 0)
	if err == nil {
		defer windows.CloseHandle(h)
		err = windows.FlushFileBuffers(h)
	}
	if refused(err) {
		return nil
	}
	return err
}

func refused(err error) bool {
	for _, e := range []error{
		windows.ERROR_ACCESS_DENIED, windows.ERROR_INVALID_FUNCTION,
		windows.ERROR_NOT_SUPPORTED, windows.ERROR_INVALID_PARAMETER,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// RenameNew is for disks without hard links (FAT, exFAT). MoveFileEx takes
// paths, not handles; that both folders lie inside is asked of os.Root first.
func (r *rootFS) RenameNew(from, to string) error {
	for _, name := range []string{from, to} {
		dir, err := r.root.OpenRoot(filepath.Dir(filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		dir.Close()
	}
	old, err := windows.UTF16PtrFromString(filepath.Join(r.root.Name(), filepath.FromSlash(from)))
	if err != nil {
		return err
	}
	now, err := windows.UTF16PtrFromString(filepath.Join(r.root.Name(), filepath.FromSlash(to)))
	if err != nil {
		return err
	}
	if err := windows.MoveFileEx(old, now, windows.MOVEFILE_WRITE_THROUGH); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// lockFile takes LockFileEx on the file's first byte; it ends with the handle.
func lockFile(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()),
		windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return ErrLocked
	}
	if err != nil {
		return &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	return nil
}

// Allocate sets the length: NTFS and exFAT give a file that is not sparse its
// clusters with it.
func (f diskFile) Allocate(bytes int64) (granted bool, err error) { return true, f.Truncate(bytes) }

// allocated is the file's length, see Allocate.
func allocated(info fs.FileInfo) int64 { return info.Size() }

func noSpace(err error) bool {
	for _, e := range []error{windows.ERROR_DISK_FULL, windows.ERROR_HANDLE_DISK_FULL, windows.ERROR_DISK_QUOTA_EXCEEDED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func unreachable(err error) bool {
	for _, e := range []error{
		windows.ERROR_BAD_NETPATH, windows.ERROR_NETNAME_DELETED, windows.ERROR_BAD_NET_NAME,
		windows.ERROR_UNEXP_NET_ERR, windows.ERROR_NETWORK_UNREACHABLE, windows.ERROR_SEM_TIMEOUT, fs.ErrPermission,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
