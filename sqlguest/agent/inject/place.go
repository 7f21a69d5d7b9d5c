package inject

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"holdfast/sqlguest/agent"
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
		p := place{windows: true, separator: `\`, parent: parent, binary: agent.BinaryName + ".exe"}
		if parent == "" {
			p.parent = `C:\ProgramData\holdfast-agent`
		}
		return p, nil
	case "linux":
		p := place{separator: "/", parent: parent, binary: agent.BinaryName}
		if parent == "" {
			p.parent = "/var/lib/holdfast-agent"
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

// lock runs the commands that make a directory safe.
func (i *Injected) lock(ctx context.Context, dir string) error {
	for _, c := range i.place.locks() {
		if err := i.do(ctx, c, dir); err != nil {
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
	return i.do(ctx, i.place.rule(i.run, i.opt.From, i.opt.Port), i.place.path(i.run))
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
		err = fmt.Errorf("run %s in the guest: exit code %d", c.program, code)
	}
	return err
}

// await waits for a program's end.
func (i *Injected) await(ctx context.Context, pid int64) (code int, err error) {
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
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(i.opt.Pause):
		}
	}
}
