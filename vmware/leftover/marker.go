// Package leftover finds and removes what dead runs of ours have left in a
// vCenter: snapshots of backups, and virtual machines of restores that were never
// finished.
//
// A program that is killed cleans up nothing, so whatever we make there says from
// its first moment whose it is. A snapshot does so by its name and description
// (package snapshot). A virtual machine that is being restored has a working name
// and carries a Marker in its advanced settings; it gets the name that was asked
// for, and loses the marker, in one step when it is whole and verified. So what is
// called by its proper name is never half a machine, and what carries a marker is
// ours to remove once its run is dead: unless somebody made it his own, by
// starting or renaming it or by giving it a disk. Nothing of anybody else is
// touched.
package leftover

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"holdfast/vmware/disk"
	"holdfast/vmware/inventory"
	"holdfast/vmware/snapshot"
)

// Key is the advanced setting that holds the Marker of a VM that is being
// restored. An empty value takes it away.
const Key = "holdfast.restore"

// MaxName is how long vCenter lets a VM's name be. It counts characters; we count
// bytes in the names that we make ourselves, which are never more.
const MaxName = 80

// Marker is what a VM that is being restored says about itself.
type Marker struct {
	snapshot.Run        // who restores
	Point        string `json:"point"`        // id of the recovery point
	Name         string `json:"name"`         // what it is to be called
	WorkingName  string `json:"working_name"` // what it is called until then
	// Created is when it was imported, by the server's clock.
	Created time.Time `json:"created"`
	// Old, OldName and Aside stand here while the VM takes the place of an old one:
	// that one's reference, its name, and the name it is moved to. Empty before.
	Old     string `json:"old,omitempty"`
	OldName string `json:"old_name,omitempty"`
	Aside   string `json:"aside,omitempty"`
}

// String is the value of the setting.
func (m Marker) String() string {
	m.Program = "holdfast"
	b, err := json.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("encode marker: %v", err)) // only a year beyond 9999 does not encode
	}
	return string(b)
}

// ParseMarker reads the value of the setting. Only one that holds together is ours.
func ParseMarker(value string) (Marker, bool) {
	var m Marker
	if json.Unmarshal([]byte(value), &m) != nil {
		return Marker{}, false
	}
	ours := m.Program == "holdfast" && m.ID != "" && m.Name != "" && m.WorkingName == WorkingName(m.Name, m.ID)
	return m, ours
}

// infix tells a working name from any other.
const infix = "-holdfast-"

// plain replaces what vSphere escapes in names, some of it only sometimes.
var plain = strings.NewReplacer("%", "_", "/", "_", `\`, "_")

// WorkingName is what a VM is called while it is restored: NAME-holdfast-RUN, with
// NAME cut so that all of it is a name that vCenter takes.
func WorkingName(name, run string) string {
	return Fit(plain.Replace(name), infix+run[:min(len(run), 24)])
}

// Fit appends suffix to name, which is cut where both would be too long.
func Fit(name, suffix string) string {
	room := max(0, MaxName-len(suffix))
	if len(name) > room {
		for name = name[:room]; name != "" && !utf8.ValidString(name); {
			name = name[:len(name)-1]
		}
	}
	return name + suffix
}

// Adopted says why a marked VM is not ours to remove any more, or "".
func Adopted(vm inventory.VM, home string, m Marker) string {
	switch {
	case vm.Name != m.WorkingName:
		return "it was renamed: somebody uses it"
	case vm.Template:
		return "it was made a template: somebody uses it"
	case vm.Power != "poweredOff":
		return "it is " + vm.Power + ": somebody uses it"
	}
	// Deleting a VM deletes the files of all its disks, whoever they belonged to.
	for _, d := range vm.Disks {
		if !ownFile(d.File, home, m) {
			return "its disk " + d.File + " was added by somebody"
		}
	}
	return ""
}

// ownFile is true for a disk that the import made: it lies beside the VM's
// configuration or, on another datastore, under the working name.
func ownFile(file, home string, m Marker) bool {
	f, err := disk.ParsePath(file)
	if err != nil {
		return false
	}
	h, err := disk.ParsePath(home)
	beside := err == nil && f.Datastore == h.Datastore && path.Dir(f.File) == path.Dir(h.File)
	return beside || strings.Contains(f.File, infix+m.ID[:min(len(m.ID), 24)])
}
