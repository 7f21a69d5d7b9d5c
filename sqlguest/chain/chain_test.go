package chain

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
	"time"

	"holdfast/sqlguest/lsn"
)

func at(block uint32) lsn.LSN { return lsn.LSN{VLF: 45, Block: block, Slot: 1} }

func set(kind Kind, name string, first, last uint32) Backup {
	return Backup{Header: Header{
		Set: name, Kind: kind, Family: "FAM", DatabaseGUID: "DB", FirstFork: "F1", Fork: "F1",
		First: at(first), Last: at(last), Checkpoint: at(first),
	}, Point: name, State: Confirmed}
}

func diffOf(base Backup, name string, first, last uint32) Backup {
	b := set(Diff, name, first, last)
	b.Base, b.BaseLSN, b.DatabaseBackup = base.Set, base.Checkpoint, base.Checkpoint
	return b
}

func names(t Timeline) []string {
	var list []string
	for _, b := range t.Backups {
		list = append(list, b.Set)
	}
	return list
}

func name(b *Backup) string {
	if b == nil {
		return ""
	}
	return b.Set
}

func TestR1CheckpointLiesInTheFull(t *testing.T) {
	h := set(Full, "A", 100, 110).Header
	for _, c := range []struct {
		checkpoint uint32
		sound      bool
	}{{99, false}, {100, true}, {105, true}, {110, true}, {111, false}} {
		if h.Checkpoint = at(c.checkpoint); h.Sound() != c.sound {
			t.Errorf("checkpoint %d: sound %v", c.checkpoint, h.Sound())
		}
	}
	h = set(Log, "L", 110, 100).Header
	if h.Sound() {
		t.Error("a log that ends before it begins is sound")
	}
}

func TestR2LogsMeetExactly(t *testing.T) {
	prev := set(Log, "A", 100, 200).Header
	for _, c := range []struct {
		what string
		next func(*Header)
		want bool
	}{
		{"meets", func(*Header) {}, true},
		{"gap", func(h *Header) { h.First = at(201) }, false},
		{"overlap", func(h *Header) { h.First = at(199) }, false},
		{"other fork", func(h *Header) { h.FirstFork = "F2" }, false},
		{"spans a fork", func(h *Header) { h.Fork = "F2" }, true},
		{"copy-only", func(h *Header) { h.CopyOnly = true }, false},
		{"other family", func(h *Header) { h.Family = "X" }, false},
		{"a full", func(h *Header) { h.Kind = Full }, false},
	} {
		next := set(Log, "B", 200, 300).Header
		c.next(&next)
		if got := Continues(&prev, &next); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
	prev.CopyOnly = true
	if next := set(Log, "B", 200, 300).Header; Continues(&prev, &next) {
		t.Error("a copy-only log was continued")
	}
}

func TestR3R4R6WhichLogApplies(t *testing.T) {
	log := set(Log, "L", 100, 200)
	for redo, want := range map[uint32]bool{99: false, 100: true, 150: true, 199: true, 200: false, 201: false} {
		if got := log.Takes(at(redo), "F1"); got != want {
			t.Errorf("redo at %d: %v", redo, got)
		}
		full := set(Full, "A", 50, redo)
		if got := Opens(&full, &log); got != want {
			t.Errorf("full that ends at %d: %v", redo, got)
		}
	}
	if log.Takes(at(150), "F2") {
		t.Error("a log of another fork applies")
	}
	empty := set(Log, "E", 100, 100)
	if !empty.Empty() || empty.Takes(at(100), "F1") || log.Empty() {
		t.Error("a log without records applies, or is not known as empty")
	}
	copied := set(Full, "C", 50, 150)
	if copied.CopyOnly = true; !Opens(&copied, &log) {
		t.Error("R7: a copy-only full does not open a chain")
	}
	if other := set(Log, "O", 50, 150); Opens(&other, &log) {
		t.Error("a log opens a chain")
	}
}

// TestALogFollowsWhatLeftATraceOrWasOfItsRun: a differential and what is copy-only leave
// nothing in the database by which a disk that was set back beneath msdb would be seen.
func TestALogFollowsWhatLeftATraceOrWasOfItsRun(t *testing.T) {
	log := set(Log, "L", 100, 200)
	log.Run = "of today"
	for _, kind := range []Kind{Full, Diff, Log} {
		for _, copied := range []bool{false, true} {
			before := set(kind, "B", 50, 150)
			before.CopyOnly, before.Run = copied, log.Run
			if !before.Precedes(&log) {
				t.Errorf("%s, copy-only %v, of the same run: the log does not follow", kind, copied)
			}
			before.Run = "of yesterday"
			if got, want := before.Precedes(&log), kind != Diff && !copied; got != want {
				t.Errorf("%s, copy-only %v, of another run: follows %v", kind, copied, got)
			}
		}
	}
}

func TestR5TheGUIDDecidesOnTheBase(t *testing.T) {
	full := set(Full, "A", 100, 110)
	full.Checkpoint = at(105)
	for _, c := range []struct {
		what string
		edit func(full, diff *Header)
		want bool
	}{
		{"base", func(_, _ *Header) {}, true},
		{"no DatabaseBackupLSN", func(_, d *Header) { d.DatabaseBackup = lsn.LSN{} }, true},
		{"other GUID", func(_, d *Header) { d.Base = "B" }, false},
		{"other full before it", func(_, d *Header) { d.DatabaseBackup = at(100) }, false},
		{"several bases", func(f, d *Header) { f.Set, d.Base = "", "" }, false},
		{"copy-only full", func(f, _ *Header) { f.CopyOnly = true }, false},
		{"other family", func(f, _ *Header) { f.Family = "X" }, false},
		{"a log as base", func(f, _ *Header) { f.Kind = Log }, false},
	} {
		f, d := full.Header, diffOf(full, "D", 120, 130).Header
		c.edit(&f, &d)
		if got := Bases(&f, &d); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

func TestTimelineFollowsForksBack(t *testing.T) {
	// F1: A(100,110) L1(100,200) L2(200,300). A restore to 250 begins F2; the first
	// log there spans both: L3(200..280 with the fork at 250), then L4(280,400).
	// Another restore, of L1 alone, begins F3 at 200.
	spans := set(Log, "L3", 200, 280)
	spans.Fork, spans.ForkPoint = "F2", at(250)
	l4 := set(Log, "L4", 280, 400)
	l4.FirstFork, l4.Fork = "F2", "F2"
	strange := set(Log, "X", 100, 150)
	strange.Family = "OTHER"
	backups := []Backup{l4, set(Log, "L2", 200, 300), set(Full, "A", 100, 110), spans, set(Log, "L1", 100, 200), strange}
	f := Grow(backups).Family("FAM")
	for _, c := range []struct {
		head Head
		want []string
	}{
		{Head{Fork: "F1"}, []string{"A", "L1", "L2"}},
		{Head{Fork: "F2"}, []string{"A", "L1", "L3", "L4"}},
		{Head{Fork: "F3", Parent: "F1", At: at(200)}, []string{"A", "L1"}},
		{Head{Fork: "F3", Parent: "F2", At: at(300)}, []string{"A", "L1", "L3"}},
		{Head{Fork: "F9"}, nil},
		{Head{}, nil},
	} {
		if got := names(f.Timeline(c.head)); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v; want %v", c.head, got, c.want)
		}
	}
	if got := names(Grow(backups).Family("OTHER").Timeline(Head{Fork: "F1"})); !slices.Equal(got, []string{"X"}) {
		t.Errorf("the other family has %v", got)
	}
}

func TestForksInARingEnd(t *testing.T) {
	a, b := set(Log, "A", 100, 200), set(Log, "B", 200, 300)
	a.FirstFork, a.Fork, a.ForkPoint = "F2", "F1", at(150)
	b.FirstFork, b.Fork, b.ForkPoint = "F1", "F2", at(250)
	if got := names(Grow([]Backup{a, b}).Family("FAM").Timeline(Head{Fork: "F1"})); len(got) > 2 {
		t.Errorf("timeline %v", got)
	}
}

func TestOnlyConfirmedAndKeptHistoryCounts(t *testing.T) {
	full := set(Full, "A", 100, 110)
	denied, open, lost := set(Log, "L1", 100, 200), set(Log, "L2", 100, 300), set(Log, "L3", 100, 400)
	denied.State, open.State = Denied, Unconfirmed
	later := set(Full, "B", 150, 160)
	later.Abandons = []string{"L3"}
	tl := Grow([]Backup{full, denied, open, lost, later}).Family("FAM").Timeline(Head{Fork: "F1"})
	if got := names(tl); !slices.Equal(got, []string{"A", "B"}) {
		t.Errorf("timeline %v; want A, B", got)
	}
}

func TestNewest(t *testing.T) {
	a, b := set(Full, "A", 100, 110), set(Full, "B", 300, 310)
	copied := set(Full, "C", 500, 510)
	copied.CopyOnly = true
	d, stray := diffOf(a, "D", 200, 210), set(Diff, "S", 600, 610)
	stray.Base = "GONE"
	l1, l2, lc := set(Log, "L1", 100, 250), set(Log, "L2", 250, 450), set(Log, "LC", 450, 700)
	lc.CopyOnly = true
	tl := Grow([]Backup{a, b, copied, d, stray, l1, l2, lc}).Family("FAM").Timeline(Head{Fork: "F1"})
	got := []string{
		name(tl.NewestFull()), name(tl.NewestBase()), name(tl.NewestStart("")), name(tl.NewestLog()),
		name(tl.NewestDiff(&a)), name(tl.NewestDiff(&b)), name(tl.BaseOf(&d)), name(tl.BaseOf(&stray)), name(tl.Newest()),
	}
	if want := []string{"B", "B", "C", "L2", "D", "", "A", "", "LC"}; !slices.Equal(got, want) {
		t.Errorf("newest = %q; want %q", got, want)
	}
	b.Damage, copied.Damaged = "a chunk is missing", true
	tl = Grow([]Backup{a, b, copied, d, l1, l2}).Family("FAM").Timeline(Head{Fork: "F1"})
	got = []string{name(tl.NewestFull()), name(tl.NewestBase()), name(tl.NewestStart(""))}
	if want := []string{"B", "A", "D"}; !slices.Equal(got, want) {
		t.Errorf("with damage newest = %q; want %q", got, want)
	}
}

func TestRestorableNeedsAnUnbrokenWay(t *testing.T) {
	full := set(Full, "A", 100, 110)
	logs := []Backup{set(Log, "L1", 105, 200), set(Log, "L2", 200, 300), set(Log, "L3", 300, 400)}
	try := func(edit func(all []Backup)) bool {
		all := append([]Backup{full}, slices.Clone(logs)...)
		edit(all)
		tl := Grow(all).Family("FAM").Timeline(Head{Fork: "F1"})
		return tl.Restorable(tl.NewestLog(), "")
	}
	if !try(func([]Backup) {}) {
		t.Error("an unbroken chain is not restorable")
	}
	for what, edit := range map[string]func([]Backup){
		"gap":           func(all []Backup) { all[2].Last = at(299) },
		"copy-only":     func(all []Backup) { all[2].CopyOnly = true },
		"unreadable":    func(all []Backup) { all[2].Damage = "gone" },
		"last damaged":  func(all []Backup) { all[3].Damaged = true },
		"full damaged":  func(all []Backup) { all[0].Damage = "gone" },
		"full too old":  func(all []Backup) { all[0].Last, all[0].Checkpoint = at(104), at(104) },
		"full too late": func(all []Backup) { all[0].Last = at(400) },
		"unconfirmed":   func(all []Backup) { all[2].State = Unconfirmed },
	} {
		if try(edit) {
			t.Errorf("%s: restorable", what)
		}
	}
	if !try(func(all []Backup) { all[0].Last = at(350) }) {
		t.Error("a full in the middle of the last log leads to its end")
	}
	if !try(func(all []Backup) { all[0].CopyOnly = true }) {
		t.Error("R7: a copy-only full does not carry logs")
	}
}

func TestJSONGoesRound(t *testing.T) {
	b := diffOf(set(Full, "A", 100, 110), "D", 200, 210)
	b.Started = time.Date(2026, 3, 29, 1, 59, 59, 0, time.FixedZone("", -3*3600-1800))
	b.Device, b.Transport, b.Stripes, b.StreamBytes = "{GUID}", "vdi", 2, []int64{1, 2}
	b.Files = []File{{ID: 1, GUID: "G", Name: "it's, ünï", Path: `D:\x`, Pages: 5, Create: at(1)}}
	b.Abandons, b.SetHash, b.Rule, b.Reason = []string{"X"}, "h", "M11.2", "why"
	attrs, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Parse("p1", attrs, nil)
	if err != nil {
		t.Fatal(err)
	}
	if back.State != Unconfirmed || back.Point != "p1" || !back.Started.Equal(b.Started) {
		t.Errorf("back = %+v", back)
	}
	_, off := back.Started.Zone()
	if _, want := b.Started.Zone(); off != want {
		t.Errorf("offset %d; want %d", off, want)
	}
	b.Point, b.State, back.Started = "p1", Unconfirmed, b.Started
	if !reflect.DeepEqual(back, b) {
		t.Errorf("back = %+v\nwant   %+v", back, b)
	}
}

func TestConfirmationReplacesTheHeader(t *testing.T) {
	planned := set(Log, "", 100, 0)
	planned.State, planned.Last = Unconfirmed, lsn.LSN{}
	attrs, err := json.Marshal(planned)
	if err != nil {
		t.Fatal(err)
	}
	said := set(Log, "L", 100, 200).Header
	for _, c := range []struct {
		conf Confirmation
		want State
	}{
		{Confirmation{State: Confirmed, By: ByRow, Header: &said}, Confirmed},
		{Confirmation{State: Confirmed, By: ByRow}, Denied}, // says nothing
		{Confirmation{State: Denied, By: ByServer}, Denied},
		{Confirmation{State: "later invention"}, Denied},
		{Confirmation{}, Unconfirmed},
	} {
		text, err := json.Marshal(c.conf)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Parse("p", attrs, text)
		if err != nil || b.State != c.want || b.Usable() != (c.want == Confirmed) {
			t.Errorf("%+v: %s, usable %v, %v", c.conf, b.State, b.Usable(), err)
		}
		if c.want == Confirmed && (b.Set != "L" || b.Last != at(200) || b.By != ByRow) {
			t.Errorf("confirmed = %+v", b.Header)
		}
		if c.want != Confirmed && b.First != at(100) {
			t.Errorf("the planned first LSN is lost: %+v", b.Header)
		}
	}
	for _, wrong := range []string{"", "[]", `{"first":"x"}`} {
		if _, err := Parse("p", []byte(wrong), nil); err == nil {
			t.Errorf("attributes %q were read", wrong)
		}
	}
	if _, err := Parse("p", attrs, []byte("{")); err == nil {
		t.Error("half a confirmation was read")
	}
}

func TestSetHashIsOfTheSet(t *testing.T) {
	a := SetHash([]string{"b", "a", "c"})
	if a != SetHash([]string{"c", "b", "a", "a"}) {
		t.Error("order or repetition matters")
	}
	for _, other := range [][]string{nil, {"a", "b"}, {"ab", "c"}, {"a", "bc"}, {"a", "b", "c", "d"}} {
		if SetHash(other) == a {
			t.Errorf("%q has the same hash", other)
		}
	}
	if SetHash([]string{"ab", "c"}) == SetHash([]string{"a", "bc"}) {
		t.Error("cuts between names do not matter")
	}
}

func TestPathsOnLinuxHaveCase(t *testing.T) {
	then := []File{{ID: 1, Name: "a", Path: "/var/opt/mssql/a.mdf"}}
	if c := CompareFiles(then, []File{{ID: 1, Name: "a", Path: "/var/opt/mssql/A.mdf"}}); len(c.Moved) != 1 {
		t.Errorf("%+v; want a move", c)
	}
	// A new file may get the id of a dropped one; its GUID tells.
	c := CompareFiles([]File{{ID: 3, GUID: "A", Name: "old"}}, []File{{ID: 3, GUID: "B", Name: "new"}})
	if !slices.Equal(c.Added, []string{"new"}) || !slices.Equal(c.Removed, []string{"old"}) {
		t.Errorf("%+v; want one added, one removed", c)
	}
}

func FuzzParseBackup(f *testing.F) {
	f.Add([]byte(`{"kind":"log","database":"x","first":"100005"}`), []byte(`{"state":"confirmed","by":"msdb","header":{"kind":"log","last":"200005"}}`))
	f.Add([]byte(`{}`), []byte(`{}`))
	f.Add([]byte(`null`), []byte(``))
	f.Fuzz(func(t *testing.T, attrs, conf []byte) {
		b, err := Parse("p", attrs, conf)
		if err != nil {
			return
		}
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatalf("%s: %v", attrs, err)
		}
		if _, err := Parse("p", text, nil); err != nil {
			t.Fatalf("%s reads and %s does not: %v", attrs, text, err)
		}
		Grow([]Backup{b, b}).Family(b.Family).Timeline(Head{Fork: b.Fork})
	})
}

func TestForkKnowsItsParentFromConfirmedSpansOnly(t *testing.T) {
	spans := set(Log, "L1", 100, 200)
	spans.Fork, spans.ForkPoint = "F2", at(150)
	guess := set(Log, "L2", 100, 200)
	guess.Fork, guess.ForkPoint, guess.State = "F3", at(120), Unconfirmed
	blank := set(Log, "L3", 100, 200)
	blank.FirstFork, blank.Fork, blank.ForkPoint = "", "F4", at(130)
	parents := map[string]string{}
	for _, f := range Grow([]Backup{spans, guess, blank, set(Full, "A", 100, 110)}).Family("FAM").Forks {
		parents[f.GUID] = f.Parent + " " + f.At.String()
	}
	null := lsn.LSN{}.String()
	want := map[string]string{"F1": " " + null, "F2": "F1 " + at(150).String(), "F3": " " + null, "F4": " " + null}
	if !reflect.DeepEqual(parents, want) {
		t.Errorf("parents %v; want %v", parents, want)
	}
}

func TestADifferentialCarriesLogsWithItsFull(t *testing.T) {
	full := set(Full, "A", 100, 110)
	diff, log := diffOf(full, "D", 300, 310), set(Log, "L", 305, 400)
	for _, c := range []struct {
		what string
		all  []Backup
		want bool
	}{
		{"full and differential", []Backup{full, diff, log}, true},
		{"the differential alone", []Backup{diff, log}, false},
		{"the full alone", []Backup{full, log}, false},
		{"a log before it that hangs in the air", []Backup{set(Log, "K", 200, 310), log}, false},
	} {
		if got := Grow(c.all).Family("FAM").Timeline(Head{Fork: "F1"}).Restorable(&log, ""); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

func TestCompareFiles(t *testing.T) {
	then := []File{
		{ID: 1, Name: "a", Path: `D:\a.mdf`, Pages: 100}, {ID: 2, Type: 1, Name: "l", Path: `D:\l.ldf`, Pages: 100},
		{ID: 3, Name: "b", Path: `D:\b.ndf`, Pages: 100}, {ID: 4, Name: "gone", Path: `D:\g.ndf`, Drop: at(1)},
	}
	for _, c := range []struct {
		what string
		edit func([]File) []File
		want FileChanges
	}{
		{"nothing", func(f []File) []File { return f }, FileChanges{}},
		{"grown, the log shrunk", func(f []File) []File { f[0].Pages, f[1].Pages = 200, 1; return f }, FileChanges{}},
		{"shrunk", func(f []File) []File { f[2].Pages = 99; return f }, FileChanges{Shrunk: []string{"b"}}},
		{"renamed, moved and shrunk", func(f []File) []File { f[0].Name, f[0].Path, f[0].Pages = "x", `E:\x`, 1; return f },
			FileChanges{Renamed: []string{"a"}, Shrunk: []string{"x"}}},
		{"moved", func(f []File) []File { f[0].Path = `E:\a.mdf`; return f }, FileChanges{Moved: []string{"a"}}},
		{"other case", func(f []File) []File { f[0].Path = `d:\A.MDF`; return f }, FileChanges{}},
		{"added, and one that is dropped already", func(f []File) []File {
			return append(f, File{ID: 5, Name: "c"}, File{ID: 6, Name: "d", Drop: at(2)})
		}, FileChanges{Added: []string{"c"}}},
		{"removed and dropped", func(f []File) []File { f[0].Drop = at(2); return slices.Delete(f, 2, 3) }, FileChanges{Removed: []string{"a", "b"}}},
	} {
		if got := CompareFiles(then, c.edit(slices.Clone(then))); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v; want %+v", c.what, got, c.want)
		}
	}
	if PathKey("D:/A") != PathKey("d:/a") || PathKey("/D:/A") == PathKey("/d:/a") {
		t.Error("a drive letter does not make a Windows path, or a slash does")
	}
}
