package decide

import (
	"slices"
	"testing"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/lsn"
)

// TestQ21RestoreIsToldByItsRow: a restore that kept fork and GUID is seen by its row in
// msdb, whatever the server's clock has shown, and seen once.
func TestQ21RestoreIsToldByItsRow(t *testing.T) { run(t, restores()) }

var (
	firstRestore = facts.Restore{ID: 7, At: now.AddDate(0, 0, -9), Set: set1, Type: "D"}
	laterRestore = facts.Restore{ID: 8, At: now}
)

func restores() []kase { return append(restoreRows(), restoreWitnesses()...) }

// restoreSeen lets all of ours have seen the first restore, and msdb have it changed.
func restoreSeen(edit func(*facts.Restore)) func(*world) {
	return func(w *world) {
		r := firstRestore
		w.saw(firstRestore)
		if edit != nil {
			edit(&r)
		}
		w.restore(r)
	}
}

func brokenBy(name, says string, set func(*world)) kase {
	return kase{name: "Q21 " + name, want: Log, do: Refuse, rule: "Q21", then: Full, exit: 3, says: says, set: set}
}

func goesOn(name string, set func(*world)) kase {
	return kase{name: "Q21 " + name, want: Log, do: DoLog, rule: RuleLog, set: set}
}

// restoreRows differ in what msdb's newest row is.
func restoreRows() []kase {
	first, none, seen, broken, fine := firstRestore, facts.Restore{}, restoreSeen, brokenBy, goesOn
	return []kase{
		fine("the row that our newest backup has seen", seen(nil)),
		fine("the row seen, at another offset of the clock", seen(func(r *facts.Restore) { r.At = r.At.UTC().Add(5*3600e9 + 45*60e9) })),
		fine("no row, and none seen", func(w *world) { w.saw(none) }),
		fine("msdb has no restores any more", func(w *world) { w.saw(first) }),
		broken("the first restore", "", func(w *world) { w.saw(none); w.restore(first) }),
		broken("a later row, by a clock that went back a year", "2025-11-18", seen(func(r *facts.Restore) { r.ID, r.At = 8, now.AddDate(-1, 0, 0) })),
		broken("a later row of the same second", "", seen(func(r *facts.Restore) { r.ID = 8 })),
		broken("a row of the same number and another time, as after a revert", "", seen(func(r *facts.Restore) { r.At = now })),
		broken("a row of the same number and another set", "", seen(func(r *facts.Restore) { r.Set = "OTHER" })),
		broken("a row of a smaller number, as after msdb was made anew", "lost the row", seen(func(r *facts.Restore) { r.ID = 1 })),
		{name: "Q21 differential after a restore that kept the fork", want: Diff, do: DoFull, rule: "Q21", set: seen(func(r *facts.Restore) { r.ID = 8 })},
	}
}

// restoreWitnesses differ in which backup it is that has seen one.
func restoreWitnesses() []kase {
	first, seen, broken, fine := firstRestore, restoreSeen, brokenBy, goesOn
	another := func(w *world) { // replica
		secondary(w)
		w.f.Instance.Name = "SQL02"
		w.restore(facts.Restore{ID: 900, At: now})
		w.saw(first)
	}
	return []kase{
		broken("what our last backup but one has seen is not enough", "", func(w *world) {
			later := laterRestore
			w.saw(later, later, later, first)
			w.restore(later)
		}),
		broken("a newer backup that nobody confirmed has seen it", "", func(w *world) {
			later := facts.Restore{ID: 8, At: now.AddDate(-1, 0, 0)}
			w.ours = append(w.ours, ours(chain.Full, "05", 400, 410, now))
			w.saw(first, first, first, first, later)
			w.ours[4].State = chain.Denied
			w.restore(later)
		}),
		broken("left all of ours, and a backup that nobody confirmed has seen it", "", func(w *world) {
			later := laterRestore
			w.saw(first, first, first, later)
			w.ours[3].State, w.db().Fork = chain.Denied, fork2
			w.restore(later)
		}),
		fine("a newer backup has seen it, though the clock showed less then", func(w *world) {
			later := facts.Restore{ID: 8, At: now.AddDate(1, 0, 0)}
			w.saw(first, first, first, later)
			w.restore(later)
		}),
		fine("newest is by the order of making: a log that ends further was made before", func(w *world) {
			later := laterRestore
			w.ours[2], w.ours[3] = w.ours[3], w.ours[2]
			w.saw(first, first, first, later)
			w.restore(later)
		}),
		fine("the secondary's msdb has restores of its own", another),
		broken("a restore on a replica that has made one of ours", "", func(w *world) {
			another(w)
			mine := first.Seen("SQL02")
			w.ours[1].LastRestore = &mine
		}),
		{name: "Q21 a revert that took the row back is a revert", want: Log, do: Refuse, rule: RuleReverted, then: Full, exit: 3, set: func(w *world) {
			w.saw(first)
			w.restore(facts.Restore{ID: 3, At: now.AddDate(0, 0, -20)})
			w.db().LastLog = at(200)
		}},
		{name: "Q21 dropped and made anew where an old restore is known", want: Log, do: DoFull, rule: RuleNewDatabase, then: Log, set: func(w *world) {
			seen(nil)(w)
			w.db().Family, w.db().GUID, w.db().Fork, w.db().LastLog = "FA2", "DB2", fork2, lsn.LSN{}
		}},
		fine("a point without the attribute: a restore before it", func(w *world) { w.restore(facts.Restore{ID: 1, At: w.ours[3].Finished}) }),
		broken("a point without the attribute: a restore after it", "", func(w *world) { w.restore(facts.Restore{ID: 1, At: now}) }),
	}
}

// TestRestoreIsAbandonedForOnce: the full that follows a restore has seen it, so the next
// one gives up nothing more.
func TestRestoreIsAbandonedForOnce(t *testing.T) {
	w := newWorld()
	w.saw(facts.Restore{})
	w.restore(facts.Restore{ID: 1, At: now.AddDate(1, 0, 0)}) // and then the clock was set back
	w.db().LastLog, w.r.Want = at(200), Full
	d := w.decide()
	if want := []string{w.ours[2].Set, w.ours[3].Set}; !slices.Equal(d.Abandons, want) {
		t.Fatalf("abandons %v; want %v", d.Abandons, want)
	}
	full := ours(chain.Full, "05", 205, 215, now)
	full.Abandons, full.LastRestore = d.Abandons, w.f.LastRestore()
	w.ours, w.f.History.Rows = append(w.ours, full), append(w.f.History.Rows, msdbRow(full))
	w.db().Base, w.db().BaseLSN = full.Set, at(205)
	if d := w.decide(); len(d.Abandons) > 0 {
		t.Errorf("the second full abandons %v", d.Abandons)
	}
}

// TestRevertToBeforeTheFirstFullLeavesNoBase: a database that knows no base, though we
// have a full of its fork, was set back to before it. No other sign is left.
func TestRevertToBeforeTheFirstFullLeavesNoBase(t *testing.T) {
	w := newWorld()
	w.ours, w.f.History.Rows, w.r.Want = w.ours[:1], nil, Full
	w.db().Base, w.db().BaseLSN, w.db().LastLog = "", lsn.LSN{}, lsn.LSN{}
	if d := w.decide(); !slices.Equal(d.Abandons, []string{set1}) {
		t.Errorf("abandons %v; want our full", d.Abandons)
	}
	w.db().Replica = "AG" // there the base is another replica's
	if d := w.decide(); len(d.Abandons) > 0 {
		t.Errorf("a replica without a base abandons %v", d.Abandons)
	}
	w = newWorld() // and where it knows its base, nothing is left
	w.ours, w.f.History.Rows, w.r.Want = w.ours[:1], w.f.History.Rows[:1], Full
	if d := w.decide(); len(d.Abandons) > 0 {
		t.Errorf("nothing happened, and %v is abandoned", d.Abandons)
	}
}

// TestKeptFileHasSeenWhatWasSeenBeforeIt: an unconfirmed point's look decided nothing.
func TestKeptFileHasSeenWhatWasSeenBeforeIt(t *testing.T) {
	w := newWorld()
	w.saw(facts.Restore{ID: 1}, facts.Restore{ID: 2}, facts.Restore{ID: 3}, facts.Restore{ID: 4})
	w.ours[3].State = chain.Denied
	if s := chain.SeenBefore(w.ours); s == nil || s.ID != 3 {
		t.Errorf("it has seen %+v; want restore 3", s)
	}
	if s := chain.SeenBefore(nil); s == nil || s.ID != 0 {
		t.Errorf("the first has seen %+v; want none", s)
	}
}
