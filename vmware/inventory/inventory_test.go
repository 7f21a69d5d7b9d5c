package inventory

import (
	"errors"
	"testing"
)

func FuzzEscape(f *testing.F) {
	f.Add("a/b\\c%2f 100%")
	f.Add("ünï + %25")
	f.Fuzz(func(t *testing.T, name string) {
		if got := Unescape(Escape(name)); got != name {
			t.Fatalf("%q came back as %q", name, got)
		}
	})
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"web01", "web01", 0}, {"web01", "wbe01", 2}, {"web01", "web1", 1}, {"", "abc", 3}, {"kitten", "sitting", 3}} {
		if got := distance(c.a, c.b); got != c.want || got != distance(c.b, c.a) {
			t.Errorf("%q to %q is %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

// An exact name wins nothing over another exact name: both are told.
func TestPickNeverGuesses(t *testing.T) {
	vms := []VM{{Name: "a", Path: "/d/vm/x/a"}, {Name: "a", Path: "/d/vm/y/a"}, {Name: "b", Path: "/d/vm/b", Template: true}}
	for i, ref := range []string{"vm-1", "vm-2", "vm-3"} {
		vms[i].Ref.Value = ref
	}
	if _, err := Pick(vms, "a"); !errors.Is(err, ErrAmbiguous) {
		t.Error(err)
	}
	if vm, err := Pick(vms, "/y/a"); err != nil || vm.Path != "/d/vm/y/a" {
		t.Error(vm, err)
	}
	if all, err := Choose(vms, Selection{All: true}, nil); err != nil || len(all) != 2 {
		t.Errorf("templates are not to be backed up unless named: %v %v", all, err)
	}
	if named, err := Choose(vms, Selection{Names: []string{"b"}}, nil); err != nil || len(named) != 1 {
		t.Error(named, err)
	}
	if tagged, err := Choose(vms, Selection{Tags: []string{"gold"}}, map[string]bool{"vm-1": true}); err != nil || len(tagged) != 1 {
		t.Error(tagged, err)
	}
}
