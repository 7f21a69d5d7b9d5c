package inject

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"

	"holdfast/sqlguest/agent"
)

// Close ends the session and the agent, and takes everything out of the guest. It
// has a time limit of its own and may be called when ctx has ended. An error says
// what is left; the next run finds it.
func (i *Injected) Close(ctx context.Context) error {
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
	defer cancel()
	if err := i.Goodbye(limit); err != nil {
		i.log.Debug("agent did not take leave", "error", err)
	}
	return i.remove(ctx)
}

// remove takes out what was put in.
func (i *Injected) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
	defer cancel()
	var all error
	if i.pid != 0 {
		all = i.end(ctx)
	}
	if i.hasRule {
		all = errors.Join(all, i.do(ctx, i.place.unrule(i.run), i.place.parent))
	}
	if i.hasDirectory {
		all = errors.Join(all, i.empty(ctx, i.run))
	}
	if all != nil {
		return fmt.Errorf("take the agent out of the guest: %w", all)
	}
	return nil
}

// end sees to it that the agent does not run: one that was told goodbye is given
// time, any other is killed.
func (i *Injected) end(ctx context.Context) error {
	if i.Client != nil {
		soon, cancel := context.WithTimeout(ctx, i.opt.DialLimit)
		defer cancel()
		if _, err := i.await(soon, i.pid); err == nil {
			return nil
		}
	}
	if running, _, _, err := i.opt.Guest.Process(ctx, i.pid); err == nil && !running {
		return nil
	}
	return i.kill(ctx, i.pid)
}

// kill ends a program and waits until it has ended.
func (i *Injected) kill(ctx context.Context, pid int64) error {
	if err := i.opt.Guest.Kill(ctx, pid); err != nil {
		return err
	}
	for {
		running, _, _, err := i.opt.Guest.Process(ctx, pid)
		if err != nil || !running {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(i.opt.Pause):
		}
	}
}

// empty deletes an agent's files and its directory; what is not an agent's stays, and
// the directory with it. An agent may have done so itself.
func (i *Injected) empty(ctx context.Context, run string) error {
	dir := i.place.path(run)
	list, err := i.opt.Guest.List(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// The marker goes last: without it nobody would know whose the rest is.
	names := agent.Names()
	slices.SortStableFunc(list, func(a, b fs.FileInfo) int {
		return slices.Index(names, a.Name()) - slices.Index(names, b.Name())
	})
	for _, e := range list {
		if !slices.Contains(names, e.Name()) || !e.Mode().IsRegular() {
			return fmt.Errorf("%w: %s in %s is not an agent's", ErrPlace, e.Name(), dir)
		}
	}
	for _, e := range list {
		if err := i.opt.Guest.Delete(ctx, i.place.path(run, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := i.opt.Guest.DeleteDirectory(ctx, dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// runName is a directory of ours: rand.Text's.
var runName = regexp.MustCompile(`^[A-Z2-7]{26}$`)

// orphans takes out what dead runs have left. ErrOccupied if one of the runs is
// alive, as far as that can be told: its agent runs, and its host does not say that
// the run is dead.
func (i *Injected) orphans(ctx context.Context) error {
	list, err := i.opt.Guest.List(ctx, i.place.parent)
	if err != nil {
		return err
	}
	for _, e := range list {
		if !runName.MatchString(e.Name()) || !e.IsDir() || e.Mode()&fs.ModeSymlink != 0 {
			continue
		}
		if err := i.orphan(ctx, e.Name()); err != nil {
			return err
		}
	}
	return nil
}

func (i *Injected) orphan(ctx context.Context, run string) error {
	var m Marker
	data, err := i.readAt(ctx, i.place.path(run, agent.MarkerName))
	if err != nil || json.Unmarshal(data, &m) != nil || m.Run != run {
		// It may be a run's that has just begun.
		i.log.Warn("a directory in the guest does not say whose it is and is left alone", "directory", i.place.path(run))
		return nil
	}
	pids, err := i.agents(ctx, run)
	if err != nil {
		return err
	}
	isOurs := i.opt.Alive != nil && m.Host == i.opt.Host
	if isOurs && i.opt.Alive(m) || !isOurs && len(pids) > 0 {
		return fmt.Errorf("%w: run %s of %s (process %d)", ErrOccupied, m.Run, m.Host, m.PID)
	}
	i.log.Info("an agent of a dead run is taken out of the guest", "run", run, "host", m.Host)
	for _, pid := range pids {
		if err := i.kill(ctx, pid); err != nil {
			return err
		}
	}
	if i.place.windows && i.opt.From != "" {
		if err := i.do(ctx, i.place.unrule(run), i.place.parent); err != nil {
			i.log.Debug("no firewall rule of the dead run was removed", "error", err)
		}
	}
	if err := i.empty(ctx, run); err != nil {
		i.log.Warn("the agent of a dead run could not be taken out", "error", err)
	}
	return nil
}

// agents are the processes of a run's agent: its directory stands in their command
// lines.
func (i *Injected) agents(ctx context.Context, run string) (pids []int64, err error) {
	all, err := i.opt.Guest.Programs(ctx)
	if err != nil {
		return nil, err
	}
	for pid, line := range all {
		if strings.Contains(line, i.place.path(run, i.place.binary)) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
