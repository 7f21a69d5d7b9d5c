// Package practice is what stands in the laboratory that `holdfast lab serve`
// runs: the machines that the documentation and the examples speak of.
package practice

import (
	"fmt"
	"math/rand/v2"

	"holdfast/vmware/lab"
)

// AddWeb01 makes the VM that the laboratory always has: two disks, the first
// with some data at its beginning, its middle and its end.
func AddWeb01(l *lab.Lab) error {
	const first, second = 256 << 20, 64 << 20
	vm, err := l.AddVM(lab.VMSpec{
		Name: "web01", PoweredOn: true, Guest: "windows2019srv_64Guest", HardwareVersion: "vmx-19",
		ExtraConfig: map[string]string{"disk.EnableUUID": "TRUE"}, VSS: lab.ApplicationVSS,
		Disks: []lab.DiskSpec{{Bytes: first}, {Bytes: second, Datastore: lab.Datastore2}},
	})
	if err != nil {
		return fmt.Errorf("add web01: %w", err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 3<<20)
	for i := range data {
		data[i] = byte(rng.Uint32() >> 24 & 0x3f)
	}
	for n, size := range []int64{first, second} {
		for _, off := range []int64{0, size / 2, size - int64(len(data))} {
			if err := vm.WriteDisk(n, off, data); err != nil {
				return fmt.Errorf("fill web01: %w", err)
			}
		}
	}
	return nil
}
