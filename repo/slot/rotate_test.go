package slot

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"holdfast/repo/backend"
	"holdfast/repo/backend/fault"
	"holdfast/repo/backend/mem"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/parity"
	"holdfast/repo/seal"
)

// All keys go on working although whoever rotates knows one of them.
func TestEveryKeyOpensAfterRotation(t *testing.T) {
	be := mem.New()
	first, second := keyFile(t), keyFile(t)
	password, err := seal.NewPassword([]byte("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	k := made(t, be, first, second)
	if _, err := k.Add(t.Context(), New{Secret: password, KDF: seal.KDF{Time: 1, MemoryKiB: 8 << 10, Threads: 1}}); err != nil {
		t.Fatal(err)
	}
	before := k.Ring.Keys()
	done := rotated(t, opened(t, be, first))
	if done.Epoch != 2 || len(done.Keys) != 3 || len(done.LeftOut) != 0 || !done.Keys[0].Current || done.Keys[0].Label != "key 0" {
		t.Errorf("%+v", done)
	}
	done = rotated(t, opened(t, be, password))
	if done.Epoch != 3 || len(done.Keys) != 3 {
		t.Errorf("%+v", done)
	}
	for i, secret := range []seal.Secret{first, second, password} {
		k := opened(t, be, secret)
		keys := k.Ring.Keys()
		if k.Ring.Current() != 3 || keys.ID(1, nil) != before.ID(1, nil) {
			t.Errorf("key %d: epoch %d", i, k.Ring.Current())
		}
		if _, err := keys.AEAD(parity.Data, 1, [16]byte{}); err != nil {
			t.Errorf("key %d does not read what is old: %v", i, err)
		}
		list, err := k.List(t.Context())
		if err != nil || len(list) != 3 {
			t.Fatalf("list: %v %v", list, err)
		}
		for _, key := range list {
			if key.Epoch != 3 || key.Behind || key.Damaged || key.Removing || key.Current != (key.ID == k.Slot()) {
				t.Errorf("key %d lists %+v", i, key)
			}
		}
	}
	wantTidy(t, be, opened(t, be, second))
	// A process that was opened before follows without its secret.
	if grown, err := k.Follow(t.Context()); err != nil || !grown || k.Ring.Current() != 3 {
		t.Errorf("follow: %v %v epoch %d", grown, err, k.Ring.Current())
	}
	if grown, err := k.Follow(t.Context()); err != nil || grown {
		t.Errorf("follow again: %v %v", grown, err)
	}
}

// A key that was removed before the rotation never opens what comes after, not
// even if its slot is put back from a copy.
func TestRemovedKeyNeverOpensTheNextEpoch(t *testing.T) {
	be := mem.New()
	stays, goes := keyFile(t), keyFile(t)
	k := made(t, be, goes, stays)
	gone := opened(t, be, goes)
	name := ledger.Keys + gone.Slot()
	copied := object(t, be, name)
	if removed, err := k.Remove(t.Context(), gone.Slot()[:5]); err != nil || removed != gone.Slot() {
		t.Fatalf("%s %v", removed, err)
	}
	if _, err := k.Remove(t.Context(), gone.Slot()); !errors.Is(err, ErrUnknown) {
		t.Errorf("removed twice: %v", err)
	}
	plant(t, be, name, copied) // the claim is there: it counts as removed
	if done := rotated(t, k); len(done.Keys) != 1 || len(done.LeftOut) != 0 || contains(names(t, be, ""), gone.Slot()) {
		t.Errorf("%+v, left %v", done, names(t, be, ""))
	}
	plant(t, be, name, copied)
	for _, claim := range names(t, be, "") { // whoever has the place can take the claim away
		if strings.Contains(claim, ledger.Removals) {
			if err := be.Delete(t.Context(), claim); err != nil {
				t.Fatal(err)
			}
		}
	}
	wantClosed(t, be, goes, ErrMissed)
	done := rotated(t, opened(t, be, stays))
	if len(done.Keys) != 1 || len(done.LeftOut) != 1 || done.LeftOut[0].ID != gone.Slot() || !strings.Contains(done.LeftOut[0].Reason, "missed") {
		t.Errorf("%+v", done)
	}
	wantClosed(t, be, goes, ErrMissed)
	list, err := opened(t, be, stays).List(t.Context())
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v %v", list, err)
	}
	for _, key := range list {
		if behind := key.ID == gone.Slot(); key.Behind != behind || (key.Epoch == 1) != behind {
			t.Errorf("list: %+v", key)
		}
	}
	// It does not count as a key, so the other one is the last.
	if _, err := opened(t, be, stays).Remove(t.Context(), opened(t, be, stays).Slot()); !errors.Is(err, ErrLastKey) {
		t.Errorf("the last key that opens: %v", err)
	}
}

// Somebody who holds the old ring writes a slot into a repository that was
// rotated since: it is named and gets nothing.
func TestSlotMadeWithAnOldRingIsLeftOut(t *testing.T) {
	be, good, bad := mem.New(), keyFile(t), keyFile(t)
	k := made(t, be, good)
	old := opened(t, be, good).Ring
	rotated(t, k)
	const id = "00000000deadbeef"
	p, err := seal.NewSlot(rand.Reader, ledger.Keys+id, bad, seal.KDF{}, old, "harmless", day)
	if err != nil {
		t.Fatal(err)
	}
	obj, err := pack.EncodeSlot(p)
	if err != nil {
		t.Fatal(err)
	}
	plant(t, be, ledger.Keys+id, obj)
	done := rotated(t, k)
	if len(done.Keys) != 1 || len(done.LeftOut) != 1 || done.LeftOut[0].ID != id || done.LeftOut[0].Label != "harmless" {
		t.Errorf("%+v", done)
	}
	wantClosed(t, be, bad, ErrMissed)
}

// A slot that cannot be read, or is of another repository, is named too; and
// the own one must be vouched for.
func TestDamagedAndForeignSlotsAreLeftOut(t *testing.T) {
	be, good, other := mem.New(), keyFile(t), keyFile(t)
	k := made(t, be, other, good)
	foreign := mem.New()
	made(t, foreign, keyFile(t))
	alien := names(t, foreign, ledger.Keys)[0]
	plant(t, be, alien, object(t, foreign, alien))
	dead := opened(t, be, other).Slot()
	plant(t, be, ledger.Keys+dead, make([]byte, 20480))
	done := rotated(t, k)
	if len(done.Keys) != 1 || len(done.LeftOut) != 2 {
		t.Errorf("%+v", done)
	}
	whole := object(t, be, ledger.Keys+k.Slot())
	plant(t, be, ledger.Keys+k.Slot(), object(t, foreign, alien))
	if _, err := k.Rotate(t.Context()); !errors.Is(err, seal.ErrNotVouched) || k.Ring.Current() != 2 {
		t.Errorf("with a slot of one's own that is not vouched for: %v, epoch %d", err, k.Ring.Current())
	}
	plant(t, be, ledger.Keys+k.Slot(), whole)
	rotated(t, k)
}

// Damage of one copy is no damage; damage of both, or a place that does not
// answer, is not the absence of a decision: the ring would be set back.
func TestLostDecisionIsNotASilentStepBack(t *testing.T) {
	store, secret := mem.New(), keyFile(t)
	rotated(t, made(t, store, secret))
	name := ledger.DecisionName(2)
	box := ""
	for _, n := range names(t, store, ledger.Epochs) {
		if _, _, _, err := ledger.ParseBox(n); err == nil {
			box = n
		}
	}
	ruin := func([]byte) []byte { return make([]byte, 20480) }
	for _, hit := range []string{name, ledger.Spare(name), box, ledger.Spare(box)} {
		for what, change := range map[string]func([]byte) []byte{"ruined": ruin, "lost": func([]byte) []byte { return nil }} {
			be := clone(store)
			if err := be.Damage(hit, change); err != nil {
				t.Fatal(err)
			}
			if k, err := open(t.Context(), be, secret); err != nil || k.Ring.Current() != 2 {
				t.Errorf("%s %s: %v", hit, what, err)
			}
		}
	}
	for _, c := range []struct {
		hit  string
		lost bool // the other copy is gone, else ruined
		want error
	}{{name, false, pack.ErrDamaged}, {name, true, pack.ErrDamaged}, {box, false, ErrMissed}, {box, true, ErrMissed}} {
		be := clone(store)
		be.Damage(c.hit, ruin)
		if c.lost {
			be.Damage(ledger.Spare(c.hit), func([]byte) []byte { return nil })
		} else {
			be.Damage(ledger.Spare(c.hit), ruin)
		}
		wantClosed(t, be, secret, c.want)
	}
	for _, prefix := range []string{name, ledger.Spare(name)} {
		be := fault.New(clone(store), fault.Options{Rules: []fault.Rule{{Op: fault.Get, Prefix: prefix, Err: backend.ErrUnreachable}}})
		if _, err := open(t.Context(), be, secret); prefix == name && err != nil {
			t.Errorf("one copy does not answer: %v", err)
		}
	}
	be := clone(store)
	be.Damage(ledger.Spare(name), func([]byte) []byte { return nil })
	away := fault.New(be, fault.Options{Rules: []fault.Rule{{Op: fault.Get, Prefix: name, Err: backend.ErrUnreachable}}})
	wantClosed(t, away, secret, backend.ErrUnreachable)
}

// The price of following when there is nothing to follow.
func TestOpeningCostsTwoRequestsMore(t *testing.T) {
	be, secret := mem.New(), keyFile(t)
	made(t, be, secret)
	count := fault.New(be, fault.Options{CountReads: true})
	opened(t, count, secret)
	var extra []string
	for _, c := range count.Calls() {
		if strings.Contains(c.Name, ledger.Epochs) {
			extra = append(extra, c.String())
		}
	}
	if len(extra) != 2 || len(count.Calls()) != 5 { // two listings, the slot, the decision and its spare
		t.Errorf("%v", count.Calls())
	}
}

func TestRotationsAtOnceAllHappen(t *testing.T) {
	be, secret, other := mem.New(), keyFile(t), keyFile(t)
	made(t, be, secret, other)
	hands := []*Keys{opened(t, be, secret), opened(t, be, other), opened(t, be, secret)}
	var group sync.WaitGroup
	for _, k := range hands {
		group.Go(func() {
			if _, err := k.Rotate(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, s := range []seal.Secret{secret, other} {
		if k := opened(t, be, s); k.Ring.Current() != 4 {
			t.Errorf("epoch %d after three rotations", k.Ring.Current())
		}
	}
}

// story changes keys in every way, notes what it was told is done, and stops at
// the first error.
type story struct {
	valid, invalid []seal.Secret
	epoch          uint32
}

func (s *story) tell(ctx context.Context, be backend.Backend, first, second, third seal.Secret) error {
	s.valid = []seal.Secret{first}
	k, err := open(ctx, be, first)
	if err != nil {
		return err
	}
	id, err := k.Add(ctx, New{Secret: second})
	if err != nil {
		return err
	}
	s.valid = append(s.valid, second)
	done, err := k.Rotate(ctx)
	if err != nil {
		return err
	}
	s.epoch = done.Epoch
	s.valid = s.valid[:1] // from here on the second may be gone
	if _, err := k.Remove(ctx, id); err != nil {
		return err
	}
	s.invalid = []seal.Secret{second}
	if done, err = k.Rotate(ctx); err != nil {
		return err
	}
	s.epoch = done.Epoch
	s.valid = nil
	if _, err := k.Replace(ctx, New{Secret: third}); err != nil {
		return err
	}
	s.valid, s.invalid = []seal.Secret{third}, append(s.invalid, first)
	return nil
}

// aftermath opens what a crash left, and rotates.
func (s *story) aftermath(t *testing.T, be backend.Backend, all ...seal.Secret) {
	t.Helper()
	for range 2 {
		for _, secret := range s.valid {
			if k := opened(t, be, secret); k.Ring.Current() < s.epoch {
				t.Fatalf("epoch %d, where a rotation to %d was reported", k.Ring.Current(), s.epoch)
			}
		}
		for _, secret := range s.invalid {
			wantClosed(t, be, secret, seal.ErrWrongKey)
		}
		rotates := 0
		for _, secret := range all {
			k, err := open(t.Context(), be, secret)
			if errors.Is(err, seal.ErrWrongKey) || errors.Is(err, ErrMissed) {
				continue // its removal was on the way
			}
			if err != nil {
				t.Fatal(err)
			}
			done, err := k.Rotate(t.Context())
			if errors.Is(err, ErrRemoved) {
				continue
			}
			if err != nil || len(done.LeftOut) > 0 {
				t.Fatalf("%+v %v", done, err)
			}
			rotates++
			wantTidyMain(t, be, k)
		}
		if rotates == 0 {
			t.Fatal("no key rotates")
		}
	}
}

// wantTidyMain is wantTidy where a crash may have cost a decision its copy.
func wantTidyMain(t *testing.T, be backend.Backend, k *Keys) {
	t.Helper()
	for _, name := range names(t, be, ledger.Epochs) {
		if epoch, rotation, _, err := ledger.ParseBox(name); err == nil {
			if d, err := decision(t.Context(), be, k.Ring, epoch); err != nil || d.Rotation != rotation {
				t.Errorf("%s remains", name)
			}
		}
	}
}

func TestCrashAtEveryStepOfRotationAndOtherKeyChanges(t *testing.T) {
	store := mem.New()
	first, second, third := keyFile(t), keyFile(t), keyFile(t)
	made(t, store, first)
	count := fault.New(clone(store), fault.Options{CountReads: true})
	if err := new(story).tell(t.Context(), count, first, second, third); err != nil {
		t.Fatal(err)
	}
	calls := count.Calls()
	for at := range calls {
		for _, mode := range fault.Modes {
			t.Run(fmt.Sprintf("%03d-%s-%s", at+1, calls[at].Op, mode), func(t *testing.T) {
				be, s := clone(store), new(story)
				broken := fault.New(be, fault.Options{CountReads: true, Plan: fault.Plan{At: at + 1, Mode: mode, Stop: true}})
				err := s.tell(t.Context(), broken, first, second, third)
				if err == nil && !strings.Contains(calls[at].Name, ledger.Epochs) && !strings.Contains(calls[at].Name, "keys/") && calls[at].Op != fault.Sync {
					t.Error("the change ended well although its store had failed")
				}
				for seed := range uint64(2) {
					s.aftermath(t, be.CrashClone(mem.CrashOptions{Rand: luck(seed)}), first, second, third)
				}
			})
		}
	}
}

// whenPut calls do once, before a name with that prefix is written.
type whenPut struct {
	backend.Backend
	prefix string
	do     func()
}

func (w *whenPut) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	if do := w.do; do != nil && strings.HasPrefix(name, w.prefix) {
		w.do = nil
		do()
	}
	return w.Backend.PutIfAbsent(ctx, name, data)
}

// A rotation begins between the last look of a removal and its claim. What shows
// that it has begun must stay, though its key is removed: an added slot that the
// rotation has not met would be reported as safe.
func TestRemovalLeavesTheTracesOfARotationThatHasBegun(t *testing.T) {
	store, first, second := mem.New(), keyFile(t), keyFile(t)
	made(t, store, first, second)
	goes := opened(t, store, second)
	be := &whenPut{Backend: store, prefix: ledger.Spare(ledger.Removals), do: func() {
		rotation, err := goes.Ring.NewRotation(rand.Reader)
		if err == nil {
			err = goes.mark(t.Context(), rotation.Epoch())
		}
		if err == nil {
			var own standing
			if own, err = goes.stand(t.Context(), goes.slot); err == nil {
				err = (&turning{k: goes, rotation: rotation, out: &Rotated{}}).box(t.Context(), goes.slot, own)
			}
		}
		if err != nil {
			t.Error(err)
		}
	}}
	k := opened(t, be, first)
	if _, err := k.Remove(t.Context(), goes.Slot()); err != nil {
		t.Fatal(err)
	}
	if begun, err := k.begun(t.Context(), 2); err != nil || !begun {
		t.Errorf("no trace is left: %v", err)
	}
	// It died; whoever adds a key ends it.
	third := keyFile(t)
	if _, err := k.Add(t.Context(), New{Secret: third}); err != nil {
		t.Fatal(err)
	}
	if k := opened(t, store, third); k.Ring.Current() != 2 {
		t.Errorf("epoch %d", k.Ring.Current())
	}
	wantTidy(t, store, opened(t, store, first))
}
