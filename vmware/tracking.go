package vmware

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/cbt"
	"holdfast/vmware/disk"
	"holdfast/vmware/snapshot"
	"holdfast/vmware/task"
)

// ErrHasSnapshots means that a VM has snapshots, with which changed-block
// tracking must not be switched.
var ErrHasSnapshots = errors.New("virtual machine has snapshots")

// ErrUnsupported means that changes of this VM cannot be tracked.
var ErrUnsupported = errors.New("changed-block tracking is not supported")

// markerKey is the advanced setting that a restore into existing disks leaves:
// the next backup reads everything and takes it away.
const markerKey = "holdfast.wroteInPlace"

// CBTStatus is what is known about a VM's changed-block tracking.
type CBTStatus struct {
	Name      string          `json:"name"`
	Enabled   bool            `json:"enabled"`   // in the configuration
	Supported bool            `json:"supported"` //
	Reason    string          `json:"reason"`
	Snapshots []string        `json:"snapshots"` // with any of them tracking is not switched
	Disks     []CBTDiskStatus `json:"disks"`
}

// CBTDiskStatus is one disk's part.
type CBTDiskStatus struct {
	Key     int32  `json:"key"`
	Label   string `json:"label"`
	Tracked bool   `json:"tracked"` // or will be, once it is enabled and the VM was stunned
	Reason  string `json:"reason"`
}

// CBTStatus tells how tracking stands for a VM. It changes nothing.
func (s *Session) CBTStatus(ctx context.Context, vm VM) (CBTStatus, error) {
	m, err := s.readVM(ctx, vm.Ref, "config", "capability", "snapshot")
	if err != nil {
		return CBTStatus{}, err
	}
	st := CBTStatus{Name: vm.Name, Reason: cbt.Unsupported(m), Snapshots: []string{}, Disks: []CBTDiskStatus{}}
	st.Supported = st.Reason == ""
	for _, t := range snapshot.Flat(m.Snapshot) {
		st.Snapshots = append(st.Snapshots, t.Name)
	}
	if m.Config == nil {
		return st, nil
	}
	st.Enabled = m.Config.ChangeTrackingEnabled != nil && *m.Config.ChangeTrackingEnabled
	for _, d := range disk.Devices(m.Config.Hardware.Device) {
		why := d.Unprotected()
		st.Disks = append(st.Disks, CBTDiskStatus{Key: d.Key, Label: d.Label, Tracked: st.Enabled && why == "", Reason: why})
	}
	return st, nil
}

// CBTOptions steer CBTEnable and CBTReset. Run is required.
type CBTOptions struct {
	Run   snapshot.Run
	Retry task.Retry
	Log   *slog.Logger
}

// CBTEnable switches tracking on and makes it effective by a snapshot that comes
// and goes. Errors wrap ErrHasSnapshots or ErrUnsupported; a VM that is tracked
// already is left alone.
func (s *Session) CBTEnable(ctx context.Context, vm VM, opt CBTOptions) error {
	m, err := s.switchable(ctx, vm)
	if err != nil {
		return fmt.Errorf("enable tracking of %s: %w", vm.Name, err)
	}
	if on := m.Config.ChangeTrackingEnabled; on != nil && *on {
		return nil
	}
	if err := s.switchTracking(ctx, vm, true, opt); err != nil {
		return fmt.Errorf("enable tracking of %s: %w", vm.Name, err)
	}
	return nil
}

// CBTReset throws the VM's maps of changed blocks away and begins new ones: off,
// stun, on, stun. The next backup reads everything. It refuses a VM with
// snapshots (ErrHasSnapshots). A failure on the way leaves tracking off, which
// is safe.
func (s *Session) CBTReset(ctx context.Context, vm VM, opt CBTOptions) error {
	if _, err := s.switchable(ctx, vm); err != nil {
		return fmt.Errorf("reset tracking of %s: %w", vm.Name, err)
	}
	for _, on := range []bool{false, true} {
		if err := s.switchTracking(ctx, vm, on, opt); err != nil {
			return fmt.Errorf("reset tracking of %s: %w", vm.Name, err)
		}
	}
	return nil
}

func (s *Session) switchable(ctx context.Context, vm VM) (*mo.VirtualMachine, error) {
	m, err := s.readVM(ctx, vm.Ref, "config", "capability", "snapshot")
	if err != nil {
		return nil, err
	}
	if why := cbt.Unsupported(m); why != "" {
		return nil, fmt.Errorf("%s: %w", why, ErrUnsupported)
	}
	if all := snapshot.Flat(m.Snapshot); len(all) > 0 {
		return nil, fmt.Errorf("%d, the first is %q: %w", len(all), all[0].Name, ErrHasSnapshots)
	}
	return m, nil
}

func (s *Session) switchTracking(ctx context.Context, vm VM, on bool, opt CBTOptions) error {
	if err := s.setTracking(ctx, vm.Ref, on); err != nil {
		return err
	}
	src := NewSource(s, vm, SourceOptions{Run: opt.Run, Retry: opt.Retry, Log: opt.Log}).(*source)
	return src.stun(ctx)
}

func (s *Session) setTracking(ctx context.Context, ref types.ManagedObjectReference, on bool) error {
	return s.Reconfigure(ctx, ref, types.VirtualMachineConfigSpec{ChangeTrackingEnabled: &on})
}

func (s *Session) setExtraConfig(ctx context.Context, ref types.ManagedObjectReference, key, value string) error {
	return s.Reconfigure(ctx, ref, types.VirtualMachineConfigSpec{
		ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: key, Value: value}},
	})
}

// Reconfigure changes a VM and waits for the end of the task even when ctx ends: half a change is
// worse than a late one.
func (s *Session) Reconfigure(ctx context.Context, ref types.ManagedObjectReference, spec types.VirtualMachineConfigSpec) error {
	err := task.Retry{}.Do(ctx, task.Busy, func(ctx context.Context) error {
		res, err := methods.ReconfigVM_Task(ctx, s.client, &types.ReconfigVM_Task{This: ref, Spec: spec})
		if err != nil {
			return err
		}
		wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
		defer cancel()
		_, err = task.Wait(wait, s.client, res.Returnval)
		return err
	})
	if err != nil {
		return fmt.Errorf("reconfigure %s: %w", ref.Value, err)
	}
	return nil
}
