package server

import (
	"regexp"
	"slices"
)

// SQL Server's errors about what it was given to read.
const (
	cannotOpen  = 3201 // Cannot open backup device '…'. Operating system error N(…).
	terminating = 3013
)

// noBackup are the errors by which SQL Server says of media that it has opened and read
// that they are no backup set: nothing else proves it. Not among them are 3201 (it could
// not be opened), 3203 and 3271 (a read failed), 3243 and 3255 (of another version), 33111
// (the certificate is missing), and all that ends a session or lacks memory: what could not
// be read may be whole.
var noBackup = []int32{
	3208, // unexpected end of file while reading the beginning of a backup set
	3241, // the media family is incorrectly formed
	3242, // no valid Microsoft Tape Format backup set
	3254, // the volume is empty
}

// NoBackup tells whether the error says that SQL Server has read the media of a RESTORE
// and that they are no backup, and nothing besides that might be why.
func (e *Error) NoBackup() bool {
	said := false
	for _, m := range e.All {
		switch {
		case slices.Contains(noBackup, m.Number):
			said = true
		case m.Severity > 10 && m.Number != terminating:
			return false
		}
	}
	return said
}

// Unopened tells whether SQL Server could not open the media.
func (e *Error) Unopened() bool { return e.Has(cannotOpen) }

// systemError is the operating system's number in 3201, in whatever language the rest is;
// it is the last, for the file's name stands before it.
var systemError = regexp.MustCompile(`(\d+)\s*\(`)

// absent are Windows' numbers for what is not there, which SQL Server on Linux uses as
// well: no such file, directory, drive, host or share, and a name that cannot be one.
var absent = []string{"2", "3", "15", "53", "67", "123", "161"}

// Absent tells whether SQL Server found nothing where the media should be.
func (e *Error) Absent() bool {
	for _, m := range e.All {
		if m.Number != cannotOpen {
			continue
		}
		all := systemError.FindAllStringSubmatch(m.Text, -1)
		return len(all) > 0 && slices.Contains(absent, all[len(all)-1][1])
	}
	return false
}
