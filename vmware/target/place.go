package target

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware"
	"holdfast/vmware/inventory"
	"holdfast/vmware/spec"
)

// world is the target's inventory, less the VMs.
type world struct {
	session  *vmware.Session
	entities map[types.ManagedObjectReference]mo.ManagedEntity
	order    []types.ManagedObjectReference
}

// place is where a VM goes.
type place struct {
	dc, folder, pool types.ManagedObjectReference
	host             *types.ManagedObjectReference
	datacenter       string
	folderPath       string
	missing          []string // folders to make in folder
	poolName         string
	hostName         string
	home             string
	stores           map[string]string // saved datastore → new one
	warnings         []string
}

var worldKinds = []string{
	"Datacenter", "Folder", "ComputeResource", "ClusterComputeResource", "HostSystem", "ResourcePool",
	"Datastore", "Network", "DistributedVirtualPortgroup", "OpaqueNetwork",
}

func readWorld(ctx context.Context, s *vmware.Session) (*world, error) {
	c := s.Client()
	v, err := view.NewManager(c).CreateContainerView(ctx, c.ServiceContent.RootFolder, worldKinds, true)
	if err != nil {
		return nil, fmt.Errorf("read inventory: %w", err)
	}
	defer func() { _ = v.Destroy(context.WithoutCancel(ctx)) }()
	var all []types.ObjectContent // typed objects of several kinds would lose the names of networks
	if err := v.Retrieve(ctx, worldKinds, []string{"name", "parent"}, &all); err != nil {
		return nil, fmt.Errorf("read inventory: %w", err)
	}
	w := &world{session: s, entities: map[types.ManagedObjectReference]mo.ManagedEntity{}}
	for _, o := range all {
		w.entities[o.Obj] = entity(o)
		w.order = append(w.order, o.Obj)
	}
	slices.SortFunc(w.order, func(a, b types.ManagedObjectReference) int {
		return cmp.Or(cmp.Compare(w.path(a), w.path(b)), cmp.Compare(a.Value, b.Value))
	})
	return w, nil
}

func entity(o types.ObjectContent) mo.ManagedEntity {
	var e mo.ManagedEntity
	e.Self = o.Obj
	for _, p := range o.PropSet {
		switch v := p.Val.(type) {
		case string:
			e.Name = inventory.Unescape(v)
		case types.ManagedObjectReference:
			e.Parent = &v
		}
	}
	return e
}

// above finds the nearest ancestor of a kind.
func (w *world) above(ref types.ManagedObjectReference, kinds ...string) (types.ManagedObjectReference, bool) {
	for range 64 {
		if slices.Contains(kinds, ref.Type) {
			return ref, true
		}
		e, ok := w.entities[ref]
		if !ok || e.Parent == nil {
			break
		}
		ref = *e.Parent
	}
	return types.ManagedObjectReference{}, false
}

func (w *world) path(ref types.ManagedObjectReference) string {
	p := ""
	for range 64 {
		e, ok := w.entities[ref]
		if !ok {
			break
		}
		p = path.Join(e.Name, p)
		if e.Parent == nil {
			break
		}
		ref = *e.Parent
	}
	return "/" + p
}

// find lists objects of the kinds that keep accepts.
func (w *world) find(keep func(mo.ManagedEntity) bool, kinds ...string) []types.ManagedObjectReference {
	var out []types.ManagedObjectReference
	for _, ref := range w.order {
		if slices.Contains(kinds, ref.Type) && keep(w.entities[ref]) {
			out = append(out, ref)
		}
	}
	return out
}

func named(name string) func(mo.ManagedEntity) bool {
	return func(e mo.ManagedEntity) bool { return e.Name == name }
}

func every(mo.ManagedEntity) bool { return true }

// place decides where the VM goes: as asked, else where it was, else where there
// is only one choice. Errors wrap ErrPlace and name the option that decides.
func (w *world) place(opt Options, attrs vmware.VMAttrs) (place, error) {
	var at place
	compute, err := w.compute(opt, attrs, &at)
	if err != nil {
		return at, err
	}
	dc, ok := w.above(compute, "Datacenter")
	if !ok {
		return at, fmt.Errorf("find the datacenter of %s: %w", w.path(compute), ErrPlace)
	}
	at.dc, at.datacenter = dc, w.entities[dc].Name
	if err := w.storage(opt, attrs, &at); err != nil {
		return at, err
	}
	return at, w.folder(opt, attrs, &at)
}

// compute chooses host, cluster and resource pool.
func (w *world) compute(opt Options, attrs vmware.VMAttrs, at *place) (types.ManagedObjectReference, error) {
	none := types.ManagedObjectReference{}
	clusters := w.find(every, "ComputeResource", "ClusterComputeResource")
	if opt.Host != "" {
		hosts := w.find(named(opt.Host), "HostSystem")
		if len(hosts) != 1 {
			return none, fmt.Errorf("find host %q (--host): %d of that name: %w", opt.Host, len(hosts), ErrPlace)
		}
		at.host, at.hostName = &hosts[0], opt.Host
		clusters = []types.ManagedObjectReference{*w.entities[hosts[0]].Parent}
	} else if same := w.find(named(attrs.Cluster), "ComputeResource", "ClusterComputeResource"); len(same) == 1 && opt.ResourcePool == "" {
		clusters = same
	}
	pools := w.find(func(e mo.ManagedEntity) bool {
		c, ok := w.above(e.Self, "ComputeResource", "ClusterComputeResource")
		return ok && slices.Contains(clusters, c)
	}, "ResourcePool")
	chosen := w.choosePool(pools, opt, attrs)
	if len(chosen) != 1 {
		return none, fmt.Errorf("find a resource pool (--resource-pool, --host): %d fit: %w", len(chosen), ErrPlace)
	}
	at.pool, at.poolName = chosen[0], w.entities[chosen[0]].Name
	c, _ := w.above(chosen[0], "ComputeResource", "ClusterComputeResource")
	return c, nil
}

func (w *world) choosePool(pools []types.ManagedObjectReference, opt Options, attrs vmware.VMAttrs) []types.ManagedObjectReference {
	filter := func(keep func(mo.ManagedEntity) bool) []types.ManagedObjectReference {
		var out []types.ManagedObjectReference
		for _, p := range pools {
			if keep(w.entities[p]) {
				out = append(out, p)
			}
		}
		return out
	}
	if opt.ResourcePool != "" {
		return filter(func(e mo.ManagedEntity) bool {
			return e.Name == opt.ResourcePool || strings.HasSuffix(w.path(e.Self), "/"+strings.TrimPrefix(opt.ResourcePool, "/"))
		})
	}
	if same := filter(named(attrs.Pool)); len(same) == 1 {
		return same
	}
	return filter(func(e mo.ManagedEntity) bool { return e.Parent != nil && e.Parent.Type != "ResourcePool" })
}

// storage chooses the datastores of home and disks.
func (w *world) storage(opt Options, attrs vmware.VMAttrs, at *place) error {
	here := map[string]bool{}
	for _, ref := range w.find(every, "Datastore") {
		if dc, ok := w.above(ref, "Datacenter"); ok && dc == at.dc {
			here[w.entities[ref].Name] = true
		}
	}
	at.stores = map[string]string{}
	if opt.Datastore != "" {
		if !here[opt.Datastore] {
			return fmt.Errorf("find datastore %q (--datastore) in %s: %w", opt.Datastore, at.datacenter, ErrPlace)
		}
		at.home = opt.Datastore
		return nil
	}
	at.home = attrs.Datastore
	if !here[at.home] {
		if len(here) != 1 {
			return fmt.Errorf("find datastore %q, where the VM was: not in %s; name one (--datastore): %w", attrs.Datastore, at.datacenter, ErrPlace)
		}
		for name := range here {
			at.home = name
		}
	}
	for old := range attrs.Datastores {
		if here[old] {
			at.stores[old] = old
		} else {
			at.warnings = append(at.warnings, fmt.Sprintf("datastore %s does not exist here; its disks go to %s", old, at.home))
		}
	}
	return nil
}

// folder chooses the VM folder: the one asked for, made when missing, or the
// saved one as far as it exists.
func (w *world) folder(opt Options, attrs vmware.VMAttrs, at *place) error {
	roots := w.find(func(e mo.ManagedEntity) bool { return e.Name == "vm" && e.Parent != nil && *e.Parent == at.dc }, "Folder")
	if len(roots) != 1 {
		return fmt.Errorf("find the VM folder of %s: %w", at.datacenter, ErrPlace)
	}
	root := w.path(roots[0])
	want := opt.Folder
	if want == "" {
		want = path.Dir(attrs.Path)
		if !strings.HasPrefix(want+"/", root+"/") {
			want = "" // the VM was in another datacenter
		}
	}
	want = strings.Trim(strings.TrimPrefix(strings.TrimPrefix("/"+strings.Trim(want, "/"), root), "/vm/"), "/")
	at.folder = roots[0]
	names := strings.FieldsFunc(want, func(r rune) bool { return r == '/' })
	for i, name := range names {
		next := w.find(func(e mo.ManagedEntity) bool { return e.Name == name && e.Parent != nil && *e.Parent == at.folder }, "Folder")
		if len(next) == 0 {
			if opt.Folder != "" {
				at.missing = names[i:]
			} else {
				at.warnings = append(at.warnings, fmt.Sprintf("folder %q does not exist any more; the VM goes to %s", want, w.path(at.folder)))
			}
			break
		}
		at.folder = next[0]
	}
	at.folderPath = w.path(at.folder)
	return nil
}

// backing is the connection to a network of that name in the datacenter.
func (w *world) backing(ctx context.Context, at place, name string) (types.BaseVirtualDeviceBackingInfo, error) {
	refs := w.find(func(e mo.ManagedEntity) bool {
		dc, ok := w.above(e.Self, "Datacenter")
		return ok && dc == at.dc && e.Name == name
	}, "Network", "DistributedVirtualPortgroup", "OpaqueNetwork")
	if len(refs) == 0 {
		return nil, fmt.Errorf("find network %q: %w", name, spec.ErrNetwork)
	}
	c := w.session.Client()
	var network object.NetworkReference
	switch refs[0].Type {
	case "DistributedVirtualPortgroup":
		network = object.NewDistributedVirtualPortgroup(c, refs[0])
	case "OpaqueNetwork":
		network = object.NewOpaqueNetwork(c, refs[0])
	default:
		// A card on a plain network needs no more than its name.
		return &types.VirtualEthernetCardNetworkBackingInfo{
			VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: name},
			Network:                        &refs[0],
		}, nil
	}
	b, err := network.EthernetCardBackingInfo(ctx)
	if err != nil {
		return nil, fmt.Errorf("read network %q: %w", name, err)
	}
	return b, nil
}

// encode and decode carry vSphere's objects with their type names.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	if err := types.NewJSONEncoder(&b).Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func decode(content []byte, into any) error {
	return types.NewJSONDecoder(bytes.NewReader(content)).Decode(into)
}
