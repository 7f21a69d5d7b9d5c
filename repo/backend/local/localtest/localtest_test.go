package localtest

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
)

// write makes a file, synced or not.
func write(t *testing.T, disk *FS, name, data string, sync bool) {
	t.Helper()
	f, err := disk.Create(name)
	must(t, err)
	_, err = f.Write([]byte(data))
	must(t, err)
	if sync {
		must(t, f.Sync())
	}
	must(t, f.Close())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// holds lists files with their bytes.
func holds(disk *FS) (all []string) {
	for name, n := range disk.Files() {
		all = append(all, name+"="+string(n.Data))
	}
	return all
}

func want(t *testing.T, what string, disk *FS, files ...string) {
	t.Helper()
	if got := holds(disk); !slices.Equal(got, files) {
		t.Errorf("%s: %q, want %q", what, got, files)
	}
}

func lost(Chance) Fate { return Fate{} }

// TestSyncOfAFileIsNotThatOfItsName: only file, folder and the folder above,
// each synced, bring a new file in a new folder over a power cut.
func TestSyncOfAFileIsNotThatOfItsName(t *testing.T) {
	disk := New()
	must(t, disk.Mkdir("d"))
	write(t, disk, "d/f", "new", true)
	want(t, "only the file synced", disk.Cut(lost))
	must(t, disk.SyncDir("d"))
	want(t, "the folder above is new itself", disk.Cut(lost))
	must(t, disk.SyncDir("."))
	want(t, "all synced", disk.Cut(lost), "d/f=new")
}

func TestNameWithoutBytes(t *testing.T) {
	disk := New()
	write(t, disk, "f", "bytes", false)
	must(t, disk.SyncDir("."))
	want(t, "bytes lost", disk.Cut(lost), "f=")
	want(t, "bytes kept", disk.Cut(func(Chance) Fate { return Fate{Kept: true} }), "f=bytes")
	want(t, "bytes torn", disk.Cut(func(Chance) Fate { return Fate{Torn: func(b []byte) []byte { return b[:2] }} }), "f=by")
	want(t, "a kill", disk.Clone(), "f=bytes")
	want(t, "a kill, then a power cut", disk.Clone().Cut(lost), "f=")
}

// TestRenameAndRemoveMayComeBack: both are changes of folders.
func TestRenameAndRemoveMayComeBack(t *testing.T) {
	disk := New()
	write(t, disk, "a", "1", true)
	write(t, disk, "b", "2", true)
	must(t, disk.SyncDir("."))
	must(t, disk.Rename("a", "c"))
	must(t, disk.Remove("b"))
	want(t, "now", disk, "c=1")
	want(t, "lost", disk.Cut(lost), "a=1", "b=2")
	want(t, "the new name kept alone", disk.Cut(func(c Chance) Fate { return Fate{Kept: c.Name == "c"} }), "a=1", "b=2", "c=1")
	must(t, disk.SyncDir("."))
	want(t, "synced", disk.Cut(lost), "c=1")
}

// TestSecondSyncOfAFailedOneLies: it answers well and syncs nothing.
func TestSecondSyncOfAFailedOneLies(t *testing.T) {
	disk := New()
	f, err := disk.Create("f")
	must(t, err)
	_, err = f.Write([]byte("x"))
	must(t, err)
	must(t, disk.SyncDir("."))
	disk.Fault = Fault{At: len(disk.Calls) + 1, Err: syscall.EIO}
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("first sync: %v", err)
	}
	must(t, f.Sync())
	want(t, "after a sync that said fine", disk.Cut(func(Chance) Fate { return Fate{Kept: true} }), "f=")
}

// TestStoppedProcessDoesNothingMore: the call it stops at, and all later ones.
func TestStoppedProcessDoesNothingMore(t *testing.T) {
	disk := New()
	disk.Fault = Fault{At: 2, Err: ErrStopped, Stop: true}
	must(t, disk.Mkdir("a"))
	for _, name := range []string{"b", "c"} {
		if err := disk.Mkdir(name); !errors.Is(err, ErrStopped) {
			t.Errorf("mkdir %s: %v", name, err)
		}
	}
	after := disk.Clone()
	if infos, err := after.ReadDir("."); err != nil || len(infos) != 1 || !disk.Stopped() || after.Stopped() {
		t.Errorf("%d folders, %v", len(infos), err)
	}
}

// TestSkippedSyncSaysFineAndDoesNothing: what planted mistakes are made of.
func TestSkippedSyncSaysFineAndDoesNothing(t *testing.T) {
	disk := New()
	disk.Skip = func(call string) bool { return call == "sync f" }
	write(t, disk, "f", "x", true)
	write(t, disk, "g", "y", true)
	must(t, disk.SyncDir("."))
	want(t, "lost", disk.Cut(lost), "f=", "g=y")
}

// TestCloneGoesItsOwnWay: neither disk sees what is done to the other.
func TestCloneGoesItsOwnWay(t *testing.T) {
	disk := New()
	write(t, disk, "f", "x", true)
	must(t, disk.Link("f", "g"))
	other := disk.Clone()
	must(t, other.Damage("f", func(b []byte) []byte { b[0] = 'z'; return b }))
	must(t, disk.Remove("g"))
	want(t, "the one", disk, "f=x")
	want(t, "the other, whose names are of one file", other, "f=z", "g=z")
	must(t, other.Damage("f", func([]byte) []byte { return nil }))
	want(t, "the other", other, "g=z")
	if err := other.Damage("f", func(b []byte) []byte { return b }); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("damage what is gone: %v", err)
	}
}

// TestCrashByLotHasAllFates: kept, lost and torn all occur.
func TestCrashByLotHasAllFates(t *testing.T) {
	disk := New()
	write(t, disk, "f", "abcdefgh", false)
	seen := map[string]bool{}
	for seed := range uint64(200) {
		state := "gone"
		for _, n := range disk.Crash(rand.New(rand.NewPCG(seed, 1))).Files() {
			state = map[bool]string{true: "torn", false: string(n.Data)}[slices.Contains(n.Data, 0)]
		}
		seen[state] = true
	}
	for _, state := range []string{"gone", "", "abcdefgh", "torn"} {
		if !seen[state] {
			t.Errorf("never %q in 200 crashes", state)
		}
	}
}
