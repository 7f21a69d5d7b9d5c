package guest

import (
	"context"
	"fmt"
	"strings"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/types"
)

// Start starts a program in a directory. Its environment is env alone; nobody sees
// what it prints. Arguments are seen by everybody in the guest.
func (g *Guest) Start(ctx context.Context, program string, args []string, directory string, env []string) (pid int64, err error) {
	spec := &types.GuestProgramSpec{ProgramPath: program, Arguments: line(args, isPosix(program)), WorkingDirectory: directory, EnvVariables: env}
	pid, err = g.program.StartProgram(ctx, g.auth, spec)
	if err != nil {
		return 0, fmt.Errorf("start %s in the guest: %w", program, classify(err))
	}
	return pid, nil
}

// line makes the one line that Tools take: a shell reads it on POSIX systems, the
// program itself on Windows.
func line(args []string, posix bool) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		switch {
		case a != "" && !strings.ContainsAny(a, " \t\n\"'`$&|;<>()*?[]{}~#!\\") && posix, a != "" && !strings.ContainsAny(a, " \t\n\"") && !posix:
			quoted[i] = a
		case posix:
			quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		default:
			quoted[i] = windowsQuote(a)
		}
	}
	return strings.Join(quoted, " ")
}

// windowsQuote quotes by the rules of CommandLineToArgvW: backslashes count double
// before a quote, and the quote is escaped.
func windowsQuote(a string) string {
	var b strings.Builder
	b.WriteByte('"')
	slashes := 0
	for _, r := range a {
		switch r {
		case '\\':
			slashes++
			continue
		case '"':
			b.WriteString(strings.Repeat(`\`, 2*slashes+1))
		default:
			b.WriteString(strings.Repeat(`\`, slashes))
		}
		slashes = 0
		b.WriteRune(r)
	}
	b.WriteString(strings.Repeat(`\`, 2*slashes) + `"`)
	return b.String()
}

// Process tells whether a program that Start started still runs, and else its exit
// code. Tools remember that for five minutes; who asks later is told that it is gone
// by known.
func (g *Guest) Process(ctx context.Context, pid int64) (running bool, code int, known bool, err error) {
	list, err := g.program.ListProcesses(ctx, g.auth, []int64{pid})
	if err != nil && fault.Is(err, &types.GuestProcessNotFound{}) {
		return false, 0, false, nil
	}
	if err != nil {
		return false, 0, false, fmt.Errorf("ask for program %d of the guest: %w", pid, classify(err))
	}
	for _, p := range list {
		if p.Pid == pid {
			return p.EndTime == nil, int(p.ExitCode), true, nil
		}
	}
	return false, 0, false, nil
}

// Programs are the command lines of what runs in the guest, by process.
func (g *Guest) Programs(ctx context.Context) (map[int64]string, error) {
	list, err := g.program.ListProcesses(ctx, g.auth, nil)
	if err != nil {
		return nil, fmt.Errorf("list programs of the guest: %w", classify(err))
	}
	running := map[int64]string{}
	for _, p := range list {
		if p.EndTime == nil {
			running[p.Pid] = p.CmdLine
		}
	}
	return running, nil
}

// Kill ends a program; one that is gone is no error.
func (g *Guest) Kill(ctx context.Context, pid int64) error {
	err := g.program.TerminateProcess(ctx, g.auth, pid)
	if err != nil && !fault.Is(err, &types.GuestProcessNotFound{}) {
		return fmt.Errorf("end program %d of the guest: %w", pid, classify(err))
	}
	return nil
}
