package cbt

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"holdfast/repo/recovery"
)

// Policy is what the operator wants of changed-block tracking.
type Policy string

// The policies of --cbt.
const (
	Auto    Policy = "auto"    // use it where it can be believed, enable it where that is safe
	Require Policy = "require" // fail rather than read a disk whole that has a usable parent
	Off     Policy = "off"     // neither use nor touch it
)

// ErrRequired means that changed-block tracking was demanded and cannot be used.
var ErrRequired = errors.New("changed-block tracking is required and cannot be used")

// The rules. Each names why a disk is read whole; Use is the one that lets the
// map be used.
const (
	Use        = "CBT-0"
	NoParent   = "CBT-1"
	NewDisk    = "CBT-2"
	AskedFull  = "CBT-3"
	PolicyOff  = "CBT-4"
	NotTracked = "CBT-5"
	ParentNil  = "CBT-6"
	OtherUUID  = "CBT-7"
	SeqNot     = "CBT-8"
	Resized    = "CBT-9"
	OtherDisk  = "CBT-10"
	Chain      = "CBT-11"
	Lineage    = "CBT-12"
	QueryFault = "CBT-13"
	BadAnswer  = "CBT-14"
	InPlace    = "CBT-15"
	Moved      = "CBT-16"
	BadAttrs   = "CBT-17"
	Missed     = "CBT-18"
	LossyHost  = "CBT-19"
)

// Question is what Decide looks at for one disk.
type Question struct {
	Policy     Policy
	Full       bool  // --full
	HasParent  bool  // an earlier point of this VM exists
	HasItem    bool  // and it holds this disk, by device key
	ParentErr  error // its attributes could not be read
	Parent     DiskAttrs
	Now        DiskAttrs
	WroteSince bool   // we wrote into the disk in place after the parent
	Doubt      string // rule by which the map that Now belongs to is not believed, if any: Missed, LossyHost or BadAttrs
	Why        string // why tracking cannot work here, if that is known
}

// Decision says how to read a disk. ReadCBT still needs Query to succeed.
type Decision struct {
	Mode   string // recovery.ReadCBT, ReadAllocated or ReadFull
	Rule   string
	Reason string // a sentence
}

// Decide is the rule table. It answers ReadCBT only when every rule that could
// doubt the map stayed silent.
func Decide(q Question) Decision {
	for _, r := range rules {
		if reason := r.fires(&q); reason != "" {
			return Full(q, r.id, reason)
		}
	}
	return Decision{recovery.ReadCBT, Use, fmt.Sprintf("changed blocks since %s", short(q.Parent.ChangeID))}
}

// Full is a complete read for that reason: of the areas ever written where the
// map can tell them, else of every byte. A map in doubt tells nothing, not even
// that.
func Full(q Question, rule, reason string) Decision {
	if q.Policy != Off && rule != NotTracked && q.Doubt == "" && q.Now.ChangeID != "" && q.Now.TrackedFromEmpty {
		return Decision{recovery.ReadAllocated, rule, reason}
	}
	return Decision{recovery.ReadFull, rule, reason}
}

// Required turns a decision into ErrRequired when the policy demands tracking.
// A first backup of a disk, and one that was asked to be full, may be complete,
// but not without tracking, for then the next one could not use it either.
func Required(q Question, d Decision) error {
	if q.Policy != Require || d.Mode == recovery.ReadCBT {
		return nil
	}
	first := d.Rule == NoParent || d.Rule == NewDisk || d.Rule == AskedFull
	if first && q.Now.ChangeID != "" {
		return nil
	}
	return fmt.Errorf("read disk %d: %s (%s): %w", q.Now.Key, d.Reason, d.Rule, ErrRequired)
}

type rule struct {
	id    string
	fires func(*Question) string // the reason, or ""
}

// rules in the order of asking: what the operator wants, what there is to
// compare with, what the map says of itself, then the traps.
var rules = []rule{
	{PolicyOff, func(q *Question) string { return when(q.Policy == Off, "changed-block tracking is off by --cbt") }},
	{AskedFull, func(q *Question) string { return when(q.Full, "a full read was asked for") }},
	{NoParent, func(q *Question) string { return when(!q.HasParent, "the first backup of this VM") }},
	{NewDisk, func(q *Question) string { return when(!q.HasItem, "the parent point does not have this disk") }},
	{BadAttrs, func(q *Question) string { return when(q.ParentErr != nil, "what the parent point kept cannot be read") }},
	{InPlace, func(q *Question) string {
		return when(q.WroteSince, "a restore wrote into this VM since the parent point")
	}},
	{NotTracked, notTracked},
	{ParentNil, func(q *Question) string {
		_, ok := parseChangeID(q.Parent.ChangeID)
		return when(!ok, "the parent point has no change id")
	}},
	{OtherUUID, func(q *Question) string {
		return when(!SameTracking(q.Parent.ChangeID, q.Now.ChangeID), "tracking was interrupted: the change id belongs to another map")
	}},
	{Missed, func(q *Question) string {
		return when(q.Doubt == Missed, "the map has missed a change before; vm cbt reset begins a new one")
	}},
	{LossyHost, func(q *Question) string {
		return when(q.Doubt == LossyHost, "the map was kept by ESXi 6.0, which loses changes made while a snapshot is consolidated (KB 2136854); on a later ESXi, vm cbt reset begins a new one")
	}},
	{SeqNot, notLater},
	{Resized, func(q *Question) string {
		if q.Parent.Bytes == q.Now.Bytes {
			return ""
		}
		return fmt.Sprintf("the disk had %d bytes and has %d; advice: reset tracking with vm cbt reset", q.Parent.Bytes, q.Now.Bytes)
	}},
	{OtherDisk, func(q *Question) string {
		return when(q.Parent.UUID != q.Now.UUID || q.Parent.ObjectID != q.Now.ObjectID, "another disk hangs at this device key")
	}},
	{Moved, func(q *Question) string {
		return when(moved(q.Parent.After, q.Now.After), "the disk was moved: "+first(q.Parent.After)+" is now "+first(q.Now.After))
	}},
	{Chain, func(q *Question) string {
		return when(!slices.Equal(q.Parent.After, q.Now.After) || len(q.Now.After) == 0,
			"the disk writes to other files than after the last backup, as after a revert: "+first(q.Parent.After)+" is now "+first(q.Now.After))
	}},
	{Lineage, func(q *Question) string {
		return when(!slices.Equal(q.Parent.Lineage, q.Now.Lineage), "the VM's snapshots are not those of the last backup")
	}},
}

func notTracked(q *Question) string {
	if _, ok := parseChangeID(q.Now.ChangeID); ok {
		return ""
	}
	if q.Why != "" {
		return "changes are not tracked: " + q.Why
	}
	return "changes are not tracked yet"
}

func notLater(q *Question) string {
	old, _ := parseChangeID(q.Parent.ChangeID)
	now, _ := parseChangeID(q.Now.ChangeID)
	return when(now.seq <= old.seq, fmt.Sprintf("the map went back from %d to %d, as after a revert", old.seq, now.seq))
}

// moved recognises files that kept their names and lie elsewhere now.
func moved(old, now []string) bool {
	if len(old) == 0 || len(old) != len(now) || slices.Equal(old, now) {
		return false
	}
	for i := range old {
		if path.Base(old[i]) != path.Base(now[i]) {
			return false
		}
	}
	return true
}

func when(fires bool, reason string) string {
	if fires {
		return reason
	}
	return ""
}

func first(chain []string) string {
	if len(chain) == 0 {
		return "(unknown)"
	}
	return chain[0]
}

// short keeps the end of a change id, which is what differs.
func short(id string) string {
	if i := strings.LastIndexByte(id, '/'); i > 8 {
		return "…" + id[i-5:]
	}
	return id
}
