package sqlguest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/repo/recovery"
	"holdfast/sqlguest"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab/bridge"
)

// TestQ21IsAskedOfNoClock: a restore is later than our newest backup or not, whatever
// the server's clock shows; only the first run after it takes a full for it.
func TestQ21IsAskedOfNoClock(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	at := func(by time.Duration) { w.now = w.now.Add(by) }
	said := func(want string) {
		t.Helper()
		at(time.Second)
		_, got := w.run(decide.Auto, "sales")
		w.want(got, strings.Split(want, ", ")...)
	}
	said("sales full M12, sales log S-log")
	w.exec("BACKUP DATABASE sales TO DISK='aside' WITH COPY_ONLY")
	w.exec("RESTORE DATABASE sales FROM DISK='aside' WITH REPLACE")
	at(-time.Hour) // the restore is an hour ahead from now on
	said("sales full Q21, sales log S-log")
	said("sales log S-auto-log")
	said("sales log S-auto-log")
	all := w.backups("sales")
	if n := len(all[len(all)-1].Abandons); n > 0 {
		t.Errorf("%d sets are abandoned when nothing happened", n)
	}

	// And the other way: this restore is an hour before the backup that it came after.
	at(-time.Hour)
	w.exec("RESTORE DATABASE sales FROM DISK='aside' WITH REPLACE")
	at(time.Minute)
	said("sales full Q21, sales log S-log")
	said("sales log S-auto-log")

	// Renamed, it is still the database that was restored, under the name that it had. (If
	// nobody had seen it between the two, it could as well be a copy: SQL-145.)
	w.exec("RESTORE DATABASE sales FROM DISK='aside' WITH REPLACE")
	said("sales full Q21, sales log S-log")
	w.exec("ALTER DATABASE sales MODIFY NAME = umsatz")
	_, got := w.run(decide.Auto, "umsatz")
	w.want(got, "umsatz log S-auto-log")
	for range 2 { // the second time by the row's number alone
		all = w.backups("sales") // as it was called at first
		if b := all[len(all)-1]; b.LastRestore == nil || b.LastRestore.ID != 3 || b.LastRestore.Set == "" {
			t.Errorf("the newest backup has seen restore %+v; want the third", b.LastRestore)
		}
		_, got = w.run(decide.Auto, "umsatz")
		w.want(got, "umsatz log S-auto-log")
	}

	// msdb made anew gives the numbers out once more.
	w.lab.LoseMSDB(false)
	_, got = w.run(decide.Auto, "umsatz")
	w.want(got, "umsatz log S-auto-log")
	w.exec("RESTORE DATABASE umsatz FROM DISK='aside' WITH REPLACE")
	_, got = w.run(decide.Auto, "umsatz")
	w.want(got, "umsatz full Q21", "umsatz log S-log")
}

// between is a Keeper in whose first Store something happens: after the look, before the
// BACKUP.
type between struct {
	sqlguest.Keeper
	happens func()
}

func (b *between) Store(ctx context.Context, src backup.Source) (*recovery.Point, error) {
	if b.happens != nil {
		b.happens()
		b.happens = nil
	}
	return b.Keeper.Store(ctx, src)
}

// TestRestoreBetweenLookAndBackupIsSeenByTheNext: a backup has seen what its decision was
// made on, not what was there when it began.
func TestRestoreBetweenLookAndBackupIsSeenByTheNext(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	_, got := w.run(decide.Auto, "sales")
	w.want(got, "sales full M12", "sales log S-log")
	w.exec("BACKUP DATABASE sales TO DISK='aside' WITH COPY_ONLY")
	r := w.job(decide.Full, w.sql)
	r.Databases = []string{"sales"}
	r.Keep = &between{r.Keep, func() { w.exec("RESTORE DATABASE sales FROM DISK='aside' WITH REPLACE") }}
	steps, err := r.All(t.Context())
	w.must(err)
	if w.want(w.decided(steps)[:1], "sales full S-full"); !errors.Is(steps[0].Err, sqlguest.ErrBroken) {
		t.Errorf("the full: %v; want %v", steps[0].Err, sqlguest.ErrBroken)
	}
	all := w.backups("sales")
	if b := all[len(all)-1]; b.LastRestore == nil || b.LastRestore.ID != 0 {
		t.Errorf("the full has seen restore %+v, which came after its look", b.LastRestore)
	}
	_, got = w.run(decide.Log, "sales")
	w.want(got, "sales refuse Q21", "sales full Q21")
	_, got = w.run(decide.Log, "sales")
	w.want(got, "sales log S-log")
}
