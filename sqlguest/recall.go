package sqlguest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/decide/kept"
	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/locks"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/server"
)

// Recalled is what earlier runs have left of a database, as a restore sees it.
type Recalled struct {
	// Backups are ours with what SQL Server says of those that nobody had confirmed.
	Backups []chain.Backup
	// Taken are the points that were made of logs in staging files.
	Taken []string
	// Left are logs that lie in staging files alone and lead beyond all our backups.
	Left []LeftLog
	// Unread are staging files of the database that SQL Server could not read, and why.
	Unread []string
}

// LeftLog is a log that no point holds.
type LeftLog struct {
	Path  string // as the server calls it
	First lsn.LSN
	Last  lsn.LSN
	// Backup is what it will be as a point, but for the point's id, where it can be taken in
	// and nobody has tried.
	Backup chain.Backup
	Err    error // why it was not taken in, nil if nobody tried
}

// Recall finds what runs that were killed have left of a database of ours, before a
// restore plans without it: points whose confirmation is missing get SQL Server's word,
// and logs in staging files, the only copies of what SQL Server has truncated, become
// points. With look alone nothing is written: Backups are what they would be, and Left
// are the files.
//
// Ask looks at the server: at the database as it is now, with the family of ours if it is
// not open, and at the GUIDs of all databases; without facts there is nothing to recall,
// and the result is nil. What is written is written under the database's locks, and on
// what ask saw under them; while another run has them, which does the same, this one
// looks alone.
//
// A database that is not open cannot deny a point, for it does not say where it stands:
// such a point stays unconfirmed.
func (r *Run) Recall(ctx context.Context, id string, ask func(context.Context) (*decide.Facts, []string, error), look bool) (*Recalled, error) {
	f, guids, err := ask(ctx)
	if err != nil || f == nil {
		return nil, err
	}
	if !look {
		l := locks.New(r.Server, &f.Database, id)
		switch err := l.Take(context.WithoutCancel(ctx)); {
		case errors.Is(err, server.ErrHeld):
			look = true
		case err != nil:
			return nil, err
		default:
			defer l.Drop() //nolint:errcheck // they go with their sessions in any case
			if f, guids, err = ask(ctx); err != nil || f == nil {
				return nil, err
			}
		}
	}
	r.guids = guids
	ours, err := r.Keep.Backups(ctx, id)
	if err != nil {
		return nil, err
	}
	words := &words{Keeper: r.Keep, look: look, open: f.Database.State == "ONLINE", said: map[string]chain.Confirmation{}}
	settling := &job{owner: r.with(words), name: f.Database.Name, guid: f.Database.GUID, id: id}
	if err := settling.settle(ctx, f, ours, unconfirmed(ours)); err != nil {
		return nil, err
	}
	out := &Recalled{Backups: words.onto(ours)}
	return out, r.recallFiles(ctx, id, f, look, out)
}

// with is the run with another keeper.
func (r *Run) with(k Keeper) *Run {
	return &Run{Server: r.Server, Keep: k, Label: r.Label, Place: r.Place, Guest: r.Guest, Address: r.Address, Transport: r.Transport, Staging: r.Staging, Local: r.Local, Device: r.Device, Log: r.Log}
}

// words keeps what SQL Server says of points.
type words struct {
	Keeper
	look, open bool
	said       map[string]chain.Confirmation
}

// Settle hears a word, and writes it where that is wished. One that cannot be written
// holds for this run all the same.
func (w *words) Settle(ctx context.Context, point string, word json.RawMessage) error {
	var c chain.Confirmation
	if err := json.Unmarshal(word, &c); err != nil {
		return fmt.Errorf("settle point %s: %w", point, err)
	}
	if c.State != chain.Confirmed && !w.open {
		return nil
	}
	w.said[point] = c
	if w.look {
		return nil
	}
	return w.Keeper.Settle(ctx, point, word)
}

// onto is the backups with what was said.
func (w *words) onto(ours []chain.Backup) []chain.Backup {
	list := slices.Clone(ours)
	for i, b := range list {
		if c, is := w.said[b.Point]; is {
			list[i] = b.With(c)
		}
	}
	return list
}

// recallFiles takes in the logs in staging files.
func (r *Run) recallFiles(ctx context.Context, id string, f *decide.Facts, look bool, out *Recalled) error {
	s, ok := r.Server.(stager)
	if !ok {
		return nil
	}
	devices, err := s.Staged(ctx, r.Staging, r.Local)
	if err != nil {
		r.log().Debug("staging directory not looked at", "error", err) // virtual devices need none
		return nil
	}
	j := &job{owner: r, name: f.Database.Name, guid: f.Database.GUID, id: id, lock: LockName(&f.Database)}
	files, err := j.kept(ctx, f, slices.DeleteFunc(devices, r.isOurs))
	if err != nil {
		return err
	}
	out.Unread = j.unread
	files = slices.DeleteFunc(files, func(k kept.File) bool { return k.Header == nil || k.Header.Kind != chain.Log })
	for _, fate := range kept.Decide(files, out.Backups, &f.Database) {
		file := files[slices.IndexFunc(files, func(k kept.File) bool { return k.Device == fate.Device })]
		if fate.Drop || file.Header.CopyOnly || reached(&file.Header.Header, out.Backups) {
			continue
		}
		left := LeftLog{Path: direct.StagedPath(r.Staging, fate.Device), First: file.Header.First, Last: file.Header.Last}
		switch {
		case !fate.Take:
			left.Err = errors.New(fate.Decision.Reason) //nolint:err113 // a sentence of the decision's
		case !look:
			j.steps = nil
			left.Err = j.take(ctx, s, f, file, fate)
			for _, step := range j.steps {
				if step.Point != nil {
					out.Taken = append(out.Taken, step.Point.ID)
				}
				left.Err = errors.Join(left.Err, step.Err)
			}
			if left.Err == nil {
				continue
			}
		default:
			left.Backup, left.Err = j.foreseen(ctx, s, f, fate, out.Backups)
		}
		out.Left = append(out.Left, left)
	}
	if len(out.Taken) > 0 {
		out.Backups, err = r.Keep.Backups(ctx, id)
	}
	return err
}

// foreseen is what a file will be as a point.
func (j *job) foreseen(ctx context.Context, s stager, f *decide.Facts, fate kept.Fate, ours []chain.Backup) (chain.Backup, error) {
	src, err := j.keep(ctx, s, f, fate, ours)
	if err != nil {
		return chain.Backup{}, err
	}
	addMarks(ctx, j.owner.Server, &f.Instance, &f.Database, &src.word, ours, true)
	b := src.made().With(src.word)
	b.StreamBytes = []int64{b.Bytes}
	return b, nil
}

// reached tells whether a log of ours leads as far.
func reached(h *chain.Header, ours []chain.Backup) bool {
	return slices.ContainsFunc(ours, func(b chain.Backup) bool {
		return b.Kind == chain.Log && b.Usable() && b.Fork == h.Fork && h.Last.Compare(b.Last) <= 0
	})
}

// FamilyFacts are what settling asks of a database that is not open, which does not say
// what it is: it is of ours' family, and its next log begins where it stands.
func FamilyFacts(at *facts.Instance, d facts.Database, family string) *decide.Facts {
	if d.State != "ONLINE" {
		d.Family = family
		for _, file := range d.Files {
			if file.ID == 1 && d.LastLog.IsZero() {
				d.LastLog, d.Fork = file.Redo, file.RedoFork
			}
		}
	}
	return &decide.Facts{Instance: *at, Database: d}
}
