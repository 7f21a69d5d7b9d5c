package direct

import (
	"path/filepath"

	// The Express editions listen on these alone.
	_ "github.com/microsoft/go-mssqldb/namedpipe"
	_ "github.com/microsoft/go-mssqldb/sharedmemory"
	"golang.org/x/sys/windows"
)

// elevated tells whether this process may make global kernel objects.
func elevated() bool { return windows.GetCurrentProcessToken().IsElevated() }

// systemDrive is the drive that Windows lies on, "" if it does not say.
func systemDrive() string {
	dir, err := windows.GetSystemDirectory()
	if err != nil {
		return ""
	}
	return filepath.VolumeName(dir)
}

// lend leaves a staging file as the directory's rules make it.
func lend(string) {}
