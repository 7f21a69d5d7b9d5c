package replay_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/plan"
)

// mark commits a marked transaction that adds a customer.
func (w *world) mark(name string, id int, customer string) {
	w.t.Helper()
	w.now = w.now.Add(time.Minute)
	w.exec(fmt.Sprintf("BEGIN TRANSACTION [%s] WITH MARK; INSERT INTO sales.dbo.customers (id, name) VALUES (%d, N'%s'); COMMIT", name, id, customer))
}

// TestMarkAfterAnInstantOverAChangeOfTheClock: the second of two marks is meant, and the
// backups around it have different offsets.
func TestMarkAfterAnInstantOverAChangeOfTheClock(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorldOn(t, lab.Options{})
	w.lab.SetZone(berlin)
	w.now = time.Date(2026, 3, 20, 21, 0, 0, 0, time.UTC)
	w.back(decide.Full, "sales")
	w.mark("payday", 31, "first")
	w.back(decide.Log, "sales")
	w.now = time.Date(2026, 3, 28, 21, 0, 0, 0, time.UTC)
	w.add(32, "between")
	w.back(decide.Log, "sales")
	w.now = time.Date(2026, 3, 29, 10, 0, 0, 0, time.UTC)
	w.mark("payday", 33, "second")
	w.now = time.Date(2026, 3, 29, 20, 0, 0, 0, time.UTC)
	w.back(decide.Log, "sales")
	w.restore(w.instance, plan.Target{Mark: "payday", After: time.Date(2026, 3, 29, 8, 0, 0, 0, time.UTC)}, plan.Options{As: "m"})
	w.want("m", "first between second")
	w.restore(w.instance, plan.Target{Mark: "payday", After: time.Date(2026, 3, 20, 21, 0, 0, 0, time.UTC)}, plan.Options{As: "n"})
	w.want("n", "first")
	_, err = w.job(w.instance, plan.Target{Mark: "payday", After: time.Date(2026, 3, 29, 12, 0, 0, 0, time.UTC)}, plan.Options{As: "o"}).Do(t.Context())
	if !errors.Is(err, plan.ErrUnreachable) {
		t.Errorf("after both: %v", err)
	}
}

// TestMarkNamedLikeAnLSNIsTheMark: to SQL Server's stop clause it would be an earlier LSN.
func TestMarkNamedLikeAnLSNIsTheMark(t *testing.T) {
	w := newWorld(t)
	w.back(decide.Full, "sales")
	w.add(31, "one")
	w.back(decide.Log, "sales")
	w.add(32, "two")
	all, err := w.keep().Backups(t.Context(), w.identity("sales"))
	w.must(err)
	name := "lsn:" + all[len(all)-1].Last.String() // the next log's first record
	w.mark(name, 34, "marked")
	w.add(35, "behind")
	w.back(decide.Log, "sales")
	w.restore(w.instance, plan.Target{Mark: name}, plan.Options{As: "m"})
	w.want("m", "one two marked")
}

// TestMoreMarksThanAreKept: a name that the ones left out may have, too, is refused.
func TestMoreMarksThanAreKept(t *testing.T) {
	w := newWorld(t)
	w.back(decide.Full, "sales")
	w.mark("payday", 31, "first")
	w.now = w.now.Add(time.Minute)
	w.exec(fmt.Sprintf("DECLARE @i int; SET @i = 0; WHILE @i < %d BEGIN BEGIN TRANSACTION other WITH MARK; UPDATE sales.dbo.customers SET name=N'u' WHERE id=1; COMMIT; SET @i = @i + 1; END", chain.MaxMarks))
	w.mark("payday", 32, "second")
	w.back(decide.Log, "sales")
	_, err := w.job(w.instance, plan.Target{Mark: "payday"}, plan.Options{As: "m"}).Do(t.Context())
	if !errors.Is(err, plan.ErrAmbiguous) || !strings.Contains(err.Error(), "not all marks") {
		t.Errorf("%v", err)
	}
	w.wantState("m", "none")
	all, err := w.keep().Backups(t.Context(), w.identity("sales"))
	w.must(err)
	w.restore(w.instance, plan.Target{LSN: all[len(all)-1].Marks[0].LSN}, plan.Options{As: "m"})
	w.want("m", "first")
}
