package lab

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/lab/machine"
	"holdfast/vmware/vmdk"
)

// A lease is an export or an import under way. Its URLs need no session: who knows them
// may use them.
type lease struct {
	mo.HttpNfcLease
	lab    *Lab
	key    string // in its URLs
	vm     *VM
	upload bool
	timer  *time.Timer
	parts  map[string]*part
}

// A part is one file of a lease, and what was transferred of it.
type part struct {
	machine.Part
	sha1  string
	bytes int64
}

// newLease opens a lease in the caller's session; it times out when it is not told of
// progress.
func (l *Lab) newLease(ctx *simulator.Context, upload bool) *lease {
	ls := &lease{lab: l, key: randomHex(16), upload: upload, parts: map[string]*part{}}
	ls.Self.Type = "HttpNfcLease"
	ls.State = types.HttpNfcLeaseStateInitializing
	ls.Mode = string(types.HttpNfcLeaseModePushOrGet)
	// Only its own session sees a lease, as on a vCenter.
	ctx.Session.Put(ls)
	ls.timer = time.AfterFunc(l.opt.LeaseTimeout, func() {
		ls.fail(l.ctx(), &types.Timedout{}, "the lease timed out")
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leases[ls.key] = ls
	return ls
}

// ready publishes the URLs and keeps the VM from being started or deleted.
func (ls *lease) ready(ctx *simulator.Context, vm *VM, order []machine.Part) {
	_, thumbprint := ls.lab.Thumbprint()
	info := &types.HttpNfcLeaseInfo{Lease: ls.Self, Entity: vm.Ref(), LeaseTimeout: int32(max(1, ls.lab.opt.LeaseTimeout/time.Second))}
	ls.lab.mu.Lock()
	for _, p := range order {
		u := *ls.lab.URL()
		u.Path = path.Join("/nfc", ls.key, p.URL.TargetId)
		p.URL.Url, p.URL.SslThumbprint = u.String(), thumbprint
		info.DeviceUrl = append(info.DeviceUrl, p.URL)
		info.TotalDiskCapacityInKB += p.Bytes() >> 10
		ls.parts[p.URL.TargetId] = &part{Part: p}
	}
	ls.vm = vm
	_, open := ls.lab.leases[ls.key]
	ls.lab.mu.Unlock()
	if !open { // it ended while the VM was being made
		ls.discard()
		return
	}
	vm.Lease(1)
	ctx.WithLock(ls, func() {
		ctx.Update(ls, []types.PropertyChange{{Name: "info", Val: info}, {Name: "state", Val: types.HttpNfcLeaseStateReady}})
	})
}

// close takes the lease out of use, once, and says whether this call did.
func (ls *lease) close() bool {
	ls.timer.Stop()
	ls.lab.mu.Lock()
	_, open := ls.lab.leases[ls.key]
	delete(ls.lab.leases, ls.key)
	vm := ls.vm
	ls.lab.mu.Unlock()
	if open && vm != nil {
		vm.Lease(-1)
	}
	return open
}

// fail puts the lease into error. A VM that was being imported goes with it.
func (ls *lease) fail(ctx *simulator.Context, fault types.BaseMethodFault, message string) {
	if !ls.close() {
		return
	}
	ctx.WithLock(ls, func() {
		ctx.Update(ls, []types.PropertyChange{
			{Name: "error", Val: &types.LocalizedMethodFault{Fault: fault, LocalizedMessage: message}},
			{Name: "state", Val: types.HttpNfcLeaseStateError},
		})
	})
	ls.discard()
}

// discard deletes the VM of an import that came to nothing.
func (ls *lease) discard() {
	if ls.upload && ls.vm != nil {
		ls.vm.Destroy()
	}
}

// HttpNfcLeaseProgress keeps the lease alive.
func (ls *lease) HttpNfcLeaseProgress(_ *simulator.Context, req *types.HttpNfcLeaseProgress) soap.HasFault {
	if ls.State != types.HttpNfcLeaseStateReady {
		return &methods.HttpNfcLeaseProgressBody{Fault_: simulator.Fault("the lease is not ready", &types.InvalidState{})}
	}
	ls.TransferProgress = req.Percent
	ls.timer.Reset(ls.lab.opt.LeaseTimeout)
	return &methods.HttpNfcLeaseProgressBody{Res: &types.HttpNfcLeaseProgressResponse{}}
}

// HttpNfcLeaseComplete ends the lease; an imported VM stays.
func (ls *lease) HttpNfcLeaseComplete(ctx *simulator.Context, req *types.HttpNfcLeaseComplete) soap.HasFault {
	if ls.State != types.HttpNfcLeaseStateReady || !ls.close() {
		return &methods.HttpNfcLeaseCompleteBody{Fault_: simulator.Fault("the lease is not ready", &types.InvalidState{})}
	}
	ctx.Session.Remove(ctx, req.This)
	return &methods.HttpNfcLeaseCompleteBody{Res: &types.HttpNfcLeaseCompleteResponse{}}
}

// HttpNfcLeaseAbort ends the lease; a VM that was being imported is deleted.
func (ls *lease) HttpNfcLeaseAbort(ctx *simulator.Context, req *types.HttpNfcLeaseAbort) soap.HasFault {
	if ls.close() {
		ls.discard()
	}
	ctx.Session.Remove(ctx, req.This)
	return &methods.HttpNfcLeaseAbortBody{Res: &types.HttpNfcLeaseAbortResponse{}}
}

// HttpNfcLeaseGetManifest lists what was transferred.
func (ls *lease) HttpNfcLeaseGetManifest(_ *simulator.Context, _ *types.HttpNfcLeaseGetManifest) soap.HasFault {
	body := &methods.HttpNfcLeaseGetManifestBody{Res: &types.HttpNfcLeaseGetManifestResponse{}}
	ls.lab.mu.Lock()
	defer ls.lab.mu.Unlock()
	for _, p := range ls.parts {
		if p.sha1 != "" {
			body.Res.Returnval = append(body.Res.Returnval, types.HttpNfcLeaseManifestEntry{Key: p.URL.Key, Sha1: p.sha1, Size: p.bytes})
		}
	}
	return body
}

// nfc serves the files of leases.
func (l *Lab) nfc(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	var p *part
	ls := l.leases[r.PathValue("lease")]
	if ls != nil {
		p = ls.parts[r.PathValue("name")]
	}
	l.mu.Unlock()
	switch {
	case p == nil:
		http.NotFound(w, r)
	case ls.upload && (r.Method == http.MethodPost || r.Method == http.MethodPut):
		ls.receive(w, r, p)
	case !ls.upload && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		ls.send(w, r, p)
	default:
		http.Error(w, "405 Method Not Allowed", http.StatusMethodNotAllowed)
	}
}

func (ls *lease) send(w http.ResponseWriter, r *http.Request, p *part) {
	sum := sha1.New()
	m := &meter{ResponseWriter: w}
	if p.Frozen == nil {
		http.ServeFile(m, r, p.File)
		return
	}
	w.Header().Set("Content-Type", "application/x-vnd.vmware-streamVmdk")
	if r.Method == http.MethodHead {
		return
	}
	// What was never written is not read: a sparse disk exports as fast as its data.
	allocated := []vmdk.Extent{}
	for _, e := range p.Frozen.Written() {
		allocated = append(allocated, vmdk.Extent(e))
	}
	_, err := vmdk.WriteStream(r.Context(), io.MultiWriter(m, sum), p.Frozen, p.Frozen.Bytes, vmdk.StreamOptions{Allocated: allocated, Name: p.URL.TargetId})
	if err != nil {
		panic(http.ErrAbortHandler) // the only way left to say that the body is not whole
	}
	ls.note(p, hex.EncodeToString(sum.Sum(nil)), m.bytes)
}

func (ls *lease) note(p *part, sum string, bytes int64) {
	ls.lab.mu.Lock()
	defer ls.lab.mu.Unlock()
	p.sha1, p.bytes = sum, bytes
}

// receive decodes an uploaded disk into its flat file. Anything wrong ends the whole
// import.
func (ls *lease) receive(w http.ResponseWriter, r *http.Request, p *part) {
	sum := sha1.New()
	body := &counter{r: io.TeeReader(r.Body, sum)}
	capacity := p.Disk.Size()
	size, err := vmdk.ReadStream(r.Context(), body, func(off int64, grain []byte) error {
		if off >= capacity {
			return fmt.Errorf("grain at %d is outside the disk of %d bytes", off, capacity)
		}
		grain = grain[:min(int64(len(grain)), capacity-off)]
		if !ls.lab.trouble.Take(p.Datastore, int64(len(grain))) {
			return errNoRoom
		}
		_, err := p.Disk.WriteAt(grain, off)
		return err
	})
	// A host takes a stream for another capacity, too, and makes a disk that nobody expects;
	// here the caller learns of its mistake.
	if err == nil && size != capacity {
		err = fmt.Errorf("stream of %d bytes for a disk of %d", size, capacity)
	}
	if err != nil {
		var fault types.BaseMethodFault = &types.FileFault{File: p.URL.TargetId}
		if errors.Is(err, errNoRoom) {
			fault = &types.NoDiskSpace{FileFault: types.FileFault{File: p.URL.TargetId}, Datastore: p.Datastore}
		}
		ls.fail(ls.lab.ctx(), fault, "store "+p.URL.TargetId+": "+err.Error())
		drain(r)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	ls.note(p, hex.EncodeToString(sum.Sum(nil)), body.n)
	w.WriteHeader(http.StatusCreated)
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// export opens a lease on what a snapshot froze.
func (l *Lab) export(ctx *simulator.Context, vm *VM, snapshot types.ManagedObjectReference) soap.HasFault {
	ls := l.newLease(ctx, false)
	if fault := l.trouble.InTask("ExportSnapshot", vm.Name()); fault != nil {
		ls.fail(ctx, fault, "the export failed")
	} else if o, ok := ctx.Map.Get(vm.Ref()).(*simulator.VirtualMachine); ok {
		ctx.WithLock(o, func() { ls.ready(ctx, vm, vm.Exports(snapshot, o)) })
	}
	return &methods.ExportSnapshotBody{Res: &types.ExportSnapshotResponse{Returnval: ls.Self}}
}

// poolWrapper overrides methods of a resource pool.
type poolWrapper struct {
	*simulator.ResourcePool
	lab *Lab
}

// ImportVApp creates the VM of a VirtualMachineImportSpec and opens a lease to fill its
// disks.
func (w *poolWrapper) ImportVApp(ctx *simulator.Context, req *types.ImportVApp) soap.HasFault {
	spec, ok := req.Spec.(*types.VirtualMachineImportSpec)
	if !ok {
		return &methods.ImportVAppBody{Fault_: invalid("spec")}
	}
	folderRef := ctx.Map.Get(w.lab.dcRef).(*simulator.Datacenter).VmFolder
	if req.Folder != nil {
		folderRef = *req.Folder
	}
	folder, ok := ctx.Map.Get(folderRef).(*simulator.Folder)
	if !ok {
		return &methods.ImportVAppBody{Fault_: invalid("folder")}
	}
	ls := w.lab.newLease(ctx, true)
	simulator.CreateTask(w.ResourcePool, "ImportVAppLRO", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		// The lease is in the caller's hands already, as "initializing"; whatever goes wrong from
		// here on shows in its state, not as an answer of the call.
		fault := w.lab.trouble.InTask("ImportVApp", spec.ConfigSpec.Name)
		var ref types.ManagedObjectReference
		if fault == nil {
			ref, fault = w.lab.vms.Create(ctx, folder, types.CreateVM_Task{This: folder.Self, Config: spec.ConfigSpec, Pool: w.Self, Host: req.Host})
		}
		if fault != nil {
			ls.fail(ctx, fault, fmt.Sprintf("import %s: %T", spec.ConfigSpec.Name, fault))
			return nil, fault
		}
		w.lab.moveIn(ref, spec.ConfigSpec.ExtraConfig)
		vm := w.lab.vms.Of(ref)
		o := ctx.Map.Get(ref).(*simulator.VirtualMachine)
		ctx.WithLock(o, func() { ls.ready(ctx, vm, vm.Imports(o)) })
		return nil, nil
	}).Run(ctx)
	return &methods.ImportVAppBody{Res: &types.ImportVAppResponse{Returnval: ls.Self}}
}
