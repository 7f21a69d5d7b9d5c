package target_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"holdfast/repo/recovery"
	"holdfast/vmware/lab"
	"holdfast/vmware/target"
	"holdfast/vmware/task"
)

func (b *bench) attach(opt target.AttachOptions, item recovery.Item, fail error) (err error) {
	opt.VM, opt.Run, opt.Retry = b.find("web01"), "a1", task.Retry{Tries: 3, First: time.Millisecond}
	placed, err := target.NewAttach(b.session, opt).Create(b.ctx, b.point, []recovery.Item{item})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, placed.Abort(context.Background()))
		}
	}()
	src := memory{bytes.NewReader(b.disks[item.Name])}
	if err := placed.WriteDisk(b.ctx, item, src); err != nil {
		return err
	}
	if _, err := placed.Verify(b.ctx, item, src); err != nil {
		return err
	}
	if fail != nil {
		return fail
	}
	return placed.Commit(b.ctx)
}

func TestDiskIsAttachedToARunningVM(t *testing.T) {
	for _, store := range []string{"", lab.Datastore2} {
		b := newBench(t)
		item := b.point.Disks()[0]
		must(t, b.attach(target.AttachOptions{Datastore: store}, item, nil))
		if n := len(b.find("web01").Disks); n != 3 {
			t.Fatalf("%d disks", n)
		}
		got := make([]byte, item.Bytes)
		if _, err := b.vm.ReadDisk(2, got, 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if !bytes.Equal(got, b.disks[item.Name]) {
			t.Fatal("the attached disk differs")
		}
	}
}

func TestAttachTakesItsFilesBack(t *testing.T) {
	b := newBench(t)
	item, broken := b.point.Disks()[0], errors.New("broken")
	if err := b.attach(target.AttachOptions{}, item, broken); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if n := len(b.find("web01").Disks); n != 2 {
		t.Fatalf("%d disks", n)
	}
	// The same names are free again.
	must(t, b.attach(target.AttachOptions{}, item, nil))
	if err := b.attach(target.AttachOptions{Datastore: "nowhere"}, item, nil); !errors.Is(err, target.ErrPlace) {
		t.Fatal(err)
	}
}
