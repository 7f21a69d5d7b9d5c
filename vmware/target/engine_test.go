package target_test

import (
	"context"
	"crypto/rand"
	"io"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/repo"
	"holdfast/repo/backend/mem"
	"holdfast/repo/recovery"
	"holdfast/repo/seal"
	"holdfast/restore"
	"holdfast/vmware"
	"holdfast/vmware/lab"
	"holdfast/vmware/snapshot"
	"holdfast/vmware/target"
)

// TestThroughTheRealEngine is the thread through every layer: a VM is backed up
// in full and by changed blocks into a real repository and comes back as a new VM.
func TestThroughTheRealEngine(t *testing.T) {
	b := newBench(t, func(s *lab.VMSpec) { s.Disks = []lab.DiskSpec{{Bytes: 6 * mib}, {Bytes: 3*mib + 3<<10}} })
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { now = now.Add(time.Second); return now }
	text, err := seal.NewKeyFile(rand.Reader)
	must(t, err)
	secret, err := seal.ParseKeyFile(text)
	must(t, err)
	r, err := repo.Init(b.ctx, mem.New(), repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}},
		repo.Options{Now: clock, Rand: rand.Reader, Host: "test", Program: "holdfast test", PID: 1})
	must(t, err)
	t.Cleanup(func() { _ = r.Close() })

	run := func(id string) *recovery.Point {
		vm := b.find("web01")
		src := vmware.NewSource(b.session, vm, vmware.SourceOptions{Run: snapshot.Run{Host: "h", ID: id}})
		res, err := backup.Run(b.ctx, r, src, backup.Options{Now: clock})
		must(t, err)
		if left := b.find("web01").Snapshots; len(left) != 0 {
			t.Fatalf("snapshots are left: %+v", left)
		}
		return res.Point
	}
	run("one")
	must(t, b.vm.WriteDisk(0, 5*mib, []byte("written between the backups")))
	must(t, b.vm.WriteDisk(1, 3*mib+2<<10, []byte("and at the very end")))
	point := run("two")
	if point.ReadMode != recovery.ReadCBT || point.BytesRead > mib {
		t.Fatalf("the second backup read %d bytes by %s (%s)", point.BytesRead, point.ReadMode, point.Reason)
	}

	to := target.New(b.session, target.Options{Name: "again", Run: snapshot.Run{ID: "r"}, Read: func(ctx context.Context, item recovery.Item) (io.ReadCloser, error) {
		return restore.OpenStream(ctx, r, item), nil
	}})
	res, err := restore.Run(b.ctx, r, point, point.Items, to, restore.Options{Now: clock})
	must(t, err)
	for name, how := range res.Verified {
		if !strings.Contains(how, "read back") {
			t.Fatalf("%s was verified by %s", name, how)
		}
	}
	old, again := b.vm, b.lab.VM("again")
	for i := range 2 {
		want, err := old.DiskSHA256(i)
		must(t, err)
		got, err := again.DiskSHA256(i)
		must(t, err)
		if got != want {
			t.Fatalf("disk %d differs", i)
		}
	}
}
