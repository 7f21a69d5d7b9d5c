package backups

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"holdfast/sqlguest/lab/backups/msdb"
	"holdfast/sqlguest/lab/backups/stream"
	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/storage/message"
	"holdfast/sqlguest/lab/storage/page"
	"holdfast/sqlguest/lab/storage/wal"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/server"
)

// Kind is the statement: BACKUP DATABASE, with DIFFERENTIAL, or BACKUP LOG.
type Kind uint8

// The kinds.
const (
	Full Kind = iota
	Differential
	Log
)

// Types of device as backupmediafamily numbers them.
const (
	DeviceDisk    = 2
	DeviceVirtual = 7
)

// Device is one stream of a statement. A backup uses W, a restore R.
type Device struct {
	Name string
	Type int // DeviceVirtual if 0
	W    io.Writer
	R    io.Reader
}

// BackupOptions are a BACKUP statement.
type BackupOptions struct {
	Database string
	Kind     Kind
	CopyOnly bool
	// NoRecovery and NoTruncate are for logs.
	NoRecovery, NoTruncate bool
	Checksum               bool
	// Snapshot marks the set as a snapshot's (VSS) in msdb.
	Snapshot          bool
	Name, Description string
	User              string
	// Position is which set on the media this becomes; 1 if 0.
	Position int
	// Percent is how often progress is told (STATS); 10 if 0.
	Percent int
	// Notify gets progress while the statement runs; nil for none.
	Notify func(server.Message)
}

func (o *BackupOptions) statement() string {
	if o.Kind == Log {
		return "BACKUP LOG"
	}
	return "BACKUP DATABASE"
}

// Running is a BACKUP that has handed out everything and waits for its devices.
// Exactly one of Complete and Abort ends it.
type Running struct {
	Header  stream.Header
	s       *Server
	o       BackupOptions
	devices []Device
	data    *storage.DataBackup
	log     *storage.LogBackup
	pages   map[uint16]int64
	total   int64
	began   time.Time
	last    int // percent told
}

// BeginBackup runs a BACKUP statement up to the moment in which every device has
// every byte. The devices are written in turn, so whoever reads them reads all at
// once. A failure has changed nothing.
func (s *Server) BeginBackup(ctx context.Context, o BackupOptions, devices []Device) (*Running, error) {
	r := &Running{s: s, o: o, devices: devices, pages: map[uint16]int64{}, began: s.o.Now()}
	err := r.check()
	var db *storage.Database
	if err == nil {
		db, err = s.Database(o.Database)
	}
	if of := s.Estate(); err == nil {
		err = of.MayBackUp(o.Database, o.Kind == Log, o.Kind == Differential, o.CopyOnly)
	}
	if err == nil && o.NoRecovery && s.sessions(o.Database) > 0 {
		err = message.Fail(3101)
	}
	if err == nil {
		err = r.run(ctx, db)
	}
	if err != nil {
		r.release()
		return nil, message.Then(err, 3013, o.statement())
	}
	return r, nil
}

// check is what can be said of the statement alone.
func (r *Running) check() error {
	o := &r.o
	name := strings.ToLower(o.Database)
	switch {
	case name == "tempdb":
		return message.Fail(3147)
	case name == "master" && o.Kind == Log:
		return message.Fail(4212)
	case name == "master" && o.Kind == Differential:
		return message.Fail(3024)
	case len(r.devices) > stream.MostDevices:
		return message.Fail(3205, stream.MostDevices)
	case len(r.devices) == 0:
		return message.Fail(3032, "no device")
	case o.Kind != Log && (o.NoRecovery || o.NoTruncate):
		return message.Fail(3032, "norecovery, no_truncate")
	case o.NoRecovery && o.CopyOnly:
		return message.Fail(3031, "norecovery", "copy_only")
	case o.Snapshot && o.Kind != Full:
		return message.Fail(3032, "snapshot")
	}
	if o.Kind == Differential {
		o.CopyOnly = false // it is ignored there
	}
	return nil
}

func (r *Running) run(ctx context.Context, db *storage.Database) error {
	if r.o.Kind == Log {
		return r.runLog(ctx, db)
	}
	return r.runData(ctx, db)
}

// writers are the devices' streams.
func (r *Running) writers() []io.Writer {
	var out []io.Writer
	for _, d := range r.devices {
		out = append(out, d.W)
	}
	return out
}

// header fills in what every kind of set says of its database.
func (r *Running) header(b *storage.Boot, files []storage.File) {
	s, o := r.s, r.o
	start, zone := s.now()
	r.Header = stream.Header{BackupName: o.Name, BackupDescription: o.Description, Position: max(o.Position, 1),
		DeviceType: r.devices[0].kind(), UserName: o.User, ServerName: s.o.Name, MachineName: s.o.Machine,
		DatabaseName: b.Name, DatabaseVersion: databaseVersion(s.o.Version), DatabaseCreationDate: b.Created,
		StartDate: start, FinishDate: start, TimeZone: zone, SoftwareVersion: s.o.Version, Collation: s.o.Collation,
		BindingID: b.DatabaseGUID, FamilyGUID: b.FamilyGUID, RecoveryForkID: b.Fork(), FirstRecoveryForkID: b.Fork(),
		RecoveryModel: b.Model.String(), BackupSetGUID: s.GUID(), IsSnapshot: o.Snapshot, IsReadOnly: b.ReadOnly,
		IsSingleUser: b.Access == storage.SingleUser, HasBackupChecksums: o.Checksum,
		IsForceOffline: o.NoRecovery, IsCopyOnly: o.CopyOnly || o.NoTruncate,
		DatabaseBackupLSN: b.DatabaseBackup, CheckpointLSN: b.Checkpoint, Files: files, Boot: *b}
}

func (d Device) kind() int {
	if d.Type == 0 {
		return DeviceVirtual
	}
	return d.Type
}

// databaseVersion is a database's internal version for a product version.
func databaseVersion(product string) int {
	major, _, _ := strings.Cut(product, ".")
	known := map[string]int{"11": 706, "12": 782, "13": 852, "14": 869, "15": 904, "16": 957, "17": 998}
	return known[major]
}

// runData hands out a full or differential backup: extents in the files' order,
// read while writing goes on, then the log that makes them whole.
func (r *Running) runData(ctx context.Context, db *storage.Database) error {
	data, err := db.BeginData(r.o.Kind == Differential, r.o.CopyOnly)
	if err != nil {
		return err
	}
	data.Verify = r.o.Checksum
	r.data = data
	boot, files := data.Boot(), data.Files()
	r.header(&boot, files)
	h := &r.Header
	h.BackupType, h.FirstLSN, h.CheckpointLSN = stream.TypeFull, data.First, data.Checkpoint
	if r.o.Kind == Differential {
		h.BackupType, h.DifferentialBaseLSN, h.DifferentialBaseGUID = stream.TypeDifferential, data.Base.LSN, data.Base.GUID
	}
	var total int64
	for _, f := range files {
		total += int64(f.Pages) / page.ExtentPages
	}
	w, err := stream.NewWriter(r.writers(), *h)
	if err != nil {
		return r.writeError(err)
	}
	buf := make([]byte, page.ExtentBytes)
	for n := int64(0); ; n++ {
		if err := check(ctx); err != nil {
			return err
		}
		file, extent, err := data.Next(buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := w.Extent(storage.Extent{File: file, Number: extent, Data: buf}); err != nil {
			return r.writeError(err)
		}
		r.pages[file] += page.ExtentPages
		r.progress(n, total)
	}
	recs, last := data.Log()
	return r.finish(w, recs, last)
}

// runLog hands out a log backup.
func (r *Running) runLog(ctx context.Context, db *storage.Database) error {
	log, err := db.BeginLog(storage.LogOptions{CopyOnly: r.o.CopyOnly, NoTruncate: r.o.NoTruncate, NoRecovery: r.o.NoRecovery})
	if err != nil {
		return err
	}
	r.log = log
	r.header(&log.Boot, log.Boot.Files)
	h := &r.Header
	h.BackupType, h.FirstLSN = stream.TypeLog, log.First
	h.LastLSN = log.Last
	h.BeginsLogChain, h.HasBulkLoggedData = log.Boot.BeginsChain, len(log.Bulk) > 0
	h.FirstRecoveryForkID = storage.ForkBefore(log.Boot.Forks, log.First)
	if h.FirstRecoveryForkID != h.RecoveryForkID {
		h.ForkPointLSN = log.Boot.Forks[len(log.Boot.Forks)-1].Start
	}
	h.HasIncompleteMetaData = log.Boot.State == storage.RecoveryPending
	w, err := stream.NewWriter(r.writers(), *h)
	if err != nil {
		return r.writeError(err)
	}
	for _, x := range log.Bulk {
		if err := check(ctx); err != nil {
			return err
		}
		if err := w.Bulk(x); err != nil {
			return r.writeError(err)
		}
		r.pages[x.File] += page.ExtentPages
	}
	return r.finish(w, log.Records, log.Last)
}

// finish writes the log part and the tails.
func (r *Running) finish(w *stream.Writer, recs []wal.Record, last lsn.LSN) error {
	logBytes := 0
	for i := range recs {
		if err := w.Record(&recs[i]); err != nil {
			return r.writeError(err)
		}
		for _, x := range recs[i].Ranges {
			logBytes += 2*len(x.After) + 8
		}
		logBytes += 64
	}
	r.pages[2] += int64(logBytes+page.Bytes-1) / page.Bytes
	r.Header.LastLSN = last
	r.Header.FinishDate, _ = r.s.now()
	for _, n := range r.pages {
		r.total += n
	}
	r.Header.BackupSize = w.Written()
	if err := w.Close(r.Header); err != nil {
		return r.writeError(err)
	}
	r.progress(1, 1)
	return nil
}

// writeError is 3202 with the device's name.
func (r *Running) writeError(err error) error {
	var w *stream.WriteError
	switch {
	case errors.Is(err, ErrFull) && errors.As(err, &w):
		return message.Fail(3202, r.devices[w.Device].Name, "112(There is not enough space on the disk.)")
	case errors.As(err, &w):
		return message.Fail(3202, r.devices[w.Device].Name, fmt.Sprintf("995(%v)", w.Err))
	}
	return err
}

// ErrFull: the volume of a device has no room left.
var ErrFull = errors.New("there is not enough space on the disk")

// progress tells 3211 in steps.
func (r *Running) progress(done, total int64) {
	step := r.o.Percent
	if step <= 0 {
		step = 10
	}
	if r.o.Notify == nil || total == 0 {
		return
	}
	if p := int(min(done, total) * 100 / total); p >= r.last+step || p == 100 && r.last < 100 {
		r.last = p - p%step
		r.o.Notify(message.New(3211, p))
	}
}

// release gives up what the statement held.
func (r *Running) release() {
	if r.data != nil {
		r.data.Abort()
	}
	if r.log != nil {
		r.log.Abort()
	}
}

// Abort makes the statement fail: nothing has changed. cause is the device's own
// error (3202), or nil for a device that was given up (3204). What the client gets
// to see is returned.
func (r *Running) Abort(cause error) *server.Error {
	r.release()
	first := message.Fail(3204)
	if cause != nil {
		first = message.Fail(3202, r.devices[0].Name, fmt.Sprintf("995(%v)", cause))
	}
	return message.Then(first, 3013, r.o.statement())
}

// Complete is the devices' word that every byte is safe: now the log is truncated,
// the differential base set, msdb's rows written. The messages are those of the
// statement's success.
func (r *Running) Complete() ([]server.Message, error) {
	var err error
	if r.data != nil {
		err = r.data.Complete(storage.Base{GUID: r.Header.BackupSetGUID, LSN: r.Header.CheckpointLSN, Time: r.Header.FinishDate})
	} else {
		err = r.log.Complete()
	}
	if err != nil {
		return nil, message.Then(err, 3013, r.o.statement())
	}
	var out []server.Message
	if r.log != nil && r.Header.IsReadOnly {
		out = append(out, message.New(4217))
	}
	for _, f := range r.Header.Files {
		if n, ok := r.pages[f.ID]; ok {
			out = append(out, message.New(4035, n, r.Header.DatabaseName, f.Logical, r.Header.Position))
		}
	}
	if err := r.history(); err != nil {
		out = append(out, message.New(3009)) // an error by its severity, and no failure
	}
	return append(out, processed(r.o.statement(), r.total, r.s.o.Now().Sub(r.began))), nil
}

// processed is 3014.
func processed(statement string, pages int64, took time.Duration) server.Message {
	ms := max(took.Milliseconds(), 1)
	rate := pages * page.Bytes * 1000 / ms * 1000 / (1 << 20) // thousandths of MB/s
	return message.New(3014, statement, pages, ms/1000, ms%1000, rate/1000, rate%1000)
}

var errNoMSDB = errors.New("msdb is lost")

// history writes msdb's rows.
func (r *Running) history() error {
	s := r.s
	media := s.GUID()
	var families []msdb.MediaFamily
	for i, d := range r.devices {
		families = append(families, msdb.MediaFamily{Sequence: i + 1, UUID: s.GUID(), PhysicalName: d.Name, DeviceType: d.kind()})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.noMSDB {
		return errNoMSDB
	}
	set := setRow(&r.Header)
	set.LastValidRestoreTime = r.Header.FinishDate
	s.msdb.Add(set, msdb.MediaSet{UUID: media, FamilyCount: len(r.devices), Software: "Microsoft SQL Server"}, families,
		fileRows(&r.Header, r.pages))
	return s.changed()
}

// setRow is a header as backupset has it.
func setRow(h *stream.Header) msdb.BackupSet {
	kind := map[uint8]string{stream.TypeFull: "D", stream.TypeLog: "L", stream.TypeDifferential: "I"}[h.BackupType]
	row := msdb.BackupSet{UUID: h.BackupSetGUID, Name: h.BackupName, Description: h.BackupDescription, UserName: h.UserName,
		Type: kind, Position: h.Position, FirstLSN: h.FirstLSN, LastLSN: h.LastLSN, CheckpointLSN: h.CheckpointLSN,
		DatabaseBackupLSN: h.DatabaseBackupLSN, DatabaseCreationDate: h.DatabaseCreationDate, StartDate: h.StartDate,
		FinishDate: h.FinishDate, TimeZone: h.TimeZone, BackupSize: h.BackupSize, DatabaseName: h.DatabaseName,
		ServerName: h.ServerName, MachineName: h.MachineName, RecoveryModel: h.RecoveryModel, Collation: h.Collation,
		HasBulkLoggedData: h.HasBulkLoggedData, IsReadOnly: h.IsReadOnly, IsSingleUser: h.IsSingleUser,
		HasBackupChecksums: h.HasBackupChecksums, BeginsLogChain: h.BeginsLogChain, HasIncompleteMetadata: h.HasIncompleteMetaData,
		IsForceOffline: h.IsForceOffline, IsCopyOnly: h.IsCopyOnly, IsSnapshot: h.IsSnapshot,
		FirstRecoveryFork: h.FirstRecoveryForkID, LastRecoveryFork: h.RecoveryForkID, ForkPointLSN: h.ForkPointLSN,
		DatabaseGUID: h.BindingID, FamilyGUID: h.FamilyGUID, DifferentialBaseLSN: h.DifferentialBaseLSN,
		DifferentialBaseGUID: h.DifferentialBaseGUID, DatabaseVersion: h.DatabaseVersion}
	_, _ = fmt.Sscanf(h.SoftwareVersion, "%d.%d.%d", &row.SoftwareMajor, &row.SoftwareMinor, &row.SoftwareBuild)
	row.CompatibilityLevel = row.SoftwareMajor * 10
	return row
}

// fileRows are a header's files as backupfile has them.
func fileRows(h *stream.Header, pages map[uint16]int64) []msdb.BackupFile {
	var out []msdb.BackupFile
	for _, f := range h.Files {
		kind := "D"
		if f.Type == storage.Log {
			kind = "L"
		}
		out = append(out, msdb.BackupFile{FileNumber: int(f.ID), FileType: kind, LogicalName: f.Logical, PhysicalName: f.Physical,
			FileGUID: f.GUID, FileSize: int64(f.Pages) * page.Bytes, BackedUpPageCount: pages[f.ID], CreateLSN: f.CreateLSN,
			DropLSN: f.DropLSN, DifferentialBaseLSN: f.Base.LSN, DifferentialBaseGUID: f.Base.GUID,
			IsPresent: h.BackupType != stream.TypeLog || f.Type == storage.Log})
	}
	return out
}

// Backup runs a BACKUP whose devices complete as soon as they have everything, as
// files do.
func (s *Server) Backup(ctx context.Context, o BackupOptions, devices []Device) ([]server.Message, error) {
	r, err := s.BeginBackup(ctx, o, devices)
	if err != nil {
		return nil, err
	}
	return r.Complete()
}
