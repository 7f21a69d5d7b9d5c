package inject

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"

	"holdfast/sqlguest/agent/program"
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
		all = errors.Join(all, i.closeFirewall(ctx, i.run))
	}
	if i.hasDirectory {
		all = errors.Join(all, i.empty(ctx, i.run))
	}
	if i.hasParent && all == nil {
		// It goes with the last run: it is not empty while there is another.
		if err := i.opt.Guest.DeleteDirectory(ctx, i.place.parent); err != nil {
			i.log.Debug("the directory of the agents stays", "error", err)
		}
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
	wait := i.waiting()
	for {
		running, _, _, err := i.opt.Guest.Process(ctx, pid)
		if err != nil || !running {
			return err
		}
		if err := wait.next(ctx); err != nil {
			return err
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
	names := program.Names()
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

// runName is a directory of ours; see runOf.
var runName = regexp.MustCompile(`^[A-Z2-7]{26}$`)

const (
	runLength = 26
	tagLength = 10
)

// runOf names a run: at random, and behind that by its life, so that a directory says whose
// it is before there is anything in it.
func runOf(life string) string {
	name := rand.Text()[:runLength]
	if life == "" {
		return name
	}
	return name[:runLength-tagLength] + tag(life)
}

func tag(life string) string {
	sum := sha256.Sum256([]byte(life))
	return base32.StdEncoding.EncodeToString(sum[:])[:tagLength]
}

// LifeOf is the one of these lives that a run was named by, "" if it is none.
func LifeOf(run string, lives []string) string {
	for _, life := range lives {
		if strings.HasSuffix(run, tag(life)) {
			return life
		}
	}
	return ""
}

// What a guest's own clock says of a directory's age is asked only where nothing else
// tells a run that has just begun from one that died: settingUp is the longest time
// that a run takes until its agent runs.
const settingUp = 15 * time.Minute

// orphans takes out what dead runs have left. ErrOccupied if one of the runs lives: its
// agent runs, and it is not proven that the run has ended. The list of what runs in the
// guest is the witness; names of hosts and numbers of processes are none, for clones and
// containers have the same.
func (i *Injected) orphans(ctx context.Context) error {
	list, err := i.opt.Guest.List(ctx, i.place.parent)
	if err != nil {
		return err
	}
	var now time.Time // by the guest's clock
	for _, e := range list {
		if e.Name() == i.run {
			now = e.ModTime()
		}
	}
	for _, e := range list {
		if e.Name() == i.run || !runName.MatchString(e.Name()) || !e.IsDir() || e.Mode()&fs.ModeSymlink != 0 {
			continue
		}
		if err := i.orphan(ctx, e.Name(), now.Sub(e.ModTime()) < settingUp); err != nil {
			return err
		}
	}
	return nil
}

// orphan looks at another run's directory; young is one that may have just begun.
func (i *Injected) orphan(ctx context.Context, run string, young bool) error {
	var m Marker
	data, err := i.readAt(ctx, i.place.path(run, program.MarkerName))
	if err != nil || json.Unmarshal(data, &m) != nil || m.Run != run {
		i.unnamed(ctx, run, young)
		return nil
	}
	if err := i.proven(ctx, i.place.path(run)); errors.Is(err, ErrPlace) {
		i.log.Warn("a directory among the agents' is somebody else's and is left alone", "error", err)
		return nil
	} else if err != nil {
		return err
	}
	pids, err := i.agents(ctx, run)
	if err != nil {
		return err
	}
	switch isDead := i.opt.Dead != nil && i.opt.Dead(m); {
	case !isDead && len(pids) > 0:
		return fmt.Errorf("%w: run %s of %s (process %d)", ErrOccupied, m.Run, m.Host, m.PID)
	case !isDead && young:
		i.log.Info("another run may be about to begin in the guest", "run", run, "host", m.Host)
		return nil
	}
	i.log.Info("an agent of a dead run is taken out of the guest", "run", run, "host", m.Host)
	return i.takeOut(ctx, run, pids)
}

// unnamed is a directory without a marker. One that is empty goes if its run is proven dead
// by its name, or when it is old: a run died between making it and saying whose it is.
func (i *Injected) unnamed(ctx context.Context, run string, young bool) {
	dir := i.place.path(run)
	isDead := i.opt.Dead != nil && i.opt.Dead(Marker{Run: run})
	if (isDead || !young) && i.opt.Guest.DeleteDirectory(ctx, dir) == nil {
		i.log.Info("an empty directory of a dead run was removed from the guest", "directory", dir)
		return
	}
	i.log.Warn("a directory in the guest does not say whose it is and is left alone", "directory", dir)
}

// takeOut ends the agent of a dead run and removes what is left of it.
func (i *Injected) takeOut(ctx context.Context, run string, pids []int64) error {
	for _, pid := range pids {
		if err := i.kill(ctx, pid); err != nil {
			return err
		}
	}
	if i.place.windows {
		if err := i.closeFirewall(ctx, run); err != nil {
			i.log.Warn("the firewall rule of a dead run could not be removed", "error", err)
		}
	}
	if err := i.empty(ctx, run); err != nil {
		i.log.Warn("the agent of a dead run could not be taken out", "error", err)
	}
	return nil
}

// agents are the processes of a run's agent.
func (i *Injected) agents(ctx context.Context, run string) (pids []int64, err error) {
	all, err := i.opt.Guest.Programs(ctx)
	if err != nil {
		return nil, err
	}
	for pid, line := range all {
		if i.place.runs(line, i.place.path(run, i.place.binary)) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
