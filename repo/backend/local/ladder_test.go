package local

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"

	"holdfast/repo/backend"
	"holdfast/repo/backend/local/localtest"
)

// oddFS is a strict file system whose ways of taking a name are not what they
// say. nil is honest.
type oddFS struct {
	*localtest.FS
	link, renameNew func(from, to string) error
}

func (o oddFS) Link(from, to string) error {
	if o.link != nil {
		return o.link(from, to)
	}
	return o.FS.Link(from, to)
}

func (o oddFS) RenameNew(from, to string) error {
	if o.renameNew != nil {
		return o.renameNew(from, to)
	}
	return o.FS.RenameNew(from, to)
}

// TestLadderOfTakingANameIsProvedNotBelieved: the first method that takes a
// free name and refuses a taken one is used, whatever the system answers; each
// then decides between two writers, and only the last rung needs the lock.
func TestLadderOfTakingANameIsProvedNotBelieved(t *testing.T) {
	never := func(err error) func(string, string) error {
		return func(string, string) error { return err }
	}
	for _, c := range []struct {
		name string
		odd  func(o *oddFS)
		want method
	}{
		{"all work", func(*oddFS) {}, byLink},
		{"links are not supported", func(o *oddFS) { o.link = never(syscall.ENOTSUP) }, byRename},
		{"links are forbidden", func(o *oddFS) { o.link = never(syscall.EPERM) }, byRename},
		{"a link replaces", func(o *oddFS) { o.link = o.FS.Rename }, byRename},
		{"a link says taken of everything", func(o *oddFS) { o.link = never(syscall.EEXIST) }, byRename},
		{"the flag is ignored", func(o *oddFS) { o.link, o.renameNew = never(syscall.ENOTSUP), o.FS.Rename }, underLock},
		{"the flag is refused", func(o *oddFS) { o.link, o.renameNew = never(syscall.EPERM), never(syscall.EINVAL) }, underLock},
		{"a refused rename loses the file", func(o *oddFS) {
			o.link = never(syscall.EMLINK)
			o.renameNew = func(from, to string) error {
				return errors.Join(o.FS.Remove(from), syscall.EEXIST)
			}
		}, underLock},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := oddFS{FS: localtest.New()}
			c.odd(&disk)
			b := Over(disk, "odd", Options{ReserveBytes: testReserve})
			defer b.Close()
			work, err := b.workspace()
			must(t, err)
			if work.method != c.want || (b.SingleWriter() != "") != (c.want == underLock) {
				t.Errorf("method %d, want %d; single writer %q", work.method, c.want, b.SingleWriter())
			}
			must(t, b.PutIfAbsent(t.Context(), "ledger/0", []byte("mine")))
			must(t, b.PutIfAbsent(t.Context(), "ledger/0", []byte("mine")))
			wantErr(t, "put new over it", b.PutIfAbsent(t.Context(), "ledger/0", []byte("other")), backend.ErrExists)
			if n, err := disk.Find("ledger/0"); err != nil || string(n.Data) != "mine" {
				t.Errorf("ledger/0: %v, %v", n, err)
			}
		})
	}
}

// TestProbeOnASickDiskDecidesNothing: an error of another kind is no answer.
func TestProbeOnASickDiskDecidesNothing(t *testing.T) {
	disk := localtest.New()
	b := Over(disk, "sick", Options{ReserveBytes: testReserve})
	disk.Arm = func(call string) {
		if strings.HasPrefix(call, "create ") {
			disk.Fault = localtest.Fault{At: len(disk.Calls), Err: syscall.EROFS}
		}
	}
	if _, err := b.workspace(); !errors.Is(err, syscall.EROFS) || b.work != nil {
		t.Errorf("workspace: %v", err)
	}
	disk.Arm = nil
	must(t, b.PutIfAbsent(t.Context(), "config", nil))
	must(t, b.Close())
	if left := litter(disk); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestWritersLockExcludes: also a put-if-absent by somebody who does not hold
// it, where names are taken under it.
func TestWritersLockExcludes(t *testing.T) {
	disk := localtest.New()
	open := func() *Backend {
		b := Over(disk, "strict", Options{ReserveBytes: testReserve})
		work, err := b.workspace()
		must(t, err)
		work.method = underLock
		return b
	}
	mine, theirs := open(), open()
	unlock, err := mine.LockWriter(t.Context())
	must(t, err)
	_, err = theirs.LockWriter(t.Context())
	wantErr(t, "second lock", err, ErrLocked)
	must(t, mine.PutIfAbsent(t.Context(), "ledger/0", []byte("mine")))
	wantErr(t, "put new without the lock", theirs.PutIfAbsent(t.Context(), "ledger/1", []byte("theirs")), ErrLocked)
	must(t, unlock())
	must(t, theirs.PutIfAbsent(t.Context(), "ledger/1", []byte("theirs")))
}

// TestEachReadFailsOnce: whatever call fails in Get, Stat and List, the answer
// is right and whole or an error that says what the disk said.
func TestEachReadFailsOnce(t *testing.T) {
	names := slices.Sorted(maps.Keys(before))
	play := func(t *testing.T, disk *localtest.FS) (failed int) {
		b := Over(disk, "strict", Options{})
		told := func(what string, err error) bool {
			if err == nil {
				return true
			}
			failed++
			if !errors.Is(err, syscall.EIO) || errors.Is(err, backend.ErrNotFound) {
				t.Errorf("fault at %q: %s: %v", disk.Hit, what, err)
			}
			return false
		}
		for _, name := range names {
			data, err := b.Get(t.Context(), name, 0, -1)
			if told("get", err) && string(data) != string(bulk(before[name])) {
				t.Errorf("fault at %q: get %s: %q", disk.Hit, name, data)
			}
			info, err := b.Stat(t.Context(), name)
			if told("stat", err) && info.Bytes != int64(len(bulk(before[name]))) {
				t.Errorf("fault at %q: stat %s: %d bytes", disk.Hit, name, info.Bytes)
			}
		}
		var got []string
		err := b.List(t.Context(), "", func(info backend.Info) error {
			got = append(got, info.Name)
			return nil
		})
		if told("list", err) && !slices.Equal(got, names) || !slices.Equal(got, names[:len(got)]) {
			t.Errorf("fault at %q: list: %q, %v", disk.Hit, got, err)
		}
		return failed
	}
	dry := prepare(t)
	if n := play(t, dry); n > 0 || len(dry.Calls) < 4*len(names) {
		t.Fatalf("%d calls failed of %d", n, len(dry.Calls))
	}
	for at, call := range dry.Calls {
		disk := prepare(t)
		disk.Fault = localtest.Fault{At: at + 1, Err: syscall.EIO}
		if n := play(t, disk); n != 1 && !strings.HasPrefix(call, "close ") {
			t.Errorf("fault at %q: %d answers are errors", call, n)
		}
	}
}

// TestShortReadIsAnError: a file that shrinks under a reader.
func TestShortReadIsAnError(t *testing.T) {
	disk := prepare(t)
	b := Over(disk, "strict", Options{})
	disk.Arm = func(call string) {
		if n, err := disk.Find("config"); err == nil && call == "read config" {
			n.Data = n.Data[:3]
		}
	}
	if data, err := b.Get(t.Context(), "config", 0, -1); err == nil || data != nil {
		t.Errorf("get: %q, %v", data, err)
	}
}

// TestWritesWithoutRoomForAReserveGoOn: and say so.
func TestWritesWithoutRoomForAReserveGoOn(t *testing.T) {
	disk := localtest.New()
	disk.Room = 300
	log, heard := listen()
	b := Over(disk, "strict", Options{ReserveBytes: 1000, Log: log})
	must(t, b.Put(t.Context(), "data/s/1", []byte("x")))
	must(t, b.PutIfAbsent(t.Context(), "ledger/0", []byte("x")))
	if !strings.Contains(heard(), "no room is kept back") || !strings.Contains(heard(), fmt.Sprint(1000)) {
		t.Errorf("log: %s", heard())
	}
}

// listen returns a logger and what it has heard.
func listen() (*slog.Logger, func() string) {
	var text strings.Builder
	return slog.New(slog.NewTextHandler(&text, nil)), text.String
}
