package decide

import (
	"fmt"
	"regexp"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/lsn"
)

// unread is a word of a sentence that nobody filled in.
var unread = regexp.MustCompile(`\{[a-z]*\}`)

// drawWorld is a world out of joint: few values for each fact, so that they meet.
func drawWorld(t *rapid.T) *world {
	w := newWorld()
	pick := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(t, name) }
	point := func(name string) lsn.LSN {
		n := rapid.Uint32Range(0, 6).Draw(t, name)
		if n == 0 {
			return lsn.LSN{}
		}
		return at(n)
	}
	yes := func(name string) bool { return rapid.IntRange(0, 9).Draw(t, name) == 0 }
	w.r = Request{
		Want:     Want(pick("want", "", "auto", "full", "diff", "log")),
		CopyOnly: yes("copy"), Guest: yes("guest"), AllowAG: yes("ag"), Alone: yes("alone"), Excluded: yes("excluded"),
		Resolved: rapid.Bool().Draw(t, "resolved"), SetHash: pick("hash", "", "set", "other"),
		Bridge: Want(pick("bridge", "", "full", "diff")), FullDays: rapid.IntRange(-1, 8).Draw(t, "fulldays"),
		Failed: rapid.SampledFrom([]int32{0, 0, 0, 0, 3035, 4214}).Draw(t, "failed"),
	}
	db := w.db()
	db.ID = rapid.SampledFrom([]int{5, 5, 5, 5, 1, 2, 4}).Draw(t, "id")
	db.State = pick("state", "ONLINE", "ONLINE", "ONLINE", "ONLINE", "ONLINE", "OFFLINE", "SUSPECT", "RESTORING", "")
	db.Access = pick("access", "MULTI_USER", "MULTI_USER", "SINGLE_USER")
	db.Model = pick("model", "FULL", "FULL", "BULK_LOGGED", "SIMPLE", "")
	db.Family = pick("family", family, family, family, family, "FA2", "")
	db.GUID, db.Fork = pick("guid", dbGUID, dbGUID, dbGUID, "DB2", ""), pick("fork", fork1, fork1, fork1, fork2, "")
	db.LastLog, db.BaseLSN = point("lastlog"), point("baselsn")
	db.ReadOnly, db.Standby = yes("ro"), yes("standby")
	if yes("replica") {
		secondary(w)
	}
	db.LogEnd = pick("log end", "", "a", "b")
	if rapid.Bool().Draw(t, "run told") {
		w.f.Instance.Started = now
	}
	if yes("narrow") {
		db.Volumes[0].Available = 0
	}
	w.ours, w.f.History = drawBackups(t), facts.History{}
	sets := []string{"", "OTHER"}
	for _, b := range w.ours {
		sets = append(sets, b.Set)
		if rapid.IntRange(0, 3).Draw(t, "row") > 0 {
			w.f.History.Rows = append(w.f.History.Rows, msdbRow(b))
		}
	}
	db.Base = pick("base", sets...)
	if rapid.Bool().Draw(t, "one base") {
		db.Files[0].Base = db.Base
	}
	if yes("restored") {
		w.restore(facts.Restore{ID: 2, At: now})
		for i := range w.ours {
			w.ours[i].LastRestore = rapid.SampledFrom([]*chain.LastRestore{nil, {}, {ID: 2, At: now.Format("2006-01-02T15:04:05")}, {ID: 3}}).Draw(t, "seen")
		}
	}
	return w
}

// drawBackups are backups of ours, some of them of other forks, unconfirmed, damaged.
func drawBackups(t *rapid.T) []chain.Backup {
	var list []chain.Backup
	for i := range rapid.IntRange(0, 5).Draw(t, "backups") {
		kind := rapid.SampledFrom([]chain.Kind{chain.Full, chain.Diff, chain.Log, chain.Log}).Draw(t, "kind")
		first := rapid.Uint32Range(1, 6).Draw(t, "first")
		last := rapid.Uint32Range(first, 6).Draw(t, "last")
		b := ours(kind, fmt.Sprintf("%02d", i+1), first, last, now.AddDate(0, 0, -rapid.IntRange(-1, 8).Draw(t, "age")))
		b.State = rapid.SampledFrom([]chain.State{chain.Confirmed, chain.Confirmed, chain.Confirmed, chain.Denied, chain.Unconfirmed}).Draw(t, "word")
		b.LogEnd = rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "its log end")
		b.CopyOnly = rapid.IntRange(0, 5).Draw(t, "copied") == 0
		b.DatabaseBackup = lsn.LSN{}
		b.ReadOnly = rapid.Bool().Draw(t, "its ro")
		b.Run = rapid.SampledFrom([]string{"", "another", now.Format("2006-01-02T15:04:05.000")}).Draw(t, "its run")
		if rapid.IntRange(0, 7).Draw(t, "forked") == 0 {
			b.FirstFork, b.Fork = fork2, fork2
		}
		if rapid.IntRange(0, 7).Draw(t, "damaged") == 0 {
			b.Damage = "a chunk is missing"
		}
		if rapid.IntRange(0, 9).Draw(t, "family") == 0 {
			b.Family = "FA2"
		}
		if len(list) > 0 && rapid.IntRange(0, 7).Draw(t, "abandons") == 0 {
			b.Abandons = []string{list[0].Set}
		}
		list = append(list, b)
	}
	return list
}

// reach is what a restore could come to with what of ours SQL Server confirmed on
// the database's fork, worked out by trying; and whether a log of it ends after the
// LSN now.
func reach(w *world, now lsn.LSN) (redo []lsn.LSN, beyond bool) {
	abandoned := map[string]bool{}
	for _, b := range w.ours {
		for _, set := range b.Abandons {
			abandoned[set] = abandoned[set] || b.Family == w.db().Family && b.Fork == w.db().Fork
		}
	}
	var good []chain.Backup
	for _, b := range w.ours {
		if b.State == chain.Confirmed && b.Family == w.db().Family && b.Fork == w.db().Fork && !abandoned[b.Set] {
			beyond = beyond || b.Kind == chain.Log && !b.CopyOnly && now.Less(b.Last)
			if b.Damage == "" {
				good = append(good, b)
			}
		}
	}
	for _, b := range good {
		based := slices.ContainsFunc(good, func(f chain.Backup) bool { return f.Kind == chain.Full && !f.CopyOnly && f.Set == b.Base })
		if b.Kind == chain.Full || b.Kind == chain.Diff && based {
			redo = append(redo, b.Last)
		}
	}
	for grown := true; grown; {
		grown = false
		for _, l := range good {
			applies := func(r lsn.LSN) bool { return l.First.Compare(r) <= 0 && r.Compare(l.Last) <= 0 }
			if l.Kind == chain.Log && !slices.Contains(redo, l.Last) && slices.ContainsFunc(redo, applies) {
				redo, grown = append(redo, l.Last), true
			}
		}
	}
	return redo, beyond
}

// TestTableIsTotal: random facts always get a decision with a rule and a reason, and
// never one that a restore would regret.
func TestTableIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		d := w.decide()
		if d.Rule == "" || d.Reason == "" || unread.MatchString(d.Reason) {
			t.Fatalf("%+v has no rule or reason", d)
		}
		if !slices.Contains(Rules(), d.Rule) {
			t.Fatalf("rule %s is not in the list of rules", d.Rule)
		}
		if !slices.Contains([]int{0, 1, 3, 16}, d.Exit) {
			t.Fatalf("exit %d by %s", d.Exit, d.Rule)
		}
		switch d.Do {
		case DoFull, Skip, Refuse:
		case Resolve:
			if len(d.Unconfirmed) == 0 || w.r.Resolved {
				t.Fatalf("nothing to resolve: %+v", d)
			}
		case DoDiff:
			checkDiff(t, w, d)
		case DoLog:
			checkLog(t, w, d)
		default:
			t.Fatalf("action %q", d.Do)
		}
		if w.r.CopyOnly && (len(d.Then) > 0 || (d.Do == DoFull || d.Do == DoLog) && !d.CopyOnly) {
			t.Fatalf("copy-only and %+v", d)
		}
		if d.Do == Refuse && d.Exit == 0 {
			t.Fatalf("refused and green: %+v", d)
		}
	})
}

// checkDiff: never a differential on a base that is not our newest full.
func checkDiff(t *rapid.T, w *world, d Decision) {
	i := slices.IndexFunc(w.ours, func(b chain.Backup) bool { return b.Set == d.Base })
	if d.Base == "" || d.Base != w.db().Base || i < 0 {
		t.Fatalf("differential on %s by %s, SQL Server's base is %s", d.Base, d.Rule, w.db().Base)
	}
	b := w.ours[i]
	if b.State != chain.Confirmed || b.Kind != chain.Full || b.CopyOnly || b.Damage != "" || b.Fork != w.db().Fork || b.Point != d.Parent {
		t.Fatalf("differential by %s on %+v", d.Rule, b)
	}
}

// checkLog: never a log that no restore could use, and never one on a history that
// SQL Server has left.
func checkLog(t *rapid.T, w *world, d Decision) {
	next := w.db().LastLog
	redo, beyond := reach(w, next)
	usable := slices.ContainsFunc(redo, func(r lsn.LSN) bool { return next.Compare(r) <= 0 })
	if next.IsZero() || w.db().Model == "SIMPLE" || d.First != next || beyond || !usable {
		t.Fatalf("log from %s by %s; a restore comes to %v, beyond: %v", next, d.Rule, redo, beyond)
	}
	newest := lsn.LSN{}
	data := lsn.LSN{}
	for _, b := range w.ours {
		if b.State != chain.Confirmed || b.Fork != w.db().Fork || b.Family != w.db().Family {
			continue
		}
		if b.Kind == chain.Log && !b.CopyOnly && newest.Less(b.Last) {
			newest = b.Last
		} else if b.Kind != chain.Log && data.Less(b.Last) {
			data = b.Last
		}
	}
	if next != newest && data.Less(next) {
		t.Fatalf("log from %s by %s; our newest log ends at %s, our data backups at %s", next, d.Rule, newest, data)
	}
}

// TestEveryRuleHasACase: a rule of the table that no test calls for would be one
// nobody has tried.
func TestEveryRuleHasACase(t *testing.T) {
	seen := map[Rule]bool{}
	for _, c := range everyCase() {
		seen[c.world().decide().Rule] = true
	}
	for _, rule := range Rules() {
		if !seen[rule] && rule != RuleRace && rule != RuleMismatch && rule != RuleKept { // Check's and Keep's
			t.Errorf("rule %s decides in no case", rule)
		}
	}
}
