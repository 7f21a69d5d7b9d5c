package facts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/server"
)

// History is what msdb and the server's sessions tell of one database.
type History struct {
	Rows        []chain.Row `json:"rows,omitempty"` // in msdb's order
	LastRestore *Restore    `json:"last_restore,omitempty"`
	Running     []Running   `json:"running,omitempty"`
}

// Restore is one row of msdb.dbo.restorehistory.
type Restore struct {
	ID       int64     `json:"id"`            // restore_history_id: grows as long as msdb lives
	Set      string    `json:"set,omitempty"` // backup_set_uuid of what was restored
	At       time.Time `json:"at"`            // server-local, with the offset of now
	Database string    `json:"database"`
	Type     string    `json:"type"` // D, I, L, F, R (revert to a snapshot) …
	Replace  bool      `json:"replace"`
	Recovery bool      `json:"recovery"`
	StopAt   time.Time `json:"stop_at,omitzero"`
	User     string    `json:"user"`
}

// Running is a BACKUP or RESTORE that a session is busy with.
type Running struct {
	Session  int64  `json:"session"`
	Command  string `json:"command"` // BACKUP DATABASE, BACKUP LOG, RESTORE DATABASE …
	Database string `json:"database"`
}

// Mark is one marked transaction.
type Mark struct {
	Name        string    `json:"name"`
	Description string    `json:"description"`
	User        string    `json:"user"`
	LSN         lsn.LSN   `json:"lsn"`
	At          time.Time `json:"at"` // server-local, with the offset given
}

// AskHistory asks msdb for the backups of a family, whoever made them and under
// whatever name, that reach to or beyond the LSN from, in the order of their making.
// A set that does not know its offset gets that of the instance's now. A database
// that is not open has no family, "", and no history.
func AskHistory(ctx context.Context, s server.Server, at *Instance, family string, from lsn.LSN) ([]chain.Row, error) {
	if family == "" {
		return nil, nil
	}
	return askRows(ctx, s, at, rowText+historyWhere,
		server.Arg{Name: "family", Value: family}, server.Arg{Name: "from", Value: from.String()})
}

// FindDevice asks msdb for the backup that was written to the device of that name.
// ErrNoRow if msdb knows none. The device of several backups gives the newest.
func FindDevice(ctx context.Context, s server.Server, at *Instance, device string) (*chain.Row, error) {
	rows, err := askRows(ctx, s, at, rowText+deviceWhere, server.Arg{Name: "device", Value: device})
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("find device %s: %w", device, ErrNoRow)
	}
	return &rows[len(rows)-1], nil
}

func askRows(ctx context.Context, s server.Server, at *Instance, text string, args ...server.Arg) ([]chain.Row, error) {
	rows, err := s.Query(ctx, text, args...)
	if err != nil {
		return nil, fmt.Errorf("ask msdb for backups: %w", err)
	}
	t := newTable(rows)
	var list []chain.Row
	if err := t.each(func() { list = append(list, t.msdb(at.Now.Location())) }); err != nil {
		return nil, fmt.Errorf("ask msdb for backups: %w", err)
	}
	return list, nil
}

// msdb reads one row of backupset.
func (t *table) msdb(fallback *time.Location) chain.Row {
	zone, assumed := t.setZone("time_zone", fallback)
	return chain.Row{
		Header: chain.Header{
			Set: t.guid("backup_set_uuid"), Kind: kindOf(t.text("type")), Database: t.text("database_name"),
			Family: t.guid("family_guid"), DatabaseGUID: t.guid("database_guid"),
			FirstFork: t.guid("first_recovery_fork_guid"), Fork: t.guid("last_recovery_fork_guid"), ForkPoint: t.lsn("fork_point_lsn"),
			First: t.lsn("first_lsn"), Last: t.lsn("last_lsn"), Checkpoint: t.lsn("checkpoint_lsn"), DatabaseBackup: t.lsn("database_backup_lsn"),
			Base: t.guid("differential_base_guid"), BaseLSN: t.lsn("base_lsn"),
			CopyOnly: t.yes("is_copy_only"), BulkLogged: t.yes("has_bulk_logged_data"), BeginsChain: t.yes("begins_log_chain"),
			Tail: t.yes("is_force_offline"), Snapshot: t.yes("is_snapshot"), Damaged: t.yes("is_damaged"),
			IncompleteMetadata: t.yes("has_incomplete_metadata"), Checksums: t.yes("has_backup_checksums"),
			Started: t.local("backup_start_date", zone), Finished: t.local("backup_finish_date", zone), ZoneAssumed: assumed,
			Bytes: t.number("backup_size"), ServerVersion: t.version("software_major_version", "software_minor_version", "software_build_version"),
			ServerName: t.text("server_name"), Model: t.text("recovery_model"),
		},
		ID: t.number("backup_set_id"), Name: t.text("name"), Description: t.text("description"), User: t.text("user_name"), Machine: t.text("machine_name"),
		Device: t.text("physical_device_name"), DeviceType: int(t.number("device_type")),
	}
}

func (t *table) version(major, minor, build string) string {
	return fmt.Sprintf("%d.%d.%d", t.number(major), t.number(minor), t.number(build))
}

// kindOf reads the letter of backupset and the number of RESTORE HEADERONLY.
func kindOf(kind string) chain.Kind {
	switch kind {
	case "D", "1":
		return chain.Full
	case "I", "5":
		return chain.Diff
	case "L", "2":
		return chain.Log
	}
	return chain.Other
}

// ReadHeaders reads the rows of RESTORE HEADERONLY; the zone stands for sets that do
// not know their offset (nil: UTC).
func ReadHeaders(rows *server.Rows, fallback *time.Location) ([]chain.Header, error) {
	if fallback == nil {
		fallback = time.UTC
	}
	t := newTable(rows)
	var list []chain.Header
	if err := t.each(func() { list = append(list, t.header(fallback)) }); err != nil {
		return nil, fmt.Errorf("read backup header: %w", err)
	}
	return list, nil
}

// ReadSets reads the same rows together with what sets are called and who made them.
func ReadSets(rows *server.Rows, fallback *time.Location) ([]chain.Row, error) {
	headers, err := ReadHeaders(rows, fallback)
	if err != nil {
		return nil, err
	}
	t := newTable(rows)
	var list []chain.Row
	err = t.each(func() {
		list = append(list, chain.Row{Header: headers[len(list)], Name: t.text("BackupName"), Description: t.text("BackupDescription"), User: t.text("UserName"), Machine: t.text("MachineName")})
	})
	if err != nil {
		return nil, fmt.Errorf("read backup header: %w", err)
	}
	return list, nil
}

// AskFile asks for the first backup set in a file of the server's. ErrNoRow only if SQL
// Server has read it and found no backup there: a file that could not be read may be whole.
func AskFile(ctx context.Context, s server.Server, at *Instance, path string) (*chain.Row, error) {
	rows, err := s.Query(ctx, "RESTORE HEADERONLY FROM DISK = "+Literal(path))
	var said *server.Error
	if errors.As(err, &said) && said.NoBackup() {
		return nil, fmt.Errorf("read header of %s: %w: %w", path, ErrNoRow, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read header of %s: %w", path, err)
	}
	sets, err := ReadSets(rows, at.Now.Location())
	if err != nil {
		return nil, err
	}
	if len(sets) == 0 {
		return nil, fmt.Errorf("read header of %s: %w", path, ErrNoRow)
	}
	return &sets[0], nil
}

// AskStreams asks for the first backup set in streams, which the statement's transport
// carries; its text is not looked at. ErrNoRow only if SQL Server has read them to where
// they end and found no backup there: any other failure says nothing of them, and is told.
func AskStreams(ctx context.Context, s server.Server, at *Instance, st server.Statement, streams []io.Reader) (*chain.Header, error) {
	st.Text, st.Devices = "RESTORE HEADERONLY FROM %s", len(streams)
	var broken atomic.Bool
	readers := make([]io.Reader, len(streams))
	for i, from := range streams {
		readers[i] = watched{from, &broken}
	}
	out, err := s.Restore(ctx, st, readers)
	var said *server.Error
	switch {
	case errors.As(err, &said) && said.NoBackup() && !broken.Load():
		return nil, fmt.Errorf("read header: %w: %w", ErrNoRow, err)
	case err != nil:
		return nil, fmt.Errorf("read header: %w", err)
	case out.Rows == nil:
		return nil, fmt.Errorf("read header: %w", ErrNoAnswer)
	}
	headers, err := ReadHeaders(out.Rows, at.Now.Location())
	if err == nil && len(headers) == 0 {
		err = fmt.Errorf("read header: %w", ErrNoRow)
	}
	if err != nil {
		return nil, err
	}
	return &headers[0], nil
}

// AskSeen has SQL Server look at a file that is made for that, by the way of the
// statement's streams: staging files are one directory's on both sides then. It is not
// asked for virtual devices. Errors: whatever keeps SQL Server from reading there.
func AskSeen(ctx context.Context, s server.Server, st server.Statement) error {
	st.Transport = server.Disk
	_, err := AskStreams(ctx, s, &Instance{}, st, []io.Reader{strings.NewReader("Holdfast looks whether SQL Server reads this file. It is deleted at once.\n")})
	if err != nil && !errors.Is(err, ErrNoRow) {
		return fmt.Errorf("look whether SQL Server sees the staging directory: %w", err)
	}
	return nil
}

// watched tells of a stream that failed: what SQL Server says of its torso is no proof.
type watched struct {
	from   io.Reader
	broken *atomic.Bool
}

func (w watched) Read(p []byte) (int, error) {
	n, err := w.from.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // anything around it is no end
		w.broken.Store(true)
	}
	return n, err
}

// ErrNoAnswer: SQL Server ended a question well and gave no result.
var ErrNoAnswer = errors.New("SQL Server gave no answer")

// AskFilesOf asks for the files of the database that a file of the server's is a backup of,
// as they were then.
func AskFilesOf(ctx context.Context, s server.Server, path string) ([]chain.File, error) {
	rows, err := s.Query(ctx, "RESTORE FILELISTONLY FROM DISK = "+Literal(path))
	if err != nil {
		return nil, fmt.Errorf("list files of %s: %w", path, err)
	}
	list, err := ReadFileList(rows)
	files := make([]chain.File, len(list))
	for i, f := range list {
		files[i] = f.File
	}
	return files, err
}

// VerifyFile has SQL Server read a file of its own to the end; checksums tells whether
// the backup was made WITH CHECKSUM. What it does not find whole is a *server.Error.
func VerifyFile(ctx context.Context, s server.Server, path string, checksums bool) error {
	text := "RESTORE VERIFYONLY FROM DISK = " + Literal(path)
	if checksums {
		text += " WITH CHECKSUM"
	}
	if _, err := s.Query(ctx, text); err != nil {
		return fmt.Errorf("verify %s: %w", path, err)
	}
	return nil
}

func (t *table) header(fallback *time.Location) chain.Header {
	zone, assumed := t.setZone("TimeZone", fallback)
	fork := t.guid("RecoveryForkID")
	first := t.guid("FirstRecoveryForkID")
	if first == "" {
		first = fork
	}
	return chain.Header{
		Set: t.guid("BackupSetGUID"), Kind: kindOf(t.text("BackupType")), Database: t.text("DatabaseName"),
		Family: t.guid("FamilyGUID"), DatabaseGUID: t.guid("BindingID"),
		FirstFork: first, Fork: fork, ForkPoint: t.lsn("ForkPointLSN"),
		First: t.lsn("FirstLSN"), Last: t.lsn("LastLSN"), Checkpoint: t.lsn("CheckpointLSN"), DatabaseBackup: t.lsn("DatabaseBackupLSN"),
		Base: t.guid("DifferentialBaseGUID"), BaseLSN: t.lsn("DifferentialBaseLSN"),
		CopyOnly: t.yes("IsCopyOnly"), BulkLogged: t.yes("HasBulkLoggedData"), BeginsChain: t.yes("BeginsLogChain"),
		Tail: t.yes("IsForceOffline"), Snapshot: t.yes("IsSnapshot"), Damaged: t.yes("IsDamaged"),
		IncompleteMetadata: t.yes("HasIncompleteMetaData"), Checksums: t.yes("HasBackupChecksums"),
		Started: t.local("BackupStartDate", zone), Finished: t.local("BackupFinishDate", zone), ZoneAssumed: assumed,
		Bytes: t.number("BackupSize"), ServerVersion: t.version("SoftwareVersionMajor", "SoftwareVersionMinor", "SoftwareVersionBuild"),
		ServerName: t.text("ServerName"), Model: t.text("RecoveryModel"),
	}
}

// SetFile is one row of RESTORE FILELISTONLY.
type SetFile struct {
	chain.File
	Kind       string `json:"kind"` // D rows, L log, F full-text, S FILESTREAM or memory-optimised
	Group      string `json:"group"`
	Bytes      int64  `json:"bytes"`     // size when it was backed up
	MaxBytes   int64  `json:"max_bytes"` //
	Present    bool   `json:"present"`   // its data are in the set
	Thumbprint []byte `json:"thumbprint,omitempty"`
}

// ReadFileList reads the rows of RESTORE FILELISTONLY.
func ReadFileList(rows *server.Rows) ([]SetFile, error) {
	const pageBytes = 8192
	t := newTable(rows)
	var list []SetFile
	err := t.each(func() {
		f := SetFile{
			File: chain.File{
				ID: int(t.number("FileId")), GUID: t.guid("UniqueId"), Name: t.text("LogicalName"), Path: t.text("PhysicalName"),
				Pages: t.number("Size") / pageBytes, Create: t.lsn("CreateLSN"), Drop: t.lsn("DropLSN"),
			},
			Kind: t.text("Type"), Group: t.text("FileGroupName"), Bytes: t.number("Size"),
			MaxBytes: t.number("MaxSize"), Present: t.yes("IsPresent"),
		}
		f.Type = map[string]int{"D": 0, "L": 1, "S": 2, "F": 4}[f.Kind]
		if t.has("TDEThumbprint") {
			f.Thumbprint, _ = t.value("TDEThumbprint").([]byte)
		}
		list = append(list, f)
	})
	if err != nil {
		return nil, fmt.Errorf("read file list: %w", err)
	}
	return list, nil
}

// Seen is the restore as a backup keeps it that has seen it in the msdb of a server;
// nil is none.
func (r *Restore) Seen(server string) chain.LastRestore {
	if r == nil {
		return chain.LastRestore{Server: server}
	}
	return chain.LastRestore{Server: server, ID: r.ID, At: r.At.Format("2006-01-02T15:04:05"), Set: r.Set}
}

// AskRestores asks for the restores of a database of that name that msdb knows, in
// msdb's order.
func AskRestores(ctx context.Context, s server.Server, at *Instance, database string) ([]Restore, error) {
	return askRestores(ctx, s, at, restoresText+restoresWhere, server.Arg{Name: "db", Value: database})
}

// AskLastRestore asks for the newest row about a restore over a database, under its
// name or the one that it had at the newest of our backups (the oldest first), or for
// the row itself that this has seen, whatever name it stands under. Nil if msdb has none.
func AskLastRestore(ctx context.Context, s server.Server, at *Instance, database string, ours []chain.Backup) (*Restore, error) {
	was, seen := database, int64(0)
	for i := len(ours) - 1; i >= 0; i-- {
		if b := &ours[i]; b.LastRestore != nil {
			was, seen = b.Database, b.LastRestore.ID
			break
		}
	}
	list, err := askRestores(ctx, s, at, lastRestoreText+lastRestoreWhere,
		server.Arg{Name: "db", Value: database}, server.Arg{Name: "was", Value: was}, server.Arg{Name: "seen", Value: seen})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &list[0], nil
}

func askRestores(ctx context.Context, s server.Server, at *Instance, text string, args ...server.Arg) ([]Restore, error) {
	rows, err := s.Query(ctx, text, args...)
	if err != nil {
		return nil, fmt.Errorf("ask msdb for restores: %w", err)
	}
	t := newTable(rows)
	var list []Restore
	err = t.each(func() {
		list = append(list, Restore{
			ID: t.number("restore_history_id"), Set: t.guid("backup_set_uuid"),
			At: t.local("restore_date", at.Now.Location()), Database: t.text("destination_database_name"), Type: t.text("restore_type"),
			Replace: t.yes("replace"), Recovery: t.yes("recovery"), StopAt: t.local("stop_at", at.Now.Location()), User: t.text("user_name"),
		})
	})
	if err != nil {
		return nil, fmt.Errorf("ask msdb for restores: %w", err)
	}
	return list, nil
}

// AskMarks asks for the marked transactions in a finished log backup, [first, last).
// Mark times are local ones of the log's time: zone is that of the backup (nil: UTC).
func AskMarks(ctx context.Context, s server.Server, database string, first, last lsn.LSN, zone *time.Location) ([]Mark, error) {
	if zone == nil {
		zone = time.UTC
	}
	rows, err := s.Query(ctx, marksText, server.Arg{Name: "db", Value: database},
		server.Arg{Name: "first", Value: first.String()}, server.Arg{Name: "last", Value: last.String()})
	if err != nil {
		return nil, fmt.Errorf("ask msdb for marks: %w", err)
	}
	t := newTable(rows)
	var list []Mark
	err = t.each(func() {
		list = append(list, Mark{
			Name: t.text("mark_name"), Description: t.text("description"), User: t.text("user_name"),
			LSN: t.lsn("lsn"), At: t.local("mark_time", zone),
		})
	})
	if err != nil {
		return nil, fmt.Errorf("ask msdb for marks: %w", err)
	}
	return list, nil
}

// AskRunning asks which sessions back up or restore just now.
func AskRunning(ctx context.Context, s server.Server) ([]Running, error) {
	rows, err := s.Query(ctx, runningText)
	if err != nil {
		return nil, fmt.Errorf("ask for running backups: %w", err)
	}
	t := newTable(rows)
	var list []Running
	err = t.each(func() {
		list = append(list, Running{Session: t.number("session_id"), Command: t.text("command"), Database: t.text("db")})
	})
	if err != nil {
		return nil, fmt.Errorf("ask for running backups: %w", err)
	}
	return list, nil
}

// unknown tells whether a server refused a question that it may not know: an
// invalid column (207) or object (208).
func unknown(err error) bool {
	var refused *server.Error
	return errors.As(err, &refused) && (refused.Has(207) || refused.Has(208))
}
