package guest

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// forgetAfter is how long Tools remember a program that ended.
const forgetAfter = 5 * time.Minute

type process struct {
	info types.GuestProcessInfo
	cmd  *exec.Cmd
}

type processManager struct {
	mo.GuestProcessManager
	g *Operations
}

// StartProgramInGuest starts a local process. Nobody gets its output; its exit code
// shows in ListProcessesInGuest.
func (m *processManager) StartProgramInGuest(req *types.StartProgramInGuest) soap.HasFault {
	account, dir, fault := m.g.enter(req.Vm, req.Auth)
	if fault != nil {
		return &methods.StartProgramInGuestBody{Fault_: fault}
	}
	id, spec := account.ID, req.Spec.GetGuestProgramSpec()
	if code, ok := m.g.builtin(account, dir, spec); ok {
		return &methods.StartProgramInGuestBody{Res: &types.StartProgramInGuestResponse{Returnval: m.g.ended(id, spec, code)}}
	}
	cmd := m.g.command(dir, spec)
	if err := cmd.Start(); err != nil {
		return &methods.StartProgramInGuestBody{Fault_: guestFault(spec.ProgramPath, err)}
	}
	pid := int64(cmd.Process.Pid)
	p := &process{cmd: cmd, info: types.GuestProcessInfo{
		Name: spec.ProgramPath, Pid: pid, StartTime: time.Now().UTC(), CmdLine: strings.TrimSpace(spec.ProgramPath + " " + spec.Arguments)}}
	if login, ok := req.Auth.(*types.NamePasswordAuthentication); ok {
		p.info.Owner = login.Username
	}
	m.g.mu.Lock()
	if m.g.processes[id] == nil {
		m.g.processes[id] = map[int64]*process{}
	}
	m.g.processes[id][pid] = p
	m.g.mu.Unlock()
	// Close waits for it, so no program outlives the laboratory.
	m.g.wait.Add(1)
	go m.g.reap(p)
	return &methods.StartProgramInGuestBody{Res: &types.StartProgramInGuestResponse{Returnval: pid}}
}

// reap waits for a program and keeps its exit code.
func (g *Operations) reap(p *process) {
	defer g.wait.Done()
	err := p.cmd.Wait()
	code := int32(0)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = int32(exit.ExitCode())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	p.info.ExitCode, p.info.EndTime = code, types.NewTime(time.Now().UTC())
}

// ListProcessesInGuest lists the programs that were started, those that ended for five
// minutes more.
func (m *processManager) ListProcessesInGuest(req *types.ListProcessesInGuest) soap.HasFault {
	account, _, fault := m.g.enter(req.Vm, req.Auth)
	id := account.ID
	if fault != nil {
		return &methods.ListProcessesInGuestBody{Fault_: fault}
	}
	m.g.mu.Lock()
	defer m.g.mu.Unlock()
	res := &types.ListProcessesInGuestResponse{}
	for pid, p := range m.g.processes[id] {
		if p.info.EndTime != nil && time.Since(*p.info.EndTime) > forgetAfter {
			delete(m.g.processes[id], pid)
			continue
		}
		if len(req.Pids) == 0 || slices.Contains(req.Pids, pid) {
			res.Returnval = append(res.Returnval, p.info)
		}
	}
	return &methods.ListProcessesInGuestBody{Res: res}
}

// TerminateProcessInGuest kills a program that was started here.
func (m *processManager) TerminateProcessInGuest(req *types.TerminateProcessInGuest) soap.HasFault {
	account, _, fault := m.g.enter(req.Vm, req.Auth)
	id := account.ID
	if fault != nil {
		return &methods.TerminateProcessInGuestBody{Fault_: fault}
	}
	m.g.mu.Lock()
	p := m.g.processes[id][req.Pid]
	m.g.mu.Unlock()
	if p == nil || p.cmd == nil || p.cmd.Process.Kill() != nil {
		return &methods.TerminateProcessInGuestBody{Fault_: simulator.Fault("", &types.GuestProcessNotFound{Pid: req.Pid})}
	}
	return &methods.TerminateProcessInGuestBody{Res: &types.TerminateProcessInGuestResponse{}}
}

// ReadEnvironmentVariableInGuest tells a few variables that a Windows guest has.
func (m *processManager) ReadEnvironmentVariableInGuest(req *types.ReadEnvironmentVariableInGuest) soap.HasFault {
	_, _, fault := m.g.enter(req.Vm, req.Auth)
	if fault != nil {
		return &methods.ReadEnvironmentVariableInGuestBody{Fault_: fault}
	}
	res := &types.ReadEnvironmentVariableInGuestResponse{}
	for _, v := range []string{`ProgramData=C:\ProgramData`, `SystemRoot=C:\Windows`, `TEMP=C:\Windows\Temp`} {
		name, _, _ := strings.Cut(v, "=")
		if len(req.Names) == 0 || slices.Contains(req.Names, name) {
			res.Returnval = append(res.Returnval, v)
		}
	}
	return &methods.ReadEnvironmentVariableInGuestBody{Res: res}
}
