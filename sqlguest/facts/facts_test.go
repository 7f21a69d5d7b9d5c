package facts

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/server"
)

// script answers questions by a text that they hold, and checks that every
// parameter of the text is given and every given one is in the text.
type script struct {
	server.Server
	t       *testing.T
	answers map[string]any // *server.Rows or error
	args    map[string]any // of the last question
}

func (s *script) Query(_ context.Context, text string, args ...server.Arg) (*server.Rows, error) {
	s.args = map[string]any{}
	for _, a := range args {
		s.args[a.Name] = a.Value
		if !strings.Contains(text, "@"+a.Name) {
			s.t.Errorf("parameter %s is not in %s", a.Name, text)
		}
	}
	for _, part := range strings.Split(text, "@")[1:] {
		name := part[:strings.IndexFunc(part+" ", func(r rune) bool { return (r < 'a' || r > 'z') })]
		if _, given := s.args[name]; !given {
			s.t.Errorf("parameter %s of %s has no value", name, text)
		}
	}
	if !strings.HasPrefix(text, "SET NOCOUNT ON; SELECT") || strings.Count(text, "(") != strings.Count(text, ")") {
		s.t.Errorf("question %s", text)
	}
	for part, answer := range s.answers {
		if strings.Contains(text, part) {
			if err, bad := answer.(error); bad {
				return nil, err
			}
			return answer.(*server.Rows), nil
		}
	}
	return &server.Rows{}, nil
}

// rows builds a result of one row from pairs of column and value.
func rows(pairs ...any) *server.Rows {
	r := &server.Rows{Values: [][]any{nil}}
	for i := 0; i < len(pairs); i += 2 {
		r.Columns = append(r.Columns, pairs[i].(string))
		r.Values[0] = append(r.Values[0], pairs[i+1])
	}
	return r
}

// both is a result that grows row by row.
type both struct{ *server.Rows }

func (r *both) add(values ...any) *both { r.Values = append(r.Values, values); return r }

const guid = "0a1b2c3d-0000-0000-0000-000000000001"

var upper = strings.ToUpper(guid)

func instanceRows() *server.Rows {
	return rows("name", `SQL01\PROD`, "instance", "PROD", "version", "16.0.4165.4", "edition", "Developer Edition", "engine", int64(3),
		"clustered", nil, "hadr", int64(1), "sysadmin", int64(1), "local_now", "2026-11-18T15:00:00.1234567+05:45", "started", "2026-11-01T00:00:00.5")
}

func askedInstance(t *testing.T) *Instance {
	t.Helper()
	at, err := AskInstance(context.Background(), &script{t: t, answers: map[string]any{"SERVERPROPERTY": instanceRows()}})
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestInstance(t *testing.T) {
	at := askedInstance(t)
	if at.Major() != 16 || !at.SysAdmin || at.Clustered || !at.Hadr || at.Instance != "PROD" {
		t.Errorf("%+v", at)
	}
	if got := at.Now.Format(time.RFC3339); got != "2026-11-18T15:00:00+05:45" {
		t.Errorf("now %s", got)
	}
	if got := at.Started.Format(time.RFC3339Nano); got != "2026-11-01T00:00:00.5+05:45" {
		t.Errorf("started %s; want the server's offset", got)
	}
	ctx := context.Background()
	for _, bad := range []any{&server.Rows{}, rows("name", "x"), errors.New("down")} {
		if _, err := AskInstance(ctx, &script{t: t, answers: map[string]any{"SERVERPROPERTY": bad}}); err == nil {
			t.Errorf("%v was taken for an instance", bad)
		}
	}
	wrong := instanceRows()
	wrong.Values[0][8] = "2026-11-18T15:00:00" // no offset
	if _, err := AskInstance(ctx, &script{t: t, answers: map[string]any{"SERVERPROPERTY": wrong}}); !errors.Is(err, ErrColumn) {
		t.Errorf("a time of day for an instant: %v", err)
	}
}

func TestDatabasesKeepNULL(t *testing.T) {
	at := askedInstance(t)
	columns := []string{"database_id", "name", "state_desc", "user_access_desc", "recovery_model_desc", "is_read_only", "is_in_standby", "is_auto_close_on",
		"is_encrypted", "create_date", "source_database_id", "replica_id", "log_reuse_wait_desc", "mirroring_guid", "mirroring_role_desc",
		"database_guid", "family_guid", "recovery_fork_guid", "first_recovery_fork_guid", "last_log_lsn", "fork_lsn"}
	list := (&both{&server.Rows{Columns: columns}}).
		add(int64(5), "it's, ünï]", "ONLINE", "MULTI_USER", "FULL", false, false, true, true, "2026-01-02T03:04:05", nil, nil, "LOG_BACKUP", nil, nil,
			guid, guid, guid, guid, "45000000040000037", nil).
		add(int64(6), "gone", "OFFLINE", "SINGLE_USER", "SIMPLE", true, false, false, false, "2026-01-02T03:04:05", int64(5), guid, "NOTHING", guid, "MIRROR",
			nil, nil, nil, nil, nil, nil)
	files := (&both{&server.Rows{Columns: []string{"database_id", "file_id", "file_guid", "type", "name", "physical_name", "state_desc", "size", "is_read_only",
		"create_lsn", "drop_lsn", "redo_lsn", "redo_start_fork_guid", "differential_base_guid", "base_lsn"}}}).
		add(int64(5), int64(1), guid, int64(0), "a", `D:\a.mdf`, "ONLINE", int64(1024), false, nil, nil, nil, nil, guid, "45000000030000001").
		add(int64(5), int64(2), nil, int64(1), "a_log", `D:\a.ldf`, "ONLINE", int64(128), false, nil, nil, nil, nil, nil, nil).
		add(int64(5), int64(3), guid, int64(0), "b", `D:\b.ndf`, "ONLINE", int64(8), true, "45000000030000001", nil, nil, nil, guid, "45000000030000001").
		add(int64(99), int64(1), guid, int64(0), "new", "x", "ONLINE", int64(8), false, nil, nil, nil, nil, nil, nil)
	got, err := AskDatabases(context.Background(), &script{t: t, answers: map[string]any{"sys.databases": list.Rows, "sys.master_files": files.Rows}}, at)
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	a, b := got[0], got[1]
	if a.Family != upper || a.LastLog != (lsn.LSN{VLF: 45, Block: 400, Slot: 37}) || !a.ForkPoint.IsZero() || !a.AutoClose || !a.Encrypted || a.SnapshotOf != 0 {
		t.Errorf("%+v", a)
	}
	if a.Base != upper || a.BaseLSN.VLF != 45 || len(a.Files) != 3 || a.MultiBase() || a.Created.Format(time.RFC3339) != "2026-01-02T03:04:05+05:45" {
		t.Errorf("base %s %s, %d files, several bases %v, created %s", a.Base, a.BaseLSN, len(a.Files), a.MultiBase(), a.Created)
	}
	if p := a.Prints(); len(p) != 3 || p[2].Create.VLF != 45 || p[0].Pages != 1024 || p[1].GUID != "" {
		t.Errorf("prints %+v", p)
	}
	if b.Family != "" || !b.LastLog.IsZero() || b.SnapshotOf != 5 || b.Replica != upper || b.Mirroring != upper || !b.ReadOnly || len(b.Files) != 0 {
		t.Errorf("%+v", b)
	}
	files.Values[2][13] = nil
	got, err = AskDatabases(context.Background(), &script{t: t, answers: map[string]any{"sys.databases": list.Rows, "sys.master_files": files.Rows}}, at)
	if err != nil || !got[0].MultiBase() {
		t.Errorf("a data file without the others' base: %v, %v", got[0].MultiBase(), err)
	}
	list.Values[0][19] = 4.5e16 // a driver that gives LSNs as floating point
	_, err = AskDatabases(context.Background(), &script{t: t, answers: map[string]any{"sys.databases": list.Rows}}, at)
	if !errors.Is(err, lsn.ErrFormat) || !strings.Contains(err.Error(), "last_log_lsn") {
		t.Errorf("LSN as floating point: %v", err)
	}
}

// msdbRow is a row of backupset; pairs replace values.
func msdbRow(pairs ...any) *server.Rows {
	r := rows("backup_set_id", int64(7), "backup_set_uuid", guid, "type", "L", "name", "Holdfast", "database_name", "sales",
		"is_copy_only", false, "is_snapshot", false, "begins_log_chain", true, "has_bulk_logged_data", true, "is_force_offline", true, "is_damaged", false,
		"has_backup_checksums", true, "has_incomplete_metadata", false,
		"first_lsn", "45000000010000001", "last_lsn", "45000000020000001", "checkpoint_lsn", "45000000010000001", "database_backup_lsn", "0",
		"fork_point_lsn", nil, "differential_base_guid", nil, "base_lsn", nil, "first_recovery_fork_guid", guid, "last_recovery_fork_guid", guid,
		"family_guid", guid, "database_guid", guid, "backup_start_date", "2026-10-25T02:30:00", "backup_finish_date", "2026-10-25T02:30:01", "time_zone", int64(8),
		"backup_size", "8192", "user_name", "sa", "machine_name", "SQL01", "server_name", "SQL01", "description", "holdfast abc", "software_major_version", int64(16),
		"software_minor_version", int64(0), "software_build_version", int64(4165), "recovery_model", "FULL", "device_type", int64(7), "physical_device_name", "{D}")
	for i := 0; i < len(pairs); i += 2 {
		for j, c := range r.Columns {
			if c == pairs[i].(string) {
				r.Values[0][j] = pairs[i+1]
			}
		}
	}
	return r
}

func TestHistoryTimesCarryTheirOwnOffset(t *testing.T) {
	at := askedInstance(t)
	for _, c := range []struct {
		quarters any
		want     string
		assumed  bool
	}{
		{int64(8), "2026-10-25T02:30:00+02:00", false},
		{int64(4), "2026-10-25T02:30:00+01:00", false}, // the same hour, once more
		{int64(-14), "2026-10-25T02:30:00-03:30", false},
		{int64(0), "2026-10-25T02:30:00Z", false},
		{int64(127), "2026-10-25T02:30:00+05:45", true},
		{nil, "2026-10-25T02:30:00+05:45", true},
	} {
		s := &script{t: t, answers: map[string]any{"msdb.dbo.backupset": msdbRow("time_zone", c.quarters)}}
		list, err := AskHistory(context.Background(), s, at, upper, lsn.LSN{VLF: 45})
		if err != nil || len(list) != 1 {
			t.Fatalf("%v, %v", list, err)
		}
		if got := list[0].Started.Format(time.RFC3339); got != c.want || list[0].ZoneAssumed != c.assumed {
			t.Errorf("time zone %v: %s, assumed %v; want %s", c.quarters, got, list[0].ZoneAssumed, c.want)
		}
		if s.args["from"] != "0000000045000000000000000" || s.args["family"] != upper {
			t.Errorf("asked with %v", s.args)
		}
	}
}

func TestFindDevice(t *testing.T) {
	at := askedInstance(t)
	ctx := context.Background()
	found := msdbRow()
	row, err := FindDevice(ctx, &script{t: t, answers: map[string]any{"physical_device_name LIKE": found}}, at, "{D}")
	if err != nil {
		t.Fatal(err)
	}
	h := row.Header
	if h.Kind != chain.Log || h.Set != upper || !h.Tail || !h.BulkLogged || !h.BeginsChain || h.CopyOnly || !h.Checksums || h.Bytes != 8192 ||
		!h.DatabaseBackup.IsZero() || h.Last.Block != 200 || h.ServerVersion != "16.0.4165" || row.DeviceType != 7 || row.ID != 7 || row.User != "sa" {
		t.Errorf("%+v", row)
	}
	if _, err := FindDevice(ctx, &script{t: t}, at, "{D}"); !errors.Is(err, ErrNoRow) {
		t.Errorf("no row: %v", err)
	}
	if _, err := FindDevice(ctx, &script{t: t, answers: map[string]any{"backupset": &server.Rows{Columns: []string{"x"}, Values: [][]any{{nil}}}}}, at, "{D}"); !errors.Is(err, ErrColumn) {
		t.Errorf("strange columns: %v", err)
	}
}

func TestHeaderAndFileList(t *testing.T) {
	header := rows("BackupType", int64(5), "TimeZone", int64(127), "BackupSetGUID", guid, "DatabaseName", "sales", "FamilyGUID", guid, "BindingID", guid,
		"FirstRecoveryForkID", nil, "RecoveryForkID", guid, "ForkPointLSN", nil, "FirstLSN", "45000000010000001", "LastLSN", "45000000020000001",
		"CheckpointLSN", "45000000010000001", "DatabaseBackupLSN", "44000000010000001", "DifferentialBaseGUID", guid, "DifferentialBaseLSN", "44000000010000001",
		"IsCopyOnly", false, "HasBulkLoggedData", false, "BeginsLogChain", false, "IsForceOffline", false, "IsSnapshot", false, "IsDamaged", false,
		"HasIncompleteMetaData", false, "HasBackupChecksums", true, "BackupStartDate", "2026-01-01T00:00:00", "BackupFinishDate", "2026-01-01T00:00:01",
		"BackupSize", int64(8192), "SoftwareVersionMajor", int64(16), "SoftwareVersionMinor", int64(0), "SoftwareVersionBuild", int64(1), "ServerName", "SQL01", "RecoveryModel", "FULL")
	list, err := ReadHeaders(header, nil)
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	if h := list[0]; h.Kind != chain.Diff || h.Base != upper || h.FirstFork != h.Fork || !h.ZoneAssumed || h.DatabaseBackup.VLF != 44 {
		t.Errorf("%+v", h)
	}
	for number, kind := range map[int64]chain.Kind{1: chain.Full, 2: chain.Log, 5: chain.Diff, 4: chain.Other, 6: chain.Other, 7: chain.Other, 8: chain.Other} {
		header.Values[0][0] = number
		if list, err := ReadHeaders(header, time.UTC); err != nil || list[0].Kind != kind {
			t.Errorf("type %d: %v, %v", number, list, err)
		}
	}
	header.Columns[1] = "Unrelated" // before SQL Server 2022 there is no TimeZone
	if list, err := ReadHeaders(header, time.FixedZone("", 3600)); err != nil || !list[0].ZoneAssumed || list[0].Started.Format(time.RFC3339) != "2026-01-01T00:00:00+01:00" {
		t.Errorf("without TimeZone: %+v, %v", list, err)
	}
	file := rows("FileId", int64(1), "UniqueId", guid, "LogicalName", "a", "PhysicalName", `D:\a.mdf`, "Type", "D", "FileGroupName", "PRIMARY", "Size", "16777216",
		"MaxSize", "35184372080640", "CreateLSN", "0", "DropLSN", "0", "IsPresent", true, "TDEThumbprint", []byte{0xAB})
	files, err := ReadFileList(file)
	if err != nil || len(files) != 1 || files[0].Pages != 2048 || !files[0].Drop.IsZero() || len(files[0].Thumbprint) != 1 || files[0].Type != 0 {
		t.Errorf("%+v, %v", files, err)
	}
	old := rows("FileId", int64(2), "UniqueId", guid, "LogicalName", "l", "PhysicalName", "l", "Type", "L", "FileGroupName", nil, "Size", int64(8192),
		"MaxSize", int64(0), "CreateLSN", nil, "DropLSN", nil, "IsPresent", true)
	if files, err := ReadFileList(old); err != nil || files[0].Type != 1 {
		t.Errorf("without thumbprint: %+v, %v", files, err)
	}
	if _, err := ReadFileList(rows("FileId", "x")); !errors.Is(err, ErrColumn) {
		t.Errorf("strange file list: %v", err)
	}
	if _, err := ReadHeaders(rows("TimeZone", "x"), nil); !errors.Is(err, ErrColumn) {
		t.Errorf("strange header: %v", err)
	}
}

func TestDetails(t *testing.T) {
	ctx, at := context.Background(), askedInstance(t)
	volumes := (&both{&server.Rows{Columns: []string{"type", "volume_mount_point", "available_bytes", "total_bytes", "file_system_type"}}}).
		add(int64(0), `D:\`, int64(5), int64(9), "NTFS").add(int64(0), `D:\`, int64(5), int64(9), "NTFS").add(int64(1), `D:\`, int64(5), int64(9), "NTFS")
	s := &script{t: t, answers: map[string]any{
		"dm_os_volume_stats": volumes.Rows,
		"dm_exec_requests":   rows("session_id", int64(57), "command", "RESTORE DATABASE", "db", nil, "percent_complete", 12.5),
		"restorehistory":     rows("restore_history_id", int64(7), "backup_set_uuid", guid, "restore_date", "2026-11-17T10:00:00.003", "destination_database_name", "sales", "restore_type", "D", "replace", true, "recovery", true, "stop_at", nil, "user_name", "sa"),
		"logmarkhistory":     rows("mark_name", "m", "description", nil, "user_name", "sa", "lsn", "45000000010000001", "mark_time", "2026-11-17T10:00:00.003"),
		"preferred_replica":  rows("preferred", true, "role", "Secondary"),
		"encryption_keys":    rows("encryption_state", int64(3), "encryptor_type", "CERTIFICATE", "encryptor_thumbprint", []byte{0xAB, 0x01}, "name", "tde"),
		"modified_extent":    rows("pages", int64(8)),
		"allocated_extent":   rows("pages", "100"),
		"dm_db_log_stats":    rows("log_end_lsn", "0000002d:00000190:0001", "log_since_last_log_backup_mb", 1.5),
	}}
	v, err := AskVolumes(ctx, s, "it's")
	if err != nil || len(v) != 2 || v[0].Use != UseData || v[1].Use != UseLog || v[0].Available != 5 || s.args["db"] != "it's" {
		t.Errorf("volumes %+v, %v", v, err)
	}
	r, err := AskRunning(ctx, s)
	if err != nil || len(r) != 1 || r[0].Session != 57 || r[0].Database != "" {
		t.Errorf("running %+v, %v", r, err)
	}
	restores, err := AskRestores(ctx, s, at, "sales")
	if err != nil || len(restores) != 1 || !restores[0].Replace || !restores[0].StopAt.IsZero() || restores[0].ID != 7 {
		t.Errorf("restores %+v, %v, asked with %v", restores, err, s.args)
	}
	seen := chain.LastRestore{Server: "SQL01", ID: 7, At: "2026-11-17T10:00:00", Set: upper}
	last, err := AskLastRestore(ctx, s, at, "sales", []chain.Backup{
		{Header: chain.Header{Database: "umsatz"}, LastRestore: &chain.LastRestore{ID: 5}}, {Header: chain.Header{Database: "older"}},
	})
	if err != nil || last.Seen("SQL01") != seen || s.args["db"] != "sales" || s.args["was"] != "umsatz" || s.args["seen"] != int64(5) {
		t.Errorf("last restore %+v, %v, asked with %v", last, err, s.args)
	}
	// The same row, read when the server's clock has another offset.
	if last.At = time.Date(2026, 11, 17, 10, 0, 0, 3e6, time.FixedZone("", 3600)); last.Seen("SQL01") != seen {
		t.Errorf("at another offset it is %+v", last.Seen("SQL01"))
	}
	if _, err := AskLastRestore(ctx, s, at, "sales", nil); err != nil || s.args["was"] != "sales" || s.args["seen"] != int64(0) {
		t.Errorf("last restore of a new database: %v, asked with %v", err, s.args)
	}
	s.answers["restorehistory"] = &server.Rows{}
	if last, err := AskLastRestore(ctx, s, at, "sales", nil); err != nil || last != nil || last.Seen("SQL01") != (chain.LastRestore{Server: "SQL01"}) {
		t.Errorf("no restore: %+v, %v", last, err)
	}
	marks, err := AskMarks(ctx, s, "sales", lsn.LSN{}, lsn.Max, time.FixedZone("", 3600))
	if err != nil || len(marks) != 1 || marks[0].LSN.VLF != 45 || marks[0].At.Format(time.RFC3339Nano) != "2026-11-17T10:00:00.003+01:00" {
		t.Errorf("marks %+v, %v", marks, err)
	}
	g, err := AskGroup(ctx, s, "sales", upper)
	if err != nil || !g.Preferred || g.Role != "SECONDARY" {
		t.Errorf("group %+v, %v", g, err)
	}
	e, err := AskEncryption(ctx, s, "sales")
	if err != nil || e.Thumbprint != "AB01" || e.Name != "tde" {
		t.Errorf("encryption %+v, %v", e, err)
	}
	if l, err := AskLog(ctx, s, "sales"); err != nil || l != (Log{End: "0000002d:00000190:0001", Since: 1<<20 + 1<<19}) {
		t.Errorf("log %+v, %v", l, err)
	}
	if e, err := AskEstimate(ctx, s, "sales"); err != nil || e != (Estimate{Full: 100 * 8192, Diff: 8 * 8192, Log: 1<<20 + 1<<19}) {
		t.Errorf("estimate %+v, %v", e, err)
	}
}

// TestOldServersKnowLess: what a server cannot tell is not known, and what it refuses to
// tell is an error.
func TestOldServersKnowLess(t *testing.T) {
	ctx := context.Background()
	old := fmt.Errorf("query: %w", &server.Error{All: []server.Message{{Number: 208, Severity: 16, Text: "Invalid object name 'sys.dm_db_log_stats'."}}})
	none := rows("log_end_lsn", nil, "log_since_last_log_backup_mb", nil)
	for _, answer := range []any{old, none} {
		if l, err := AskLog(ctx, &script{t: t, answers: map[string]any{"log_stats": answer}}, "x"); l != (Log{}) || err != nil {
			t.Errorf("%v: %+v, %v; want nothing known", answer, l, err)
		}
	}
	column := &server.Error{All: []server.Message{{Number: 207, Severity: 16, Text: "Invalid column name 'modified_extent_page_count'."}}}
	s := &script{t: t, answers: map[string]any{"log_stats": old, "modified": column, "allocated": rows("pages", int64(10))}}
	if e, err := AskEstimate(ctx, s, "x"); e != (Estimate{Full: 10 * 8192}) || err != nil {
		t.Errorf("estimate %+v, %v", e, err)
	}
	closed := &server.Error{All: []server.Message{{Number: 976, Severity: 14, Text: "not currently accessible for queries"}}}
	s = &script{t: t, answers: map[string]any{"log_stats": none, "extent_page": closed}}
	if e, err := AskEstimate(ctx, s, "x"); e != (Estimate{}) || err != nil {
		t.Errorf("a secondary that is not read: %+v, %v", e, err)
	}
	denied := &server.Error{All: []server.Message{{Number: 300, Severity: 14, Text: "no permission"}}}
	if _, err := AskLog(ctx, &script{t: t, answers: map[string]any{"log_stats": denied}}, "x"); !errors.As(err, new(*server.Error)) {
		t.Errorf("a refusal became %v", err)
	}
	// Asked, the server would fail to read "" as a GUID (error 8169).
	if h, err := AskHistory(ctx, &script{t: t, answers: map[string]any{"SELECT": denied}}, askedInstance(t), "", lsn.LSN{}); h != nil || err != nil {
		t.Errorf("history of a database that is not open: %v, %v", h, err)
	}
	if e, err := AskEncryption(ctx, &script{t: t}, "x"); e != nil || err != nil {
		t.Errorf("no key: %+v, %v", e, err)
	}
}

func TestEveryQuestionReportsItsFailure(t *testing.T) {
	ctx, at, down := context.Background(), askedInstance(t), errors.New("down")
	strange := rows("x", "y")
	for _, answer := range []any{down, strange} {
		s := &script{t: t, answers: map[string]any{"SELECT": answer}}
		var errs []error
		add := func(err error) { errs = append(errs, err) }
		_, err := AskDatabases(ctx, s, at)
		add(err)
		_, err = AskHistory(ctx, s, at, upper, lsn.LSN{})
		add(err)
		_, err = AskRestores(ctx, s, at, "")
		add(err)
		_, err = AskLastRestore(ctx, s, at, "", nil)
		add(err)
		_, err = AskMarks(ctx, s, "", lsn.LSN{}, lsn.LSN{}, nil)
		add(err)
		_, err = AskRunning(ctx, s)
		add(err)
		_, err = AskVolumes(ctx, s, "")
		add(err)
		_, err = AskGroup(ctx, s, "", "")
		add(err)
		_, err = AskEncryption(ctx, s, "")
		add(err)
		_, err = AskLog(ctx, s, "")
		add(err)
		_, err = AskEstimate(ctx, s, "")
		add(err)
		_, err = AskStaging(ctx, s, "/")
		add(err)
		for i, err := range errs {
			if !errors.Is(err, down) && !errors.Is(err, ErrColumn) {
				t.Errorf("question %d with %v: %v", i, answer, err)
			}
		}
	}
}

func TestQuote(t *testing.T) {
	for name, want := range map[string]string{"sales": "[sales]", "it's, ünï": "[it's, ünï]", "a]b[c": "[a]]b[c]", "]": "[]]]"} {
		if got := Quote(name); got != want {
			t.Errorf("Quote(%s) = %s", name, got)
		}
	}
	if got := Literal("it's"); got != "N'it''s'" {
		t.Errorf("Literal = %s", got)
	}
	for text, want := range map[string]string{"{" + guid + "}": upper, "00000000-0000-0000-0000-000000000000": "", "": "", guid: upper} {
		if got := Guid(text); got != want {
			t.Errorf("Guid(%s) = %s", text, got)
		}
	}
}

// FuzzHeader: whatever a server answers, reading it is an error or a header.
func FuzzHeader(f *testing.F) {
	f.Add("5", "45000000010000001", "2026-01-01T00:00:00", int64(8), guid)
	f.Add("", "", "", int64(127), "{}")
	f.Add("L", "-1", "2026-02-30", int64(-999999), "x")
	f.Fuzz(func(t *testing.T, kind, number, when string, quarters int64, id string) {
		r := msdbRow("type", kind, "first_lsn", number, "backup_start_date", when, "time_zone", quarters, "backup_set_uuid", id, "backup_size", number)
		tab := newTable(r)
		var row chain.Row
		if err := tab.each(func() { row = tab.msdb(time.UTC) }); err != nil && !errors.Is(err, ErrColumn) && !errors.Is(err, lsn.ErrFormat) {
			t.Fatalf("error %v of no kind", err)
		}
		if row.Kind == "" {
			t.Fatal("a row without a kind")
		}
	})
}
