package ledger

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func sidOf(gen uint32, n int) SID {
	return SID{Gen: gen, Src: "00000000000000aa", Rand: fmt.Sprintf("%016x", n)}
}

func packOf(sid SID, n byte) string { return PackName(Data, sid, [16]byte{n}) }

func viewOf(t testing.TB, number uint32, e Entry) *View {
	t.Helper()
	v, err := NewView(number, &e)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestViewAnswersAsTheEntryDoes, whatever the order of its lists.
func TestViewAnswersAsTheEntryDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sid := rapid.Custom(func(t *rapid.T) SID {
			return sidOf(rapid.Uint32Range(0, 3).Draw(t, "gen"), rapid.IntRange(0, 3).Draw(t, "n"))
		})
		e := Entry{Horizon: rapid.Uint32Range(0, 4).Draw(t, "horizon")}
		for _, s := range rapid.SliceOf(sid).Draw(t, "points") {
			e.Points.Add(s)
		}
		v, err := NewView(7, &e)
		if err != nil {
			t.Fatal(err)
		}
		if s := sid.Draw(t, "sid"); v.IsVoid(s) != e.IsVoid(s) {
			t.Fatalf("%v: %v, not %v", s, v.IsVoid(s), e.IsVoid(s))
		}
	})
}

func TestLedgerWithAMalformedPointIsRefused(t *testing.T) {
	if _, err := Decode[Entry]([]byte(`{"version":1,"points":["x"]}`)); !errors.Is(err, ErrName) {
		t.Errorf("%v", err)
	}
}

// TestPacksAreReusedByRule (W5).
func TestPacksAreReusedByRule(t *testing.T) {
	old, young := sidOf(1, 1), sidOf(2, 1)
	v := viewOf(t, 2, Entry{Horizon: 2, Condemned: []Condemned{{Since: 2, Packs: []string{packOf(young, 9), packOf(old, 9)}}}})
	for _, c := range []struct {
		owner SID
		pack  byte
		inRun bool
		want  bool
	}{
		{young, 1, false, true},
		{old, 1, true, true},
		{old, 1, false, false}, // a stale segment lists it
		{young, 9, false, false},
		{old, 9, true, false},
	} {
		if got := v.MayReuse(packOf(c.owner, c.pack), c.owner, c.inRun); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// world is a repository with one live point, one forgotten, one open session.
func world(t testing.TB) *Listing {
	kept, dropped, open := sidOf(1, 1), sidOf(1, 2), sidOf(3, 3)
	l := &Listing{
		Ledger:   viewOf(t, 4, Entry{Horizon: 1}),
		Roll:     []Enrolled{{7, kept.Pack()}, {8, open.Pack()}, {9, dropped.Pack()}},
		RollEnd:  10,
		Sessions: []Heard{{SID: open, Beats: 5}},
		Slots:    []Held{{SID: kept.Pack()}, {SID: dropped.Pack()}},
		Forgets:  PileOf(dropped),
	}
	for _, sid := range []SID{kept, dropped, open} {
		l.Packs = append(l.Packs, packOf(sid, 1))
		l.Segments = append(l.Segments, Segment{Name: IndexName(sid, 0), Packs: []string{packOf(sid, 1)}})
	}
	return l
}

// TestRoundCondemnsWhatNobodyNeeds, moves the horizon to the oldest open
// session, and names what is below.
func TestRoundCondemnsWhatNobodyNeeds(t *testing.T) {
	l := world(t)
	s := Look(l)
	if len(s.Open) != 1 || s.Horizon != 3 || len(s.Live) != 1 || len(s.Blocked) != 0 {
		t.Fatalf("%v %+v", s, s.Blocked)
	}
	m := s.Marker()
	m.Live(10, []string{packOf(sidOf(1, 1), 1)})
	p := m.Decide(nil)
	if want := []string{packOf(sidOf(1, 2), 1)}; !slices.Equal(p.Condemn, want) || p.Next.Condemned[0].Since != 5 || p.Next.Condemned[0].Going {
		t.Errorf("condemned %+v", p.Next.Condemned)
	}
	if want := PileOf(sidOf(1, 1)); !slices.Equal(p.Next.Points, want) {
		t.Errorf("points %v", p.Next.Points)
	}
	if want := []string{packOf(sidOf(1, 1), 1)}; !slices.Equal(p.Run, want) || len(p.Next.Superseded) > 0 {
		t.Errorf("run %v superseded %v", p.Run, p.Next.Superseded)
	}
	p.WithRuns([]string{IndexName(sidOf(4, 9), 0)})
	if want := []string{IndexName(sidOf(1, 1), 0)}; !slices.Equal(p.Next.Superseded, want) {
		t.Errorf("superseded %v: the condemned pack may yet be rescued", p.Next.Superseded)
	}
	if p.Next.Roll != 8 {
		t.Errorf("the roll begins at %d: number 8 is the first that the horizon has not passed", p.Next.Roll)
	}
	if !slices.Equal(p.Next.Open, []Open{{SID: sidOf(3, 3).String(), Beats: 0}}) || !p.Changed || len(p.Reasons) == 0 {
		t.Errorf("%+v", p.Next)
	}
}

// TestHorizonAloneIsNoNews: an entry is written for what the horizon passes, or could
// pass with the next number, and not for the number's sake.
func TestHorizonAloneIsNoNews(t *testing.T) {
	for gen, want := range map[uint32]bool{0: false, 1: false, 2: true, 3: true, 4: false} {
		sid := sidOf(gen, 1)
		for what, l := range map[string]*Listing{
			"revocation": {Slots: []Held{{SID: sid.Pack(), Kind: RevokedSlot}}},
			"tombstone":  {Forgets: PileOf(sid)},
		} {
			l.Ledger, l.RollEnd = viewOf(t, 4, Entry{Horizon: 2, Roll: 5}), 5
			p := Look(l).Marker().Decide(nil)
			if litter := gen == 4 && len(l.Slots) > 0; p.Next.Horizon != 4 || p.Changed != (want || litter) {
				t.Errorf("%s of generation %d: changed %v, %+v", what, gen, p.Changed, p.Next)
			}
		}
	}
}

// TestRollBeginsAboveWhatIsSettledAlone: never lower than before, not beyond who is
// open, whatever of it cannot be read.
func TestRollBeginsAboveWhatIsSettledAlone(t *testing.T) {
	for _, c := range []struct {
		roll []Enrolled
		old  uint32
		want uint32
	}{
		{nil, 0, 20}, {nil, 20, 20}, {nil, 21, 21}, // the last: what is read never ends below
		{[]Enrolled{{3, sidOf(4, 1).Pack()}}, 0, 3},
		{[]Enrolled{{3, sidOf(0, 1).Pack()}, {4, sidOf(4, 2).Pack()}, {5, sidOf(0, 3).Pack()}}, 0, 4},
		{[]Enrolled{{3, sidOf(0, 1).Pack()}}, 2, 20},
	} {
		l := &Listing{Ledger: viewOf(t, 4, Entry{Horizon: 1, Roll: c.old}), Roll: c.roll, RollEnd: 20}
		for _, e := range c.roll {
			l.Slots = append(l.Slots, Held{SID: e.SID, Kind: RevokedSlot})
		}
		if s := Look(l); s.Roll != c.want {
			t.Errorf("%+v: the roll begins at %d", c, s.Roll)
		}
	}
}

// TestRoundThatDoesNotSeeEverythingDecidesNothing: not with a manifest that is
// damaged, a slot or a run that is gone, a chunk that no segment lists.
func TestRoundThatDoesNotSeeEverythingDecidesNothing(t *testing.T) {
	kept := packOf(sidOf(1, 1), 1)
	for name, c := range map[string]struct {
		spoil func(*Listing)
		mark  func(*Marker)
	}{
		"unreadable manifest": {spoil: func(l *Listing) { l.Slots[0].Kind = UnreadableSlot }},
		"slot gone":           {spoil: func(l *Listing) { l.Ledger.Entry.Points = PileOf(sidOf(0, 7)) }},
		"run gone": {spoil: func(l *Listing) {
			l.Ledger.Entry.Runs = []string{IndexName(sidOf(0, 7), 1)}
			l.Segments = l.Segments[:1]
		}},
		"chunk in no pack":     {mark: func(m *Marker) { m.Live(1, nil) }},
		"chunk in a lost pack": {mark: func(m *Marker) { m.Live(1, []string{packOf(sidOf(1, 9), 9)}) }},
		"map cut short":        {mark: func(m *Marker) { m.Lost(true) }},
	} {
		l := world(t)
		if c.spoil != nil {
			c.spoil(l)
		}
		m := Look(l).Marker()
		m.Live(10, []string{kept})
		if c.mark != nil {
			c.mark(m)
		}
		p := m.Decide(nil)
		p.WithRuns([]string{"index/x"})
		if len(p.Condemn)+len(p.Go)+len(p.Run)+len(p.Next.Condemned) > 0 || p.Next.Horizon != 1 || p.Next.Roll != 0 || len(p.Reasons) == 0 {
			t.Errorf("%s: %+v", name, p.Next)
		}
		if len(p.Next.Open) != 1 || !p.Changed {
			t.Errorf("%s: open sessions are not noted: %+v", name, p.Next)
		}
	}
}

// TestRunThatIsGoneIsForgottenOnceEveryPackIsListedAgain: a repaired index must
// not block every prune to come.
func TestRunThatIsGoneIsForgottenOnceEveryPackIsListedAgain(t *testing.T) {
	l := world(t)
	l.Ledger.Entry.Runs = []string{IndexName(sidOf(0, 7), 1)}
	m := Look(l).Marker()
	m.Live(10, []string{packOf(sidOf(1, 1), 1)})
	if p := m.Decide(nil); len(p.Next.Runs) != 0 || len(p.Condemn) != 1 {
		t.Errorf("%+v %+v", p.Next, p.Reasons)
	}
}

// TestMapOfAForgottenPointThatIsLostRescuesEverything that waits: who knows
// what an open session took from it.
func TestMapOfAForgottenPointThatIsLostRescuesEverything(t *testing.T) {
	l := world(t)
	dead := packOf(sidOf(1, 2), 1)
	l.Ledger = viewOf(t, 4, Entry{Horizon: 1, Condemned: []Condemned{{Since: 4, Packs: []string{dead}}}})
	s := Look(l)
	if len(s.Remark) != 1 {
		t.Fatalf("%v", s)
	}
	m := s.Marker()
	m.Live(10, []string{packOf(sidOf(1, 1), 1)})
	m.Lost(false)
	if p := m.Decide(nil); !slices.Equal(p.Rescue, []string{dead}) || len(p.Go) > 0 {
		t.Errorf("%+v", p)
	}
}

// TestYoungestCopyIsKept, so that a repack wins, but no condemned pack is ever
// a holder while another is there.
func TestYoungestCopyIsKept(t *testing.T) {
	oldPack, copied := packOf(sidOf(1, 1), 1), packOf(sidOf(3, 3), 1)
	m := Look(world(t)).Marker()
	m.Live(1, []string{oldPack, copied})
	m.Live(1, []string{copied, oldPack})
	if m.live[copied].Bytes != 2 || len(m.live) != 1 {
		t.Errorf("%v", m.live)
	}
	l := world(t)
	l.Ledger = viewOf(t, 4, Entry{Condemned: []Condemned{{Since: 4, Packs: []string{copied}}}})
	m = Look(l).Marker()
	m.Live(1, []string{oldPack, copied})
	if m.live[oldPack].Bytes != 1 {
		t.Errorf("%v", m.live)
	}
	if !MayRepack(sidOf(1, 1), 2) || MayRepack(sidOf(2, 1), 2) {
		t.Error("a copy that would not win")
	}
}

// TestSessionsDieByLockOrByTwoSigns, never by a clock alone.
func TestSessionsDieByLockOrByTwoSigns(t *testing.T) {
	begin := time.Unix(1000, 0)
	h := Heard{SID: sidOf(1, 1), Beats: 2, Newest: begin}
	seen := viewOf(t, 1, Entry{Open: []Open{{SID: h.SID.String(), Beats: 2}}})
	moved := viewOf(t, 1, Entry{Open: []Open{{SID: h.SID.String(), Beats: 1}}})
	never := viewOf(t, 1, Entry{})
	late := Patience{DeadAfter: time.Hour, StoreNow: begin.Add(2 * time.Hour)}
	for i, c := range []struct {
		before *View
		lock   Lock
		p      Patience
		want   bool
	}{
		{never, LockFree, Patience{}, true},
		{seen, LockHeld, late, false},
		{seen, LockUnknown, late, true},
		{moved, LockUnknown, late, false},
		{never, LockUnknown, late, false},
		{seen, LockUnknown, Patience{DeadAfter: time.Hour, StoreNow: begin.Add(time.Hour)}, false},
		{seen, LockUnknown, Patience{StoreNow: begin.Add(1000 * time.Hour)}, false},
		{seen, LockUnknown, Patience{DeadAfter: time.Hour, StoreNow: begin.Add(-time.Hour)}, false},
	} {
		if why, got := IsDead(h, c.before, c.lock, c.p); got != c.want || got != (why != "") {
			t.Errorf("%d: %v %q", i, got, why)
		}
	}
}

// TestOnlyWhatTheLedgerLetsGoIsRemoved (P6, P7).
func TestOnlyWhatTheLedgerLetsGoIsRemoved(t *testing.T) {
	point, void, young := sidOf(1, 1), sidOf(1, 2), sidOf(2, 3)
	v := viewOf(t, 3, Entry{
		Horizon: 2, Roll: 5, Points: PileOf(point), Runs: []string{IndexName(young, 1)}, Superseded: []string{IndexName(void, 0), IndexName(young, 1)},
		Condemned: []Condemned{{Since: 3, Packs: []string{packOf(void, 1)}}, {Since: 2, Packs: []string{packOf(void, 2)}, Going: true}},
	})
	gone := []string{packOf(void, 2), IndexName(void, 0), CommitName(void), ForgetName(void), ConfirmName(void), LabelName(void, 3), RollName(0), RollName(4), BeatName(point, 7)}
	stays := []string{
		packOf(void, 1), packOf(point, 1), IndexName(point, 0), IndexName(young, 1), CommitName(point), ForgetName(point), ConfirmName(point), LabelName(point, 0),
		CommitName(young), ForgetName(young), RollName(5), RollName(1 << 31), BeatName(young, 1), LedgerName(0), Spare(LedgerName(2)), Spare(LedgerName(3)), Spare(LedgerName(4)), "config", "spare/config", "keys/0123456789abcdef", "quarantine/x", "commit/x", "index/x", "",
	}
	for _, name := range gone {
		if !v.MayRemove(name) {
			t.Errorf("%s stays", name)
		}
	}
	for _, name := range stays {
		if v.MayRemove(name) {
			t.Errorf("%s goes", name)
		}
	}
	if !v.MayRemove(Spare(LedgerName(1))) { // at the very end: not in the order of what sessions left
		t.Error("the spare of an old entry stays")
	}
	for _, name := range gone {
		if !slices.ContainsFunc(RemovalOrder(), func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			t.Errorf("%s has no place in the order", name)
		}
	}
}

// TestRunsStayFew: however many prunes add a run, their number is logarithmic,
// and a big run is not rewritten for a small one.
func TestRunsStayFew(t *testing.T) {
	var runs []RunSize
	written := 0
	for i := range 1000 {
		fresh := RunSize{Name: fmt.Sprintf("index/%04d", i), Packs: 10}
		merge := set(PickRuns(runs, fresh.Packs))
		runs = slices.DeleteFunc(runs, func(r RunSize) bool {
			if merge[r.Name] {
				fresh.Packs += r.Packs
			}
			return merge[r.Name]
		})
		runs = append(runs, fresh)
		written += fresh.Packs
	}
	if len(runs) > 6 || written > 10*1000*40 {
		t.Errorf("%d runs, %d packs written for %d", len(runs), written, 10*1000)
	}
	if got := PickRuns([]RunSize{{"a", 100, 26}, {"b", 1000, 250}}, 0); !slices.Equal(got, []string{"a"}) {
		t.Errorf("rewritten: %v", got)
	}
}

// BenchmarkRound decides over 500,000 points of 40,000 packs.
func BenchmarkRound(b *testing.B) {
	e := Entry{Horizon: 1}
	l := &Listing{}
	run := Segment{Name: IndexName(sidOf(0, 1), 1)}
	for i := range 500_000 {
		sid := sidOf(0, i)
		e.Points.Add(sid)
		l.Slots = append(l.Slots, Held{SID: sid.Pack()})
		if i < 40_000 {
			run.Packs = append(run.Packs, packOf(sid, 1))
		}
	}
	e.Runs, l.Packs, l.Segments = []string{run.Name}, run.Packs, []Segment{run}
	l.Ledger = viewOf(b, 1, e)
	b.ReportAllocs()
	for b.Loop() {
		m := Look(l).Marker()
		for _, pack := range l.Packs[:20_000] {
			m.Live(1, []string{pack})
		}
		if p := m.Decide(nil); len(p.Condemn) != 20_000 {
			b.Fatal(len(p.Condemn))
		}
	}
}
