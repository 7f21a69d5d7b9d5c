package decide

import (
	"testing"
	"time"

	"holdfast/sqlguest/chain"
)

// TestStandsStill has what a database that stands before our newest log may be.
func TestStandsStill(t *testing.T) { run(t, standsStill()) }

// again makes it a read-only database whose log SQL Server hands out again, in the run in
// which our newest log was taken.
func again(w *world) {
	w.f.Instance.Started = now
	w.db().ReadOnly, w.db().LastLog, w.db().LogEnd = true, at(200), at(300).Hex()
	w.ours[3].ReadOnly, w.ours[3].LogEnd, w.ours[3].Run = true, at(300).Hex(), w.f.Instance.Run(w.db())
}

// restarted is that after SQL Server was started anew.
func restarted(w *world) { again(w); w.ours[3].Run = "of another day" }

// fullSince adds a full that was taken in that run.
func fullSince(w *world, run string) {
	b := ours(chain.Full, "05", 300, 300, now)
	b.ReadOnly, b.LogEnd, b.Run = true, w.db().LogEnd, run
	w.ours = append(w.ours, b)
	w.f.History.Rows = append(w.f.History.Rows, msdbRow(b))
	w.db().Base, w.db().BaseLSN, w.db().Files[0].Base, w.db().Files[0].BaseLSN = b.Set, b.Checkpoint, b.Set, b.Checkpoint
}

// standsStill are of a database that stands before our newest log, or seems to.
func standsStill() []kase {
	run := func(w *world) string { return w.f.Instance.Run(w.db()) }
	return []kase{
		{name: "read-only, and its log is handed out again", want: Log, do: Skip, rule: RuleReadOnly, set: again},
		{name: "read-only, and a differential would be due", want: Auto, do: Skip, rule: RuleReadOnly, set: func(w *world) {
			again(w)
			w.ours[2].Started = now.AddDate(0, 0, -1)
		}},
		{name: "read-only, and a full is due", want: Auto, do: DoFull, rule: RuleAutoFull, then: Log, set: func(w *world) { again(w); w.r.FullDays = 2 }},
		{name: "read-only again, and something was written in between", want: Log, do: Refuse, rule: RuleReverted, then: Full, exit: 3, set: func(w *world) {
			again(w)
			w.ours[3].LogEnd = at(299).Hex()
		}},
		{name: "read-only, and nobody tells where the log ends", want: Log, do: Refuse, rule: RuleReverted, then: Full, exit: 3, set: func(w *world) {
			again(w)
			w.db().LogEnd, w.ours[3].LogEnd = "", ""
		}},
		{name: "read-only behind a restart", want: Log, do: DoFull, rule: RuleReadOnly, then: Log, says: "started since", set: restarted},
		{name: "read-only behind a restart", want: Auto, do: DoFull, rule: RuleReadOnly, then: Log, set: restarted},
		{name: "read-only behind a restart", want: Diff, do: DoFull, rule: RuleReadOnly, set: restarted},
		{name: "read-only behind a restart and a full", want: Log, do: Skip, rule: RuleReadOnly, set: func(w *world) { restarted(w); fullSince(w, run(w)) }},
		{name: "read-only behind a full and a restart", want: Log, do: DoFull, rule: RuleReadOnly, then: Log, set: func(w *world) { restarted(w); fullSince(w, "of yesterday") }},
		{name: "read-only, and nobody tells the runs", want: Log, do: DoFull, rule: RuleReadOnly, then: Log, set: func(w *world) {
			again(w)
			w.f.Instance.Started, w.ours[3].Run = time.Time{}, ""
		}},
		{name: "read-only, a full, and nobody tells the runs", want: Log, do: Skip, rule: RuleReadOnly, set: func(w *world) {
			again(w)
			w.f.Instance.Started, w.ours[3].Run = time.Time{}, ""
			fullSince(w, run(w))
		}},
		{name: "read-only, and the full is lost", want: Log, do: DoFull, rule: RuleDamaged, then: Log, exit: 3, set: func(w *world) { again(w); w.ours[0].Damage = "gone" }},
		{name: "read-only, and its log is lost", want: Log, do: DoFull, rule: RuleUnreachable, then: Log, exit: 3, set: func(w *world) { again(w); w.ours[3].Damage = "gone" }},
		{name: "read-only, and its log is lost where the full ends there, too", want: Log, do: Skip, rule: RuleReadOnly, set: func(w *world) {
			again(w)
			w.ours[3].Damage = "gone"
			fullSince(w, run(w))
		}},
		{name: "read-only, and its log is lost behind a full and a restart", want: Log, do: DoFull, rule: RuleReadOnly, then: Log, set: func(w *world) {
			again(w)
			w.ours[3].Damage = "gone"
			fullSince(w, "of yesterday")
		}},
		{name: "read-only, and a copy-only full came before the restart", want: Log, do: DoFull, rule: RuleReadOnly, then: Log, set: func(w *world) {
			restarted(w)
			b := ours(chain.Full, "05", 300, 300, now)
			b.CopyOnly, b.Run = true, "of yesterday"
			w.ours = append(w.ours, b)
			w.f.History.Rows = append(w.f.History.Rows, msdbRow(b))
		}},
		{name: "restarted behind the differential on which logs begin", want: Log, do: DoFull, rule: RuleUnreachable, then: Log, exit: 3, set: func(w *world) {
			w.without("04")
			w.f.Instance.Started, w.ours[2].Run = now, "of another day"
			w.db().LastLog = at(220)
		}},
		{name: "another's log lies before the switch of the recovery model", want: Log, do: DoFull, rule: RuleUnreachable, then: Log, exit: 3, set: func(w *world) {
			w.without("04")
			w.f.Instance.Started, w.ours[2].Run = now, "of another day"
			w.foreign(chain.Log, 200, 205, "x.trn")
			w.db().LastLog = at(220)
		}},
		{name: "restarted behind another's log and our differential", want: Log, do: Refuse, rule: RuleForeignLog, then: Full, exit: 3, says: "nightly", set: func(w *world) {
			w.without("04")
			w.f.Instance.Started, w.ours[2].Run = now, "of another day"
			w.foreign(chain.Log, 200, 205, "x.trn")
			w.db().LastLog = at(205)
		}},
		{name: "the disk was set back beneath msdb", want: Log, do: Refuse, rule: RuleReverted, then: Full, exit: 3, says: "its log ends at " + at(311).String(), set: func(w *world) {
			d := ours(chain.Diff, "05", 310, 320, now)
			d.Checkpoint = at(312)
			w.ours = append(w.ours, d)
			w.f.History.Rows = append(w.f.History.Rows, msdbRow(d))
			w.db().LogEnd = at(311).Hex()
		}},
	}
}
