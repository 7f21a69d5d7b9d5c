// Package recovery holds what a backup leaves behind: the recovery point, its
// items, and how to find one. A point is plain data, written once into its
// slot (FORMAT.md §10); everything that may change later (tags, a pin) lies in
// objects of its own.
package recovery

import (
	"encoding/json"
	"time"

	"holdfast/repo/image"
	"holdfast/repo/stream"
)

// Kind says what a point is a backup of. The list is open: readers must not
// refuse a kind they do not know.
type Kind string

// The kinds that exist today.
const (
	VM      Kind = "vm"
	SQLFull Kind = "sql-full"
	SQLDiff Kind = "sql-diff"
	SQLLog  Kind = "sql-log"
	Image   Kind = "image"
	Files   Kind = "files"
)

// How the bytes of an item were read.
const (
	ReadAllocated = "allocated" // full: all areas that the platform calls allocated
	ReadCBT       = "cbt"       // only areas that changed-block tracking names
	ReadExtents   = "extents"   // only areas that the caller's list names
	ReadFull      = "full"      // every byte
	ReadStream    = "stream"    // from the first byte to the last
)

// Levels of consistency a point can have reached.
const (
	Application = "application"
	FileSystem  = "filesystem"
	Crash       = "crash"
)

// Point is one recovery point: everything needed to bring its source back.
// Every point is complete in itself; Parent tells only what it was read against.
type Point struct {
	ID       string    `json:"id"`       // 16 hex, the last part of SID
	SID      string    `json:"sid"`      // the session that made it
	Kind     Kind      `json:"kind"`     //
	Source   string    `json:"source"`   // vm/NAME, image/NAME, sql/INSTANCE/DB: for people
	Identity string    `json:"identity"` // what the source really is: instanceUuid, family GUID …
	Time     time.Time `json:"time"`     // the moment the data is of, with the zone's offset
	Finished time.Time `json:"finished"` // when the backup was complete
	Parent   string    `json:"parent"`   // id of the point it was read against, "" for none
	Previous string    `json:"previous"` // hex BLAKE3 of the manifest bytes of the source's previous point
	// Turn and Made are the point's place among its source's as they were made, a copy
	// has its original's. Turn is that of the session in the repository that made it.
	// Made is higher than that of every point that the repository knew then, those of
	// other repositories included. 0: made before there were numbers.
	Turn int64 `json:"turn,omitempty"`
	Made int64 `json:"made,omitempty"`

	ReadMode    string   `json:"read_mode"`          // the most complete mode among the items
	Reason      string   `json:"reason"`             // why that mode, in a sentence
	Rule        string   `json:"rule"`               // id of the rule that decided
	Consistency string   `json:"consistency"`        // application, filesystem, crash
	BytesTotal  int64    `json:"bytes_total"`        // size of all items
	BytesRead   int64    `json:"bytes_read"`         // read from the source
	BytesAdded  int64    `json:"bytes_added"`        // stored in packs for it
	ChunksNew   int64    `json:"chunks_new"`         //
	Unproven    int      `json:"unproven,omitempty"` // incremental points in a row, this one included, since all was read or compared
	Warnings    []string `json:"warnings,omitempty"`
	Tags        []string `json:"tags,omitempty"` // as given at backup; later changes are labels

	Host    string `json:"host"`    // the machine that made it
	Program string `json:"program"` // name and version of the writer
	// Origin is the repository and point that a copy was made from:
	// "<repository id>/<point id>"; of a copy of a copy, the first of them.
	Origin string `json:"origin,omitempty"`

	Items []Item          `json:"items"`
	Attrs json.RawMessage `json:"attrs,omitempty"` // the driver's own: VM configuration facts …
}

// Item is one saved part of a point: a disk, a stream, or a few bytes inline.
type Item struct {
	Name     string          `json:"name"`            // unique in the point: disk-2000, vmx, nvram, config.json
	Label    string          `json:"label,omitempty"` // what people call it: Hard disk 1
	Key      int32           `json:"key,omitempty"`   // device key of a VM's disk
	Bytes    int64           `json:"bytes"`
	Disk     *image.Map      `json:"disk,omitempty"`
	Stream   *stream.Stream  `json:"stream,omitempty"`
	Inline   []byte          `json:"inline,omitempty"` // small items lie in the manifest itself
	ReadMode string          `json:"read_mode,omitempty"`
	Reason   string          `json:"reason,omitempty"`
	Rule     string          `json:"rule,omitempty"`
	Attrs    json.RawMessage `json:"attrs,omitempty"` // the driver's own: change id, backing uuid, file names …
}

// IsDisk reports whether the item is a disk.
func (i *Item) IsDisk() bool { return i.Disk != nil }

// Item returns the item of that name, or nil.
func (p *Point) Item(name string) *Item {
	if p == nil {
		return nil
	}
	for i := range p.Items {
		if p.Items[i].Name == name {
			return &p.Items[i]
		}
	}
	return nil
}

// Disks are the point's disk items, in their order.
func (p *Point) Disks() []Item {
	var disks []Item
	for _, it := range p.Items {
		if it.IsDisk() {
			disks = append(disks, it)
		}
	}
	return disks
}
