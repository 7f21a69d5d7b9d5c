package plan

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/plan/clock"
)

var cet = time.FixedZone("", 3600)

func l(block uint32) lsn.LSN { return lsn.LSN{VLF: 45, Block: block, Slot: 1} }

// set is a confirmed backup of minute m of 8 o'clock: from second 0 to second 5.
func set(kind chain.Kind, name string, first, last uint32, m int) chain.Backup {
	start := time.Date(2026, 3, 2, 8, m, 0, 0, cet)
	return chain.Backup{Header: chain.Header{
		Set: name, Kind: kind, Database: "sales", Family: "FAM", FirstFork: "F1", Fork: "F1", First: l(first), Last: l(last), Checkpoint: l(first),
		Started: start, Finished: start.Add(5 * time.Second),
	}, Point: name, State: chain.Confirmed, Stripes: 1, StreamBytes: []int64{10}}
}

func diffOf(base chain.Backup, name string, first, last uint32, m int) chain.Backup {
	b := set(chain.Diff, name, first, last, m)
	b.Base, b.BaseLSN, b.DatabaseBackup = base.Set, base.Checkpoint, base.Checkpoint
	return b
}

// chained is a full, a differential, logs with a bulk-logged one, and a full between.
func chained() []chain.Backup {
	a := set(chain.Full, "A", 100, 110, 0)
	l3 := set(chain.Log, "L3", 300, 400, 30)
	l3.BulkLogged = true
	return []chain.Backup{a, set(chain.Log, "L1", 100, 200, 10), diffOf(a, "D", 240, 250, 15), set(chain.Log, "L2", 200, 300, 20),
		l3, set(chain.Log, "L4", 400, 500, 40), set(chain.Full, "B", 500, 510, 45), set(chain.Log, "L5", 500, 600, 50)}
}

// told is a plan in short: its points and where the stop may be met.
func told(p Plan, err error) string {
	var u *Unreachable
	var a *Ambiguous
	side := func(m *chain.Moment) string {
		switch {
		case m == nil:
			return "-"
		case m.Point == "":
			return m.Time.Format("15:04:05")
		}
		return m.Point
	}
	switch {
	case errors.As(err, &u):
		return "refused: " + side(u.Before) + " " + side(u.After)
	case errors.As(err, &a):
		text := "ambiguous:"
		for _, r := range a.Readings {
			text += " " + r.Time.Format("15:04Z07:00") + r.Fork
		}
		return text
	case err != nil:
		return err.Error()
	}
	var parts []string
	for _, s := range p.Steps {
		name := s.Point
		if s.May {
			name += "?"
		}
		if name != "" {
			parts = append(parts, name)
		}
	}
	return strings.Join(parts, " ")
}

func clockAt(m, s, ms int) Target {
	return Target{At: time.Date(2026, 3, 2, 8, m, s, ms*1e6, time.UTC), Bare: true}
}

func TestBoundaries(t *testing.T) {
	for _, x := range []struct {
		what   string
		target Target
		want   string
	}{
		{"latest", Target{}, "B L5"},
		{"a full by its point", Target{Point: "A"}, "A"},
		{"a differential by its point", Target{Point: "D"}, "A D"},
		{"a log by its point, from the newest start", Target{Point: "L2"}, "A D L2"},
		{"a log by its point, before the differential", Target{Point: "L1"}, "A L1"},
		{"no such point", Target{Point: "X"}, "refused: - -"},
		{"before the first full's end", clockAt(0, 3, 0), "refused: - A"},
		{"in the last second of the first full: it may hold more", clockAt(0, 5, 900), "refused: - A"},
		{"the second after the first full", clockAt(0, 6, 0), "A L1?"},
		{"exactly a log's start", clockAt(10, 0, 0), "A L1?"},
		{"a millisecond after a log's start: only the next is sure", clockAt(10, 0, 3), "A L1? L2?"},
		{"a log's finish", clockAt(10, 5, 0), "A L1? L2?"},
		{"the second after a log", clockAt(10, 6, 0), "A L1 L2?"},
		{"a differential by its finish, not by its start", clockAt(15, 3, 0), "A L1 L2?"},
		{"the second after a differential", clockAt(15, 6, 0), "A D L2?"},
		{"inside a bulk-logged log", clockAt(25, 0, 0), "refused: L2 L3"},
		{"between a bulk-logged log's start and finish", clockAt(30, 3, 0), "refused: L2 L3"},
		{"behind a bulk-logged log", clockAt(35, 0, 0), "A D L2 L3 L4?"},
		{"after the last log's start", clockAt(50, 3, 0), "refused: 08:50:00 L5"},
		{"after the last log's end", clockAt(59, 0, 0), "refused: L5 -"},
		{"LSN before the first full", Target{LSN: l(50)}, "refused: - A"},
		{"LSN at the full's end", Target{LSN: l(110)}, "A L1?"},
		{"a log's first record", Target{LSN: l(200)}, "A L1 L2?"},
		{"before a log's first record: no other log is needed", Target{LSN: l(200), Before: true}, "A L1"},
		{"a record that lies in the differential already", Target{LSN: l(249)}, "A L1 L2?"},
		{"the first record after the differential", Target{LSN: l(250)}, "A D L2?"},
		{"a record of a bulk-logged log", Target{LSN: l(350)}, "refused: L2 L3"},
		{"the LSN behind the last log", Target{LSN: l(600)}, "refused: L5 -"},
		{"before it", Target{LSN: l(600), Before: true}, "B L5"},
		{"UTC is converted by the stored offset", Target{At: time.Date(2026, 3, 2, 7, 15, 6, 0, time.UTC)}, "A D L2?"},
	} {
		if got := told(Make(x.target, chained(), Options{})); got != x.want {
			t.Errorf("%s: %q; want %q", x.what, got, x.want)
		}
	}
}

func TestFallsBackAcrossGaps(t *testing.T) {
	a, b := set(chain.Full, "A", 100, 110, 0), set(chain.Full, "B", 300, 310, 30)
	d1, d2 := diffOf(a, "D1", 150, 160, 5), diffOf(a, "D2", 250, 260, 25)
	l1, l2, l3 := set(chain.Log, "L1", 100, 200, 10), set(chain.Log, "L2", 200, 280, 28), set(chain.Log, "L3", 280, 400, 40)
	lost := func(x chain.Backup) chain.Backup { x.Damage = "lost"; return x }
	copyOnly := func(x chain.Backup) chain.Backup { x.CopyOnly = true; return x }
	denied := func(x chain.Backup) chain.Backup { x.State = chain.Denied; return x }
	for _, x := range []struct {
		what string
		all  []chain.Backup
		want string
	}{
		{"all there", []chain.Backup{a, d1, l1, d2, l2, b, l3}, "B L3"},
		{"older full, newest differential", []chain.Backup{a, d1, l1, d2, l2, lost(b), l3}, "A D2 L2 L3"},
		{"older differential", []chain.Backup{a, d1, l1, lost(d2), l2, lost(b), l3}, "A D1 L1 L2 L3"},
		{"no differential", []chain.Backup{a, lost(d1), l1, lost(d2), l2, lost(b), l3}, "A L1 L2 L3"},
		{"a copy-only full is a start", []chain.Backup{a, l1, lost(l2), copyOnly(b), l3}, "B L3"},
		{"and no base", []chain.Backup{a, copyOnly(b), diffOf(b, "X", 320, 330, 35)}, "refused: B -"},
		{"a damaged newest log is not passed over", []chain.Backup{a, l1, l2, lost(l3)}, "refused: L2 -"},
		{"a log given up is no link, the next one overlaps it", []chain.Backup{a, denied(set(chain.Log, "N", 100, 150, 8)), l1}, "A L1"},
		{"a gap", []chain.Backup{a, l1, l3}, "refused: L1 -"},
		{"nothing confirmed", []chain.Backup{denied(a)}, "refused: - -"},
	} {
		if got := told(Make(Target{}, x.all, Options{})); got != x.want {
			t.Errorf("%s: %q; want %q", x.what, got, x.want)
		}
	}
}

func TestNearestSaysWhatItDoesInstead(t *testing.T) {
	for _, x := range []struct {
		n    Nearest
		at   Target
		want string
	}{
		{Before, clockAt(25, 0, 0), "A D L2"}, {After, clockAt(25, 0, 0), "A D L2 L3"},
		{Before, clockAt(50, 3, 0), "B L5?"}, {After, clockAt(0, 3, 0), "A"}, {Before, clockAt(0, 3, 0), "refused: - A"},
		{Before, Target{LSN: l(350)}, "A D L2"},
	} {
		p, err := Make(x.at, chained(), Options{Nearest: x.n})
		if got := told(p, err); got != x.want {
			t.Errorf("%s %s: %q; want %q", x.n, x.at, got, x.want)
		}
		if err == nil && (p.Instead == nil || len(p.Warnings) == 0) {
			t.Errorf("%s %s: nothing says that it is another moment", x.n, x.at)
		}
	}
}

func TestForkedHistories(t *testing.T) {
	// L2 was the end of F1 (its tail, begun at :20); the database was set back to 250,
	// and goes on as F2 with the full B and the log S.
	s := set(chain.Log, "S", 200, 400, 40)
	s.Fork, s.ForkPoint = "F2", l(250)
	b := set(chain.Full, "B", 300, 310, 30)
	b.Fork, b.FirstFork = "F2", "F2"
	all := []chain.Backup{set(chain.Full, "A", 100, 110, 0), set(chain.Log, "L1", 100, 200, 10), set(chain.Log, "L2", 200, 300, 20), b, s}
	for _, x := range []struct {
		what   string
		target Target
		o      Options
		want   string
	}{
		{"latest is of the new fork", Target{}, Options{}, "B S"},
		{"latest of the old fork", Target{}, Options{Fork: "F1"}, "A L1 L2"},
		{"a time of the old fork", clockAt(15, 0, 0), Options{}, "A L1 L2?"},
		{"a time of the new fork", clockAt(35, 0, 0), Options{}, "B S?"},
		{"when it was restored, nobody knows", clockAt(25, 0, 0), Options{}, "refused: L2 B"},
		{"on the new fork, as wished", clockAt(25, 0, 0), Options{Fork: "F2"}, "A L1 S?"},
		{"an LSN that both have", Target{LSN: l(260)}, Options{}, "ambiguous: 00:00ZF2 00:00ZF1"},
		{"an LSN that both have, chosen", Target{LSN: l(260)}, Options{Fork: "f1"}, "A L1 L2?"},
		{"an LSN of both while they were one", Target{LSN: l(150)}, Options{}, "A L1?"},
		{"the old fork's point", Target{Point: "L2"}, Options{}, "A L1 L2"},
		{"no such fork", Target{}, Options{Fork: "F9"}, "refused: - -"},
	} {
		if got := told(Make(x.target, all, x.o)); got != x.want {
			t.Errorf("%s: %q; want %q", x.what, got, x.want)
		}
	}
}

func TestRevertedHistoriesAreNeverMixed(t *testing.T) {
	full := set(chain.Full, "B", 250, 260, 30)
	full.Abandons = []string{"L2", "L3"}
	all := []chain.Backup{set(chain.Full, "A", 100, 110, 0), set(chain.Log, "L1", 100, 200, 10), set(chain.Log, "L2", 200, 240, 15), set(chain.Log, "L3", 240, 300, 20),
		full, set(chain.Log, "M", 200, 280, 40), set(chain.Log, "N", 280, 400, 50)}
	for _, x := range []struct {
		what   string
		target Target
		want   string
	}{
		{"latest", Target{}, "B M N"},
		{"an abandoned point restores among its own", Target{Point: "L3"}, "A L1 L2 L3"},
		{"a time before the revert", clockAt(17, 0, 0), "A L1 L2 L3?"},
		{"a time after it", clockAt(35, 0, 0), "B M?"},
		{"a time at which nobody knows", clockAt(25, 0, 0), "refused: L3 B"},
	} {
		got := told(Make(x.target, all, Options{}))
		if got != x.want {
			t.Errorf("%s: %q; want %q", x.what, got, x.want)
		}
	}
}

func TestMarks(t *testing.T) {
	at := func(m int) time.Time { return time.Date(2026, 3, 2, 8, m, 0, 0, cet) }
	o := Options{Marks: map[string][]Mark{"L1": {{"it's", l(150), at(5)}, {"twice", l(160), at(6)}}, "L2": {{"twice", l(270), at(17)}, {"TWICE", l(280), at(17)}}, "L3": {{"bulk", l(350), at(25)}}}}
	for _, x := range []struct {
		target     Target
		want, stop string
	}{
		{Target{Mark: "it's"}, "A L1?", "STOPATMARK = N'it''s' AFTER N'2026-03-02T08:05:00.000'"},
		{Target{Mark: "IT'S", Before: true}, "A L1?", "STOPBEFOREMARK = N'it''s' AFTER N'2026-03-02T08:05:00.000'"},
		{Target{Mark: "twice"}, "ambiguous: 08:06+01:00F1 08:17+01:00F1 08:17+01:00F1", ""},
		{Target{Mark: "twice", After: at(7)}, "A D L2?", "STOPATMARK = N'twice' AFTER N'2026-03-02T08:17:00.000'"},
		{Target{Mark: "none"}, "refused: - -", ""},
		{Target{Mark: "bulk"}, "refused: L2 L3", ""},
	} {
		p, err := Make(x.target, chained(), o)
		if got := told(p, err); got != x.want || p.Stop.String() != x.stop {
			t.Errorf("%s: %q %q; want %q %q", x.target, got, p.Stop, x.want, x.stop)
		}
	}
	// The same name at the same time before it: only the LSN tells them apart.
	o.Marks["L2"] = []Mark{{"x", l(260), at(17)}, {"y", l(270), at(18)}}
	o.Marks["L1"] = []Mark{{"y", l(255), at(18)}}
	p, err := Make(Target{Mark: "y", After: at(18)}, chained(), o)
	if err != nil || !strings.Contains(p.Stop.String(), "AFTER") {
		t.Errorf("%v %v", p.Stop, err)
	}
}

func TestRepeatedHourIsRefusedWithBothReadings(t *testing.T) {
	summer, winter := time.FixedZone("", 7200), time.FixedZone("", 3600)
	log := func(name string, first, last uint32, start time.Time) chain.Backup {
		b := set(chain.Log, name, first, last, 0)
		b.Started, b.Finished = start, start.Add(5*time.Second)
		return b
	}
	full := log("A", 100, 110, time.Date(2026, 10, 25, 1, 0, 0, 0, summer))
	full.Kind = chain.Full
	all := []chain.Backup{full, log("L1", 100, 200, time.Date(2026, 10, 25, 2, 50, 0, 0, summer)),
		log("L2", 200, 300, time.Date(2026, 10, 25, 2, 5, 0, 0, winter)), log("L3", 300, 400, time.Date(2026, 10, 25, 4, 0, 0, 0, winter))}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skipf("no time zones on this machine: %v", err)
	}
	bare := func(h, m int) Target { return Target{At: time.Date(2026, 10, 25, h, m, 0, 0, time.UTC), Bare: true} }
	utc := func(h, m int) Target { return Target{At: time.Date(2026, 10, 25, h, m, 0, 0, time.UTC)} }
	both := "ambiguous: 02:30+02:00 02:30+01:00"
	for _, x := range []struct {
		target Target
		zone   *time.Location
		want   string
		at     string
	}{
		{bare(2, 30), nil, both, ""}, {bare(2, 30), berlin, both, ""},
		// An offset tells them apart, and the first one is reached if a log ends before the change.
		{utc(0, 30), nil, "A L1?", "02:30+02:00"}, {utc(0, 30), berlin, "A L1?", "02:30+02:00"}, {utc(1, 30), berlin, "refused: L2 L3", ""},
		// The only log that holds it has both hours.
		{utc(0, 55), berlin, "refused: L1 L2", ""}, {utc(1, 3), berlin, "refused: L1 L2", ""},
		// Without the zone, the backups leave it open whether this is of the hour.
		{bare(1, 55), nil, "ambiguous: 01:55+02:00 01:55+01:00", ""},
		{bare(1, 59), berlin, "A L1?", "01:59+02:00"}, {bare(3, 0), berlin, "A L1 L2 L3?", "03:00+01:00"}, {bare(3, 10), nil, "A L1 L2 L3?", "03:10+01:00"},
		{utc(2, 10), nil, "A L1 L2 L3?", "03:10+01:00"}, {Target{LSN: l(250)}, nil, "A L1 L2?", ""}, {Target{Point: "L2"}, nil, "A L1 L2", ""},
	} {
		p, err := Make(x.target, all, Options{Zone: x.zone})
		got := told(p, err)
		if got != x.want || x.at != "" && p.At.Format("15:04Z07:00") != x.at {
			t.Errorf("%s: %q at %s; want %q at %s", x.target, got, p.At, x.want, x.at)
		}
	}
}

func TestStatements(t *testing.T) {
	a := set(chain.Full, "A", 100, 110, 0)
	a.Database, a.Checksums = "50%]", true
	a.Files = []chain.File{{ID: 1, Name: "sales", Path: `D:\sales.mdf`}, {ID: 2, Type: 1, Name: "sales_log", Path: `L:\sales_log.ldf`}}
	d := diffOf(a, "D", 200, 210, 10)
	d.Files = append(a.Files[:2:2], chain.File{ID: 3, Name: "more", Path: `D:\more.ndf`})
	log := set(chain.Log, "L", 100, 300, 20)
	log.Database = "50%]"
	log.Files = d.Files
	p, err := Make(clockAt(15, 0, 10), []chain.Backup{a, d, log}, Options{As: "copy", DataDir: `E:\x\`, Moves: map[string]string{"MORE": `F:\m.ndf`}, End: Standby, UndoFile: `E:\u.tuf`, Replace: true, Kick: true, Tail: true})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"ALTER DATABASE [copy] SET SINGLE_USER WITH ROLLBACK IMMEDIATE",
		"BACKUP LOG [copy] TO %s WITH NORECOVERY, CHECKSUM, FORMAT, INIT",
		`RESTORE DATABASE [copy] FROM %s WITH NORECOVERY, REPLACE, CHECKSUM, MOVE N'sales' TO N'E:\x\copy.mdf', MOVE N'sales_log' TO N'L:\copy_log.ldf'`,
		`RESTORE DATABASE [copy] FROM %s WITH NORECOVERY, MOVE N'more' TO N'F:\m.ndf'`,
		"RESTORE LOG [copy] FROM %s WITH NORECOVERY, STOPAT = N'2026-03-02T08:15:00.010'",
		`RESTORE DATABASE [copy] WITH STANDBY = N'E:\u.tuf'`,
	}
	for i, s := range p.Steps {
		if i >= len(want) || s.Text != want[i] {
			t.Errorf("step %d: %s", i, s.Text)
		}
	}
	if len(p.Steps) != len(want) || p.Bytes != 30 || p.Steps[3].Before != l(110) || p.Steps[3].After != l(210) {
		t.Errorf("%+v", p)
	}
	if p, err = Make(Target{Point: "A"}, []chain.Backup{a}, Options{End: NoRecovery}); err != nil || len(p.Steps) != 1 || !strings.HasPrefix(p.Steps[0].Text, "RESTORE DATABASE [50%%]]] FROM %s") {
		t.Errorf("%+v %v", p.Steps, err)
	}
	if _, err = Make(Target{}, []chain.Backup{a}, Options{Moves: map[string]string{"sales": `D:\X`, "sales_log": `d:\x`}}); !errors.Is(err, ErrTarget) {
		t.Errorf("two files in one place: %v", err)
	}
	long := `D:\` + strings.Repeat("x", 254)
	if p, err = Make(Target{}, []chain.Backup{a}, Options{Moves: map[string]string{"sales": long}}); err != nil || len(p.Warnings) != 1 {
		t.Errorf("a path of %d characters: %v %v", len(long), p.Warnings, err)
	}
}

func TestGoesOnFromWhereADatabaseStands(t *testing.T) {
	for redo, want := range map[uint32]string{110: "L1 L2?", 200: "L2?", 250: "L2?", 290: "refused: - -"} {
		o := Options{Standing: &Standing{Redo: l(redo), Fork: "F1"}}
		if got := told(Make(Target{LSN: l(280)}, chained(), o)); got != want {
			t.Errorf("from %d: %q; want %q", redo, got, want)
		}
	}
	if got := told(Make(Target{LSN: l(280)}, chained(), Options{Standing: &Standing{Redo: l(200), Fork: "F2"}})); got != "refused: - -" {
		t.Errorf("on another fork: %q", got)
	}
}

func TestContradictionsAreRefused(t *testing.T) {
	for i, x := range []struct {
		t Target
		o Options
	}{
		{Target{Point: "A", LSN: l(1)}, Options{}}, {Target{Before: true}, Options{}}, {Target{After: time.Now()}, Options{}}, {Target{}, Options{End: Standby}},
	} {
		if _, err := Make(x.t, chained(), x.o); !errors.Is(err, ErrTarget) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestTimesAreRoundedDownToTicks(t *testing.T) {
	for ms, want := range map[int]int{0: 0, 1: 0, 2: 0, 3: 3, 6: 3, 7: 7, 9: 7, 10: 10, 999: 997} {
		at := time.Date(2026, 3, 2, 8, 0, 0, ms*1e6+999, time.UTC)
		if got := clock.Tick(at).Nanosecond() / 1e6; got != want {
			t.Errorf("%d ms: %d; want %d", ms, got, want)
		}
	}
}

func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"2026-03-02 08:00", "2026-03-02T08:00:00.5+01:00", "2026-03-02T08:00Z", "2026-03-02 08:00:00 +01:00", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		at, bareTime, err := ParseTime(text)
		if err != nil {
			return
		}
		layout := time.RFC3339Nano
		if bareTime {
			layout = "2006-01-02T15:04:05.999999999"
		}
		again, b, err := ParseTime(at.Format(layout))
		if at.Year() < 10000 && (err != nil || b != bareTime || !again.Equal(at)) {
			t.Errorf("%q is %s and then %s: %v", text, at, again, err)
		}
	})
}

func ExampleMake() {
	p, err := Make(Target{At: time.Date(2026, 3, 2, 8, 17, 0, 0, cet)}, chained(), Options{})
	if err != nil {
		fmt.Println(err)
	}
	for _, s := range p.Steps {
		fmt.Println(s.Do, s.Point, s.Text)
	}
	// Output:
	// full A RESTORE DATABASE [sales] FROM %s WITH NORECOVERY
	// diff D RESTORE DATABASE [sales] FROM %s WITH NORECOVERY
	// log L2 RESTORE LOG [sales] FROM %s WITH NORECOVERY, STOPAT = N'2026-03-02T08:17:00.000'
	// finish  RESTORE DATABASE [sales] WITH RECOVERY
}
