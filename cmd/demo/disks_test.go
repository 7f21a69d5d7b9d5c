package demo

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// rawDrive makes an empty disk in a file.
func rawDrive(t *testing.T, bytes int64) fileDrive {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(bytes); err != nil {
		t.Fatal(err)
	}
	return fileDrive{f, bytes}
}

// tool finds a program of the operating system that judges disks.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		for _, dir := range []string{"/sbin", "/usr/sbin"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				return filepath.Join(dir, name)
			}
		}
		if os.Getenv("HOLDFAST_DEMAND_PARTS") == "1" {
			t.Fatalf("%s is demanded and not installed", name)
		}
		t.Skipf("%s is not installed", name)
	}
	return path
}

// accepts fails the test unless a tool ends with 0, and says none of the words.
func accepts(t *testing.T, program string, args []string, complaints ...string) {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %v: %v\n%s", program, args, err, out)
	}
	for _, word := range complaints {
		if strings.Contains(string(out), word) {
			t.Errorf("%s %v complains:\n%s", program, args, out)
		}
	}
}

// partition copies a partition into a file of its own.
func partition(t *testing.T, d fileDrive, v volume) string {
	t.Helper()
	p := partitions(v.disk, d.bytes)[v.partition]
	data := make([]byte, int64(p.End-p.Start+1)*sectorBytes)
	if _, err := d.ReadAt(data, int64(p.Start)*sectorBytes); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), v.label)
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// judge asks the real tools about partition tables and file systems.
func judge(t *testing.T, drives []drive) {
	t.Helper()
	sgdisk, e2fsck, fsckFAT := tool(t, "sgdisk"), tool(t, "e2fsck"), tool(t, "fsck.fat")
	for _, d := range drives {
		accepts(t, sgdisk, []string{"-v", d.(fileDrive).Name()}, "Problem", "Caution", "Warning", "corrupt")
	}
	for _, v := range volumes {
		image := partition(t, drives[v.disk].(fileDrive), v)
		if v.fat {
			accepts(t, fsckFAT, []string{"-n", image}, "Warning", "Invalid", "Reclaimed", "Leaving")
		} else {
			accepts(t, e2fsck, []string{"-fn", image}, "? no", "errors", "differ", "invalid", "wrong")
		}
	}
}

// theDisks formats and fills the VM's disks.
func theDisks(t *testing.T, bytes int64) ([]drive, tree) {
	t.Helper()
	drives := []drive{rawDrive(t, bytes), rawDrive(t, bytes)}
	files := firstFiles(bytes)
	if _, err := run(context.Background(), drives, true, files.install()); err != nil {
		t.Fatal(err)
	}
	return drives, files
}

func TestDisksAreAcceptedByFsckAndHoldTheFiles(t *testing.T) {
	for name, bytes := range map[string]int64{"smallest": MinDiskBytes, "default": 256 * mib} {
		t.Run(name, func(t *testing.T) {
			drives, files := theDisks(t, bytes)
			holds := func(files tree) {
				t.Helper()
				for disk, d := range drives {
					if err := compare(t.Context(), d, disk, files); err != nil {
						t.Error(err)
					}
				}
			}
			holds(files)
			judge(t, drives)
			after, writes := files.aBadDay()
			written, err := run(t.Context(), drives, false, writes)
			if err != nil {
				t.Fatal(err)
			}
			if written == 0 || written > 4*mib {
				t.Errorf("the day wrote %d bytes", written)
			}
			holds(after)
			judge(t, drives)
		})
	}
}

func TestDigestSeesEveryBitAndThePlaceOfZeros(t *testing.T) {
	const size = mib + 512
	seen := map[[32]byte]string{}
	check := func(name string, off int64, value byte, bytes int64) {
		d := rawDrive(t, bytes)
		if value != 0 {
			if _, err := d.WriteAt([]byte{value}, off); err != nil {
				t.Fatal(err)
			}
		}
		sum, err := digest(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[sum]; ok {
			t.Errorf("%s has the digest of %s", name, other)
		}
		seen[sum] = name
	}
	check("zeros", 0, 0, size)
	check("a shorter disk", 0, 0, size-512)
	check("the first byte", 0, 1, size)
	check("another bit of it", 0, 2, size)
	check("the same byte a piece later", 256<<10, 1, size)
	check("the last byte", size-1, 1, size)
}

// A guest that writes what is there already writes nothing; go-diskfs does so
// all the time.
func TestCacheWritesOnlyPagesThatDiffer(t *testing.T) {
	d := rawDrive(t, 3*mib+512)
	write := func(p []byte, off int64) int64 {
		t.Helper()
		c := newCache(d)
		if _, err := c.WriteAt(p, off); err != nil {
			t.Fatal(err)
		}
		if err := c.flush(); err != nil {
			t.Fatal(err)
		}
		return c.written
	}
	text := content{texture: noise, seed: 1, bytes: 2 * mib}
	p := make([]byte, text.bytes)
	if _, err := text.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	const off = 700
	if n := write(p, off); n != text.bytes+pageBytes {
		t.Errorf("%d bytes were written", n)
	}
	if n := write(p, off); n != 0 {
		t.Errorf("the same again wrote %d bytes", n)
	}
	p[mib] ^= 1
	if n := write(p, off); n != pageBytes {
		t.Errorf("one changed byte wrote %d bytes", n)
	}
	if n := write([]byte{7}, d.bytes-1); n != 512 {
		t.Errorf("the last byte of a disk that ends within a page wrote %d bytes", n)
	}
	got := make([]byte, len(p))
	if _, err := newCache(d).ReadAt(got, off); err != nil || string(got) != string(p) {
		t.Errorf("read back: %v", err)
	}
}
