package kept

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"holdfast/sqlguest/chain"
)

// Stamp is how the names of a database's devices begin, so that a file that cannot be read
// is known by its name: as that of a backup of this database, which the name of its lock
// tells, and of this repository. 13 characters of a GUID with its brace.
func Stamp(repository, lock string) string {
	s := digits(repository + "\x00" + lock)
	return "{" + s[:8] + "-" + s[8:12]
}

// InRun is how they go on: by the run of SQL Server (chain.Backup) in which the BACKUP is
// begun, which nobody could tell of a file later. The rest is by lot.
func InRun(run string) string {
	s := digits(run)
	return "-" + s[:4] + "-" + s[4:8]
}

// Name is a fresh device's name that begins so.
func Name(fresh, begin string) string {
	if len(fresh) <= len(begin) {
		return fresh
	}
	return begin + fresh[len(begin):]
}

// RunOf is the one of these runs that a device was named in, chain.NoRun if it is none.
func RunOf(device string, runs []string) string {
	begin := len(Stamp("", ""))
	at := slices.IndexFunc(runs, func(run string) bool {
		return run != "" && begin < len(device) && strings.HasPrefix(strings.ToUpper(device[begin:]), InRun(run))
	})
	if at < 0 {
		return chain.NoRun
	}
	return runs[at]
}

func digits(of string) string {
	sum := sha256.Sum256([]byte(of))
	return strings.ToUpper(hex.EncodeToString(sum[:8]))
}
