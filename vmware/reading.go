package vmware

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/backup"
	"holdfast/repo/image"
	"holdfast/repo/recovery"
	"holdfast/vmware/cbt"
	"holdfast/vmware/disk"
	"holdfast/vmware/quiesce"
	"holdfast/vmware/snapshot"
)

// diskItem decides what is read of a disk and how its bytes travel.
func (f *frozen) diskItem(ctx context.Context, live, shot disk.Device) (backup.Item, error) {
	name := fmt.Sprintf("disk-%d", shot.Key)
	q := f.question(name, live, shot)
	decision, extents, err := f.decide(ctx, q)
	if err != nil {
		return backup.Item{}, err
	}
	if err := cbt.Required(q, decision); err != nil {
		return backup.Item{}, err
	}
	attrs := q.Now
	open, err := f.transport(ctx, shot, &attrs)
	if err != nil {
		return backup.Item{}, err
	}
	f.source.opt.Log.Info("disk", "key", shot.Key, "mode", decision.Mode, "rule", decision.Rule, "reason", decision.Reason, "transport", attrs.Transport)
	return backup.Item{
		Name: name, Label: shot.Label, Key: shot.Key, Attrs: attrs.JSON(),
		Disk: &backup.Disk{
			Bytes: shot.Bytes, Incremental: decision.Mode == recovery.ReadCBT, Extents: extents,
			ReadMode: decision.Mode, Reason: decision.Reason, Rule: decision.Rule,
			Open: open, Gap: disk.GapBytes, ReadBytes: disk.RangeBytes,
		},
	}, nil
}

// question puts together what the rules of changed-block tracking compare.
func (f *frozen) question(name string, live, shot disk.Device) cbt.Question {
	s := f.source
	q := cbt.Question{
		Policy: s.opt.CBT, Full: s.opt.Full, HasParent: f.parent != nil, Why: f.why,
		Now: cbt.NewAttrs(shot, live, f.lineage),
	}
	// A disk is who it is by its device key; its uuid is one of the rules.
	if item := f.parent.Item(name); item != nil {
		q.HasItem = item.IsDisk()
		q.Parent, q.ParentErr = cbt.ParseAttrs(item.Attrs)
		q.WroteSince = f.marker != ""
	}
	if cbt.Lossy(f.about.HostVersion) {
		f.about.Doubts.Note(q.Now.ChangeID, cbt.LossyHost)
	}
	q.Doubt = f.about.Doubts.Of(q.Now.ChangeID)
	if f.parentErr != nil { // the doubts that it held are lost with it
		q.ParentErr, q.Doubt = f.parentErr, cbt.BadAttrs
	}
	kept := q.HasItem && q.Parent.TrackedFromEmpty && cbt.SameTracking(q.Parent.ChangeID, q.Now.ChangeID)
	q.Now.TrackedFromEmpty = q.Now.ChangeID != "" && (f.enabled || kept)
	return q
}

// decide asks the rules, then the server. Whatever the server says or does that
// leaves a doubt makes the read complete; only a broken run is an error.
func (f *frozen) decide(ctx context.Context, q cbt.Question) (cbt.Decision, []image.Extent, error) {
	d := cbt.Decide(q)
	if d.Mode == recovery.ReadCBT {
		extents, err := cbt.Query(ctx, f.ask(q.Now.Key, q.Parent.ChangeID), q.Now.Bytes)
		if err == nil {
			return d, extents, nil
		}
		if d, err = doubt(ctx, q, err); err != nil {
			return d, nil, err
		}
	}
	if d.Mode == recovery.ReadAllocated {
		extents, err := cbt.Query(ctx, f.ask(q.Now.Key, "*"), q.Now.Bytes)
		if err == nil {
			return d, extents, nil
		}
		if _, err = doubt(ctx, q, err); err != nil {
			return d, nil, err
		}
		d.Mode, d.Reason = recovery.ReadFull, d.Reason+"; written areas are not told"
	}
	return d, nil, nil
}

// doubt turns a failed query into the rule for it. A server that cannot be
// reached, and an interrupt, are no doubts.
func doubt(ctx context.Context, q cbt.Question, err error) (cbt.Decision, error) {
	switch {
	case ctx.Err() != nil:
		return cbt.Decision{}, context.Cause(ctx)
	case errors.Is(err, cbt.ErrAnswer):
		return cbt.Full(q, cbt.BadAnswer, err.Error()), nil
	case errors.Is(err, ErrUnreachable), errors.Is(err, ErrLogin):
		return cbt.Decision{}, err
	}
	return cbt.Full(q, cbt.QueryFault, "the server does not tell what changed: "+err.Error()), nil
}

func (f *frozen) ask(key int32, changeID string) cbt.Ask {
	return cbt.Server(f.source.session.client, types.QueryChangedDiskAreas{
		This: f.source.vm.Ref, Snapshot: f.ref, DeviceKey: key, ChangeId: changeID,
	})
}

// transport opens the disk once to see whether its way works, so that auto can
// still take the other, and what is recorded is what happens.
func (f *frozen) transport(ctx context.Context, shot disk.Device, attrs *cbt.DiskAttrs) (func(context.Context) (backup.DiskReader, error), error) {
	asked := f.source.opt.Transport
	way, why, err := disk.Choose(asked, shot, disk.Surroundings{Layout: f.layout, StoreTypes: f.stores})
	if err != nil {
		return nil, err
	}
	if way == disk.HTTPS {
		probe, err := disk.OpenHTTPS(ctx, f.folder, shot)
		if err == nil {
			err = probe.Close()
		}
		switch {
		case err == nil:
		case asked == disk.HTTPS || ctx.Err() != nil || !errors.Is(err, disk.ErrTransport):
			return nil, err
		default:
			way, why = disk.Export, "not https: "+err.Error()
			f.source.opt.Log.Info("disk is exported", "key", shot.Key, "reason", why)
		}
	}
	attrs.Transport, attrs.Why = way, why
	return func(ctx context.Context) (backup.DiskReader, error) {
		if way == disk.HTTPS {
			return disk.OpenHTTPS(ctx, f.folder, shot)
		}
		return f.exporter.Open(ctx, shot)
	}, nil
}

// doors prepares the datastores' file door.
func (f *frozen) doors(ctx context.Context) (err error) {
	f.folder, f.stores, err = f.source.session.OpenFolder(ctx, f.before.Datastore)
	if f.folder != nil {
		f.folder.Retry = f.source.opt.Retry
	}
	return err
}

// OpenFolder makes the file door for some datastores, and their types by name.
func (s *Session) OpenFolder(ctx context.Context, refs []types.ManagedObjectReference) (*disk.Folder, map[string]string, error) {
	folder := &disk.Folder{Web: s.client.Client, Login: s, Datacenters: map[string]string{}}
	kinds := map[string]string{}
	var stores []mo.Datastore
	if len(refs) > 0 {
		if err := property.DefaultCollector(s.client).Retrieve(ctx, refs, []string{"name", "summary.type"}, &stores); err != nil {
			return nil, nil, fmt.Errorf("read datastores: %w", err)
		}
	}
	for _, store := range stores {
		dc, err := s.datacenterPath(ctx, store.Self)
		if err != nil {
			return nil, nil, err
		}
		folder.Datacenters[store.Name] = dc
		kinds[store.Name] = store.Summary.Type
	}
	return folder, kinds, nil
}

// datacenterPath is the inventory path of an object's datacenter, as the file
// door wants it: with vSphere's escapes, without a slash in front.
func (s *Session) datacenterPath(ctx context.Context, ref types.ManagedObjectReference) (string, error) {
	chain, err := mo.Ancestors(ctx, s.client, s.client.ServiceContent.PropertyCollector, ref)
	if err != nil {
		return "", fmt.Errorf("find datacenter of %s: %w", ref.Value, err)
	}
	at, dc := "", ""
	for _, e := range chain {
		if e.Parent == nil {
			continue // the root folder has no part in paths
		}
		at = path.Join(at, e.Name)
		if e.Self.Type == "Datacenter" {
			dc = at
		}
	}
	return dc, nil
}

// consistency finds out and records what level the snapshot has.
func (f *frozen) consistency(ctx context.Context) error {
	proof := f.fetchManifest(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	family := quiesce.FamilyOf(quiesce.Gather(f.before).Guest)
	level, why := quiesce.Reached(f.step, family, proof)
	f.state.Consistency = level
	f.source.opt.Log.Info("consistency reached", "level", level, "why", why)
	if !f.plan.Downgraded(level) {
		return nil
	}
	if reasons := findings(f.plan); reasons != "" {
		why += "; " + reasons
	}
	if f.source.opt.MustQuiesce {
		return fmt.Errorf("reached %s, wanted %s: %s: %w", level, f.plan.Want, why, ErrQuiesce)
	}
	f.state.Downgraded = true
	f.warn("consistency is %s, %s was wanted: %s", level, f.plan.Want, why)
	return nil
}

// fetchManifest keeps the VSS manifest and returns the level it proves, empty
// without one (V25, V26). One that exists and cannot be read proves that VSS
// finished, but not that applications took part.
func (f *frozen) fetchManifest(ctx context.Context) string {
	ours, _ := snapshot.Find(f.before.Snapshot, *f.ref)
	name := ours.BackupManifest
	if name == "" {
		return ""
	}
	p, err := disk.ParsePath(name)
	if err != nil {
		var dir disk.Path
		if dir, err = disk.ParsePath(f.before.Config.Files.SnapshotDirectory); err == nil {
			p = dir.Join(name)
		}
	}
	if err == nil {
		f.manifest, err = f.folder.ReadFile(ctx, p, quiesce.MaxManifest)
	}
	level := ""
	if err == nil {
		level, _, err = quiesce.ReadManifest(f.manifest)
	}
	if err != nil {
		f.warn("VSS manifest %s cannot be read: %v", name, err)
		return recovery.FileSystem
	}
	return level
}
