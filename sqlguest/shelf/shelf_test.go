package shelf

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/repo/recovery"
)

// briefs makes points of "KIND SOURCE IDENTITY", a minute apart.
func briefs(list ...string) []recovery.Brief {
	var points []*recovery.Point
	for i, text := range list {
		f := strings.SplitN(text, " ", 3)
		points = append(points, &recovery.Point{ID: fmt.Sprintf("%032x", i), Kind: recovery.Kind(f[0]), Source: f[1], Identity: f[2],
			Time: time.Date(2026, 3, 2, 8, i, 0, 0, time.UTC)})
	}
	return recovery.BriefsOf(points)
}

func TestDatabasesAreFoundByWhatPeopleCallThem(t *testing.T) {
	all := Of(briefs(
		"sql-full sql/db01/sales 1", "sql-log sql/db01/sales 1", "vm vm/sales 9",
		"sql-full sql/db02/sales 2", "sql-full sql/db01/Sales 3",
		"sql-full sql/db01/a/b 4", "sql-full sql/db01/old 5", "sql-log sql/db01/new 5",
		"sql-full sql/db01/twice 6", "sql-full sql/db01/twice 7",
		`sql-full sql/db01\X/sales 8`,
	))
	for _, c := range []struct{ name, machine, want string }{
		{"", "", "3 4 5 1 7 6 8 2"},
		{"sales", "", "1 8 2"},
		{"Sales", "", "3"},
		{"SALES", "", "3 1 8 2"},
		{"db01/sales", "", "1"},
		{"sql/db01/sales", "", "1"},
		{"sales", "db02", "2"},
		{"sales", "sql/db02", "2"},
		{"sales", "DB02", "2"},
		{"", `db01\X`, "8"},
		{"a/b", "", "4"},
		{"db01/a/b", "", "4"},
		{"new", "", "5"},
		{"old", "", "5"},
		{"twice", "", "7 6"},
		{"b", "", ""},
		{"nobody", "", ""},
		{"sales", "nowhere", ""},
		{"vm/sales", "", ""},
	} {
		list, err := Match(all, c.name, c.machine)
		var got []string
		for _, d := range list {
			got = append(got, d.Identity)
		}
		if strings.Join(got, " ") != c.want || (err != nil) != (c.want == "") || err != nil && !errors.Is(err, recovery.ErrUnknown) {
			t.Errorf("%q on %q: %q, %v; want %q", c.name, c.machine, got, err, c.want)
		}
	}
	if none, err := Match(nil, "", ""); err != nil || none != nil {
		t.Errorf("an empty repository: %v %v", none, err)
	}
}

func TestOneDatabaseIsMeant(t *testing.T) {
	all := Of(briefs("sql-full sql/db01/sales 1", "sql-full sql/db02/sales 2", "sql-full sql/db01/twice 6", "sql-full sql/db01/twice 7", "sql-log sql/db01/twice 7"))
	if _, err := One(all, "sales", ""); !errors.Is(err, recovery.ErrAmbiguous) || !strings.Contains(err.Error(), "sql/db01/sales or sql/db02/sales") {
		t.Errorf("%v", err)
	}
	if _, err := One(all, "nobody", ""); !errors.Is(err, recovery.ErrUnknown) {
		t.Errorf("%v", err)
	}
	if _, err := One(nil, "", ""); !errors.Is(err, recovery.ErrUnknown) {
		t.Errorf("%v", err)
	}
	d, err := One(all, "twice", "")
	if err != nil || d.Identity != "7" || d.Earlier || d.Points != 2 || d.Machine() != "db01" || d.Name() != "twice" {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestDatabaseOfThatNameMadeAnewIsMeant(t *testing.T) {
	all := Of(briefs("sql-full sql/sql01/shop 1", "sql-full sql/SQL01/shop 1", "sql-full sql/sql01/shop 2", "sql-log sql/sql01/shop 2", "sql-full sql/sql01/sales 3"))
	for _, name := range []string{"shop", "SHOP", "sql01/shop", "SQL01/shop", "sql/Sql01/shop"} {
		d, err := One(all, name, "SQL01")
		if err != nil || d.Identity != "2" || d.Earlier || d.Point != fmt.Sprintf("%032x", 3) {
			t.Fatalf("%s: %+v, %v", name, d, err)
		}
		older := Older(all, d)
		if len(older) != 1 || older[0].Identity != "1" || !older[0].Earlier || older[0].Points != 2 {
			t.Errorf("%s: %+v", name, older)
		}
		if none := Older(all, &older[0]); len(none) != 0 {
			t.Errorf("older than the oldest: %+v", none)
		}
		for _, identity := range []string{"1", "2"} {
			if d := With(all, identity, name, ""); d == nil || d.Identity != identity {
				t.Errorf("%s with a point of %s: %+v", name, identity, d)
			}
		}
		if d := With(all, "3", name, ""); d != nil {
			t.Errorf("%s with a point of sales: %+v", name, d)
		}
	}
	if d := With(all, "9", "shop", ""); d != nil {
		t.Errorf("a database that is not there: %+v", d)
	}
}

// One identity through its VM and as an instance is one database, and so are two that
// had the name on one machine, however the machine was written.
func TestCaseOfAMachineTellsNothingApart(t *testing.T) {
	all := Of(briefs("sql-full sql/sql01/sales 1", "sql-full sql/SQL01/sales 1", "sql-full sql/SQL01/shop 2", "sql-full sql/sql01/shop 3",
		"sql-full sql/db01/Case 4", "sql-full sql/DB01/case 5"))
	for name, want := range map[string]string{"sales": "1", "sql01/sales": "1", "SQL01/sales": "1", "shop": "3", "SQL01/shop": "3", "db01/case": "5", "DB01/Case": "4"} {
		if d, err := One(all, name, ""); err != nil || d.Identity != want {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
	if _, err := One(all, "CASE", ""); !errors.Is(err, recovery.ErrAmbiguous) {
		t.Errorf("%v", err)
	}
}

// TestNameThatIsMeant is the one of now, unless another one was typed.
func TestNameThatIsMeant(t *testing.T) {
	d := &Of(briefs("sql-full sql/db01/old 5", "sql-log sql/db01/older 5", "sql-log sql/db01/New 5"))[0]
	for typed, want := range map[string]string{"New": "New", "new": "New", "DB01/new": "New", "": "New", "old": "old", "sql/db01/OLD": "old", "older": "older"} {
		if got := d.Meant(typed, ""); got != want {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
}
