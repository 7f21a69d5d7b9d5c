package leftover

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"holdfast/vmware/inventory"
	"holdfast/vmware/snapshot"
)

func marker(name string) Marker {
	const run = "0123456789abcdef"
	return Marker{
		Run:   snapshot.Run{Program: "holdfast", Host: "h", ID: run, PID: 7, Started: time.Date(2026, 3, 1, 2, 3, 4, 0, time.UTC), Repository: "r"},
		Point: "p", Name: name, WorkingName: WorkingName(name, run), Created: time.Date(2026, 3, 1, 2, 3, 5, 0, time.UTC),
	}
}

// TestWorkingNamesAreNamesThatVCenterTakes whatever the VM is called, and tell two
// runs apart.
func TestWorkingNamesAreNamesThatVCenterTakes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Draw(t, "name")
		run := rapid.StringMatching("[0-9a-f]{1,40}").Draw(t, "run")
		w := WorkingName(name, run)
		if len(w) > MaxName || utf8.ValidString(name) && !utf8.ValidString(w) || strings.ContainsAny(w, `%/\\`) {
			t.Fatalf("%q has the working name %q", name, w)
		}
		if !strings.HasSuffix(w, "-holdfast-"+run[:min(len(run), 24)]) || w == name {
			t.Fatalf("%q does not name the run %q", w, run)
		}
		if len(name) <= 40 && !strings.ContainsAny(name, `%/\\`) && !strings.HasPrefix(w, name) {
			t.Fatalf("%q does not begin with %q", w, name)
		}
	})
	if got := Fit(strings.Repeat("ü", 60), "-old"); len(got) > MaxName || !strings.HasSuffix(got, "ü-old") {
		t.Errorf("cut to %q", got)
	}
}

func TestMarkerComesBackAsItWas(t *testing.T) {
	m := marker("100% a/b ünï")
	m.Old, m.OldName, m.Aside = "vm-7", "x", "x-old"
	if got, ours := ParseMarker(m.String()); !ours || got != m {
		t.Errorf("got %v %+v, want %+v", ours, got, m)
	}
}

func TestMarkersThatDoNotHoldTogetherAreNotOurs(t *testing.T) {
	for what, change := range map[string]func(*Marker){
		"another working name": func(m *Marker) { m.WorkingName = "production" },
		"no run":               func(m *Marker) { m.ID = "" },
		"another run":          func(m *Marker) { m.ID = "fedcba9876543210" },
		"no name":              func(m *Marker) { m.Name = "" },
	} {
		m := marker("web01")
		change(&m)
		if _, ours := ParseMarker(m.String()); ours {
			t.Errorf("%s: it is taken for ours", what)
		}
	}
	for _, text := range []string{"", "{}", "null", "1", strings.Replace(marker("web01").String(), `"holdfast"`, `"other"`, 1)} {
		if _, ours := ParseMarker(text); ours {
			t.Errorf("%q is taken for ours", text)
		}
	}
}

func FuzzParseMarker(f *testing.F) {
	f.Add(marker("web01").String())
	f.Add("")
	f.Add(`{"program":"holdfast","run":"x","name":"a","working_name":"a-holdfast-x"}`)
	f.Fuzz(func(t *testing.T, text string) {
		m, ours := ParseMarker(text)
		if !ours {
			return
		}
		again, ours := ParseMarker(m.String())
		if !ours || !again.Created.Equal(m.Created) || again.WorkingName != m.WorkingName || again.ID != m.ID || again.Host != m.Host {
			t.Fatalf("%q became %q", text, m.String())
		}
	})
}

func TestWhatSomebodyUsesIsNotALeftover(t *testing.T) {
	m := marker("web01")
	home := "[ds1] " + m.WorkingName + "/" + m.WorkingName + ".vmx"
	with := func(change func(*inventory.VM)) inventory.VM {
		vm := inventory.VM{Name: m.WorkingName, Power: "poweredOff", Disks: []inventory.DiskInfo{
			{File: "[ds1] " + m.WorkingName + "/disk-0.vmdk"}, {File: "[ds2] " + m.WorkingName + "_1/x.vmdk"},
		}}
		change(&vm)
		return vm
	}
	for what, c := range map[string]struct {
		vm   inventory.VM
		used bool
	}{
		"as it was left":                  {with(func(*inventory.VM) {}), false},
		"renamed":                         {with(func(vm *inventory.VM) { vm.Name = "web01" }), true},
		"started":                         {with(func(vm *inventory.VM) { vm.Power = "poweredOn" }), true},
		"suspended":                       {with(func(vm *inventory.VM) { vm.Power = "suspended" }), true},
		"template":                        {with(func(vm *inventory.VM) { vm.Template = true }), true},
		"another's disk":                  {with(func(vm *inventory.VM) { vm.Disks[1].File = "[ds2] sql01/sql01.vmdk" }), true},
		"same directory, other datastore": {with(func(vm *inventory.VM) { vm.Disks[0].File = "[ds2] sql01/disk-0.vmdk" }), true},
		"no file":                         {with(func(vm *inventory.VM) { vm.Disks[0].File = "" }), true},
	} {
		if why := Adopted(c.vm, home, m); (why != "") != c.used {
			t.Errorf("%s: %q", what, why)
		}
	}
}
