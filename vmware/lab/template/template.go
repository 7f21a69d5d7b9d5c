// Package template guards what vcsim shares between all simulators of a process.
//
// Its list of the devices that a new VM has is one for all: creating a VM writes into it,
// and each VM has these very objects. So has the evaluation licence one list of
// properties. Two laboratories in one process, as tests have, would race for them.
package template

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

var mu sync.Mutex

// Alone runs fn while no other laboratory of the process is started or creates a VM.
func Alone(fn func() error) error {
	mu.Lock()
	defer mu.Unlock()
	return fn()
}

// Own gives a VM copies of its devices that are nobody else's.
func Own(vm *types.VirtualMachineConfigInfo) error {
	var text bytes.Buffer
	if err := xml.NewEncoder(&text).Encode(types.ArrayOfVirtualDevice{VirtualDevice: vm.Hardware.Device}); err != nil {
		return fmt.Errorf("copy devices: %w", err)
	}
	var copied types.ArrayOfVirtualDevice
	in := xml.NewDecoder(&text)
	in.TypeFunc = types.TypeFunc()
	if err := in.Decode(&copied); err != nil {
		return fmt.Errorf("copy devices: %w", err)
	}
	vm.Hardware.Device = copied.VirtualDevice
	return nil
}
