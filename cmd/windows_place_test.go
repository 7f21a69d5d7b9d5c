package cmd

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest/agent/inject"
	"holdfast/sqlguest/agent/program"
	"holdfast/vmware/lab"
)

const agentsDirectory = `C:\ProgramData\` + program.ParentName

// oursAlone is a descriptor that lets SYSTEM and administrators in and nobody else.
var oursAlone = regexp.MustCompile(`^O:(BA|SY)G:(BA|SY)D:PAI(\(A;OICI;FA;;;(SY|BA)\))+$`)

// TestStrangersDirectoryInAWindowsGuest: a user of the guest has made the agents'
// directory before us. An empty one is replaced; no other is used, whatever its list of
// entries says today, for its owner may change that.
func TestStrangersDirectoryInAWindowsGuest(t *testing.T) {
	t.Parallel()
	const mallory = "S-1-5-21-1"
	for name, k := range map[string]struct {
		protected, filled bool
		full              []string
		refused           bool
	}{
		"his entry, empty":                  {full: []string{mallory}},
		"his entry, his file":               {full: []string{mallory}, filled: true, refused: true},
		"he owns it and looks safe, empty":  {protected: true, full: []string{"SY", "BA"}},
		"he owns it and looks safe, filled": {protected: true, full: []string{"SY", "BA"}, filled: true, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, vm, o := windowsGuest(t, lab.VMSpec{}, "127.0.0.1")
			dir := filepath.Join(vm.GuestDir(), "ProgramData", program.ParentName)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if k.filled {
				if err := os.WriteFile(filepath.Join(dir, "his"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			l.OwnDirectory(vm, agentsDirectory, mallory, k.protected, k.full...)
			i, err := inject.Open(t.Context(), o)
			if k.refused {
				if code, hint := classify(err); !errors.Is(err, inject.ErrPlace) || code != exitRefused || hint == "" {
					t.Errorf("a stranger's directory: %v (%d, %s)", err, code, hint)
				}
				if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
					t.Errorf("left in his directory: %v %v", left, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			run := strings.TrimPrefix(ruleOf(t, l, vm), "holdfast-agent-")
			for _, path := range []string{agentsDirectory, agentsDirectory + `\` + run} {
				if said := l.Descriptor(vm, path); !oursAlone.MatchString(said) {
					t.Errorf("%s lies where a stranger has rights: %s", path, said)
				}
			}
			if err := i.Close(t.Context()); err != nil {
				t.Error(err)
			}
			isGone(t, l, vm)
		})
	}
}

// TestSecondRunFindsTheDirectoryOfTheFirst: what a run has left of the agents' directory
// is used again, for it is the administrators'.
func TestSecondRunFindsTheDirectoryOfTheFirst(t *testing.T) {
	t.Parallel()
	l, vm, o := windowsGuest(t, lab.VMSpec{}, "127.0.0.1")
	dir := filepath.Join(vm.GuestDir(), "ProgramData", program.ParentName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l.OwnDirectory(vm, agentsDirectory, "BA", true, "SY", "BA")
	// A run's directory that somebody else has put there says nothing.
	his := strings.Repeat("H", 26)
	if err := os.Mkdir(filepath.Join(dir, his), 0o700); err != nil {
		t.Fatal(err)
	}
	l.OwnDirectory(vm, agentsDirectory+`\`+his, "S-1-5-21-1", true, "SY", "BA", "S-1-5-21-1")
	if err := os.WriteFile(filepath.Join(dir, his, program.MarkerName), []byte(`{"run":"`+his+`","host":"here","pid":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if long := time.Now().Add(-time.Hour); os.Chtimes(filepath.Join(dir, his), long, long) != nil {
		t.Fatal("the directory cannot be made old")
	}
	i, err := inject.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || left[0].Name() != his {
		t.Errorf("left: %v %v", left, err)
	}
}
