package inject

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"holdfast/sqlguest/agent/program"
)

// place is where agents lie in a guest, by its system.
type place struct {
	windows   bool
	separator string
	parent    string
	binary    string
}

func placeFor(system, parent string) (place, error) {
	switch system {
	case "windows":
		p := place{windows: true, separator: `\`, parent: parent, binary: program.BinaryName + ".exe"}
		if parent == "" {
			p.parent = `C:\ProgramData\` + program.ParentName
		}
		return p, nil
	case "linux":
		p := place{separator: "/", parent: parent, binary: program.BinaryName}
		if parent == "" {
			p.parent = "/var/lib/" + program.ParentName
		}
		return p, nil
	}
	return place{}, fmt.Errorf("%w: %q", ErrSystem, system)
}

// path is below the parent.
func (p place) path(names ...string) string {
	return strings.Join(append([]string{p.parent}, names...), p.separator)
}

// split is a path's directory and name. A drive keeps its separator.
func (p place) split(path string) (dir, name string) {
	at := strings.LastIndex(path, p.separator)
	dir, name = path[:at], path[at+1:]
	if dir == "" || strings.HasSuffix(dir, ":") {
		dir += p.separator
	}
	return dir, name
}

// runs tells whether a command line is that of a program, which is its first word: what
// else names the program, in its arguments, is somebody who looks at it.
func (p place) runs(line, program string) bool {
	if p.windows {
		line, program = strings.ToLower(line), strings.ToLower(program)
	}
	if quoted, ok := strings.CutPrefix(line, `"`); ok {
		first, _, _ := strings.Cut(quoted, `"`)
		return first == program
	}
	rest, ok := strings.CutPrefix(line, program)
	return ok && (rest == "" || rest[0] == ' ')
}

// agent is the run whose agent a command line is of, "" if it is none's.
func (p place) agent(line string) string {
	at := len(p.path("")) // the parent and a separator
	if strings.HasPrefix(line, `"`) {
		at++
	}
	if len(line) < at+runLength {
		return ""
	}
	run := line[at : at+runLength]
	if p.windows {
		run = strings.ToUpper(run)
	}
	if !runName.MatchString(run) || !p.runs(line, p.path(run, p.binary)) {
		return ""
	}
	return run
}

// command is a program of the guest's own system, and where it runs.
type command struct {
	program string
	args    []string
	in      string
}

// locks make a directory ours alone. On Windows that is the administrators': the
// owner first, who could change the rest; then no entry but those of SYSTEM (S-1-5-18)
// and Administrators (S-1-5-32-544), by their identifiers, as the names are translated.
// /grant:r replaces the entries of those it names only, and /inheritance:r takes away
// what is inherited only; what else stood there goes with /reset. They run where no user
// can lay a file that a program would load.
func (p place) locks(dir string) []command {
	if !p.windows {
		return []command{{"/usr/bin/test", []string{"-O", "."}, dir}, {"/bin/chmod", []string{"0700", "."}, dir}}
	}
	icacls := `C:\Windows\System32\icacls.exe`
	return []command{
		{icacls, []string{dir, "/setowner", "*S-1-5-32-544"}, top},
		{icacls, []string{dir, "/reset"}, top},
		{icacls, []string{dir, "/inheritance:r", "/grant:r", "*S-1-5-18:(OI)(CI)F", "*S-1-5-32-544:(OI)(CI)F"}, top},
	}
}

// top is a directory of Windows in which users can make no files.
const top = `C:\`

// alone is the descriptor of a directory that nobody but SYSTEM and administrators owns
// or may enter, inherited by nothing.
const alone = `^O:(BA|SY)G:[^:]*D:P(AI|AR)*(\(A;OICI;FA;;;(SY|BA)\))+$`

// proof succeeds if a directory of Windows is as locks make it. The owner is told by no
// program but PowerShell, and it alone is evidence: no other user can give a directory
// to administrators, and whoever owned it may hold it open with the right to change the
// list of its entries.
func (p place) proof(dir string) command {
	return command{`C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe`, []string{"-NoProfile", "-NonInteractive", "-Command",
		"if ((Get-Acl -LiteralPath '" + strings.ReplaceAll(dir, "'", "''") + "').Sddl -cmatch '" + alone + "') { exit 0 } else { exit 3 }"}, top}
}

const netsh = `C:\Windows\System32\netsh.exe`

// rule lets one address reach one program on one port.
func (p place) rule(run, from string, port int) command {
	return command{program: netsh, in: p.path(run), args: []string{"advfirewall", "firewall", "add", "rule", "name=" + ruleName(run), "dir=in", "action=allow", "protocol=TCP",
		"localport=" + strconv.Itoa(port), "remoteip=" + from, "program=" + p.path(run, p.binary)}}
}

func (p place) unrule(run string) command {
	return command{netsh, []string{"advfirewall", "firewall", "delete", "rule", "name=" + ruleName(run)}, p.parent}
}

func ruleName(run string) string { return "holdfast-agent-" + run }

// shown succeeds if there is such a rule.
func (p place) shown(run string) command {
	return command{netsh, []string{"advfirewall", "firewall", "show", "rule", "name=" + ruleName(run)}, p.parent}
}

// lock runs the commands that make a directory safe, and looks whether it is. The
// first of them is refused to who is no administrator: setting the owner, and on Linux
// owning what root owns.
func (i *Injected) lock(ctx context.Context, dir string) error {
	for n, c := range i.place.locks(dir) {
		err := i.do(ctx, c)
		var refused *exitError
		if errors.As(err, &refused) {
			if gone := i.isDirectory(ctx, dir); errors.Is(gone, fs.ErrNotExist) {
				return gone // another run has ended and taken it away
			}
		}
		if n == 0 && errors.As(err, &refused) {
			return fmt.Errorf("%w: %s: %w", ErrRights, dir, err)
		}
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrPlace, dir, err)
		}
	}
	return i.proven(ctx, dir)
}

// proven is nil if a directory is the administrators' alone.
func (i *Injected) proven(ctx context.Context, dir string) error {
	if !i.place.windows {
		return nil // what is root's below /var/lib is
	}
	err := i.do(ctx, i.place.proof(dir))
	var refused *exitError
	if errors.As(err, &refused) {
		return fmt.Errorf("%w: %s is not the administrators' alone, or this user may not see that it is: %w", ErrPlace, dir, err)
	}
	return err
}

// found is a parent that was there. On Windows it is used only if an administrator has
// made it safe; any other is removed if it is empty, and gone is true then. A run that
// has just made it is given time to lock it.
func (i *Injected) found(ctx context.Context) (gone bool, err error) {
	if !i.place.windows {
		return false, i.lock(ctx, i.place.parent)
	}
	wait := i.waiting()
	for range 4 {
		if err = i.proven(ctx, i.place.parent); !errors.Is(err, ErrPlace) {
			return false, err
		}
		if err := wait.next(ctx); err != nil {
			return false, err
		}
	}
	if removed := i.opt.Guest.DeleteDirectory(ctx, i.place.parent); removed != nil && !errors.Is(removed, fs.ErrNotExist) {
		return false, errors.Join(err, removed)
	}
	i.log.Warn("an empty directory that was not the administrators' was removed from the guest", "directory", i.place.parent)
	return true, nil
}

func (i *Injected) openFirewall(ctx context.Context) error {
	if !i.place.windows || i.opt.From == "" {
		return nil
	}
	i.hasRule = true // perhaps even if this fails
	if err := i.do(ctx, i.place.rule(i.run, i.opt.From, i.opt.Port)); err != nil {
		return fmt.Errorf("%w: %w", ErrFirewall, err)
	}
	return nil
}

// closeFirewall removes a run's rule. The agent may have done so: netsh fails then as
// it does for want of rights, so it is asked whether the rule is there.
func (i *Injected) closeFirewall(ctx context.Context, run string) error {
	err := i.do(ctx, i.place.unrule(run))
	var refused *exitError
	if !errors.As(err, &refused) {
		return err
	}
	if shown := i.do(ctx, i.place.shown(run)); errors.As(shown, &refused) {
		return nil // no such rule
	}
	return fmt.Errorf("remove the firewall rule %s: %w", ruleName(run), err)
}

// exitError is a program that ended, and not well.
type exitError struct {
	program string
	code    int
}

func (e *exitError) Error() string {
	return fmt.Sprintf("run %s in the guest: exit code %d", e.program, e.code)
}

// do runs a command to its end.
func (i *Injected) do(ctx context.Context, c command) error {
	pid, err := i.opt.Guest.Start(ctx, c.program, c.args, c.in, nil)
	if err != nil {
		return err
	}
	code, err := i.await(ctx, pid)
	if err != nil {
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), i.opt.DialLimit)
		defer cancel()
		return errors.Join(err, i.kill(limit, pid))
	}
	if code != 0 {
		return &exitError{c.program, code}
	}
	return nil
}

// await waits for a program's end.
func (i *Injected) await(ctx context.Context, pid int64) (code int, err error) {
	wait := i.waiting()
	for {
		running, code, known, err := i.opt.Guest.Process(ctx, pid)
		if err != nil {
			return 0, err
		}
		if !known {
			return 0, fmt.Errorf("program %d of the guest is gone and its exit code with it", pid)
		}
		if !running {
			return code, nil
		}
		if err := wait.next(ctx); err != nil {
			return 0, err
		}
	}
}

// waiting is the time between looks at what happens in the guest: most of it is over
// at once, so the first ones are short, and each is twice the last, up to Pause.
type waiting struct{ now, most time.Duration }

func (i *Injected) waiting() *waiting { return &waiting{now: i.opt.Pause / 32, most: i.opt.Pause} }

// next waits, or returns the reason of ctx's end.
func (w *waiting) next(ctx context.Context) error {
	w.now = min(2*max(w.now, time.Millisecond), w.most)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(w.now):
		return nil
	}
}
