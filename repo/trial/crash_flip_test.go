package trial_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/mem"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/parity"
	"holdfast/repo/seal"
)

// archive is a repository in the middle of its maintenance: the newest entry of
// the ledger names runs, points and a batch of condemned packs that waits for
// an open session; a tombstone and a label lie there.
type archive struct {
	*site
	store    *mem.Backend
	keys     *seal.Keys
	exhibits map[string]string // what → object
}

func newArchive(t testing.TB, profile string) *archive {
	t.Helper()
	ctx := t.Context()
	store := newStore()
	s := newSite(store, 99)
	s.notes["parity"] = profile
	p := s.process(store, "")
	must(t, then(founded(1), noted("old"), backedUp("vm/c", dayTwo), pruned, backedUp(vmB, other), pruned, pruned)(ctx, p))
	far := s.fork(store, 98)
	far.locks = &lockTable{held: map[string]*process{}}
	open := far.process(store, "")
	must(t, open.with(ctx, func(r *repo.Repository) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // its heart stops; nobody knows that yet
		_, _, err := open.upload(ctx, r, "vm/far", dayOne)
		return err
	}))
	must(t, then(backedUp(vmA, dayThree), dropped("old"), dropped(vmB), pruned, backedUp(vmA, dayTwo), labelled, noted("kept"), backedUp(vmB, other), dropped(vmB))(ctx, p))
	must(t, store.Sync(ctx))
	a := &archive{site: s, store: store, exhibits: map[string]string{}}
	must(t, p.with(ctx, func(r *repo.Repository) error {
		found, err := p.newAudit(ctx, r)
		if err != nil {
			return err
		}
		if len(found.entry.Runs) == 0 || len(found.entry.Condemned) == 0 || len(found.entry.Open) == 0 || len(found.entry.Points) == 0 {
			t.Fatalf("the ledger has nothing to show: %+v", found.entry)
		}
		a.exhibits["run"], a.keys = found.entry.Runs[0], found.Keys
		return nil
	}))
	for what, prefix := range map[string]string{"ledger": ledger.Ledgers, "tombstone": ledger.Forgets, "label": ledger.Labels} {
		names, err := objects(ctx, store, prefix)
		must(t, err)
		a.exhibits[what] = names[len(names)-1]
	}
	return a
}

// worthFlipping are bits of an object: all of them in a long run; else some of
// every field of its headers, its sealed bytes at both ends, and the rest.
func worthFlipping(object []byte, step int) []int {
	if long() {
		step = 1
	}
	var bits []int
	tail := len(object) - parity.PageBytes
	for at := range object {
		dense := at < 40 || at >= tail && at < tail+40 || at >= parity.PageBytes && at < parity.PageBytes+24 || at%parity.PageBytes == parity.PageBytes-1
		for bit := range 8 {
			if n := at*8 + bit; long() || bit == at%8 && (dense && at%step == 0 || at%(512*step) == 0) {
				bits = append(bits, n)
			}
		}
	}
	return bits
}

// TestFlippedBitInAWordOfMaintenance: T4. No bit of the ledger, of a run, of a
// tombstone or of a label makes a reader miss a point or a prune take one.
// Within parity nobody notices but check; without parity, whoever needs the
// object says so by its name and changes nothing.
func TestFlippedBitInAWordOfMaintenance(t *testing.T) {
	for _, profile := range []string{"standard", "off"} {
		a := newArchive(t, profile)
		for what, name := range a.exhibits {
			t.Run(profile+"/"+what, func(t *testing.T) {
				whole, err := backend.Whole(t.Context(), a.store, name)
				must(t, err)
				refused, bits := 0, worthFlipping(whole, 5)
				for _, bit := range bits {
					no, err := a.hurt(t.Context(), name, func(b []byte) []byte { b[bit/8] ^= 1 << (bit % 8); return b }, profile == "standard")
					if err != nil {
						t.Fatalf("bit %d: %v", bit, err)
					}
					if no {
						refused++
					}
				}
				if needed := what == "ledger" || what == "run"; (refused > 0) != (needed && profile == "off") {
					t.Errorf("prune refused %d of %d flips", refused, len(bits))
				}
				t.Logf("%d bits, prune refused %d", len(bits), refused)
			})
		}
	}
}

// TestEveryBitOfAWordOfMaintenance: T4, of the objects themselves, all bits.
// Whoever opens one with a flipped bit gets its very words or, without parity,
// an error that says damaged. (With parity those of the header and of the sealed
// bytes; the sums, the parity and the back page are alike in all kinds, and
// package pack flips them all.)
func TestEveryBitOfAWordOfMaintenance(t *testing.T) {
	kinds := map[string]parity.Kind{"ledger": parity.Ledger, "run": parity.Index, "tombstone": parity.Forget, "label": parity.Label}
	for _, profile := range []string{"standard", "off"} {
		a := newArchive(t, profile)
		for what, name := range a.exhibits {
			t.Run(profile+"/"+what, func(t *testing.T) {
				object, err := backend.Whole(t.Context(), a.store, name)
				must(t, err)
				words, healed, err := pack.OpenRecord(a.keys, name, kinds[what], bytes.Clone(object))
				if err != nil || healed {
					t.Fatalf("as it was: healed %v, %v", healed, err)
				}
				bits, refused := 0, 0
				for at := range object {
					if page := at / parity.PageBytes; profile == "standard" && !long() && page != 1 && at >= 128 {
						continue
					}
					for bit := range 8 {
						if testing.Short() && bit != at%8 {
							continue
						}
						object[at] ^= 1 << bit
						got, _, err := pack.OpenRecord(a.keys, name, kinds[what], object)
						object[at] ^= 1 << bit
						bits++
						if err != nil && (profile == "standard" || !errors.Is(err, pack.ErrDamaged)) || err == nil && !bytes.Equal(got, words) {
							t.Fatalf("bit %d of byte %d: %d bytes of %d, %v", bit, at, len(got), len(words), err)
						}
						if err != nil {
							refused++
						}
					}
				}
				if refused == 0 && profile == "off" {
					t.Error("no bit mattered")
				}
				t.Logf("%d bytes, %d bits flipped, %d refused", len(object), bits, refused)
			})
		}
	}
}

// TestLostWordOfMaintenance: T5. The object is damaged beyond its parity, cut
// short, empty, or gone.
func TestLostWordOfMaintenance(t *testing.T) {
	a := newArchive(t, "standard")
	for what, name := range a.exhibits {
		for how, change := range map[string]func([]byte) []byte{
			"ruined": ruin, "gone": vanish,
			"halved": func(b []byte) []byte { return b[:len(b)/2] },
			"empty":  func([]byte) []byte { return []byte{} },
			"older":  func([]byte) []byte { return a.olderOf(t, name) },
		} {
			t.Run(what+"/"+how, func(t *testing.T) {
				refused, err := a.hurt(t.Context(), name, change, false)
				must(t, err)
				t.Logf("prune refused: %v", refused)
			})
		}
	}
}

// olderOf is what another object of the same kind holds, if there is one: what
// a place that swaps objects would give.
func (a *archive) olderOf(t *testing.T, name string) []byte {
	names, err := objects(t.Context(), a.store, name[:strings.Index(name, "/")+1])
	must(t, err)
	other, err := backend.Whole(t.Context(), a.store, names[0])
	must(t, err)
	if names[0] == name {
		return nil
	}
	return other
}

// hurt damages one object of a copy of the archive, lets readers and a prune
// meet it, and then holds against what was promised. mends: parity brings the
// object back, so nobody may refuse.
func (a *archive) hurt(ctx context.Context, name string, change func([]byte) []byte, mends bool) (refused bool, err error) {
	store := a.store.CrashClone(mem.CrashOptions{})
	whole, err := backend.Whole(ctx, store, name)
	if err != nil {
		return false, err
	}
	copies := []string{name}
	if strings.HasPrefix(name, ledger.Ledgers) && !mends {
		copies = append(copies, ledger.Spare(name)) // either alone stops nobody
	}
	for _, object := range copies {
		if err := store.Damage(object, change); err != nil {
			return false, err
		}
	}
	s := a.fork(store, 5)
	if strings.HasPrefix(name, ledger.Forgets) && !mends {
		s.gone = nil // the word that said so is lost
	}
	reader := s.process(store, "")
	defer reader.end()
	if err := a.readable(ctx, reader, name, mends); err != nil {
		return false, fmt.Errorf("read: %w", err)
	}
	before, err := kept(ctx, store)
	if err != nil {
		return false, err
	}
	pruneErr := reader.prune(ctx)
	after, err := kept(ctx, store)
	if err != nil {
		return false, err
	}
	if pruneErr != nil {
		if mends || !byName(pruneErr, name) {
			return true, fmt.Errorf("prune of a damaged word: %w", pruneErr)
		}
		if !slices.Equal(before, after) {
			return true, fmt.Errorf("prune refused (%w) and changed the place", pruneErr)
		}
	}
	// The damage is undone, where the object has not been removed since.
	for _, object := range copies {
		if _, err := store.Stat(ctx, object); err != nil && len(copies) == 1 {
			continue
		} else if err != nil { // the ledger has lost its end: nobody goes on until it is back
			if err := store.PutIfAbsent(ctx, object, whole); err != nil {
				return false, err
			}
		}
		if err := store.Damage(object, func([]byte) []byte { return bytes.Clone(whole) }); err != nil {
			return false, err
		}
	}
	if _, err := store.Stat(ctx, name); err != nil && strings.HasPrefix(name, ledger.Indexes) {
		if err := repaired(ctx, reader); err != nil {
			return false, err
		}
	}
	return pruneErr != nil, reader.keep(ctx, healable, false)
}

// kept are the objects that only a prune removes.
func kept(ctx context.Context, store backend.Backend) ([]string, error) {
	var all []string
	for _, prefix := range []string{ledger.Data, ledger.Meta, ledger.Indexes, ledger.Commits, ledger.Labels, ledger.Forgets} {
		names, err := objects(ctx, store, prefix)
		if err != nil {
			return nil, err
		}
		all = append(all, names...)
	}
	return all, nil
}

// byName: a refusal that tells which object is to blame.
func byName(err error, name string) bool {
	known := errors.Is(err, repo.ErrPruneBlocked) || errors.Is(err, pack.ErrDamaged) || errors.Is(err, pack.ErrTampered) || errors.Is(err, pack.ErrFormat)
	return known && strings.Contains(err.Error(), name[:strings.Index(name, "/")+1])
}

// readable: all points come back, whatever a word about them says, but for what
// only a lost run listed. A label that cannot be read is named and counts as a pin.
func (a *archive) readable(ctx context.Context, p *process, name string, mends bool) error {
	return p.with(ctx, func(r *repo.Repository) error {
		points, problems, err := r.Points(ctx)
		if err != nil {
			return err
		}
		for _, problem := range problems {
			if mends || problem.Object != name {
				return problem
			}
		}
		found := map[string]bool{}
		for _, e := range points {
			found[e.ID] = true
			want, ok := a.made[e.ID]
			if !ok {
				continue // forgotten, by a word that is lost
			}
			if p.pinned[e.ID] && !e.Pinned && strings.HasPrefix(name, ledger.Labels) == mends {
				return fmt.Errorf("the pin of %s is not seen", e.ID)
			}
			got, err := readBack(ctx, r, e.Point)
			if errors.Is(err, repo.ErrMissing) && strings.HasPrefix(name, ledger.Indexes) && !mends {
				continue // until a repair of the index
			}
			if err != nil || !bytes.Equal(got, want) {
				return fmt.Errorf("point %s came back different: %w", e.ID, err)
			}
		}
		for id := range a.made {
			if !found[id] {
				return fmt.Errorf("point %s is not listed", id)
			}
		}
		return nil
	})
}
