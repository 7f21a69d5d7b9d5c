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
	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/facts"
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
	err = j.adopt(ctx, s, devices)
	if err != nil && !errors.Is(err, errNotTaken) {
		j.note(Step{Decision: decide.Decision{Rule: decide.RuleKept}, Err: err})
	}
	return !errors.Is(err, errNotTaken)
}

// errNotTaken: a file could be read, and the repository did not take it.
var errNotTaken = errors.New("kept file was not taken in")

// adopt looks into files and does what is decided on them.
func (j *job) adopt(ctx context.Context, s stager, devices []string) error {
	f, ours, err := j.ask(ctx)
	if err != nil {
		return err
	}
	files, err := j.kept(ctx, f, devices)
	if err != nil || len(files) == 0 {
		return err
	}
	if d := unconfirmed(ours); len(d.Unconfirmed) > 0 {
		if err := j.settle(ctx, f, ours, d); err != nil {
			return err
		}
	}
	if ours, err = j.owner.Keep.Backups(ctx, j.id); err != nil {
		return err
	}
	for _, fate := range decide.Keep(files, ours, &f.Database) {
		at := slices.IndexFunc(files, func(k decide.KeptFile) bool { return k.Device == fate.Device })
		switch {
		case fate.Take:
			if err := j.take(ctx, s, f, files[at], fate); err != nil {
				return err
			}
		case fate.Drop:
			j.owner.log().Info("staging file of an earlier run deleted", "source", j.source(), "device", fate.Device, "reason", fate.Decision.Reason)
			err = errors.Join(err, j.drop(ctx, s, fate.Device))
		default:
			j.owner.log().Warn("staging file of an earlier run kept", "source", j.source(), "device", fate.Device, "reason", fate.Decision.Reason)
		}
	}
	return err
}

// kept are the files among the devices that are ours and of this database.
func (j *job) kept(ctx context.Context, f *decide.Facts, devices []string) ([]decide.KeptFile, error) {
	var list []decide.KeptFile
	for _, device := range devices {
		row, err := facts.FindDevice(ctx, j.owner.Server, &f.Instance, device)
		if err != nil && !errors.Is(err, facts.ErrNoRow) {
			return nil, err
		}
		header, err := facts.AskFile(ctx, j.owner.Server, &f.Instance, direct.StagedPath(j.owner.Staging, device))
		if err != nil && !errors.Is(err, facts.ErrNoRow) {
			return nil, err
		}
		if header != nil && header.Name == chain.SetName && j.isOf(&header.Header, &f.Database) {
			list = append(list, decide.KeptFile{Device: device, Row: row, Header: header})
		}
	}
	return list, nil
}

// isOf tells whether a backup is of this job's database: of those that share a family,
// of the very one, or else of the one that keeps the family's identity.
func (j *job) isOf(h *chain.Header, d *facts.Database) bool {
	return h.Family == d.Family && (h.DatabaseGUID == d.GUID || j.id == Identity(j.owner.Place, d.Family) && !slices.Contains(j.owner.guids, h.DatabaseGUID))
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
func (j *job) take(ctx context.Context, s stager, f *decide.Facts, file decide.KeptFile, fate decide.Fate) error {
	d := fate.Decision
	ours, err := j.owner.Keep.Backups(ctx, j.id)
	if err != nil {
		j.note(Step{Decision: d, Err: err})
		return errNotTaken
	}
	h := fate.Confirmation.Header
	if h.Kind == chain.Log {
		d.Parent = decide.ParentOf(h, ours)
	}
	src := &keptSource{job: j, stager: s, facts: f, device: file.Device, decision: d, word: fate.Confirmation}
	p, err := j.owner.Keep.Store(ctx, src)
	j.note(Step{Decision: d, Point: p, Err: err})
	if p == nil && err != nil && !src.broken.Load() {
		return errNotTaken
	}
	return nil
}

// keptSource is a file of an earlier run as a source.
type keptSource struct {
	job      *job
	stager   stager
	facts    *decide.Facts
	device   string
	decision decide.Decision
	word     chain.Confirmation

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
	b := chain.Backup{
		Header: *k.word.Header, Device: k.device, Transport: server.Disk, Stripes: 1, StreamBytes: []int64{k.read.Load()},
		Files: k.facts.Database.Prints(), ReadOnly: k.facts.Database.ReadOnly, Rule: string(k.decision.Rule), Reason: k.decision.Reason,
	}
	attrs, err := json.Marshal(b)
	if err != nil {
		panic("backup attributes: " + err.Error()) // plain data
	}
	return backup.State{Time: b.Finished, Consistency: recovery.Application, Attrs: attrs, Rule: b.Rule, Reason: b.Reason, Parent: k.decision.Parent}
}

// Committed keeps SQL Server's word, and only then deletes the file. If that fails, the
// next run finds the point and deletes it then.
func (k *keptSource) Committed(ctx context.Context, p *recovery.Point) error {
	k.done = true
	addMarks(ctx, k.job.owner.Server, &k.facts.Instance, &k.facts.Database, &k.word)
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

// lay closes the file and keeps it, which is what Abort says of it.
func (k *keptSource) lay(ctx context.Context) error {
	var still *direct.Kept
	if err := k.backup.Abort(ctx); !errors.As(err, &still) {
		return err
	}
	return nil
}

// isOurs tells whether this run has made the device.
func (r *Run) isOurs(device string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.devices, func(d string) bool { return strings.EqualFold(d, device) })
}

// device makes a fresh one.
func (r *Run) device() string {
	d := r.Device()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.devices = append(r.devices, d)
	return d
}
