package ledger

import (
	"math/bits"
	"slices"
)

func each(m mask, fn func(i int)) {
	for ; m != 0; m &= m - 1 {
		fn(bits.TrailingZeros8(m))
	}
}

// listing turns masks into what a pruner's LISTs would have given.
func (r *rules) listing(k *planKey) *Listing {
	l := &Listing{Ledger: r.entries[k.entry].view}
	name := func(i int) *names { return &r.names[i][k.gen[i]] }
	l.RollEnd = uint32(k.end)
	each(k.sess, func(i int) {
		l.Roll = append(l.Roll, Enrolled{Number: uint32(k.num[i]), SID: name(i).sid.Pack()})
	})
	each(k.slotP, func(i int) { l.Slots = append(l.Slots, Held{SID: name(i).sid.Pack()}) })
	each(k.slotR|k.dead&^k.slotP, func(i int) { l.Slots = append(l.Slots, Held{SID: name(i).sid.Pack(), Kind: RevokedSlot}) })
	each(k.tomb, func(i int) { l.Forgets.Add(name(i).sid) })
	each(k.seg, func(i int) {
		l.Segments = append(l.Segments, Segment{Name: name(i).seg, Packs: []string{name(i).pack}})
	})
	each(k.run, func(i int) {
		run := Segment{Name: name(i).run}
		each(k.runPacks[i-1-modelWriters], func(j int) { run.Packs = append(run.Packs, name(j).pack) })
		l.Segments = append(l.Segments, run)
	})
	each(k.pack, func(i int) { l.Packs = append(l.Packs, name(i).pack) })
	return l
}

// decide runs the real decision on a listing. Every point needs the chunk, and
// every pack holds it.
func (r *rules) decide(k planKey) uint32 {
	if id, ok := r.byKey[k]; ok {
		return id
	}
	l := r.listing(&k)
	if r.mut == noSession {
		// A pruner that takes the record for the session does not look at packs.
		l.Packs = slices.DeleteFunc(l.Packs, func(pack string) bool {
			i := r.packSID[pack]
			return !has(k.slotP|k.slotR|k.sess, i)
		})
	}
	survey := Look(l)
	var holders []string
	for _, segment := range l.Segments {
		holders = append(holders, segment.Packs...)
	}
	marker := survey.Marker()
	r.mark(survey, marker, holders)
	var merge []string
	if k.merge {
		merge = l.Ledger.Entry.Runs
	}
	decision := marker.Decide(merge)
	p := plan{changed: decision.Changed}
	for _, pack := range decision.Run {
		p.run |= 1 << r.packSID[pack]
	}
	for pack := range decision.Live {
		p.live |= 1 << r.packSID[pack]
	}
	r.spoil(survey, decision)
	number := k.g + 1
	if int(number) < modelLedgers {
		r.spoilRuns(l, decision)
		bare := *decision.Next
		p.bare = r.intern(&bare, number)
		decision.WithRuns([]string{r.names[k.own][k.g].run})
		r.spoilRuns(l, decision)
		p.withRun = r.intern(decision.Next, number)
	}
	r.plans = append(r.plans, p)
	id := uint32(len(r.plans) - 1)
	r.byKey[k] = id
	return id
}

// mark tells the marker of the one chunk, once for each kind of point.
func (r *rules) mark(s *Survey, m *Marker, holders []string) {
	waits := slices.ContainsFunc(s.listing.Ledger.Entry.Condemned, func(b Condemned) bool { return !b.Going })
	mayGo := slices.ContainsFunc(s.listing.Ledger.Entry.Condemned, func(b Condemned) bool { return MayGo(b.Since, s.Horizon) })
	live, again := len(s.Live) > 0, len(s.Remark) > 0
	switch r.mut {
	case noRemark:
		covers := s.coverage()
		live, again = !waits || slices.ContainsFunc(s.Live, covers), false
		if live && waits {
			holders = slices.DeleteFunc(slices.Clone(holders), func(p string) bool { return m.ranks[p] == waiting })
			live = len(holders) > 0
		}
	case remarkSkipsForgotten:
		again = false
	case remarkOnlyWhatGoes:
		again = again && mayGo
	case condemnedIsHolder:
		if live && slices.ContainsFunc(holders, func(p string) bool { return m.ranks[p] == waiting }) {
			live, again = false, false
		}
	}
	if live {
		m.Live(1, holders)
	}
	if again {
		m.Again(holders)
	}
}

// spoil is where mutations of the decision happen.
func (r *rules) spoil(s *Survey, p *Plan) {
	if len(s.Blocked) > 0 {
		return
	}
	number := s.listing.Ledger.Number
	for i, batch := range p.Next.Condemned {
		early := r.mut == noWait && batch.Since <= number || r.mut == offByOne && batch.Since == s.Horizon+1 && batch.Since <= number
		if early {
			p.Next.Condemned[i].Going = true
		}
	}
	switch r.mut {
	case rollOffByOne:
		p.Next.Roll++
	case horizonOffByOne:
		p.Next.Horizon = s.Horizon + 1
		for _, sid := range s.Live {
			if sid.Gen() == s.Horizon {
				p.Next.Points = append(p.Next.Points, sid)
			}
		}
		p.Next.Points.Sort()
	case noHorizonPoints:
		p.Next.Points = slices.DeleteFunc(p.Next.Points, func(packed Packed) bool {
			return packed.Gen() >= s.listing.Ledger.Entry.Horizon && len(s.Open) > 0
		})
	case namesDroppedEarly:
		p.Next.Condemned = slices.DeleteFunc(p.Next.Condemned, func(b Condemned) bool {
			return b.Going && !slices.ContainsFunc(b.Packs, func(pack string) bool { return s.exists[pack] })
		})
	}
}

// spoilRuns is where mutations of compaction happen.
func (r *rules) spoilRuns(l *Listing, p *Plan) {
	if r.mut != supersedesEverything || len(p.survey.Blocked) > 0 {
		return
	}
	for _, segment := range l.Segments {
		if !slices.Contains(p.Next.Runs, segment.Name) && !slices.Contains(p.Next.Superseded, segment.Name) {
			p.Next.Superseded = append(p.Next.Superseded, segment.Name)
		}
	}
}
