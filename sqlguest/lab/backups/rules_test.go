package backups

import (
	"context"
	"testing"

	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lsn"
)

func TestR1CheckpointLiesInAFull(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	h := b.full().h
	if h.FirstLSN != h.CheckpointLSN || !h.CheckpointLSN.Less(h.LastLSN) {
		t.Errorf("idle: first %s, checkpoint %s, last %s", h.FirstLSN, h.CheckpointLSN, h.LastLSN)
	}
	tx, err := b.database().Begin(context.Background(), "open")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Insert("t", []any{int64(1), "open"}); err != nil {
		t.Fatal(err)
	}
	k := b.full()
	if !k.h.FirstLSN.Less(k.h.CheckpointLSN) {
		t.Errorf("open transaction: first %s, checkpoint %s", k.h.FirstLSN, k.h.CheckpointLSN)
	}
	if _, err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	other, _ := newServer(t, 2)
	b.must(other, k, RestoreOptions{})
	ids(t, other, "sales") // it was open when the backup ended
}

func TestR2LogFollowsLogExactly(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	b.full()
	last := lsn.LSN{}
	for i := range 4 {
		b.insert(i, "x")
		h := b.log().h
		if i == 0 && !h.BeginsLogChain || i > 0 && (h.FirstLSN != last || h.BeginsLogChain) {
			t.Errorf("log %d begins at %s, the one before ended at %s", i, h.FirstLSN, last)
		}
		last = h.LastLSN
	}
	h := b.log().h
	if h.FirstLSN != last || h.LastLSN != last {
		t.Errorf("idle log is %s to %s, not empty at %s", h.FirstLSN, h.LastLSN, last)
	}
}

func TestR3LogFitsOnlyItsPlace(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	full := b.full()
	b.insert(1, "x")
	one := b.log()
	b.insert(2, "x")
	two := b.log()
	empty := b.log()
	other, _ := newServer(t, 2)
	b.must(other, full, RestoreOptions{End: NoRecovery})
	_, err := restore(other, two, RestoreOptions{End: NoRecovery})
	refused(t, err, 4305)
	b.must(other, one, RestoreOptions{End: NoRecovery})
	b.must(other, one, RestoreOptions{End: NoRecovery}) // ends where the database is: nothing to do
	b.must(other, two, RestoreOptions{End: NoRecovery})
	_, err = restore(other, one, RestoreOptions{End: NoRecovery})
	refused(t, err, 4326)
	b.must(other, empty, RestoreOptions{})
	ids(t, other, "sales", 1, 2)
}

func TestR4OlderFullAndLogTakenDuringAFull(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	old := b.full()
	b.insert(1, "x")
	first := b.log()
	devices, buffers := sinks(1)
	var during *kept
	devices[0].W = &interrupter{w: buffers[0], at: 2, act: func() {
		b.insert(2, "during")
		during = b.log()
		b.insert(3, "during")
	}}
	run, err := b.s.BeginBackup(context.Background(), BackupOptions{Database: "sales"}, devices)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run.Complete(); err != nil {
		t.Fatal(err)
	}
	full := &kept{h: run.Header, streams: [][]byte{buffers[0].Bytes()}}
	b.insert(4, "after")
	last := b.log()
	for name, chain := range map[string][]*kept{"through the full": {full, last}, "past the full": {old, first, during, last}} {
		other, _ := newServer(t, 2)
		for _, k := range chain {
			b.must(other, k, RestoreOptions{End: NoRecovery})
		}
		if _, err := other.Restore(context.Background(), RestoreOptions{Database: "sales"}, nil); err != nil {
			t.Fatal(err)
		}
		t.Log(name)
		ids(t, other, "sales", 1, 2, 3, 4)
	}
}

func TestR5DifferentialNeedsItsOwnFull(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	_, _, err := b.try(BackupOptions{Kind: Differential}, 1)
	refused(t, err, 3035)
	one := b.full()
	b.insert(1, "x")
	d1 := b.diff()
	b.insert(2, "x")
	d2 := b.diff()
	two := b.full()
	if d2.h.DifferentialBaseGUID != one.h.BackupSetGUID || d2.h.DifferentialBaseLSN != one.h.CheckpointLSN || d2.h.DatabaseBackupLSN != one.h.CheckpointLSN {
		t.Errorf("base of the differential: %+v", d2.h)
	}
	other, _ := newServer(t, 2)
	b.must(other, two, RestoreOptions{End: NoRecovery})
	_, err = restore(other, d2, RestoreOptions{})
	refused(t, err, 3136)
	b.must(other, one, RestoreOptions{End: NoRecovery})
	b.must(other, d2, RestoreOptions{End: NoRecovery})
	_, err = restore(other, d1, RestoreOptions{})
	refused(t, err, 3120)
	b.must(other, one, RestoreOptions{End: NoRecovery, Replace: true})
	b.must(other, d2, RestoreOptions{})
	ids(t, other, "sales", 1, 2)
}

func TestR6OtherForkIsRefused(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	full := b.full()
	b.insert(1, "x")
	one := b.log()
	b.insert(2, "old branch")
	old := b.log()
	// Back to the end of the first log; from there another history.
	b.must(b.s, full, RestoreOptions{End: NoRecovery, Replace: true})
	b.must(b.s, one, RestoreOptions{})
	b.insert(3, "new branch")
	branch := b.log()
	if branch.h.FirstRecoveryForkID != one.h.RecoveryForkID || branch.h.RecoveryForkID == one.h.RecoveryForkID || branch.h.ForkPointLSN != one.h.LastLSN {
		t.Errorf("forks of the new branch: %s to %s at %s", branch.h.FirstRecoveryForkID, branch.h.RecoveryForkID, branch.h.ForkPointLSN)
	}
	if branch.h.BindingID == one.h.BindingID || branch.h.FamilyGUID != one.h.FamilyGUID {
		t.Error("a restore makes a new database GUID and keeps the family's")
	}
	b.insert(4, "new branch")
	next := b.log()
	other, _ := newServer(t, 2)
	for _, k := range []*kept{full, one, old} {
		b.must(other, k, RestoreOptions{End: NoRecovery})
	}
	for _, k := range []*kept{branch, next} {
		if _, err := restore(other, k, RestoreOptions{}); err == nil {
			t.Error("a log of another fork was taken")
		} else if k == branch {
			refused(t, err, 4330)
		}
	}
	third, _ := newServer(t, 3)
	for _, k := range []*kept{full, one, branch} {
		b.must(third, k, RestoreOptions{End: NoRecovery})
	}
	b.must(third, next, RestoreOptions{})
	ids(t, third, "sales", 1, 3, 4)
}

func TestR7CopyOnlyChangesNothing(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	full := b.full()
	b.insert(1, "x")
	before := b.database().Info()
	b.backup(BackupOptions{Kind: Log, CopyOnly: true})
	only := b.backup(BackupOptions{Kind: Full, CopyOnly: true})
	after := b.database().Info()
	if after.LastLogBackup != before.LastLogBackup || after.Files[0].Base.GUID != full.h.BackupSetGUID {
		t.Error("a copy-only backup has moved the chain or the base")
	}
	d := b.diff()
	l := b.log()
	other, _ := newServer(t, 2)
	b.must(other, only, RestoreOptions{End: NoRecovery})
	_, err := restore(other, d, RestoreOptions{})
	refused(t, err, 3136)
	b.insert(2, "x")
	b.must(other, l, RestoreOptions{End: NoRecovery}) // but logs fit on it
	b.must(other, b.log(), RestoreOptions{})
	ids(t, other, "sales", 1, 2)
}

func TestR8TailLeavesRestoringAndIsTheNextLink(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	full := b.full()
	b.insert(1, "x")
	one := b.log()
	b.insert(2, "tail")
	tx, err := b.database().Begin(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = b.try(BackupOptions{Kind: Log, NoRecovery: true}, 1)
	refused(t, err, 3101)
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	tail := b.backup(BackupOptions{Kind: Log, NoRecovery: true})
	if tail.h.FirstLSN != one.h.LastLSN || !tail.h.IsForceOffline {
		t.Errorf("tail: %+v", tail.h)
	}
	if i := b.database().Info(); i.State != storage.Restoring || i.RedoStart != tail.h.LastLSN {
		t.Errorf("after the tail: %s, redo from %s", i.State, i.RedoStart)
	}
	_, _, err = b.try(BackupOptions{Kind: Full}, 1)
	refused(t, err, 927)
	other, _ := newServer(t, 2)
	b.must(other, full, RestoreOptions{End: NoRecovery})
	b.must(other, one, RestoreOptions{End: NoRecovery})
	b.must(other, tail, RestoreOptions{})
	ids(t, other, "sales", 1, 2)
	// And here: nothing is lost by saying that it was all.
	if _, err := b.s.Restore(context.Background(), RestoreOptions{Database: "sales"}, nil); err != nil {
		t.Fatal(err)
	}
	ids(t, b.s, "sales", 1, 2)
}

func TestR8TailOfADatabaseWhoseDataIsLost(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	full := b.full()
	b.insert(1, "x")
	if err := b.s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.s.o.FS.Remove(`C:\Data\sales.mdf`); err != nil {
		t.Fatal(err)
	}
	s, err := New(b.s.Options())
	if err != nil {
		t.Fatal(err)
	}
	b.s = s
	_, _, err = b.try(BackupOptions{Kind: Log}, 1)
	refused(t, err, 945)
	tail := b.backup(BackupOptions{Kind: Log, NoTruncate: true})
	if !tail.h.HasIncompleteMetaData || !tail.h.IsCopyOnly {
		t.Errorf("tail: %+v", tail.h)
	}
	other, _ := newServer(t, 2)
	b.must(other, full, RestoreOptions{End: NoRecovery})
	b.must(other, tail, RestoreOptions{})
	ids(t, other, "sales", 1)
}

func TestR9BulkLoggedLogGoesToItsEndOnly(t *testing.T) {
	b := newBench(t, 1, storage.BulkLogged)
	full := b.full()
	b.insert(1, "x")
	middle := storage.Local(b.clock.now)
	b.do(func(tx *storage.Tx) error {
		return tx.BulkInsert("t", [][]any{{int64(2), "bulk"}, {int64(3), "bulk"}})
	})
	b.insert(4, "x")
	log := b.log()
	if !log.h.HasBulkLoggedData {
		t.Error("the log does not say that it holds bulk changes")
	}
	other, _ := newServer(t, 2)
	b.must(other, full, RestoreOptions{End: NoRecovery})
	_, err := restore(other, log, RestoreOptions{Stop: Stop{At: middle}})
	refused(t, err, 4341)
	b.must(other, log, RestoreOptions{})
	ids(t, other, "sales", 1, 2, 3, 4)
	b.insert(5, "x")
	if b.log().h.HasBulkLoggedData {
		t.Error("the next log still says so")
	}
}

func TestR9BulkChangesOfALostFileCannotBeBackedUp(t *testing.T) {
	b := newBench(t, 1, storage.BulkLogged)
	b.full()
	b.do(func(tx *storage.Tx) error { return tx.BulkInsert("t", [][]any{{int64(2), "bulk"}}) })
	if err := b.s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.s.o.FS.Remove(`C:\Data\sales.mdf`); err != nil {
		t.Fatal(err)
	}
	s, err := New(b.s.Options())
	if err != nil {
		t.Fatal(err)
	}
	b.s = s
	_, _, err = b.try(BackupOptions{Kind: Log, NoTruncate: true}, 1)
	refused(t, err, 4202)
}

func TestR10NoLogWithoutAChain(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	_, _, err := b.try(BackupOptions{Kind: Log}, 1)
	refused(t, err, 4214)
	b.backup(BackupOptions{Kind: Full, CopyOnly: true})
	_, _, err = b.try(BackupOptions{Kind: Log}, 1)
	refused(t, err, 4214)
	full := b.full()
	if got := b.database().Info().LastLogBackup; got != full.h.FirstLSN {
		t.Errorf("the next log begins at %s, the full at %s", got, full.h.FirstLSN)
	}
	messages, err := b.database().SetModel(context.Background(), storage.Simple)
	if err != nil || !has(messages, 4219) {
		t.Errorf("to SIMPLE: %v, %v", messages, err)
	}
	_, _, err = b.try(BackupOptions{Kind: Log}, 1)
	refused(t, err, 4208)
	if !b.database().Info().LastLogBackup.IsZero() {
		t.Error("SIMPLE still has a start of the next log")
	}
}

func TestR11DifferentialBridgesAGap(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	full := b.full()
	b.insert(1, "x")
	one := b.log()
	ctx := context.Background()
	for _, m := range []storage.Model{storage.Simple, storage.Full} {
		if _, err := b.database().SetModel(ctx, m); err != nil {
			t.Fatal(err)
		}
		b.insert(10+int(m), "in between")
	}
	_, _, err := b.try(BackupOptions{Kind: Log}, 1)
	refused(t, err, 4214)
	bridge := b.diff()
	b.insert(2, "x")
	log := b.log()
	if !log.h.BeginsLogChain {
		t.Error("the first log of the new chain does not say so")
	}
	other, _ := newServer(t, 2)
	b.must(other, full, RestoreOptions{End: NoRecovery})
	b.must(other, one, RestoreOptions{End: NoRecovery})
	_, err = restore(other, log, RestoreOptions{})
	refused(t, err, 4312)
	b.must(other, bridge, RestoreOptions{End: NoRecovery})
	b.must(other, log, RestoreOptions{})
	ids(t, other, "sales", 1, 2, 11, 13)
}

func TestR12LogMakesTheFileThatItAdds(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	full := b.full()
	if err := b.database().AddFile(context.Background(), storage.File{Logical: "more", Physical: `D:\more.ndf`}); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		b.insert(i, "much to fill the other file with, too")
	}
	log := b.log()
	diff := b.diff()
	want := make([]int, 40)
	for i := range want {
		want[i] = i
	}
	other, _ := newServer(t, 2)
	b.must(other, full, RestoreOptions{End: NoRecovery})
	b.must(other, log, RestoreOptions{Move: map[string]string{"MORE": `E:\moved.ndf`}})
	ids(t, other, "sales", want...)
	if !other.o.FS.Exists(`E:\moved.ndf`) || other.o.FS.Exists(`D:\more.ndf`) {
		t.Error("the file went elsewhere")
	}
	third, _ := newServer(t, 3)
	b.must(third, full, RestoreOptions{End: NoRecovery})
	b.must(third, diff, RestoreOptions{})
	ids(t, third, "sales", want...)
	if err := b.database().ShrinkFile(context.Background(), "more", 0, true); err != nil {
		t.Fatal(err)
	}
	if err := b.database().RemoveFile(context.Background(), "more"); err != nil {
		t.Fatal(err)
	}
	gone := b.log()
	fourth, _ := newServer(t, 4)
	for _, k := range []*kept{full, log} {
		b.must(fourth, k, RestoreOptions{End: NoRecovery})
	}
	b.must(fourth, gone, RestoreOptions{})
	ids(t, fourth, "sales", want...)
	if fourth.o.FS.Exists(`D:\more.ndf`) {
		t.Error("the removed file is still there")
	}
}

func TestLogAfterAStopGoesBackToTheLastWholeLog(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	full := b.full()
	b.insert(1, "x")
	one := b.log()
	in := b.insert(2, "in")
	b.insert(3, "out")
	two := b.log()
	b.must(b.s, full, RestoreOptions{End: NoRecovery, Replace: true})
	b.must(b.s, one, RestoreOptions{End: NoRecovery})
	b.must(b.s, two, RestoreOptions{Stop: Stop{Mark: "lsn:" + in.LSN.String()}})
	ids(t, b.s, "sales", 1, 2)
	b.insert(4, "new")
	branch := b.log()
	if branch.h.FirstLSN != one.h.LastLSN || !branch.h.FirstLSN.Less(branch.h.ForkPointLSN) {
		t.Errorf("the log begins at %s with a fork at %s; the last whole log ended at %s", branch.h.FirstLSN, branch.h.ForkPointLSN, one.h.LastLSN)
	}
	other, _ := newServer(t, 2)
	b.must(other, full, RestoreOptions{End: NoRecovery})
	b.must(other, one, RestoreOptions{End: NoRecovery})
	b.must(other, branch, RestoreOptions{})
	ids(t, other, "sales", 1, 2, 4)
}

func TestRestoredDatabaseCountsChangesFromItsFull(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	for i := range 200 {
		b.insert(i, "some text that fills the pages of the table a little faster than none")
	}
	full := b.full()
	other, _ := newServer(t, 2)
	b.must(other, full, RestoreOptions{})
	c := &bench{t: t, s: other, clock: b.clock, db: "sales"}
	d := c.diff()
	if d.h.DifferentialBaseGUID != full.h.BackupSetGUID || d.h.BackupSize >= full.h.BackupSize {
		t.Errorf("base %s, %d bytes; the full is %s with %d bytes", d.h.DifferentialBaseGUID, d.h.BackupSize, full.h.BackupSetGUID, full.h.BackupSize)
	}
	c.insert(1000, "after")
	d = c.diff()
	third, _ := newServer(t, 3)
	b.must(third, full, RestoreOptions{End: NoRecovery})
	b.must(third, d, RestoreOptions{})
	if got := rows(t, third, "sales"); len(got) != 201 {
		t.Errorf("%d rows", len(got))
	}
}

func TestRestartInTheMiddleOfARestoreKeepsThePoint(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	full := b.full()
	b.insert(1, "x")
	log := b.log()
	other, _ := newServer(t, 2)
	b.must(other, full, RestoreOptions{End: NoRecovery})
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := New(other.Options())
	if err != nil {
		t.Fatal(err)
	}
	b.must(again, log, RestoreOptions{End: NoRecovery})
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if again, err = New(other.Options()); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Restore(context.Background(), RestoreOptions{Database: "sales"}, nil); err != nil {
		t.Fatal(err)
	}
	db, err := again.Database("sales")
	if err != nil {
		t.Fatal(err)
	}
	forks := db.Info().Forks
	if at := forks[len(forks)-1].Start; at != log.h.LastLSN {
		t.Errorf("the new fork begins at %s, the log ended at %s", at, log.h.LastLSN)
	}
	ids(t, again, "sales", 1)
}

func TestModelAndFileNamesTravelInTheLog(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	full := b.full()
	ctx := context.Background()
	if _, err := b.database().SetModel(ctx, storage.BulkLogged); err != nil {
		t.Fatal(err)
	}
	if err := b.database().RenameFile(ctx, "sales", "sold"); err != nil {
		t.Fatal(err)
	}
	log := b.log()
	other, _ := newServer(t, 2)
	b.must(other, full, RestoreOptions{End: NoRecovery})
	db, _ := other.Database("sales")
	if i := db.Info(); i.Model != storage.Full || i.Files[0].Logical != "sales" {
		t.Errorf("after the full: %s, %s", i.Model, i.Files[0].Logical)
	}
	b.must(other, log, RestoreOptions{})
	if i := db.Info(); i.Model != storage.BulkLogged || i.Files[0].Logical != "sold" {
		t.Errorf("after the log: %s, %s", i.Model, i.Files[0].Logical)
	}
	m := other.MSDB()
	if len(m.Sets) != 2 || m.Sets[1].UUID != log.h.BackupSetGUID || m.Restores[1].BackupSetID != m.Sets[1].ID {
		t.Errorf("msdb of the other server: %+v", m.Restores)
	}
}

func TestModelChangedWhileALogBackupWaits(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	b.full()
	b.insert(1, "x")
	devices, _ := sinks(1)
	run, err := b.s.BeginBackup(context.Background(), BackupOptions{Database: "sales", Kind: Log}, devices)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.database().SetModel(context.Background(), storage.Simple); err != nil {
		t.Fatal(err)
	}
	if _, err := run.Complete(); err != nil {
		t.Fatal(err)
	}
	if at := b.database().Info().LastLogBackup; !at.IsZero() {
		t.Errorf("in SIMPLE the next log backup would begin at %s", at)
	}
}

func TestPagesOfADroppedTableAreUsedAgain(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	b.do(func(tx *storage.Tx) error {
		if _, err := tx.CreateTable("old", nil, ""); err != nil {
			return err
		}
		for i := range 300 {
			if _, err := tx.Insert("old", []any{int64(i), "rows of a table that is about to go, and which must not shine through", int64(i)}); err != nil {
				return err
			}
		}
		return nil
	})
	full := b.full()
	b.do(func(tx *storage.Tx) error { return tx.DropTable("old") })
	b.do(func(tx *storage.Tx) error {
		if _, err := tx.CreateTable("new", nil, ""); err != nil {
			return err
		}
		_, err := tx.Insert("new", []any{"one"})
		return err
	})
	log := b.log()
	other, _ := newServer(t, 2)
	b.must(other, full, RestoreOptions{End: NoRecovery})
	b.must(other, log, RestoreOptions{})
	db, err := other.Database("sales")
	if err != nil {
		t.Fatal(err)
	}
	list, err := db.Scan(context.Background(), "new")
	if err != nil || len(list) != 1 || list[0].Values[0] != "one" {
		t.Errorf("rows %v, %v", list, err)
	}
	if problems, err := db.Check(); err != nil || len(problems) > 0 {
		t.Errorf("check: %v %v", problems, err)
	}
}

func TestR9ChainOwesNothingFromBeforeItBegan(t *testing.T) {
	b := newBench(t, 1, storage.Simple)
	b.do(func(tx *storage.Tx) error { return tx.BulkInsert("t", [][]any{{int64(1), "bulk"}}) })
	if _, err := b.database().SetModel(context.Background(), storage.Full); err != nil {
		t.Fatal(err)
	}
	b.full()
	b.insert(2, "x")
	if b.log().h.HasBulkLoggedData {
		t.Error("the log holds bulk changes from before the full")
	}
}
