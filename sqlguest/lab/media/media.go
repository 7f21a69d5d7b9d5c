// Package media is what BACKUP writes to and RESTORE reads from: files and virtual device
// sets.
package media

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"holdfast/sqlguest/lab/backups"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/lab/storage/filesystem"
	"holdfast/sqlguest/lab/value"
)

// Media are a statement's devices.
type Media struct {
	// Devices are in the order of the statement.
	Devices []backups.Device
	set     *virtual // nil for files
	files   []*diskFile
}

// virtual is a device set that is opened at the first byte: a statement that SQL Server
// refuses never touches it.
type virtual struct {
	ctx     context.Context // of the statement that owns this set
	devices bridge.Devices
	request bridge.Request

	once sync.Once
	set  bridge.Set
	err  error
}

func (v *virtual) open() (bridge.Set, error) {
	v.once.Do(func() {
		if v.devices == nil {
			v.err = bridge.ErrNoSet
			return
		}
		v.set, v.err = v.devices.Open(v.ctx, v.request)
	})
	return v.set, v.err
}

// abort gives the set up, if it was opened.
func (v *virtual) abort() {
	if v != nil && v.set != nil {
		v.set.Abort()
	}
}

// close ends the set in order.
func (v *virtual) close() error {
	if v == nil || v.set == nil {
		return nil
	}
	return v.set.Close()
}

// finish asks every device to make its bytes safe, and whether the backup is: all at once,
// because a client may wait for the last before it answers the first.
func (v *virtual) finish() error {
	if v == nil || v.set == nil {
		return nil
	}
	for _, step := range []func(bridge.Device) error{bridge.Device.Flush, bridge.Device.Complete} {
		var g errgroup.Group
		for _, d := range v.set.Devices() {
			g.Go(func() error { return step(d) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// virtualDevice is one device of the set.
type virtualDevice struct {
	v *virtual
	n int
}

// Write hands bytes to the client.
func (d virtualDevice) Write(p []byte) (int, error) {
	set, err := d.v.open()
	if err != nil {
		return 0, err
	}
	return set.Devices()[d.n].Write(p)
}

// Read takes bytes from the client.
func (d virtualDevice) Read(p []byte) (int, error) {
	set, err := d.v.open()
	if err != nil {
		return 0, err
	}
	return set.Devices()[d.n].Read(p)
}

// diskFile is a backup file.
type diskFile struct {
	name string
	file filesystem.File
	at   int64
	size int64 // before the statement
	made bool
}

// Write appends.
func (d *diskFile) Write(p []byte) (int, error) {
	n, err := d.file.WriteAt(p, d.at)
	d.at += int64(n)
	return n, err
}

// Read reads on; the file system answers a short read at the end with io.EOF.
func (d *diskFile) Read(p []byte) (int, error) {
	n, err := d.file.ReadAt(p, d.at)
	d.at += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// openDisk opens a backup file; create makes it if it is missing.
func openDisk(o Options, name string, create bool) (*diskFile, error) {
	d := &diskFile{name: name}
	var err error
	if o.Path != nil {
		flag := os.O_RDONLY
		if create {
			flag = os.O_RDWR | os.O_CREATE
		}
		f, e := os.OpenFile(o.Path(name), flag, 0o600)
		if e == nil {
			d.file = osFile{f}
		}
		err = e
	} else if create && !o.FS.Exists(name) {
		d.file, err = o.FS.Create(name)
		d.made = true
	} else {
		d.file, err = o.FS.Open(name)
	}
	if err != nil {
		reason := "3(The system cannot find the path specified.)"
		if !create {
			reason = "2(The system cannot find the file specified.)"
		}
		return nil, value.Errorf(3201, "Cannot open backup device '%s'. Operating system error %s.", name, reason)
	}
	d.size, err = d.file.Size()
	return d, err
}

// osFile is a file of this machine.
type osFile struct{ *os.File }

// Size is the file's length.
func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Options are what devices are made of.
type Options struct {
	// FS holds backup files unless Path gives the file on this machine for a path of the
	// server's.
	FS   filesystem.FS
	Path func(server string) string
	// Directory is where names without a path belong.
	Directory string
	// Devices are the virtual ones; nil for a server without.
	Devices bridge.Devices
	// Before, if not nil, is asked before each write with the bytes that the device has
	// taken so far; an error fails the write.
	Before func(ctx context.Context, name string, written int64) error
}

// Virtual makes media of a virtual device set, which is opened when the first byte moves and
// aborted when ctx ends.
func Virtual(ctx context.Context, o Options, r bridge.Request) *Media {
	m := &Media{set: &virtual{ctx: ctx, devices: o.Devices, request: r}}
	for n, name := range r.Names {
		d := backups.Device{Name: name, Type: backups.DeviceVirtual}
		if r.Write {
			d.W = &watched{ctx: ctx, w: virtualDevice{m.set, n}, before: o.Before, name: name}
		} else {
			d.R = virtualDevice{m.set, n}
		}
		m.Devices = append(m.Devices, d)
	}
	return m
}

// Disk makes media of files; 3201 for one that cannot be opened. NUL swallows a backup.
func Disk(ctx context.Context, o Options, names []string, write bool) (*Media, error) {
	m := &Media{}
	for _, name := range names {
		name = o.whole(name)
		d := backups.Device{Name: name, Type: backups.DeviceDisk}
		if strings.EqualFold(name, "NUL") && write {
			d.W = io.Discard
			m.Devices = append(m.Devices, d)
			continue
		}
		f, err := openDisk(o, name, write)
		if err != nil {
			m.CloseFiles()
			return nil, err
		}
		m.files = append(m.files, f)
		if write {
			d.W = &watched{ctx: ctx, w: f, before: o.Before, name: name}
		} else {
			d.R = bufio.NewReaderSize(f, 1<<16)
		}
		m.Devices = append(m.Devices, d)
	}
	return m, nil
}

// whole is the path of a file whose name may have none.
func (o Options) whole(name string) string {
	if strings.EqualFold(name, "NUL") || strings.ContainsAny(name, `/\:`) || o.Directory == "" {
		return name
	}
	separator := "/"
	if strings.Contains(o.Directory, `\`) {
		separator = `\`
	}
	return o.Directory + separator + name
}

// watched asks before each write.
type watched struct {
	ctx     context.Context // of the statement that writes
	w       io.Writer
	before  func(ctx context.Context, name string, written int64) error
	name    string
	written int64
}

// Write implements io.Writer.
func (b *watched) Write(p []byte) (int, error) {
	if b.before != nil {
		if err := b.before(b.ctx, b.name, b.written); err != nil {
			return 0, err
		}
	}
	n, err := b.w.Write(p)
	b.written += int64(n)
	return n, err
}

// CloseFiles closes what is open on disk.
func (m *Media) CloseFiles() {
	for _, f := range m.files {
		_ = f.file.Close()
	}
}

// AppendTo puts the files' ends where a new set begins: behind those that are there, or,
// with overwrite, at the beginning. It returns the new set's position.
func (m *Media) AppendTo(ctx context.Context, srv *backups.Server, overwrite bool) (int, error) {
	position := 1
	for _, f := range m.files {
		if overwrite {
			if err := f.file.Truncate(0); err != nil {
				return 0, fmt.Errorf("empty backup file %s: %w", f.name, err)
			}
			f.size = 0
		}
		if f.size == 0 {
			continue
		}
		headers, err := srv.HeaderOnly(ctx, []backups.Device{{Name: f.name, Type: backups.DeviceDisk, R: bufio.NewReaderSize(f, 1<<16)}})
		if err != nil {
			return 0, err
		}
		position, f.at = len(headers)+1, f.size
	}
	return position, nil
}

// Undo takes back what a failed statement has written to files.
func (m *Media) Undo() {
	for _, f := range m.files {
		_ = f.file.Truncate(f.size)
	}
}

// Finish asks every virtual device to make its bytes safe, and whether the backup is.
func (m *Media) Finish() error { return m.set.finish() }

// Abort gives a virtual set up.
func (m *Media) Abort() { m.set.abort() }

// Close ends a virtual set in order.
func (m *Media) Close() error { return m.set.close() }

// OpenError is why the virtual set could not be opened; nil if it was, or was not tried.
func (m *Media) OpenError() error {
	if m.set == nil {
		return nil
	}
	return m.set.err
}
