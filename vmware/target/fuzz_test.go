package target

import (
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

// FuzzConfig: a VM's configuration as it lies in a point. It may be refused; what
// is read can be written again.
func FuzzConfig(f *testing.F) {
	good, err := encode(types.VirtualMachineConfigInfo{Name: "web01", Hardware: types.VirtualHardware{Device: []types.BaseVirtualDevice{&types.VirtualDisk{}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"_typeName":"VirtualMachineConfigInfo","hardware":{"device":[{"_typeName":"VirtualDisk"},{"_typeName":"nonsense"}]}}`))
	f.Add([]byte(`{"_typeName":"VirtualMachine","hardware":{"device":{}}}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		var saved types.VirtualMachineConfigInfo
		if decode(content, &saved) != nil {
			return
		}
		if _, err := encode(saved); err != nil {
			t.Skip(err) // a time that has no text
		}
	})
}
