package revive

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/plan"
)

var zero = time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)

func at(minute int) time.Time { return zero.Add(time.Duration(minute) * time.Minute) }

func l(block uint32) lsn.LSN { return lsn.LSN{VLF: 45, Block: block, Slot: 1} }

// set is a confirmed backup of database db in the guest db01, stored at minute m.
func set(kind chain.Kind, db, name string, first, last uint32, m int) chain.Backup {
	return chain.Backup{Header: chain.Header{
		Set: name, Kind: kind, Database: db, Family: "FAM", FirstFork: "F1", Fork: "F1", First: l(first), Last: l(last), Checkpoint: l(first),
		Started: at(m), Finished: at(m).Add(5 * time.Second),
	}, Point: name, State: chain.Confirmed, Stripes: 1, StreamBytes: []int64{10}, Guest: "db01"}
}

func held(db string, backups ...chain.Backup) Held {
	h := Held{Identity: "sql:sql01:" + db, Stored: map[string]Stored{}}
	for _, b := range backups {
		source := "sql/db01/" + db
		if b.Guest == "" {
			source = "sql/SQL01/" + db
		}
		h.Backups, h.Stored[b.Point] = append(h.Backups, b), Stored{At: b.Started.Add(10 * time.Second), Source: source}
	}
	return h
}

func sales() []chain.Backup {
	return []chain.Backup{set(chain.Full, "sales", "A", 100, 110, 0), set(chain.Log, "sales", "L1", 100, 200, 10),
		set(chain.Log, "sales", "L2", 200, 300, 20), set(chain.Log, "sales", "L3", 300, 400, 30)}
}

// told is a step in short: what it is restored from, or why it is not.
func told(s Step) string {
	var miss *plan.Unreachable
	switch {
	case s.System:
		return "system"
	case errors.As(s.Err, &miss):
		return "unreachable"
	case s.Err != nil:
		return s.Err.Error()
	}
	return strings.Join(s.Points, " ")
}

func TestV12NewestPointBeforeTheMachines(t *testing.T) {
	with := func(change func(list []chain.Backup)) []chain.Backup {
		list := sales()
		change(list)
		return list
	}
	for _, c := range []struct {
		what    string
		backups []chain.Backup
		before  int
		want    string
	}{
		{"all of it", sales(), 60, "A L1 L2 L3"},
		{"what was stored later is of another run", sales(), 21, "A L1 L2"},
		{"the full alone", sales(), 5, "A"},
		{"a gap: it stays as the disks have it, and does not go back to what is before", slices.Delete(sales(), 2, 3), 60, "unreachable"},
		{"a damaged log likewise", with(func(list []chain.Backup) { list[3].Damage = "gone" }), 60, "unreachable"},
		{"a gap behind the machine's point is of no matter", slices.Delete(sales(), 2, 3), 12, "A L1"},
		{"SQL Server's word on the newest is missing", with(func(list []chain.Backup) { list[3].State = chain.Unconfirmed }), 60, "unreachable"},
		{"one that SQL Server gave up is no link", with(func(list []chain.Backup) { list[3].State = chain.Denied }), 60, "A L1 L2"},
	} {
		steps := Plan(Machine{Name: "DB01", Before: at(c.before)}, []Held{held("sales", c.backups...)})
		if len(steps) != 1 || told(steps[0]) != c.want || (steps[0].Err != nil) != (steps[0].Why != "") {
			t.Errorf("%s: %+v, want %s", c.what, steps, c.want)
		}
		if len(steps) == 1 && steps[0].Err == nil && (steps[0].Database != "sales" || steps[0].Ended.IsZero() || steps[0].Point == "") {
			t.Errorf("%s: %+v", c.what, steps[0])
		}
	}
}

// TestV12UnreadPointMayBeTheNewest: what cannot be read may be the very backup of the run.
func TestV12UnreadPointMayBeTheNewest(t *testing.T) {
	h := held("sales", sales()...)
	h.Unread = []chain.Backup{{Point: "L4", Damage: "object damaged"}}
	if steps := Plan(Machine{Name: "DB01", Before: at(60)}, []Held{h}); len(steps) != 1 || told(steps[0]) != "unreachable" || !strings.Contains(steps[0].Why, "L4") {
		t.Errorf("%+v", steps)
	}
}

// TestV12NeverBehindTheDisks: only a run that was done with the databases before the
// snapshot has backups that are not older than the disks.
func TestV12NeverBehindTheDisks(t *testing.T) {
	if err := (Machine{Name: "db01", Before: at(1)}).Check(); err != nil {
		t.Error(err)
	}
	for _, m := range []Machine{{Name: "db01"}, {Name: "db01", Failed: true}} {
		if err := m.Check(); !errors.Is(err, ErrUndone) || strings.Contains(err.Error(), "could not") != m.Failed {
			t.Errorf("%+v: %v", m, err)
		}
	}
}

func TestV12WhichDatabasesAreTheMachines(t *testing.T) {
	elsewhere := set(chain.Full, "web", "W", 100, 110, 0)
	elsewhere.Guest = "web01"
	direct := set(chain.Full, "direct", "I", 100, 110, 0)
	direct.Guest = ""
	moved := []chain.Backup{set(chain.Full, "moved", "M1", 100, 110, 0), set(chain.Full, "moved", "M2", 200, 210, 10)}
	moved[1].Guest = "db02"
	both := []chain.Backup{set(chain.Full, "both", "B1", 100, 110, 0), set(chain.Log, "both", "B2", 100, 200, 10)}
	both[1].Guest = "" // the same server, reached without the machine
	bad := []chain.Backup{set(chain.Full, "bad", "X", 100, 110, 0), set(chain.Log, "bad", "Y", 100, 200, 10)}
	bad[1].Guest = ""
	all := []Held{held("sales", sales()...), held("web", elsewhere), held("direct", direct), held("moved", moved...), held("both", both...),
		held("master", set(chain.Full, "master", "S", 100, 110, 0)), held("late", set(chain.Full, "late", "T", 100, 110, 50)), held("bad", bad...)}
	vm := Machine{Name: "db01", Before: at(40), Missed: []string{"sql/db01/bad"}}
	var got []string
	for _, s := range Plan(vm, all) {
		got = append(got, s.Source+": "+told(s))
	}
	want := []string{"sql/SQL01/bad: " + ErrMissed.Error(), "sql/SQL01/both: B1 B2", "sql/db01/master: system", "sql/db01/sales: A L1 L2 L3"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if vm.Before = at(5); len(Plan(vm, all[3:4])) != 1 { // not moved yet
		t.Error("a database that went to another machine later is not this one's")
	}
	if steps := Plan(Machine{Name: "db01", Before: at(-1)}, all); len(steps) != 0 {
		t.Errorf("nothing was stored then: %+v", steps)
	}
}

// protects is a machine whose run noted those databases, each as "NAME POINT".
func protects(before int, list ...string) Machine {
	vm := Machine{Name: "db01", Before: at(before), Protected: []Protected{}}
	for _, text := range list {
		db, point, _ := strings.Cut(text, " ")
		vm.Protected = append(vm.Protected, Protected{"sql/db01/" + db, "sql:sql01:" + db, db, point})
	}
	return vm
}

func tellAll(steps []Step) (list []string) {
	for _, s := range steps {
		list = append(list, strings.TrimPrefix(s.Source, "sql/db01/")+": "+told(s))
	}
	return list
}

// TestV12ForgottenBackupsAreNamed: the point knows its databases, so that one whose
// backups were forgotten since does not go unsaid.
func TestV12ForgottenBackupsAreNamed(t *testing.T) {
	lost := func(point string) string { return ErrForgotten.Error() + ": point " + point }
	direct := sales()
	for i := range direct {
		direct[i].Guest = ""
	}
	missing := protects(60, "sales L3", "bad X")
	missing.Missed = []string{"sql/db01/bad", "sql/db01/off", "sql/db01/never"}
	off := held("off", set(chain.Full, "off", "O", 100, 110, 0))
	off.Identity = "sql:sql01:an older one"
	copied := held("sales", sales()...)
	for point, s := range copied.Stored {
		s.Origin = "repo/original-of-" + point
		copied.Stored[point] = s
	}
	late := held("sales", sales()...)
	late.Stored["L3"] = Stored{At: at(90), Source: "sql/db01/sales"}
	renamed := held("sales", sales()...)
	for _, point := range []string{"A", "L1"} {
		renamed.Stored[point] = Stored{At: renamed.Stored[point].At, Source: "sql/db01/off"}
	}
	failed := protects(60, "sales L3")
	failed.Missed = []string{"sql/db01/sales"}
	older := held("sales", set(chain.Full, "sales", "O", 100, 110, 0))
	older.Identity = "sql:sql01:an older one"
	offline := protects(60, "sales L3")
	offline.Missed = []string{"sql/db01/off"} // another one has the name that sales had
	for _, c := range []struct {
		what string
		vm   Machine
		all  []Held
		want []string
	}{
		{"all are there", protects(60, "sales L3"), []Held{held("sales", sales()...)}, []string{"sales: A L1 L2 L3"}},
		{"all backups of one are gone", protects(60, "master M", "sales L3", "stock S"), []Held{held("sales", sales()...)}, []string{"master: system", "sales: A L1 L2 L3", "stock: " + lost("S")}},
		{"what is left is of later", protects(5, "sales F0"), []Held{held("sales", sales()[1:]...)}, []string{"sales: " + lost("F0")}},
		{"the newest is gone: what is before lies behind the disks", protects(60, "sales L3"), []Held{held("sales", sales()[:3]...)}, []string{"sales: " + lost("L3")}},
		{"dropped before the run: not named", protects(60, "sales L3"), []Held{held("old", set(chain.Full, "old", "O", 100, 110, 0)), held("sales", sales()...)}, []string{"sales: A L1 L2 L3"}},
		{"taken without the machine, and unchanged in the run", protects(60, "sales L3"), []Held{held("sales", direct...)}, []string{"sql/SQL01/sales: A L1 L2 L3"}},
		{"missed ones, whether anything is known of them or not", missing, []Held{off, held("sales", sales()...)},
			[]string{"bad: " + ErrMissed.Error(), "never: " + ErrMissed.Error(), "off: " + ErrMissed.Error(), "sales: A L1 L2 L3"}},
		{"a copied repository has other ids", protects(60, "sales original-of-L3"), []Held{copied}, []string{"sales: A L1 L2 L3"}},
		{"a clock that was set back in the run", protects(60, "sales L3"), []Held{late}, []string{"sales: A L1 L2 L3"}},
		{"the name that it had is another one's now", offline, []Held{renamed}, []string{"off: " + ErrMissed.Error(), "sales: A L1 L2 L3"}},
		{"a missed one is not the older one of its name", failed, []Held{older, held("sales", sales()...)}, []string{"sales: " + ErrMissed.Error()}},
		{"the run found none", protects(60), []Held{held("sales", sales()...)}, nil},
	} {
		steps := Plan(c.vm, c.all)
		if got := tellAll(steps); !slices.Equal(got, c.want) {
			t.Errorf("%s:\ngot  %q\nwant %q", c.what, got, c.want)
		}
		keys := map[string]bool{}
		for _, s := range steps {
			if s.Key() == "" || keys[s.Key()] || s.Points == nil {
				t.Errorf("%s: %+v", c.what, s)
			}
			keys[s.Key()] = true
		}
	}
	vm := missing
	for _, c := range []struct {
		identity, called string
		want             bool
	}{{"sql:sql01:sales", "", true}, {"x", "sql/db01/off", true}, {"x", "sql/db01/sales", false}} {
		if got := vm.Wants(c.identity, func(source string) bool { return source == c.called }); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}

// TestV12PlanTellsTheMomentThatIsReached: where the database rested, the end of the last
// backup that a restore needs is not the moment: empty logs say that nothing was written.
func TestV12PlanTellsTheMomentThatIsReached(t *testing.T) {
	list := append(sales()[:2], set(chain.Log, "sales", "L2", 200, 200, 20))
	steps := Plan(protects(60, "sales L2"), []Held{held("sales", list...)})
	if len(steps) != 1 || told(steps[0]) != "A L1" || !steps[0].Moment.Equal(list[2].SurelyAfter()) || !steps[0].Ended.Equal(list[1].Finished) {
		t.Errorf("%+v", steps)
	}
}

// TestV12RenamedDatabaseHasItsNameOfThen: as the run saw it, whatever the last backup that a
// restore needs calls it.
func TestV12RenamedDatabaseHasItsNameOfThen(t *testing.T) {
	list := append(sales()[:2], set(chain.Log, "stock", "L2", 200, 200, 20))
	vm := protects(60, "sales L2")
	vm.Protected[0].Database = "orders"
	for _, c := range []struct {
		vm   Machine
		want string
	}{{vm, "orders"}, {Machine{Name: "db01", Before: at(60)}, "stock"}} {
		if steps := Plan(c.vm, []Held{held("sales", list...)}); len(steps) != 1 || told(steps[0]) != "A L1" || steps[0].Database != c.want {
			t.Errorf("%+v, want %s", steps, c.want)
		}
	}
}

func TestV12AnotherDatabaseOfThatNameIsLeftAlone(t *testing.T) {
	s := &Step{Identity: "sql:sql01:FAM", Database: "sales", Backups: sales()}
	s.Backups[0].Files = []chain.File{{ID: 1, GUID: "G1"}}
	file := func(guid string) []facts.File { return []facts.File{{File: chain.File{ID: 1, GUID: guid}}} }
	for _, c := range []struct {
		what string
		db   facts.Database
		id   string
		want Verdict
	}{
		{"the same", facts.Database{Name: "sales", Family: "FAM"}, "sql:sql01:FAM", Same},
		{"under another name", facts.Database{Name: "old", Family: "FAM"}, "sql:sql01:FAM", Other},
		{"another family", facts.Database{Name: "sales", Family: "X"}, "sql:sql01:X", Other},
		{"another family, and the case differs", facts.Database{Name: "SALES", Family: "X"}, "sql:sql01:X", Other},
		{"a copy of the family beside it", facts.Database{Name: "sales", Family: "FAM"}, "sql:sql01:FAM/GUID", Other},
		{"not open, a file of ours", facts.Database{Name: "sales", State: "SUSPECT", Files: file("G1")}, "", Same},
		{"not open, a file of nobody's", facts.Database{Name: "sales", State: "SUSPECT", Files: file("G2")}, "", Other},
		{"not open, files unknown", facts.Database{Name: "sales", State: "SUSPECT"}, "", Other},
		{"dropped, and made anew", facts.Database{Name: "sales", Family: "NEW"}, "sql:sql01:NEW", Gone},
		{"dropped", facts.Database{Name: "stock", Family: "Y"}, "sql:sql01:Y", Gone},
	} {
		v, why := Judge(s, []Step{*s, {Identity: "sql:sql01:NEW"}}, []facts.Database{{Name: "first", Family: "Z"}, c.db}, []string{"sql:sql01:Z", c.id})
		if v != c.want || (why == "") != (v == Same) {
			t.Errorf("%s: %v %q, want %v", c.what, v, why, c.want)
		}
	}
}

func TestV12AddressMeansTheRestoredMachineAlone(t *testing.T) {
	for _, a := range []string{"", " ", "localhost", "LOCALHOST", `localhost\TWO`, ".", `.\TWO`, "(local)", "127.0.0.1", "127.0.0.1:1433", `127.0.0.2\X`, "::1", "[::1]:1433",
		"localhost:1433", `127.0.0.1:1 localhost\TWO`, `\TWO`} {
		if !Local(a) {
			t.Errorf("%q is the machine itself", a)
		}
	}
	for _, a := range []string{"db01", `DB01\TWO`, "SQLEXPRESS", "10.0.0.7", "10.0.0.7:1433", "db01.example.com:1433", "localhost.example.com", "127.0.0.1:1433 db01", "128.0.0.1",
		`\\db01\pipe\sql\query`, "127.0.0.1:1@db01", "127.0.0.1.example.com", `localhost\x@db01`, "tcp:db01", "[fe80::1]:1433", "0.0.0.0"} {
		if Local(a) {
			t.Errorf("%q may be another machine", a)
		}
	}
}
