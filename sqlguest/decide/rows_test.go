package decide

import "testing"

// TestRowsBesideTheTable are rows of what turns a differential into a full, and of what may
// be backed up, that say that nothing happens, or happens for another reason than one
// would think.
func TestRowsBesideTheTable(t *testing.T) {
	var cases []kase
	for _, want := range []Want{Full, Diff, Log} {
		do := map[Want]Action{Full: DoFull, Diff: DoDiff, Log: DoLog}[want]
		rule := map[Want]Rule{Full: RuleFull, Diff: RuleDiff, Log: RuleLog}[want]
		cases = append(cases, []kase{
			{name: "Q10 a name with an apostrophe and a comma", want: want, do: do, rule: rule, set: func(w *world) {
				w.db().Name = "it's, ünï"
				for i := range w.ours {
					w.ours[i].Database = w.db().Name
				}
			}},
			// No shadow copies are taken.
			{name: "Q9 a volume that is no NTFS", want: want, do: do, rule: rule, set: func(w *world) { w.db().Volumes[0].System, w.db().Volumes[1].System = "ReFS", "FAT32" }},
			{name: "M11.7 several devices before, one now", want: want, do: do, rule: rule, set: func(w *world) {
				w.ours[0].Stripes, w.ours[0].StreamBytes = 2, []int64{4096, 4096}
			}},
		}...)
	}
	cases = append(cases,
		// The base that SQL Server knew is gone from the files' headers.
		kase{name: "M11.7 read-only and attached anew", want: Diff, do: DoFull, rule: "M11.7", set: func(w *world) {
			w.db().ReadOnly, w.db().Base = true, ""
			w.db().Files[0].Base = ""
		}},
		kase{name: "X1 single-user has differentials", want: Diff, do: DoDiff, rule: RuleDiff, set: func(w *world) { w.db().Access = "SINGLE_USER" }},
		kase{name: "Q16 differentials go on", want: Diff, do: DoDiff, rule: RuleDiff, set: func(w *world) { w.db().Volumes[0].Available = 0 }},
		kase{name: "Q12 chosen by a run over one database", want: Log, do: DoLog, rule: RuleLog, set: func(w *world) { w.r.SetHash, w.r.Excluded = "", false }},
	)
	run(t, cases)
	w := newWorld()
	secondary(w)
	w.r.Want = Diff
	if d := w.decide(); !d.CopyOnly {
		t.Errorf("full of a secondary is %+v", d)
	}
}
