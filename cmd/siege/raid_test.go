package siege_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// usualKills is how often a process is killed at each place unless
// HOLDFAST_KILLS says how often at both together.
const usualKills = 30

// raid kills one command after the other on one repository, and looks each time
// whether all is still there.
type raid struct {
	*host
	gate  *gate // nil: a directory
	book  *book
	rng   *rand.Rand
	disk  *disk
	other *host // the repository to copy from
	away  *disk
	sums  map[string]sum // of the points there
	keys  []newKey
	spans map[string]int64 // requests, or nanoseconds, of a whole run
	kills int
}

// newKey is a key that was added.
type newKey struct{ id, file string }

const (
	raidSource = "image/w"
	farSource  = "image/far"
	farPoints  = 5
)

func newRaid(t *testing.T, dir, url string, g *gate) *raid {
	t.Helper()
	seed := number(t, "HOLDFAST_SIEGE_SEED", uint64(time.Now().UnixNano()))
	t.Logf("HOLDFAST_SIEGE_SEED=%d", seed)
	r := &raid{gate: g, book: newBook(), rng: rand.New(rand.NewPCG(seed, 1)), sums: map[string]sum{}, spans: map[string]int64{}}
	r.host = &host{path: program(t), dir: dir, url: url, cache: filepath.Join(dir, "cache")}
	r.other = &host{path: r.path, dir: dir, url: filepath.Join(dir, "other"), cache: r.cache}
	r.disk = newDisk(filepath.Join(dir, "w.raw"), seed, imageBlocks)
	r.away = newDisk(filepath.Join(dir, "far.raw"), seed+1, imageBlocks)
	for name, h := range map[string]*host{"key": r.host, "other.key": r.other} {
		key := filepath.Join(dir, name)
		if _, err := h.must(0, "init", "--disk-chunk", "64K", "--new-key-file", key); err != nil {
			t.Fatal(err)
		}
		h.key = key
	}
	return r
}

// deed is a command, and what the book learns from how it ended.
type deed struct {
	name string
	args []string
	note func(e ended) error
}

// deeds are the commands that are killed. One that has nothing to do now gives
// no args.
func (r *raid) deeds() []func() (deed, error) {
	return []func() (deed, error){r.backUp, r.backUp, r.forgetOne, r.forgetOld, r.prune, r.prune, r.repairIndex, r.addKey, r.removeKey, r.rotateKeys, r.copyPoints}
}

func (r *raid) backUp() (deed, error) {
	s, err := r.disk.change()
	nth := r.book.begin(raidSource, s)
	return deed{"backup", []string{"backup", "image", r.disk.path, "--name", "w", "--json"}, func(e ended) error {
		made := summaries(e.out)
		for _, m := range made {
			r.book.report(m.Point, raidSource, nth, s)
		}
		if e.code == 0 && len(made) != 1 {
			return fmt.Errorf("a backup that names %d points: %s", len(made), e)
		}
		return nil
	}}, err
}

// forgetOne drops a point by its id, rather one that was copied.
func (r *raid) forgetOne() (deed, error) {
	id, _ := r.book.any(r.rng, func(c *claim) bool { return standing(c) && c.source == farSource })
	if id == "" || r.rng.IntN(3) == 0 {
		id, _ = r.book.any(r.rng, standing)
	}
	if id == "" {
		return deed{}, nil
	}
	r.book.release(id)
	return deed{"forget", []string{"forget", id}, func(ended) error { return nil }}, nil
}

func (r *raid) forgetOld() (deed, error) {
	if id, _ := r.book.any(r.rng, func(c *claim) bool { return standing(c) && c.source == raidSource }); id == "" {
		return deed{}, nil // a source that has no points is unknown
	}
	return deed{"forget", []string{"forget", "--keep-last", strconv.Itoa(keepLast), "--source", raidSource, "--json"}, func(e ended) error {
		if e.code != 0 {
			r.book.releaseOld(raidSource, keepLast)
			return nil
		}
		return r.book.judged(keepLast, e.out)
	}}, nil
}

func (r *raid) prune() (deed, error) {
	args := []string{"prune", "--max-unused", "0%"}
	if r.rng.IntN(4) == 0 {
		args = append(args, "--reencrypt")
	}
	return deed{"prune", args, func(ended) error { return nil }}, nil
}

func (r *raid) repairIndex() (deed, error) {
	return deed{"repair index", []string{"repair", "index"}, func(ended) error { return nil }}, nil
}

func (r *raid) addKey() (deed, error) {
	file := filepath.Join(r.dir, fmt.Sprintf("%x.key", r.rng.Uint64()))
	return deed{"key add", []string{"key", "add", "--new-key-file", file, "--json"}, func(e ended) error {
		if e.code != 0 {
			return nil
		}
		var made struct{ ID string }
		err := json.Unmarshal([]byte(e.out), &made)
		r.keys = append(r.keys, newKey{made.ID, file})
		return err
	}}, nil
}

// removeKey takes the right of a key that was added; from the attempt on it need
// not open anything.
func (r *raid) removeKey() (deed, error) {
	if len(r.keys) < 3 {
		return deed{}, nil
	}
	i := r.rng.IntN(len(r.keys))
	id := r.keys[i].id
	r.keys = slices.Delete(r.keys, i, i+1)
	return deed{"key remove", []string{"key", "remove", id}, func(ended) error { return nil }}, nil
}

func (r *raid) rotateKeys() (deed, error) {
	return deed{"key rotate", []string{"key", "rotate"}, func(ended) error { return nil }}, nil
}

// copyPoints copies from the other repository, where there is one point more
// until there are enough; what was forgotten here is copied again.
func (r *raid) copyPoints() (deed, error) {
	if len(r.sums) < farPoints {
		s, err := r.away.change()
		if err != nil {
			return deed{}, err
		}
		r.book.begin(farSource, s)
		e, err := r.other.must(0, "backup", "image", r.away.path, "--name", "far", "--json")
		if err != nil {
			return deed{}, err
		}
		for _, m := range summaries(e.out) {
			r.sums[m.Point] = s
		}
	}
	return deed{"copy", []string{"copy", "--from-repo", r.other.url, "--from-key-file", r.other.key, "--json"}, func(e ended) error {
		for _, m := range summaries(e.out) {
			r.book.report(m.Point, farSource, 0, r.sums[m.From])
		}
		return nil
	}}, nil
}

// hit does a deed, and kills it at some moment of its life. It reports whether
// that came before the end.
func (r *raid) hit(d deed) (bool, error) {
	span := max(r.spans[d.name], 1)
	var e ended
	var err error
	if r.gate == nil {
		e, err = r.runFor(time.Duration(1+r.rng.Int64N(span)), d.args...)
	} else {
		tr := r.gate.arm(r.rng, 1+int(r.rng.Int64N(span)), r.shoot)
		e, err = r.run(d.args...)
		if !r.gate.disarm() {
			<-tr.fired
		}
	}
	switch {
	case err != nil:
		return false, err
	case !e.shot && e.code != 0:
		return false, errors.New(e.String())
	}
	return e.shot, d.note(e)
}

// finish does a deed to its end.
func (r *raid) finish(d deed) error {
	seen := int64(0)
	if r.gate != nil {
		seen = r.gate.seen.Load()
	}
	e, err := r.must(0, d.args...)
	if err != nil {
		return err
	}
	r.spans[d.name] = int64(e.life)
	if r.gate != nil {
		r.spans[d.name] = r.gate.seen.Load() - seen
	}
	return d.note(e)
}

// look restores a point that must be there, and opens the repository with a key
// that must open it.
func (r *raid) look() error {
	if id, want := r.book.any(r.rng, standing); id != "" {
		got, e, err := restored(r.host, id)
		if err != nil {
			return err
		}
		if e.code != 0 || got != want {
			return fmt.Errorf("point %s does not come back: %s", id, e)
		}
	}
	if len(r.keys) == 0 {
		return nil
	}
	key := r.keys[r.rng.IntN(len(r.keys))]
	with := &host{path: r.path, dir: r.dir, url: r.url, cache: r.cache, key: key.file}
	_, err := with.must(0, "points")
	return err
}

// round kills one deed, looks, and as often as not does it again to its end.
func (r *raid) round(begin func() (deed, error)) error {
	d, err := begin()
	if err != nil || d.args == nil {
		return err
	}
	if r.spans[d.name] == 0 {
		return r.finish(d)
	}
	shot, err := r.hit(d)
	if err != nil {
		return err
	}
	if shot {
		r.kills++
		r.book.count(d.name + " killed")
	}
	if err := r.look(); err != nil {
		return fmt.Errorf("after %s: %w", d.name, err)
	}
	if r.rng.IntN(8) == 0 {
		if err := os.RemoveAll(r.cache); err != nil {
			return err
		}
	}
	if r.rng.IntN(2) == 0 {
		return nil
	}
	if d, err = begin(); err != nil || d.args == nil {
		return err
	}
	return r.finish(d)
}

// raidOn kills until it is enough, and then all must be well.
func raidOn(t *testing.T, r *raid) {
	t.Helper()
	wanted := int(number(t, "HOLDFAST_KILLS", 2*usualKills) / 2)
	deeds := r.deeds()
	for r.kills < wanted {
		if err := r.round(deeds[r.rng.IntN(len(deeds))]); err != nil {
			t.Fatalf("after %d kills: %v", r.kills, err)
		}
	}
	t.Log(r.book.counts())
	wantWhole(t, r.book, r.host)
}

// TestKilledAtAnyMomentOnADirectory: whatever a process does when it is killed,
// all points that were reported stay, and what it left is tidied up.
func TestKilledAtAnyMomentOnADirectory(t *testing.T) {
	dir := t.TempDir()
	raidOn(t, newRaid(t, dir, filepath.Join(dir, "repository"), nil))
}

// TestKilledAtAnyMomentOnAnS3Server is the same in a bucket.
func TestKilledAtAnyMomentOnAnS3Server(t *testing.T) {
	g := newGate(t, gateway(t))
	raidOn(t, newRaid(t, t.TempDir(), "s3:"+g.url+"/"+bucket+"/vault", g))
}
