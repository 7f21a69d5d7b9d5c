package task

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/types"
)

func TestFaultsSpeakInWords(t *testing.T) {
	full := &types.NoDiskSpace{Datastore: "ds1", FileFault: types.FileFault{File: "[ds1] web01/web01.vmdk"}}
	for _, c := range []struct {
		message string
		fault   types.BaseMethodFault
		want    string
	}{
		{"", full, "no space left on the datastore ds1 ([ds1] web01/web01.vmdk)"},
		{"*types.NoDiskSpace", full, "no space left on the datastore ds1 ([ds1] web01/web01.vmdk)"},
		{"NoDiskSpace", &types.NoDiskSpace{}, "no space left on the datastore"},
		{"Der Datenspeicher ds1 ist voll.", full, "Der Datenspeicher ds1 ist voll."},
		{"*types.InsufficientStorageSpace", &types.InsufficientStorageSpace{}, "no space left on the datastore"},
		{"", &types.NoPermission{PrivilegeId: "VirtualMachine.State.CreateSnapshot"}, "the privilege VirtualMachine.State.CreateSnapshot is missing"},
		{"", &types.InvalidPowerState{ExistingState: "poweredOn", RequestedState: "poweredOff"}, "it is on and would have to be off"},
		{"", &types.DuplicateName{Name: "web01"}, "the name web01 is taken"},
		{"", &types.FilterInUse{}, "filter in use"},
		{"*types.HostConfigFault", &types.HostConfigFault{}, "host config fault"},
		{"", &types.CpuHotPlugNotSupported{}, "cpu hot plug not supported"},
		{"", &types.RDMNotSupported{}, "RDM not supported"},
		{"", &types.UnsupportedVmxLocation{}, "unsupported vmx location"},
		{"", nil, "the server names no cause"},
	} {
		err := Fault(&types.LocalizedMethodFault{Fault: c.fault, LocalizedMessage: c.message})
		if err.Error() != c.want {
			t.Errorf("%T %q: %q, want %q", c.fault, c.message, err, c.want)
		}
	}
}

func TestFullDatastoreIsKnownThroughWrapping(t *testing.T) {
	for _, f := range []types.BaseMethodFault{&types.NoDiskSpace{}, &types.InsufficientStorageSpace{}} {
		err := fmt.Errorf("take snapshot: %w", Fault(&types.LocalizedMethodFault{Fault: f, LocalizedMessage: "full"}))
		if !errors.Is(err, ErrNoSpace) || !fault.Is(err, f) {
			t.Errorf("%T is not recognised", f)
		}
	}
	err := fmt.Errorf("take snapshot: %w", Fault(&types.LocalizedMethodFault{Fault: &types.TaskInProgress{}}))
	if errors.Is(err, ErrNoSpace) || !Busy(err) {
		t.Error("a busy VM is not told from a full datastore")
	}
	var got *types.TaskInProgress
	if _, ok := fault.As(err, &got); !ok {
		t.Error("fault.As does not find the fault")
	}
}

// TestEveryFaultOfTheTableLosesItsGoName, with nothing filled in as well.
func TestEveryFaultOfTheTableLosesItsGoName(t *testing.T) {
	for _, f := range []types.BaseMethodFault{
		&types.NoPermission{}, &types.FileAlreadyExists{}, &types.FileNotFound{}, &types.FileLocked{}, &types.CannotAccessFile{}, &types.FileTooLarge{},
		&types.TaskInProgress{}, &types.ManagedObjectNotFound{}, &types.HostNotConnected{}, &types.HostCommunication{}, &types.ApplicationQuiesceFault{},
	} {
		text := Fault(&types.LocalizedMethodFault{Fault: f, LocalizedMessage: fmt.Sprintf("%T", f)}).Error()
		if strings.Contains(text, "types.") || strings.Contains(text, typeName(f)) || strings.Contains(text, "  ") || len(text) < 10 {
			t.Errorf("%T: %q", f, text)
		}
	}
}
