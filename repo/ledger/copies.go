package ledger

import "strings"

// Names of the objects that stand above all sessions, and of their copies.
const (
	ConfigObject = "config"
	Keys         = "keys/"
	Spares       = "spare/"
	Quarantine   = "quarantine/" // damaged bytes that a heal replaced; never read as data
)

// Spare is the name of the copy of a precious object.
func Spare(name string) string { return Spares + name }

// HasSpare reports whether objects of that name are stored twice.
func HasSpare(name string) bool { return name == ConfigObject || strings.HasPrefix(name, Keys) }

// TrueName is the name under which a copy's bytes were sealed.
func TrueName(name string) string { return strings.TrimPrefix(name, Spares) }

// Twin is the name of the other copy of a precious object.
func Twin(name string) string {
	if strings.HasPrefix(name, Spares) {
		return TrueName(name)
	}
	return Spare(name)
}

// IsOurs reports whether an object of that name belongs to a repository. What
// else lies at the place, and quarantine, is nobody's business.
func IsOurs(name string) bool {
	name = TrueName(name)
	if strings.HasPrefix(name, Data) || strings.HasPrefix(name, Meta) {
		_, _, err := ParsePack(name)
		return err == nil
	}
	for _, prefix := range []string{Keys, Sessions, Commits, Confirms, Forgets, Labels, Ledgers, Indexes} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return name == ConfigObject
}
