package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// cannotMount is how the child says that this machine does not let it.
const cannotMount = "cannot mount"

// TestFullDiskIsPrunedAfterKill9: on a file system of 40 MiB that is full to
// the last page, a writer killed in the middle included, the reserve makes room
// for maintenance. The child has a mount namespace of its own, so that the
// file system ends with it.
func TestFullDiskIsPrunedAfterKill9(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	run := func(attr *syscall.SysProcAttr) error {
		out.Reset()
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=full 0 %s", roleVariable, dir))
		cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = &out, &out, attr
		return cmd.Run()
	}
	err := run(&syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS})
	if err != nil && (strings.Contains(out.String(), cannotMount) || errors.Is(err, unix.EPERM)) {
		err = run(&syscall.SysProcAttr{ // without root: root of a user namespace
			Cloneflags:  unix.CLONE_NEWNS | unix.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		})
	}
	if err != nil && (strings.Contains(out.String(), cannotMount) || errors.Is(err, unix.EPERM)) {
		if os.Getenv("HOLDFAST_DEMAND_PARTS") == "1" && os.Getuid() == 0 {
			t.Fatalf("no small file system: %v: %s", err, &out)
		}
		t.Skipf("no small file system: %v: %s", err, &out)
	}
	if err != nil {
		t.Errorf("%v: %s", err, &out)
	}
}

// playFullDisk is the child.
func playFullDisk(ctx context.Context, dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("%s: %w", cannotMount, err)
	}
	if err := unix.Mount("holdfast-test", dir, "tmpfs", 0, "size=40m"); err != nil {
		return fmt.Errorf("%s: %w", cannotMount, err)
	}
	place := filepath.Join(dir, "repo")
	b, err := Create(ctx, place, Options{})
	if err != nil {
		return err
	}
	for i := range 20 {
		if err := b.Put(ctx, fmt.Sprintf("data/s/%d", i), make([]byte, 1<<20)); err != nil {
			return err
		}
	}
	if err := errors.Join(b.Sync(ctx), b.Close()); err != nil {
		return err
	}
	if err := killedWriter(place); err != nil {
		return err
	}
	return pruneFull(ctx, place)
}

// killedWriter fills the disk with an unfinished write and dies of SIGKILL.
func killedWriter(place string) error {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=stuff 0 %s", roleVariable, place))
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	defer input.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	_, rerr := out.Read(make([]byte, 6))
	kerr := cmd.Process.Kill()
	_ = cmd.Wait() // it was killed; that is the answer
	return errors.Join(rerr, kerr)
}

// pruneFull is what a prune does, in small.
func pruneFull(ctx context.Context, place string) error {
	var s unix.Statfs_t
	if err := unix.Statfs(place, &s); err != nil || s.Bavail != 0 {
		return fmt.Errorf("the disk is not full: %d blocks are free, %w", s.Bavail, err)
	}
	b, err := Open(ctx, place, Options{})
	if err != nil {
		return err
	}
	if err := b.UseReserve(ctx); err != nil {
		return err
	}
	steps := []error{
		b.PutIfAbsent(ctx, "ledger/00000001", make([]byte, 100_000)),
		b.Put(ctx, "index/s/0", make([]byte, 8<<20)),
		b.Sync(ctx),
	}
	for i := range 18 {
		steps = append(steps, b.Delete(ctx, fmt.Sprintf("data/s/%d", i)))
	}
	if err := errors.Join(append(steps, b.Sync(ctx))...); err != nil {
		return fmt.Errorf("prune: %w", err)
	}
	if missing, err := b.Refill(ctx); missing != 0 || err != nil {
		return fmt.Errorf("refill: %d bytes missing, %w", missing, err)
	}
	if !b.reserveStands() {
		return errors.New("refill made no reserve")
	}
	return b.Close()
}

// TestReserveHasBlocksOfItsOwn: what the file system only promised, or a copy
// has thinned out, is no reserve.
func TestReserveHasBlocksOfItsOwn(t *testing.T) {
	b := create(t, Options{})
	must(t, b.Put(t.Context(), "a", nil))
	path := filepath.Join(b.dir, filepath.FromSlash(reserveName))
	info, err := os.Stat(path)
	must(t, err)
	if info.Size() != reserveDefault || allocated(info) < reserveDefault {
		t.Fatalf("reserve has %d bytes in %d bytes of blocks", info.Size(), allocated(info))
	}
	must(t, b.Close())
	must(t, os.Truncate(path, 0))
	must(t, os.Truncate(path, reserveDefault)) // all of it a hole
	if info, err = os.Stat(path); err != nil || allocated(info) >= reserveDefault {
		t.Skipf("this file system does not say what blocks a file has (%v)", err)
	}
	next, err := Open(t.Context(), b.dir, Options{})
	must(t, err)
	defer next.Close()
	must(t, next.Put(t.Context(), "b", nil))
	if info, err = os.Stat(path); err != nil || allocated(info) < reserveDefault {
		t.Errorf("a hollow reserve was not filled: %v", err)
	}
}
