package backups

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest/lab/backups/stream"
	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/storage/filesystem"
	"holdfast/sqlguest/server"
)

func TestStatementsAreRefusedByNumber(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	for _, name := range []string{"master", "tempdb"} {
		if _, err := b.s.Create(CreateOptions{Name: name, Model: storage.Simple}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		number  int32
		o       BackupOptions
		devices int
	}{
		{3147, BackupOptions{Database: "tempdb"}, 1},
		{4212, BackupOptions{Database: "master", Kind: Log}, 1},
		{3024, BackupOptions{Database: "MASTER", Kind: Differential}, 1},
		{911, BackupOptions{Database: "nobody"}, 1},
		{3205, BackupOptions{}, 65},
		{3032, BackupOptions{NoRecovery: true}, 1},
		{3031, BackupOptions{Kind: Log, NoRecovery: true, CopyOnly: true}, 1},
	} {
		_, _, err := b.try(c.o, c.devices)
		refused(t, err, c.number)
	}
}

func TestAbortedBackupChangesNothing(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	b.full()
	b.insert(1, "x")
	before, rows := b.database().Info(), len(b.s.MSDB().Sets)
	for _, o := range []BackupOptions{{Kind: Log}, {Kind: Full}, {Kind: Log, NoRecovery: true}} {
		o.Database = "sales"
		devices, _ := sinks(2)
		devices[1].W = &brokenWriter{left: 100 << 10}
		_, err := b.s.BeginBackup(context.Background(), o, devices)
		refused(t, err, 3202)
		devices, _ = sinks(1)
		run, err := b.s.BeginBackup(context.Background(), o, devices)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, run.Abort(nil), 3204)
		if _, err := run.Complete(); err == nil {
			t.Error("complete after abort")
		}
		stopped, cancel := context.WithCancel(context.Background())
		cancel()
		if o.Kind == Full {
			devices, _ = sinks(1)
			_, err = b.s.BeginBackup(stopped, o, devices)
			refused(t, err, 3204)
		}
	}
	after := b.database().Info()
	if after.LastLogBackup != before.LastLogBackup || after.Files[0].Base != before.Files[0].Base || after.State != storage.Online || len(b.s.MSDB().Sets) != rows {
		t.Errorf("before %+v, after %+v", before.Boot, after.Boot)
	}
	if got := b.log().h.FirstLSN; got != before.LastLogBackup {
		t.Errorf("the next log begins at %s, want %s", got, before.LastLogBackup)
	}
}

func TestBackupsAndFileChangesWaitForEachOther(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	b.full()
	devices, _ := sinks(1)
	run, err := b.s.BeginBackup(context.Background(), BackupOptions{Database: "sales"}, devices)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = b.try(BackupOptions{Kind: Differential}, 1)
	refused(t, err, 3023)
	if err := b.database().AddFile(context.Background(), storage.File{Logical: "f", Physical: `D:\f.ndf`}); err == nil {
		t.Error("a file was added while a full runs")
	}
	b.insert(1, "x")
	b.log() // is allowed
	if _, err := b.s.take("sales", 3702); err == nil {
		t.Error("dropped while a backup runs")
	}
	if _, err := run.Complete(); err != nil {
		t.Fatal(err)
	}
}

func TestReadOnlyLogIsRepeated(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	b.full()
	if err := b.database().SetReadOnly(context.Background(), true); err != nil {
		t.Fatal(err)
	}
	one, messages, err := b.try(BackupOptions{Kind: Log}, 1)
	if err != nil || !has(messages, 4217) {
		t.Fatalf("%v %v", messages, err)
	}
	if two := b.log(); two.h.FirstLSN != one.h.FirstLSN {
		t.Error("the log of a read-only database was truncated")
	}
}

func TestLostMSDBDoesNotFailABackup(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	b.full()
	b.s.LoseMSDB(true)
	_, messages, err := b.try(BackupOptions{}, 1)
	if err != nil || !has(messages, 3009) || !has(messages, 3014) {
		t.Fatalf("%v %v", messages, err)
	}
	if len(b.s.MSDB().Sets) != 0 {
		t.Error("rows in a lost msdb")
	}
}

func TestHistoryRowsSayWhatWasDone(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	b.full()
	tx, _ := b.database().Begin(context.Background(), "m")
	tx.SetMark("noon", "a mark", "sa")
	if _, err := tx.Insert("t", []any{int64(1), "x"}); err != nil {
		t.Fatal(err)
	}
	c, err := tx.Commit()
	if err != nil {
		t.Fatal(err)
	}
	k, messages, err := b.try(BackupOptions{Kind: Log, Name: "n"}, 3)
	if err != nil || !has(messages, 4035) || !has(messages, 3014) {
		t.Fatal(messages, err)
	}
	m := b.s.MSDB()
	set := m.Sets[1]
	if set.UUID != k.h.BackupSetGUID || set.Type != "L" || set.LastLSN != k.h.LastLSN || set.TimeZone != 4 || set.SoftwareMajor != 16 || set.Name != "n" {
		t.Errorf("backupset: %+v", set)
	}
	if m.Media[1].FamilyCount != 3 || len(m.Families) != 4 || m.Families[3].PhysicalName != "{device-2}" || m.Families[3].DeviceType != 7 {
		t.Errorf("families: %+v", m.Families)
	}
	if len(m.Marks) != 1 || m.Marks[0].LSN != c.LSN || m.Marks[0].Name != "noon" {
		t.Errorf("marks: %+v", m.Marks)
	}
	b.must(b.s, b.taken[0], RestoreOptions{End: NoRecovery, Replace: true})
	b.must(b.s, k, RestoreOptions{Stop: Stop{Mark: "noon"}})
	if r := b.s.MSDB().Restores; len(r) != 2 || r[0].Type != "D" || !r[0].Replace || r[1].BackupSetID != set.ID || r[1].StopAtMark != "noon" {
		t.Errorf("restorehistory: %+v", r)
	}
}

func TestMediaMistakesHaveTheirNumbers(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	for i := range 60 {
		b.insert(i, strings.Repeat("x", 1500))
	}
	k, _, err := b.try(BackupOptions{}, 3)
	if err != nil {
		t.Fatal(err)
	}
	two, _, err := b.try(BackupOptions{}, 3)
	if err != nil {
		t.Fatal(err)
	}
	damage := func(stream, at int) [][]byte {
		out := make([][]byte, 3)
		copy(out, k.streams)
		out[stream] = append([]byte(nil), out[stream]...)
		out[stream][at] ^= 0x40
		return out
	}
	s := k.streams
	for _, c := range []struct {
		name    string
		number  int32
		streams [][]byte
	}{
		{"one missing", 3132, s[:2]},
		{"one too many", 3231, [][]byte{s[0], s[1], s[2], s[2]}},
		{"one twice", 3227, [][]byte{s[0], s[1], s[1]}},
		{"one of another set", 3133, [][]byte{s[0], s[1], two.streams[2]}},
		{"nothing", 3208, [][]byte{{}, s[1], s[2]}},
		{"something else", 3242, [][]byte{bytes.Repeat([]byte("no"), stream.BlockBytes), s[1], s[2]}},
		{"head damaged", 3241, damage(0, 100)},
		{"content damaged", 3189, damage(1, stream.BlockBytes+500)},
		{"tail damaged", 3189, damage(2, len(s[2])-100)},
		{"cut short", 3203, [][]byte{s[0], s[1][:stream.BlockBytes+77], s[2]}},
		{"cut at a block", 3203, [][]byte{s[0], s[1], s[2][:stream.BlockBytes]}},
	} {
		t.Run(c.name, func(t *testing.T) {
			other, _ := newServer(t, 2)
			_, err := other.VerifyOnly(context.Background(), 1, false, (&kept{streams: c.streams}).sources())
			refused(t, err, c.number)
			_, err = restore(other, &kept{streams: c.streams, h: k.h}, RestoreOptions{})
			refused(t, err, c.number)
		})
	}
	// The order of the devices does not matter.
	other, _ := newServer(t, 2)
	b.must(other, &kept{streams: [][]byte{s[2], s[0], s[1]}, h: k.h}, RestoreOptions{})
	if got := rows(t, other, "sales"); len(got) != 60 {
		t.Errorf("%d rows", len(got))
	}
	if _, err := other.VerifyOnly(context.Background(), 1, true, k.sources()); err == nil {
		t.Error("3187 expected: no checksums were asked for")
	}
	heads, err := other.HeaderOnly(context.Background(), k.sources()[1:2])
	if err != nil || len(heads) != 1 || heads[0].LastLSN != k.h.LastLSN || heads[0].FinishDate != k.h.FinishDate {
		t.Errorf("one family's header: %+v %v", heads, err)
	}
	list, err := other.FileListOnly(context.Background(), 1, (&kept{streams: [][]byte{s[0][:stream.BlockBytes]}}).sources())
	if err != nil || len(list.Files) != 2 || list.Files[0].Logical != "sales" {
		t.Errorf("file list of the head alone: %v %v", list.Files, err)
	}
}

func TestDamagedLogLeavesTheDatabaseWhereItWas(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	full := b.full()
	b.insert(1, "x")
	log := b.log()
	other, _ := newServer(t, 2)
	b.must(other, full, RestoreOptions{End: NoRecovery})
	bad := append([]byte(nil), log.streams[0]...)
	bad[len(bad)-9] ^= 1
	_, err := restore(other, &kept{streams: [][]byte{bad}, h: log.h}, RestoreOptions{})
	refused(t, err, 3189)
	b.must(other, log, RestoreOptions{})
	ids(t, other, "sales", 1)
}

func TestSecondSetOnTheMedia(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	one := b.full()
	b.insert(1, "x")
	two := b.backup(BackupOptions{Kind: Full, Position: 2})
	both := &kept{streams: [][]byte{append(append([]byte(nil), one.streams[0]...), two.streams[0]...)}, h: one.h}
	other, _ := newServer(t, 2)
	heads, err := other.HeaderOnly(context.Background(), both.sources())
	if err != nil || len(heads) != 2 || heads[1].BackupSetGUID != two.h.BackupSetGUID || heads[1].Position != 2 {
		t.Fatalf("headers: %v %v", heads, err)
	}
	b.must(other, both, RestoreOptions{File: 2})
	ids(t, other, "sales", 1)
	_, err = restore(other, both, RestoreOptions{File: 3, Replace: true})
	refused(t, err, 3208)
}

func TestRestoreOverADatabaseIsRefused(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	full := b.full()
	b.insert(1, "x")
	_, err := restore(b.s, full, RestoreOptions{})
	refused(t, err, 3159)
	if _, err := b.s.Create(CreateOptions{Name: "other"}); err != nil {
		t.Fatal(err)
	}
	_, err = restore(b.s, full, RestoreOptions{Database: "other"})
	refused(t, err, 3154)
	move := map[string]string{"sales": `C:\Data\copy.mdf`, "sales_log": `C:\Data\copy.ldf`}
	b.must(b.s, full, RestoreOptions{Database: "copy", Move: move})
	_, err = restore(b.s, full, RestoreOptions{Database: "copy", Move: move})
	refused(t, err, 3141)
	b.s.o.Sessions = func(name string) int { return strings.Count(name, "copy") }
	_, err = restore(b.s, full, RestoreOptions{Database: "copy", Move: move, Replace: true})
	refused(t, err, 3101)
	b.s.o.Sessions = nil
	tx, err := b.database().Begin(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = restore(b.s, full, RestoreOptions{Replace: true})
	refused(t, err, 3101)
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	b.must(b.s, full, RestoreOptions{Replace: true})
	ids(t, b.s, "sales")
}

func TestFilesOfARestoreAreChecked(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	full := b.full()
	if err := filesystem.WriteFile(b.s.o.FS, `C:\Data\taken.mdf`, []byte("x")); err != nil {
		t.Fatal(err)
	}
	log := `C:\Data\new.ldf`
	for _, c := range []struct {
		number int32
		move   map[string]string
	}{
		{1834, nil},
		{3142, map[string]string{"sales": `c:\data\TAKEN.mdf`, "sales_log": log}},
		{3176, map[string]string{"sales": log, "sales_log": log}},
		{3234, map[string]string{"nobody": log, "sales": `C:\a.mdf`, "sales_log": log}},
		{5133, map[string]string{"sales": "nowhere.mdf", "sales_log": log}},
		{3156, map[string]string{"sales": `C:\` + strings.Repeat("x", 260), "sales_log": log}},
	} {
		_, err := restore(b.s, full, RestoreOptions{Database: "copy", Move: c.move})
		refused(t, err, c.number)
		refused(t, err, 3119)
		if _, err := b.s.Database("copy"); err == nil {
			t.Fatal("a database was made")
		}
	}
}

func TestRestoreNeedsTheRightState(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	full := b.full()
	b.insert(1, "x")
	diff, log := b.diff(), b.log()
	_, err := restore(b.s, log, RestoreOptions{})
	refused(t, err, 3117)
	_, err = restore(b.s, diff, RestoreOptions{})
	refused(t, err, 3117)
	_, err = b.s.Restore(context.Background(), RestoreOptions{Database: "sales"}, nil)
	refused(t, err, 3153)
	other, _ := newServer(t, 2)
	_, err = restore(other, log, RestoreOptions{})
	refused(t, err, 3118)
	_, err = other.Restore(context.Background(), RestoreOptions{Database: "sales", Log: true}, full.sources())
	refused(t, err, 3135)
	older, _ := New(Options{FS: &filesystem.Memory{}, Now: b.clock.look, Version: "15.0.2000.5"})
	_, err = restore(older, full, RestoreOptions{})
	refused(t, err, 3169)
	_, err = restore(other, full, RestoreOptions{Checksum: true})
	refused(t, err, 3187)
	// A full that breaks off leaves nothing that could be recovered.
	_, err = restore(other, &kept{h: full.h, streams: [][]byte{full.streams[0][:2*stream.BlockBytes]}}, RestoreOptions{})
	refused(t, err, 3203)
	_, err = other.Restore(context.Background(), RestoreOptions{Database: "sales"}, nil)
	refused(t, err, 4333)
	_, err = restore(other, log, RestoreOptions{})
	refused(t, err, 3117)
	b.must(other, full, RestoreOptions{})
}

func TestStopClausesHaveTheirNumbers(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	before := storage.Local(b.clock.now)
	b.insert(1, "x")
	full := b.full()
	b.insert(2, "x")
	middle := storage.Local(b.clock.now)
	marked := func(id int) {
		tx, _ := b.database().Begin(context.Background(), "m")
		tx.SetMark("mark", "", "sa")
		if _, err := tx.Insert("t", []any{int64(id), "x"}); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	marked(3)
	between := storage.Local(b.clock.now).Add(time.Millisecond) // AFTER takes a mark of that very time
	marked(4)
	log := b.log()
	other, _ := newServer(t, 2)
	for number, stop := range map[int32]Stop{4338: {At: before}, 4340: {Mark: "mark"}, 4334: {Mark: "lsn:nonsense"}} {
		_, err := restore(other, full, RestoreOptions{Stop: stop})
		refused(t, err, number)
	}
	for _, c := range []struct {
		stop Stop
		want []int
		info int32
	}{
		{Stop{At: middle}, []int{1, 2}, 0},
		{Stop{Mark: "MARK"}, []int{1, 2, 3}, 0},
		{Stop{Mark: "mark", Before: true}, []int{1, 2}, 0},
		{Stop{Mark: "mark", After: between}, []int{1, 2, 3, 4}, 0},
		{Stop{Mark: "mark", After: between, Before: true}, []int{1, 2, 3}, 0},
		{Stop{Mark: "nobody"}, nil, 4329},
		{Stop{At: middle.Add(time.Hour)}, nil, 4322},
	} {
		s, _ := newServer(t, 3)
		b.must(s, full, RestoreOptions{End: NoRecovery})
		messages := b.must(s, log, RestoreOptions{Stop: c.stop})
		db, _ := s.Database("sales")
		if c.info != 0 {
			if !has(messages, c.info) || db.Info().State != storage.Restoring {
				t.Errorf("%+v: %v, %s", c.stop, messages, db.Info().State)
			}
			continue
		}
		ids(t, s, "sales", c.want...)
	}
	s, _ := newServer(t, 4)
	b.must(s, full, RestoreOptions{End: NoRecovery})
	_, err := restore(s, log, RestoreOptions{Stop: Stop{At: before.Add(-time.Hour)}})
	refused(t, err, 4335)
	_, err = restore(s, log, RestoreOptions{Stop: Stop{Mark: "lsn:" + full.h.FirstLSN.String()}})
	refused(t, err, 4335)
	simple := newBench(t, 5, storage.Simple)
	_, err = restore(other, simple.full(), RestoreOptions{Stop: Stop{At: middle}})
	refused(t, err, 3145)
}

func TestStandbyIsReadableAndGoesOn(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	full := b.full()
	b.insert(1, "x")
	tx, _ := b.database().Begin(context.Background(), "open")
	if _, err := tx.Insert("t", []any{int64(2), "open"}); err != nil {
		t.Fatal(err)
	}
	one := b.log()
	if _, err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	two := b.log()
	other, c := newServer(t, 2)
	b.must(other, full, RestoreOptions{End: NoRecovery})
	b.must(other, one, RestoreOptions{End: Standby, UndoFile: `C:\undo.tuf`})
	ids(t, other, "sales", 1)
	_, err := other.BeginBackup(context.Background(), BackupOptions{Database: "sales"}, []Device{{W: io.Discard}})
	refused(t, err, 3036)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	o := other.Options()
	o.Now = c.look
	if other, err = New(o); err != nil { // the server may stop in between
		t.Fatal(err)
	}
	ids(t, other, "sales", 1)
	undo, err := filesystem.ReadFile(o.FS, `C:\undo.tuf`)
	if err != nil || len(undo) == 0 {
		t.Fatalf("undo file: %d bytes, %v", len(undo), err)
	}
	b.must(other, two, RestoreOptions{})
	ids(t, other, "sales", 1, 2)
	if o.FS.Exists(`C:\undo.tuf`) {
		t.Error("the undo file is left behind")
	}
}

func TestSnapshotRevertTakesMSDBAndDataBack(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	b.full()
	b.insert(1, "x")
	b.log()
	snapshot, err := b.s.Clone()
	if err != nil {
		t.Fatal(err)
	}
	b.insert(2, "x")
	lost := b.log()
	b.s = snapshot
	ids(t, b.s, "sales", 1)
	i := b.database().Info()
	if !i.LastLogBackup.Less(lost.h.LastLSN) || i.Fork() != lost.h.RecoveryForkID {
		t.Error("a revert moves LSNs back and keeps the fork")
	}
	for _, s := range b.s.MSDB().Sets {
		if s.UUID == lost.h.BackupSetGUID {
			t.Error("msdb knows a backup of the lost time")
		}
	}
	if again := b.log(); again.h.BackupSetGUID == lost.h.BackupSetGUID {
		t.Error("GUIDs repeat after a revert")
	}
}

func TestServerStartsAgainOnADirectory(t *testing.T) {
	dir, err := filesystem.NewDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	o := Options{FS: dir, Now: func() time.Time { now = now.Add(time.Second); return now }}
	b := &bench{t: t, db: "sales", clock: &clock{}}
	for i := range 3 {
		if b.s, err = New(o); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if _, err := b.s.Create(CreateOptions{Name: "sales"}); err != nil {
				t.Fatal(err)
			}
			b.do(func(tx *storage.Tx) error { _, err := tx.CreateTable("t", nil, ""); return err })
		}
		b.insert(i, "x")
		b.full()
		if err := b.s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if b.s, err = New(o); err != nil {
		t.Fatal(err)
	}
	ids(t, b.s, "sales", 0, 1, 2)
	if n := len(b.s.MSDB().Sets); n != 3 {
		t.Errorf("%d backup sets", n)
	}
	if err := b.s.Drop("sales"); err != nil {
		t.Fatal(err)
	}
	if dir.Exists(`C:\Data\sales.mdf`) {
		t.Error("files of a dropped database are left")
	}
	if err := b.s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDetachAttachKeepsTheDatabasesIdentity(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	full := b.full()
	b.insert(1, "x")
	before := b.database().Info()
	if _, err := b.s.Detach("sales"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.s.Attach("sold", `C:\Data\sales.mdf`, nil); err != nil {
		t.Fatal(err)
	}
	b.db = "sold"
	after := b.database().Info()
	if after.FamilyGUID != before.FamilyGUID || after.DatabaseGUID != before.DatabaseGUID || after.Fork() != before.Fork() || after.Name != "sold" {
		t.Errorf("before %+v, after %+v", before.Boot, after.Boot)
	}
	log := b.log()
	other, _ := newServer(t, 2)
	b.must(other, full, RestoreOptions{End: NoRecovery})
	b.must(other, log, RestoreOptions{})
	ids(t, other, "sales", 1)
}

func TestProgressIsToldInSteps(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	var told []string
	b.backup(BackupOptions{Notify: func(m server.Message) { told = append(told, m.Text) }, Percent: 50})
	if len(told) == 0 || told[len(told)-1] != "100 percent processed." {
		t.Errorf("told %q", told)
	}
}

func TestAbortNamesTheDevicesOwnError(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	devices, _ := sinks(1)
	run, err := b.s.BeginBackup(context.Background(), BackupOptions{Database: "sales"}, devices)
	if err != nil {
		t.Fatal(err)
	}
	e := run.Abort(errors.New("repository is full"))
	refused(t, e, 3202)
	if !strings.Contains(e.Error(), "repository is full") {
		t.Error(e)
	}
}

func TestDamagedPageGoesIntoABackupWithoutChecksum(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	b.insert(1, strings.Repeat("needle", 50))
	file, err := b.s.o.FS.Open(`C:\Data\sales.mdf`)
	if err != nil {
		t.Fatal(err)
	}
	data, err := filesystem.ReadFile(b.s.o.FS, `C:\Data\sales.mdf`)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, []byte("needle"))
	if at < 0 {
		t.Fatal("the row is not in the file")
	}
	if _, err := file.WriteAt([]byte("N"), int64(at)); err != nil {
		t.Fatal(err)
	}
	_, _, err = b.try(BackupOptions{Checksum: true}, 1)
	refused(t, err, 3043)
	blind := b.full()
	other, _ := newServer(t, 2)
	b.must(other, blind, RestoreOptions{})
	db, err := other.Database("sales")
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := db.Check(); err != nil || len(problems) == 0 {
		t.Errorf("a damaged page passed the check: %v", err)
	}
	if _, err := db.Scan(context.Background(), "t"); err == nil {
		t.Error("a damaged page was read")
	}
}

func TestTwoRestoresOfOneDatabase(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	full := b.full()
	other, _ := newServer(t, 2)
	if err := other.enter("SALES"); err != nil {
		t.Fatal(err)
	}
	_, err := restore(other, full, RestoreOptions{})
	refused(t, err, 3101)
	other.leave("sales")
	b.must(other, full, RestoreOptions{})
}
