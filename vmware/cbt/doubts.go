package cbt

import (
	"maps"
	"strings"

	"holdfast/backup"
	"holdfast/repo/recovery"
)

// Doubts are the maps of a VM that are not believed any more: the uuid of their
// change ids, and the rule by which. A recovery point hands them on to the next,
// for what a map has lost stays lost wherever the VM runs later, and however the
// disk was read in between. Only a new map, which has another uuid, is free of
// them; an entry for a map that is gone does no harm.
type Doubts map[string]string

// Inherit are the doubts that the parent point kept, and the maps that its
// verification caught. There may be no parent.
func Inherit(kept Doubts, parent *recovery.Point) Doubts {
	out := Doubts{}
	maps.Copy(out, kept)
	if parent == nil {
		return out
	}
	for _, item := range parent.Disks() {
		if item.Rule == backup.RuleMiss || item.Rule == Missed {
			a, _ := ParseAttrs(item.Attrs) // attributes that cannot be read are a rule of their own
			out.Note(a.ChangeID, Missed)
		}
	}
	return out
}

// Note remembers that the map which a change id belongs to is not believed, by
// that rule. What was noted first stays. Text that is no change id is ignored.
func (d Doubts) Note(id, rule string) {
	if c, ok := parseChangeID(id); ok && d[c.uuid] == "" {
		d[c.uuid] = rule
	}
}

// Of is the rule by which the map of this change id is not believed, or empty.
func (d Doubts) Of(id string) string {
	c, _ := parseChangeID(id)
	return d[c.uuid]
}

// Lossy reports whether a host of this version, as "6.0.0", loses changes: those
// of any 6.0 made while a snapshot was consolidated (KB 2136854). The builds that
// are said to be mended are not told apart, since a map that came from an older
// build looks the same.
func Lossy(hostVersion string) bool {
	return hostVersion == "6.0" || strings.HasPrefix(hostVersion, "6.0.")
}
