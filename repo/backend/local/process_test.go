package local

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"holdfast/repo/backend"
)

// The test binary runs itself with this variable set to play another process.
const roleVariable = "HOLDFAST_LOCAL_TEST_ROLE"

const (
	raceRounds    = 6
	raceWriters   = 64 // in each of raceProcesses
	raceProcesses = 4
)

func TestMain(m *testing.M) {
	role, dir, id := "", "", ""
	if _, err := fmt.Sscan(os.Getenv(roleVariable), &role, &id, &dir); err == nil {
		if err := play(role, id, dir); err != nil {
			fmt.Fprintln(os.Stderr, role, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// play is what the other processes do. Each says "ready" and then waits for its
// standard input to end.
func play(role, id, dir string) error {
	ctx := context.Background()
	if role == "full" {
		return playFullDisk(ctx, dir)
	}
	b, err := Open(ctx, dir, Options{})
	if err != nil {
		return err
	}
	switch role {
	case "hold":
		return hold(ctx, b)
	case "stuff":
		return stuff(b)
	}
	fmt.Println("ready")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return errors.Join(race(ctx, b, id), b.Close())
}

// race takes names against the other processes and prints each name won with
// the bytes that won it.
func race(ctx context.Context, b *Backend, id string) error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed error
	for w := range raceWriters {
		wg.Go(func() {
			for round := range raceRounds {
				name := fmt.Sprintf("commit/s/%d", round)
				mine := id + "." + fmt.Sprint(w)
				err := b.PutIfAbsent(ctx, name, []byte(mine))
				mu.Lock()
				switch {
				case err == nil:
					fmt.Println("won", name, mine)
				case !errors.Is(err, backend.ErrExists):
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return failed
}

// hold leaves an unfinished write lying about until it is killed.
func hold(ctx context.Context, b *Backend) error {
	temp, _, err := b.writeTemp(ctx, []byte("unfinished"))
	if err != nil {
		return err
	}
	fmt.Println("ready", filepath.Join(b.dir, filepath.Dir(temp)))
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// stuff writes, without end, what fills the disk, and waits to be killed.
func stuff(b *Backend) error {
	work, err := b.workspace()
	if err != nil {
		return err
	}
	f, err := b.disk.Create(work.temp())
	if err != nil {
		return err
	}
	for piece := make([]byte, 1<<20); len(piece) > 0; {
		n, err := f.Write(piece)
		if !noSpace(err) && err != nil {
			return err
		}
		if n < len(piece) {
			piece = piece[:len(piece)/2] // to the last byte
		}
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// process is another one, started and ready.
type process struct {
	cmd   *exec.Cmd
	input io.Closer
	lines *bufio.Scanner
	note  string // what came after "ready"
	errs  *bytes.Buffer
}

func start(t *testing.T, role, id, dir string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s", roleVariable, role, id, dir))
	p := &process{cmd: cmd, errs: &bytes.Buffer{}}
	cmd.Stderr = p.errs
	input, err := cmd.StdinPipe()
	must(t, err)
	p.input = input
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill() })
	p.lines = bufio.NewScanner(out)
	if !p.lines.Scan() || !strings.HasPrefix(p.lines.Text(), "ready") {
		t.Fatalf("%s is not ready: %q %s", role, p.lines.Text(), p.errs)
	}
	p.note = strings.TrimPrefix(strings.TrimPrefix(p.lines.Text(), "ready"), " ")
	return p
}

// TestPutIfAbsentHasOneWinnerAmongProcesses: 4 processes of 64 goroutines each.
func TestPutIfAbsentHasOneWinnerAmongProcesses(t *testing.T) {
	b := create(t, Options{})
	var procs []*process
	for i := range raceProcesses {
		procs = append(procs, start(t, "race", fmt.Sprint(i), b.dir))
	}
	for _, p := range procs {
		must(t, p.input.Close())
	}
	winners := map[string][]string{}
	for _, p := range procs {
		for p.lines.Scan() {
			f := strings.Fields(p.lines.Text())
			winners[f[1]] = append(winners[f[1]], f[2])
		}
		if err := p.cmd.Wait(); err != nil {
			t.Fatalf("racer: %v: %s", err, p.errs)
		}
	}
	if len(winners) != raceRounds {
		t.Errorf("%d names have winners, want %d", len(winners), raceRounds)
	}
	for name, who := range winners {
		got, err := b.Get(t.Context(), name, 0, -1)
		if err != nil || len(who) != 1 || string(got) != who[0] {
			t.Errorf("%s: winners %q, bytes %q, %v", name, who, got, err)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(b.dir, tempName)); err != nil || len(entries) != 1 || entries[0].Name() != "reserve" {
		t.Errorf("temporary folders left: %v, %v", entries, err)
	}
}

// TestUnfinishedWritesOfTheDeadAreRemovedOfTheLivingNot: only the death of its
// owner makes a temporary folder garbage.
func TestUnfinishedWritesOfTheDeadAreRemovedOfTheLivingNot(t *testing.T) {
	b := create(t, Options{})
	living, dying := start(t, "hold", "0", b.dir), start(t, "hold", "1", b.dir)
	must(t, b.Put(t.Context(), "a", nil)) // the first write clears up
	for _, p := range []*process{living, dying} {
		if _, err := os.Stat(filepath.Join(p.note, "lock")); err != nil {
			t.Fatalf("folder of a living process: %v", err)
		}
	}
	must(t, dying.cmd.Process.Kill())
	_ = dying.cmd.Wait() // it was killed; that is the answer

	next, err := Open(t.Context(), b.dir, Options{})
	must(t, err)
	defer next.Close()
	must(t, next.Put(t.Context(), "b", nil))
	if _, err := os.Stat(dying.note); !os.IsNotExist(err) {
		t.Errorf("folder of the dead process: %v", err)
	}
	if entries, err := os.ReadDir(living.note); err != nil || len(entries) < 2 {
		t.Errorf("folder of the living process: %v, %v", entries, err)
	}
	must(t, living.input.Close())
	must(t, living.cmd.Wait())
}
