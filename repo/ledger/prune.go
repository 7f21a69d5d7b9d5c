package ledger

import (
	"fmt"
	"slices"
	"strings"
)

// Plan is what a round of prune decided. Nothing of it holds before Next is in
// the ledger, by put-if-absent as entry Listing.Ledger.Number + 1; if another
// entry has that number the plan is void and the round starts over.
type Plan struct {
	Next     *Entry
	Changed  bool           // Next is worth writing: it says more than the entry before, or its number lets the horizon pass what is settled
	Condemn  []string       // packs (P2)
	Rescue   []string       // packs (P4)
	Go       []string       // packs (P3, P5)
	Run      []string       // packs that a new run must list, durably, before Next is written; then WithRuns
	Live     map[string]Use // by pack; nil while the round is blocked
	Unlisted int            // packs among Condemn that no segment lists
	Reasons  []Reason

	survey *Survey
	merged map[string]bool
}

// Decide is the last part of a round: it turns marks into the next entry. The
// runs of merge are to be rewritten into the new run (PickRuns proposes some).
func (m *Marker) Decide(merge []string) *Plan {
	s := m.survey
	p := &Plan{survey: s, merged: set(merge), Live: m.live}
	if len(s.Blocked) == 0 && (m.missing > 0 || len(m.hurt) > 0) {
		object, why := m.blame()
		s.block("P1", object, why)
	}
	if len(s.Blocked) > 0 {
		return p.decideNothing()
	}
	// P2: all slots below the horizon but those of live points are void from now on.
	p.Next = &Entry{Version: Version, Horizon: s.Horizon, Roll: s.Roll, Points: s.below, Open: s.openList(), Made: s.listing.Ledger.Entry.Made}
	for _, run := range s.listing.Ledger.Entry.Runs {
		if !p.merged[run] && s.present[run] {
			p.Next.Runs = append(p.Next.Runs, run)
		}
	}
	p.keepBatches(m)
	p.condemn(m)
	p.fillRun(m)
	p.dropGone()
	p.WithRuns(nil)
	return p
}

// blame says what is wrong when not all that live points need is to be had: the index,
// as long as there are packs that it does not list, else it is data that is lost.
func (m *Marker) blame() (object, why string) {
	object, why = Data, "the maps of live points cannot be followed"
	if m.missing > 0 {
		why = fmt.Sprintf("%d chunks that live points need are in no pack: they are lost", m.missing)
	}
	if pack, found := m.survey.unlistedPack(); found {
		object, why = Indexes, fmt.Sprintf("%d chunks of live points are in no pack that is listed, and %s is not listed: repair the index", m.missing, pack)
	}
	const named = 5
	if n := len(m.hurt); n > 0 {
		why += "; hit: " + strings.Join(m.hurt[:min(n, named)], ", ")
		if n > named {
			why += fmt.Sprintf(" and %d points more", n-named)
		}
	}
	return object, why
}

// decideNothing repeats the entry and only notes who is open, so that sessions
// can be found dead even while damage waits for repair.
func (p *Plan) decideNothing() *Plan {
	next := *p.survey.listing.Ledger.Entry
	next.Open = p.survey.openList()
	p.Next, p.Reasons, p.Live = &next, p.survey.Blocked, nil
	p.Changed = !slices.Equal(next.Open, p.survey.listing.Ledger.Entry.Open)
	return p
}

func (s *Survey) openList() []Open {
	var open []Open
	for _, h := range s.Open {
		open = append(open, Open{SID: h.SID.String(), Beats: h.Beats})
	}
	return open
}

// covered are the slots at or above the next horizon that this round has seen:
// it marked them, whatever they are.
func (s *Survey) covered() []string {
	var names []string
	for _, slot := range s.listing.Slots {
		if slot.SID.Gen() >= s.Horizon {
			names = append(names, slot.SID.SID().String())
		}
	}
	slices.Sort(names)
	return names
}

// MayGo is P3: a batch condemned by entry since may go once every session that
// began before that entry is settled. Sessions below the horizon are. Younger
// ones knew of the condemnation when they began.
func MayGo(since, horizon uint32) bool { return since <= horizon }

// keepBatches carries the batches on: without what was rescued (P4), and going
// if they may (P3, P5). The rest waits, and has now been examined once more.
func (p *Plan) keepBatches(m *Marker) {
	for _, old := range p.survey.listing.Ledger.Entry.Condemned {
		batch := Condemned{Since: old.Since, Going: old.Going}
		for _, pack := range old.Packs {
			if !old.Going && (m.rescueAll || m.rescued[pack]) {
				p.Rescue = append(p.Rescue, pack)
				p.say("P4", pack, "a point committed since it was condemned needs it")
				continue
			}
			batch.Packs = append(batch.Packs, pack)
		}
		if !batch.Going && MayGo(batch.Since, p.survey.Horizon) {
			batch.Going = true
			p.Go = append(p.Go, batch.Packs...)
			p.sayAll("P3", batch.Packs, "every session that could have reused it is settled")
		}
		if !batch.Going {
			batch.Covered = p.survey.covered()
		}
		p.addBatch(batch)
	}
}

// addBatch joins all that is going; an empty batch is none.
func (p *Plan) addBatch(batch Condemned) {
	if len(batch.Packs) == 0 {
		return
	}
	for i, other := range p.Next.Condemned {
		if batch.Going && other.Going {
			p.Next.Condemned[i].Packs = append(other.Packs, batch.Packs...)
			p.Next.Condemned[i].Since = max(other.Since, batch.Since)
			return
		}
	}
	p.Next.Condemned = append(p.Next.Condemned, batch)
}

// condemn is P1 and P2: packs of settled sessions that keep no chunk of a live
// point, whether a segment lists them or not.
func (p *Plan) condemn(m *Marker) {
	s := p.survey
	batch := Condemned{Since: s.listing.Ledger.Number + 1, Covered: s.covered()}
	for _, pack := range s.listing.Packs {
		owner, _, err := ParsePack(pack)
		if err != nil || s.listing.Ledger.IsCondemned(pack) || !s.IsSettled(owner) || p.isNeeded(m, pack) {
			continue
		}
		batch.Packs = append(batch.Packs, pack)
		if !s.listed[pack] {
			p.Unlisted++
		}
	}
	p.Condemn = batch.Packs
	p.sayAll("P2", batch.Packs, "no live point needs it")
	p.addBatch(batch)
}

func (p *Plan) isNeeded(m *Marker, pack string) bool {
	_, live := m.live[pack]
	return live || m.rescued[pack]
}

func (p *Plan) say(rule, object, why string) {
	p.Reasons = append(p.Reasons, Reason{Rule: rule, Object: object, Why: why})
}

func (p *Plan) sayAll(rule string, objects []string, why string) {
	for _, object := range objects {
		p.say(rule, object, why)
	}
}
