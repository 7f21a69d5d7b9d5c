package backups

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"holdfast/sqlguest/lab/backups/msdb"
	"holdfast/sqlguest/lab/backups/stream"
	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/storage/message"
	"holdfast/sqlguest/lab/storage/wal"
	"holdfast/sqlguest/lab/value"
	"holdfast/sqlguest/server"
)

// End is how a RESTORE leaves the database.
type End uint8

// The ends.
const (
	Recovery End = iota
	NoRecovery
	Standby
)

// Stop is a STOPAT, STOPATMARK or STOPBEFOREMARK clause; the zero Stop is none.
type Stop struct {
	// At is the source server's local time (kept as if it were UTC).
	At time.Time
	// Mark is a mark's name, or "lsn:" and an LSN in decimal or hexadecimal.
	Mark string
	// Before is STOPBEFOREMARK.
	Before bool
	// After is the clause AFTER of a mark's name.
	After time.Time
}

func (s Stop) isZero() bool { return s.At.IsZero() && s.Mark == "" }

// RestoreOptions are a RESTORE statement.
type RestoreOptions struct {
	Database string
	// Log is RESTORE LOG; otherwise the statement is RESTORE DATABASE.
	Log bool
	// File is which set on the media; the first if 0.
	File int
	End  End
	// UndoFile is STANDBY's file.
	UndoFile string
	Replace  bool
	// Move gives physical paths by logical name.
	Move     map[string]string
	Stop     Stop
	Checksum bool
	// RestrictedUser is the option of that name.
	RestrictedUser bool
	User           string
	Notify         func(server.Message)
}

func (o *RestoreOptions) statement() string {
	if o.Log {
		return "RESTORE LOG"
	}
	return "RESTORE DATABASE"
}

// restoring is a RESTORE under way.
type restoring struct {
	s       *Server
	o       RestoreOptions
	devices []Device
	set     *stream.Set
	h       *stream.Header
	db      *storage.Database
	pages   map[uint16]int64
	out     []server.Message
	began   time.Time
	reached bool // the stop was, or there is none
}

// Restore runs a RESTORE statement over devices, or over none to end a restore
// (RESTORE DATABASE … WITH RECOVERY or STANDBY). The messages are those of success;
// 4322 or 4329 among them say that the stop was not reached and that the database is
// still RESTORING.
func (s *Server) Restore(ctx context.Context, o RestoreOptions, devices []Device) ([]server.Message, error) {
	r := &restoring{s: s, o: o, devices: devices, pages: map[uint16]int64{}, began: s.o.Now(), reached: true}
	err := s.enter(o.Database)
	if err != nil {
		return nil, message.Then(err, 3013, o.statement())
	}
	defer s.leave(o.Database)
	of := s.Estate()
	err = of.MayRestore(o.Database)
	switch {
	case err != nil:
	case fold(o.Database) == "tempdb":
		err = message.Fail(3147)
	case len(devices) > stream.MostDevices:
		err = message.Fail(3205, stream.MostDevices)
	case o.End == Standby && o.UndoFile == "":
		err = message.Fail(3170)
	case len(devices) == 0:
		err = r.endOnly()
	default:
		err = r.run(ctx)
	}
	if err != nil {
		return nil, message.Then(err, 3013, o.statement())
	}
	return r.out, nil
}

// enter says that a RESTORE of a database begins; 3101 if another one runs.
func (s *Server) enter(database string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.restoring[s.Key(database)] {
		return message.Fail(3101)
	}
	s.restoring[s.Key(database)] = true
	return nil
}

func (s *Server) leave(database string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.restoring, s.Key(database))
}

// open finds the set that the statement names.
func (s *Server) open(devices []Device, partial bool, file int) (*stream.Media, *stream.Set, error) {
	var in []stream.Device
	for _, d := range devices {
		in = append(in, stream.Device{Name: d.Name, R: d.R})
	}
	m := stream.Open(in, partial)
	for n := 1; ; n++ {
		set, err := m.Next()
		if errors.Is(err, io.EOF) {
			err = message.Fail(3208)
		}
		if err != nil || n >= file {
			return m, set, err
		}
	}
}

func (r *restoring) run(ctx context.Context) error {
	_, set, err := r.s.open(r.devices, false, r.o.File)
	if err != nil {
		return err
	}
	r.set, r.h = set, &set.Header
	if of := r.s.Estate(); of.MayDecrypt(r.h.Boot.Protector) != nil {
		return of.MayDecrypt(r.h.Boot.Protector)
	}
	if major(r.h.SoftwareVersion) > major(r.s.o.Version) {
		return message.Fail(3169, r.h.SoftwareVersion, r.s.o.Version)
	}
	if r.o.Checksum && !r.h.HasBackupChecksums {
		return message.Fail(3187)
	}
	switch {
	case r.h.BackupType == stream.TypeLog:
		err = r.log(ctx)
	case r.o.Log:
		err = message.Fail(3135, r.h.Position, made(r.h))
	case r.h.BackupType == stream.TypeFull:
		err = r.full(ctx)
	default:
		err = r.differential(ctx)
	}
	if err != nil {
		return err
	}
	return r.finish()
}

// made is the statement that made a set.
func made(h *stream.Header) string {
	if h.BackupType == stream.TypeDifferential {
		return "BACKUP DATABASE WITH DIFFERENTIAL"
	}
	return "BACKUP DATABASE"
}

func major(version string) int {
	head, _, _ := strings.Cut(version, ".")
	n, _ := strconv.Atoi(head) // no number is the oldest version
	return n
}

// dataStop checks the stop clause of a data backup: before it begins to be read,
// and again with what it turned out to hold.
func (r *restoring) dataStop(now storage.Boot, end bool) error {
	stop := r.o.Stop
	switch {
	case stop.isZero():
		return nil
	case r.h.Boot.Model == storage.Simple:
		return message.Fail(3145)
	case stop.Mark != "":
		at, isLSN, err := stop.lsn()
		if err != nil {
			return err
		}
		if !isLSN {
			return message.Fail(4340)
		}
		if r.h.CheckpointLSN.Compare(at) > 0 || end && r.h.LastLSN.Compare(at) > 0 {
			return message.Fail(4338)
		}
		r.reached = false
		r.note(4329, end)
	default:
		if stop.At.Before(r.h.StartDate) || end && now.RedoTime.After(stop.At) {
			return message.Fail(4338)
		}
		r.reached = false
		r.note(4322, end)
	}
	return nil
}

// note adds a message, once.
func (r *restoring) note(number int32, now bool) {
	if now {
		r.out = append(r.out, message.New(number))
	}
}

// full restores a full backup: the existing database goes, if it may.
func (r *restoring) full(ctx context.Context) error {
	if err := r.dataStop(storage.Boot{}, false); err != nil {
		return err
	}
	old, err := r.replaceable()
	if err != nil {
		return err
	}
	files, err := r.place(old)
	if err != nil {
		return err
	}
	id := 0
	if old != nil {
		id = old.Info().ID
		if _, err := r.s.take(r.o.Database, 3101); err != nil {
			return err
		}
		if err := old.Remove(); err != nil {
			return err
		}
	}
	for _, f := range files {
		if r.s.o.FS.Exists(f.Physical) { // REPLACE, or place would have refused
			if err := r.s.o.FS.Remove(f.Physical); err != nil {
				return err
			}
		}
	}
	if id == 0 {
		r.s.mu.Lock()
		id = r.s.nextID
		r.s.nextID++
		r.s.mu.Unlock()
	}
	ro := storage.RestoreOptions{Name: r.o.Database, ID: id, Boot: r.h.Boot, Files: files, Owner: r.o.User, Base: r.h.Boot.Files[0].Base}
	counts := !r.h.IsCopyOnly
	if counts {
		ro.Set = r.h.BackupSetGUID
		ro.Base = storage.Base{GUID: ro.Set, LSN: r.h.CheckpointLSN, Time: r.h.FinishDate}
		ro.Boot.DatabaseBackup = r.h.CheckpointLSN
	}
	db, err := storage.NewRestoring(r.s.env(), ro)
	if err != nil {
		return err
	}
	r.db = db
	if err := r.s.put(r.o.Database, db); err != nil {
		return err
	}
	return r.content(ctx, counts)
}

// content reads a data backup's extents and log into the database.
func (r *restoring) content(ctx context.Context, counts bool) error {
	var recs []wal.Record
	for {
		if err := check(ctx); err != nil {
			return err
		}
		it, err := r.set.Item()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		switch {
		case it.Extent != nil:
			if err := r.db.WriteExtent(*it.Extent, r.h.HasBackupChecksums); err != nil {
				return err
			}
			r.pages[it.Extent.File] += 8
		case it.Record != nil:
			recs = append(recs, *it.Record)
			r.pages[2] = int64(len(recs)/64) + 1
		}
	}
	if err := r.db.EndData(recs, r.h.FirstLSN, r.h.LastLSN, counts); err != nil {
		return err
	}
	return r.dataStop(r.db.Info().Boot, true)
}

// replaceable finds the database that a full backup would overwrite, nil if there
// is none, and says why it must not: 3101, 3154, 3141, 3159.
func (r *restoring) replaceable() (*storage.Database, error) {
	old, err := r.s.Database(r.o.Database)
	if err != nil {
		return nil, nil // none: nothing is overwritten
	}
	release, ok := old.Seize()
	if !ok || old.Busy() || r.s.sessions(r.o.Database) > 0 {
		if ok {
			release()
		}
		return nil, message.Fail(3101)
	}
	release()
	i := old.Info()
	switch {
	case r.o.Replace:
	case i.FamilyGUID != r.h.FamilyGUID:
		return nil, message.Fail(3154, i.Name)
	case !r.s.Same(r.h.DatabaseName, i.Name):
		return nil, message.Fail(3141, r.h.DatabaseName, i.Name)
	case i.State == storage.Online && !i.Standby && i.Model != storage.Simple && r.o.Stop.isZero() &&
		i.LastLogBackup.Less(i.LogEnd) && !i.LastLogBackup.IsZero():
		return nil, message.Fail(3159, i.Name)
	}
	return old, nil
}

// target finds the database that a differential or log goes on: 3118, 3101, 3117,
// 3154, 4330.
func (r *restoring) target() (storage.Info, error) {
	db, err := r.s.Database(r.o.Database)
	if err != nil {
		return storage.Info{}, message.Fail(3118, r.o.Database)
	}
	if r.s.sessions(r.o.Database) > 0 {
		return storage.Info{}, message.Fail(3101)
	}
	i := db.Info()
	switch {
	case i.State != storage.Restoring && !i.Standby, i.Incomplete:
		return i, message.Fail(3117)
	case i.FamilyGUID != r.h.FamilyGUID:
		return i, message.Fail(3154, i.Name)
	}
	r.db = db
	return i, nil
}

// samePath tells whether a set's path of forks goes through the database's point.
func (r *restoring) samePath(i *storage.Info) bool {
	forks := r.h.Boot.Forks
	return storage.ForkBefore(forks, i.RedoStart) == i.RedoFork || storage.ForkAt(forks, i.RedoStart) == i.RedoFork
}

// differential restores a differential over its base: 3136, 3120, 4330.
func (r *restoring) differential(ctx context.Context) error {
	if err := r.dataStop(storage.Boot{}, false); err != nil {
		return err
	}
	i, err := r.target()
	switch {
	case err != nil:
		return err
	case i.RestoredSet != r.h.DifferentialBaseGUID || i.RestoredSet == (value.GUID{}):
		return message.Fail(3136)
	case r.h.CheckpointLSN.Less(i.RedoStart):
		return message.Fail(3120)
	case !r.samePath(&i):
		return message.Fail(4330)
	}
	files, err := r.place(r.db)
	if err != nil {
		return err
	}
	if err := r.db.BeginDifferential(r.h.Boot, files); err != nil {
		return err
	}
	return r.content(ctx, false)
}

// finish brings the database into the wanted end state and writes msdb's row.
func (r *restoring) finish() error {
	end := r.o.End
	if !r.reached && end == Recovery {
		end = NoRecovery
	}
	if err := r.leave(end); err != nil {
		return err
	}
	var total int64
	for _, f := range r.h.Files {
		if n, ok := r.pages[f.ID]; ok {
			r.out = append(r.out, message.New(4035, n, r.o.Database, f.Logical, r.h.Position))
			total += n
		}
	}
	r.out = append(r.out, processed(r.o.statement(), total, r.s.o.Now().Sub(r.began)))
	now, _ := r.s.now()
	row := msdb.Restore{Date: now, DestinationDatabase: r.o.Database, UserName: r.o.User, BackupSetUUID: r.h.BackupSetGUID,
		Type: setRow(r.h).Type, Replace: r.o.Replace, Recovery: r.o.End == Recovery, StopAt: r.o.Stop.At,
		StopAtMark: r.o.Stop.Mark, StopBefore: r.o.Stop.Before}
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	if r.s.noMSDB {
		r.out = append(r.out, message.New(3009))
		return nil
	}
	r.s.adopt(r.h, r.devices)
	r.s.msdb.AddRestore(row)
	return r.s.changed()
}

// adopt writes the rows of a backup set that this server's msdb does not know, as a
// restore of another server's backup does.
func (s *Server) adopt(h *stream.Header, devices []Device) {
	for _, set := range s.msdb.Sets {
		if set.UUID == h.BackupSetGUID {
			return
		}
	}
	var families []msdb.MediaFamily
	for i, d := range devices {
		families = append(families, msdb.MediaFamily{Sequence: i + 1, UUID: s.GUID(), PhysicalName: d.Name, DeviceType: d.kind()})
	}
	s.msdb.Add(setRow(h), msdb.MediaSet{UUID: s.GUID(), FamilyCount: len(devices), Software: "Microsoft SQL Server"}, families, fileRows(h, nil))
}

func (r *restoring) leave(end End) error {
	switch end {
	case NoRecovery:
		return r.db.EndStandby()
	case Standby:
		return r.db.Standby(r.o.UndoFile)
	}
	if err := r.db.Recover(); err != nil {
		return err
	}
	if r.o.RestrictedUser {
		return r.db.SetAccess(storage.RestrictedUser)
	}
	return nil
}

// endOnly is RESTORE DATABASE without devices: 3118, 3153, 4333.
func (r *restoring) endOnly() error {
	db, err := r.s.Database(r.o.Database)
	if err != nil {
		return message.Fail(3118, r.o.Database)
	}
	if r.s.sessions(r.o.Database) > 0 {
		return message.Fail(3101)
	}
	i := db.Info()
	switch {
	case i.State != storage.Restoring && !i.Standby:
		return message.Fail(3153)
	case i.Incomplete:
		return message.Fail(4333)
	}
	r.db = db
	if err := r.leave(r.o.End); err != nil {
		return err
	}
	r.out = append(r.out, processed(r.o.statement(), 0, r.s.o.Now().Sub(r.began)))
	return nil
}
