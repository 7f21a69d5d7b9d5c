package lab_test

import (
	"fmt"
	"testing"

	"golang.org/x/sync/errgroup"

	"holdfast/vmware/lab"
)

// TestTwoLaboratoriesInOneProcess: vcsim's templates are one for all of them, which the
// race detector sees if they are not guarded.
func TestTwoLaboratoriesInOneProcess(t *testing.T) {
	var all errgroup.Group
	for range 2 {
		all.Go(func() error {
			l, err := lab.Start(t.Context(), lab.Options{})
			if err != nil {
				return err
			}
			defer l.Close()
			for i := range 3 {
				if _, err := l.AddVM(lab.VMSpec{Name: fmt.Sprint("vm", i), HardwareVersion: "vmx-19", Disks: []lab.DiskSpec{{Bytes: 1 << 20}}}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
}
