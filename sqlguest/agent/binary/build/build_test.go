package main

import (
	"bytes"
	"debug/elf"
	"debug/pe"
	"errors"
	"os"
	"os/exec"
	"testing"

	"holdfast/sqlguest/agent/binary"
)

// TestBuiltAgentsAreProgramsOfTheirSystems also shows that the embedded folder's own
// reader understands what was written.
func TestBuiltAgentsAreProgramsOfTheirSystems(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		if os.Getenv("HOLDFAST_DEMAND_PARTS") == "1" {
			t.Fatal(err)
		}
		t.Skip("needs the go command: ", err)
	}
	dir := t.TempDir()
	if err := run(t.Context(), []string{dir}); err != nil {
		t.Fatal(err)
	}
	program, err := binary.Read(os.DirFS(dir), "linux")
	if err != nil {
		t.Fatal(err)
	}
	if f, err := elf.NewFile(bytes.NewReader(program)); err != nil || f.Machine != elf.EM_X86_64 {
		t.Errorf("the linux agent is no program for amd64: %v", err)
	}
	if program, err = binary.Read(os.DirFS(dir), "windows"); err != nil {
		t.Fatal(err)
	}
	if f, err := pe.NewFile(bytes.NewReader(program)); err != nil || f.Machine != pe.IMAGE_FILE_MACHINE_AMD64 {
		t.Errorf("the windows agent is no program for amd64: %v", err)
	}
	if _, err := binary.Read(os.DirFS(dir), "plan9"); !errors.Is(err, binary.ErrMissing) {
		t.Errorf("agent for another system: %v", err)
	}
}
