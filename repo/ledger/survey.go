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
	SID  Packed
	Kind SlotKind
}

// Heard is a session as its heartbeats tell of it.
type Heard struct {
	SID    SID
	Beats  int       // the highest heartbeat's number; 0: only its record; -1: not even that
	Newest time.Time // when that object was stored, by the store's clock; for Dead alone
}

// Enrolled is a session by its number in the roll.
type Enrolled struct {
	Number uint32
	SID    Packed
}

// Segment is an index segment and the packs that it lists.
type Segment struct {
	Name  string
	Packs []string
}

// Listing is what one round of prune found, in this very order: the newest
// ledger entry, then the roll, slots, tombstones, then segments, each of them
// read, then packs. The order is load-bearing: whoever has a slot had a session;
// whoever lists a pack wrote it before.
//
// A LIST may hide anything. So these are found by name: the ledger entry, the
// whole roll from where the entry says it begins, the slots of its sessions and of
// the points that the entry names, the entry's runs, and each pack that a segment
// lists. Of everything else the LISTs may tell less than there is.
type Listing struct {
	Ledger   *View
	Roll     []Enrolled // what could be read of it, sorted
	RollEnd  uint32     // the first free number
	Sessions []Heard    // heard of otherwise: heartbeats
	Slots    []Held
	Forgets  Pile // Look sorts it
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
	Roll    uint32   // where the next entry's roll begins
	Open    []Heard  // sessions without a slot, sorted
	Live    Pile     // points: not forgotten, not void. Mark them (P1)
	Remark  Pile     // forgotten points that some waiting batch does not cover. Mark them, too (P4)
	Blocked []Reason // if not empty, the round may decide nothing

	listing *Listing
	litter  bool            // a settled session left something that only a higher horizon lets go
	settled map[Packed]bool // at or above the horizon, and has a slot
	below   Pile            // the live points that the next horizon has passed, sorted
	openGen uint32          // the lowest of open sessions, or the ledger's number
	exists  map[string]bool
	present map[string]bool // segments
	listed  map[string]bool // packs that any segment lists
}

// Look is the first half of a round of prune.
func Look(l *Listing) *Survey {
	l.Forgets.Sort()
	s := &Survey{listing: l, settled: map[Packed]bool{}, exists: set(l.Packs), present: map[string]bool{}, listed: map[string]bool{}}
	for _, slot := range l.Slots {
		if slot.SID.Gen() >= l.Ledger.Entry.Horizon {
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
	s.Roll = s.rollStart()
	s.sortPoints()
	s.checkWhole()
	return s
}

// IsSettled: a session is settled once its slot is taken, by itself or by a
// revocation, or once the horizon has passed it.
func (s *Survey) IsSettled(sid SID) bool {
	return sid.Gen < s.listing.Ledger.Entry.Horizon || s.settled[sid.Pack()]
}

// rollStart is the first number of the roll that the next horizon has not passed.
func (s *Survey) rollStart() uint32 {
	start := s.listing.RollEnd
	for _, e := range s.listing.Roll {
		if e.SID.Gen() >= s.Horizon {
			start = min(start, e.Number)
		}
	}
	return max(start, s.listing.Ledger.Entry.Roll)
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
	for _, e := range s.listing.Roll {
		add(Heard{SID: e.SID.SID()})
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
	covers := s.coverage()
	s.Live = make(Pile, 0, len(s.listing.Slots))
	for _, slot := range s.listing.Slots {
		live := slot.Kind != RevokedSlot && !s.listing.Forgets.Has(slot.SID)
		s.litter = s.litter || !live && slot.SID.Gen() == s.Horizon && s.Horizon == s.listing.Ledger.Number
		switch {
		case slot.Kind == RevokedSlot || s.listing.Ledger.Voids(slot.SID):
		case live:
			s.Live = append(s.Live, slot.SID)
		case !covers(slot.SID):
			s.Remark = append(s.Remark, slot.SID)
		}
	}
	s.Live.Sort()
	s.Remark.Sort()
	below := 0
	for below < len(s.Live) && s.Live[below].Gen() < s.Horizon {
		below++
	}
	if below > 0 {
		s.below = s.Live[:below:below]
	}
}

// coverage tells whether every waiting batch covers a slot. Slots below the
// horizon are covered by all: no entry moves the horizon without having marked
// what it passes.
func (s *Survey) coverage() func(Packed) bool {
	entry := s.listing.Ledger.Entry
	var covered []map[string]bool
	for _, batch := range entry.Condemned {
		if !batch.Going {
			covered = append(covered, set(batch.Covered))
		}
	}
	return func(sid Packed) bool {
		if sid.Gen() < entry.Horizon {
			return true
		}
		name := sid.SID().String()
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
	forgotten := s.listing.Forgets
	for _, slot := range s.listing.Slots {
		if slot.Kind == UnreadableSlot && !forgotten.Has(slot.SID) && !s.listing.Ledger.Voids(slot.SID) {
			s.block("P1", CommitName(slot.SID.SID()), "its manifest cannot be read: repair it, or forget the point")
		}
	}
	for _, packed := range s.listing.Ledger.Entry.Points {
		if !s.below.Has(packed) && !forgotten.Has(packed) {
			s.block("P1", CommitName(packed.SID()), "the ledger names the point and its slot is gone: bring it back, or forget the point")
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
