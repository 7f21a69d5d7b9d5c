package vmware

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/backup"
	"holdfast/vmware/cbt"
	"holdfast/vmware/disk"
	"holdfast/vmware/inventory"
)

// Names of the items besides disks.
const (
	ItemConfig   = "config.json"      // the VM's ConfigInfo, as JSON with type names
	ItemLayout   = "layout.json"      // its layoutEx, likewise
	ItemVMX      = "vmx"              // the .vmx file as it was
	ItemNVRAM    = "nvram"            // the .nvram file; a VM that never ran has none
	ItemManifest = "vss-manifest.zip" // what VSS says it quiesced
)

// limits of the small files in bytes: what is larger is none of them.
const (
	maxVMX   = 1 << 20
	maxNVRAM = 16 << 20
)

// Apps is what became of the applications in the guest before the snapshot (V3).
type Apps struct {
	Done   time.Time `json:"done,omitzero"`    // when the last of their points was stored, by our machine's clock; zero if it failed
	Missed []string  `json:"missed,omitempty"` // sources that have no point of that run, and should have
	Failed bool      `json:"failed,omitempty"` // nobody could say which databases there are, of a SQL Server at least
	// Databases are those that had a point when that run was done with them; nil in points
	// that were made before this was noted.
	Databases []AppDatabase `json:"databases,omitzero"`
}

// AppDatabase is a database in the guest.
type AppDatabase struct {
	Source   string `json:"source"`   // what its points were called then
	Identity string `json:"identity"` // and whose they are
	Database string `json:"database"` // its name
	Point    string `json:"point"`    // the newest one then
}

// VMAttrs is what a recovery point remembers of a VM, as JSON in the point's
// attributes: the facts that its configuration does not tell.
type VMAttrs struct {
	Name         string            `json:"name"`
	Ref          string            `json:"moref"`
	InstanceUUID string            `json:"instance_uuid"`
	BiosUUID     string            `json:"bios_uuid"`
	Server       string            `json:"server"`                 // instance uuid of the vCenter
	Path         string            `json:"path"`                   // inventory path
	Power        string            `json:"power"`                  // at the time of the snapshot
	Guest        string            `json:"guest"`                  // guest id
	Hardware     string            `json:"hardware"`               // vmx-19
	Host         string            `json:"host"`                   //
	HostVersion  string            `json:"host_version,omitempty"` // of ESXi, as 8.0.2; empty when it could not be read
	Cluster      string            `json:"cluster"`                // or compute resource
	Pool         string            `json:"pool"`                   // resource pool
	Datastore    string            `json:"datastore"`              // of the VM's home
	Datastores   map[string]string `json:"datastores,omitempty"`
	Networks     []string          `json:"networks,omitempty"` // names
	// PortGroups are the names of distributed port groups by key: a saved
	// network card knows only the key.
	PortGroups map[string]string `json:"port_groups,omitempty"`
	Custom     map[string]string `json:"custom_attributes,omitempty"`
	Tags       []string          `json:"tags,omitempty"` // category:name
	Snapshot   string            `json:"snapshot"`       // name of ours
	Quiesced   string            `json:"quiesce_asked"`  // level of the step that worked
	// Apps are given where applications in the guest were backed up first.
	Apps *Apps `json:"apps,omitempty"`
	// Doubts are the maps of changed blocks that are not believed any more.
	Doubts  cbt.Doubts `json:"cbt_doubts,omitempty"`
	LeftOut []string   `json:"disks_left_out,omitempty"`
}

// ParseVMAttrs reads what a point kept.
func ParseVMAttrs(raw json.RawMessage) (VMAttrs, error) {
	var a VMAttrs
	if err := json.Unmarshal(raw, &a); err != nil {
		return a, fmt.Errorf("parse attributes of a vm: %w", err)
	}
	return a, nil
}

// configItems captures the configuration: as it was before our snapshot, since
// that is what is to come back.
func (f *frozen) configItems(ctx context.Context) error {
	config, err := encode(f.before.Config)
	if err != nil {
		return fmt.Errorf("encode configuration: %w", err)
	}
	layout, err := encode(f.before.LayoutEx)
	if err != nil {
		return fmt.Errorf("encode file layout: %w", err)
	}
	f.add(ItemConfig, config)
	f.add(ItemLayout, layout)
	if err := f.addFile(ctx, ItemVMX, f.before.Config.Files.VmPathName, maxVMX); err != nil {
		return err
	}
	nvram := nvramFile(f.before)
	if nvram == "" {
		f.source.opt.Log.Info("the VM has no NVRAM file, as one that was never started")
	} else if err := f.addFile(ctx, ItemNVRAM, nvram, maxNVRAM); err != nil {
		return err
	}
	if f.manifest != nil {
		f.add(ItemManifest, f.manifest)
	}
	f.about, err = f.attrs(ctx)
	return err
}

// add appends a small item.
func (f *frozen) add(name string, content []byte) {
	f.items = append(f.items, backup.Item{Name: name, Stream: &backup.Stream{
		Bytes: int64(len(content)), Inline: true,
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
	}})
}

// addFile captures a file of the datastore. One that cannot be read is a
// warning: the disks and config.json are enough to bring the VM back.
func (f *frozen) addFile(ctx context.Context, name, file string, limit int64) error {
	p, err := disk.ParsePath(file)
	if err == nil {
		var content []byte
		if content, err = f.folder.ReadFile(ctx, p, limit); err == nil {
			f.add(name, content)
			return nil
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, ErrUnreachable) || errors.Is(err, ErrLogin) {
		return err
	}
	f.warn("%s is not in the backup: %v", name, err)
	return nil
}

// nvramFile is the datastore path of the NVRAM file, or empty.
func nvramFile(vm *mo.VirtualMachine) string {
	if vm.LayoutEx != nil {
		for _, file := range vm.LayoutEx.File {
			if file.Type == string(types.VirtualMachineFileLayoutExFileTypeNvram) {
				return file.Name
			}
		}
	}
	return ""
}

// encode writes vSphere's objects with their type names, so that they can be
// read back as what they were.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	if err := types.NewJSONEncoder(&b).Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// attrs gathers the facts around the VM. Only names are read; whatever the
// account may not see stays empty.
func (f *frozen) attrs(ctx context.Context) (VMAttrs, error) {
	s, vm := f.source, f.before
	a := VMAttrs{
		Name: s.vm.Name, Ref: s.vm.Ref.Value, InstanceUUID: vm.Config.InstanceUuid, BiosUUID: vm.Config.Uuid,
		Server: s.session.client.ServiceContent.About.InstanceUuid, Path: s.vm.Path,
		Power: string(vm.Runtime.PowerState), Guest: vm.Config.GuestId, Hardware: vm.Config.Version,
		Snapshot: s.opt.Run.Name(), Quiesced: f.step.Level, Datastores: f.stores, Custom: customValues(vm),
		Apps: s.opt.Apps,
	}
	if home, err := disk.ParsePath(vm.Config.Files.VmPathName); err == nil {
		a.Datastore = home.Datastore
	}
	for _, d := range f.live {
		if !slices.ContainsFunc(f.shot, func(x disk.Device) bool { return x.Key == d.Key }) || d.Unprotected() != "" {
			a.LeftOut = append(a.LeftOut, fmt.Sprintf("%d %s", d.Key, d.Label))
		}
	}
	if err := s.session.surroundings(ctx, vm, &a); err != nil {
		return a, err
	}
	if a.HostVersion == "" {
		f.warn("the version of the ESXi host cannot be read (System.View): whether it is a 6.0, which loses changes (KB 2136854), is not known")
	}
	var kept VMAttrs
	if f.parent != nil {
		kept, f.parentErr = ParseVMAttrs(f.parent.Attrs)
	}
	a.Doubts = cbt.Inherit(kept.Doubts, f.parent)
	a.Tags = s.session.tagsOf(ctx, vm.Self)
	return a, nil
}

func customValues(vm *mo.VirtualMachine) map[string]string {
	names := map[int32]string{}
	for _, field := range vm.AvailableField {
		names[field.Key] = field.Name
	}
	out := map[string]string{}
	for _, v := range vm.CustomValue {
		if s, ok := v.(*types.CustomFieldStringValue); ok && names[s.Key] != "" {
			out[names[s.Key]] = s.Value
		}
	}
	return out
}

// surroundings reads names of host, cluster, pool and networks.
func (s *Session) surroundings(ctx context.Context, vm *mo.VirtualMachine, a *VMAttrs) error {
	pc := property.DefaultCollector(s.client)
	if vm.Runtime.Host != nil {
		host, err := readHost(ctx, pc, *vm.Runtime.Host)
		if err != nil {
			return err
		}
		a.Host = host.Name
		if p := host.Summary.Config.Product; p != nil {
			a.HostVersion = p.Version
		}
		var parent mo.ManagedEntity
		if host.Parent != nil && pc.RetrieveOne(ctx, *host.Parent, []string{"name"}, &parent) == nil {
			a.Cluster = parent.Name
		}
	}
	if vm.ResourcePool != nil {
		var pool mo.ManagedEntity
		if err := pc.RetrieveOne(ctx, *vm.ResourcePool, []string{"name"}, &pool); err != nil {
			return fmt.Errorf("read resource pool: %w", err)
		}
		a.Pool = inventory.Unescape(pool.Name)
	}
	a.PortGroups = map[string]string{}
	for _, ref := range vm.Network {
		var n mo.Network
		if err := pc.RetrieveOne(ctx, ref, []string{"name"}, &n); err != nil {
			continue // no right to see it; its card keeps the name it knows
		}
		name := inventory.Unescape(n.Name)
		a.Networks = append(a.Networks, name)
		if ref.Type == "DistributedVirtualPortgroup" {
			var pg mo.DistributedVirtualPortgroup
			if pc.RetrieveOne(ctx, ref, []string{"key"}, &pg) == nil {
				a.PortGroups[pg.Key] = name
			}
		}
	}
	return nil
}

// readHost reads what is wanted of a host, in one call. What the account may not
// see stays empty, which must not cost the rest.
func readHost(ctx context.Context, pc *property.Collector, ref types.ManagedObjectReference) (host mo.HostSystem, err error) {
	var found []types.ObjectContent
	if err = pc.Retrieve(ctx, []types.ManagedObjectReference{ref}, []string{"name", "parent", "summary.config.product"}, &found); err == nil {
		for i := range found {
			found[i].MissingSet = nil
		}
		err = mo.LoadObjectContent(found, &host)
	}
	if err != nil {
		return host, fmt.Errorf("read host: %w", err)
	}
	return host, nil
}

// tagsOf lists an object's tags as category:name. A host alone, or an account
// without the right, has none.
func (s *Session) tagsOf(ctx context.Context, ref types.ManagedObjectReference) []string {
	if !s.IsVCenter() {
		return nil
	}
	var out []string
	err := s.withTags(ctx, func(m *tags.Manager) error {
		attached, err := m.GetAttachedTags(ctx, ref)
		if err != nil {
			return err
		}
		for _, t := range attached {
			name := t.Name
			if c, err := m.GetCategory(ctx, t.CategoryID); err == nil {
				name = c.Name + ":" + name
			}
			out = append(out, name)
		}
		return nil
	})
	if err != nil {
		s.log.Info("tags are not in the backup", "error", err)
	}
	slices.Sort(out)
	return out
}

// extraConfig is one advanced setting of a VM, or empty.
func extraConfig(c *types.VirtualMachineConfigInfo, key string) string {
	if c == nil {
		return ""
	}
	for _, o := range c.ExtraConfig {
		if v := o.GetOptionValue(); strings.EqualFold(v.Key, key) {
			return fmt.Sprint(v.Value)
		}
	}
	return ""
}
