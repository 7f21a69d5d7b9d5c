// Package paths makes names for files that a SQL Server on any system takes: the server
// may run on Windows and this program elsewhere, so that nothing here asks the machine.
package paths

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
)

// Longest is what a restore takes without trouble on Windows, in characters.
const Longest = 256

// Split takes a path apart by its own separators, whatever this machine's are.
func Split(path string) (dir, base, separator string) {
	cut := strings.LastIndexAny(path, `\/`)
	if cut < 0 {
		return "", path, `\`
	}
	return path[:cut], path[cut+1:], path[cut : cut+1]
}

// Standby is a path for the undo file of a database, in a directory of the server's.
func Standby(dir, database string) string {
	separator := `\`
	if strings.Contains(dir, "/") {
		separator = "/"
	}
	dir = strings.TrimRight(dir, `\/`) + separator
	const extension = "_undo.tuf"
	return dir + Fit(FileName(database), Longest-len([]rune(dir+extension))) + extension
}

// FileName is a database's name as every system takes it for a file's.
func FileName(database string) string {
	name := strings.TrimRight(strings.Map(func(r rune) rune {
		if r < ' ' || strings.ContainsRune(`<>:"/\|?*`, r) {
			return '_'
		}
		return r
	}, database), ". ")
	if reserved(name) {
		name = "_" + name
	}
	return name
}

// reserved tells whether Windows takes a file of that name for a device, whatever its
// extension.
func reserved(name string) bool {
	first, _, _ := strings.Cut(strings.ToUpper(name), ".")
	if slices.Contains([]string{"", "CON", "PRN", "AUX", "NUL"}, first) {
		return true
	}
	return len(first) == 4 && (strings.HasPrefix(first, "COM") || strings.HasPrefix(first, "LPT")) && first[3] >= '1' && first[3] <= '9'
}

// Fit makes a name that long at most, in characters.
func Fit(name string, most int) string {
	runes := []rune(name)
	if len(runes) <= most {
		return name
	}
	mark := fmt.Sprintf("~%x", sha256.Sum256([]byte(name)))[:7]
	return string(runes[:max(most-len(mark), 1)]) + mark
}
