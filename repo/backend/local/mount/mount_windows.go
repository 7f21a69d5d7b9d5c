package mount

import (
	"golang.org/x/sys/windows"
)

// Network tells by GetDriveType whether dir lies on a share.
func Network(dir string) string {
	p, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return ""
	}
	volume := make([]uint16, windows.MAX_LONG_PATH)
	if err := windows.GetVolumePathName(p, &volume[0], uint32(len(volume))); err != nil {
		return ""
	}
	if windows.GetDriveType(&volume[0]) != windows.DRIVE_REMOTE {
		return ""
	}
	return singleWriter("a network share")
}
