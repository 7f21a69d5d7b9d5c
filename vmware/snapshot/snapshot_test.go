package snapshot

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"pgregory.net/rapid"
)

func tree(name, description, ref string, children ...types.VirtualMachineSnapshotTree) types.VirtualMachineSnapshotTree {
	return types.VirtualMachineSnapshotTree{
		Name: name, Description: description, CreateTime: time.Unix(1, 0), ChildSnapshotList: children,
		Snapshot: types.ManagedObjectReference{Type: "VirtualMachineSnapshot", Value: ref},
	}
}

func of(r Run, ref string) types.VirtualMachineSnapshotTree {
	return tree(r.Name(), r.description(), ref)
}

func TestNameFitsAndIsFoundAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Run{Host: rapid.String().Draw(t, "host"), ID: rapid.StringMatching(`[0-9a-f]{1,24}`).Draw(t, "id"), PID: 7}
		name := r.Name()
		if len(name) > 80 || strings.ContainsAny(name, "/\\%") {
			t.Fatalf("%q", name)
		}
		if got, ours := Parse(of(r, "s")); !ours || got.ID != r.ID || got.PID != 7 {
			t.Fatalf("%+v, %v", got, ours)
		}
	})
}

// Only what carries both our name and our description is ours.
func TestForeignIsNeverOurs(t *testing.T) {
	r := Run{Host: "h", ID: "1"}
	for _, x := range []types.VirtualMachineSnapshotTree{
		tree("before update", "", "a"), tree(r.Name(), "", "b"), tree(r.Name(), "written by hand", "c"),
		tree("before update", r.description(), "d"), tree("holdfast-h-2", r.description(), "e"), tree(r.Name(), `{"program":"other","run":"1","host":"h"}`, "f"),
	} {
		if _, ours := Parse(x); ours {
			t.Errorf("%q %q is taken for ours", x.Name, x.Description)
		}
	}
}

func TestJudge(t *testing.T) {
	dead, alive, other := Run{Host: "h", ID: "dead"}, Run{Host: "h", ID: "alive"}, Run{Host: "elsewhere", ID: "x"}
	user := tree("before update", "", "u", of(dead, "d"), of(other, "o"))
	info := &types.VirtualMachineSnapshotInfo{RootSnapshotList: []types.VirtualMachineSnapshotTree{user, of(alive, "a")}}
	j := Judge(info, "h", func(r Run) bool { return r.ID == "alive" })
	if len(j.Remove) != 1 || j.Remove[0].Snapshot.Value != "d" || len(j.Busy) != 1 || len(j.Foreign) != 1 || len(j.Other) != 1 {
		t.Fatalf("%+v", j)
	}
	if j := Judge(nil, "h", nil); len(j.Remove)+len(j.Busy)+len(j.Foreign)+len(j.Other) != 0 {
		t.Fatalf("%+v", j)
	}
}

func TestLineage(t *testing.T) {
	b := tree("b", "", "b")
	a := tree("a", "", "a", tree("side", "", "x"), b)
	info := &types.VirtualMachineSnapshotInfo{RootSnapshotList: []types.VirtualMachineSnapshotTree{a}, CurrentSnapshot: &b.Snapshot}
	one := Lineage(info)
	if len(one) != 2 || !strings.HasPrefix(one[0], "b@") || !strings.HasPrefix(one[1], "a@") {
		t.Fatalf("%v", one)
	}
	info.CurrentSnapshot = &a.Snapshot
	if slices.Equal(one, Lineage(info)) || Lineage(nil) != nil {
		t.Fatal("a revert does not change the lineage")
	}
}

func FuzzParse(f *testing.F) {
	r := Run{Host: "h", ID: "1"}
	f.Add(r.Name(), r.description())
	f.Add("holdfast-", "{}")
	f.Fuzz(func(t *testing.T, name, description string) {
		if got, ours := Parse(tree(name, description, "x")); ours && (got.ID == "" || got.Name() != name) {
			t.Fatalf("%+v", got)
		}
	})
}
