package cmd

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/cmd/diskfile"
	"holdfast/cmd/sqlcmd"
	"holdfast/cmd/ui"
	"holdfast/cmd/view"
	"holdfast/repo"
	"holdfast/repo/recovery"
	"holdfast/restore"
	"holdfast/vmware"
	"holdfast/vmware/target"
)

func newRestoreCommand(a *app) *cobra.Command {
	return newGroup("restore", "bring recovery points back",
		`A restore makes its target, fills it, reads it back and compares, and only then gives it
its name. If anything fails, what was made is removed.`,
		newRestoreVMCommand(a), newRestoreDiskCommand(a), sqlcmd.NewRestore(door{a}), sqlcmd.NewRestoreFiles(door{a}))
}

type restoreDiskOptions struct {
	disk, output, format, toVM, datastore string
	sparse, overwrite                     bool
}

func newRestoreDiskCommand(a *app) *cobra.Command {
	var opts restoreDiskOptions
	c := documented(&cobra.Command{
		Use:   "disk POINT",
		Short: "restore one disk of a VM's or an image's point into a file",
		Long: `Disk writes one disk as a raw image or as a VMDK (streamOptimized). The file appears
under its name only when it is complete and has been read back and compared. What a
restore to the same file that was killed left beside it is removed.`,
		Example: "holdfast -r /srv/backup restore disk latest:web01 --disk 2000 -o web01.raw --sparse\nholdfast -r /srv/backup restore disk 3f21a7c0 -o disk.vmdk --format vmdk",
		Args:    args("POINT"),
		RunE: func(c *cobra.Command, words []string) error {
			if err := opts.check(); err != nil {
				return err
			}
			return a.withRepository(c.Context(), func(r *repo.Repository) error {
				return runRestoreDisk(c.Context(), words[0], opts, a, r)
			})
		},
	}, append([]exitCode{exitIncomplete, exitBusy, exitRefused}, repositoryCodes...)...)
	f := c.Flags()
	f.StringVar(&opts.disk, "disk", "", "which disk: its `KEY`, label or item name (needed if there are several)")
	f.StringVarP(&opts.output, "output", "o", "", "write to `FILE`")
	f.StringVar(&opts.format, "format", "", "`FORMAT`: raw or vmdk (default: vmdk if FILE is called so, else raw)")
	f.BoolVar(&opts.sparse, "sparse", false, "leave holes where the disk holds zeros")
	f.BoolVar(&opts.overwrite, "overwrite", false, "replace FILE if it exists")
	f.StringVar(&opts.toVM, "to-vm", "", "instead of a file: attach it as a new disk to the VM `NAME`")
	f.StringVar(&opts.datastore, "datastore", "", "with --to-vm: on this `DATASTORE`")
	return c
}

// restoreSummary is how a restore ends.
type restoreSummary struct {
	Point        string            `json:"point"`
	Source       string            `json:"source"`
	Target       string            `json:"target"`
	Items        int               `json:"items"`
	BytesWritten int64             `json:"bytes_written"`
	Verified     map[string]string `json:"verified"`
	Duration     float64           `json:"duration_seconds"`
	Warnings     []string          `json:"warnings"`
}

// check refuses flags that cannot be meant and targets that cannot be files.
func (opts restoreDiskOptions) check() error {
	switch {
	case opts.toVM != "" && (opts.output != "" || opts.sparse || opts.overwrite || opts.format != ""):
		return usagef("leave -o, --format, --sparse and --overwrite away", "--to-vm attaches a new disk to a VM, it makes no file here")
	case opts.toVM != "":
		return nil
	case opts.datastore != "":
		return usagef("restore vm --datastore places whole VMs", "--datastore is for --to-vm")
	case opts.output == "":
		return usagef("say -o FILE", "restore disk: no target was given")
	case opts.output == "-":
		return usagef("holdfast dump POINT ITEM writes to standard output", "restore disk: standard output cannot be read back and compared")
	}
	if info, err := os.Stat(opts.output); err == nil && !info.Mode().IsRegular() {
		what := "no regular file"
		if info.IsDir() {
			what = "a directory"
		}
		return usagef("name a file in it, or another one", "restore disk to %s: it is %s", opts.output, what)
	}
	return nil
}

func runRestoreDisk(ctx context.Context, spec string, opts restoreDiskOptions, a *app, r *repo.Repository) error {
	if opts.format == "" {
		opts.format = "raw"
		if strings.EqualFold(filepath.Ext(opts.output), ".vmdk") {
			opts.format = "vmdk"
		}
	}
	format, err := diskFormat(opts.format)
	if err != nil {
		return err
	}
	a.ui.Stream()
	e, err := a.find(ctx, r, spec)
	if err != nil {
		return err
	}
	if err := view.Disks("restore disk", &e); err != nil {
		return err
	}
	item, err := oneDisk(e.Point, opts.disk)
	if err != nil {
		return err
	}
	if opts.toVM != "" {
		return a.attachDisk(ctx, r, e.Point, item, opts)
	}
	target := &diskfile.Target{
		FileTarget: restore.FileTarget{Path: opts.output, Format: format, Sparse: opts.sparse, Overwrite: opts.overwrite}, Log: a.log,
	}
	return a.restoreTo(ctx, r, e.Point, []recovery.Item{item}, target, opts.output)
}

// attachDisk restores a disk as a new one of an existing VM, whose own disks are
// not touched.
func (a *app) attachDisk(ctx context.Context, r *repo.Repository, p *recovery.Point, item recovery.Item, opts restoreDiskOptions) error {
	return a.withVCenter(ctx, func(s *vmware.Session) error {
		vm, err := s.FindVM(ctx, opts.toVM)
		if err != nil {
			return err
		}
		lock, err := a.newRun(r.Config().ID)
		if err != nil {
			return err
		}
		defer lock.Close()
		to := target.NewAttach(s, target.AttachOptions{VM: vm, Datastore: opts.datastore, Run: lock.Run.ID, Log: a.log})
		return a.restoreTo(ctx, r, p, []recovery.Item{item}, to, vm.Name)
	})
}

// oneDisk finds the disk that was named, or the only one.
func oneDisk(p *recovery.Point, key string) (recovery.Item, error) {
	var keys []string
	if key != "" {
		keys = []string{key}
	}
	disks, err := restore.SelectDisks(p, keys)
	if err != nil {
		return recovery.Item{}, err
	}
	if len(disks) != 1 {
		return recovery.Item{}, &restore.ItemError{Wanted: key, Have: disks}
	}
	return disks[0], nil
}

// restoreTo runs a restore and shows how it ended.
func (a *app) restoreTo(ctx context.Context, r *repo.Repository, p *recovery.Point, items []recovery.Item, target restore.Target, name string) error {
	progress := a.ui.Progress()
	for _, it := range items {
		if it.IsDisk() { // written, and then read back
			label := cmp.Or(it.Label, it.Name)
			progress.Expect(label, it.Bytes)
			progress.Expect("verify "+label, it.Bytes)
		}
	}
	res, err := restore.Run(ctx, r, p, items, target, restore.Options{Now: a.now, Progress: progress})
	progress.Done()
	if err != nil {
		return err
	}
	a.ui.Say("restored %s of %s to %s: %s in %s, verified\n", p.ID, p.Source, name, ui.Bytes(res.BytesWritten), ui.Duration(res.Duration))
	a.ui.Event("summary", restoreSummary{
		Point: p.ID, Source: p.Source, Target: name, Items: res.Items, BytesWritten: res.BytesWritten,
		Verified: res.Verified, Duration: res.Duration.Seconds(), Warnings: a.warnings(),
	})
	return nil
}

// warnings are what a summary says about damage that was healed on the way, and
// about points that are gone.
func (a *app) warnings() []string {
	list := []string{}
	a.healed.Range(func(name, _ any) bool {
		list = append(list, fmt.Sprintf("%s is damaged; parity brought its bytes back", name))
		return true
	})
	slices.Sort(list)
	return append(list, a.vanished.Warnings()...)
}

// diskFormat joins the VMDK code to the restore of files.
func diskFormat(name string) (*restore.Format, error) {
	switch name {
	case "raw":
		return nil, nil
	case "vmdk":
		return diskfile.Format(), nil
	}
	return nil, usagef("raw or vmdk", "--format %q is unknown", name)
}
