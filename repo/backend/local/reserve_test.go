package local

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"holdfast/repo/backend"
	"holdfast/repo/backend/local/localtest"
)

// fullDisk is a strict file system of so many bytes with a backend that has
// filled it with small packs.
func fullDisk(t *testing.T, room int64) (*localtest.FS, *Backend, int) {
	t.Helper()
	disk := localtest.New()
	disk.Room = room
	b := Over(disk, "strict", Options{ReserveBytes: 300})
	return disk, b, fill(t, b)
}

// fill puts packs until the disk is full and returns how many it took.
func fill(t *testing.T, b *Backend) int {
	t.Helper()
	for i := 0; ; i++ {
		if err := b.Put(t.Context(), fmt.Sprintf("data/s/%d", i), make([]byte, 40)); err != nil {
			wantErr(t, "put on a full disk", err, backend.ErrNoSpace)
			must(t, b.Sync(t.Context()))
			return i
		}
	}
}

// prune writes more than a full disk has room for, then frees some.
func prune(t *testing.T, b *Backend, packs int) error {
	t.Helper()
	err := errors.Join(
		b.PutIfAbsent(t.Context(), "ledger/00000001", make([]byte, 60)),
		b.Put(t.Context(), "index/s/0", make([]byte, 60)),
		b.Sync(t.Context()))
	if err != nil {
		return err
	}
	for i := range packs {
		err = errors.Join(err, b.Delete(t.Context(), fmt.Sprintf("data/s/%d", i)))
	}
	return errors.Join(err, b.Sync(t.Context()))
}

// TestOrdinaryWritesNeverUseTheReserve: it stands while the disk is full, and
// what could not be written left nothing behind.
func TestOrdinaryWritesNeverUseTheReserve(t *testing.T) {
	disk, b, packs := fullDisk(t, 1000)
	if packs < 5 || !b.reserveStands() {
		t.Fatalf("%d packs fit, reserve stands: %v", packs, b.reserveStands())
	}
	wantErr(t, "put new", b.PutIfAbsent(t.Context(), "ledger/00000001", make([]byte, 60)), backend.ErrNoSpace)
	wantErr(t, "prune without the reserve", prune(t, b, packs), backend.ErrNoSpace)
	if !b.reserveStands() {
		t.Error("the reserve is gone")
	}
	must(t, b.Close())
	if left := litter(disk); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestFullDiskIsPrunedWithTheReserve: after a kill in the middle of a write
// that took the last room, by a process that had done nothing before.
func TestFullDiskIsPrunedWithTheReserve(t *testing.T) {
	for _, hollow := range []bool{false, true} {
		t.Run(fmt.Sprintf("written=%v", hollow), func(t *testing.T) {
			disk := localtest.New()
			disk.Room, disk.Hollow = 1200, hollow
			dead := Over(disk, "strict", Options{ReserveBytes: 300})
			packs := fill(t, dead)
			must(t, dead.Delete(t.Context(), "data/s/0"))
			if _, _, err := dead.writeTemp(t.Context(), make([]byte, 40)); err != nil {
				t.Fatal(err)
			}
			disk.Kill()

			b := Over(disk, "strict", Options{ReserveBytes: 300})
			must(t, b.UseReserve(t.Context()))
			must(t, b.UseReserve(t.Context())) // twice is no error
			must(t, prune(t, b, packs))
			if missing, err := b.Refill(t.Context()); missing != 0 || err != nil || !b.reserveStands() {
				t.Errorf("refill: %d missing, %v", missing, err)
			}
			must(t, b.Close())
			if left := litter(disk); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// TestRefillWithoutRoomIsAWarning: and the next process that finds room has it.
func TestRefillWithoutRoomIsAWarning(t *testing.T) {
	disk, b, packs := fullDisk(t, 1000)
	must(t, b.UseReserve(t.Context()))
	more := fill(t, b) // rewrites the first ones, then takes what the reserve had
	if more <= packs {
		t.Fatalf("%d packs fit without the reserve, %d with it", more, packs)
	}
	if missing, err := b.Refill(t.Context()); missing != 300 || err != nil {
		t.Errorf("refill: %d missing, %v", missing, err)
	}
	if n, err := disk.Find(b.work.dir); err != nil || len(n.Kids) != 1 { // its lock
		t.Errorf("a reserve that did not fit holds room: %v, %v", n, err)
	}
	must(t, b.Close())
	if left := litter(disk); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	next := Over(disk, "strict", Options{ReserveBytes: 300})
	for i := range more {
		must(t, next.Delete(t.Context(), fmt.Sprintf("data/s/%d", i)))
	}
	must(t, next.PutIfAbsent(t.Context(), "ledger/00000001", nil))
	if !next.reserveStands() {
		t.Error("there is room, and no reserve")
	}
}

// TestReserveThatStandsCostsOneLook: no rewriting in each run.
func TestReserveThatStandsCostsOneLook(t *testing.T) {
	disk := localtest.New()
	must(t, Over(disk, "strict", Options{ReserveBytes: 300}).Put(t.Context(), "a", nil))
	disk.Calls = nil
	b := Over(disk, "strict", Options{ReserveBytes: 300})
	must(t, b.Put(t.Context(), "b", nil))
	if missing, err := b.Refill(t.Context()); missing != 0 || err != nil {
		t.Errorf("refill: %d missing, %v", missing, err)
	}
	var touched []string
	for _, c := range disk.Calls {
		if strings.Contains(c, "reserve") || strings.HasPrefix(c, "allocate") {
			touched = append(touched, c)
		}
	}
	if len(touched) != 2 {
		t.Errorf("calls for the reserve: %q, want two looks", touched)
	}
	for _, c := range touched {
		if !strings.HasPrefix(c, "lstat") {
			t.Errorf("a reserve that stands costs %q", c)
		}
	}
}

// TestReserveInUseIsNotTakenBackByAnother: a backup that starts during a prune
// of a full disk leaves the room to it, and the next one after it does not.
func TestReserveInUseIsNotTakenBackByAnother(t *testing.T) {
	disk := localtest.New()
	pruner := Over(disk, "strict", Options{ReserveBytes: 300})
	must(t, pruner.Put(t.Context(), "a", nil))
	must(t, pruner.UseReserve(t.Context()))
	other := Over(disk, "strict", Options{ReserveBytes: 300})
	must(t, other.Put(t.Context(), "b", nil))
	if missing, err := other.Refill(t.Context()); missing != 0 || err != nil || other.reserveStands() {
		t.Errorf("refill by another: %d missing, %v, stands %v", missing, err, other.reserveStands())
	}
	must(t, pruner.Close()) // without Refill: it failed, say
	after := Over(disk, "strict", Options{ReserveBytes: 300})
	must(t, after.Put(t.Context(), "c", nil))
	if !after.reserveStands() {
		t.Error("the next process does not make the reserve")
	}
}

// TestReserveInUseStaysFreeWithoutItsLock: where there was no room for that.
func TestReserveInUseStaysFreeWithoutItsLock(t *testing.T) {
	disk := localtest.New()
	must(t, Over(disk, "strict", Options{ReserveBytes: 300}).Put(t.Context(), "a", nil))
	disk.Kill()
	b := Over(disk, "strict", Options{ReserveBytes: 300})
	disk.Arm = func(call string) {
		if call == "lock "+reserveLockName {
			disk.Fault = localtest.Fault{At: len(disk.Calls), Err: syscall.ENOSPC}
		}
	}
	must(t, b.UseReserve(t.Context()))
	disk.Arm = nil
	must(t, b.Put(t.Context(), "b", nil))
	if b.reserveStands() {
		t.Error("the process that uses the reserve has taken it back")
	}
}

// TestUseReserveClearsUpAfterWhoDiedSince: a process that has its folder
// already looks again.
func TestUseReserveClearsUpAfterWhoDiedSince(t *testing.T) {
	disk := localtest.New()
	dead := Over(disk, "strict", Options{ReserveBytes: -1})
	temp, _, err := dead.writeTemp(t.Context(), make([]byte, 400))
	must(t, err)
	b := Over(disk, "strict", Options{ReserveBytes: -1})
	must(t, b.Put(t.Context(), "a", nil))
	if _, err := disk.Find(temp); err != nil {
		t.Fatalf("the living one's file: %v", err)
	}
	must(t, dead.work.lock.Close()) // its death
	must(t, b.UseReserve(t.Context()))
	if _, err := disk.Find(temp); err == nil {
		t.Error("the dead one's unfinished write still takes room")
	}
}

// TestReserveOfNoBytes: who wants none has none.
func TestReserveOfNoBytes(t *testing.T) {
	disk := localtest.New()
	b := Over(disk, "strict", Options{ReserveBytes: -1})
	must(t, b.Put(t.Context(), "a", nil))
	must(t, b.UseReserve(t.Context()))
	missing, err := b.Refill(t.Context())
	if _, found := disk.Find(reserveName); missing != 0 || err != nil || found == nil {
		t.Errorf("refill: %d missing, %v; reserve found: %v", missing, err, found == nil)
	}
	must(t, b.Close())
	wantErr(t, "use after close", b.UseReserve(t.Context()), errClosed)
	if _, err := b.Refill(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("refill after close: %v", err)
	}
}

// TestReserveSurvivesEachFault: whatever call fails in a prune that uses the
// reserve, in each way, nothing that was there is lost, nothing is left behind
// but what the failing call itself left, and the next process makes it good.
func TestReserveSurvivesEachFault(t *testing.T) {
	kept := map[string][]string{"config": {"cfg"}, "ledger/0": {"l0"}}
	play := func(disk *localtest.FS) (missing int64, err error) {
		b := Over(disk, "strict", Options{ReserveBytes: testReserve})
		err = b.UseReserve(t.Context())
		err = errors.Join(err, b.PutIfAbsent(t.Context(), "ledger/1", bulk("l1")), b.Delete(t.Context(), "data/old/a"), b.Sync(t.Context()))
		missing, rerr := b.Refill(t.Context())
		return missing, errors.Join(err, rerr, b.Close())
	}
	for _, hollow := range []bool{false, true} {
		dry := prepare(t)
		dry.Hollow = hollow
		if missing, err := play(dry); missing != 0 || err != nil {
			t.Fatalf("without a fault: %d missing, %v", missing, err)
		}
		if n := countCalls(dry, "remove "+reserveName); n < 2 { // the file and its lock
			t.Fatalf("the reserve was not used: %q", dry.Calls)
		}
		for _, fault := range []localtest.Fault{{Err: syscall.EIO}, {Err: syscall.EIO, Done: true}, {Err: syscall.ENOSPC}, {Err: syscall.EROFS}, {Err: localtest.ErrShort, Part: true}} {
			for at := range dry.Calls {
				disk := prepare(t)
				disk.Hollow = hollow
				disk.Fault = fault
				disk.Fault.At = at + 1
				missing, err := play(disk)
				if missing != 0 && missing != testReserve {
					t.Errorf("fault at %q: %d bytes missing, %v", disk.Hit, missing, err)
				}
				if err := check(disk, kept, nil); err != nil {
					t.Errorf("fault at %q: %v", disk.Hit, err)
				}
				disk.Kill()
				recovers(t, disk)
			}
		}
	}
}

// TestForgetOnAFullDiskSpendsOnlyWhatItNeeds: what one tombstone did not need is kept
// again, though all of the reserve does not fit any more, so that after others
// have taken every block that is free the next one has room, too, and the prune
// after them; and once there is room, all of it is kept again.
func TestForgetOnAFullDiskSpendsOnlyWhatItNeeds(t *testing.T) {
	const whole = 16 * reservePiece
	disk := localtest.New()
	disk.Room = whole + 4*reservePiece
	full := func(round int) {
		others := Over(disk, "strict", Options{ReserveBytes: -1})
		for size := 1 << 20; size > 0; size /= 2 {
			for i := 0; others.Put(t.Context(), fmt.Sprintf("data/others/%d-%d-%d", round, size, i), make([]byte, size)) == nil; i++ {
			}
		}
		must(t, others.Close())
	}
	first := Over(disk, "strict", Options{ReserveBytes: whole})
	must(t, first.Put(t.Context(), "config", nil))
	must(t, first.Close())
	for round := range 8 {
		full(round)
		b := Over(disk, "strict", Options{ReserveBytes: whole})
		name := fmt.Sprintf("forget/s/%d", round)
		wantErr(t, "forget without the reserve", b.PutIfAbsent(t.Context(), name, make([]byte, 20_000)), backend.ErrNoSpace)
		must(t, b.UseReserve(t.Context()))
		must(t, b.PutIfAbsent(t.Context(), name, make([]byte, 20_000)))
		missing, err := b.Refill(t.Context())
		if kept, least := b.reserveBytes(), int64(whole-(round+1)*reservePiece); err != nil || kept+missing != whole || kept < least {
			t.Fatalf("forget %d left %d bytes of the reserve, not %d; %d are missing, %v", round, kept, least, missing, err)
		}
		must(t, b.Close())
	}
	full(8)
	b := Over(disk, "strict", Options{ReserveBytes: whole})
	must(t, b.UseReserve(t.Context()))
	must(t, b.PutIfAbsent(t.Context(), "ledger/00000001", make([]byte, 60_000)))
	must(t, b.List(t.Context(), "data/", func(info backend.Info) error { return b.Delete(t.Context(), info.Name) }))
	must(t, b.Sync(t.Context()))
	if missing, err := b.Refill(t.Context()); missing != 0 || err != nil || !b.reserveStands() {
		t.Errorf("after the prune %d bytes of the reserve are missing, %v", missing, err)
	}
	must(t, b.Close())
	if left := litter(disk); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestCloseTakesTheReserveAgain: a process that found no room for it as it began,
// and made some, does not leave that to the next one.
func TestCloseTakesTheReserveAgain(t *testing.T) {
	disk := localtest.New()
	disk.Room = 1000
	b := Over(disk, "strict", Options{ReserveBytes: -1})
	packs := fill(t, b)
	must(t, b.Delete(t.Context(), "data/s/0"))
	must(t, b.Close())
	pruner := Over(disk, "strict", Options{ReserveBytes: 300})
	must(t, pruner.Put(t.Context(), "index/s/0", nil))
	if pruner.reserveStands() {
		t.Fatal("the disk is not full")
	}
	for i := range packs {
		must(t, pruner.Delete(t.Context(), fmt.Sprintf("data/s/%d", i)))
	}
	must(t, pruner.Close())
	if !Over(disk, "strict", Options{ReserveBytes: 300}).reserveStands() {
		t.Error("there was room as the prune ended, and no reserve was kept")
	}
}
