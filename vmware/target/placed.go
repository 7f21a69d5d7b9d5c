package target

import (
	"context"
	"crypto/sha1" //nolint:gosec // the checksum that a host's manifest has
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/repo/recovery"
	"holdfast/restore"
	"holdfast/vmware"
	"holdfast/vmware/disk"
	"holdfast/vmware/inventory"
	"holdfast/vmware/leftover"
	"holdfast/vmware/spec"
	"holdfast/vmware/task"
	"holdfast/vmware/vmdk"
)

// cleanupLimit bounds what is done for a clean end after a failure.
const cleanupLimit = 10 * time.Minute

// placed is a VM in the making.
type placed struct {
	target   *Target
	plan     Plan
	point    *recovery.Point
	manifest []types.HttpNfcLeaseManifestEntry // of the server, once all disks are there
	todo     map[int32]bool                    // disks that WriteDisk is still to get

	folders   []types.ManagedObjectReference // made by us, outermost first
	lease     *disk.Lease
	vm        *types.ManagedObjectReference
	devices   []disk.Device // of the new VM
	transfers map[int32]*transfer
	nvram     []byte
	renamed   bool // the old VM has its new name
	marker    leftover.Marker
}

// transfer is what was sent for a disk.
type transfer struct {
	url   types.HttpNfcLeaseDeviceUrl
	sha1  string
	bytes int64
}

func (p *placed) client() *vim25.Client { return p.target.session.Client() }

// create imports the empty VM. From its first moment it says whose it is: the
// marker is part of its specification.
func (p *placed) create(ctx context.Context) error {
	now, err := methods.GetCurrentTime(ctx, p.client())
	if err != nil {
		return fmt.Errorf("read the server's time: %w", err)
	}
	p.marker = leftover.Marker{Run: p.target.opt.Run, Point: p.point.ID, Name: p.plan.Name, WorkingName: p.plan.ImportName, Created: *now}
	p.plan.config.ExtraConfig = append(p.plan.config.ExtraConfig, setting(leftover.Key, p.marker.String()))
	folder := p.plan.at.folder
	for _, name := range p.plan.NewFolders {
		res, err := methods.CreateFolder(ctx, p.client(), &types.CreateFolder{This: folder, Name: inventory.Escape(name)})
		if err != nil {
			return fmt.Errorf("make folder %q: %w", name, err)
		}
		folder = res.Returnval
		p.folders = append(p.folders, folder)
	}
	res, err := methods.ImportVApp(ctx, p.client(), &types.ImportVApp{
		This: p.plan.at.pool, Spec: &types.VirtualMachineImportSpec{ConfigSpec: p.plan.config}, Folder: &folder, Host: p.plan.at.host,
	})
	if err != nil {
		return fmt.Errorf("import %q: %w", p.plan.ImportName, err)
	}
	p.lease, err = disk.HoldLease(ctx, p.client(), res.Returnval, disk.LeaseOptions{Every: p.target.opt.LeaseEvery, Log: p.target.opt.Log})
	if err != nil {
		return fmt.Errorf("import %q: %w", p.plan.ImportName, err)
	}
	p.vm = &p.lease.Entity
	m, err := p.read(ctx, "config.hardware.device")
	if err != nil {
		return err
	}
	p.devices = disk.Devices(m.Config.Hardware.Device)
	if len(p.devices) != len(p.plan.Disks) {
		return fmt.Errorf("import %q: the new VM has %d disks, want %d", p.plan.ImportName, len(p.devices), len(p.plan.Disks))
	}
	return nil
}

func (p *placed) read(ctx context.Context, props ...string) (*mo.VirtualMachine, error) {
	var m mo.VirtualMachine
	if err := property.DefaultCollector(p.client()).RetrieveOne(ctx, *p.vm, props, &m); err != nil {
		return nil, fmt.Errorf("read new virtual machine: %w", err)
	}
	return &m, nil
}

// device is the new VM's disk in the place of a saved one: same controller, bus
// and unit.
func (p *placed) device(key int32) (disk.Device, error) {
	i := slices.IndexFunc(p.plan.Disks, func(d spec.Disk) bool { return d.Key == key })
	if i < 0 {
		return disk.Device{}, fmt.Errorf("disk %d is not part of the plan", key)
	}
	want := p.plan.Disks[i]
	j := slices.IndexFunc(p.devices, func(d disk.Device) bool { return d.Slot == want.Slot })
	if j < 0 {
		return disk.Device{}, fmt.Errorf("the new VM has no disk at %s for disk %d", want.Slot, key)
	}
	if got := p.devices[j]; got.Bytes != want.Bytes {
		return disk.Device{}, fmt.Errorf("disk %d of the new VM has %d bytes, want %d", key, got.Bytes, want.Bytes)
	}
	return p.devices[j], nil
}

// WriteDisk streams a disk into the new VM as streamOptimized VMDK.
func (p *placed) WriteDisk(ctx context.Context, item recovery.Item, src restore.Disk) error {
	d, err := p.device(item.Key)
	if err != nil {
		return err
	}
	if src.Size() != d.Bytes {
		return fmt.Errorf("disk %d has %d bytes in the point and %d in the configuration", item.Key, src.Size(), d.Bytes)
	}
	at, err := disk.URLOf(p.lease.URLs, d, p.devices)
	if err != nil {
		return err
	}
	t := &transfer{url: at}
	if err := p.send(ctx, t, item, src); err != nil {
		return fmt.Errorf("upload disk %d: %w", item.Key, err)
	}
	p.transfers[item.Key] = t
	delete(p.todo, item.Key)
	return nil
}

// send posts the disk. The body is made while it is sent; when either side
// fails the other ends too, and the error told is the one that came first.
func (p *placed) send(ctx context.Context, t *transfer, item recovery.Item, src restore.Disk) error {
	allocated := []vmdk.Extent{}
	err := src.Extents(ctx, func(start, length int64) error {
		allocated = append(allocated, vmdk.Extent{Start: start, Length: length})
		return nil
	})
	if err != nil {
		return err
	}
	view, done, err := src.Sequential(ctx)
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := p.lease.Bind(ctx)
	defer cancel()
	u, err := p.client().ParseURL(t.url.Url)
	if err != nil {
		return err
	}
	body, w := io.Pipe()
	sum := &counted{hash: sha1.New()} //nolint:gosec // see the import
	made := make(chan error, 1)
	go func() {
		opt := vmdk.StreamOptions{Allocated: allocated, Name: item.Name + ".vmdk"}
		_, err := vmdk.WriteStream(ctx, io.MultiWriter(w, sum), p.follow(view, src.Size()), src.Size(), opt)
		w.CloseWithError(err)
		made <- err
	}()
	err = p.post(ctx, u.String(), body)
	_ = body.CloseWithError(errors.Join(err, io.ErrClosedPipe)) // ends the writer, if it still writes
	if e := <-made; err == nil || e != nil && !errors.Is(e, io.ErrClosedPipe) {
		err = e
	}
	if err != nil {
		// The server's reason for ending the lease says more than a broken pipe.
		if lost := p.lease.Check(context.WithoutCancel(ctx)); lost != nil {
			err = lost
		}
	}
	t.sha1, t.bytes = hex.EncodeToString(sum.hash.Sum(nil)), sum.n
	return err
}

func (p *placed) post(ctx context.Context, address string, body io.Reader) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-vnd.vmware-streamVmdk")
	res, err := p.client().Client.Client.Do(req)
	if err != nil {
		return task.Bare(err)
	}
	defer res.Body.Close() //nolint:errcheck // what matters was read
	text, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusCreated {
		return fmt.Errorf("server answered %s: %.200s", res.Status, text)
	}
	return nil
}

type counted struct {
	hash hash.Hash
	n    int64
}

func (c *counted) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return c.hash.Write(b)
}

// follow tells the lease how far the reading is.
func (p *placed) follow(r io.ReaderAt, size int64) io.ReaderAt {
	return &follower{r: r, size: size, tell: p.lease.Percent}
}

type follower struct {
	r    io.ReaderAt
	size int64
	far  atomic.Int64
	tell func(int)
}

func (f *follower) ReadAt(b []byte, off int64) (int, error) {
	if off > f.far.Load() {
		f.far.Store(off)
		f.tell(int(off * 100 / f.size))
	}
	return f.r.ReadAt(b, off)
}

// WriteStream keeps the NVRAM for Commit; the configuration is in the plan.
func (p *placed) WriteStream(_ context.Context, item recovery.Item, r io.Reader) error {
	if item.Name != vmware.ItemNVRAM {
		return nil
	}
	content, err := io.ReadAll(io.LimitReader(r, maxItem))
	if err != nil {
		return fmt.Errorf("read NVRAM: %w", err)
	}
	p.nvram = content
	return nil
}

// Verify compares the checksum that the server made of what it received with
// that of what was sent, and reads the disk back where the datastore lets us.
// A disk can be read for certain once the lease is complete, that is after the
// last disk; before, a refusal is no failure as long as the checksum is right.
func (p *placed) Verify(ctx context.Context, item recovery.Item, src restore.Disk) (string, error) {
	t := p.transfers[item.Key]
	if t == nil {
		return "", fmt.Errorf("verify disk %d: it was not written", item.Key)
	}
	summed, err := p.checksum(ctx, t)
	if err != nil {
		return "", fmt.Errorf("verify disk %d: %w", item.Key, err)
	}
	if len(p.todo) == 0 {
		if err := p.complete(ctx); err != nil {
			return "", err
		}
	}
	err = p.readBack(ctx, item, src)
	switch {
	case err == nil && summed:
		return "checksum of the upload by the server, and read back", nil
	case err == nil:
		return "read back", nil
	case errors.Is(err, ErrMismatch) || ctx.Err() != nil || !summed:
		return "", fmt.Errorf("verify disk %d: %w", item.Key, err)
	}
	p.target.opt.Log.Info("disk cannot be read back", "key", item.Key, "error", err)
	return "checksum of the upload by the server", nil
}

// checksum compares a disk with the server's manifest. A server without one is no
// error.
func (p *placed) checksum(ctx context.Context, t *transfer) (bool, error) {
	// The answer is kept for the other disks: the first disk to be verified
	// completes the lease, which may not be asked any more then.
	if p.manifest != nil || p.lease == nil {
		return match(p.manifest, t)
	}
	res, err := methods.HttpNfcLeaseGetManifest(ctx, p.client(), &types.HttpNfcLeaseGetManifest{This: p.lease.Ref})
	if err != nil {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		return false, nil
	}
	if len(p.todo) == 0 {
		p.manifest = res.Returnval
	}
	return match(res.Returnval, t)
}

// match finds a disk in the server's manifest and compares it with what was sent.
func match(manifest []types.HttpNfcLeaseManifestEntry, t *transfer) (bool, error) {
	for _, e := range manifest {
		if e.Key != t.url.Key || e.Sha1 == "" {
			continue
		}
		if e.Sha1 != t.sha1 || e.Size != 0 && e.Size != t.bytes {
			return false, fmt.Errorf("the server received %d bytes with SHA-1 %s, sent were %d with %s: %w", e.Size, e.Sha1, t.bytes, t.sha1, ErrMismatch)
		}
		return true, nil
	}
	return false, nil
}

// readBack compares every area that holds data.
func (p *placed) readBack(ctx context.Context, item recovery.Item, src restore.Disk) error {
	m, err := p.read(ctx, "datastore", "layoutEx", "config.hardware.device")
	if err != nil {
		return err
	}
	d, err := p.device(item.Key)
	if err != nil {
		return err
	}
	folder, kinds, err := p.target.session.OpenFolder(ctx, m.Datastore)
	if err != nil {
		return err
	}
	folder.Retry = task.Retry{Tries: 3, First: p.target.opt.Retry.First, Limit: p.target.opt.Retry.Limit}
	if _, _, err := disk.Choose(disk.HTTPS, d, disk.Surroundings{Layout: m.LayoutEx, StoreTypes: kinds}); err != nil {
		return err
	}
	r, err := disk.OpenHTTPS(ctx, folder, d)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // reading is over
	return compare(ctx, r, src, item.Disk.ChunkBytes)
}

// compare reads whole chunks, a few megabytes at a time.
func compare(ctx context.Context, r disk.Reader, src restore.Disk, chunk int64) error {
	step := max(disk.RangeBytes/4/chunk, 1) * chunk
	buf := make([]byte, step)
	read := int64(0) // compared up to here
	return src.Extents(ctx, func(start, length int64) error {
		for at := max(read, start/chunk*chunk); at < start+length; at += step {
			end := min((start+length+chunk-1)/chunk*chunk, at+step, src.Size())
			part := buf[:end-at]
			if err := r.ReadAt(ctx, part, at); err != nil {
				return err
			}
			same, err := src.Matches(ctx, at, part)
			if err != nil {
				return err
			}
			if !same {
				return fmt.Errorf("%d bytes at %d: %w", len(part), at, ErrMismatch)
			}
			read = end
		}
		return nil
	})
}

func (p *placed) complete(ctx context.Context) error {
	if p.lease == nil {
		return nil
	}
	lease := p.lease
	lease.Percent(100)
	if err := lease.Complete(ctx); err != nil {
		return err
	}
	p.lease = nil
	return nil
}
