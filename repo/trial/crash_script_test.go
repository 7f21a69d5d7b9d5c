package trial_test

import (
	"context"
	"errors"
	"slices"
	"strings"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/repo/parity"
)

// script is one command and the history before it.
type script struct {
	name   string
	before func(ctx context.Context, p *process) error // on a sound store
	act    func(ctx context.Context, p *process) error // what is interrupted, and then done once more
	// tolerate says that a verdict of check right after the crash is what
	// before had done to the repository, for act to mend.
	tolerate func(*repo.Report) bool
	// blind: until act has mended the index a restore may miss chunks.
	blind bool
	// beside: a session on another machine is open all the time; it leans on
	// the point that notes call old, and commits after the crash.
	beside bool
	// every: an ordinary run over a sick place tries each so many operations; 0: all of them.
	every int
	// resumes: act stores content. What it had published before it was
	// interrupted is not stored a second time.
	resumes bool
}

const (
	vmA = "vm/a"
	vmB = "vm/b"
)

var (
	dayOne   = picture(1, 4)
	dayTwo   = repaint(dayOne, 2, 1)
	dayThree = repaint(dayTwo, 3, 2, 3)
	other    = picture(9, 3)
)

// founded makes a repository with so many points of vmA, one a day.
func founded(days int) func(ctx context.Context, p *process) error {
	return func(ctx context.Context, p *process) error {
		if err := p.init(ctx); err != nil {
			return err
		}
		p.notes["founded"] = "yes"
		for _, data := range [][]byte{dayOne, dayTwo, dayThree}[:days] {
			if err := p.backup(ctx, vmA, data); err != nil {
				return err
			}
		}
		return nil
	}
}

// then joins what happened before.
func then(all ...func(ctx context.Context, p *process) error) func(ctx context.Context, p *process) error {
	return func(ctx context.Context, p *process) error {
		for _, do := range all {
			if err := do(ctx, p); err != nil {
				return err
			}
		}
		return nil
	}
}

func pruned(ctx context.Context, p *process) error { return p.prune(ctx) }

func backedUp(source string, data []byte) func(ctx context.Context, p *process) error {
	return func(ctx context.Context, p *process) error { return p.backup(ctx, source, data) }
}

// noted gives the point of vmA made last another name in the notes.
func noted(name string) func(ctx context.Context, p *process) error {
	return func(_ context.Context, p *process) error {
		p.notes[name] = p.notes[vmA]
		return nil
	}
}

func dropped(name string) func(ctx context.Context, p *process) error {
	return func(ctx context.Context, p *process) error { return p.drop(ctx, name) }
}

// interrupted stores a point's content up to the commit. The process then dies,
// or gives up in good order.
func interrupted(source string, data []byte, dies bool) func(ctx context.Context, p *process) error {
	return func(ctx context.Context, p *process) error {
		victim := p.site.process(p.be, "")
		defer victim.end()
		return victim.with(ctx, func(r *repo.Repository) error {
			ctx, cancel := context.WithCancel(ctx)
			s, _, err := victim.upload(ctx, r, source, data)
			if err == nil {
				err = s.Flush(ctx)
			}
			if err == nil && dies {
				victim.end()
			}
			defer cancel() // the heart of the dead stops, too
			if err == nil && !dies {
				s.Abort()
			}
			return err
		})
	}
}

// hung leaves a session of a process that does nothing any more and lives until
// before is over.
func hung(ctx context.Context, p *process) error {
	victim := p.site.process(p.be, "")
	victim.dead = func() bool { return !p.alive() }
	return victim.with(ctx, func(r *repo.Repository) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		_, _, err := victim.upload(ctx, r, "vm/hung", dayThree)
		return err
	})
}

// lostUnneeded takes away the packs of the maps that an interrupted run has left:
// no point needs them, but its segment also lists chunks that are needed.
func lostUnneeded(ctx context.Context, p *process) error {
	return p.with(ctx, func(r *repo.Repository) error {
		e, err := r.Find(ctx, p.notes[vmA])
		if err != nil {
			return err
		}
		names, err := objects(ctx, p.be, ledger.Meta)
		for _, name := range names {
			if err == nil && !strings.Contains(name, e.SID) {
				err = p.be.Delete(ctx, name)
			}
		}
		return err
	})
}

// scripts are all commands that change a repository. A new command is one more
// entry.
func scripts() []script {
	return slices.Concat(writing(), maintaining(), keeping(), keyed(), moving())
}

func writing() []script {
	return []script{
		{name: "init", before: func(context.Context, *process) error { return nil }, act: initAgain},
		{name: "first backup", before: founded(0), act: backedUp(vmA, dayOne), resumes: true},
		{name: "second backup", before: founded(1), act: backedUp(vmA, dayTwo), resumes: true},
		{name: "two sources", before: founded(1), act: twoSources},
		{name: "resume after giving up", before: then(founded(1), interrupted(vmB, other, false)), act: backedUp(vmB, other), resumes: true},
		{name: "resume after a kill", before: then(founded(1), interrupted(vmB, other, true)), act: backedUp(vmB, other), resumes: true},
		{
			name:   "backup over packs of runs",
			before: then(founded(1), pruned, backedUp(vmB, other), pruned, pruned),
			act:    backedUp(vmA, dayThree), resumes: true,
		},
	}
}

func maintaining() []script {
	return []script{
		{name: "forget", before: then(founded(1), noted("old"), backedUp(vmA, dayTwo)), act: dropped("old")},
		{name: "forget and prune", before: then(founded(1), noted("old"), backedUp(vmA, dayTwo), backedUp(vmB, other)), act: then(dropped("old"), dropped(vmB), pruned)},
		{name: "prune with repack", before: then(founded(1), noted("old"), backedUp(vmA, dayThree), dropped("old")), act: pruned},
		{name: "prune after a kill", before: then(founded(2), interrupted(vmB, other, true)), act: pruned},
		{name: "runs merged", before: then(founded(1), pruned, backedUp(vmB, other), pruned, backedUp(vmA, dayTwo), backedUp(vmA, dayThree)), act: then(pruned, pruned)},
		{name: "prune of a history", before: then(founded(1), noted("old"), backedUp(vmA, dayTwo), pruned, dropped("old"), backedUp(vmB, other), pruned, dropped(vmB), backedUp(vmA, dayThree)), act: pruned},
	}
}

func keeping() []script {
	return []script{
		{name: "index lost and repaired", before: then(founded(2), lost(ledger.Indexes)), act: repaired, tolerate: always, blind: true},
		{name: "index of runs lost and repaired", before: then(founded(2), pruned, backedUp(vmB, other), pruned, lost(ledger.Indexes)), act: repaired, tolerate: always, blind: true},
		{
			name:   "segment that lists a lost pack repaired",
			before: then(founded(0), interrupted(vmB, dayOne, false), backedUp(vmA, dayTwo), lostUnneeded), act: repaired, tolerate: always,
		},
		{name: "label", before: founded(2), act: labelled},
		{name: "packs repaired", before: then(frail, founded(2), torn(ledger.Data), torn(ledger.Meta)), act: salvaged, tolerate: always},
		{name: "scrub heals", before: then(founded(1), scratched), act: scrubbed, tolerate: healable},
	}
}

func keyed() []script {
	return []script{
		{name: "key added", before: founded(1), act: keyAdded},
		{name: "key removed", before: then(founded(1), keyAdded), act: keyRemoved},
		{name: "password changed", before: founded(1), act: keyReplaced},
		{name: "keys rotated", before: then(founded(1), keyAdded), act: rotated},
		{name: "sealed anew", before: then(founded(1), rotated, backedUp(vmB, other)), act: resealed},
	}
}

func moving() []script {
	return []script{
		{name: "copy", before: then(founded(1), elsewhere), act: copied},
		{
			name: "rescue from a batch that waits", beside: true,
			before: then(founded(1), noted("old"), backedUp(vmB, other), hung, pruned, dropped("old")), act: pruned,
		},
		{name: "prune beside an open session", before: then(founded(1), noted("old"), backedUp(vmB, other), dropped("old")), act: pruned, beside: true},
		{name: "a day", every: 3, before: then(founded(1), pruned, noted("old"), backedUp(vmA, dayTwo), elsewhere), act: then(
			backedUp(vmB, other), labelled, dropped("old"), pruned, backedUp(vmA, dayThree), dropped(vmB), keyAdded, rotated, pruned, repaired, copied, resealed, scrubbed)},
	}
}

func always(*repo.Report) bool { return true }

func healable(rep *repo.Report) bool { return errors.Is(rep.Verdict(), repo.ErrHealable) }

// initAgain makes a repository. What an init that was cut off has left is no
// repository: the operator takes it away.
func initAgain(ctx context.Context, p *process) error {
	if p.notes["founded"] != "" || repo.Exists(ctx, p.be) == nil {
		return nil
	}
	if p.notes["tried"] != "" {
		left, err := objects(ctx, p.be, "")
		if err != nil {
			return err
		}
		for _, name := range left {
			if !strings.HasPrefix(ledger.TrueName(name), ledger.Keys) && !strings.HasPrefix(ledger.TrueName(name), ledger.Ledgers) {
				return errors.New("an interrupted init left " + name)
			}
			if err := p.be.Delete(ctx, name); err != nil {
				return err
			}
		}
	}
	p.promise(func() { p.notes["tried"] = "yes" })
	if err := p.init(ctx); err != nil {
		return err
	}
	p.promise(func() { p.notes["founded"] = "yes" })
	return nil
}

// twoSources runs two sessions of one process side by side.
func twoSources(ctx context.Context, p *process) error {
	return p.with(ctx, func(r *repo.Repository) error {
		a, pointA, err := p.upload(ctx, r, vmA, dayTwo)
		if err != nil {
			return err
		}
		b, pointB, err := p.upload(ctx, r, vmB, dayThree)
		if err != nil {
			a.Abort()
			return err
		}
		return errors.Join(p.commit(ctx, b, pointB, dayThree), p.commit(ctx, a, pointA, dayTwo))
	})
}

// lost takes away all objects below prefix, behind everybody's back.
func lost(prefix string) func(ctx context.Context, p *process) error {
	return func(ctx context.Context, p *process) error {
		names, err := objects(ctx, p.be, prefix)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := p.be.Delete(ctx, name); err != nil {
				return err
			}
		}
		return p.be.Sync(ctx)
	}
}

func repaired(ctx context.Context, p *process) error {
	return p.with(ctx, func(r *repo.Repository) error {
		_, err := r.RepairIndex(ctx, nil)
		return err
	})
}

func labelled(ctx context.Context, p *process) error {
	return p.with(ctx, func(r *repo.Repository) error {
		for range 2 {
			e, err := r.Find(ctx, p.notes[vmA])
			if err != nil {
				return err
			}
			if err := r.SetLabel(ctx, e, func(l *ledger.Label) { l.Pinned = true; l.Tags = append(l.Tags, "gold") }); err != nil {
				return err
			}
			p.promise(func() { p.pinned[e.ID] = true })
		}
		return nil
	})
}

func keyAdded(ctx context.Context, p *process) error {
	return p.with(ctx, func(r *repo.Repository) error {
		secret := newSecret(p.random)
		id, err := r.AddKey(ctx, repo.NewKey{Secret: secret})
		if err != nil {
			return err
		}
		again := p.site.process(p.be, "")
		defer again.end()
		again.site = again.fork(p.store, 0)
		again.secrets = again.secrets[:0]
		again.secrets = append(again.secrets, secret)
		p.promise(func() { p.notes["key"], p.added = id, secret })
		return again.with(ctx, func(*repo.Repository) error { return nil })
	})
}

func keyRemoved(ctx context.Context, p *process) error {
	return p.with(ctx, func(r *repo.Repository) error {
		tried := p.notes["removing"] != ""
		p.promise(func() { p.notes["removing"] = "yes" })
		_, err := r.RemoveKey(ctx, p.notes["key"])
		if tried && errors.Is(err, repo.ErrKeyUnknown) {
			err = nil
		}
		if err == nil {
			p.promise(func() { p.barred = append(p.barred, p.added) })
		}
		return err
	})
}

// keyReplaced changes the secret. While that is under way either may open.
func keyReplaced(ctx context.Context, p *process) error {
	return p.with(ctx, func(r *repo.Repository) error {
		secret := newSecret(p.random)
		p.promise(func() { p.secrets = append(p.secrets, secret) })
		_, err := r.ReplaceKey(ctx, repo.NewKey{Secret: secret})
		if err == nil {
			p.promise(func() { // from now on no other does
				p.barred, p.secrets = append(p.barred, p.secrets[0]), p.secrets[len(p.secrets)-1:]
			})
		}
		return err
	})
}

// damageable is a store whose objects can be changed behind everybody's back.
type damageable interface {
	Damage(name string, change func([]byte) []byte) error
}

// scratched flips bits of one object of each kind, within its parity, and takes
// one of two copies away.
func scratched(ctx context.Context, p *process) error {
	store, ok := backend.As[damageable](p.be)
	if !ok {
		return errors.New("the store cannot be scratched")
	}
	for _, prefix := range []string{ledger.Data, ledger.Commits, ledger.Indexes, ledger.Ledgers, ledger.Spares} {
		names, err := objects(ctx, p.be, prefix)
		if err != nil {
			return err
		}
		change := func(object []byte) []byte { object[5000] ^= 4; return object }
		if prefix == ledger.Spares {
			change = func([]byte) []byte { return nil }
		}
		if err := store.Damage(names[0], change); err != nil {
			return err
		}
	}
	return nil
}

// frail: no parity protects what is stored from now on.
func frail(_ context.Context, p *process) error {
	p.notes["parity"] = "off"
	return nil
}

// torn breaks the footer of the first pack below prefix: its table cannot be
// read any more, its chunks can.
func torn(prefix string) func(ctx context.Context, p *process) error {
	return func(ctx context.Context, p *process) error {
		store, ok := backend.As[damageable](p.be)
		if !ok {
			return errors.New("the store cannot be torn")
		}
		names, err := objects(ctx, p.be, prefix)
		if err != nil {
			return err
		}
		return store.Damage(names[0], func(object []byte) []byte { object[len(object)-parity.PageBytes-1] ^= 4; return object })
	}
}

func salvaged(ctx context.Context, p *process) error {
	return p.with(ctx, func(r *repo.Repository) error {
		_, err := r.RepairPacks(ctx, false, nil)
		return err
	})
}

func rotated(ctx context.Context, p *process) error {
	return p.with(ctx, func(r *repo.Repository) error {
		_, err := r.RotateKeys(ctx)
		return err
	})
}

// resealed leaves nothing that only an older root seals.
func resealed(ctx context.Context, p *process) error {
	return p.with(ctx, func(r *repo.Repository) error {
		_, err := r.Prune(ctx, repo.PruneOptions{Reencrypt: true})
		return err
	})
}

// elsewhere makes another repository with a point.
func elsewhere(ctx context.Context, p *process) error {
	p.aside = newSite(newStore(), 4711)
	return founded(2)(ctx, p.aside.process(p.aside.store, ""))
}

// copied copies the other repository's points.
func copied(ctx context.Context, p *process) error {
	from := p.aside.process(p.aside.store, "")
	defer from.end()
	return from.with(ctx, func(there *repo.Repository) error {
		return p.with(ctx, func(here *repo.Repository) error {
			points, _, err := there.Points(ctx)
			if err != nil {
				return err
			}
			c := here.CopierFrom(there, nil)
			for _, e := range points {
				data := p.aside.made[e.ID]
				p.promise(func() { p.known = append(p.known, data) })
				made, err := c.Copy(ctx, e)
				if err != nil {
					return err
				}
				p.promise(func() { p.made[made.ID] = data })
			}
			return nil
		})
	})
}

func scrubbed(ctx context.Context, p *process) error {
	_, err := repo.Scrub(ctx, p.be, repo.ScrubOptions{Heal: true})
	return err
}
