package ledger

import (
	"fmt"
	"slices"
	"time"
)

// Lock is what the lock of a session's state file tells on the host that the
// session says it ran on. On any other host: LockUnknown.
type Lock uint8

// What a lock tells.
const (
	LockUnknown Lock = iota
	LockHeld         // the owner lives
	LockFree         // whoever gets the lock knows that the owner is dead
)

// Patience is what the operator allows a silent session.
type Patience struct {
	DeadAfter time.Duration // of silence, by the store's clock; 0: silence alone never kills
	StoreNow  time.Time     // when the ledger entry just written was stored, by the store's clock
}

// IsDead says whether an open session should be revoked, by put-if-absent into
// its slot, and why. before is the entry that the round began with. The lock
// decides if it can; else the session must have been silent for long by the
// clock that stamped its heartbeats, and an earlier entry must have seen the
// same heartbeat: a clock that jumps cannot kill on its own. To be wrong costs
// the session its work, never data: the slot is taken by one of the two alone.
func IsDead(h Heard, before *View, lock Lock, p Patience) (why string, dead bool) {
	switch lock {
	case LockFree:
		return "its process is gone from this host", true
	case LockHeld:
		return "", false
	}
	silent := p.StoreNow.Sub(h.Newest)
	if p.DeadAfter <= 0 || silent <= p.DeadAfter || !slices.Contains(before.Entry.Open, Open{SID: h.SID.String(), Beats: h.Beats}) {
		return "", false
	}
	return fmt.Sprintf("silent for %s, and at heartbeat %d since an earlier prune", silent.Round(time.Second), h.Beats), true
}
