package lab

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestHalfAnUpdateDoesNotStay(t *testing.T) {
	c := one(t, start(t, Options{Sample: true}))
	run(t, c, "CREATE TABLE sales.dbo.pair (a INT, b INT, PRIMARY KEY (a,b))", "INSERT sales.dbo.pair VALUES (1,1),(1,2)")
	fails(t, c, "UPDATE sales.dbo.pair SET b=5", 2627)
	if got := tableOf(t, c, "SELECT b FROM sales.dbo.pair ORDER BY b"); got != "1\n2" {
		t.Error(got)
	}
}

func TestFailedBackupLeavesTheFileAsItWas(t *testing.T) {
	l := start(t, Options{Sample: true})
	c := one(t, l)
	run(t, c, "BACKUP DATABASE sales TO DISK='file'")
	l.BreakDevice(func(_ context.Context, _ string, written int64) error {
		if written > 0 {
			return errors.New("disk full")
		}
		return nil
	})
	fails(t, c, "BACKUP DATABASE sales TO DISK='file'", 3202, 3013)
	l.BreakDevice(nil)
	run(t, c, "BACKUP LOG sales TO DISK='file'", "RESTORE VERIFYONLY FROM DISK='file' WITH FILE=2")
	if got := tableOf(t, c, "SELECT position, type FROM msdb.dbo.backupset ORDER BY backup_set_id"); got != "1|D\n2|L" {
		t.Error(got)
	}
}

func TestKilledWhileItRunsRollsBackToo(t *testing.T) {
	l := start(t, Options{Sample: true})
	a, b := one(t, l), one(t, l)
	run(t, a, "BEGIN TRAN; DELETE FROM sales.dbo.customers")
	id := strings.TrimSpace(tableOf(t, a, "SELECT @@SPID"))
	failed := make(chan error, 1)
	go func() {
		_, err := a.ExecContext(t.Context(), "WAITFOR DELAY '01:00:00'")
		failed <- err
	}()
	for tableOf(t, b, "SELECT COUNT(*) FROM sys.dm_exec_requests WHERE session_id="+id) != "1" {
	}
	run(t, b, "KILL "+id)
	if err := <-failed; err == nil {
		t.Error("the statement of a killed session succeeded")
	}
	if got := tableOf(t, b, "SELECT COUNT(*) FROM sales.dbo.customers"); got != "3" {
		t.Error(got)
	}
}
