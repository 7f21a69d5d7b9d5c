package ledger

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// SlotKind is what a round of prune found in a slot.
type SlotKind uint8

// The kinds of slots.
const (
	PointSlot      SlotKind = iota // a manifest
	RevokedSlot                    // a revocation: the session is settled and made no point
	UnreadableSlot                 // damaged: it may be a point, so it counts as one
)

// Held is a slot that is taken.
type Held struct {
	SID  SID
	Kind SlotKind
}

// Heard is a session as its records tell of it.
type Heard struct {
	SID    SID
	Beats  int       // the highest record number
	Newest time.Time // when that record was stored, by the store's clock; for Dead alone
}

// Segment is an index segment and the packs that it lists.
type Segment struct {
	Name  string
	Packs []string
}

// Listing is what one round of prune found, in this very order: the newest
// ledger entry, then LIST sessions/, commit/, forget/, then index/ with every
// segment read, then data/ and meta/. The order is load-bearing: whoever has a
// slot had a session; whoever lists a pack wrote it before.
type Listing struct {
	Ledger   *View
	Sessions []Heard
	Slots    []Held
	Forgets  []SID
	Segments []Segment
	Packs    []string
}

// Reason says why a round decided something of an object, by rule (P1 … P7, W8).
type Reason struct {
	Rule   string
	Object string
	Why    string
}

// Survey is what follows from a listing before any manifest was followed: who
// is settled, how far the horizon may go, and which points must be marked.
type Survey struct {
	Horizon uint32   // the next entry's
	Open    []Heard  // sessions without a slot, sorted
	Live    []SID    // points: not forgotten, not void. Mark them (P1)
	Remark  []SID    // forgotten points that some waiting batch does not cover. Mark them, too (P4)
	Blocked []Reason // if not empty, the round may decide nothing

	listing *Listing
	litter  bool         // a settled session left something that only a higher horizon lets go
	settled map[SID]bool // at or above the horizon, and has a slot
	below   []string     // the live points that the next horizon has passed, sorted
	openGen uint32       // the lowest of open sessions, or the ledger's number
	exists  map[string]bool
	present map[string]bool // segments
	listed  map[string]bool // packs that any segment lists
}

// Look is the first half of a round of prune.
func Look(l *Listing) *Survey {
	s := &Survey{listing: l, settled: map[SID]bool{}, exists: set(l.Packs), present: map[string]bool{}, listed: map[string]bool{}}
	for _, slot := range l.Slots {
		if slot.SID.Gen >= l.Ledger.Entry.Horizon {
			s.settled[slot.SID] = true
		}
	}
	for _, segment := range l.Segments {
		s.present[segment.Name] = true
		for _, pack := range segment.Packs {
			s.listed[pack] = true
		}
	}
	s.findOpen()
	s.Horizon = max(l.Ledger.Entry.Horizon, s.openGen)
	s.sortPoints()
	s.checkWhole()
	return s
}

// IsSettled: a session is settled once its slot is taken, by itself or by a
// revocation, or once the horizon has passed it.
func (s *Survey) IsSettled(sid SID) bool {
	return sid.Gen < s.listing.Ledger.Entry.Horizon || s.settled[sid]
}

// findOpen collects sessions that are not settled (P2, P3). A pack tells of its
// owner even if the session's record is lost: nobody is passed over for damage.
func (s *Survey) findOpen() {
	s.openGen = s.listing.Ledger.Number
	known := map[SID]bool{}
	add := func(h Heard) {
		if known[h.SID] || s.IsSettled(h.SID) {
			return
		}
		known[h.SID] = true
		s.Open = append(s.Open, h)
		s.openGen = min(s.openGen, h.SID.Gen)
	}
	for _, h := range s.listing.Sessions {
		add(h)
	}
	for _, pack := range s.listing.Packs {
		if owner, _, err := ParsePack(pack); err == nil {
			add(Heard{SID: owner, Beats: -1})
		}
	}
	slices.SortFunc(s.Open, func(a, b Heard) int { return compareSIDs(a.SID, b.SID) })
}

func compareSIDs(a, b SID) int {
	return cmp.Or(cmp.Compare(a.Gen, b.Gen), strings.Compare(a.Src, b.Src), strings.Compare(a.Rand, b.Rand))
}

// sortPoints tells the points to mark from the rest. A void slot counts for
// nothing. A forgotten one is marked while a waiting batch does not cover it:
// an open session may have reused what only its map names (P4: forgotten or
// not), and once the horizon has passed it the slot will be gone.
func (s *Survey) sortPoints() {
	forgotten := s.forgotten()
	covers := s.coverage()
	for _, slot := range s.listing.Slots {
		live := slot.Kind != RevokedSlot && !forgotten[slot.SID]
		s.litter = s.litter || !live && slot.SID.Gen == s.Horizon && s.Horizon == s.listing.Ledger.Number
		switch {
		case slot.Kind == RevokedSlot || s.listing.Ledger.IsVoid(slot.SID):
		case live:
			s.Live = append(s.Live, slot.SID)
		case !covers(slot.SID):
			s.Remark = append(s.Remark, slot.SID)
		}
	}
	slices.SortFunc(s.Live, compareSIDs)
	slices.SortFunc(s.Remark, compareSIDs)
	for _, sid := range s.Live {
		if sid.Gen < s.Horizon {
			s.below = append(s.below, sid.String())
		}
	}
	slices.Sort(s.below)
}

func (s *Survey) forgotten() map[SID]bool {
	sids := make(map[SID]bool, len(s.listing.Forgets))
	for _, sid := range s.listing.Forgets {
		sids[sid] = true
	}
	return sids
}

// coverage tells whether every waiting batch covers a slot. Slots below the
// horizon are covered by all: no entry moves the horizon without having marked
// what it passes.
func (s *Survey) coverage() func(SID) bool {
	entry := s.listing.Ledger.Entry
	var covered []map[string]bool
	for _, batch := range entry.Condemned {
		if !batch.Going {
			covered = append(covered, set(batch.Covered))
		}
	}
	return func(sid SID) bool {
		if sid.Gen < entry.Horizon {
			return true
		}
		name := sid.String()
		for _, c := range covered {
			if !c[name] {
				return false
			}
		}
		return true
	}
}

// checkWhole blocks a round that does not see everything it must mark: a live
// point that cannot be read, one that the ledger names but whose slot is gone,
// a run that is not there (once a repair has listed every pack anew, the ledger
// may forget that run).
func (s *Survey) checkWhole() {
	forgotten := s.forgotten()
	for _, slot := range s.listing.Slots {
		if slot.Kind == UnreadableSlot && !forgotten[slot.SID] && !s.listing.Ledger.IsVoid(slot.SID) {
			s.block("P1", CommitName(slot.SID), "its manifest cannot be read: repair it, or forget the point")
		}
	}
	for _, text := range s.listing.Ledger.Entry.Points {
		if _, found := slices.BinarySearch(s.below, text); found {
			continue
		}
		if sid, err := ParseSID(text); err == nil && !forgotten[sid] {
			s.block("P1", CommitName(sid), "the ledger names the point and its slot is gone: bring it back, or forget the point")
		}
	}
	pack, found := s.unlistedPack()
	for _, run := range s.listing.Ledger.Entry.Runs {
		if found && !s.present[run] {
			s.block("P1", run, "a run that the ledger names is gone, and no segment lists "+pack+": repair the index")
		}
	}
}

// unlistedPack finds a pack of a settled session that no segment lists.
func (s *Survey) unlistedPack() (string, bool) {
	for _, pack := range s.listing.Packs {
		if owner, _, err := ParsePack(pack); err == nil && !s.listed[pack] && s.IsSettled(owner) {
			return pack, true
		}
	}
	return "", false
}

func (s *Survey) block(rule, object, why string) {
	s.Blocked = append(s.Blocked, Reason{Rule: rule, Object: object, Why: why})
}

// String tells the survey in a line, for logs.
func (s *Survey) String() string {
	return fmt.Sprintf("ledger %d: %d live points, %d to mark again, %d open sessions, horizon %d", s.listing.Ledger.Number, len(s.Live), len(s.Remark), len(s.Open), s.Horizon)
}
