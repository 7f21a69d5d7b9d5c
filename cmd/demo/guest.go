package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
)

// tree is every file of the VM by its path.
type tree map[string]content

// fileWrite lets a program in the guest write a part of a file: length bytes
// from off, as the content has them there.
type fileWrite struct {
	name    string
	content content
	off     int64
	length  int64
}

// invoices are the files that go bad in the story.
const invoices = 6

func invoice(n int) string { return fmt.Sprintf("/srv/office/invoice-2026-%02d.pdf", n+1) }

const (
	siteLog  = "/var/log/site.log"
	database = "/srv/shop/orders.db"
	ransom   = "/srv/office/READ ME TO GET YOUR FILES BACK.txt"
)

// firstFiles are the files of a new VM with disks of so many bytes: about an
// eighth of each disk.
func firstFiles(diskBytes int64) tree {
	unit := diskBytes / 128
	t := tree{
		"/boot/VMLINUZ":         {noise, 1, 6*mib + 77, nil},
		"/boot/initrd.img":      {noise, 2, 9*mib + 1234, nil},
		"/boot/boot settings":   {prose, 3, 411, nil},
		"/etc/hostname":         {prose, 4, 29, nil},
		"/etc/motd":             {prose, 5, 300, nil},
		siteLog:                 {prose, 6, 2*unit + 99, nil},
		database:                {records, 7, 4 * unit, nil},
		"/srv/shop/catalog.txt": {prose, 8, unit, nil},
	}
	for i := range 5 {
		t[fmt.Sprintf("/usr/lib/lib%c.so", 'a'+i)] = content{noise, 100 + uint64(i), unit - 3000*int64(i), nil}
	}
	for i := range 9 {
		t[fmt.Sprintf("/srv/photos/summer %d.jpg", i+1)] = content{noise, 200 + uint64(i), unit - 5000*int64(i), nil}
	}
	for i := range invoices {
		t[invoice(i)] = content{noise, 300 + uint64(i), 60000 + 7001*int64(i), nil}
	}
	return t
}

// install is what it takes to write all files.
func (t tree) install() []fileWrite {
	var writes []fileWrite
	for _, name := range slices.Sorted(maps.Keys(t)) {
		writes = append(writes, fileWrite{name, t[name], 0, t[name].bytes})
	}
	return writes
}

// aBadDay is what happens in the guest between two backups, and the files
// after it: the log grows, orders come in, and somebody encrypts the invoices.
func (t tree) aBadDay() (tree, []fileWrite) {
	after := maps.Clone(t)
	var writes []fileWrite
	change := func(name string, c content, off, length int64) {
		after[name] = c
		writes = append(writes, fileWrite{name, c, off, length})
	}
	log := t[siteLog]
	log.bytes += 200_000
	change(siteLog, log, t[siteLog].bytes, 200_000)

	orders := t[database]
	orders.rewritten = map[int64]uint64{}
	for i := range int64(12) {
		orders.rewritten[(i*i*i*7+i)%(orders.bytes/pageBytes)] = 900 + uint64(i)
	}
	for _, page := range slices.Sorted(maps.Keys(orders.rewritten)) {
		change(database, orders, page*pageBytes, pageBytes)
	}
	for i := range invoices {
		bad := t[invoice(i)]
		bad.seed += 1000
		change(invoice(i), bad, 0, bad.bytes)
	}
	note := content{prose, 400, 700, nil}
	change(ransom, note, 0, note.bytes)
	return after, writes
}

// onDisk are the files on one of the disks.
func (t tree) onDisk(disk int) tree {
	some := tree{}
	for name, c := range t {
		if v, _ := volumeOf(name); v.disk == disk {
			some[name] = c
		}
	}
	return some
}

// bytes is how much the files hold.
func (t tree) bytes() (sum int64) {
	for _, c := range t {
		sum += c.bytes
	}
	return sum
}

// run lets the guest write, on fresh drives after it has formatted them, and
// returns how many bytes reached the drives.
func run(ctx context.Context, drives []drive, fresh bool, writes []fileWrite) (int64, error) {
	var written int64
	for disk, d := range drives {
		c := newCache(d)
		if fresh {
			if err := format(c, disk); err != nil {
				return 0, err
			}
		}
		for _, v := range volumes {
			if v.disk == disk {
				if err := v.write(ctx, c, writes); err != nil {
					return 0, err
				}
			}
		}
		if err := c.flush(); err != nil {
			return 0, fmt.Errorf("write disk %d: %w", disk, err)
		}
		written += c.written
	}
	return written, nil
}

// write does those of the writes that are for this volume.
func (v volume) write(ctx context.Context, c *cache, writes []fileWrite) error {
	files, err := v.open(c)
	if err != nil {
		return fmt.Errorf("mount %s: %w", v.mount, err)
	}
	for _, w := range writes {
		if err := ctx.Err(); err != nil {
			return err
		}
		where, name := volumeOf(w.name)
		if where != v {
			continue
		}
		if err := writeFile(files, name, w); err != nil {
			return fmt.Errorf("write %s: %w", w.name, err)
		}
	}
	return nil
}

func writeFile(files fileSystem, name string, w fileWrite) error {
	if dir := path.Dir(name); dir != "." {
		if err := files.Mkdir(dir); err != nil {
			return err
		}
	}
	f, err := files.OpenFile(name, os.O_CREATE|os.O_RDWR)
	if err != nil {
		return err
	}
	// From the start of a page, and a MiB at a time: go-diskfs (v1.9.4) cannot
	// begin a write in the middle of the block behind the last of an extent.
	start := w.off / pageBytes * pageBytes
	_, err = f.Seek(start, io.SeekStart)
	if err == nil {
		_, err = io.CopyBuffer(struct{ io.Writer }{f}, io.LimitReader(w.content.reader(start), w.off+w.length-start), make([]byte, mib))
	}
	return errors.Join(err, f.Close())
}

// compare mounts every file system of a disk and compares what is there with
// the files that should be: all of them, nothing else, every byte.
func compare(ctx context.Context, d drive, disk int, want tree) error {
	c := newCache(d)
	for _, v := range volumes {
		if v.disk != disk {
			continue
		}
		files, err := v.open(c)
		if err != nil {
			return fmt.Errorf("mount %s: %w", v.mount, err)
		}
		found, err := list(files, ".")
		if err != nil {
			return fmt.Errorf("list %s: %w", v.mount, err)
		}
		var names []string
		for name := range want {
			if where, within := volumeOf(name); where == v {
				names = append(names, within)
			}
		}
		slices.Sort(names)
		slices.Sort(found)
		if !slices.Equal(names, found) {
			return fmt.Errorf("%s has the files %q and should have %q: %w", v.mount, found, names, errContent)
		}
		for _, name := range names {
			full := path.Join(v.mount, name)
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := compareFile(files, name, want[full]); err != nil {
				return fmt.Errorf("%s: %w", full, err)
			}
		}
	}
	return nil
}

// list finds all files below a directory.
func list(files fileSystem, dir string) ([]string, error) {
	entries, err := files.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch {
		case e.Name() == "." || e.Name() == "..":
		case e.IsDir():
			below, err := list(files, name)
			if err != nil {
				return nil, err
			}
			names = append(names, below...)
		default:
			names = append(names, name)
		}
	}
	return names, nil
}

func compareFile(files fileSystem, name string, want content) error {
	f, err := files.OpenFile(name, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	got, expected := make([]byte, mib), make([]byte, mib)
	for off := int64(0); ; {
		n, err := io.ReadFull(f, got)
		m, _ := want.ReadAt(expected, off)
		if !bytes.Equal(got[:n], expected[:m]) {
			return fmt.Errorf("differs from what was written, between %d and %d: %w", off, off+int64(max(n, m)), errContent)
		}
		off += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
