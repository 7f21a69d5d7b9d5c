//go:build unix

package diskfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/vmware/vmdk"
)

// TestPipesAndLinksAreNoDisks: opening a pipe would wait for its writer for
// ever, and a link leads out of the folder that a descriptor may not leave.
func TestPipesAndLinksAreNoDisks(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "elsewhere"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	names := map[string]string{"pipe itself": pipe}
	for _, extent := range []string{"pipe", "link"} {
		text := "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW 2048 FLAT \"" + extent + "\" 0\n"
		path := filepath.Join(dir, extent+".vmdk")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		names[extent+" as an extent"] = path
	}
	for what, path := range names {
		v, err := OpenVMDK(path)
		if !errors.Is(err, vmdk.ErrFormat) {
			t.Errorf("%s: %v", what, err)
		}
		if err == nil {
			v.Close()
		}
	}
}
