package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"holdfast/backup"
	"holdfast/cmd/batch"
	"holdfast/cmd/sqlcmd"
	"holdfast/cmd/typed"
	"holdfast/repo"
	"holdfast/repo/recovery"
	"holdfast/vmware"
	"holdfast/vmware/cbt"
)

type backupVMOptions struct {
	selection                       vmware.Selection
	excludeDisks                    []string
	consistency, onQuiesce, quiesce string
	transport, cbt, verifyCBT, app  string
	tags                            []string
	full                            bool
	parallel                        int
	verifyPercent                   float64
	quiesceTimeout                  time.Duration
	level                           string
}

// proveEvery is how many backups in a row may trust changed-block tracking: the
// next one reads everything and compares, for maps have been wrong before.
const proveEvery = 30

func newBackupVMCommand(a *app) *cobra.Command {
	var opts backupVMOptions
	c := documented(&cobra.Command{
		Use:   "vm [NAME…]",
		Short: "back up virtual machines",
		Long: `Vm takes a snapshot of each VM, reads what changed since its newest recovery point (all
allocated blocks the first time), and removes the snapshot, whatever happens. Where it
is not certain what changed, everything is read, and the point says why.

NAME is a VM's name, inventory path, instance UUID or managed object id.`,
		Example: "holdfast -r /srv/backup backup vm web01 db01\nholdfast -r /srv/backup backup vm --all --exclude-vm 'test-*'",
		Args:    args("[NAME…]"),
		RunE: func(c *cobra.Command, names []string) error {
			opts.selection.Names = names
			if err := opts.check(); err != nil {
				return err
			}
			return runBackupVM(c.Context(), opts, a)
		},
	}, append([]exitCode{exitIncomplete, exitBusy, exitRefused}, repositoryCodes...)...)
	f := c.Flags()
	f.BoolVar(&opts.selection.All, "all", false, "every VM that is no template")
	f.StringSliceVar(&opts.selection.Tags, "tag", nil, "VMs with the vSphere `TAG` (name, or category:name)")
	f.StringSliceVar(&opts.selection.Folders, "folder", nil, "VMs below the inventory `FOLDER`")
	f.StringSliceVar(&opts.selection.Exclude, "exclude-vm", nil, "leave out VMs whose name fits `PATTERN` (* and ?)")
	f.StringSliceVar(&opts.excludeDisks, "exclude-disk", nil, "leave out the disk with this `KEY` or label")
	f.StringVar(&opts.consistency, "consistency", "app", "`LEVEL`: app, fs or crash: how quiet the guest must be")
	f.StringVar(&opts.onQuiesce, "on-quiesce-failure", "downgrade", "`WHAT`: downgrade (exit 3) or fail")
	f.StringVar(&opts.quiesce, "quiesce-timeout", "15m", "`TIME` the guest may take, 5m to 4h")
	f.StringVar(&opts.transport, "transport", "auto", "`HOW` disks are read: auto, https or export")
	f.StringVar(&opts.cbt, "cbt", "auto", "`HOW` tracking is used: auto, require or off; off never touches the VM's configuration")
	f.BoolVar(&opts.full, "full", false, "read everything")
	f.StringVar(&opts.verifyCBT, "verify-cbt", "0%", "read `N%` of the blocks said to be unchanged, and compare")
	f.IntVar(&opts.parallel, "parallel", 1, "back up `N` VMs at once")
	f.StringVar(&opts.app, "app", "", "back up an `APP` in the guest first: sql, all databases of its SQL Servers")
	f.StringSliceVar(&opts.tags, "tag-point", nil, "give the points a `TAG`")
	return c
}

// check refuses flags that cannot be meant.
func (o *backupVMOptions) check() error {
	sel := o.selection
	switch {
	case len(sel.Names) == 0 && !sel.All && len(sel.Tags) == 0 && len(sel.Folders) == 0:
		return usagef("name VMs, or say --all, --tag or --folder", "backup vm: no VM was named")
	case sel.All && len(sel.Names) > 0:
		return usagef("leave one of them away", "--all and names of VMs cannot be meant together")
	case o.full && o.cbt == string(cbt.Require):
		return usagef("leave one of them away", "--full reads everything; --cbt require forbids that")
	case o.parallel < 1:
		return usagef("a number from 1", "--parallel %d is no number of VMs", o.parallel)
	case o.app != "" && o.app != "sql":
		return usagef("sql", "--app %q is unknown", o.app)
	case o.transport == "nbd":
		return usagef("https or export; auto chooses between them", "--transport nbd is not part of this version")
	}
	for _, err := range []error{
		oneOf("consistency", o.consistency, "app", "fs", "crash"),
		oneOf("on-quiesce-failure", o.onQuiesce, "downgrade", "fail"),
		oneOf("transport", o.transport, "auto", "https", "export"),
		oneOf("cbt", o.cbt, "auto", "require", "off"),
	} {
		if err != nil {
			return err
		}
	}
	o.level = map[string]string{"app": recovery.Application, "fs": recovery.FileSystem, "crash": recovery.Crash}[o.consistency]
	var err error
	if o.tags, err = typed.Tags(o.tags); err != nil {
		return err
	}
	if o.quiesceTimeout, err = typed.Age(o.quiesce); err != nil {
		return err
	}
	if o.quiesceTimeout < 5*time.Minute || o.quiesceTimeout > 4*time.Hour {
		return usagef("5m to 4h, as vSphere allows", "--quiesce-timeout %s is out of bounds", o.quiesce)
	}
	o.verifyPercent, err = strconv.ParseFloat(strings.TrimSuffix(o.verifyCBT, "%"), 64)
	if err != nil || o.verifyPercent < 0 || o.verifyPercent > 100 {
		return usagef("a share from 0% to 100%", "--verify-cbt %q is no share", o.verifyCBT)
	}
	return nil
}

func runBackupVM(ctx context.Context, opts backupVMOptions, a *app) error {
	a.ui.Stream()
	return a.withWriter(ctx, func(r *repo.Repository) error {
		return a.withVCenter(ctx, func(s *vmware.Session) error {
			run := a.newBatch(r)
			vms, err := selectVMs(ctx, s, &opts.selection, run)
			if err != nil {
				return err
			}
			if err := tellExcluded(ctx, run, s, vms, opts.selection); err != nil {
				return err
			}
			if len(vms) == 0 {
				return usagef("holdfast vm list shows what there is", "backup vm: no VM fits")
			}
			if err := disksExist(vms, opts.excludeDisks); err != nil {
				return err
			}
			return a.backupVMs(ctx, run, s, vms, opts)
		})
	})
}

// selectVMs finds the VMs to back up. Of several names one that fits no VM, or
// too many, does not keep the others from being backed up: it has failed, and
// is taken out of sel.
func selectVMs(ctx context.Context, s *vmware.Session, sel *vmware.Selection, run *batch.Run) ([]vmware.VM, error) {
	vms, err := s.Select(ctx, *sel)
	if !errors.Is(err, vmware.ErrNotFound) && !errors.Is(err, vmware.ErrAmbiguous) || len(sel.Names) < 2 {
		return vms, err
	}
	var good []string
	for _, name := range sel.Names {
		if _, err := s.FindVM(ctx, name); err != nil {
			run.Fail("vm/"+name, err)
			continue
		}
		good = append(good, name)
	}
	sel.Names = good
	if len(good) == 0 {
		return nil, run.All()
	}
	return s.Select(ctx, *sel)
}

// tellExcluded says which VMs were meant but for --exclude-vm: what has no
// point is never left out without a word.
func tellExcluded(ctx context.Context, run *batch.Run, s *vmware.Session, chosen []vmware.VM, sel vmware.Selection) error {
	if len(sel.Exclude) == 0 {
		return nil
	}
	patterns := strings.Join(sel.Exclude, ",")
	sel.Exclude = nil
	all, err := s.Select(ctx, sel)
	if err != nil {
		return err
	}
	for _, vm := range all {
		if slices.ContainsFunc(chosen, func(c vmware.VM) bool { return c.Ref == vm.Ref }) {
			continue
		}
		run.Skip("vm/"+vm.Name, "EXCLUDED", "--exclude-vm "+patterns, false)
	}
	return nil
}

// disksExist refuses to leave out a disk that none of the VMs has: it would be
// backed up under another name, and nobody would notice.
func disksExist(vms []vmware.VM, excluded []string) error {
	for _, word := range excluded {
		var labels []string
		found := false
		for _, vm := range vms {
			for _, d := range vm.Disks {
				found = found || d.Label == word || strconv.Itoa(int(d.Key)) == word
				labels = append(labels, fmt.Sprintf("%s (%d)", d.Label, d.Key))
			}
		}
		if !found {
			slices.Sort(labels)
			return usagef("there are "+strings.Join(slices.Compact(labels), ", "), "--exclude-disk %q is no disk of what is backed up", word)
		}
	}
	return nil
}

// backupVMs backs up VMs, some at once; one that fails does not stop the others.
func (a *app) backupVMs(ctx context.Context, run *batch.Run, s *vmware.Session, vms []vmware.VM, opts backupVMOptions) error {
	lock, err := a.newRun(run.Repository.Config().ID)
	if err != nil {
		return err
	}
	defer lock.Close()
	defer run.Progress.Done()
	var guests *sqlcmd.Guests
	if opts.app == "sql" {
		if guests, err = sqlcmd.NewGuests(ctx, door{a}, lock); err != nil {
			return err
		}
	}
	var group errgroup.Group
	group.SetLimit(opts.parallel)
	for _, vm := range vms {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			var apps *vmware.Apps
			if guests != nil { // V3: before the snapshot, which is taken whatever becomes of it
				apps = guests.Backup(ctx, s, vm, run, opts.tags)
			}
			src := vmware.NewSource(s, vm, vmware.SourceOptions{
				Run: lock.Run, Alive: lock.Alive, Consistency: opts.level, MustQuiesce: opts.onQuiesce == "fail",
				QuiesceTimeout: opts.quiesceTimeout, Transport: opts.transport, CBT: cbt.Policy(opts.cbt),
				Full: opts.full, ExcludeDisks: opts.excludeDisks, Apps: apps, Log: a.log,
			})
			run.One(ctx, src, backup.Options{Tags: opts.tags, VerifyUnchanged: opts.verifyPercent, ProveEvery: proveEvery})
			return nil
		})
	}
	group.Wait() //nolint:errcheck // each VM's error is kept by run
	if ctx.Err() != nil {
		run.Fail("backup vm", context.Cause(ctx))
		return run.All()
	}
	return run.End()
}
