package trial_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/blob"
	"holdfast/repo/image"
	"holdfast/repo/index"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/parity"
	"holdfast/repo/record"
	"holdfast/repo/seal"
	"holdfast/repo/slot"
	"holdfast/repo/stream"
)

// keep holds what is found against what was promised: every point that was
// reported restores to the byte, what else is listed holds a content that some
// source had, none is back that was reported as forgotten, and a check that reads
// all data is clean. tolerate says of a
// verdict that it is what the script had done to the repository itself; blind, that restores may miss chunks then.
func (p *process) keep(ctx context.Context, tolerate func(*repo.Report) bool, blind bool) error {
	r, err := p.open(ctx)
	if errors.Is(err, repo.ErrNoRepository) && len(p.made) == 0 && p.notes["founded"] == "" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer r.Close()
	if err := p.locksOut(ctx); err != nil {
		return err
	}
	rep, err := r.Check(ctx, repo.CheckOptions{ReadData: true})
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	tolerated := rep.Verdict() != nil && tolerate != nil && tolerate(rep)
	if rep.Verdict() != nil && !tolerated {
		return fmt.Errorf("check: %w: %+v", rep.Verdict(), rep.Findings)
	}
	points, problems, err := r.Points(ctx)
	if err != nil || len(problems) > 0 {
		return fmt.Errorf("list points: %v %w", problems, err)
	}
	found := map[string]bool{}
	for _, e := range points {
		found[e.ID] = true
		if p.pinned[e.ID] && !e.Pinned {
			return fmt.Errorf("point %s was pinned and is not", e.ID)
		}
		if p.gone[e.ID] {
			return fmt.Errorf("point %s was forgotten and is back", e.ID)
		}
		got, err := readBack(ctx, r, e.Point)
		if tolerated && blind && errors.Is(err, repo.ErrMissing) {
			continue // until the index is repaired
		}
		if err != nil {
			return fmt.Errorf("restore %s of %s: %w", e.ID, e.Source, err)
		}
		if want, ok := p.made[e.ID]; ok && !bytes.Equal(got, want) {
			return fmt.Errorf("point %s came back different", e.ID)
		}
		if !slices.ContainsFunc(p.known, func(data []byte) bool { return bytes.Equal(data, got) }) {
			return fmt.Errorf("point %s holds what no source ever held", e.ID)
		}
	}
	for id := range p.made {
		if !found[id] {
			return fmt.Errorf("point %s was committed and is gone", id)
		}
	}
	return nil
}

// locksOut: no secret that was reported as taken out of use opens the repository.
func (p *process) locksOut(ctx context.Context) error {
	for _, secret := range p.barred {
		if _, err := repo.Open(ctx, p.be, secret, p.options()); !errors.Is(err, seal.ErrWrongKey) {
			return fmt.Errorf("open with a key that was removed: %v", err)
		}
	}
	return nil
}

// onlyCopies: all that is wrong is that a precious object lies there once, not
// twice: it was cut off between the two.
func onlyCopies(rep *repo.Report) bool {
	return !slices.ContainsFunc(rep.Findings, func(f repo.Finding) bool { return f.Lost || !strings.HasPrefix(f.What, "missing; its copy") })
}

// audit looks for anything that no point needs, after two prunes, with nothing
// but the formats: not the word of the engine that pruned.
func (p *process) audit(ctx context.Context) error {
	return p.with(ctx, func(r *repo.Repository) error {
		a, err := p.newAudit(ctx, r)
		if err != nil {
			return err
		}
		return errors.Join(a.slots(ctx), a.packs(ctx), a.index(ctx), a.others(ctx))
	})
}

// audit is what points need, and the means to open what is there.
type audit struct {
	*process
	*record.Store
	entry  *ledger.Entry
	alive  map[string]bool // sessions of points
	needed blob.Set
	listed map[string]bool // packs that exist
}

func (p *process) newAudit(ctx context.Context, r *repo.Repository) (*audit, error) {
	a := &audit{process: p, alive: map[string]bool{}, needed: blob.Set{}, listed: map[string]bool{}}
	for _, secret := range p.secrets {
		ring, _, err := slot.Open(ctx, p.be, secret)
		if err == nil {
			a.Store = &record.Store{Backend: p.be, Ring: ring, Keys: ring.Keys(), Rand: p.random, Now: p.clock.Now}
		}
	}
	ledgers, err := objects(ctx, p.be, ledger.Ledgers)
	if err != nil || a.Store == nil || len(ledgers) == 0 {
		return nil, fmt.Errorf("audit: %d ledger entries, %w", len(ledgers), err)
	}
	if a.entry, err = record.ReadAs[ledger.Entry](ctx, a.Store, ledgers[len(ledgers)-1], parity.Ledger); err != nil {
		return nil, err
	}
	points, _, err := r.Points(ctx)
	if err != nil {
		return nil, err
	}
	note := func(_ blob.Kind, id blob.ID) error {
		a.needed.Add(id)
		return nil
	}
	for _, e := range points {
		a.alive[e.SID] = true
		err := errors.Join(image.Nodes(ctx, r, *e.Items[0].Disk, note, a.needed.Has), stream.Nodes(ctx, r, *e.Items[1].Stream, note, a.needed.Has))
		if err != nil {
			return nil, err
		}
	}
	return a, nil
}

// slots: of a point that is gone nothing remains, nor of any session.
func (a *audit) slots(ctx context.Context) error {
	var errs []error
	for _, prefix := range []string{ledger.Commits, ledger.Forgets, ledger.Confirms, ledger.Labels, ledger.Sessions} {
		names, err := objects(ctx, a.be, prefix)
		if err != nil {
			return err
		}
		for _, name := range names {
			sid, err := ledger.ParseSlot(name)
			if err != nil {
				sid, _, err = ledger.ParseNumbered(name)
			}
			if err != nil || !a.alive[sid.String()] || prefix == ledger.Forgets || prefix == ledger.Sessions {
				errs = append(errs, fmt.Errorf("audit: %s is left over", name))
			}
		}
	}
	return errors.Join(errs...)
}

// packs: every chunk of every pack is needed, and lies in one pack alone.
func (a *audit) packs(ctx context.Context) error {
	var errs []error
	where := map[blob.ID]string{}
	names, err := a.all(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		a.listed[name] = true
		table, err := a.table(ctx, name)
		if err != nil {
			errs = append(errs, fmt.Errorf("audit: %w", err))
		}
		for _, e := range table {
			if !a.needed.Has(e.ID) {
				errs = append(errs, fmt.Errorf("audit: chunk %.8s in %s is needed by nothing", e.ID, name))
			}
			if other, twice := where[e.ID]; twice {
				errs = append(errs, fmt.Errorf("audit: chunk %.8s is in %s and in %s", e.ID, name, other))
			}
			where[e.ID] = name
		}
	}
	if len(where) != len(a.needed) {
		errs = append(errs, fmt.Errorf("audit: %d chunks are needed, %d are there", len(a.needed), len(where)))
	}
	return errors.Join(errs...)
}

// table is what a pack says of itself.
func (a *audit) table(ctx context.Context, name string) ([]pack.Entry, error) {
	object, err := backend.Whole(ctx, a.be, name)
	if err != nil {
		return nil, err
	}
	_, table, err := pack.OpenTable(a.Keys, name, object)
	return table, err
}

// segment names the packs that a segment lists.
func (a *audit) segment(ctx context.Context, name string) ([]string, error) {
	payload, err := a.Read(ctx, name, parity.Index)
	if err != nil {
		return nil, err
	}
	segment, err := index.Open(bytes.NewReader(payload), int64(len(payload)))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range segment.Packs() {
		names = append(names, p.Name())
	}
	return names, nil
}

// published names the packs that any segment lists.
func (a *audit) published(ctx context.Context) (packs []string, err error) {
	segments, err := objects(ctx, a.be, ledger.Indexes)
	for _, name := range segments {
		var listed []string
		if listed, err = a.segment(ctx, name); err != nil {
			break
		}
		packs = append(packs, listed...)
	}
	return packs, err
}

// all names the packs that are there.
func (a *audit) all(ctx context.Context) ([]string, error) {
	data, err := objects(ctx, a.be, ledger.Data)
	if err != nil {
		return nil, err
	}
	meta, err := objects(ctx, a.be, ledger.Meta)
	return append(data, meta...), err
}

// index: the segments list all packs, and nothing that is gone.
func (a *audit) index(ctx context.Context) error {
	names, err := objects(ctx, a.be, ledger.Indexes)
	if err != nil {
		return err
	}
	var errs []error
	known := map[string]bool{}
	for _, name := range names {
		packs, err := a.segment(ctx, name)
		if err != nil {
			return err
		}
		for _, listed := range packs {
			known[listed] = true
			if !a.listed[listed] {
				errs = append(errs, fmt.Errorf("audit: %s lists %s, which is gone", name, listed))
			}
		}
	}
	for name := range a.listed {
		if !known[name] {
			errs = append(errs, fmt.Errorf("audit: no segment lists %s", name))
		}
	}
	return errors.Join(errs...)
}

// others: nothing is there that is not part of a repository, and nothing waits.
func (a *audit) others(ctx context.Context) error {
	names, err := objects(ctx, a.be, "")
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if !ledger.IsOurs(name) {
			errs = append(errs, fmt.Errorf("audit: %s is nobody's", name))
		}
	}
	if len(a.entry.Open) > 0 {
		errs = append(errs, fmt.Errorf("audit: the ledger still waits for %v", a.entry.Open))
	}
	for _, batch := range a.entry.Condemned {
		for _, name := range batch.Packs {
			if !batch.Going {
				errs = append(errs, fmt.Errorf("audit: %s still waits", name))
			}
		}
	}
	return errors.Join(errs...)
}
