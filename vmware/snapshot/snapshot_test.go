package snapshot

import (
	"fmt"
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

// Only who stands above and lives here comes first.
func TestAhead(t *testing.T) {
	mine, alive, dead, elsewhere := Run{Host: "h", ID: "mine"}, Run{Host: "h", ID: "alive"}, Run{Host: "h", ID: "dead"}, Run{Host: "e", ID: "x"}
	under := func(r Run, ref string, below ...types.VirtualMachineSnapshotTree) types.VirtualMachineSnapshotTree {
		t := of(r, ref)
		t.ChildSnapshotList = below
		return t
	}
	lives := func(r Run) bool { return r.ID != "dead" }
	for name, c := range map[string]struct {
		tree types.VirtualMachineSnapshotTree
		want int
	}{
		"alone":                    {of(mine, "m"), 0},
		"under a living run":       {under(alive, "a", of(mine, "m")), 1},
		"under one further up":     {under(alive, "a", tree("users", "", "u", of(mine, "m"))), 1},
		"above a living run":       {under(mine, "m", of(alive, "a")), 0},
		"beside a living run":      {tree("users", "", "u", of(alive, "a"), of(mine, "m")), 0},
		"under a dead run":         {under(dead, "d", of(mine, "m")), 0},
		"under one of elsewhere":   {under(elsewhere, "e", of(mine, "m")), 0},
		"under one of its own":     {under(mine, "m0", of(mine, "m")), 0},
		"not there any more":       {of(alive, "a"), 0},
		"under a user's of a name": {tree(alive.Name(), "", "u", of(mine, "m")), 0},
	} {
		info := &types.VirtualMachineSnapshotInfo{RootSnapshotList: []types.VirtualMachineSnapshotTree{c.tree}}
		if got := Ahead(info, of(mine, "m").Snapshot, mine, lives); len(got) != c.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := Ahead(nil, of(mine, "m").Snapshot, mine, lives); got != nil {
		t.Errorf("%+v", got)
	}
}

// Of runs that stand in one row in whatever order, exactly one has nobody ahead.
func TestExactlyOneOfARowHasNobodyAhead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var row []types.VirtualMachineSnapshotTree
		var runs []Run
		for i := range rapid.IntRange(1, 8).Draw(t, "snapshots") {
			next := tree("users", "", fmt.Sprint(i), row...)
			if rapid.Bool().Draw(t, "ours") {
				r := Run{Host: "h", ID: fmt.Sprint(i)}
				next, runs = of(r, r.ID), append(runs, r)
				next.ChildSnapshotList = row
			}
			row = []types.VirtualMachineSnapshotTree{next}
		}
		first := 0
		for _, r := range runs {
			if len(Ahead(&types.VirtualMachineSnapshotInfo{RootSnapshotList: row}, of(r, r.ID).Snapshot, r, func(Run) bool { return true })) == 0 {
				first++
			}
		}
		if first != min(1, len(runs)) {
			t.Fatalf("%d of %d", first, len(runs))
		}
	})
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
