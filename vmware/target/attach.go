package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/repo/recovery"
	"holdfast/restore"
	"holdfast/vmware"
	"holdfast/vmware/disk"
	"holdfast/vmware/task"
)

// AttachOptions say where restored disks are attached.
type AttachOptions struct {
	VM        vmware.VM
	Datastore string // default: that of the VM's configuration
	Run       string // names the files; required
	Retry     task.Retry
	Log       *slog.Logger
}

// Attach restores disks of a point into files of their own and attaches them to
// an existing VM, which may be running. It implements restore.Target. The VM's
// own disks are not touched.
type Attach struct {
	session *vmware.Session
	opt     AttachOptions
}

// NewAttach makes the target.
func NewAttach(s *vmware.Session, opt AttachOptions) *Attach {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	return &Attach{s, opt}
}

var _ restore.Target = (*Attach)(nil)

// attached is a set of new disks that wait for their bytes.
type attached struct {
	target *Attach
	folder *disk.Folder
	dir    disk.Path
	dc     types.ManagedObjectReference
	files  map[int32]disk.Path // descriptors that exist
	order  []int32
	bytes  map[int32]int64
	added  bool
}

// Create makes an empty disk for each disk item. Errors wrap ErrPlace or
// disk.ErrTransport, when the datastore serves no files.
func (a *Attach) Create(ctx context.Context, _ *recovery.Point, items []recovery.Item) (restore.Placed, error) {
	p := &attached{target: a, files: map[int32]disk.Path{}, bytes: map[int32]int64{}}
	err := p.open(ctx)
	for _, item := range items {
		if err == nil && item.IsDisk() {
			err = p.create(ctx, item)
		}
	}
	if err == nil {
		return p, nil
	}
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
	defer cancel()
	return nil, fmt.Errorf("restore disks to %s: %w", a.opt.VM.Name, errors.Join(err, p.Abort(clean)))
}

// open finds the datastore and the directory for the new files.
func (p *attached) open(ctx context.Context) error {
	s, opt := p.target.session, p.target.opt
	world, err := readWorld(ctx, s)
	if err != nil {
		return err
	}
	var vm mo.VirtualMachine
	err = property.DefaultCollector(s.Client()).RetrieveOne(ctx, opt.VM.Ref, []string{"config.files", "runtime.host", "parent"}, &vm)
	if err != nil || vm.Config == nil {
		return fmt.Errorf("read virtual machine: %w", errors.Join(err, vmware.ErrNotFound))
	}
	home, err := disk.ParsePath(vm.Config.Files.VmPathName)
	if err != nil {
		return err
	}
	p.dir = disk.Path{Datastore: home.Datastore, File: path.Dir(home.File)}
	if opt.Datastore != "" {
		p.dir.Datastore = opt.Datastore
	}
	stores := world.find(named(p.dir.Datastore), "Datastore")
	if len(stores) != 1 {
		return fmt.Errorf("find datastore %q (--datastore): %d of that name: %w", p.dir.Datastore, len(stores), ErrPlace)
	}
	p.dc, _ = world.above(stores[0], "Datacenter")
	var kinds map[string]string
	if p.folder, kinds, err = s.OpenFolder(ctx, stores); err != nil {
		return err
	}
	p.folder.Retry = opt.Retry
	if kind := kinds[p.dir.Datastore]; disk.ServesNoFiles(kind) {
		return fmt.Errorf("write to datastore %s: it is %s: %w", p.dir.Datastore, kind, disk.ErrTransport)
	}
	if p.dir.Datastore == home.Datastore {
		return nil
	}
	_, err = methods.MakeDirectory(ctx, s.Client(), &types.MakeDirectory{
		This: *s.Client().ServiceContent.FileManager, Name: p.dir.String(), Datacenter: &p.dc,
	})
	if err != nil && !fault.Is(err, &types.FileAlreadyExists{}) {
		return fmt.Errorf("make directory %s: %w", p.dir, err)
	}
	return nil
}

// create makes the empty disk of an item, thick and not zeroed in advance: its
// flat file is replaced whole.
func (p *attached) create(ctx context.Context, item recovery.Item) error {
	s := p.target.session
	file := p.dir.Join(fmt.Sprintf("%s-%s-%d.vmdk", path.Base(p.dir.File), p.target.opt.Run, item.Key))
	spec := &types.FileBackedVirtualDiskSpec{CapacityKb: item.Disk.Bytes >> 10}
	spec.DiskType, spec.AdapterType = string(types.VirtualDiskTypePreallocated), string(types.VirtualDiskAdapterTypeLsiLogic)
	if item.Disk.Bytes%1024 != 0 {
		return fmt.Errorf("make disk of %d bytes: vSphere's disks are whole kilobytes: %w", item.Disk.Bytes, ErrPlace)
	}
	p.files[item.Key], p.bytes[item.Key] = file, item.Disk.Bytes
	p.order = append(p.order, item.Key)
	res, err := methods.CreateVirtualDisk_Task(ctx, s.Client(), &types.CreateVirtualDisk_Task{
		This: *s.Client().ServiceContent.VirtualDiskManager, Name: file.String(), Datacenter: &p.dc, Spec: spec,
	})
	if err == nil {
		_, err = task.Wait(context.WithoutCancel(ctx), s.Client(), res.Returnval)
	}
	if err != nil {
		return fmt.Errorf("make disk %s: %w", file, err)
	}
	return nil
}

func flatOf(file disk.Path) disk.Path {
	return disk.Path{Datastore: file.Datastore, File: file.File[:len(file.File)-len(".vmdk")] + "-flat.vmdk"}
}

// WriteDisk puts the disk's bytes, zeros included, in place of the flat file.
func (p *attached) WriteDisk(ctx context.Context, item recovery.Item, src restore.Disk) error {
	view, done, err := src.Sequential(ctx)
	if err != nil {
		return err
	}
	defer done()
	file := flatOf(p.files[item.Key])
	body := io.NewSectionReader(view, 0, src.Size())
	if err := p.folder.WriteStream(ctx, file, body, src.Size()); err != nil {
		return fmt.Errorf("upload disk %d: %w", item.Key, err)
	}
	return nil
}

// WriteStream ignores what is no disk.
func (p *attached) WriteStream(context.Context, recovery.Item, io.Reader) error { return nil }

// Verify reads the disk back.
func (p *attached) Verify(ctx context.Context, item recovery.Item, src restore.Disk) (string, error) {
	d := disk.Device{Key: item.Key, Bytes: src.Size(), Chain: []string{p.files[item.Key].String()}}
	r, err := disk.OpenHTTPS(ctx, p.folder, d)
	if err != nil {
		return "", fmt.Errorf("verify disk %d: %w", item.Key, err)
	}
	defer r.Close() //nolint:errcheck // reading is over
	if err := compare(ctx, r, src, item.Disk.ChunkBytes); err != nil {
		return "", fmt.Errorf("verify disk %d: %w", item.Key, err)
	}
	return "read back", nil
}

// Commit attaches the disks to free units of the VM's SCSI controllers.
func (p *attached) Commit(ctx context.Context) error {
	s, ref := p.target.session, p.target.opt.VM.Ref
	var vm mo.VirtualMachine
	if err := property.DefaultCollector(s.Client()).RetrieveOne(ctx, ref, []string{"config.hardware.device"}, &vm); err != nil {
		return fmt.Errorf("read virtual machine: %w", err)
	}
	var spec types.VirtualMachineConfigSpec
	slots := freeSlots(vm.Config.Hardware.Device)
	for i, key := range p.order {
		if i >= len(slots) {
			return fmt.Errorf("attach disk %d to %s: no SCSI controller has a free unit: %w", key, p.target.opt.VM.Name, ErrPlace)
		}
		d := &types.VirtualDisk{CapacityInBytes: p.bytes[key], CapacityInKB: p.bytes[key] >> 10}
		d.Key, d.ControllerKey, d.UnitNumber = int32(-1-i), slots[i].controller, &slots[i].unit
		backing := &types.VirtualDiskFlatVer2BackingInfo{DiskMode: string(types.VirtualDiskModePersistent)}
		backing.FileName = p.files[key].String()
		d.Backing = backing
		spec.DeviceChange = append(spec.DeviceChange, &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: d})
	}
	if err := s.Reconfigure(ctx, ref, spec); err != nil {
		return fmt.Errorf("attach to %s: %w", p.target.opt.VM.Name, err)
	}
	p.added = true
	return nil
}

type slot struct {
	controller int32
	unit       int32
}

// freeSlots are the free units of SCSI controllers, in their order. Unit 7 is
// the controller's own.
func freeSlots(devices []types.BaseVirtualDevice) []slot {
	used := map[slot]bool{}
	for _, d := range devices {
		if v := d.GetVirtualDevice(); v.UnitNumber != nil {
			used[slot{v.ControllerKey, *v.UnitNumber}] = true
		}
	}
	var out []slot
	for _, d := range devices {
		c, ok := d.(types.BaseVirtualSCSIController)
		if !ok {
			continue
		}
		for unit := int32(0); unit < 16; unit++ {
			if s := (slot{c.GetVirtualSCSIController().Key, unit}); unit != 7 && !used[s] {
				out = append(out, s)
			}
		}
	}
	return out
}

// Abort deletes the files that were made. Once attached, nothing is taken back.
func (p *attached) Abort(ctx context.Context) error {
	if p.added {
		return nil
	}
	var errs []error
	c := p.target.session.Client()
	for _, key := range p.order {
		name := p.files[key].String()
		res, err := methods.DeleteVirtualDisk_Task(ctx, c, &types.DeleteVirtualDisk_Task{This: *c.ServiceContent.VirtualDiskManager, Name: name, Datacenter: &p.dc})
		if err == nil {
			_, err = task.Wait(ctx, c, res.Returnval)
		}
		if err != nil && !fault.Is(err, &types.FileNotFound{}) {
			errs = append(errs, fmt.Errorf("delete %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
