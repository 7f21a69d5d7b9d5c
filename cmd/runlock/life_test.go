package runlock

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/vmware/snapshot"
)

// TestOnlyItsOwnFreeLockProvesARunDead: neither a number, nor another boot, nor a copy.
func TestOnlyItsOwnFreeLockProvesARunDead(t *testing.T) {
	dir := t.TempDir()
	mine, err := New(dir, snapshot.Run{})
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	if mine.Life() == "" {
		if bootID() != "" {
			t.Fatal("a run without a life")
		}
		t.Skip("this system does not tell one boot from another: nothing is proven dead")
	}
	other, err := New(dir, snapshot.Run{})
	if err != nil {
		t.Fatal(err)
	}
	life := other.Life()
	path := filepath.Join(dir, other.Run.ID)
	if mine.Dead(life) || mine.Dead(mine.Life()) {
		t.Error("a run that lives is proven dead")
	}
	if err := other.file.Close(); err != nil { // as the system does after kill -9
		t.Fatal(err)
	}
	if !mine.Dead(life) {
		t.Error("a run that was killed is not proven dead")
	}
	if lives := mine.Lives(); !slices.Equal(lives, []string{life}) {
		t.Errorf("lives %q, want %q", lives, life)
	}
	_, rest, _ := strings.Cut(life, "/")
	for _, foreign := range []string{"", "/", "another-boot/" + rest, bootID() + "/1.1/" + other.Run.ID, bootID() + "/" + rest + "/..", rest} {
		if mine.Dead(foreign) {
			t.Errorf("%q is proven dead", foreign)
		}
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if mine.Dead(life) {
		t.Error("a run without a lock is proven dead")
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil { // a copy; the first one's number is still taken
		t.Fatal(err)
	}
	if mine.Dead(life) {
		t.Error("a copy of its lock proves a run dead")
	}
}
