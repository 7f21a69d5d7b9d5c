package ledger

import "strings"

// RemovalOrder is the order of prefixes in which a round deletes (P6, P7): data
// before the index that lists it, a slot before the tombstone that hides it,
// and a session's records last, so that a round cut short leaves what the next
// one recognizes.
func RemovalOrder() []string {
	return []string{Data, Meta, Indexes, Commits, Labels, Confirms, Forgets, Sessions}
}

// MayRemove is P6 and P7, asked of an entry that is in the ledger: may the
// object of that name be deleted? The answer never turns from yes to no, so it
// is asked of any listing, at any time, by a pruner however late.
//
//	pack       its batch is going (P6)
//	segment    the entry supersedes it (P6)
//	slot       void: below the horizon and not among its points (P7)
//	tombstone, label, confirmation
//	           the same
//	session    its record if the roll begins above its number; heartbeats below the horizon
//
// Ledger entries stay, whatever their age: a pruner that was away must find
// the number taken which it means to write. Their spares go but for those of the
// newest and of the one before, which somebody may be reading.
func (v *View) MayRemove(name string) bool {
	switch prefix, _, _ := strings.Cut(name, "/"); prefix + "/" {
	case Data, Meta:
		return v.IsGoing(name)
	case Indexes:
		return v.leaving[name] && !v.IsRun(name)
	case Commits, Forgets, Confirms:
		sid, err := ParseSlot(name)
		return err == nil && v.IsVoid(sid)
	case Labels:
		sid, _, err := ParseNumbered(name)
		return err == nil && v.IsVoid(sid)
	case Sessions:
		if n, err := ParseRoll(name); err == nil {
			return n < v.Entry.Roll
		}
		sid, _, err := ParseNumbered(name)
		return err == nil && sid.Gen < v.Entry.Horizon
	case Spares:
		n, err := ParseLedger(TrueName(name))
		return err == nil && uint64(n)+1 < uint64(v.Number)
	}
	return false
}
