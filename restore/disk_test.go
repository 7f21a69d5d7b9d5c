package restore_test

import (
	"bytes"
	"errors"
	"io"
	mrand "math/rand/v2"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"holdfast/repo/image"
	"holdfast/repo/recovery"
	"holdfast/restore"
)

func openDisk(t *testing.T, v *vault) restore.Disk {
	t.Helper()
	d, err := restore.OpenDisk(t.Context(), v.r, v.point.Items[0], restore.NoProgress{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestSequentialViewGivesEveryByteToReadersThatLag or jump.
func TestSequentialViewGivesEveryByteToReadersThatLag(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	v := newVault(t, 70<<20+333)
	d := openDisk(t, v)
	ahead, done, err := d.Sequential(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	rng := mrand.New(mrand.NewPCG(1, 1))
	buf := make([]byte, 3<<20)
	at := int64(0)
	for at < d.Size() {
		off := max(0, at-rng.Int64N(50<<20)*int64(rng.IntN(2)))
		n, err := ahead.ReadAt(buf[:1+rng.IntN(len(buf))], off)
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if !bytes.Equal(buf[:n], v.data[off:off+int64(n)]) || n == 0 {
			t.Fatalf("%d bytes at %d differ", n, off)
		}
		at = max(at, off+int64(n))
	}
	for _, off := range []int64{d.Size(), d.Size() + 5, -1} {
		if n, err := ahead.ReadAt(buf[:1], off); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("reading at %d: %d %v", off, n, err)
		}
	}
}

// TestSequentialViewThatIsGivenUpStopsFetching and leaves no goroutine.
func TestSequentialViewThatIsGivenUpStopsFetching(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	v := newVault(t, 70<<20)
	ahead, done, err := openDisk(t, v).Sequential(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ahead.ReadAt(make([]byte, 10), 5); err != nil {
		t.Fatal(err)
	}
	done()
}

// TestMatchesComparesWholeChunksAlone and finds each changed byte.
func TestMatchesComparesWholeChunksAlone(t *testing.T) {
	v := newVault(t, 5*chunkBytes+100)
	d := openDisk(t, v)
	ctx := t.Context()
	if same, err := d.Matches(ctx, 0, v.data); err != nil || !same {
		t.Fatalf("the disk itself: %v %v", same, err)
	}
	for _, at := range []int{0, 2*chunkBytes + 5, len(v.data) - 1} {
		other := bytes.Clone(v.data)
		other[at] ^= 0x80
		if same, err := d.Matches(ctx, 0, other); err != nil || same {
			t.Errorf("changed at %d: %v %v", at, same, err)
		}
	}
	for what, c := range map[string]struct{ off, length int }{
		"inside a chunk": {5, chunkBytes}, "beyond the end": {5 * chunkBytes, 101}, "half a chunk": {0, chunkBytes / 2}, "before the disk": {-chunkBytes, chunkBytes},
	} {
		if _, err := d.Matches(ctx, int64(c.off), make([]byte, c.length)); !errors.Is(err, image.ErrMap) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if same, err := d.Matches(ctx, 5*chunkBytes, v.data[5*chunkBytes:]); err != nil || !same {
		t.Errorf("the last chunk: %v %v", same, err)
	}
}

func TestDisksAreSelectedByNameLabelOrKey(t *testing.T) {
	p := &recovery.Point{Items: []recovery.Item{
		{Name: "vmx", Inline: []byte("x")}, {Name: "disk-2000", Label: "Hard disk 1", Key: 2000, Disk: &image.Map{}}, {Name: "disk-2001", Label: "Hard disk 2", Key: 2001, Disk: &image.Map{}},
	}}
	for keys, want := range map[string]string{"": "disk-2000 disk-2001", "disk-2001": "disk-2001", "Hard disk 1": "disk-2000", "2001|2000": "disk-2001 disk-2000"} {
		var list []string
		if keys != "" {
			list = strings.Split(keys, "|")
		}
		disks, err := restore.SelectDisks(p, list)
		var got []string
		for _, d := range disks {
			got = append(got, d.Name)
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %v %v", keys, got, err)
		}
	}
	var wrong *restore.ItemError
	if _, err := restore.SelectDisks(p, []string{"vmx"}); !errors.As(err, &wrong) || !errors.Is(err, restore.ErrItem) || !strings.Contains(wrong.Hint(), "disk-2001 (Hard disk 2)") || !strings.Contains(wrong.Error(), "vmx") {
		t.Errorf("an item that is no disk: %v", err)
	}
	v := newVault(t, 1)
	if _, err := restore.OpenDisk(t.Context(), v.r, v.point.Items[1], restore.NoProgress{}); !errors.Is(err, restore.ErrItem) {
		t.Errorf("a stream opened as a disk: %v", err)
	}
}
