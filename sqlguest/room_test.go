package sqlguest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"holdfast/sqlguest"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab/backups"
	"holdfast/sqlguest/lab/bridge"
)

// roomy is a world whose backups are staged on a volume of its own, and a run that uses it.
func roomy(t *testing.T, want decide.Want) (*world, *sqlguest.Run) {
	t.Helper()
	w := newWorld(t, bridge.Faults{})
	w.volume = func(path string) (string, int64, int64, string) {
		if strings.HasPrefix(path, w.dir) {
			return w.dir, 9 << 30, 9 << 30, "ext4"
		}
		return "/", 9 << 30, 9 << 30, "ext4"
	}
	return w, w.disk(want, w.sql, "sales")
}

// TestX7StagingIsTooSmallForTheBackup: what will not fit on the volume of staging files is
// refused by name and by number before SQL Server begins, each kind by its own size. The
// volume has no database on it.
func TestX7StagingIsTooSmallForTheBackup(t *testing.T) {
	w, r := roomy(t, decide.Full)
	w.exec("CREATE TABLE sales.dbo.large (id int PRIMARY KEY, text nvarchar(max))")
	w.exec("DECLARE @n INT = 0; WHILE @n < 500 BEGIN SET @n = @n + 1; INSERT INTO sales.dbo.large VALUES (@n, REPLICATE(N'large', 400)); END")
	w.lab.FillVolume(w.dir, 600<<10)
	steps, err := r.All(t.Context())
	w.must(err)
	if len(steps) != 1 || steps[0].Decision.Rule != decide.RuleStaging || !errors.Is(steps[0].Err, sqlguest.ErrRefused) ||
		!strings.Contains(steps[0].Decision.Reason, "volume "+w.dir) || !strings.Contains(steps[0].Decision.Reason, "full backup of sales needs about") ||
		decide.Exit(decisions(steps)) != decide.ExitRefused {
		t.Fatalf("%+v", steps)
	}
	if left := w.files(); len(left) > 0 || len(w.identities()) > 0 {
		t.Errorf("left %q, %q", left, w.identities())
	}
	w.lab.FillVolume(w.dir, 8<<20)
	steps, err = r.All(t.Context())
	w.must(err)
	w.want(w.said(steps), "sales full S-full")
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (100, N'new')")
	w.lab.FillVolume(w.dir, 600<<10) // enough for a differential
	steps, err = w.disk(decide.Diff, w.sql, "sales").All(t.Context())
	w.must(err)
	w.want(w.said(steps), "sales diff S-diff")
	if left := w.files(); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

// TestQ16LogStopsOnAFullVolumeOfItsDatabase: data and log volume alike, by name; a full
// goes on and says so.
func TestQ16LogStopsOnAFullVolumeOfItsDatabase(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.volume = func(path string) (string, int64, int64, string) {
		return path[:strings.LastIndex(path, `\`)+1], 9 << 30, 9 << 30, "NTFS"
	}
	w.run(decide.Auto, "sales")
	before := w.lastLog("sales")
	for _, volume := range []string{`C:\Data\`, `C:\Log\`} {
		w.lab.FillVolume(volume, 1<<30-1)
		r := w.job(decide.Log, w.sql)
		r.Databases = []string{"sales"}
		steps, err := r.All(t.Context())
		w.must(err)
		if len(steps) != 1 || steps[0].Decision.Rule != decide.RuleSpace || !errors.Is(steps[0].Err, sqlguest.ErrRefused) || !strings.Contains(steps[0].Decision.Reason, "volume "+volume) {
			t.Errorf("%s: %+v", volume, steps)
		}
		steps, said := w.run(decide.Full, "sales")
		w.want(said, "sales full S-full")
		if !warned(steps[0], decide.RuleSpace) {
			t.Errorf("%s: warnings %+v", volume, steps[0].Decision.Warnings)
		}
		if w.lastLog("sales") != before {
			t.Error("the log was truncated")
		}
		w.lab.FillVolume(volume, 1<<30)
	}
	_, said := w.run(decide.Log, "sales")
	w.want(said, "sales log S-log")
}

// TestX7VolumeFillsUpDuringTheBackup: SQL Server's error (3202, 112) fails the item; no
// file stays, no point is made, and the log is as it was.
func TestX7VolumeFillsUpDuringTheBackup(t *testing.T) {
	w, r := roomy(t, decide.Full)
	steps, err := w.disk(decide.Auto, w.sql, "sales").All(t.Context())
	w.must(err)
	w.want(w.said(steps), "sales full M12", "sales log S-log")
	before, points := w.lastLog("sales"), len(w.backups("sales"))
	for i := range 40 {
		w.exec(fmt.Sprintf("INSERT INTO sales.dbo.customers (id, name) VALUES (%d, N'row')", 1000+i))
	}
	for _, want := range []decide.Want{decide.Full, decide.Diff, decide.Log} {
		w.lab.BreakDevice(func(_ context.Context, _ string, written int64) error {
			if written > 0 {
				return backups.ErrFull // somebody else has filled it since the look
			}
			return nil
		})
		r.Request = decide.Request{Want: want}
		steps, err = r.All(t.Context())
		w.must(err)
		if len(steps) != 1 || steps[0].Point != nil || steps[0].Err == nil || !strings.Contains(steps[0].Err.Error(), "112(There is not enough space on the disk.)") {
			t.Fatalf("%s: %+v", want, steps)
		}
		if left := w.files(); len(left) > 0 || w.lastLog("sales") != before || len(w.backups("sales")) != points {
			t.Errorf("%s: left %q, log at %s, %d points", want, left, w.lastLog("sales"), len(w.backups("sales")))
		}
	}
	w.lab.BreakDevice(nil)
	r.Request = decide.Request{Want: decide.Log}
	steps, err = r.All(t.Context())
	w.must(err)
	w.want(w.said(steps), "sales log S-log")
}
