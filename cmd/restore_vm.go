package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/cmd/revive"
	"holdfast/cmd/sqlcmd"
	"holdfast/cmd/ui"
	"holdfast/cmd/verdict"
	"holdfast/repo"
	"holdfast/repo/recovery"
	"holdfast/restore"
	dbrevive "holdfast/sqlguest/revive"
	"holdfast/vmware"
	"holdfast/vmware/target"
)

type restoreVMOptions struct {
	target   target.Options
	networks []string
	disks    []string
	app      string
	plan     bool
}

func newRestoreVMCommand(a *app) *cobra.Command {
	var opts restoreVMOptions
	c := documented(&cobra.Command{
		Use:   "vm POINT",
		Short: "restore a virtual machine",
		Long: `Vm makes a new VM from the configuration in the recovery point, fills its disks, reads
them back and compares. Until that is done the VM has a working name, NAME-holdfast-RUN.
A VM of the same name is left alone unless --overwrite is given; even then it is renamed
only after the new one is complete, and deleted only with --delete-old. What a killed
restore of this machine left is removed first. With --plan nothing is done: what would be
is printed.

With --app sql the new VM is powered on once it is complete, and as the last step the
databases of its SQL Servers are restored inside it, each to its newest backup of the run
that made the VM's point. One that cannot be stays as the disks have it and is named: exit
code 3, and if none could be restored that of the reason. The VM stays. A point whose run
was not done with the databases (backup vm --app sql) is refused: its disks are newer.`,
		Example: "holdfast -r /srv/backup restore vm latest:web01 --name web01-restored\nholdfast -r /srv/backup restore vm latest:db01 --name db01-test --network 'VM Network=Lab' --app sql\nholdfast -r /srv/backup restore vm 3f21a7c0 --plan",
		Args:    args("POINT"),
		RunE: func(c *cobra.Command, words []string) error {
			for _, name := range []string{"name", "host", "datastore", "folder", "resource-pool"} {
				if f := c.Flags().Lookup(name); f.Changed && f.Value.String() == "" {
					return usagef("leave the flag out, or check the variable that was to fill it", "flag --%s is empty", name)
				}
			}
			return runRestoreVM(c.Context(), words[0], opts, a)
		},
	}, append([]exitCode{exitIncomplete, exitBusy, exitBrokenChain, exitRefused}, repositoryCodes...)...)
	f := c.Flags()
	f.StringVar(&opts.target.Name, "name", "", "`NAME` of the new VM (default: as it was)")
	f.StringVar(&opts.target.Host, "host", "", "run it on `HOST`")
	f.StringVar(&opts.target.Datastore, "datastore", "", "put everything on `DATASTORE` (default: where each disk was)")
	f.StringVar(&opts.target.Folder, "folder", "", "inventory `FOLDER`")
	f.StringVar(&opts.target.ResourcePool, "resource-pool", "", "resource `POOL`")
	f.StringArrayVar(&opts.networks, "network", nil, "connect to another network: `OLD=NEW`")
	f.StringSliceVar(&opts.disks, "disk", nil, "restore only the disk with this `KEY` or label")
	f.StringVar(&opts.target.UUID, "uuid", target.PolicyAuto, "`HOW`: keep, new or auto")
	f.StringVar(&opts.target.MAC, "mac", target.PolicyAuto, "`HOW`: keep, new or auto (keep, unless another VM has it)")
	f.StringVar(&opts.target.To, "to", target.ToNew, "`WHERE`: new or original")
	f.BoolVar(&opts.target.Overwrite, "overwrite", false, "take the place of a VM of that name")
	f.BoolVar(&opts.target.DeleteOld, "delete-old", false, "with --overwrite: delete the old VM in the end")
	f.BoolVar(&opts.target.PowerOn, "power-on", false, "power the new VM on")
	f.StringVar(&opts.app, "app", "", "restore an `APP` in the guest last: sql, the databases of its SQL Servers; powers the VM on")
	f.BoolVar(&opts.plan, "plan", false, "print what would be done, and do nothing")
	return c
}

// check refuses flags that cannot be meant and reads the mappings.
func (o *restoreVMOptions) check() error {
	for _, err := range []error{
		oneOf("uuid", o.target.UUID, target.PolicyAuto, target.PolicyKeep, target.PolicyNew),
		oneOf("mac", o.target.MAC, target.PolicyAuto, target.PolicyKeep, target.PolicyNew),
		oneOf("to", o.target.To, target.ToNew, target.ToOriginal),
	} {
		if err != nil {
			return err
		}
	}
	if o.target.DeleteOld && !o.target.Overwrite && o.target.To != target.ToOriginal {
		return usagef("say --overwrite, too", "--delete-old is for a VM that is replaced")
	}
	switch {
	case o.app != "" && o.app != "sql":
		return usagef("sql", "--app %q is unknown", o.app)
	case o.app != "" && len(o.disks) > 0:
		return usagef("leave one of them away", "--app restores databases into a whole VM, and --disk makes one of some disks")
	}
	o.target.PowerOn = o.target.PowerOn || o.app != ""
	o.target.Networks = map[string]string{}
	for _, pair := range o.networks {
		old, name, ok := strings.Cut(pair, "=")
		if !ok || old == "" || name == "" {
			return usagef("--network 'VM Network=Lab'", "--network %q is not OLD=NEW", pair)
		}
		o.target.Networks[old] = name
	}
	return nil
}

func runRestoreVM(ctx context.Context, spec string, opts restoreVMOptions, a *app) error {
	if err := opts.check(); err != nil {
		return err
	}
	if !opts.plan {
		a.ui.Stream()
	}
	return a.withRepository(ctx, func(r *repo.Repository) error {
		e, err := a.find(ctx, r, spec)
		if err != nil {
			return err
		}
		if e.Kind != recovery.VM {
			return usagef("holdfast restore disk takes points of every kind with a disk", "point %s is of kind %s, not vm", e.ID, e.Kind)
		}
		items, err := vmItems(e.Point, &opts)
		if err != nil {
			return err
		}
		last, err := a.prepareApps(ctx, r, e.Point, opts.app)
		if err != nil {
			return err
		}
		return a.withVCenter(ctx, func(s *vmware.Session) error {
			lock, err := a.newRun(r.Config().ID)
			if err != nil {
				return err
			}
			defer lock.Close()
			if last.Job != nil && !opts.plan { // asks for passwords, and does so before hours have passed
				if last.guests, err = sqlcmd.NewGuests(ctx, door{a}, lock); err != nil {
					return err
				}
			}
			opts.target.Made = func(vm vmware.VM) { last.vm = vm }
			opts.target.Run, opts.target.Alive, opts.target.Log = lock.Run, lock.Alive, a.log
			opts.target.Read = func(ctx context.Context, item recovery.Item) (io.ReadCloser, error) {
				return restore.OpenStream(ctx, r, item), nil
			}
			return a.restoreVM(ctx, r, s, e.Point, items, opts, last)
		})
	})
}

// apps is what is restored inside the VM when it is complete; Job is nil for nothing.
type apps struct {
	*revive.Job
	guests *sqlcmd.Guests
	vm     vmware.VM // the one that was made
}

func (a *app) prepareApps(ctx context.Context, r *repo.Repository, p *recovery.Point, name string) (*apps, error) {
	if name == "" {
		return &apps{}, nil
	}
	job, err := revive.Prepare(ctx, door{a}, r, p)
	return &apps{Job: job}, err
}

// run restores what is inside the VM. left are sentences about what is not restored.
func (l *apps) run(ctx context.Context, s *vmware.Session) (left []string, err error) {
	if l.Job == nil {
		return nil, nil
	}
	err = l.Run(ctx, s, l.vm, l.guests)
	return l.Left(), err
}

// vmItems are the items to restore: the chosen disks and everything that is no disk.
func vmItems(p *recovery.Point, opts *restoreVMOptions) ([]recovery.Item, error) {
	disks, err := restore.SelectDisks(p, opts.disks)
	if err != nil {
		return nil, err
	}
	if len(opts.disks) > 0 {
		for _, d := range disks {
			opts.target.DiskKeys = append(opts.target.DiskKeys, d.Key)
		}
	}
	for _, it := range p.Items {
		if !it.IsDisk() {
			disks = append(disks, it)
		}
	}
	return disks, nil
}

func (a *app) restoreVM(ctx context.Context, r *repo.Repository, s *vmware.Session, p *recovery.Point, items []recovery.Item, opts restoreVMOptions, last *apps) error {
	var left []string // what a restore that is done all the same has not done
	opts.target.Incomplete = func(reason string) { left = append(left, reason) }
	t := target.New(s, opts.target)
	plan, err := t.Plan(ctx, p)
	if err != nil {
		return err
	}
	if opts.plan {
		report := planReport{plan, orEmpty(plan.Removes), orEmpty(plan.Warnings), orEmpty(plan.Conflicts), nil}
		a.showPlan(plan)
		if last.Job != nil {
			last.Show(a.planLine)
			report.Databases = last.Steps()
		}
		if err := a.ui.Result(report); err != nil {
			return err
		}
		return plan.Err()
	}
	if err := plan.Err(); err != nil {
		return err
	}
	for _, w := range plan.Warnings {
		a.ui.Warn("%s", w)
	}
	res, err := a.fillVM(ctx, r, p, items, t)
	if err != nil {
		return err
	}
	a.ui.Say("restored %s of %s to %s: %s in %s, verified\n", p.ID, p.Source, plan.Name, ui.Bytes(res.BytesWritten), ui.Duration(res.Duration))
	not, err := last.run(ctx, s)
	a.ui.Event("summary", restoreSummary{
		Point: p.ID, Source: p.Source, Target: plan.Name, Items: res.Items, BytesWritten: res.BytesWritten,
		Verified: res.Verified, Duration: res.Duration.Seconds(), Warnings: append(append(a.warnings(), left...), not...),
	})
	return errors.Join(err, verdict.Incomplete(left...))
}

// fillVM makes, fills and verifies the VM.
func (a *app) fillVM(ctx context.Context, r *repo.Repository, p *recovery.Point, items []recovery.Item, t restore.Target) (*restore.Result, error) {
	progress := a.ui.Progress()
	defer progress.Done()
	for _, it := range items {
		if it.IsDisk() { // written, and then read back
			label := cmp.Or(it.Label, it.Name)
			progress.Expect(label, it.Bytes)
			progress.Expect("verify "+label, it.Bytes)
		}
	}
	return restore.Run(ctx, r, p, items, t, restore.Options{Now: a.now, Progress: progress})
}

// planReport is the result of restore vm --plan. Lists that a plan leaves out
// when they are empty are always here.
type planReport struct {
	target.Plan
	Removes   []string `json:"removes"`
	Warnings  []string `json:"warnings"`
	Conflicts []string `json:"conflicts"`
	// Databases are those that --app restores, or leaves.
	Databases []dbrevive.Step `json:"databases,omitempty"`
}

func (a *app) planLine(name, format string, args ...any) {
	a.ui.Printf("%-12s%s\n", name, ui.Clean(fmt.Sprintf(format, args...)))
}

func (a *app) showPlan(plan target.Plan) {
	line := a.planLine
	line("point", "%s", plan.Point)
	line("VM", "%s in %s", plan.Name, plan.Folder)
	for _, f := range plan.NewFolders {
		line("folder", "%s will be made", f)
	}
	line("runs in", "%s", strings.TrimSpace(plan.Pool+" "+plan.Host))
	line("home", "%s", plan.Home)
	for _, d := range plan.Disks {
		line("disk", "%d %s: %s on %s", d.Key, d.Label, ui.Bytes(d.Bytes), d.Datastore)
	}
	for _, c := range plan.Cards {
		mac := "a new address"
		if c.Kept {
			mac = "keeps " + c.MAC
		}
		line("network", "%s on %s, %s", c.Label, c.Network, mac)
	}
	for _, path := range plan.Removes {
		line("removes", "%s, which a dead restore left", path)
	}
	if plan.Replaces != "" {
		line("replaces", "%s, which becomes %s", plan.Replaces, plan.OldBecomes)
	}
	for _, w := range plan.Warnings {
		line("warning", "%s", w)
	}
	for _, c := range plan.Conflicts {
		line("conflict", "%s", c)
	}
}
