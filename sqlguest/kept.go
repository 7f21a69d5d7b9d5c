package sqlguest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"

	"holdfast/backup"
	"holdfast/repo/recovery"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/decide/kept"
	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/locks"
	"holdfast/sqlguest/server"
)

// stager is a server that can give out what an earlier run has left in files.
type stager interface {
	Staged(ctx context.Context, staging, local string) ([]string, error)
	Adopt(ctx context.Context, s server.Statement) (server.Backup, error)
}

// takeKept takes in what earlier runs have left of the database, before anything is
// decided: a log in a file is the only copy of what SQL Server has truncated. What goes
// wrong is a step with an error. It is false if the repository did not take a file:
// nothing may follow then, for the next run may still save the chain. Where the file
// itself cannot be had the run goes on, and a full heals what stays missing.
// It runs under the database's lock, so that no file is of a BACKUP under way.
func (j *job) takeKept(ctx context.Context) bool {
	r := j.owner
	s, ok := r.Server.(stager)
	if !ok {
		return true
	}
	devices, err := s.Staged(ctx, r.Staging, r.Local)
	if err != nil {
		r.log().Debug("staging directory not looked at", "error", err) // virtual devices need none
		return true
	}
	devices = slices.DeleteFunc(devices, r.isOurs)
	if len(devices) == 0 {
		return true
	}
	// Asked before the database is looked at: what is not running now and has not
	// truncated then never will.
	running, err := facts.AskRunning(ctx, r.Server)
	if err == nil {
		err = j.adopt(ctx, s, devices, j.isTaken(running))
	}
	if err != nil && !errors.Is(err, errNotTaken) {
		j.note(Step{Decision: decide.Decision{Rule: decide.RuleKept}, Err: err})
	}
	return !errors.Is(err, errNotTaken)
}

// isTaken tells whether SQL Server may be backing up a log of the database. A session in
// master may be at any database's.
func (j *job) isTaken(running []facts.Running) bool {
	return slices.ContainsFunc(running, func(r facts.Running) bool {
		return strings.HasPrefix(r.Command, "BACKUP LOG") && (r.Database == "" || strings.EqualFold(r.Database, "master") || strings.EqualFold(r.Database, j.name))
	})
}

// errDamaged: SQL Server does not find a file whole.
var errDamaged = errors.New("kept file is damaged")

// errNotTaken: a file could be read, and the repository did not take it.
var errNotTaken = errors.New("kept file was not taken in")

// adopt looks into files and does what is decided on them.
func (j *job) adopt(ctx context.Context, s stager, devices []string, running bool) error {
	f, ours, err := j.ask(ctx)
	if err != nil {
		return err
	}
	files, err := j.kept(ctx, f, devices)
	if err != nil || len(files) == 0 {
		return err
	}
	if sure, err := j.locks.Sure(ctx); err != nil {
		return err
	} else if !sure {
		return j.adopt(ctx, s, devices, running)
	}
	for i := range files {
		files[i].Running = running
	}
	if d := unconfirmed(ours); len(d.Unconfirmed) > 0 {
		if err := j.settle(ctx, f, ours, d); err != nil {
			return err
		}
	}
	if ours, err = j.owner.Keep.Backups(ctx, j.id); err != nil {
		return err
	}
	for _, fate := range kept.Decide(files, ours, &f.Database) {
		at := slices.IndexFunc(files, func(k kept.File) bool { return k.Device == fate.Device })
		switch {
		case fate.Take:
			if err := j.take(ctx, s, f, files[at], fate); err != nil {
				return err
			}
		case fate.Drop:
			j.owner.log().Info("staging file of an earlier run deleted", "source", j.source(), "device", fate.Device, "reason", fate.Decision.Reason)
			err = errors.Join(err, j.drop(ctx, s, fate.Device))
		default:
			j.warn(fate.Device, fate.Decision.Reason)
		}
	}
	return err
}

// incomplete is the name that SQL Server shows of a set that was never finished.
const incomplete = "*** INCOMPLETE ***"

// kept are the files among the devices that are this repository's and of this database:
// by what the set says, or, of a file that cannot be read, by its name.
func (j *job) kept(ctx context.Context, f *decide.Facts, devices []string) ([]kept.File, error) {
	var list []kept.File
	for _, device := range devices {
		row, err := facts.FindDevice(ctx, j.owner.Server, &f.Instance, device)
		if err != nil && !errors.Is(err, facts.ErrNoRow) {
			return nil, err
		}
		header, err := facts.AskFile(ctx, j.owner.Server, &f.Instance, direct.StagedPath(j.owner.Staging, device))
		var said *server.Error
		switch {
		case err == nil || errors.Is(err, facts.ErrNoRow):
		case errors.As(err, &said): // unreadable now is not worthless
			why := "SQL Server could not read it this time: " + said.Error()
			if j.warn(device, why); strings.HasPrefix(strings.ToUpper(device), j.stamp()) {
				j.unread = append(j.unread, direct.StagedPath(j.owner.Staging, device)+": "+why)
			}
			continue
		default:
			return nil, err
		}
		if header != nil && header.Name == incomplete {
			header = nil
		}
		switch {
		case header == nil && strings.HasPrefix(strings.ToUpper(device), j.stamp()):
			list = append(list, kept.File{Device: device, Row: row})
		case header == nil:
			j.warn(device, "nobody can read it, and nobody knows whose it is")
		case header.Name != chain.SetName || !j.isOf(ctx, &header.Header, &f.Database):
		case header.Description != chain.Owner(j.owner.Keep.ID()):
			j.warn(device, "it belongs to another repository: "+header.Description)
		default:
			list = append(list, kept.File{Device: device, Row: row, Header: header})
		}
	}
	return list, nil
}

// warn names a file that stays, once a run.
func (j *job) warn(device, reason string) {
	r := j.owner
	r.mu.Lock()
	known := r.told[device]
	if r.told == nil {
		r.told = map[string]bool{}
	}
	r.told[device] = true
	r.mu.Unlock()
	if !known {
		r.log().Warn("staging file of an earlier run kept", "source", j.source(), "file", direct.StagedPath(r.Staging, device), "reason", reason)
	}
}

// isOf tells whether a backup is of this job's database: of those that share a family,
// of the very one, or else, if nobody has backups of that one, of the one that keeps the
// family's identity.
func (j *job) isOf(ctx context.Context, h *chain.Header, d *facts.Database) bool {
	if h.Family != d.Family || h.DatabaseGUID == d.GUID {
		return h.Family == d.Family
	}
	family := Identity(j.owner.Place, d.Family)
	if j.id != family || slices.Contains(j.owner.guids, h.DatabaseGUID) {
		return false
	}
	theirs, err := j.owner.Keep.Backups(ctx, family+"/"+h.DatabaseGUID)
	return err == nil && len(theirs) == 0
}

func unconfirmed(ours []chain.Backup) (d decide.Decision) {
	for _, b := range ours {
		if b.State == chain.Unconfirmed {
			d.Unconfirmed = append(d.Unconfirmed, b.Point)
		}
	}
	return d
}

// statementOf is what Adopt needs to know of a file.
func (j *job) statementOf(device, text string) server.Statement {
	r := j.owner
	return server.Statement{Text: text, Name: device, Devices: 1, Transport: server.Disk, Staging: r.Staging, Local: r.Local}
}

// drop deletes a file.
func (j *job) drop(ctx context.Context, s stager, device string) error {
	b, err := s.Adopt(ctx, j.statementOf(device, "BACKUP DATABASE"))
	if err != nil {
		return err
	}
	return b.Abort(ctx)
}

// take makes a point of a file, and notes the step; its error is errNotTaken or nil.
func (j *job) take(ctx context.Context, s stager, f *decide.Facts, file kept.File, fate kept.Fate) error {
	d := fate.Decision
	ours, err := j.owner.Keep.Backups(ctx, j.id)
	if err != nil {
		j.note(Step{Decision: d, Err: err})
		return errNotTaken
	}
	h := fate.Confirmation.Header
	if h.Kind == chain.Log {
		d.Parent = kept.ParentOf(&chain.Backup{Header: *h, Run: j.runOf(file.Device, f.Instance.Run(&f.Database), ours)}, ours)
	}
	// The file goes once its bytes are a point: they must be all.
	if err := facts.VerifyFile(ctx, j.owner.Server, direct.StagedPath(j.owner.Staging, file.Device), h.Checksums); err != nil {
		j.note(Step{Decision: d, Err: fmt.Errorf("%w: %w", errDamaged, err)})
		return nil
	}
	src, err := j.keep(ctx, s, f, fate, ours)
	if err != nil {
		j.note(Step{Decision: d, Err: fmt.Errorf("%w: %w", errDamaged, err)})
		return nil
	}
	src.decision = d
	p, err := j.owner.Keep.Store(ctx, src)
	j.note(Step{Decision: d, Point: p, Err: err})
	if p == nil && err != nil && !src.broken.Load() {
		return errNotTaken
	}
	return nil
}

// keep is a file as a source, with what is asked for it now: the database may have other
// files by then than that backup knows.
func (j *job) keep(ctx context.Context, s stager, f *decide.Facts, fate kept.Fate, ours []chain.Backup) (*keptSource, error) {
	files, err := facts.AskFilesOf(ctx, j.owner.Server, direct.StagedPath(j.owner.Staging, fate.Device))
	if err != nil {
		return nil, err
	}
	zone, _ := facts.AskZone(ctx, j.owner.Server, &f.Instance) // without it the offsets stand
	return &keptSource{job: j, stager: s, facts: f, files: files, zone: zone, device: fate.Device, decision: fate.Decision, word: fate.Confirmation, restore: chain.SeenBefore(ours), ours: ours}, nil
}

// keptSource is a file of an earlier run as a source.
type keptSource struct {
	job      *job
	stager   stager
	facts    *decide.Facts
	files    []chain.File // the database's when the file was written
	zone     string       // the server's, "" if it does not say
	device   string
	decision decide.Decision
	word     chain.Confirmation
	restore  *chain.LastRestore
	ours     []chain.Backup

	backup server.Backup
	read   atomic.Int64
	broken atomic.Bool // the file cannot be had
	done   bool
}

func (k *keptSource) Kind() recovery.Kind { return (&Source{Decision: k.decision}).Kind() }
func (k *keptSource) Name() string        { return k.job.source() }
func (k *keptSource) Identity() string    { return k.job.id }

// Freeze opens the file.
func (k *keptSource) Freeze(ctx context.Context, _ *recovery.Point) (_ backup.Frozen, err error) {
	if k.backup, err = k.stager.Adopt(ctx, k.job.statementOf(k.device, "BACKUP LOG")); err != nil {
		k.broken.Store(true)
		return nil, fmt.Errorf("take in kept file of %s: %w", k.Name(), err)
	}
	return k, nil
}

// Items are the file's bytes.
func (k *keptSource) Items() []backup.Item {
	return []backup.Item{{Name: "stream-0", Label: k.Name(), Stream: &backup.Stream{
		Bytes: -1, Inline: k.decision.Do == decide.DoLog, Fine: true, Open: func(context.Context) (io.ReadCloser, error) {
			return &counted{ReadCloser: k.backup.Streams()[0], n: &k.read, broken: &k.broken}, nil
		},
	}}}
}

// State is of the moment when SQL Server had finished the backup.
func (k *keptSource) State() backup.State {
	b := k.made()
	attrs, err := json.Marshal(b)
	if err != nil {
		panic("backup attributes: " + err.Error()) // plain data
	}
	return backup.State{Time: b.Finished, Consistency: recovery.Application, Attrs: attrs, Rule: b.Rule, Reason: b.Reason, Parent: k.decision.Parent}
}

// made is the backup that the file is. Nobody knows the settings that the database had
// then.
func (k *keptSource) made() chain.Backup {
	b := chain.Backup{
		Header: *k.word.Header, Device: k.device, Transport: server.Disk, Stripes: 1, StreamBytes: []int64{k.read.Load()},
		Files: k.files, ReadOnly: k.facts.Database.ReadOnly, Rule: string(k.decision.Rule), Reason: k.decision.Reason,
		LastRestore: k.restore, Zone: k.zone, Guest: k.job.owner.Guest, Address: k.job.owner.Address,
	}
	now := k.facts.Instance.Run(&k.facts.Database)
	b.Run = k.job.runOf(k.device, now, k.ours)
	b.Fresh = b.Run == now && now != ""
	if e := k.facts.Database.Encryption; e != nil {
		b.Protector, b.Certificate = e.Thumbprint, e.Name
	}
	return b
}

// runOf is the run of SQL Server in which a kept file's BACKUP was begun; now is the one of
// now, "" if runs are not told.
func (j *job) runOf(device, now string, ours []chain.Backup) string {
	if now == "" {
		return ""
	}
	runs := []string{now}
	for i := range ours {
		runs = append(runs, ours[i].Run)
	}
	return kept.RunOf(device, runs)
}

// Committed keeps SQL Server's word, and only then deletes the file. If that fails, the
// next run finds the point and deletes it then.
func (k *keptSource) Committed(ctx context.Context, p *recovery.Point) error {
	k.done = true
	addMarks(ctx, k.job.owner.Server, &k.facts.Instance, &k.facts.Database, &k.word, k.ours, true)
	word, err := json.Marshal(k.word)
	if err == nil {
		err = k.job.owner.Keep.Confirm(ctx, p, word)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%w: %w", ErrUnconfirmed, err), k.lay(ctx))
	}
	if _, err := k.backup.Commit(ctx); err != nil {
		return fmt.Errorf("delete kept file of %s: %w", k.Name(), err)
	}
	return nil
}

// Release leaves the file where it is, unless its point is durable.
func (k *keptSource) Release(ctx context.Context) error {
	if k.done {
		return nil
	}
	return k.lay(ctx)
}

// lay closes the file and keeps it, which is what Abort says of it; with nobody there it
// lies as it did.
func (k *keptSource) lay(ctx context.Context) error {
	var still *direct.Kept
	if err := k.backup.Abort(ctx); !errors.As(err, &still) && !errors.Is(err, server.ErrUntold) {
		return err
	}
	return nil
}

// stamp is how the names of the job's devices begin.
func (j *job) stamp() string { return kept.Stamp(j.owner.Keep.ID(), j.lock) }

// LockName is the lock under which a database is backed up, by whichever repository:
// sp_getapplock's resource on its server.
func LockName(d *facts.Database) string { return locks.Name(d) }

// ID is the repository's id.
func (k *Repository) ID() string { return k.Repo.Config().ID }

// isOurs tells whether this run has made the device.
func (r *Run) isOurs(device string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.devices, func(d string) bool { return strings.EqualFold(d, device) })
}

// device makes a fresh one, which begins with the stamp.
func (r *Run) device(stamp string) string {
	d := kept.Name(r.Device(), stamp)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.devices = append(r.devices, d)
	return d
}
