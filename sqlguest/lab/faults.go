package lab

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"holdfast/sqlguest/lab/backups"
	"holdfast/sqlguest/lab/storage/filesystem"
)

// faults are what a test has asked to go wrong.
type faults struct {
	mu     sync.Mutex
	offset time.Duration
	zone   *time.Location
	device func(ctx context.Context, name string, written int64) error
	free   map[string]int64 // by mount point, of volumes that have been filled
}

// clock is a time with the jump and the zone that were asked for.
func (f *faults) clock(t time.Time) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	t = t.Add(f.offset)
	if f.zone != nil {
		t = t.In(f.zone)
	}
	return t
}

// JumpClock moves the server's clock by d, once and for good.
func (l *Lab) JumpClock(d time.Duration) {
	l.faults.mu.Lock()
	defer l.faults.mu.Unlock()
	l.faults.offset += d
}

// SetZone moves the server to another time zone: one with daylight saving time has its
// repeated and its missing hour.
func (l *Lab) SetZone(zone *time.Location) {
	l.faults.mu.Lock()
	defer l.faults.mu.Unlock()
	l.faults.zone = zone
}

// BreakDevice sets a function that is asked before each write to a backup device, with the
// bytes that it has taken so far: an error fails the write (3202), waiting makes the device
// slow (ctx ends with the statement). nil ends the fault.
func (l *Lab) BreakDevice(before func(ctx context.Context, name string, written int64) error) {
	l.faults.mu.Lock()
	defer l.faults.mu.Unlock()
	l.faults.device = before
}

// FillVolume leaves a volume, by its mount point, so many bytes: it says so, and a backup
// file on it that has taken that many gets no more (3202, 112).
func (l *Lab) FillVolume(mount string, free int64) {
	l.faults.mu.Lock()
	defer l.faults.mu.Unlock()
	if l.faults.free == nil {
		l.faults.free = map[string]int64{}
	}
	l.faults.free[mount] = free
}

// volume says how much room a path's volume has.
func (l *Lab) volume(path string) (mount string, available, total int64, system string) {
	mount, available, total, system = l.opt.Volume(path)
	l.faults.mu.Lock()
	defer l.faults.mu.Unlock()
	if free, filled := l.faults.free[mount]; filled {
		available = free
	}
	return mount, available, total, system
}

// before is asked before each write to a backup device.
func (l *Lab) before(ctx context.Context, name string, written int64) error {
	mount, _, _, _ := l.opt.Volume(name)
	l.faults.mu.Lock()
	device := l.faults.device
	free, filled := l.faults.free[mount]
	l.faults.mu.Unlock()
	if filled && written >= free && strings.ContainsAny(name, `/\`) { // a virtual device is on no volume
		return backups.ErrFull
	}
	if device == nil {
		return nil
	}
	return device(ctx, name, written)
}

// Snapshot is the whole instance at one moment: what a snapshot of its virtual machine
// holds, msdb included.
type Snapshot struct {
	fs filesystem.FS
}

// TakeSnapshot keeps the instance's files as they are, with open transactions unfinished.
func (l *Lab) TakeSnapshot() (*Snapshot, error) {
	clone, err := l.server().Clone()
	if err != nil {
		return nil, fmt.Errorf("take snapshot of instance: %w", err)
	}
	fs := clone.Options().FS
	if err := clone.Close(); err != nil {
		return nil, fmt.Errorf("take snapshot of instance: %w", err)
	}
	return &Snapshot{fs: fs}, nil
}

// Revert puts the instance back to a snapshot, as reverting its virtual machine does:
// sessions are gone, and the databases continue from there without a new fork. The
// instance lives in memory afterwards.
func (l *Lab) Revert(s *Snapshot) error {
	fs, err := s.fs.Clone()
	if err != nil {
		return fmt.Errorf("revert instance: %w", err)
	}
	if err := l.stop(); err != nil {
		return err
	}
	return l.goOn(fs)
}

// goOn starts a stopped instance over other files.
func (l *Lab) goOn(fs filesystem.FS) error {
	l.mu.Lock()
	l.opt.FS = fs
	// Seeds count on, so that no GUID of the abandoned time comes again.
	l.opt.Seed++
	l.mu.Unlock()
	if err := l.open(); err != nil {
		return err
	}
	return l.StartService()
}

// RevertFiles sets one database's files back to a snapshot, as reverting the volume does
// that they lie on: the service is stopped for it, and msdb remembers all that was done
// since. The instance lives in memory afterwards.
func (l *Lab) RevertFiles(s *Snapshot, database string) error {
	db, err := l.server().Database(database)
	if err != nil {
		return fmt.Errorf("revert files of %s: %w", database, err)
	}
	files := db.Info().Files
	if err := l.stop(); err != nil {
		return err
	}
	fs, err := l.server().Options().FS.Clone()
	if err != nil {
		return fmt.Errorf("revert files of %s: %w", database, err)
	}
	for _, f := range files {
		if err := filesystem.Copy(fs, s.fs, f.Physical); err != nil {
			return fmt.Errorf("revert files of %s: %w", database, err)
		}
	}
	return l.goOn(fs)
}

// LoseMSDB empties msdb's history. While fails is set, backups cannot write theirs (3009).
func (l *Lab) LoseMSDB(fails bool) { l.server().LoseMSDB(fails) }

// ForeignBackup runs a BACKUP by another tool: its bytes go nowhere (NUL), its effects on
// the database stay.
func (l *Lab) ForeignBackup(ctx context.Context, o backups.BackupOptions) error {
	if o.User == "" {
		o.User = `FOREIGN\tool`
	}
	_, err := l.server().Backup(ctx, o, []backups.Device{{Name: "NUL", Type: backups.DeviceDisk, W: io.Discard}})
	return err
}
