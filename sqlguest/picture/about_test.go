package picture_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/picture"
)

// lines are what is said of the n-th backup, as "name: text".
func lines(d *database, n int) []string {
	var list []string
	for _, l := range picture.AboutPoint(d.taken, id(n)).Lines() {
		list = append(list, l[0]+": "+l[1])
	}
	return list
}

func TestAPointSaysWhatARestoreOfItNeeds(t *testing.T) {
	d := newDatabase()
	d.full(5, nil)
	d.pass(60)
	d.end += 20
	d.log(2, nil)
	d.pass(60)
	d.diff(2, nil)
	d.pass(60)
	d.log(2, func(b *chain.Backup) { b.State, b.Why = chain.Denied, []string{"SQL Server gave it up"} })
	d.logFrom = 100 + 25
	d.end += 20
	d.pass(60)
	d.log(2, nil)
	d.end, d.logFrom = d.end+30, d.end+30
	d.pass(60)
	d.end += 5
	d.log(2, nil)
	for n, want := range [][]string{
		{"confirmed: by msdb", "needs: " + id(0), "window: from point " + id(0) + " to the end of " + id(4)},
		{"marks: 0", "needs: " + id(0) + " " + id(1)},
		{"base: " + id(0), "needs: " + id(0) + " " + id(2)},
		{"denied: SQL Server gave it up", "unreachable: plan restore"},
		{"needs: " + id(0) + " " + id(2) + " " + id(4), "any moment: 2026-03-02T08:00:06+01:00 to 2026-03-02T08:04:11+01:00"},
		{"unreachable: plan restore"},
	} {
		got := lines(d, n)
		for _, w := range want {
			if !slices.ContainsFunc(got, func(l string) bool { return l == w || strings.HasSuffix(w, "plan restore") && strings.HasPrefix(l, w) }) {
				t.Errorf("backup %d: %q is not among\n%s", n, w, strings.Join(got, "\n"))
			}
		}
		if a := picture.AboutPoint(d.taken, id(n)); a.Restorable != (a.WhyNot == "") || a.Restorable != (len(a.Needs) > 0) {
			t.Errorf("backup %d contradicts itself: %+v", n, a)
		}
	}
	if a := picture.AboutPoint(d.taken, "nothing"); a != nil || a.Lines() != nil {
		t.Errorf("a point that is not there: %+v", a)
	}
}

func TestAPointSaysItsForkAndItsFlaws(t *testing.T) {
	charts := newDatabase()
	charts.full(5, func(b *chain.Backup) { b.CopyOnly = true })
	charts.end += 30
	charts.log(1, nil)
	charts.restore(120)
	charts.pass(60)
	charts.log(1, func(b *chain.Backup) { b.BulkLogged, b.Damage = true, "its stream is lost" })
	charts.log(1, func(b *chain.Backup) { b.State = chain.Unconfirmed })
	for n, want := range []string{"copy-only:", "LSN: " + at(100).String(), "left fork: FORK1 at LSN " + at(120).String(), "unconfirmed:"} {
		if all := strings.Join(lines(charts, n), "\n"); !strings.Contains(all, want) {
			t.Errorf("backup %d: no %q in\n%s", n, want, all)
		}
	}
	if all := fmt.Sprint(lines(charts, 2)); !strings.Contains(all, "damaged: its stream is lost") || !strings.Contains(all, "bulk-logged: ") {
		t.Errorf("%s", all)
	}
}
