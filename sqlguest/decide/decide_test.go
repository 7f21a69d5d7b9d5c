package decide

import (
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/lsn"
)

// X6: what must not change a chain does not, whatever the facts call for.
func TestX6CopyOnlyTruncatesNothing(t *testing.T) {
	for _, set := range []func(*world){nil, (*world).empty, func(w *world) { w.db().LastLog = at(400) }, func(w *world) { w.db().GUID = "DB2" }, secondary} {
		for _, want := range []Want{Auto, Full, Log} {
			w := newWorld()
			if set != nil {
				set(w)
			}
			w.r.Want, w.r.CopyOnly = want, true
			d := w.decide()
			backs := d.Do == DoFull || d.Do == DoDiff || d.Do == DoLog
			if backs && !d.CopyOnly || len(d.Then) > 0 || d.Truncates() {
				t.Errorf("%s: %s by %s, copy-only %v, then %v", want, d.Do, d.Rule, d.CopyOnly, d.Then)
			}
		}
	}
}

func TestQ13OnlyALogTruncates(t *testing.T) {
	w := newWorld()
	for want, truncates := range map[Want]bool{Full: false, Diff: false, Log: true} {
		w.r.Want = want
		if d := w.decide(); d.Truncates() != truncates {
			t.Errorf("%s truncates: %v", want, d.Truncates())
		}
	}
}

// Q14, X9: logs go by the daily rule and pin nothing; that old ones are gone does
// not stop new ones.
func TestQ14X9ForgottenLogsStopNothing(t *testing.T) {
	w := newWorld()
	w.r.Want = Log
	w.without("02")
	if d := w.decide(); d.Do != DoLog || d.Parent != "04" {
		t.Errorf("%s by %s on %s; want the log that follows 04", d.Do, d.Rule, d.Parent)
	}
}

// Q18: backups of another tool's are never adopted as a base or a link.
func TestQ18ForeignBackupsAreNotAdopted(t *testing.T) {
	w := newWorld()
	w.empty()
	full, log := w.foreign(chain.Full, 100, 110, "x"), w.foreign(chain.Log, 100, 300, "y")
	w.db().Base, w.db().BaseLSN, w.db().LastLog = full.Set, at(100), log.Last
	for _, want := range []Want{Diff, Log, Auto} {
		w.r.Want = want
		if d := w.decide(); d.Do != DoFull {
			t.Errorf("%s on another's backups: %s by %s; want a full", want, d.Do, d.Rule)
		}
	}
}

// X3: the rule that fired is kept in the point of the full that follows.
func TestX3TheFullKeepsTheRuleThatCalledForIt(t *testing.T) {
	for _, bridge := range []Want{Full, Diff} {
		w := newWorld()
		w.foreign(chain.Log, 300, 400, "x")
		w.db().LastLog = at(400)
		w.r = Request{Want: Log, Bridge: bridge}
		cause := w.decide()
		if cause.Do != Refuse || !slices.Equal(cause.Then, []Want{bridge}) {
			t.Fatalf("%+v", cause)
		}
		w.r = Request{Want: cause.Then[0], Bridge: bridge, Cause: &cause}
		if d := w.decide(); string(d.Do) != string(bridge) || d.Rule != "Q20" || d.Reason != cause.Reason || d.Exit != 0 {
			t.Errorf("%s by %s: %s", d.Do, d.Rule, d.Reason)
		}
		w.db().Name = "umsatz" // a differential that becomes a full says why
		if d := w.decide(); bridge == Diff && d.Rule != RuleRenamed {
			t.Errorf("%s by %s: %s", d.Do, d.Rule, d.Reason)
		}
	}
}

func TestTheFirstLogHangsOnItsDataBackup(t *testing.T) {
	w := newWorld()
	w.r.Want = Log
	w.without("02", "03", "04")
	w.db().LastLog = at(105)
	if d := w.decide(); d.Do != DoLog || d.Parent != "01" || d.First != at(105) {
		t.Errorf("%s by %s on %q", d.Do, d.Rule, d.Parent)
	}
}

func TestRevertedHistoryIsAbandoned(t *testing.T) {
	w := newWorld()
	w.r.Want = Full
	if d := w.decide(); len(d.Abandons) != 0 {
		t.Fatalf("nothing happened, and %v is abandoned", d.Abandons)
	}
	// Back to after the first log: the differential and the second log are lost.
	w.db().LastLog, w.f.History.Rows = at(200), w.f.History.Rows[:2]
	d := w.decide()
	if want := []string{w.ours[2].Set, w.ours[3].Set}; !slices.Equal(d.Abandons, want) {
		t.Fatalf("abandons %v; want %v", d.Abandons, want)
	}
	// The full that follows lies, by its LSNs, in the middle of the lost history.
	full := ours(chain.Full, "05", 205, 215, now)
	full.Abandons = d.Abandons
	w.ours = append(w.ours, full)
	w.db().Base, w.db().BaseLSN = full.Set, at(205)
	w.f.History.Rows = append(w.f.History.Rows, msdbRow(full))
	w.r.Want = Log
	if d := w.decide(); d.Do != DoLog || d.First != at(200) || d.Parent != "02" {
		t.Errorf("log afterwards = %+v; want it from 200 on point 02", d)
	}
	w.r.Want = Diff
	if d := w.decide(); d.Do != DoDiff || d.Parent != "05" {
		t.Errorf("differential afterwards = %+v; want it on point 05", d)
	}
}

// A restore that recovers at the end of our newest log may keep the fork. What we hold
// beyond that, a differential here, must not meet the log that comes.
func TestARestoreThatKeptTheForkAbandonsWhatLiesBeyond(t *testing.T) {
	w := newWorld()
	w.r.Want = Full
	late := ours(chain.Diff, "05", 310, 320, now.Add(-time.Hour))
	late.LastRestore = &chain.LastRestore{}
	w.ours, w.f.History.Rows = append(w.ours, late), append(w.f.History.Rows, msdbRow(late))
	w.restore(facts.Restore{ID: 1, At: now.AddDate(-1, 0, 0), Type: "L", Recovery: true})
	d := w.decide()
	if d.Do != DoFull || !slices.Equal(d.Abandons, []string{late.Set}) {
		t.Errorf("%s by %s, abandons %v", d.Do, d.Rule, d.Abandons)
	}
}

func TestRevertBeforeOurFirstBackupBeginsAnew(t *testing.T) {
	w := newWorld()
	w.ours = w.ours[:1]
	w.f.History.Rows = nil
	w.db().LastLog, w.db().Base, w.db().BaseLSN = at(50), "OTHER", at(40)
	w.r.Want = Diff
	d := w.decide()
	if d.Rule != RuleReverted || !slices.Equal(d.Abandons, []string{set1}) {
		t.Fatalf("%s by %s, abandons %v", d.Do, d.Rule, d.Abandons)
	}
	full := ours(chain.Full, "05", 60, 70, now)
	full.Abandons, full.State = d.Abandons, chain.Denied
	w.ours = append(w.ours, full)
	if d := w.decide(); d.Do != DoFull || d.Rule != RuleFullFailed {
		t.Errorf("after a denied full: %s by %s", d.Do, d.Rule)
	}
	// All of ours is abandoned; that is no other fork, and nothing was replaced.
	w.r.Want = Log
	if d := w.decide(); d.Do != DoFull || d.Rule != RuleFirst {
		t.Errorf("log after a denied full: %s by %s", d.Do, d.Rule)
	}
}

func TestUnconfirmedPointsAreResolvedFirst(t *testing.T) {
	w := newWorld()
	w.r.Want = Log
	w.ours[2].State, w.ours[3].State = chain.Unconfirmed, chain.Unconfirmed
	d := w.decide()
	if d.Do != Resolve || !slices.Equal(d.Unconfirmed, []string{"03", "04"}) || d.Exit != 0 {
		t.Fatalf("%+v", d)
	}
	// Nobody could tell: they are no links, and the log that they hold looks foreign.
	w.r.Resolved = true
	d = w.decide()
	if d.Do != Refuse || !slices.Equal(d.Then, []Want{Full}) {
		t.Errorf("unresolved: %s by %s, then %v", d.Do, d.Rule, d.Then)
	}
	// The log was given up: SQL Server hands it out once more.
	w.ours[3].First, w.db().LastLog = at(200), at(200)
	w.f.History.Rows = w.f.History.Rows[:2]
	d = w.decide()
	if d.Do != DoLog || d.Rule != RuleOverlap || d.Parent != "02" {
		t.Errorf("overlap: %s by %s on %s", d.Do, d.Rule, d.Parent)
	}
	if !slices.ContainsFunc(d.Warnings, func(w Warning) bool { return w.Rule == RuleResolve && strings.Contains(w.Text, "2 earlier") }) {
		t.Errorf("warnings %v; want one on two backups", d.Warnings)
	}
}

func TestSettle(t *testing.T) {
	planned := ours(chain.Log, "05", 300, 0, now)
	planned.State, planned.Set, planned.Last = chain.Unconfirmed, "", lsn.LSN{}
	done := ours(chain.Log, "05", 300, 400, now).Header
	full, diff := ours(chain.Full, "06", 300, 400, now), ours(chain.Diff, "07", 300, 400, now)
	copied := ours(chain.Full, "08", 300, 400, now)
	copied.CopyOnly = true
	other, wrong, unsound := done, done, done
	other.Family, wrong.Kind, unsound.Last = "FA2", chain.Full, at(250)
	for _, c := range []struct {
		name   string
		b      chain.Backup
		row    *chain.Header
		header *chain.Header
		set    func(*facts.Database)
		state  chain.State
		by     string
	}{
		{name: "row", b: planned, row: &done, state: chain.Confirmed, by: chain.ByRow},
		{name: "row of another family", b: planned, row: &other, state: chain.Denied, by: chain.ByRow},
		{name: "row of another kind", b: planned, row: &wrong, state: chain.Denied, by: chain.ByRow},
		{name: "neither", b: planned, state: chain.Denied, by: chain.ByServer},
		{name: "header, log finished", b: planned, header: &done, set: func(d *facts.Database) { d.LastLog = at(400) }, state: chain.Confirmed, by: chain.ByServer},
		{name: "header, log given up or undone", b: planned, header: &done, state: chain.Confirmed, by: chain.ByItself},
		{name: "header, others came after", b: planned, header: &done, set: func(d *facts.Database) { d.LastLog = at(500) }, state: chain.Unconfirmed, by: chain.ByServer},
		{name: "header, fork left", b: planned, header: &done, set: func(d *facts.Database) { d.LastLog, d.Fork = at(400), fork2 }, state: chain.Unconfirmed, by: chain.ByServer},
		{name: "unsound header", b: planned, header: &unsound, set: func(d *facts.Database) { d.LastLog = at(250) }, state: chain.Denied, by: chain.ByHeader},
		{name: "full is the base", b: full, header: &full.Header, set: func(d *facts.Database) { d.Base = full.Set }, state: chain.Confirmed, by: chain.ByServer},
		{name: "full is not the base", b: full, header: &full.Header, state: chain.Denied, by: chain.ByServer},
		{name: "full after which another came", b: full, header: &full.Header, set: func(d *facts.Database) { d.Base, d.BaseLSN = "OTHER", at(900) }, state: chain.Unconfirmed, by: chain.ByServer},
		{name: "differential", b: diff, header: &diff.Header, state: chain.Confirmed, by: chain.ByHeader},
		{name: "copy-only full", b: copied, header: &copied.Header, state: chain.Confirmed, by: chain.ByHeader},
		{name: "copy-only where ours was not", b: full, header: &copied.Header, state: chain.Denied, by: chain.ByHeader},
	} {
		db := newWorld().f.Database
		if c.set != nil {
			c.set(&db)
		}
		var row *chain.Row
		if c.row != nil {
			row = &chain.Row{Header: *c.row}
		}
		got := Settle(c.b, row, c.header, &db)
		if got.State != c.state || got.By != c.by || got.Reason == "" || (got.State == chain.Confirmed) != (got.Header != nil) {
			t.Errorf("%s: %s by %s (%s); want %s by %s", c.name, got.State, got.By, got.Reason, c.state, c.by)
		}
	}
}

func TestCheckSeesWhatCameBetween(t *testing.T) {
	log := ours(chain.Log, "05", 300, 400, now)
	diff := ours(chain.Diff, "06", 310, 320, now)
	for _, c := range []struct {
		name string
		d    Decision
		b    chain.Backup
		set  func(*chain.Header)
		rule Rule // "" nothing came between
		do   Action
	}{
		{name: "log as planned", d: Decision{Do: DoLog, First: at(300)}, b: log},
		{name: "log between", d: Decision{Do: DoLog, First: at(300)}, b: log, set: func(h *chain.Header) { h.First = at(350) }, rule: RuleRace, do: DoFull},
		{name: "differential as planned", d: Decision{Do: DoDiff, Base: set1}, b: diff},
		{name: "full between", d: Decision{Do: DoDiff, Base: set1}, b: diff, set: func(h *chain.Header) { h.Base = "OTHER" }, rule: RuleRace, do: DoFull},
		{name: "fork between", d: Decision{Do: DoLog, First: at(300)}, b: log, set: func(h *chain.Header) { h.Fork = fork2 }, rule: RuleRace, do: DoFull},
		{name: "log that spans the fork that was seen", d: Decision{Do: DoLog, First: at(300)}, b: log, set: func(h *chain.Header) { h.FirstFork = fork2 }},
		{name: "row of something else", d: Decision{Do: DoLog, First: at(300)}, b: log, set: func(h *chain.Header) { h.Family = "FA2" }, rule: RuleMismatch, do: DoFull},
		{name: "copy-only log between", d: Decision{Do: DoLog, First: at(300), CopyOnly: true}, b: log, set: func(h *chain.Header) { h.First = at(350) }, rule: RuleRace, do: Refuse},
	} {
		row := msdbRow(c.b)
		if c.set != nil {
			c.set(&row.Header)
		}
		conf, next := Check(c.d, c.b, &row)
		switch {
		case c.rule == "":
			if next != nil || conf.State != chain.Confirmed || len(conf.Warnings) > 0 {
				t.Errorf("%s: %+v, then %+v", c.name, conf, next)
			}
		case next == nil || next.Rule != c.rule || next.Do != c.do || next.Exit != ExitLeftOut || next.Reason == "":
			t.Errorf("%s: then %+v; want %s by %s", c.name, next, c.do, c.rule)
		case c.rule == RuleRace && (conf.State != chain.Confirmed || len(conf.Warnings) != 1):
			t.Errorf("%s: confirmation %+v; want it kept with the gap noted", c.name, conf)
		}
	}
	if conf, next := Check(Decision{Do: DoLog}, log, nil); conf.State != chain.Unconfirmed || next != nil {
		t.Errorf("without a row: %+v, then %+v", conf, next)
	}
	// A log behind a gap is kept and does not count as one that a restore can reach.
	w := newWorld()
	gap := ours(chain.Log, "05", 350, 400, now)
	w.ours, w.f.History.Rows = append(w.ours, gap), append(w.f.History.Rows, msdbRow(gap))
	w.db().LastLog, w.r.Want = at(400), Log
	if d := w.decide(); d.Do != DoFull || d.Rule != RuleUnreachable {
		t.Errorf("after a gap: %s by %s; want a full first", d.Do, d.Rule)
	}
}

func TestExitOfARun(t *testing.T) {
	done, same := Decision{Do: DoLog}, Decision{Do: Skip}
	offline, group := Decision{Do: Skip, Exit: 3}, Decision{Do: Refuse, Exit: 16}
	full, diff := Decision{Do: DoFull}, Decision{Do: DoDiff}
	alone, foreign := Decision{Do: Refuse, Exit: 1}, Decision{Do: Refuse, Then: []Want{Full}, Exit: 3}
	for _, c := range []struct {
		all  []Decision
		want int
	}{
		{nil, 0}, {[]Decision{done, same}, 0}, {[]Decision{same}, 0}, {[]Decision{done, offline}, 3}, {[]Decision{offline}, 3},
		{[]Decision{group}, 16}, {[]Decision{group, group, same}, 16}, {[]Decision{group, offline}, 16}, {[]Decision{offline, group}, 16},
		{[]Decision{group, full}, 3}, {[]Decision{group, diff}, 3}, {[]Decision{group, done}, 3}, {[]Decision{done, group}, 3}, {[]Decision{group, foreign}, 3}, {[]Decision{foreign, done}, 3},
		{[]Decision{alone}, 1}, {[]Decision{done, alone}, 3}, {[]Decision{group, alone}, 1},
	} {
		if got := Exit(c.all); got != c.want {
			t.Errorf("%v: exit %d; want %d", c.all, got, c.want)
		}
	}
}

func TestNamesWithBracesAreNotReadAgain(t *testing.T) {
	w := newWorld()
	w.r.Want, w.db().Name, w.db().State = Log, "a{ours}b}{", "OFFLINE"
	if d := w.decide(); d.Reason != "a{ours}b}{ is offline (SQL Server error 942)" {
		t.Errorf("reason %q", d.Reason)
	}
}

// TestReadOnlyWithoutChain: SQL Server writes nothing into a read-only database, so that
// no full begins a log chain, and another one would change nothing.
func TestReadOnlyWithoutChain(t *testing.T) {
	for _, want := range []Want{Log, Auto} {
		w := newWorld()
		w.r.Want, w.r.DiffDays = want, -1
		w.ours = w.ours[:1]
		w.ours[0].ReadOnly, w.db().ReadOnly, w.db().LastLog = true, true, lsn.LSN{}
		if d := w.decide(); d.Do != Skip || d.Rule != RuleReadOnly || d.Exit != ExitDone {
			t.Errorf("%s: %+v", want, d)
		}
		w.ours[0].ReadOnly = false
		if d := w.decide(); d.Do != DoFull || d.Rule != RuleNoChain {
			t.Errorf("%s: %+v", want, d)
		}
	}
}
