package inject

import (
	"context"
	"errors"
	"fmt"
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

// command is a program of the guest's own system. It runs in the directory that it is
// about and calls it ".", so that no path has to be quoted.
type command struct {
	program string
	args    []string
}

// locks make a directory ours alone. On Windows that is the administrators': the
// owner first, who could change the rest; then SYSTEM (S-1-5-18) and Administrators
// (S-1-5-32-544) and nobody else, without what is inherited, for it and for all that
// will be in it. By their identifiers, as the names are translated.
func (p place) locks() []command {
	if !p.windows {
		return []command{{"/usr/bin/test", []string{"-O", "."}}, {"/bin/chmod", []string{"0700", "."}}}
	}
	icacls := `C:\Windows\System32\icacls.exe`
	return []command{
		{icacls, []string{".", "/setowner", "*S-1-5-32-544"}},
		{icacls, []string{".", "/inheritance:r", "/grant:r", "*S-1-5-18:(OI)(CI)F", "*S-1-5-32-544:(OI)(CI)F"}},
	}
}

const netsh = `C:\Windows\System32\netsh.exe`

// rule lets one address reach one program on one port.
func (p place) rule(run, from string, port int) command {
	return command{netsh, []string{"advfirewall", "firewall", "add", "rule", "name=" + ruleName(run), "dir=in", "action=allow", "protocol=TCP",
		"localport=" + strconv.Itoa(port), "remoteip=" + from, "program=" + p.path(run, p.binary)}}
}

func (p place) unrule(run string) command {
	return command{netsh, []string{"advfirewall", "firewall", "delete", "rule", "name=" + ruleName(run)}}
}

func ruleName(run string) string { return "holdfast-agent-" + run }

// shown succeeds if there is such a rule.
func (p place) shown(run string) command {
	return command{netsh, []string{"advfirewall", "firewall", "show", "rule", "name=" + ruleName(run)}}
}

// lock runs the commands that make a directory safe. The first of them is refused to
// who is no administrator: setting the owner, and on Linux owning what root owns.
func (i *Injected) lock(ctx context.Context, dir string) error {
	for n, c := range i.place.locks() {
		err := i.do(ctx, c, dir)
		var refused *exitError
		if n == 0 && errors.As(err, &refused) {
			return fmt.Errorf("%w: %s: %w", ErrRights, dir, err)
		}
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrPlace, dir, err)
		}
	}
	return nil
}

func (i *Injected) openFirewall(ctx context.Context) error {
	if !i.place.windows || i.opt.From == "" {
		return nil
	}
	i.hasRule = true // perhaps even if this fails
	if err := i.do(ctx, i.place.rule(i.run, i.opt.From, i.opt.Port), i.place.path(i.run)); err != nil {
		return fmt.Errorf("%w: %w", ErrFirewall, err)
	}
	return nil
}

// closeFirewall removes a run's rule. The agent may have done so: netsh fails then as
// it does for want of rights, so it is asked whether the rule is there.
func (i *Injected) closeFirewall(ctx context.Context, run string) error {
	err := i.do(ctx, i.place.unrule(run), i.place.parent)
	var refused *exitError
	if !errors.As(err, &refused) {
		return err
	}
	if shown := i.do(ctx, i.place.shown(run), i.place.parent); errors.As(shown, &refused) {
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
func (i *Injected) do(ctx context.Context, c command, dir string) error {
	pid, err := i.opt.Guest.Start(ctx, c.program, c.args, dir, nil)
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
