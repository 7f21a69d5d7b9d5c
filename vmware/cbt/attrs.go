// Package cbt decides whether changed-block tracking may be believed.
//
// vSphere's map of changed blocks only ever saves reading. It is never a proof
// that something did not change: maps are lost at power failures, go back with
// a revert, and were wrong after an extension of the disk in several releases.
// So the decision is a list of rules, each with an id and a sentence, asked in
// one order; the first that fires makes the read complete. What a rule compares
// is kept in the recovery point with each disk (DiskAttrs).
//
// The package is pure: Decide compares values, Query drives a question that its
// caller asks (Server is the real one), Exclusions and Support look at a configuration. The table of
// rules with their sources stands in vmware/DESIGN.md.
package cbt

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"holdfast/vmware/disk"
)

// DiskAttrs is what a recovery point remembers of a disk, as JSON in the item's
// attributes: what the next backup compares, and what a restore shows.
type DiskAttrs struct {
	Key        int32  `json:"key"`            // device key
	Label      string `json:"label"`          // Hard disk 1
	Slot       string `json:"slot,omitempty"` // controller type, bus and unit: ParaVirtualSCSIController0:1
	Controller int32  `json:"controller"`     // device key of the controller
	Unit       int32  `json:"unit"`           //
	Bytes      int64  `json:"bytes"`          // capacity
	Backing    string `json:"backing"`        // FlatVer2, SeSparse …
	Mode       string `json:"mode,omitempty"` // persistent …
	Datastore  string `json:"datastore"`      //
	UUID       string `json:"uuid,omitempty"` // of the backing; stays when the disk moves
	ObjectID   string `json:"object_id,omitempty"`

	// ChangeID is the snapshot's: the next backup asks what changed since.
	ChangeID string `json:"change_id,omitempty"`
	// Snapshot are the files that were read, the frozen one first.
	Snapshot []string `json:"snapshot,omitempty"`
	// After are the files as they must be once our snapshot is gone, which are
	// those before it was taken: consolidation puts the disk back on its leaf.
	After []string `json:"after,omitempty"`
	// Lineage are the VM's snapshots from the current one up to the root, each
	// reference and creation time, without ours.
	Lineage []string `json:"lineage,omitempty"`
	// TrackedFromEmpty says that tracking under this change id's uuid was
	// enabled while the VM had no snapshot; only then is the map complete enough
	// to tell written areas from never written ones (KB 1020128).
	TrackedFromEmpty bool `json:"tracked_from_empty,omitempty"`

	Transport string `json:"transport,omitempty"` // https, export …
	Why       string `json:"transport_reason,omitempty"`
}

// NewAttrs describes a frozen disk: frozen is from the snapshot's configuration,
// live from the VM's before the snapshot was taken.
func NewAttrs(frozen, live disk.Device, lineage []string) DiskAttrs {
	return DiskAttrs{
		Key: frozen.Key, Label: frozen.Label, Slot: frozen.Slot, Controller: frozen.Controller, Unit: frozen.Unit,
		Bytes: frozen.Bytes, Backing: frozen.Kind, Mode: frozen.Mode, Datastore: frozen.Datastore,
		UUID: frozen.UUID, ObjectID: frozen.ObjectID, ChangeID: frozen.ChangeID,
		Snapshot: frozen.Chain, After: live.Chain, Lineage: lineage,
	}
}

// JSON is the attributes as they are kept.
func (a DiskAttrs) JSON() json.RawMessage {
	b, err := json.Marshal(a)
	if err != nil {
		panic(err) // a struct of strings and numbers always encodes
	}
	return b
}

// ParseAttrs reads what an earlier point kept.
func ParseAttrs(raw json.RawMessage) (DiskAttrs, error) {
	var a DiskAttrs
	if err := json.Unmarshal(raw, &a); err != nil {
		return a, fmt.Errorf("parse attributes of a disk: %w", err)
	}
	return a, nil
}

// changeID is a parsed change id, "52 de c0 d9 …/81".
type changeID struct {
	uuid string
	seq  uint64
}

func parseChangeID(text string) (changeID, bool) {
	i := strings.LastIndexByte(text, '/')
	if i < 0 {
		return changeID{}, false
	}
	uuid := strings.TrimSpace(text[:i])
	seq, err := strconv.ParseUint(text[i+1:], 10, 64)
	return changeID{uuid, seq}, uuid != "" && err == nil
}

// SameTracking reports whether two change ids belong to one uninterrupted time
// of tracking.
func SameTracking(a, b string) bool {
	x, okX := parseChangeID(a)
	y, okY := parseChangeID(b)
	return okX && okY && x.uuid == y.uuid
}
