package ledger

import "strings"

// Names of the objects that stand above all sessions, and of their copies.
const (
	ConfigObject = "config"
	Keys         = "keys/"
	Epochs       = "epochs/"   // boxes and decisions of key rotations
	Removals     = "removals/" // claims to remove key slots
	Spares       = "spare/"
	Quarantine   = "quarantine/" // damaged bytes that a heal replaced; never read as data
)

// Spare is the name of the copy of a precious object.
func Spare(name string) string { return Spares + name }

// HasSpare reports whether objects of that name may be stored twice: what reads or
// heals one of them turns to the other.
func HasSpare(name string) bool { return NeedsSpare(name) || isEntry(name) }

// NeedsSpare reports whether objects of that name are always stored twice, the
// spare first. A ledger entry is not: it stands as soon as it has its number, its
// spare follows, and old entries have none (View.MayRemove).
func NeedsSpare(name string) bool { return name == ConfigObject || IsKeyObject(name) }

// isEntry reports whether name is that of a ledger entry.
func isEntry(name string) bool {
	_, err := ParseLedger(name)
	return err == nil
}

// IsPast reports whether name is that of a ledger entry, or of its spare, below the
// newest: it holds its number, and nothing reads it any more.
func IsPast(name string, newest uint32) bool {
	n, err := ParseLedger(TrueName(name))
	return err == nil && n < newest
}

// IsKeyObject reports whether an object of that name belongs to the key slots:
// it is not sealed by the key ring but seals or signs itself (FORMAT.md §6).
func IsKeyObject(name string) bool {
	return strings.HasPrefix(name, Keys) || strings.HasPrefix(name, Epochs) || strings.HasPrefix(name, Removals)
}

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
	if IsKeyObject(name) {
		return true
	}
	for _, prefix := range []string{Sessions, Commits, Confirms, Forgets, Labels, Ledgers, Indexes} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return name == ConfigObject
}
