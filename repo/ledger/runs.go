package ledger

import (
	"cmp"
	"maps"
	"slices"
)

// fillRun says what the new run must list: every needed pack that the next
// horizon passes and no remaining run lists, so that writers may go on reusing
// it (MayReuse); and all packs of the runs that are merged, except those that
// are going: even a condemned pack may yet be rescued.
func (p *Plan) fillRun(m *Marker) {
	s := p.survey
	going := p.goingPacks()
	inRun := p.packsOf(p.Next.Runs)
	want := map[string]bool{}
	for pack := range s.listed {
		owner, _, err := ParsePack(pack)
		if err == nil && s.exists[pack] && owner.Gen < s.Horizon && p.isNeeded(m, pack) {
			want[pack] = true
		}
	}
	for pack := range p.packsOf(p.mergedRuns()) {
		want[pack] = true
	}
	for pack := range want {
		if !inRun[pack] && !going[pack] && s.exists[pack] {
			p.Run = append(p.Run, pack)
		}
	}
	slices.Sort(p.Run)
}

// goingPacks are the packs that the next entry lets go.
func (p *Plan) goingPacks() map[string]bool {
	going := map[string]bool{}
	for _, batch := range p.Next.Condemned {
		for _, pack := range batch.Packs {
			going[pack] = batch.Going
		}
	}
	return going
}

func (p *Plan) mergedRuns() []string {
	var runs []string
	for run := range p.merged {
		runs = append(runs, run)
	}
	return runs
}

// packsOf is the union of what the named segments list.
func (p *Plan) packsOf(segments []string) map[string]bool {
	named, packs := set(segments), map[string]bool{}
	for _, segment := range p.survey.listing.Segments {
		if named[segment.Name] {
			for _, pack := range segment.Packs {
				packs[pack] = true
			}
		}
	}
	return packs
}

// dropGone takes from the ledger the going packs that are gone: not in the
// store, and no run lists them any more.
func (p *Plan) dropGone() {
	inRun := p.packsOf(p.Next.Runs)
	var batches []Condemned
	for _, batch := range p.Next.Condemned {
		if batch.Going {
			batch.Packs = slices.DeleteFunc(batch.Packs, func(pack string) bool { return !p.survey.exists[pack] && !inRun[pack] })
		}
		if len(batch.Packs) > 0 {
			batches = append(batches, batch)
		}
	}
	p.Next.Condemned = batches
}

// WithRuns names the segments that were written for Run, durable by now, and
// says which segments they and the remaining runs replace: those of settled
// sessions of which every pack is in a run, going, or gone. A segment that lists
// anything else stays, though nobody but readers believes it: an open session
// may have reused what it lists.
func (p *Plan) WithRuns(names []string) {
	if len(p.survey.Blocked) > 0 {
		return
	}
	p.Next.Runs = append(p.Next.Runs, names...)
	replaced := p.packsOf(p.Next.Runs)
	if len(names) > 0 {
		for _, pack := range p.Run {
			replaced[pack] = true
		}
	}
	going, runs := p.goingPacks(), set(p.Next.Runs)
	p.Next.Superseded = nil
	for _, segment := range p.survey.listing.Segments {
		sid, _, err := ParseNumbered(segment.Name)
		if err != nil || runs[segment.Name] || sid.Gen >= p.survey.Horizon {
			continue
		}
		stays := slices.ContainsFunc(segment.Packs, func(pack string) bool {
			return p.survey.exists[pack] && !replaced[pack] && !going[pack]
		})
		if !stays {
			p.Next.Superseded = append(p.Next.Superseded, segment.Name)
			p.say("P5", segment.Name, "runs list all that is left of it")
		}
	}
	slices.Sort(p.Next.Superseded)
	p.compare()
}

// WithMade gives Next the numbers that forgotten points had, in place of those that it
// carries on from the entry before. A round that is blocked carries on what there was.
func (p *Plan) WithMade(made map[string]int64) {
	if len(p.survey.Blocked) > 0 {
		return
	}
	p.Next.Made = made
	p.compare()
}

func (p *Plan) compare() {
	p.Changed = p.survey.litter || p.survey.passes() || !sameEntry(p.Next, p.survey.listing.Ledger.Entry)
}

// passes reports whether anything is between the horizon and the next one. Each entry
// could move the horizon on by one, for its number alone: that is no reason to write it.
func (s *Survey) passes() bool {
	from := s.listing.Ledger.Entry.Horizon
	in := func(gen uint32) bool { return from <= gen && gen < s.Horizon }
	return slices.ContainsFunc(s.listing.Slots, func(h Held) bool { return in(h.SID.Gen()) }) ||
		slices.ContainsFunc(s.listing.Roll, func(e Enrolled) bool { return in(e.SID.Gen()) }) ||
		slices.ContainsFunc(s.listing.Sessions, func(h Heard) bool { return in(h.SID.Gen) }) ||
		slices.ContainsFunc(s.listing.Forgets, func(p Packed) bool { return in(p.Gen()) }) ||
		slices.ContainsFunc(s.listing.Segments, func(g Segment) bool { sid, _, err := ParseNumbered(g.Name); return err == nil && in(sid.Gen) }) ||
		slices.ContainsFunc(s.listing.Packs, func(pack string) bool { sid, _, err := ParsePack(pack); return err == nil && in(sid.Gen) })
}

// sameEntry compares all but the horizon.
func sameEntry(a, b *Entry) bool {
	sameBatch := func(x, y Condemned) bool {
		return x.Since == y.Since && x.Going == y.Going && slices.Equal(x.Packs, y.Packs) && slices.Equal(x.Covered, y.Covered)
	}
	return a.Roll == b.Roll && slices.Equal(a.Points, b.Points) && slices.Equal(a.Runs, b.Runs) &&
		slices.Equal(a.Superseded, b.Superseded) && slices.EqualFunc(a.Condemned, b.Condemned, sameBatch) && slices.Equal(a.Open, b.Open) && maps.Equal(a.Made, b.Made)
}

// RunSize is a run that the ledger names, for PickRuns.
type RunSize struct {
	Name  string
	Packs int // that it lists
	Gone  int // of these, going or gone
}

const (
	runRatio = 8 // an older run is merged once the younger ones are an eighth of it
	goneMost = 4 // a run is rewritten once a quarter of it is gone
)

// PickRuns proposes the runs to merge, so that their number stays logarithmic
// in the packs and what is gone does not gather. runs may be in any order;
// fresh is the number of packs of the new run that is due anyway.
func PickRuns(runs []RunSize, fresh int) []string {
	bySize := slices.Clone(runs)
	slices.SortFunc(bySize, func(a, b RunSize) int { return cmp.Or(cmp.Compare(a.Packs, b.Packs), cmp.Compare(a.Name, b.Name)) })
	var merge []string
	sum := fresh
	for _, run := range bySize {
		if run.Packs < sum*runRatio || run.Gone*goneMost > run.Packs {
			merge = append(merge, run.Name)
			sum += run.Packs - run.Gone
		}
	}
	return merge
}
