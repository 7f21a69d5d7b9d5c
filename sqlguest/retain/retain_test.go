package retain_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/repo/recovery"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/retain"
)

// backupOf reads "ID first-last [word…]": the kind is the id's first letter (f, c for a
// copy-only full, d, l); a word is =BASE, >FORK@PLACE (the log leads there from fork A),
// @FORK, !SET for one that it saw abandoned, ? for unconfirmed, x for denied, # for damaged.
// Every backup takes an hour and ends on the hour.
func backupOf(t *testing.T, n int, text string) chain.Backup {
	words := strings.Fields(text)
	at := time.Date(2026, 3, 1, n, 0, 0, 0, time.UTC)
	b := chain.Backup{Point: words[0], State: chain.Confirmed, Header: chain.Header{
		Set: words[0], Kind: map[byte]chain.Kind{'f': chain.Full, 'c': chain.Full, 'd': chain.Diff, 'l': chain.Log}[words[0][0]],
		Family: "F", Fork: "A", FirstFork: "A", CopyOnly: words[0][0] == 'c', Started: at.Add(-time.Hour), Finished: at,
	}}
	if _, err := fmt.Sscanf(words[1], "%d-%d", &b.First.VLF, &b.Last.VLF); err != nil {
		t.Fatal(err)
	}
	for _, w := range words[2:] {
		switch w[0] {
		case '=':
			b.Base = w[1:]
		case '>':
			b.Fork = w[1:2]
			if _, err := fmt.Sscanf(w[2:], "@%d", &b.ForkPoint.VLF); err != nil {
				t.Fatal(err)
			}
		case '@':
			b.Fork, b.FirstFork = w[1:], w[1:]
		case '!':
			b.Abandons = append(b.Abandons, w[1:])
		case '?':
			b.State, b.Set, b.Last = chain.Unconfirmed, "", lsn.LSN{}
		case 'x':
			b.State = chain.Denied
		case '#':
			b.Damaged = true
		}
	}
	return b
}

// TestWhatLeadsWhere: which backups are restorable by those that are there, and what the
// kept ones need.
func TestWhatLeadsWhere(t *testing.T) {
	for name, tt := range map[string]struct {
		backups []string
		gone    string // that are not there
		lost    string // that are there and cannot be restored
		keep    string // are kept by a rule
		needs   string // and what they need, with what needs it
		since   int    // hour from which on all moments must stay reachable, 0 for none
	}{
		"a log follows the nearest data backup": {
			backups: []string{"f1 1-2", "l1 1-3", "d1 4-5 =f1", "l2 3-6", "l3 6-7"}, keep: "l3", needs: "f1<d1 d1<l2 l2<l3"},
		"across a lost log by the differential alone": {
			backups: []string{"f1 1-2", "l1 1-3", "d1 4-5 =f1", "l2 3-6", "l3 6-7"}, gone: "l1", keep: "l2", needs: "f1<d1 d1<l2"},
		"a gap": {
			backups: []string{"f1 1-2", "l1 1-3", "l2 4-5", "l3 5-6"}, lost: "l2 l3", keep: "l3"},
		"a gap made by us": {
			backups: []string{"f1 1-2", "l1 1-3", "l2 3-5", "l3 5-6"}, gone: "l1", lost: "l2 l3", keep: "l1", needs: "f1<l1"},
		"a copy-only full bridges, and is no base": {
			backups: []string{"f1 1-2", "l1 1-3", "c1 4-5", "l2 3-6", "d1 7-8 =c1"}, gone: "f1", lost: "l1 d1", keep: "l2", needs: "c1<l2"},
		"a differential without its full": {
			backups: []string{"f1 1-2", "d1 4-5 =f1", "l1 1-6"}, gone: "f1", lost: "d1 l1", keep: "d1", needs: "f1<d1"},
		"another fork's log": {
			backups: []string{"f1 1-2", "l1 1-5", "l2 5-7", "l3 5-8 >B@5", "l4 8-9 @B"}, gone: "l2", keep: "l4", needs: "f1<l1 l1<l3 l3<l4"},
		"a log of another fork that nothing leads over to": {
			backups: []string{"f1 1-2", "l1 1-5", "l4 5-9 @B"}, lost: "l4"},
		"what was left by a revert does not mix with what came later": {
			backups: []string{"f1 1-2", "l1 1-3", "l2 3-6", "f2 4-5 !l2", "l3 3-6", "l4 6-7"}, gone: "f2 l3", lost: "l2 l4", keep: "l2", needs: "f1<l1 l1<l2 f2<l2"},
		"after a revert the full leads on": {
			backups: []string{"f1 1-2", "l1 1-3", "l2 3-6", "f2 4-5 !l2", "l3 3-6", "l4 6-7"}, gone: "l1 l2", keep: "l4", needs: "f2<l3 l3<l4"},
		"where a fork left a log that was given out twice": {
			backups: []string{"f1 1-2", "l1 1-6", "f2 4-5 !l1", "l2 1-7", "l3 4-8 >B@4", "l4 8-9 @B"}, lost: "l3 l4", keep: "l3", needs: "f2<l1 l1<l3 f1<l1"},
		"and once that cannot be seen any more": {
			backups: []string{"f1 1-2", "l1 1-6", "f2 3-4 !l1", "l2 1-7", "l3 4-8 >B@4", "l4 8-9 @B"}, gone: "l1", lost: "l3 l4", keep: "f1"},
		"a log that leads over in its midst": {
			backups: []string{"f1 1-2", "l1 1-4", "l3 4-8 >B@6", "l4 8-9 @B"}, keep: "l4", needs: "f1<l1 l1<l3 l3<l4"},
		"an abandoned full to which somebody went back, as a differential tells": {
			backups: []string{"f1 1-2", "f5 2-3", "f7 2-3 !f5", "l8 3-6 >B@3", "d9 7-8 =f5 @B"}, keep: "l8", needs: "f5<l8 f7<f5 d9<l8"},
		"damaged": {
			backups: []string{"f1 1-2 #", "l1 1-3", "f2 3-4", "l2 3-5 #", "l3 5-6"}, lost: "f1 l1 l2 l3", keep: "f2"},
		"denied": {
			backups: []string{"f1 1-2", "f2 2-3 x", "l1 1-4 x", "l2 1-4"}, lost: "f2 l1", keep: "l2 f2", needs: "f1<l2"},
		"unconfirmed": {
			backups: []string{"f1 1-2", "l1 1-3", "l2 3-0 ?"}, lost: "l2", keep: "l2", needs: "f1<l1 l1<l2"},
		"an unconfirmed differential": {
			backups: []string{"f1 1-2", "f2 2-3", "d1 0-0 =f1 ?"}, lost: "d1", keep: "d1", needs: "f1<d1"},
		"an empty log": {
			backups: []string{"f1 1-2", "l1 1-3", "l2 3-3"}, keep: "l2", needs: "f1<l1 l1<l2"},
		"every moment in a log, and a full in its midst": {
			backups: []string{"f1 1-2", "l1 1-3", "f2 4-5", "l2 3-6"}, keep: "l2", since: 2, needs: "f2<l2 l1<l2 f1<l1"},
		"the moments in a log behind the full in its midst": {
			backups: []string{"f1 1-2", "l1 1-3", "f2 4-5", "l2 3-6"}, keep: "l2", since: 3, needs: "f2<l2"},
	} {
		t.Run(name, func(t *testing.T) {
			var backups []chain.Backup
			var ids []string
			for n, text := range tt.backups {
				backups = append(backups, backupOf(t, n, text))
				ids = append(ids, backups[n].Point)
			}
			c := retain.New(ids, backups)
			there := make([]bool, len(ids))
			for i, id := range ids {
				there[i] = !slices.Contains(strings.Fields(tt.gone), id)
			}
			var lost []string
			for i, reached := range c.Reach(there) {
				if there[i] && !reached {
					lost = append(lost, ids[i])
				}
			}
			if got := strings.Join(lost, " "); got != tt.lost {
				t.Errorf("lost are %q, want %q", got, tt.lost)
			}
			if got := needs(c, ids, strings.Fields(tt.keep), tt.since); got != sorted(tt.needs) {
				t.Errorf("needed are %q, want %q", got, sorted(tt.needs))
			}
		})
	}
}

func sorted(words string) string {
	list := strings.Fields(words)
	slices.Sort(list)
	return strings.Join(list, " ")
}

// needs is what Hold adds to those kept, each with what needs it.
func needs(c *retain.Chain, ids, kept []string, hour int) string {
	keep, by := make([]bool, len(ids)), make([]int32, len(ids))
	for i, id := range ids {
		keep[i], by[i] = slices.Contains(kept, id), -1
	}
	var since time.Time
	if hour > 0 {
		since = time.Date(2026, 3, 1, hour, 0, 0, 0, time.UTC)
	}
	c.Hold(keep, by, since)
	var added []string
	for i, id := range ids {
		if keep[i] && !slices.Contains(kept, id) {
			added = append(added, id+"<"+ids[by[i]])
		}
	}
	return sorted(strings.Join(added, " "))
}

// TestBackupServesOnceItsLastSecondIsOver, by SQL Server's own clock.
func TestBackupServesOnceItsLastSecondIsOver(t *testing.T) {
	b := backupOf(t, 3, "f1 1-2")
	c := retain.New([]string{"f1", "l1"}, []chain.Backup{b, backupOf(t, 4, "l1 1-0 ?")})
	if got := c.Serves(0); !got.Equal(b.Finished.Add(time.Second)) || !c.Serves(1).IsZero() || c.Open(0) || !c.Open(1) {
		t.Errorf("it serves from %s, and an unconfirmed one from %s", got, c.Serves(1))
	}
}

// TestPointsThatWentMeanwhileAreNotThere: of those that are judged some are gone, and of
// those that are there some are new.
func TestPointsThatWentMeanwhileAreNotThere(t *testing.T) {
	backups := []chain.Backup{backupOf(t, 0, "f1 1-2"), backupOf(t, 1, "l1 1-3"), backupOf(t, 2, "l2 3-4")}
	c := retain.New([]string{"f0", "f1", "l1"}, backups)
	if got := c.Reach([]bool{true, true, true}); !slices.Equal(got, []bool{false, true, true}) {
		t.Errorf("reached: %v", got)
	}
	if !c.Serves(0).IsZero() || c.Open(0) {
		t.Error("a point that is gone serves")
	}
}

// TestChainThatCannotBeReadStopsAPolicy, and not a point that is forgotten by name.
func TestChainThatCannotBeReadStopsAPolicy(t *testing.T) {
	broken := errors.New("broken")
	chains := retain.Chains(func(string) ([]chain.Backup, error) { return nil, broken })
	points := recovery.BriefsOf([]*recovery.Point{{ID: "f1", Kind: recovery.SQLFull, Identity: "a", Attrs: noted}, {ID: "d1", Kind: recovery.SQLDiff, Identity: "a", Parent: "f1", Attrs: noted}})
	if judged, err := (recovery.Policy{Last: 1}).Judge(points, time.Now(), nil, chains); !errors.Is(err, broken) || judged != nil {
		t.Errorf("%v, %v", judged, err)
	}
	for id, want := range map[string]error{"f1": recovery.ErrNeeded, "d1": nil} {
		if err := recovery.NeededBy(points, func(p string) bool { return p == id }, chains); !errors.Is(err, want) {
			t.Errorf("forget %s: %v, want %v", id, err, want)
		}
	}
}

// TestPointsOfWhichNothingIsNotedAreJudgedByTheirParents: another program's.
func TestPointsOfWhichNothingIsNotedAreJudgedByTheirParents(t *testing.T) {
	chains := retain.Chains(func(string) ([]chain.Backup, error) { return nil, errors.New("nobody asks") })
	points := recovery.BriefsOf([]*recovery.Point{{ID: "f1", Kind: recovery.SQLFull, Identity: "a"}, {ID: "d1", Kind: recovery.SQLDiff, Identity: "a", Parent: "f1", Time: time.Unix(1, 0), Attrs: noted}})
	judged, err := (recovery.Policy{Last: 1}).Judge(points, time.Now(), nil, chains)
	if err != nil || len(judged) != 2 || judged[0].Reasons[0] != "needed by d1" {
		t.Errorf("%+v, %v", judged, err)
	}
}

// TestPITKeepsWhatShowsOnWhichHistoryTheDatabaseWas: a differential without its full
// restores nothing; without it nobody would know what was there then.
func TestPITKeepsWhatShowsOnWhichHistoryTheDatabaseWas(t *testing.T) {
	var backups []chain.Backup
	var points []*recovery.Point
	for n, text := range []string{"f1 1-2", "d1 3-4 =foreign", "l1 4-5 x", "f2 6-7"} {
		b := backupOf(t, n, text)
		backups = append(backups, b)
		points = append(points, &recovery.Point{ID: b.Point, Kind: recovery.Kind("sql-" + string(b.Kind)), Identity: "a", Time: b.Finished, Attrs: noted})
	}
	chains := retain.Chains(func(string) ([]chain.Backup, error) { return backups, nil })
	for pit, want := range map[time.Duration]string{10 * time.Hour: "f1 d1 f2", 30 * time.Minute: "f2"} {
		judged, err := recovery.Policy{PIT: pit}.Judge(recovery.BriefsOf(points), backups[3].Finished.Add(time.Hour), nil, chains)
		if err != nil {
			t.Fatal(err)
		}
		var kept []string
		for _, j := range judged {
			if j.Keep {
				kept = append(kept, j.Point.ID())
			}
		}
		if got := strings.Join(kept, " "); got != want {
			t.Errorf("of the last %v: %s, want %s", pit, got, want)
		}
	}
}

// TestNewestIsNeverForgottenThoughTheClockWasSetBack: the full that was made last shows an
// earlier time than the log before it.
func TestNewestIsNeverForgottenThoughTheClockWasSetBack(t *testing.T) {
	backups := []chain.Backup{backupOf(t, 0, "f1 1-2"), backupOf(t, 9, "l1 2-4"), backupOf(t, 5, "f2 5-6 @B")}
	var points []*recovery.Point
	for _, n := range []int{0, 2, 1} { // in the order of their times
		b := backups[n]
		points = append(points, &recovery.Point{ID: b.Point, Kind: recovery.Kind("sql-" + string(b.Kind)), Identity: "a", Time: b.Finished, Attrs: noted})
	}
	chains := retain.Chains(func(string) ([]chain.Backup, error) { return backups, nil })
	judged, err := recovery.Policy{Within: time.Second}.Judge(recovery.BriefsOf(points), backups[1].Finished.Add(time.Hour), nil, chains)
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range judged {
		if !j.Keep {
			t.Errorf("point %s goes: %q", j.Point.ID(), j.Reasons)
		}
	}
	// Of those that are asked about the newest counts.
	judged, err = recovery.Policy{Within: time.Second}.Judge(recovery.BriefsOf(points), backups[1].Finished.Add(time.Hour), func(b *recovery.Brief) bool { return b.ID() != "f2" }, chains)
	if err != nil || len(judged) != 2 || !judged[0].Keep || !judged[1].Keep {
		t.Errorf("%+v, %v", judged, err)
	}
}

// TestLogThatStandsByItselfStaysAsAProof: a restore left the fork inside what was undone.
// That LSNs of the fork were given out twice is told by the log that stands by itself
// alone; without it what came after the revert would be taken for what the restore left.
func TestLogThatStandsByItselfStaysAsAProof(t *testing.T) {
	texts := []string{"f1 0-10", "l1 5-20", "lx 20-40", "l2 20-25", "d2 26-28 =f1", "f3 31-35 @B", "lb 20-50 >B@30"}
	all, ids := make([]chain.Backup, len(texts)), make([]string, len(texts))
	for i, s := range texts {
		all[i] = backupOf(t, i+1, s)
		ids[i] = all[i].Point
	}
	all[2].By = chain.ByItself
	keep, by := []bool{true, false, false, false, true, true, true}, []int32{-1, -1, -1, -1, -1, -1, -1}
	c := retain.New(ids, all)
	c.Hold(keep, by, time.Time{})
	if !keep[2] {
		t.Errorf("lx is not held: %v", keep)
	}
	for _, there := range [][]bool{keep, {true, true, false, true, true, true, true}} {
		if got := c.Reach(there); !there[2] && got[6] {
			t.Errorf("without lx lb is said to be reached: %v", got)
		}
	}
}
