package ledger

import (
	"os"
	"strings"
	"testing"
	"time"
)

// mutation is one rule of the protocol broken.
type mutation string

const (
	intact                mutation = ""
	noSession             mutation = "W2: no session record"
	listsBeforeSession    mutation = "W2: the ledger and all lists are read before the session record is written, and W3 is left out"
	sessionKept           mutation = "W3: the session is kept although the generation moved"
	parentsOfAnOldLedger  mutation = "W4: a parent is judged by the ledger that the session began with"
	ledgerBeforeTombs     mutation = "W4: the ledger is read before the tombstones, not after"
	reuseWhateverIsListed mutation = "W5: a pack below the horizon is reused though no run lists it"
	segmentBeforePack     mutation = "W6: the segment before the pack"
	slotNotExclusive      mutation = "W7: the slot is overwritten"
	noW8                  mutation = "W8: success is reported without looking at the ledger"
	sessionsAreListed     mutation = "P1: sessions are those that a listing shows"
	tombsAreListed        mutation = "W4: a parent is not forgotten if no listing shows its tombstone"
	hiddenIsGone          mutation = "P5: a pack that a listing hides is gone"
	shownIsThere          mutation = "P4: a pack that a listing shows is there"
	rollOffByOne          mutation = "P2: the roll begins one too high"
	rollCutEarly          mutation = "P7: the record of a session goes before the roll begins above it"
	listsBeforeLedger     mutation = "P1: everything is listed before the ledger is read"
	packsBeforeIndex      mutation = "P1: packs are listed before segments"
	ledgerNotExclusive    mutation = "P2: the ledger is overwritten"
	horizonOffByOne       mutation = "P2: the horizon is one too high"
	noHorizonPoints       mutation = "P2: points that the horizon passes are not named while a session is open"
	noWait                mutation = "P3: batches do not wait"
	offByOne              mutation = "P3: batches wait for one generation too few"
	deadWithoutRevocation mutation = "P3: silence alone makes a session dead"
	noRemark              mutation = "P4: nothing is marked again"
	remarkSkipsForgotten  mutation = "P4: forgotten points are not marked again"
	remarkOnlyWhatGoes    mutation = "P4: forgotten points are marked again only when a batch may go"
	condemnedIsHolder     mutation = "P4: a condemned pack counts as a holder"
	deleteBeforeLedger    mutation = "P5: packs are deleted before the ledger says so"
	namesDroppedEarly     mutation = "P5: going packs leave the ledger while a run lists them"
	slotsWithoutHorizon   mutation = "P7: slots and tombstones are deleted above the horizon"
	copyNotDurable        mutation = "repack: the old pack is condemned before the copy is durable"
	copyNotListed         mutation = "repack: the old pack is condemned before a segment lists the copy"
	runWithoutPacks       mutation = "compaction: a segment is superseded and its packs are not in the run"
	runNotDurable         mutation = "compaction: the run is named before it is durable"
	supersedesEverything  mutation = "compaction: a segment is superseded that lists packs in no run"
	readerGivesUp         mutation = "reader: no second look at ledger and index"
)

// The whole protocol, bounded. Every configuration is searched to its end.
var everyDay = []config{
	{name: "2 writers, 1 pruner", writers: 2, pruners: 1, rounds: 2, forgets: 1, revokes: 1, lost: true},
	{name: "1 writer, 1 pruner, a late duplicate, an aged point", writers: 1, pruners: 1, rounds: 3, dups: 1, forgets: 1, revokes: 1, fine: true, aged: true},
	{name: "1 writer, 2 pruners", writers: 1, pruners: 2, rounds: 1, forgets: 1, revokes: 1, dups: 1, lost: true},
	{name: "1 writer, 1 pruner, a reader, repack, compaction", writers: 1, pruners: 1, rounds: 3, forgets: 1, revokes: 1, repack: true, merge: true, reader: true, fine: true, aged: true},
	{name: "2 pruners, repack, compaction", pruners: 2, rounds: 2, forgets: 1, repack: true, merge: true, aged: true},
	{name: "a zombie, 1 writer, 1 pruner, a late duplicate", writers: 2, pruners: 1, rounds: 3, dups: 1, fine: true, lost: true, start: zombie},
	{name: "reuse of what is condemned, 1 pruner", writers: 2, pruners: 1, rounds: 2, dups: 1, forgets: 1, revokes: 1, lost: true, start: reused},
	{name: "a zombie, the newest entry asked", writers: 2, pruners: 1, rounds: 4, newestLedger: true, start: zombie},
	{name: "2 writers, 1 pruner, the newest entry asked", writers: 2, pruners: 1, rounds: 2, forgets: 1, revokes: 1, newestLedger: true},
	{name: "1 writer, 1 pruner, lies, an aged point", writers: 1, pruners: 1, rounds: 3, forgets: 1, revokes: 1, aged: true, lies: true},
	{name: "reuse of what is condemned, lies", writers: 1, pruners: 1, rounds: 3, forgets: 1, revokes: 1, lies: true, start: reused},
	{name: "a pack that is long gone, lies", writers: 2, pruners: 1, rounds: 2, forgets: 1, lies: true, start: longGone},
	{name: "a forgotten parent, lies", writers: 1, pruners: 1, rounds: 2, lies: true, start: forgottenParent},
	{name: "reuse of what was reused, 2 pruners", writers: 2, pruners: 2, rounds: 1, dups: 1, revokes: 1, merge: true, start: reusedAgain},
}

// For HOLDFAST_LONG=1, each up to longStates.
var nightly = []config{
	{name: "2 writers, 1 pruner, lies", writers: 2, pruners: 1, rounds: 2, forgets: 1, lies: true},
	{name: "reuse of what is condemned, 2 writers, lies", writers: 2, pruners: 1, rounds: 2, forgets: 1, lies: true, start: reused},
	{name: "2 writers, 1 pruner, lies, late duplicates", writers: 2, pruners: 1, rounds: 2, dups: 1, forgets: 1, revokes: 1, lost: true, lies: true, aged: true},
	{name: "1 writer, 2 pruners, lies, repack, compaction", writers: 1, pruners: 2, rounds: 2, forgets: 1, repack: true, merge: true, lies: true, aged: true},
	{name: "a pack that is long gone, more lies", writers: 2, pruners: 1, rounds: 3, forgets: 1, lies: true, start: longGone},
	{name: "a forgotten parent, more lies", writers: 1, pruners: 1, rounds: 3, forgets: 1, revokes: 1, lies: true, start: forgottenParent},
	{name: "a zombie, lies", writers: 2, pruners: 1, rounds: 3, lies: true, start: zombie},
	{name: "2 writers, 1 pruner, everything", writers: 2, pruners: 1, rounds: 3, dups: 1, forgets: 2, revokes: 1, lost: true, fine: true, repack: true, merge: true, aged: true},
	{name: "1 writer, 2 pruners, repack, compaction", writers: 1, pruners: 2, rounds: 1, forgets: 1, repack: true, merge: true, aged: true},
	{name: "2 writers, 2 pruners", writers: 2, pruners: 2, rounds: 1, forgets: 1, revokes: 1},
	{name: "3 writers, 1 pruner", writers: 3, pruners: 1, rounds: 2, forgets: 1},
	{name: "3 writers between two entries, 1 pruner", writers: 3, pruners: 1, rounds: 3, forgets: 1, revokes: 1, start: threeParties},
	{name: "1 writer, 2 pruners, everything", writers: 1, pruners: 2, rounds: 2, dups: 1, forgets: 1, revokes: 1, lost: true, fine: true, repack: true, merge: true, aged: true},
	{name: "a zombie, 1 writer, 2 pruners", writers: 2, pruners: 2, rounds: 2, dups: 1, forgets: 1, fine: true, start: zombie},
}

const longStates = 30_000_000

// TestProtocolModel (T3): no state breaks a promise. HOLDFAST_LONG=1 adds the
// nightly configurations.
func TestProtocolModel(t *testing.T) {
	total := 0
	for _, cfg := range everyDay {
		total += search(t, cfg, 1<<31)
	}
	if os.Getenv("HOLDFAST_LONG") == "1" {
		for _, cfg := range nightly {
			total += search(t, cfg, longStates)
		}
	}
	t.Logf("%d states in all", total)
}

func search(t *testing.T, cfg config, limit int) int {
	t.Helper()
	begin := time.Now()
	m := newModel(cfg, intact)
	states, broken, trace := m.run(limit)
	extent := "all of them"
	if states >= limit {
		extent = "cut there"
	}
	t.Logf("%-54s %9d states, %s; %d decisions, %d entries, %d tried for garbage, %v",
		cfg.name, states, extent, len(m.plans), len(m.entries), m.closed, time.Since(begin).Round(time.Millisecond))
	if broken != "" {
		t.Fatalf("%s: %s:\n%s", cfg.name, broken, strings.Join(trace, "\n"))
	}
	return states
}

// The smallest worlds in which each mutation shows.
var (
	twoWriters = config{name: "2 writers", writers: 2, pruners: 1, rounds: 2, forgets: 1}
	alone      = config{name: "1 writer, repack, compaction, reader", writers: 1, pruners: 1, rounds: 3, forgets: 1, revokes: 1, repack: true, merge: true, reader: true, aged: true}
	late       = config{name: "reuse, a late duplicate", writers: 2, pruners: 1, rounds: 2, forgets: 1, dups: 1, revokes: 1, start: reused}
	undead     = config{name: "a zombie", writers: 2, pruners: 1, rounds: 4, fine: true, start: zombie}
	rivals     = config{name: "1 writer, 2 pruners", writers: 1, pruners: 2, rounds: 2, forgets: 1}
	three      = config{name: "3 writers", writers: 3, pruners: 1, rounds: 3, forgets: 1, revokes: 1, start: threeParties}
	rivalStart = config{name: "2 writers, 2 pruners", writers: 2, pruners: 2, rounds: 1, forgets: 1, start: reused}
)

// And those in which listings lie.
var (
	liars       = config{name: "2 writers, lies", writers: 2, pruners: 1, rounds: 2, forgets: 1, lies: true}
	liarsFew    = config{name: "1 writer, lies", writers: 1, pruners: 1, rounds: 2, lies: true}
	liarsParent = config{name: "a forgotten parent, lies", writers: 1, pruners: 1, rounds: 2, lies: true, start: forgottenParent}
	liarsAlone  = config{name: "1 writer, lies, repack, compaction", writers: 1, pruners: 1, rounds: 4, forgets: 1, revokes: 1, repack: true, merge: true, lies: true, aged: true}
	liarsPast   = config{name: "a pack that is long gone, lies", writers: 2, pruners: 1, rounds: 2, lies: true, start: longGone}
)

// TestEveryMutationIsCaught: break a rule and some state breaks a promise. (A
// rule that could be broken unnoticed would be no rule, or the model no model.)
func TestEveryMutationIsCaught(t *testing.T) {
	for _, c := range []struct {
		mutation
		config
	}{
		{noSession, twoWriters}, {listsBeforeSession, twoWriters}, {sessionKept, twoWriters},
		{parentsOfAnOldLedger, late}, {ledgerBeforeTombs, late}, {reuseWhateverIsListed, undead},
		{segmentBeforePack, twoWriters}, {slotNotExclusive, alone}, {noW8, alone},
		{listsBeforeLedger, rivalStart}, {packsBeforeIndex, undead},
		{ledgerNotExclusive, rivals}, {horizonOffByOne, twoWriters}, {noHorizonPoints, twoWriters},
		{noWait, twoWriters}, {offByOne, twoWriters}, {deadWithoutRevocation, alone},
		{noRemark, alone}, {remarkSkipsForgotten, three}, {remarkOnlyWhatGoes, three}, {condemnedIsHolder, twoWriters},
		{deleteBeforeLedger, twoWriters}, {namesDroppedEarly, alone}, {slotsWithoutHorizon, late},
		{copyNotDurable, alone}, {copyNotListed, alone},
		{runWithoutPacks, twoWriters}, {runNotDurable, twoWriters}, {supersedesEverything, twoWriters},
		{readerGivesUp, alone},
		{sessionsAreListed, liars}, {tombsAreListed, liarsParent}, {hiddenIsGone, liarsAlone}, {shownIsThere, liarsPast},
		{rollOffByOne, liarsFew}, {rollCutEarly, twoWriters},
	} {
		c.config.sober = true
		m := newModel(c.config, c.mutation)
		states, broken, trace := m.run(5_000_000)
		if broken == "" {
			t.Errorf("%s: not noticed in %d states of %q", c.mutation, states, c.config.name)
			continue
		}
		t.Logf("%-100s %8d states, %2d steps, %s", c.mutation, states, len(trace), broken)
		if testing.Verbose() && os.Getenv("HOLDFAST_TRACE") != "" {
			t.Logf("\n%s", strings.Join(trace, "\n"))
		}
	}
}
