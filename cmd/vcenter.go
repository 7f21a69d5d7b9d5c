package cmd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/cmd/about"
	"holdfast/cmd/runlock"
	"holdfast/cmd/typed"
	"holdfast/cmd/ui"
	"holdfast/vmware"
	"holdfast/vmware/leftover"
	"holdfast/vmware/snapshot"
)

// withVCenter runs fn with a session at the vCenter that the settings name.
func (a *app) withVCenter(ctx context.Context, fn func(s *vmware.Session) error) error {
	url := a.settings.Text("vcenter.url")
	if url == "" {
		return usagef("give HOLDFAST_VCENTER_URL (GOVC_URL works, too) or vcenter: url: in a profile", "no vCenter was named")
	}
	password, err := a.loadSecret(ctx, vcenterSecret)
	if err != nil {
		return err
	}
	s, err := vmware.Connect(ctx, vmware.Options{
		URL: url, User: a.settings.Text("vcenter.user"), Password: password,
		Thumbprint: a.settings.Text("vcenter.thumbprint"), Insecure: a.settings.Bool("vcenter.insecure"),
		CAFile: a.settings.Text("tls-ca"), UserAgent: "holdfast/" + about.Program().Version, Log: a.log,
	})
	if err != nil {
		return err
	}
	defer s.Close()
	return fn(s)
}

func newVMCommand(a *app) *cobra.Command {
	return newGroup("vm", "look at the virtual machines of the vCenter", "Vm shows what the vCenter holds and looks after what backups need there.",
		newVMListCommand(a), newVMCBTCommand(a), newVMCleanupCommand(a))
}

// vcenterCodes are the exit codes of every command that talks to a vCenter.
var vcenterCodes = []exitCode{exitUnreachable}

// vmRow is a VM as vm list shows it.
type vmRow struct {
	Name         string   `json:"name"`
	Path         string   `json:"path"`
	InstanceUUID string   `json:"instance_uuid"`
	Power        string   `json:"power"`
	CBT          bool     `json:"cbt"`
	Disks        int      `json:"disks"`
	Bytes        int64    `json:"bytes"`
	Snapshots    []string `json:"snapshots"`
	Template     bool     `json:"template"`
}

func newVMListCommand(a *app) *cobra.Command {
	return documented(&cobra.Command{
		Use:     "list",
		Short:   "list the virtual machines",
		Example: "holdfast vm list --json",
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withVCenter(c.Context(), func(s *vmware.Session) error { return runVMList(c.Context(), a, s) })
		},
	}, vcenterCodes...)
}

func runVMList(ctx context.Context, a *app, s *vmware.Session) error {
	vms, err := s.VMs(ctx)
	if err != nil {
		return err
	}
	rows := []vmRow{}
	t := ui.NewTable(ui.Left("Name"), ui.Left("Power"), ui.Left("CBT"), ui.Right("Disks"), ui.Right("Size"), ui.Left("Snapshots"), ui.Left("Path"))
	for _, vm := range vms {
		row := vmRow{Name: vm.Name, Path: vm.Path, InstanceUUID: vm.InstanceUUID, Power: vm.Power, CBT: vm.CBT, Disks: len(vm.Disks), Snapshots: []string{}, Template: vm.Template}
		for _, d := range vm.Disks {
			row.Bytes += d.Bytes
		}
		for _, snap := range vm.Snapshots {
			row.Snapshots = append(row.Snapshots, snap.Name)
		}
		rows = append(rows, row)
		tracked := "no"
		if vm.CBT {
			tracked = "yes"
		}
		t.Row(vm.Name, strings.TrimPrefix(vm.Power, "powered"), tracked, fmt.Sprint(row.Disks), ui.Bytes(row.Bytes), strings.Join(row.Snapshots, ", "), vm.Path)
	}
	if !a.json {
		a.ui.Table(t)
	}
	return a.ui.Result(rows)
}

func newVMCBTCommand(a *app) *cobra.Command {
	verb := func(use, short, long string, run func(ctx context.Context, s *vmware.Session, vm vmware.VM) error) *cobra.Command {
		return documented(&cobra.Command{
			Use: use + " NAME", Short: short, Long: long, Args: args("NAME"),
			Example: "holdfast vm cbt " + use + " web01",
			RunE: func(c *cobra.Command, names []string) error {
				return a.withVCenter(c.Context(), func(s *vmware.Session) error {
					vm, err := s.FindVM(c.Context(), names[0])
					if err != nil {
						return err
					}
					if run != nil {
						if err := run(c.Context(), s, vm); err != nil || a.quiet && !a.json {
							return err
						}
					}
					return a.showCBT(c.Context(), s, vm)
				})
			},
		}, exitUnreachable, exitRefused)
	}
	change := func(do func(ctx context.Context, s *vmware.Session, vm vmware.VM, opt vmware.CBTOptions) error) func(ctx context.Context, s *vmware.Session, vm vmware.VM) error {
		return func(ctx context.Context, s *vmware.Session, vm vmware.VM) error {
			lock, err := a.newRun("")
			if err != nil {
				return err
			}
			defer lock.Close()
			return do(ctx, s, vm, vmware.CBTOptions{Run: lock.Run, Log: a.log})
		}
	}
	return newGroup("cbt", "changed-block tracking of a virtual machine", "Cbt shows, enables and resets changed-block tracking. Enabling and resetting take a\nsnapshot that goes away at once.",
		verb("status", "show how tracking stands", "", nil),
		verb("enable", "switch tracking on and make it effective", "", change(func(ctx context.Context, s *vmware.Session, vm vmware.VM, opt vmware.CBTOptions) error {
			return s.CBTEnable(ctx, vm, opt)
		})),
		verb("reset", "throw the maps away and begin new ones", "Reset switches tracking off and on again, each with a snapshot that comes and goes. The\nnext backup reads everything. A VM with snapshots is refused.", change(func(ctx context.Context, s *vmware.Session, vm vmware.VM, opt vmware.CBTOptions) error {
			return s.CBTReset(ctx, vm, opt)
		})))
}

func (a *app) showCBT(ctx context.Context, s *vmware.Session, vm vmware.VM) error {
	st, err := s.CBTStatus(ctx, vm)
	if err != nil {
		return err
	}
	switch {
	case st.Enabled:
		a.ui.Printf("%s: tracking is enabled\n", vm.Name)
	case st.Supported:
		a.ui.Printf("%s: tracking is not enabled\n", vm.Name)
	default:
		a.ui.Printf("%s: tracking is not supported: %s\n", vm.Name, st.Reason)
	}
	for _, d := range st.Disks {
		state := "tracked"
		if !d.Tracked {
			state = "not tracked"
			if d.Reason != "" {
				state += ": " + d.Reason
			}
		}
		a.ui.Printf("  %d %s: %s\n", d.Key, d.Label, state)
	}
	return a.ui.Result(st)
}

func newVMCleanupCommand(a *app) *cobra.Command {
	var olderThan string
	var dryRun bool
	c := documented(&cobra.Command{
		Use:   "cleanup",
		Short: "remove snapshots and unfinished VMs that dead runs of ours have left",
		Long: `Cleanup looks through all VMs for snapshots that Holdfast took, and for VMs that restores
have not finished, and removes those of runs that are dead. On this machine that is known
for certain; what was left from other machines is removed only when it is older than
--older-than. An unfinished VM that somebody started, renamed or gave a disk is told of and
kept. Snapshots and VMs of anybody else are never touched.`,
		Example: "holdfast vm cleanup --dry-run",
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			age, err := typed.Age(olderThan)
			if err != nil {
				return err
			}
			return a.withVCenter(c.Context(), func(s *vmware.Session) error { return runCleanup(c.Context(), age, dryRun, a, s) })
		},
	}, exitUnreachable)
	c.Flags().StringVar(&olderThan, "older-than", "24h", "spare what other machines left that is younger than `AGE`")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only tell what would be removed")
	return c
}

func runCleanup(ctx context.Context, age time.Duration, dryRun bool, a *app, s *vmware.Session) error {
	lock, err := a.newRun("")
	if err != nil {
		return err
	}
	defer lock.Close()
	cleaned, err := s.Cleanup(ctx, vmware.CleanupOptions{Host: lock.Run.Host, Alive: lock.Alive, OlderThan: age, DryRun: dryRun, Log: a.log})
	for _, c := range cleaned {
		state := "removed"
		if !c.Removed {
			state = "kept"
		}
		what := c.Snapshot
		if c.Kind == leftover.KindVM {
			what = "unfinished restore of " + c.Restores
		}
		a.ui.Say("%s: %s %s (%s): %s\n", c.VM, what, state, c.Created.Format(time.RFC3339), c.Reason)
	}
	if len(cleaned) == 0 {
		a.ui.Note("no snapshot and no unfinished restore of ours anywhere")
	}
	if resultErr := a.ui.Result(orEmpty(cleaned)); err == nil {
		err = resultErr
	}
	if err == nil && !dryRun {
		lock.Prune(a.now().Add(-age))
	}
	return err
}

// newRun begins a run against a vCenter with a lock of its own.
func (a *app) newRun(repository string) (*runlock.Lock, error) {
	dir, err := a.settings.CacheDir()
	if err != nil {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("holdfast-%d", os.Getuid()))
	}
	return runlock.New(filepath.Join(dir, "runs"), snapshot.Run{Host: a.options().Host, Started: a.now(), Repository: repository})
}
