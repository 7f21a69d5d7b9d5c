package guest

import (
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// builtin plays the programs of Windows that make a directory safe and open the
// firewall, unless the guest has files of these names. A filtered token can set no
// owner, change no firewall, and see nothing of what is the administrators' alone.
func (g *Operations) builtin(a Account, dir string, spec *types.GuestProgramSpec) (code int32, ok bool) {
	if exists(inside(dir, spec.ProgramPath)) {
		return 0, false
	}
	switch strings.ToLower(spec.ProgramPath) {
	case `c:\windows\system32\icacls.exe`:
		if a.Filtered {
			return 5, true // ERROR_ACCESS_DENIED
		}
		args := fields(spec.Arguments)
		if len(args) == 0 {
			return 87, true // ERROR_INVALID_PARAMETER
		}
		if args[0] == "." {
			args[0] = spec.WorkingDirectory
		}
		return g.icacls(inside(dir, args[0]), args), true
	case `c:\windows\system32\windowspowershell\v1.0\powershell.exe`:
		return g.powershell(dir, a, fields(spec.Arguments)), true
	case `c:\windows\system32\netsh.exe`:
		return g.netsh(a, fields(spec.Arguments)), true
	}
	return 0, false
}

// netsh plays advfirewall firewall add, delete and show rule name=….
func (g *Operations) netsh(a Account, args []string) int32 {
	if len(args) < 5 || strings.Join(args[:2], " ") != "advfirewall firewall" || args[3] != "rule" {
		return 1
	}
	name, ok := strings.CutPrefix(args[4], "name=")
	if !ok || a.Filtered && args[2] != "show" {
		return 1
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	at := slices.Index(g.rules[a.ID], name)
	switch {
	case args[2] == "add":
		g.rules[a.ID] = append(g.rules[a.ID], name)
	case at < 0:
		return 1 // No rules match the specified criteria.
	case args[2] == "delete":
		g.rules[a.ID] = slices.Delete(g.rules[a.ID], at, at+1)
	}
	return 0
}

// Rules are the names of the rules that were put into a guest's firewall.
func (g *Operations) Rules(id string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.rules[id])
}

// ended notes a program that has run to its end at once.
func (g *Operations) ended(id string, spec *types.GuestProgramSpec, code int32) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.processes[id] == nil {
		g.processes[id] = map[int64]*process{}
	}
	// Numbers that no process of this machine has.
	pid := int64(1)<<40 + int64(len(g.processes[id]))
	for g.processes[id][pid] != nil {
		pid++
	}
	now := time.Now().UTC()
	g.processes[id][pid] = &process{info: types.GuestProcessInfo{
		Name: spec.ProgramPath, Pid: pid, StartTime: now, EndTime: &now, ExitCode: code, CmdLine: strings.TrimSpace(spec.ProgramPath + " " + spec.Arguments)}}
	return pid
}
