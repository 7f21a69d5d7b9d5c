package siege_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// farthest is the machine of which no prune knows anything: when it is slow, it is
// taken for dead while it lives.
const farthest = 3

const (
	imageBlocks  = 40 // 2.5 MiB
	keepLast     = 3
	deadAfter    = "3s"
	slowUpload   = 500 // KiB/s: others forget and prune while a backup lasts
	slowestOfAll = 150 // KiB/s: it lasts longer than deadAfter
	requestsMost = 40  // of a machine until its process is killed
	aheadMost    = 6   // backups that come to one prune
	// usualTime is how long the siege lasts unless it is told how many rounds.
	usualTime = 15 * time.Second
)

// siege is one repository and the machines that work on it.
type siege struct {
	book  *book
	seed  uint64
	hosts []*host
	gates []*gate

	mu   sync.Mutex
	news chan struct{} // closed when a process ended
}

// newSiege makes a repository in a bucket and as many machines, of which some
// share a cache directory: they are processes of one host.
func newSiege(t *testing.T, caches ...string) *siege {
	t.Helper()
	s := &siege{book: newBook(), seed: number(t, "HOLDFAST_SIEGE_SEED", uint64(time.Now().UnixNano())), news: make(chan struct{})}
	t.Logf("HOLDFAST_SIEGE_SEED=%d", s.seed)
	address, dir := gateway(t), t.TempDir()
	for i, cache := range caches {
		g := newGate(t, address)
		h := &host{path: program(t), dir: filepath.Join(dir, strconv.Itoa(i)), url: "s3:" + g.url + "/" + bucket + "/vault", cache: filepath.Join(dir, cache)}
		if err := os.Mkdir(h.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		s.hosts, s.gates = append(s.hosts, h), append(s.gates, g)
	}
	key := filepath.Join(dir, "key")
	if _, err := s.hosts[0].must(0, "init", "--disk-chunk", "64K", "--new-key-file", key); err != nil {
		t.Fatal(err)
	}
	for _, h := range s.hosts {
		h.key = key
	}
	return s
}

func (s *siege) rng(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(s.seed, stream)) }

// ended notes that a process ended: its outcome counts, and who waits looks.
func (s *siege) ended(what string) {
	s.book.count(what)
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.news)
	s.news = make(chan struct{})
}

// await waits until enough things have happened.
func (s *siege) await(ctx context.Context, enough func() bool) error {
	for {
		s.mu.Lock()
		news := s.news
		s.mu.Unlock()
		if enough() {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// run is one process of a machine. Of those that were not killed each must have
// succeeded, or say why not in one of the words allowed.
func (s *siege) run(h *host, what string, allowed string, args ...string) (ended, error) {
	e, err := h.run(args...)
	switch {
	case err != nil:
		return e, err
	case e.shot:
		s.ended(what + " killed")
	case e.code == 0:
		s.ended(what)
	case allowed != "" && strings.Contains(e.err, allowed):
		s.ended(what + " refused")
	default:
		return e, errors.New(e.String())
	}
	return e, nil
}

// backUp backs up one image again and again.
func (s *siege) backUp(ctx context.Context, i int) error {
	h, rng, source := s.hosts[i], s.rng(uint64(i)), fmt.Sprintf("image/w%d", i)
	d := newDisk(filepath.Join(h.dir, "disk.raw"), s.seed+uint64(i), imageBlocks)
	for {
		// Prunes are slower than backups: they must have their share.
		err := s.await(ctx, func() bool { return s.book.happened("backups") < aheadMost*(2+s.book.happened("prunes")) })
		if err != nil {
			return nil
		}
		sum, err := d.change()
		if err != nil {
			return err
		}
		nth := s.book.begin(source, sum)
		args := []string{"backup", "image", d.path, "--name", strings.TrimPrefix(source, "image/"), "--json"}
		if limit := slowUpload; nth > 1 && rng.IntN(5) == 0 {
			if i == farthest {
				limit = slowestOfAll
			}
			args = append(args, "--limit-upload", strconv.Itoa(limit))
		}
		e, err := s.run(h, "backups", "the session was declared dead meanwhile", args...)
		if err != nil {
			return err
		}
		made := summaries(e.out)
		if e.code == 0 && len(made) != 1 {
			return fmt.Errorf("a backup that names %d points: %s", len(made), e)
		}
		for _, m := range made { // what was said before the shot was said
			s.book.report(m.Point, source, nth, sum)
		}
		if rng.IntN(3) > 0 {
			continue
		}
		if err := s.readBack(h, rng); err != nil {
			return err
		}
	}
}

// readBack restores some point while others write and prune.
func (s *siege) readBack(h *host, rng *rand.Rand) error {
	id, want := s.book.any(rng, standing)
	if id == "" {
		return nil
	}
	got, e, err := restored(h, id)
	switch {
	case err != nil:
		return err
	case e.shot:
		s.ended("restores killed")
	case e.code != 0:
		s.book.doubt(id, errors.New(e.String()))
		s.ended("restores in doubt")
	case got != want:
		return fmt.Errorf("point %s came back different", id)
	default:
		s.ended("restores")
	}
	return nil
}

// restored restores a point to a file and returns the sum of it.
func restored(h *host, id string) (sum, ended, error) {
	path := filepath.Join(h.dir, "back.raw")
	e, err := h.run("restore", "disk", id, "-o", path, "--overwrite")
	if err != nil || e.code != 0 {
		return "", e, err
	}
	data, err := os.ReadFile(path)
	return sumOf(data), e, err
}

// summary is a line of backup --json or copy --json that tells of a point.
type summary struct {
	MessageType string `json:"message_type"`
	Point, From string
}

// summaries finds the points that a backup or a copy reports.
func summaries(out string) []summary {
	var all []summary
	for line := range strings.Lines(out) {
		var m summary
		if json.Unmarshal([]byte(line), &m) == nil && m.MessageType == "summary" && m.Point != "" {
			all = append(all, m) // of a line that was cut off nobody has heard
		}
	}
	return all
}

// prune forgets and prunes again and again.
func (s *siege) prune(ctx context.Context, i int) error {
	h, rng := s.hosts[i], s.rng(uint64(i))
	const contended = "other pruners were faster"
	for ctx.Err() == nil {
		if err := s.forget(h, rng); err != nil {
			return err
		}
		args := [][]string{
			{"prune", "--dead-after", deadAfter},
			{"prune", "--dead-after", deadAfter, "--max-unused", "0%"},
			{"prune", "--dead-after", deadAfter, "--max-unused", "0%", "--max-repack", "1M"},
			{"prune", "--dead-after", deadAfter, "--max-unused", "unlimited"},
		}[rng.IntN(4)]
		if _, err := s.run(h, "prunes", contended, args...); err != nil {
			return err
		}
	}
	return nil
}

// forget drops old points by a policy, or some point by its id.
func (s *siege) forget(h *host, rng *rand.Rand) error {
	if rng.IntN(4) == 0 {
		id, _ := s.book.any(rng, standing)
		if id == "" {
			return nil
		}
		s.book.release(id)
		_, err := s.run(h, "forgets", "no such recovery point", "forget", id)
		return err
	}
	e, err := s.run(h, "forgets", "", "forget", "--keep-last", strconv.Itoa(keepLast), "--json")
	if err != nil {
		return err
	}
	if e.code != 0 {
		s.book.releaseOld("", keepLast)
		return nil
	}
	return s.book.judged(keepLast, e.out)
}

// kill kills one process a round. Between two rounds some of them come to their
// end. ctx ends the siege if rounds is 0.
func (s *siege) kill(ctx context.Context, rounds int, log func(string, ...any)) error {
	rng := s.rng(99)
	for round := 1; rounds == 0 || round <= rounds; round++ {
		backups := s.book.happened("backups")
		if err := s.await(ctx, func() bool { return s.book.happened("backups") >= backups+2 }); err != nil {
			return err
		}
		for what := ""; what == ""; {
			i := rng.IntN(len(s.hosts))
			trap := s.gates[i].arm(rng, 1+rng.IntN(requestsMost), s.hosts[i].shoot)
			select {
			case what = <-trap.fired:
			case <-ctx.Done():
				s.gates[i].disarm()
				return ctx.Err()
			}
			log("round %d: machine %d killed %s", round, i, what)
		}
		s.book.count("rounds")
	}
	return nil
}

// TestFourBackupsTwoPrunesAndAKillEveryFewSeconds: each point that was reported
// and that nobody forgot restores bit-exactly, so does what else is listed, and
// two last prunes leave nothing that no point needs. HOLDFAST_SIEGE_ROUNDS says
// for how many kills it lasts; without it the siege lasts usualTime.
func TestFourBackupsTwoPrunesAndAKillEveryFewSeconds(t *testing.T) {
	// Prunes of the first two caches know at once which sessions of theirs are
	// dead; of the third cache nobody knows, and only silence tells.
	s := newSiege(t, "a", "a", "b", "c", "a", "b")
	rounds := int(number(t, "HOLDFAST_SIEGE_ROUNDS", 0))
	limit := usualTime
	if rounds > 0 {
		limit = time.Hour
	}
	began := time.Now()
	ctx, stop := context.WithTimeout(t.Context(), limit)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	for i := range 4 {
		group.Go(func() error { return s.backUp(ctx, i) })
	}
	for i := range 2 {
		group.Go(func() error { return s.prune(ctx, 4+i) })
	}
	group.Go(func() error {
		defer stop()
		if err := s.kill(ctx, rounds, t.Logf); rounds > 0 || !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		return nil
	})
	err := group.Wait()
	t.Logf("%.0f s: %s", time.Since(began).Seconds(), s.book.counts())
	if err != nil {
		t.Fatal(err)
	}
	if s.book.happened("rounds") == 0 {
		t.Error("nothing was killed")
	}
	wantWhole(t, s.book, s.hosts...)
}

// wantWhole is the end of a siege: all that was promised is there after two last
// prunes, and they leave nothing else.
func wantWhole(t *testing.T, b *book, hosts ...*host) {
	t.Helper()
	first, second := hosts[len(hosts)-1], hosts[0]
	// Of a process that died elsewhere only its silence tells, by the clock of the
	// store, which counts in seconds.
	<-time.After(2100 * time.Millisecond)
	for _, h := range []*host{first, second} {
		if _, err := h.must(0, "prune", "--max-unused", "0%", "--dead-after", "1s"); err != nil {
			t.Fatal(err)
		}
	}
	e, err := second.must(0, "prune", "--dry-run", "--max-unused", "0%", "--json")
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{`"packs_removed":0`, `"packs_repacked":0`, `"packs_waiting":0`, `"open":[]`, `"bytes_unused":0`} {
		if !strings.Contains(e.out, word) {
			t.Errorf("after two last prunes a third would find: %s", e)
		}
	}
	if err := wantTidy(t.Context(), second.url, second.key); err != nil {
		t.Errorf("after two last prunes: %v", err)
	}
	wantBook(t, b, hosts)
	wantSound(t, second)
}

// wantSound: a check of all data is clean. What is kept twice may lie there once,
// where who wrote it was killed between the two: then a scrub mends that.
func wantSound(t *testing.T, h *host) {
	t.Helper()
	e, err := h.run("check", "--read-data")
	if err == nil && e.code == 3 {
		for line := range strings.Lines(e.err) {
			if strings.Contains(line, "holdfast scrub") && !strings.Contains(line, "missing; its copy is there") && !strings.HasPrefix(line, "hint:") {
				t.Errorf("check: %s", e)
			}
		}
		if _, err := h.must(3, "scrub", "--heal"); err != nil { // 3: it found and healed
			t.Error(err)
		}
		e, err = h.run("check", "--read-data")
	}
	if err != nil || e.code != 0 {
		t.Errorf("check: %v %s", err, e)
	}
}

// wantBook: the repository holds what the book says. The machines share the work.
func wantBook(t *testing.T, b *book, hosts []*host) {
	t.Helper()
	e, err := hosts[0].must(0, "points", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var points []listed
	if err := json.Unmarshal([]byte(e.out), &points); err != nil {
		t.Fatal(err)
	}
	var group errgroup.Group
	for i, h := range hosts {
		group.Go(func() error {
			for j := i; j < len(points); j += len(hosts) {
				got, e, err := restored(h, points[j].ID)
				if err == nil && e.code != 0 {
					err = errors.New(e.String())
				}
				points[j].got, points[j].err = got, err
			}
			return nil
		})
	}
	_ = group.Wait() // each point has its error
	if err := b.settle(points); err != nil {
		t.Error(err)
	}
}
