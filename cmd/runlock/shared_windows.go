package runlock

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// Shared is the directory in which all runs of this host can keep locks, whoever's
// they are and wherever their caches lie.
func Shared() (string, error) {
	data, err := windows.KnownFolderPath(windows.FOLDERID_ProgramData, windows.KF_FLAG_DEFAULT)
	if err != nil {
		return "", fmt.Errorf("find the folder that all users share: %w", err)
	}
	dir := filepath.Join(data, "holdfast-locks") // all users may add files to it, as to the folder above
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make folder for locks: %w", err)
	}
	return dir, nil
}

// openLock opens the lock of another run.
func openLock(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDONLY, 0) }

// isTrusted reports whether a lock was made by this user, the system or an
// administrator: any other could have laid a free one for a session that lives.
func isTrusted(f *os.File) (bool, error) {
	sd, err := windows.GetSecurityInfo(windows.Handle(f.Fd()), windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return false, err
	}
	owner, _, err := sd.Owner()
	if err != nil {
		return false, err
	}
	if owner.IsWellKnown(windows.WinBuiltinAdministratorsSid) || owner.IsWellKnown(windows.WinLocalSystemSid) {
		return true, nil
	}
	me, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return false, err
	}
	return owner.Equals(me.User.Sid), nil
}
