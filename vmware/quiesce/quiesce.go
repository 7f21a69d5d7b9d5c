// Package quiesce decides how a guest is brought to rest before its snapshot is
// taken, and finds out afterwards what was reached.
//
// vSphere does not tell. It takes a quiesce request for a VM without running
// Tools and silently ignores it, and it calls a snapshot quiesced whose
// applications never heard of it. So what cannot work is decided in advance, by
// named rules, and what came of the rest is read from the manifest that VMware's
// VSS requester leaves beside the snapshot. The functions are pure; the caller
// takes the snapshots. The rules' names are those of DESIGN.md.
package quiesce

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/repo/recovery"
	"holdfast/vmware/disk"
)

// Finding is a pre-check's result: a named reason why less can be reached.
type Finding struct {
	Rule string // V21, V22 …
	Text string
}

// String is "V28: text".
func (f Finding) String() string { return f.Rule + ": " + f.Text }

// Facts are what the decision looks at.
type Facts struct {
	On           bool // powered on
	ToolsRunning bool
	ToolsVersion int    // 12352; 0 when not known
	Guest        string // guest id: windows2019srv_64Guest
	EnableUUID   bool   // disk.EnableUUID
	IDE          bool   // a disk hangs at an IDE controller
	ScarceSlots  bool   // fewer free SCSI units than disks on a controller
	Encrypted    bool
}

// Gather reads the facts from a VM with properties config, guest and runtime.
func Gather(vm *mo.VirtualMachine) Facts {
	f := Facts{On: vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn}
	if g := vm.Guest; g != nil {
		f.ToolsRunning = g.ToolsRunningStatus == string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)
		f.ToolsVersion, _ = strconv.Atoi(g.ToolsVersion) // "" when Tools never ran
		f.Guest = g.GuestId
	}
	if c := vm.Config; c != nil {
		if f.Guest == "" {
			f.Guest = c.GuestId
		}
		f.EnableUUID = c.Flags.DiskUuidEnabled != nil && *c.Flags.DiskUuidEnabled
		for _, o := range c.ExtraConfig {
			if v := o.GetOptionValue(); strings.EqualFold(v.Key, "disk.EnableUUID") {
				f.EnableUUID = strings.EqualFold(fmt.Sprint(v.Value), "true") || fmt.Sprint(v.Value) == "1"
			}
		}
		f.Encrypted = c.KeyId != nil
		f.controllers(c.Hardware.Device)
	}
	return f
}

// unitsPerController is 15 usable targets of a SCSI bus, without the adapter.
const unitsPerController = 15

func (f *Facts) controllers(devices []types.BaseVirtualDevice) {
	used := map[int32]int{}
	for _, d := range disk.Devices(devices) {
		used[d.Controller]++
	}
	for _, d := range devices {
		switch c := d.(type) {
		case *types.VirtualIDEController:
			f.IDE = f.IDE || used[c.Key] > 0
		case types.BaseVirtualSCSIController:
			n := used[c.GetVirtualSCSIController().Key]
			f.ScarceSlots = f.ScarceSlots || unitsPerController-n < n
		}
	}
}

// Family is what a guest's kind allows (V21).
type Family int

// The families of guests.
const (
	Unknown      Family = iota // any other: crash-consistent
	Linux                      // open-vm-tools freezes the file systems
	WindowsFiles               // XP, 2000: sync driver; Vista and later clients: VSS, file systems only
	WindowsApps                // servers since 2003: VSS with applications
)

// linuxGuests are parts of guest ids that mean Linux.
var linuxGuests = []string{"linux", "ubuntu", "debian", "rhel", "centos", "sles", "suse", "oracle", "fedora", "photon", "rocky", "alma", "amazon", "coreos", "asianux", "mandriva", "mandrake", "turbo", "redhat", "miracle", "opensuse"}

// FamilyOf knows a guest id of vSphere.
func FamilyOf(guest string) Family {
	id := strings.ToLower(guest)
	switch {
	case strings.HasPrefix(id, "winnet"), strings.HasPrefix(id, "winlonghorn"),
		strings.HasPrefix(id, "windows") && (strings.Contains(id, "server") || strings.Contains(id, "srv") || strings.Contains(id, "hyperv")):
		return WindowsApps
	case strings.HasPrefix(id, "win"):
		return WindowsFiles
	}
	for _, l := range linuxGuests {
		if strings.HasPrefix(id, l) || strings.Contains(id, "linux") {
			return Linux
		}
	}
	return Unknown
}

// Step is one way to take the snapshot. Spec is nil where the guest is not
// asked.
type Step struct {
	Level string // the best this step can reach
	Spec  types.BaseVirtualMachineGuestQuiesceSpec
}

// Plan is the ladder to go down, best step first, and why it does not begin
// higher.
type Plan struct {
	Want     string // what the operator asked for
	Best     string // what this guest can give at its best
	Steps    []Step
	Findings []Finding
}

// minTools16 is Tools 10.1.0, which Server 2016 needs.
const minTools16 = 10272

// Decide makes the ladder for level want (a Level of package recovery). timeout
// is vSphere's for the guest's part; it is clamped to 5 to 240 minutes, 0 means
// 15.
//
// A VM backup never truncates a log: the VSS backup type is always COPY, so that
// SQL Server's and Exchange's own chains stay whole.
func Decide(want string, f Facts, timeout time.Duration) Plan {
	p := Plan{Want: want, Best: recovery.Crash}
	crash := Step{Level: recovery.Crash}
	if want == recovery.Crash {
		p.Steps = []Step{crash}
		return p
	}
	if !f.On {
		// Nothing runs, nothing can be torn: the disks are as the guest left them.
		p.Findings = append(p.Findings, Finding{"V21", "the VM is powered off: there is nothing to bring to rest"})
		p.Want, p.Steps = recovery.Crash, []Step{crash}
		return p
	}
	family := FamilyOf(f.Guest)
	p.Best = best(family, want)
	if !f.ToolsRunning {
		p.Findings = append(p.Findings, Finding{"V21", "VMware Tools does not run in the guest"})
		p.Steps = []Step{crash}
		return p
	}
	minutes := int32(min(max(timeout, 5*time.Minute), 4*time.Hour) / time.Minute)
	if timeout == 0 {
		minutes = 15
	}
	if p.Best == recovery.Application {
		if blocked := appBlockers(f); len(blocked) > 0 {
			p.Findings = append(p.Findings, blocked...)
		} else {
			p.Steps = append(p.Steps, Step{recovery.Application, windows("ctx_backup", minutes)})
		}
	}
	switch family {
	case WindowsApps, WindowsFiles:
		p.Steps = append(p.Steps, Step{recovery.FileSystem, windows("ctx_file_share_backup", minutes)})
	case Linux:
		p.Findings = append(p.Findings, Finding{"V21", "a Linux guest freezes its file systems; applications take part by scripts of its own"})
		p.Steps = append(p.Steps, Step{recovery.FileSystem, &types.VirtualMachineGuestQuiesceSpec{Timeout: minutes}})
	default:
		p.Findings = append(p.Findings, Finding{"V21", fmt.Sprintf("nothing is known about quiescing a guest of kind %q", f.Guest)})
		p.Steps = append(p.Steps, Step{recovery.Crash, &types.VirtualMachineGuestQuiesceSpec{Timeout: minutes}})
	}
	p.Steps = append(p.Steps, crash)
	return p
}

// best is what a guest of the family can reach of what is wanted. On a guest
// without application quiescing file-system consistency is all that "app" can
// mean, and no downgrade.
func best(family Family, want string) string {
	if family == WindowsApps {
		return want
	}
	return recovery.FileSystem
}

// appBlockers are the reasons known in advance why VSS will not do applications.
func appBlockers(f Facts) []Finding {
	var out []Finding
	if !f.EnableUUID {
		out = append(out, Finding{"V28", "disk.EnableUUID is not TRUE: applications cannot be quiesced (power the VM off to set it)"})
	}
	if f.IDE {
		out = append(out, Finding{"V32", "a disk hangs at an IDE controller, which VSS quiescing does not support"})
	}
	if f.ScarceSlots {
		out = append(out, Finding{"V32", "too few free SCSI slots: each controller needs as many free ones as it has disks"})
	}
	if needsTools16(f.Guest) && f.ToolsVersion > 0 && f.ToolsVersion < minTools16 {
		out = append(out, Finding{"V22", fmt.Sprintf("VMware Tools %d is older than 10.1.0, which this Windows Server needs", f.ToolsVersion)})
	}
	if f.Encrypted {
		out = append(out, Finding{"V22", "the VM is encrypted: only file systems can be quiesced"})
	}
	return out
}

// needsTools16 is true for Server 2016 (whose id says 9) and later.
func needsTools16(guest string) bool {
	id := strings.ToLower(guest)
	return strings.HasPrefix(id, "windows9server") || strings.HasPrefix(id, "windows20")
}

func windows(vssContext string, minutes int32) types.BaseVirtualMachineGuestQuiesceSpec {
	const vssCopy = 5 // VSS_BT_COPY: takes part in no backup history
	yes, no := true, false
	s := &types.VirtualMachineWindowsQuiesceSpec{
		VssBackupType: vssCopy, VssBackupContext: vssContext, VssBootableSystemState: &yes, VssPartialFileSupport: &no,
	}
	s.Timeout = minutes
	return s
}

// Rank orders the levels: higher is better.
func Rank(level string) int {
	switch level {
	case recovery.Application:
		return 2
	case recovery.FileSystem:
		return 1
	}
	return 0
}

// Downgraded reports whether a reached level is less than what was asked of
// this guest.
func (p Plan) Downgraded(reached string) bool {
	return Rank(reached) < min(Rank(p.Want), Rank(p.Best))
}

// Reached is the level that a snapshot taken by step really has (V23, V26).
// manifest is the level that the VSS manifest proves, empty when there is no
// manifest.
func Reached(step Step, family Family, manifest string) (level, why string) {
	if step.Spec == nil {
		return recovery.Crash, "the guest was not asked to come to rest"
	}
	switch {
	case manifest == recovery.Application && step.Level == recovery.FileSystem:
		return recovery.Application, "the manifest holds writers, though only file systems were asked for"
	case manifest != "":
		return manifest, "by the VSS manifest"
	case family == WindowsApps || family == WindowsFiles:
		return recovery.Crash, "V26: the VSS manifest is missing, which means that VSS failed in the guest"
	case family == Linux:
		return recovery.FileSystem, "the guest's file systems were frozen"
	}
	return recovery.Crash, "V21: quiescing a guest of this kind proves nothing"
}
