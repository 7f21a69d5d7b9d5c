package diskfile

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"holdfast/vmware/vmdk"
)

// sample writes a streamOptimized VMDK of a disk with data at both ends.
func sample(t *testing.T) (path string, disk []byte) {
	t.Helper()
	disk = make([]byte, 1<<20)
	var seed [32]byte
	rng := rand.NewChaCha8(seed)
	for _, part := range [][]byte{disk[:70000], disk[len(disk)-1000:]} {
		if _, err := rng.Read(part); err != nil {
			t.Fatal(err)
		}
	}
	path = filepath.Join(t.TempDir(), "disk.vmdk")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	areas := []vmdk.Extent{{Start: 0, Length: 131072}, {Start: int64(len(disk)) - 65536, Length: 65536}}
	if _, err := vmdk.WriteStream(context.Background(), f, bytes.NewReader(disk), int64(len(disk)), vmdk.StreamOptions{Allocated: areas}); err != nil {
		t.Fatal(err)
	}
	return path, disk
}

func TestVMDKOpensAsTheDiskInIt(t *testing.T) {
	path, disk := sample(t)
	v, err := OpenVMDK(path)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	got := make([]byte, v.Size())
	if _, err := v.ReadAt(got, 0); err != nil || !bytes.Equal(got, disk) {
		t.Errorf("the disk differs (%v)", err)
	}
	extents, err := v.Extents()
	if err != nil {
		t.Fatal(err)
	}
	var listed int64
	for _, e := range extents {
		listed += e.Length
	}
	if listed < 71000 || listed > 400000 {
		t.Errorf("extents %v do not follow the data", extents)
	}
}

func TestStreamUnpacksIntoTheDiskInIt(t *testing.T) {
	path, disk := sample(t)
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	f, err := UnpackVMDK(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	got, err := os.ReadFile(f.Name())
	if err != nil || !bytes.Equal(got, disk) {
		t.Errorf("the disk differs (%v)", err)
	}
}

func TestFailuresLeaveNothingOpenOrBehind(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Setenv("TMP", dir)
	if _, err := OpenVMDK(filepath.Join(dir, "missing.vmdk")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	path, _ := sample(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := UnpackVMDK(context.Background(), bytes.NewReader(whole[:len(whole)/2])); !errors.Is(err, vmdk.ErrTruncated) {
		t.Errorf("half a stream: %v", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("%v stays behind (%v)", left, err)
	}
}
