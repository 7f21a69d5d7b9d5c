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

// kase is one row of the table, with the facts that call for it.
type kase struct {
	name string
	want Want
	set  func(*world)
	do   Action
	rule Rule
	exit int
	then Want   // "" none
	says string // in the reason
	warn Rule   // "" none looked for
}

// world is the facts of the case.
func (c kase) world() *world {
	w := newWorld()
	w.r.Want = c.want
	if c.set != nil {
		c.set(w)
	}
	return w
}

func everyCase() []kase {
	return slices.Concat(nothingWrong(), m11(), besides(), switches(), standsStill(), gateCases(), eligibility(), chainBreaks(), leftHistories(), restores(), autos())
}

func run(t *testing.T, cases []kase) {
	t.Helper()
	for _, c := range cases {
		t.Run(strings.ReplaceAll(c.name, " ", "_")+"/"+string(c.want), func(t *testing.T) {
			d := c.world().decide()
			var then []Want
			if c.then != "" {
				then = []Want{c.then}
			}
			if d.Do != c.do || d.Rule != c.rule || d.Exit != c.exit || !slices.Equal(d.Then, then) {
				t.Errorf("got %s by %s, exit %d, then %v; want %s by %s, exit %d, then %v\n%s",
					d.Do, d.Rule, d.Exit, d.Then, c.do, c.rule, c.exit, then, d.Reason)
			}
			if !strings.Contains(d.Reason, c.says) || unread.MatchString(d.Reason) || d.Reason == "" {
				t.Errorf("reason %q; want %q in it", d.Reason, c.says)
			}
			warned := slices.ContainsFunc(d.Warnings, func(w Warning) bool { return w.Rule == c.warn && w.Text != "" })
			if c.warn != "" && !warned {
				t.Errorf("warnings %v; want one of %s", d.Warnings, c.warn)
			}
		})
	}
}

// switched makes it a database that was FULL when we backed it up and is SIMPLE now.
func switched(w *world) {
	for i := range w.ours {
		w.ours[i].Model = "FULL"
	}
	w.db().Model, w.db().LastLog = "SIMPLE", lsn.LSN{}
}

func nothingWrong() []kase {
	return []kase{
		{name: "full", want: Full, do: DoFull, rule: RuleFull},
		{name: "differential", want: Diff, do: DoDiff, rule: RuleDiff, says: "01 of 2026-11-16"},
		{name: "log", want: Log, do: DoLog, rule: RuleLog, says: at(300).String()},
		{name: "auto is a log while full and differential are young", want: Auto, do: DoLog, rule: RuleAutoLog},
		{name: "the zero want is auto", do: DoLog, rule: RuleAutoLog},
	}
}

func TestNothingWrong(t *testing.T) {
	run(t, nothingWrong())
	w := newWorld()
	w.r.Want = Log
	if d := w.decide(); d.Parent != "04" || d.First != at(300) || !d.Truncates() {
		t.Errorf("log = %+v; want it to continue point 04 at 300", d)
	}
	w.r.Want = Diff
	if d := w.decide(); d.Parent != "01" || d.Base != set1 || d.Truncates() {
		t.Errorf("differential = %+v; want it on point 01", d)
	}
}

// TestM11 has M11's twelve rules, in the order of the mission.
func TestM11(t *testing.T) { run(t, slices.Concat(m11(), besides())) }

func m11() []kase {
	return []kase{
		{name: "M11.1 no completed full", want: Diff, set: (*world).empty, do: DoFull, rule: "M11.1"},
		{name: "M11.1 only a copy-only full", want: Diff, do: DoFull, rule: "M11.1",
			set: func(w *world) { w.without("02", "03", "04"); w.ours[0].CopyOnly = true }},
		{name: "M11.2 file added", want: Diff, do: DoFull, rule: "M11.2", says: "sales2 added", set: func(w *world) {
			w.db().Files = append(w.db().Files, facts.File{File: chain.File{ID: 3, GUID: "A3", Name: "sales2", Path: `D:\data\sales2.ndf`}, State: "ONLINE", Base: set1})
		}},
		{name: "M11.2 file removed", want: Diff, do: DoFull, rule: "M11.2", says: "old removed", set: func(w *world) {
			w.ours[2].Files = append(w.ours[2].Files, chain.File{ID: 3, GUID: "A3", Name: "old"})
		}},
		{name: "M11.2 file dropped and still listed", want: Diff, do: DoFull, rule: "M11.2", says: "sales_log removed",
			set: func(w *world) { w.db().Files[1].Drop = at(250) }},
		{name: "M11.3 file renamed", want: Diff, do: DoFull, rule: "M11.3", says: "sales renamed", set: func(w *world) { w.db().Files[0].Name = "umsatz" }},
		{name: "M11.3 file moved", want: Diff, do: DoFull, rule: "M11.3", says: "sales moved", set: func(w *world) { w.db().Files[0].Path = `F:\sales.mdf` }},
		{name: "M11.3 not by the case of a Windows path", want: Diff, do: DoDiff, rule: RuleDiff, set: func(w *world) { w.db().Files[0].Path = `d:\DATA\Sales.mdf` }},
		{name: "M11.4 database renamed", want: Diff, do: DoFull, rule: "M11.4", says: "the name sales", set: func(w *world) { w.db().Name = "umsatz" }},
		{name: "M11.5 repository damaged", want: Diff, do: DoFull, rule: "M11.5", exit: 3, says: "chunk is missing", set: func(w *world) { w.ours[0].Damage = "a chunk is missing" }},
		{name: "M11.5 a stream is missing", want: Diff, do: DoFull, rule: "M11.5", set: func(w *world) { w.ours[0].Stripes = 2 }},
		{name: "M11.5 msdb has another size", want: Diff, do: DoFull, rule: "M11.5", set: func(w *world) { w.f.History.Rows[0].Bytes++ }},
		{name: "M11.5 damaged pages", want: Diff, do: DoFull, rule: "M11.5", set: func(w *world) { w.ours[0].Damaged = true }},
		{name: "M11.6 master's paths changed", want: Diff, do: DoFull, rule: "M11.6", says: "sales moved",
			set: func(w *world) { w.db().ID, w.db().Model = 1, "SIMPLE"; w.db().Files[0].Path = `F:\master.mdf` }},
		{name: "M11.7 no differential base", want: Diff, do: DoFull, rule: "M11.7", set: func(w *world) { w.db().Base = "" }},
		{name: "M11.7 several bases", want: Diff, do: DoFull, rule: "M11.7", set: func(w *world) {
			w.db().Files[1].Type, w.db().Files[1].Base = 0, "OTHER"
			w.ours[0].Files[1].Type, w.ours[2].Files[1].Type = 0, 0
		}},
		{name: "M11.7 SQL Server refused", want: Diff, do: DoFull, rule: "M11.7", says: "3035", set: func(w *world) { w.r.Failed = 3035 }},
		{name: "M11.8 last full failed", want: Diff, do: DoFull, rule: "M11.8", set: func(w *world) {
			b := ours(chain.Full, "05", 0, 0, now)
			b.State, b.Set = chain.Denied, ""
			w.ours = append(w.ours, b)
		}},
		{name: "M11.8 the first full failed", want: Diff, do: DoFull, rule: "M11.8", set: func(w *world) {
			w.ours = w.ours[:1]
			w.ours[0].State = chain.Denied
		}},
		{name: "M11.8 a copy-only full may fail", want: Diff, do: DoDiff, rule: RuleDiff, set: func(w *world) {
			b := ours(chain.Full, "05", 0, 0, now)
			b.State, b.CopyOnly = chain.Denied, true
			w.ours = append(w.ours, b)
		}},
		{name: "M11.8 a log may fail", want: Diff, do: DoDiff, rule: RuleDiff, set: aborted},
		{name: "M11.9 another tool's full", want: Diff, do: DoFull, rule: "M11.9", says: `by DOM\nightly, on IMG01`, set: func(w *world) {
			r := w.foreign(chain.Full, 310, 320, `\\nas\x.bak`)
			w.db().Base, w.db().BaseLSN = r.Set, at(310)
			w.db().Files[0].Base = r.Set
		}},
		{name: "M11.9 our own full, which was forgotten", want: Diff, do: DoFull, rule: "M11.9", says: "of Holdfast, and not in this repository, or no more", set: func(w *world) {
			r := w.foreign(chain.Full, 310, 320, "x")
			r.Name, w.db().Base, w.db().BaseLSN = chain.SetName, r.Set, at(310)
		}},
		{name: "M11.9 another tool's full over a long transaction", want: Diff, do: DoFull, rule: "M11.9", set: func(w *world) {
			r := w.foreign(chain.Full, 90, 320, "x")
			r.Checkpoint, w.db().Base, w.db().BaseLSN = at(310), r.Set, at(90)
		}},
		{name: "M11.9 a full through VSS", want: Diff, do: DoFull, rule: "M11.9", says: "through VSS", set: func(w *world) {
			r := w.foreign(chain.Full, 310, 320, "VSS")
			r.Snapshot, w.db().Base, w.db().BaseLSN = true, r.Set, at(310)
		}},
		{name: "M11.10 shrunk since the full", want: Diff, do: DoFull, rule: "M11.10", says: "sales shrunk", set: func(w *world) { w.db().Files[0].Pages = 999 }},
		{name: "M11.10 shrunk since the differential", want: Diff, do: DoFull, rule: "M11.10", set: func(w *world) {
			w.ours[2].Files[0].Pages, w.db().Files[0].Pages = 3000, 2000
		}},
		{name: "M11.10 a log file may shrink", want: Diff, do: DoDiff, rule: RuleDiff, set: func(w *world) { w.db().Files[1].Pages = 1 }},
		{name: "M11.11 secondary", want: Diff, do: DoFull, rule: "M11.11", says: "3059", set: secondary},
		{name: "M11.12 set of databases changed", want: Diff, do: DoFull, rule: "M11.12", set: func(w *world) { w.r.SetHash = "other" }},
		{name: "M11.12 not in runs over chosen databases", want: Diff, do: DoDiff, rule: RuleDiff, set: func(w *world) { w.r.SetHash = "" }},
	}
}

// TestQ19 has what a switch to SIMPLE says, and when.
func TestQ19(t *testing.T) { run(t, switches()) }

// switches are of a database that had logs and is SIMPLE now.
func switches() []kase {
	return []kase{
		{name: "Q19 the first differential after a switch to SIMPLE", want: Diff, do: DoDiff, rule: "Q19", exit: 3, says: "behind that log no moment", warn: "Q19", set: switched},
		{name: "Q19 the first full", want: Full, do: DoFull, rule: "Q19", exit: 3, warn: "Q19", set: switched},
		{name: "Q19 automatic", want: Auto, do: DoDiff, rule: "Q19", exit: 3, warn: "Q19", set: switched},
		{name: "Q19 where something else calls for a full", want: Diff, do: DoFull, rule: "M11.12", exit: 3, warn: "Q19", set: func(w *world) { switched(w); w.r.SetHash = "other" }},
		{name: "Q19 was said", want: Diff, do: DoDiff, rule: RuleDiff, set: func(w *world) {
			switched(w)
			b := ours(chain.Diff, "05", 310, 320, now.Add(-time.Hour))
			b.Model = "SIMPLE"
			w.ours = append(w.ours, b)
			w.f.History.Rows = append(w.f.History.Rows, msdbRow(b))
		}},
		{name: "Q19 copy-only", want: Full, do: DoFull, rule: RuleFull, set: func(w *world) { switched(w); w.r.CopyOnly = true }},
	}
}

// besides are what else may turn a differential into a full, or leave it out.
func besides() []kase {
	return []kase{
		{name: "parity rules relaxed", want: Diff, do: DoDiff, rule: RuleDiff, set: func(w *world) {
			w.r.Relax, w.r.SetHash = []Rule{"M11.2", "M11.3", "M11.10", "M11.12"}, "other"
			w.db().Files[0].Path, w.db().Files[0].Pages, w.db().Files[1].Drop = `F:\x`, 1, at(1)
		}},
		{name: "rules that are no parity cannot be relaxed", want: Diff, do: DoFull, rule: "M11.4", set: func(w *world) {
			w.r.Relax, w.db().Name = []Rule{"M11.4", "M11.9"}, "umsatz"
		}},
		{name: "ours: another fork", want: Diff, do: DoFull, rule: RuleFork, set: func(w *world) { w.db().Fork = fork2 }},
		{name: "X8 the base's LSN is not ours", want: Diff, do: DoFull, rule: "X8", set: func(w *world) { w.db().BaseLSN = at(105) }},
		{name: "X8 a checkpoint behind the first LSN is", want: Diff, do: DoDiff, rule: RuleDiff, set: func(w *world) {
			w.ours[0].Checkpoint, w.ours[2].DatabaseBackup, w.db().BaseLSN = at(105), at(105), at(105)
		}},
		{name: "M24 unchanged", want: Diff, do: Skip, rule: "M24", set: func(w *world) { w.db().LogEnd, w.ours[0].LogEnd = "end", "end" }},
		{name: "M24 changed", want: Diff, do: DoDiff, rule: RuleDiff, set: func(w *world) { w.db().LogEnd, w.ours[0].LogEnd = "end", "before" }},
		{name: "M24 nobody knows", want: Diff, do: DoDiff, rule: RuleDiff, set: func(*world) {}},
		{name: "M24 read-only proves nothing", want: Diff, do: DoDiff, rule: RuleDiff, set: func(w *world) { w.db().ReadOnly, w.ours[0].ReadOnly = true, true }},
		{name: "M24 unchanged since another's full", want: Diff, do: DoFull, rule: "M11.9", set: func(w *world) {
			w.db().LogEnd, w.ours[0].LogEnd, w.db().Base, w.db().BaseLSN = "end", "end", "OTHER", at(310)
		}},
	}
}

func secondary(w *world) {
	w.db().Replica, w.db().Group = "RE", &facts.Group{Preferred: true, Role: "SECONDARY"}
}

// TestEligibility has the rows of the eligibility table and Q10 to Q19.
func TestEligibility(t *testing.T) { run(t, slices.Concat(gateCases(), eligibility())) }

// gateCases hold for every kind.
func gateCases() []kase {
	var cases []kase
	state := func(s string) func(*world) { return func(w *world) { w.db().State = s } }
	for _, want := range []Want{Auto, Full, Diff, Log} {
		cases = append(cases, []kase{
			{name: "Q5 no sysadmin", want: want, do: Refuse, rule: "Q5", exit: 16, set: func(w *world) { w.f.Instance.SysAdmin = false }},
			{name: "managed service", want: want, do: Refuse, rule: RuleEdition, exit: 16, set: func(w *world) { w.f.Instance.Engine = 8 }},
			{name: "too old", want: want, do: Refuse, rule: RuleVersion, exit: 16, set: func(w *world) { w.f.Instance.Version = "10.50.6000.34" }},
			{name: "Q11 failover cluster in a guest", want: want, do: Refuse, rule: "Q11", exit: 16, set: func(w *world) { w.f.Instance.Clustered, w.r.Guest = true, true }},
			{name: "X5 availability group in a guest", want: want, do: Refuse, rule: "X5", exit: 16, set: func(w *world) { secondary(w); w.r.Guest = true }},
			{name: "M4 tempdb", want: want, do: Skip, rule: "M4", set: func(w *world) { w.db().ID = 2 }},
			{name: "database snapshot", want: want, do: Skip, rule: RuleSnapshot, set: func(w *world) { w.db().SnapshotOf = 7 }},
			{name: "Q12 not chosen", want: want, do: Skip, rule: "Q12", set: func(w *world) { w.r.Excluded = true }},
			{name: "Q10 mirrored", want: want, do: Skip, rule: "Q10", exit: 3, set: func(w *world) { w.db().Mirroring = "MI" }},
			{name: "X4 restore running", want: want, do: Skip, rule: "X4", exit: 3, says: "session 57", set: func(w *world) {
				w.f.History.Running = []facts.Running{{Session: 57, Command: "RESTORE DATABASE", Database: "sales"}}
			}},
			{name: "standby", want: want, do: Skip, rule: RuleStandby, exit: 3, says: "3036", set: func(w *world) { w.db().Standby = true }},
			{name: "restoring", want: want, do: Skip, rule: RuleRestoring, exit: 3, says: "927", set: state("RESTORING")},
			{name: "offline", want: want, do: Skip, rule: RuleOffline, exit: 3, says: "942", set: state("OFFLINE")},
			{name: "suspect", want: want, do: Skip, rule: RuleState, exit: 3, says: "926", set: state("SUSPECT")},
			{name: "emergency", want: want, do: Skip, rule: RuleState, exit: 3, says: "3033", set: state("EMERGENCY")},
			{name: "recovering", want: want, do: Skip, rule: RuleState, exit: 3, says: "recovering", set: state("RECOVERING")},
			{name: "recovery pending", want: want, do: Skip, rule: RuleState, exit: 3, set: state("RECOVERY_PENDING")},
			{name: "online and did not start", want: want, do: Skip, rule: RuleClosed, exit: 3, set: func(w *world) { w.db().Family, w.db().Fork = "", "" }},
			{name: "online without a fork", want: want, do: Skip, rule: RuleClosed, exit: 3, set: func(w *world) { w.db().Fork = "" }},
			{name: "SQL-3 unconfirmed points", want: want, do: Resolve, rule: "SQL-3", set: func(w *world) { w.ours[3].State = chain.Unconfirmed }},
		}...)
	}
	return cases
}

func eligibility() []kase {
	return []kase{
		{name: "Standard edition", want: Log, do: DoLog, rule: RuleLog, set: func(w *world) { w.f.Instance.Engine = 2 }},
		{name: "Express edition", want: Log, do: DoLog, rule: RuleLog, set: func(w *world) { w.f.Instance.Engine = 4 }},
		{name: "SQL Server 2012", want: Log, do: DoLog, rule: RuleLog, set: func(w *world) { w.f.Instance.Version = "11.0.7507.2" }},
		{name: "Q11 failover cluster beside the server", want: Log, do: DoLog, rule: RuleLog, set: func(w *world) { w.f.Instance.Clustered = true }},
		{name: "Q11 failover cluster allowed", want: Log, do: DoLog, rule: RuleLog, set: func(w *world) { w.f.Instance.Clustered, w.r.Guest, w.r.AllowAG = true, true, true }},
		{name: "X5 availability group allowed", want: Log, do: DoLog, rule: RuleLog, warn: RuleMarks, set: func(w *world) { secondary(w); w.r.Guest, w.r.AllowAG = true, true }},
		{name: "X5 not the preferred replica", want: Log, do: DoLog, rule: RuleLog, warn: RulePreferred, set: func(w *world) { secondary(w); w.db().Group.Preferred = false }},
		{name: "Q10 names with apostrophe and comma work", want: Log, do: DoLog, rule: RuleLog, set: func(w *world) { w.db().Name = "it's, ünï" }},
		{name: "a data file is offline", want: Full, do: Skip, rule: RuleFile, exit: 3, set: func(w *world) { w.db().Files[0].State = "RECOVERY_PENDING" }},
		{name: "a data file is offline, the log is not", want: Log, do: DoLog, rule: RuleLog, set: func(w *world) { w.db().Files[0].State = "OFFLINE" }},
		{name: "Q6 SIMPLE", want: Log, do: Skip, rule: "Q6", says: "4208", set: func(w *world) { w.without("02", "04"); w.db().Model, w.db().LastLog = "SIMPLE", lsn.LSN{} }},
		{name: "Q19 SIMPLE since our last log", want: Log, do: Skip, rule: "Q19", set: func(w *world) { w.db().Model, w.db().LastLog = "SIMPLE", lsn.LSN{} }},
		{name: "SIMPLE has differentials", want: Diff, do: DoDiff, rule: RuleDiff, set: func(w *world) { w.db().Model, w.db().LastLog = "SIMPLE", lsn.LSN{} }},
		{name: "Q15 X1 single-user", want: Log, do: Skip, rule: "X1", exit: 3, set: func(w *world) { w.db().Access = "SINGLE_USER" }},
		{name: "Q15 X1 single-user and alone", want: Log, do: Refuse, rule: "X1", exit: 1, set: func(w *world) { w.db().Access, w.r.Alone = "SINGLE_USER", true }},
		{name: "Q15 X1 single-user has fulls", want: Full, do: DoFull, rule: RuleFull, warn: "X1", set: func(w *world) { w.db().Access = "SINGLE_USER" }},
		{name: "restricted user is no single user", want: Log, do: DoLog, rule: RuleLog, set: func(w *world) { w.db().Access = "RESTRICTED_USER" }},
		{name: "Q16 X7 data volume", want: Log, do: Refuse, rule: "Q16", exit: 16, says: `D:\ of sales has 1023 MiB`, set: func(w *world) { w.db().Volumes[0].Available = 1<<30 - 1 }},
		{name: "Q16 X7 log volume", want: Log, do: Refuse, rule: "Q16", exit: 16, says: `E:\`, set: func(w *world) { w.db().Volumes[1].Available = 0 }},
		{name: "Q16 X7 staging volume", want: Log, do: Refuse, rule: "X7", exit: 16, says: `S:\`, set: func(w *world) {
			w.db().Volumes = append(w.db().Volumes, facts.Volume{Name: `S:\`, Use: facts.UseStaging, Available: 5})
		}},
		{name: "X7 a full that does not fit", want: Full, do: Refuse, rule: "X7", exit: 16, says: `S:\, where backups are staged, has 4096 MiB free, and the full backup of sales needs about 5120 MiB`,
			set: func(w *world) { w.staging(4<<30, facts.Estimate{Full: 5 << 30}) }},
		{name: "X7 a full that fits just so", want: Full, do: DoFull, rule: RuleFull, set: func(w *world) { w.staging(5<<30, facts.Estimate{Full: 5 << 30}) }},
		{name: "X7 a differential has its own size", want: Diff, do: DoDiff, rule: RuleDiff, set: func(w *world) { w.staging(4<<30, facts.Estimate{Full: 5 << 30, Diff: 1 << 30}) }},
		{name: "X7 a log that does not fit", want: Log, do: Refuse, rule: "X7", exit: 16, says: "log backup of sales", set: func(w *world) { w.staging(4<<30, facts.Estimate{Log: 5 << 30}) }},
		{name: "X7 what is mounted below the root is not known", want: Full, do: DoFull, rule: RuleFull, set: func(w *world) {
			w.staging(4<<30, facts.Estimate{Full: 5 << 30})
			w.db().Volumes[2].Name = "/"
		}},
		{name: "X7 limit off", want: Full, do: DoFull, rule: RuleFull, set: func(w *world) {
			w.staging(4<<30, facts.Estimate{Full: 5 << 30})
			w.r.MinFree = -1
		}},
		{name: "X7 nobody knows how much is needed", want: Full, do: DoFull, rule: RuleFull, set: func(w *world) { w.staging(4<<30, facts.Estimate{}) }},
		{name: "Q16 exactly one GiB is enough", want: Log, do: DoLog, rule: RuleLog, set: func(w *world) { w.db().Volumes[0].Available = 1 << 30 }},
		{name: "Q16 limit off", want: Log, do: DoLog, rule: RuleLog, set: func(w *world) { w.r.MinFree, w.db().Volumes[0].Available = -1, 0 }},
		{name: "Q16 fulls go on", want: Full, do: DoFull, rule: RuleFull, warn: "Q16", set: func(w *world) { w.db().Volumes[0].Available = 0 }},
		{name: "Q17 encrypted", want: Full, do: DoFull, rule: RuleFull, warn: "Q17", set: func(w *world) {
			w.db().Encryption = &facts.Encryption{State: 3, Protector: "CERTIFICATE", Thumbprint: "AB12", Name: "tde"}
		}},
		{name: "Q17 encryption off, its key still there", want: Full, do: DoFull, rule: RuleFull, warn: "Q17", set: func(w *world) {
			w.db().Encryption = &facts.Encryption{State: 1, Protector: "CERTIFICATE", Thumbprint: "AB12", Name: "tde"}
		}},
		{name: "S-copy-log of a secondary", want: Log, do: Refuse, rule: RuleCopyLog, exit: 1, says: "3059", set: func(w *world) { secondary(w); w.r.CopyOnly = true }},
		{name: "Q9 system drive is only a warning", want: Full, do: DoFull, rule: RuleFull, warn: "Q9", set: func(w *world) { w.r.SystemDrive = "d:" }},
		{name: "BULK_LOGGED", want: Log, do: DoLog, rule: RuleLog, warn: "R9", set: func(w *world) { w.db().Model = "BULK_LOGGED" }},
		{name: "read-only full", want: Full, do: DoFull, rule: RuleFull, set: func(w *world) { w.db().ReadOnly = true }},
		{name: "read-only and unchanged log", want: Log, do: Skip, rule: RuleReadOnly, set: func(w *world) { w.db().ReadOnly, w.db().LogEnd, w.ours[0].LogEnd = true, "end", "end" }},
		{name: "read-only and nothing proven", want: Log, do: DoLog, rule: RuleLog, set: func(w *world) { w.db().ReadOnly = true }},
		{name: "read-only and a log before the full is missing", want: Log, do: DoLog, rule: RuleLog, set: func(w *world) {
			w.db().ReadOnly, w.db().LogEnd, w.ours[0].LogEnd = true, "end", "end"
			w.ours[0].First, w.ours[0].Last, w.ours[0].Checkpoint = at(290), at(310), at(290)
			w.db().BaseLSN, w.ours[2].DatabaseBackup = at(290), at(290)
		}},
		{name: "X4 another backup running", want: Full, do: DoFull, rule: RuleFull, warn: "X4", set: func(w *world) {
			w.f.History.Running = []facts.Running{{Session: 60, Command: "BACKUP DATABASE", Database: "sales"}}
		}},
		{name: "X4 a restore of another database", want: Full, do: DoFull, rule: RuleFull, set: func(w *world) {
			w.f.History.Running = []facts.Running{{Session: 60, Command: "RESTORE DATABASE", Database: "stock"}}
		}},
		{name: "master differential", want: Diff, do: DoFull, rule: RuleMaster, says: "3024", set: func(w *world) { w.db().ID = 1 }},
		{name: "master log", want: Log, do: Skip, rule: RuleMaster, says: "4212", set: func(w *world) { w.db().ID = 1 }},
		{name: "copy-only differential", want: Diff, do: Refuse, rule: RuleCopyDiff, exit: 1, set: func(w *world) { w.r.CopyOnly = true }},
	}
}

// TestChainBreaks has what breaks or forks a chain, Q20 and Q21 among it.
func TestChainBreaks(t *testing.T) { run(t, slices.Concat(chainBreaks(), leftHistories())) }

func chainBreaks() []kase {
	q20 := func(w *world) { w.foreign(chain.Log, 300, 400, `\\nas\x.trn`); w.db().LastLog = at(400) }
	reset := func(w *world) { w.db().LastLog = lsn.LSN{} }
	return []kase{
		{name: "M12 no full yet", want: Log, do: DoFull, rule: "M12", then: Log, set: (*world).empty},
		{name: "no chain in SQL Server and no log of ours", want: Log, do: DoFull, rule: RuleNoChain, then: Log, says: "4214",
			set: func(w *world) { w.without("02", "03", "04"); reset(w) }},
		{name: "SQL Server refused with 4214", want: Log, do: Refuse, rule: RuleChainReset, then: Full, exit: 3, set: func(w *world) { w.r.Failed = 4214 }},
		{name: "SIMPLE and back", want: Log, do: Refuse, rule: RuleChainReset, then: Full, exit: 3, set: reset},
		{name: "Q20 X3 another's log", want: Log, do: Refuse, rule: "Q20", then: Full, exit: 3, says: `by DOM\nightly, on IMG01, to \\nas\x.trn`, set: q20},
		{name: "Q20 thrown away", want: Log, do: Refuse, rule: "Q20", then: Full, exit: 3, says: "thrown away (to NUL)",
			set: func(w *world) { w.foreign(chain.Log, 300, 400, "NUL"); w.db().LastLog = at(400) }},
		{name: "Q20 msdb purged", want: Log, do: Refuse, rule: "Q20", then: Full, exit: 3, says: "does not say whose",
			set: func(w *world) { w.f.History.Rows = nil; w.db().LastLog = at(400) }},
		{name: "Q20 before our first log", want: Log, do: Refuse, rule: "Q20", then: Full, exit: 3, set: func(w *world) { w.without("02", "03", "04"); q20(w) }},
		{name: "Q20 a copy-only log of another's takes nothing", want: Log, do: DoLog, rule: RuleLog, set: func(w *world) {
			w.foreign(chain.Log, 300, 400, "x").CopyOnly = true
		}},
		{name: "Q20 bridged by a differential", want: Log, do: Refuse, rule: "Q20", then: Diff, exit: 3, set: func(w *world) { q20(w); w.r.Bridge = Diff }},
		{name: "Q20 bridged by a full where the base is not ours", want: Log, do: Refuse, rule: "Q20", then: Full, exit: 3, set: func(w *world) {
			q20(w)
			w.r.Bridge, w.db().Base, w.db().BaseLSN = Diff, "OTHER", at(390)
		}},
		{name: "Q20 a copy-only log changes nothing", want: Log, do: Refuse, rule: "Q20", exit: 3, set: func(w *world) { q20(w); w.r.CopyOnly = true }},
		{name: "Q20 a full says so too", want: Full, do: DoFull, rule: RuleFull, warn: "Q20", set: q20},
		{name: "Q20 a differential is not concerned", want: Diff, do: DoDiff, rule: RuleDiff, set: q20},
		{name: "lost by us", want: Log, do: Refuse, rule: RuleLost, then: Full, exit: 3, set: func(w *world) { q20(w); w.f.History.Rows[4].Name = chain.SetName }},
		{name: "lost by us, and its description says so", want: Log, do: Refuse, rule: RuleLost, then: Full, exit: 3, set: func(w *world) { q20(w); w.r.Repository = "abc"; w.made("abc") }},
		{name: "Q20 taken for another repository of ours", want: Log, do: Refuse, rule: "Q20", then: Full, exit: 3, says: "for another repository", set: func(w *world) { q20(w); w.r.Repository = "abc"; w.made("def") }},
		{name: "Q20 the gap is behind a newer full of ours", want: Log, do: DoLog, rule: RuleBridged, exit: 3, says: `by DOM\nightly`, set: bridged},
		{name: "Q20 and that full was taken for it", want: Log, do: DoLog, rule: RuleBridged, says: "05", set: func(w *world) { bridged(w); w.ours[4].Rule = "Q20" }},
	}
}

// leftHistories are databases that are no longer on the history of our backups.
func leftHistories() []kase {
	revert := func(w *world) { w.db().LastLog = at(200); w.f.History.Rows = w.f.History.Rows[:2] }
	return []kase{
		{name: "Q21 X3 replaced by a restore", want: Log, do: Refuse, rule: "Q21", then: Full, exit: 3, says: "2026-11-18 14:00:00 +05:45 by sa", set: func(w *world) {
			w.db().Fork = fork2
			w.restore(facts.Restore{ID: 1, At: now.Add(-time.Hour), Database: "sales", Type: "D", Replace: true, User: "sa"})
		}},
		{name: "Q21 new database GUID, msdb silent", want: Log, do: Refuse, rule: "Q21", then: Full, exit: 3, set: func(w *world) { w.db().GUID = "DB2" }},
		{name: "Q21 replaced from another family", want: Log, do: Refuse, rule: "Q21", then: Full, exit: 3, set: func(w *world) {
			w.db().Family, w.db().Fork, w.db().GUID = "FA2", fork2, "DB2"
			w.restore(facts.Restore{ID: 1, At: now, Replace: true})
		}},
		{name: "Q21 differential", want: Diff, do: DoFull, rule: "Q21", set: func(w *world) { w.db().GUID, w.db().Fork = "DB2", fork2 }},
		{name: "fork without a restore", want: Log, do: Refuse, rule: RuleFork, then: Full, exit: 3, set: func(w *world) { w.db().Fork = fork2 }},
		{name: "a log that spans the fork is not continued either", want: Log, do: Refuse, rule: RuleFork, then: Full, exit: 3, set: func(w *world) {
			w.db().Fork, w.db().FirstFork, w.db().ForkPoint = fork2, fork1, at(350)
		}},
		{name: "dropped and made anew", want: Log, do: DoFull, rule: RuleNewDatabase, then: Log, set: func(w *world) {
			w.db().Family, w.db().GUID, w.db().Fork, w.db().LastLog = "FA2", "DB2", fork2, lsn.LSN{}
		}},
		{name: "dropped and made anew, differential", want: Diff, do: DoFull, rule: RuleNewDatabase, set: func(w *world) {
			w.db().Family, w.db().GUID, w.db().Fork = "FA2", "DB2", fork2
		}},
		{name: "reverted by log", want: Log, do: Refuse, rule: RuleReverted, then: Full, exit: 3, set: revert},
		{name: "reverted by log, differential", want: Diff, do: DoFull, rule: RuleReverted, set: revert},
		{name: "reverted by base", want: Log, do: Refuse, rule: RuleReverted, then: Full, exit: 3, set: func(w *world) {
			w.ours = append(w.ours, ours(chain.Full, "05", 310, 320, now))
		}},
		{name: "reverted by history", want: Log, do: Refuse, rule: RuleReverted, then: Full, exit: 3, says: "msdb has lost our newest", set: func(w *world) {
			w.ours = append(w.ours, ours(chain.Diff, "05", 310, 320, now))
		}},
		{name: "msdb purged from its beginning", want: Log, do: DoLog, rule: RuleLog, set: func(w *world) { w.f.History.Rows = w.f.History.Rows[2:] }},
		{name: "msdb purged of everything", want: Log, do: DoLog, rule: RuleLog, set: func(w *world) { w.f.History.Rows = nil }},
		{name: "msdb does not know our newest differential", want: Log, do: Refuse, rule: RuleReverted, then: Full, exit: 3, set: vanished},
		{name: "nor did it when the backup after it was made", want: Log, do: DoLog, rule: RuleLog, set: func(w *world) {
			vanished(w)
			log := ours(chain.Log, "06", 300, 400, now)
			w.ours, w.f.History.Rows = append(w.ours, log), append(w.f.History.Rows, msdbRow(log))
			w.db().LastLog = at(400)
		}},
		{name: "msdb has been emptied since our newest differential", want: Log, do: Refuse, rule: RuleReverted, then: Full, exit: 3, set: func(w *world) {
			vanished(w)
			w.f.History.Rows = nil
		}},
		{name: "our newest differential has a row elsewhere", want: Log, do: DoLog, rule: RuleLog, set: func(w *world) {
			vanished(w)
			w.db().Replica = "REPLICA"
		}},
		{name: "our only backup is copy-only and msdb does not know it", want: Log, do: Refuse, rule: RuleReverted, then: Full, exit: 3, set: func(w *world) {
			b := ours(chain.Full, "05", 310, 320, now)
			b.CopyOnly = true
			w.ours, w.f.History.Rows = []chain.Backup{b}, nil
		}},
		{name: "log taken on another replica", want: Log, do: DoLog, rule: RuleLog, set: func(w *world) {
			secondary(w)
			w.f.History.Rows = w.f.History.Rows[:1]
			w.db().GUID = "DB-OF-THIS-REPLICA"
		}},
		{name: "clock set back", want: Log, do: DoLog, rule: RuleLog, set: func(w *world) { w.ours[3].Started, w.ours[0].Started = now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0) }},
		{name: "our aborted log", want: Log, do: DoLog, rule: RuleOverlap, set: aborted},
		{name: "our newest log is damaged in the repository", want: Log, do: DoFull, rule: RuleUnreachable, then: Log, exit: 3, set: func(w *world) { w.ours[3].Damage = "a chunk is missing" }},
		{name: "our only full is damaged", want: Log, do: DoFull, rule: "M11.5", then: Log, exit: 3, set: func(w *world) { w.ours[0].Damage = "a chunk is missing" }},
		{name: "an older log was forgotten", want: Log, do: DoLog, rule: RuleLog, set: func(w *world) { w.without("02") }},
		{name: "an older log was forgotten and no differential leads over it", want: Log, do: DoFull, rule: RuleUnreachable, then: Log, exit: 3, set: func(w *world) { w.without("02", "03") }},
		{name: "first log on a copy-only full", want: Log, do: DoLog, rule: RuleLog, set: func(w *world) {
			w.without("02", "03", "04")
			w.ours[0].CopyOnly = true
			w.db().LastLog, w.db().Base, w.db().BaseLSN = at(90), "OTHER", at(80)
		}},
	}
}

// bridged: another's log after ours, and then a full of ours.
func bridged(w *world) {
	w.foreign(chain.Log, 300, 400, `\\nas\x.trn`)
	full := ours(chain.Full, "05", 410, 420, now)
	w.ours, w.f.History.Rows = append(w.ours, full), append(w.f.History.Rows, msdbRow(full))
	w.db().LastLog, w.db().Base, w.db().BaseLSN = at(400), full.Set, at(410)
}

func aborted(w *world) {
	b := ours(chain.Log, "05", 300, 0, now)
	b.State, b.Set, b.Last = chain.Denied, "", lsn.LSN{}
	w.ours = append(w.ours, b)
}

func TestAuto(t *testing.T) { run(t, autos()) }

func autos() []kase {
	age := func(i, days int) func(*world) {
		return func(w *world) { w.ours[i].Started = now.AddDate(0, 0, -days) }
	}
	simple := func(w *world) { w.without("02", "04"); w.db().Model, w.db().LastLog = "SIMPLE", lsn.LSN{} }
	return []kase{
		{name: "never seen", do: DoFull, rule: "M12", then: Log, set: (*world).empty},
		{name: "never seen, SIMPLE", do: DoFull, rule: "M11.1", set: func(w *world) { w.empty(); simple(w) }},
		{name: "SIMPLE", do: DoDiff, rule: RuleAutoDiff, set: simple},
		{name: "SIMPLE and unchanged", do: Skip, rule: "M24", set: func(w *world) { simple(w); w.db().LogEnd, w.ours[0].LogEnd = "end", "end" }},
		{name: "SIMPLE and shrunk", do: DoFull, rule: "M11.10", set: func(w *world) { simple(w); w.db().Files[0].Pages = 1 }},
		{name: "full of seven days", do: DoFull, rule: RuleAutoFull, then: Log, says: "7 days old", set: age(0, 7)},
		{name: "full of six days", do: DoLog, rule: RuleAutoLog, set: age(0, 6)},
		{name: "full of seven days, fulls never", do: DoLog, rule: RuleAutoLog, set: func(w *world) { age(0, 7)(w); w.r.FullDays = -1 }},
		{name: "full of two days, fulls daily", do: DoFull, rule: RuleAutoFull, then: Log, set: func(w *world) { w.r.FullDays = 1 }},
		{name: "full of unknown age", do: DoFull, rule: RuleAutoFull, then: Log, says: "not known", set: func(w *world) { w.ours[0].Started = time.Time{} }},
		{name: "full from the future", do: DoFull, rule: RuleAutoFull, then: Log, says: "not known", set: age(0, -2)},
		{name: "differential of yesterday", do: DoDiff, rule: RuleAutoDiff, then: Log, says: "1 day after", set: age(2, 1)},
		{name: "differential of yesterday, SIMPLE", do: DoDiff, rule: RuleAutoDiff, set: func(w *world) { age(2, 1)(w); simple(w) }},
		{name: "differential due, file added", do: DoFull, rule: "M11.2", then: Log, set: func(w *world) { age(2, 1)(w); w.db().Files[1].Drop = at(1) }},
		{name: "log due, file added: no full for that", do: DoLog, rule: RuleAutoLog, set: func(w *world) { w.db().Files[1].Drop = at(1) }},
		{name: "differential due, unchanged: the log", do: DoLog, rule: RuleAutoLog, set: func(w *world) { age(2, 1)(w); w.db().LogEnd, w.ours[0].LogEnd = "end", "end" }},
		{name: "foreign log", do: DoFull, rule: "Q20", then: Log, exit: 3, set: func(w *world) { w.db().LastLog = at(400) }},
		{name: "foreign log, bridged by a differential", do: DoDiff, rule: "Q20", then: Log, exit: 3, set: func(w *world) { w.db().LastLog, w.r.Bridge = at(400), Diff }},
		{name: "another fork, likewise", do: DoFull, rule: RuleFork, then: Log, set: func(w *world) { w.db().Fork = fork2 }},
		{name: "replaced: nothing was asked for that failed, and nothing is missing", do: DoFull, rule: "Q21", then: Log, set: func(w *world) { w.db().GUID = "DB2" }},
		{name: "single-user, log due", do: Skip, rule: "X1", exit: 3, set: func(w *world) { w.db().Access = "SINGLE_USER" }},
		{name: "single-user, alone, log due", do: Refuse, rule: "X1", exit: 1, set: func(w *world) { w.db().Access, w.r.Alone = "SINGLE_USER", true }},
		{name: "single-user, full due", do: DoFull, rule: RuleAutoFull, exit: 3, warn: "X1", set: func(w *world) { age(0, 9)(w); w.db().Access = "SINGLE_USER" }},
		{name: "single-user, SIMPLE", do: DoDiff, rule: RuleAutoDiff, set: func(w *world) { simple(w); w.db().Access = "SINGLE_USER" }},
		{name: "too little space, full due", do: DoFull, rule: RuleAutoFull, exit: 3, warn: "Q16", set: func(w *world) { age(0, 9)(w); w.db().Volumes[0].Available = 1 }},
		{name: "master, full of today", do: Skip, rule: RuleRecent, set: func(w *world) { w.db().ID = 1; age(0, 0)(w) }},
		{name: "master, never seen", do: DoFull, rule: RuleMaster, set: func(w *world) { w.empty(); w.db().ID = 1 }},
		{name: "master, full of today is damaged", do: DoFull, rule: RuleMaster, set: func(w *world) { w.db().ID = 1; age(0, 0)(w); w.ours[0].Damage = "gone" }},
		{name: "damaged full, SIMPLE", do: DoFull, rule: "M11.5", exit: 3, set: func(w *world) { simple(w); w.ours[0].Damage = "gone" }},
		{name: "master, full of yesterday", do: DoFull, rule: RuleMaster, set: func(w *world) { w.db().ID = 1; age(0, 1)(w) }},
		{name: "secondary, copy-only full of today", do: DoLog, rule: RuleAutoLog, set: func(w *world) { secondary(w); w.ours[0].CopyOnly = true; w.without("03") }},
		{name: "secondary, copy-only full of a week", do: DoFull, rule: RuleAutoFull, then: Log, says: "01", set: func(w *world) {
			secondary(w)
			w.without("03")
			age(0, 7)(w)
			w.ours[0].CopyOnly = true
		}},
		{name: "copy-only", do: DoFull, rule: RuleAutoCopy, set: func(w *world) { w.r.CopyOnly = true }},
	}
}

func TestDayIsTheServersCalendarDay(t *testing.T) {
	w := newWorld()
	w.without("03")
	w.r.Want = Auto
	// Ten minutes, and a midnight between them; in UTC it is one day.
	w.ours[0].Started = time.Date(2026, 11, 17, 23, 55, 0, 0, zone)
	w.f.Instance.Now = time.Date(2026, 11, 18, 0, 5, 0, 0, zone)
	if d := w.decide(); d.Do != DoDiff {
		t.Errorf("after midnight: %s by %s; want a differential", d.Do, d.Rule)
	}
	// Nearly a day, and no midnight; in UTC there is one.
	w.ours[0].Started = time.Date(2026, 11, 18, 0, 5, 0, 0, zone)
	w.f.Instance.Now = time.Date(2026, 11, 18, 23, 55, 0, 0, zone)
	if d := w.decide(); d.Do != DoLog {
		t.Errorf("before midnight: %s by %s; want a log", d.Do, d.Rule)
	}
}

// vanished adds a differential of ours that msdb has no row of: the machine was set back
// behind it, or msdb's row failed (SQL Server error 3009).
func vanished(w *world) {
	b := ours(chain.Diff, "05", 310, 320, now)
	b.By = chain.ByHeader
	w.ours = append(w.ours, b)
}
