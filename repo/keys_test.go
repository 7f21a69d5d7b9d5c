package repo_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/fault"
	"holdfast/repo/backend/mem"
	"holdfast/repo/pack"
	"holdfast/repo/seal"
)

// hooked calls a function before each call that changes the store.
type hooked struct {
	backend.Backend
	before func(op fault.Op, name string)
}

func (h *hooked) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	h.before(fault.PutIfAbsent, name)
	return h.Backend.PutIfAbsent(ctx, name, data)
}

func (h *hooked) Put(ctx context.Context, name string, data []byte) error {
	h.before(fault.Put, name)
	return h.Backend.Put(ctx, name, data)
}

// TestLosingInitTakesNothingFromTheWinner: of two that found the place empty,
// the one that comes second must not clear away the keys of the first.
func TestLosingInitTakesNothingFromTheWinner(t *testing.T) {
	store, first, second := mem.New(), keyFile(t), keyFile(t)
	raced := false
	be := &hooked{Backend: store}
	be.before = func(_ fault.Op, name string) {
		if name != "spare/config" || raced {
			return
		}
		raced = true
		// The second looked at the place when it was still empty.
		blind := &emptyAtFirst{Backend: store}
		if _, err := repo.Init(t.Context(), blind, repo.InitParams{Keys: []repo.NewKey{{Secret: second}}}, options()); !errors.Is(err, backend.ErrExists) {
			t.Errorf("the second init: %v", err)
		}
	}
	if _, err := repo.Init(t.Context(), be, repo.InitParams{Keys: []repo.NewKey{{Secret: first}}}, options()); err != nil || !raced {
		t.Fatalf("the first init: %v, raced %v", err, raced)
	}
	r := openAt(t, store, first)
	wantVerdict(t, check(t, r), nil)
	if keys, err := r.Keys(t.Context()); err != nil || len(keys) != 1 {
		t.Errorf("keys: %v %v", keys, err)
	}
}

// emptyAtFirst shows an empty place to its first listing.
type emptyAtFirst struct {
	backend.Backend
	looked bool
}

func (e *emptyAtFirst) List(ctx context.Context, prefix string, fn func(backend.Info) error) error {
	if !e.looked {
		e.looked = true
		return nil
	}
	return e.Backend.List(ctx, prefix, fn)
}

// TestInitThatFailsLeavesThePlaceEmpty: the next init finds it as it was.
func TestInitThatFailsLeavesThePlaceEmpty(t *testing.T) {
	for _, prefix := range []string{"keys/", "spare/keys/", "ledger/", "spare/config"} {
		store := mem.New()
		be := fault.New(store, fault.Options{Rules: []fault.Rule{{Op: fault.PutIfAbsent, Prefix: prefix, Err: backend.ErrNoSpace}}})
		keys := []repo.NewKey{{Secret: keyFile(t)}, {Secret: keyFile(t)}}
		if _, err := repo.Init(t.Context(), be, repo.InitParams{Keys: keys}, options()); !errors.Is(err, backend.ErrNoSpace) {
			t.Errorf("full at %s: %v", prefix, err)
		}
		if left := names(t, store, ""); len(left) > 0 {
			t.Errorf("full at %s: left %v", prefix, left)
		}
	}
}

// TestInitWhoseLastAnswerIsLostKeepsItsKeys: when nobody can tell whether the
// repository was made, nothing is taken from it.
func TestInitWhoseLastAnswerIsLostKeepsItsKeys(t *testing.T) {
	store, secret := mem.New(), keyFile(t)
	be := fault.New(store, fault.Options{Rules: []fault.Rule{
		{Op: fault.PutIfAbsent, Prefix: "config", Err: backend.ErrUnreachable, Mode: fault.DoneButLost},
		{Op: fault.Get, Prefix: "ledger/", Err: backend.ErrUnreachable},
	}})
	if _, err := repo.Init(t.Context(), be, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, options()); !errors.Is(err, backend.ErrUnreachable) {
		t.Fatalf("init: %v", err)
	}
	wantVerdict(t, check(t, openAt(t, store, secret)), nil)
}

func TestInitRefuses(t *testing.T) {
	key := []repo.NewKey{{Secret: keyFile(t)}}
	for what, p := range map[string]repo.InitParams{
		"no key": {}, "parity": {Parity: "much", Keys: key}, "odd chunk": {DiskChunkBytes: 100_000, Keys: key},
		"small chunk": {DiskChunkBytes: 32 << 10, Keys: key}, "large chunk": {DiskChunkBytes: 8 << 20, Keys: key}, "compression": {Compression: "zip", Keys: key},
	} {
		be := mem.New()
		if _, err := repo.Init(t.Context(), be, p, options()); !errors.Is(err, repo.ErrParameter) {
			t.Errorf("%s: %v", what, err)
		}
		if left := names(t, be, ""); len(left) > 0 {
			t.Errorf("%s: left %v", what, left)
		}
	}
	_, be, _ := newRepo(t)
	if _, err := repo.Init(t.Context(), be, repo.InitParams{Keys: key}, options()); !errors.Is(err, repo.ErrNotEmpty) {
		t.Errorf("init over a repository: %v", err)
	}
	if err := (repo.InitParams{Parity: "strong", Compression: "max", DiskChunkBytes: 1 << 20}).Check(); err != nil {
		t.Error(err)
	}
}

// cheap is the least that argon2id may cost.
var cheap = seal.KDF{Time: 1, MemoryKiB: 8 << 10, Threads: 1}

func password(t testing.TB, text string) seal.Secret {
	t.Helper()
	s, err := seal.NewPassword([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestWrongDamagedAndMissingKeysAreToldApart: what is wrong with the secret and
// what is wrong with the repository are different errors.
func TestWrongDamagedAndMissingKeysAreToldApart(t *testing.T) {
	ctx := t.Context()
	be, first, second := mem.New(), password(t, "first"), password(t, "second")
	if _, err := repo.Open(ctx, be, first, options()); !errors.Is(err, repo.ErrNoRepository) {
		t.Errorf("an empty place: %v", err)
	}
	r := initAt(t, be, repo.InitParams{Keys: []repo.NewKey{{Secret: first, KDF: cheap}}}, options())
	id, err := r.AddKey(ctx, repo.NewKey{Secret: second, KDF: cheap, Label: "safe"})
	if err != nil {
		t.Fatal(err)
	}
	openAt(t, be, first)
	if got := openAt(t, be, second).Slot(); got != id {
		t.Errorf("opened by slot %s, not %s", got, id)
	}
	for _, wrong := range []seal.Secret{password(t, "third"), keyFile(t)} {
		if _, err := repo.Open(ctx, be, wrong, options()); !errors.Is(err, seal.ErrWrongKey) || errors.Is(err, pack.ErrDamaged) {
			t.Errorf("a wrong secret: %v", err)
		}
	}
	// The second key's slot is gone: its password looks wrong, and the error
	// says that a slot cannot be read.
	damage(t, be, "keys/"+id, ruin)
	damage(t, be, "spare/keys/"+id, ruin)
	openAt(t, be, first)
	if _, err := repo.Open(ctx, be, second, options()); !errors.Is(err, seal.ErrWrongKey) || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("the password of a ruined slot: %v", err)
	}
	damage(t, be, "keys/"+r.Slot(), ruin)
	damage(t, be, "spare/keys/"+r.Slot(), ruin)
	if _, err := repo.Open(ctx, be, first, options()); !errors.Is(err, pack.ErrDamaged) || errors.Is(err, seal.ErrWrongKey) {
		t.Errorf("no slot can be read: %v", err)
	}
	away := fault.New(be, fault.Options{Rules: []fault.Rule{{Op: fault.Get, Prefix: "", Err: backend.ErrUnreachable}}})
	if _, err := repo.Open(ctx, away, first, options()); !errors.Is(err, backend.ErrUnreachable) {
		t.Errorf("a store that does not answer: %v", err)
	}
}

// TestLastKeyIsNeverRemoved, whatever is said.
func TestLastKeyIsNeverRemoved(t *testing.T) {
	ctx := t.Context()
	r, be, secret := newRepo(t)
	if _, err := r.RemoveKey(ctx, r.Slot()); !errors.Is(err, repo.ErrLastKey) {
		t.Errorf("the only key: %v", err)
	}
	dead, err := r.AddKey(ctx, repo.NewKey{Secret: keyFile(t), Label: "dead"})
	if err != nil {
		t.Fatal(err)
	}
	damage(t, be, "keys/"+dead, ruin)
	damage(t, be, "spare/keys/"+dead, ruin)
	if _, err := r.RemoveKey(ctx, r.Slot()); !errors.Is(err, repo.ErrLastKey) {
		t.Errorf("the only key that can be read: %v", err)
	}
	for _, id := range []string{"", r.Slot()[:3], "zzzz"} {
		if _, err := r.RemoveKey(ctx, id); !errors.Is(err, repo.ErrKeyUnknown) {
			t.Errorf("key %q: %v", id, err)
		}
	}
	if removed, err := r.RemoveKey(ctx, dead[:6]); err != nil || removed != dead {
		t.Errorf("a dead key: %s %v", removed, err)
	}
	next := keyFile(t)
	old := r.Slot()
	id, err := r.ReplaceKey(ctx, repo.NewKey{Secret: next, Label: "new"})
	if err != nil || id == old || r.Slot() != id {
		t.Fatalf("replace: %s %v", id, err)
	}
	if _, err := repo.Open(ctx, be, secret, options()); !errors.Is(err, seal.ErrWrongKey) {
		t.Errorf("the replaced key: %v", err)
	}
	keys, err := openAt(t, be, next).Keys(ctx)
	if err != nil || len(keys) != 1 || keys[0].ID != id || keys[0].KDF != "keyfile" || !keys[0].Current || keys[0].Label != "new" || keys[0].Damaged {
		t.Errorf("keys: %+v %v", keys, err)
	}
	wantVerdict(t, check(t, r), nil)
}

// TestKeyThatWasNotAddedOpensNothing: neither half of its slot stays, so no
// scrub completes it later.
func TestKeyThatWasNotAddedOpensNothing(t *testing.T) {
	for _, mode := range fault.Modes {
		_, store, secret := newRepo(t)
		var slots []fault.Rule // but not the roll
		for _, digit := range "0123456789abcdef" {
			slots = append(slots, fault.Rule{Op: fault.PutIfAbsent, Prefix: "keys/" + string(digit), Err: backend.ErrNoSpace, Mode: mode})
		}
		be := fault.New(store, fault.Options{Rules: slots})
		never := keyFile(t)
		if _, err := openAt(t, be, secret).AddKey(t.Context(), repo.NewKey{Secret: never}); !errors.Is(err, backend.ErrNoSpace) {
			t.Fatalf("a full store: %v", err)
		}
		if _, err := repo.Open(t.Context(), store, never, options()); !errors.Is(err, seal.ErrWrongKey) {
			t.Errorf("%s: the key opens: %v", mode, err)
		}
		wantVerdict(t, scrub(t, store, true), nil)
	}
}

// TestKeyThatCouldNotBeEnrolledOpensNothing: what half an entry of the roll leaves
// names no slot, and the next key comes after it.
func TestKeyThatCouldNotBeEnrolledOpensNothing(t *testing.T) {
	for _, mode := range fault.Modes {
		_, store, secret := newRepo(t)
		be := fault.New(store, fault.Options{Rules: []fault.Rule{{Op: fault.PutIfAbsent, Prefix: "keys/roll/", Err: backend.ErrNoSpace, Mode: mode}}})
		never, next := keyFile(t), keyFile(t)
		if _, err := openAt(t, be, secret).AddKey(t.Context(), repo.NewKey{Secret: never}); !errors.Is(err, backend.ErrNoSpace) {
			t.Fatalf("a full store: %v", err)
		}
		if _, err := repo.Open(t.Context(), store, never, options()); !errors.Is(err, seal.ErrWrongKey) {
			t.Errorf("%s: the key opens: %v", mode, err)
		}
		r := openAt(t, store, secret)
		if _, err := r.AddKey(t.Context(), repo.NewKey{Secret: next}); err != nil {
			t.Fatal(err)
		}
		if done, err := r.RotateKeys(t.Context()); err != nil || len(done.Keys) != 2 || len(done.LeftOut) != 0 {
			t.Errorf("%s: %+v %v", mode, done, err)
		}
		openAt(t, store, next)
		scrub(t, store, true) // completes the entry
		wantVerdict(t, scrub(t, store, true), nil)
	}
}

// keyStory adds, removes and replaces keys, and notes what it was told is done.
type keyStory struct {
	first, second, third seal.Secret
	valid                []seal.Secret // must open
	invalid              []seal.Secret // must not
}

func (s *keyStory) tell(ctx context.Context, be backend.Backend) error {
	r, err := repo.Open(ctx, be, s.first, options())
	if err != nil {
		return err
	}
	defer r.Close()
	id, err := r.AddKey(ctx, repo.NewKey{Secret: s.second})
	if err != nil {
		return err
	}
	if _, err := r.RemoveKey(ctx, id); err != nil {
		return err
	}
	s.invalid = append(s.invalid, s.second)
	if _, err := r.ReplaceKey(ctx, repo.NewKey{Secret: s.third}); err != nil {
		return err
	}
	s.valid, s.invalid = []seal.Secret{s.third}, append(s.invalid, s.first)
	return nil
}

// aftermath opens what a crash left.
func (s *keyStory) aftermath(t *testing.T, be backend.Backend, data []byte) {
	t.Helper()
	for _, secret := range s.valid {
		openAt(t, be, secret)
	}
	for _, secret := range s.invalid {
		if _, err := repo.Open(t.Context(), be, secret, options()); !errors.Is(err, seal.ErrWrongKey) {
			t.Fatalf("a key that was removed: %v", err)
		}
	}
	var r *repo.Repository
	for _, secret := range []seal.Secret{s.first, s.third} {
		if opened, err := repo.Open(t.Context(), be, secret, options()); err == nil {
			r = opened
			defer r.Close()
			break
		}
	}
	if r == nil {
		t.Fatal("neither the old key nor the new one opens")
	}
	e, err := r.Find(t.Context(), "latest")
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, r, e.Point, data)
	scrub(t, be, true) // a copy may be missing
	wantVerdict(t, check(t, r), nil)
}

// TestCrashAtEveryWriteOfAKeyChange leaves a repository that a key opens.
func TestCrashAtEveryWriteOfAKeyChange(t *testing.T) {
	store, data := mem.Open(mem.Options{Strict: true}), faint(1, testChunk)
	first, second, third := keyFile(t), keyFile(t), keyFile(t)
	makePoint(t, initAt(t, store, repo.InitParams{Keys: []repo.NewKey{{Secret: first}}}, options()), "image/a", data)
	fresh := func() (*mem.Backend, *keyStory) {
		return store.CrashClone(mem.CrashOptions{}), &keyStory{first: first, second: second, third: third}
	}
	be, s := fresh()
	count := fault.New(be, fault.Options{})
	if err := s.tell(t.Context(), count); err != nil {
		t.Fatal(err)
	}
	s.aftermath(t, be, data)
	calls := count.Calls()
	for at := range calls {
		for _, mode := range fault.Modes {
			t.Run(fmt.Sprintf("%02d-%s-%s", at+1, calls[at].Op, mode), func(t *testing.T) {
				be, s := fresh()
				broken := fault.New(be, fault.Options{Plan: fault.Plan{At: at + 1, Mode: mode, Stop: true}})
				if err := s.tell(t.Context(), broken); err == nil {
					t.Fatal("the change ended well although its store had failed")
				}
				for seed := range uint64(3) {
					s.aftermath(t, be.CrashClone(mem.CrashOptions{Rand: luck(seed)}), data)
				}
			})
		}
	}
}

// TestChangeOfKeyThatWasCutOffAndMadeAgainLeavesOneSlot: the slot that the first
// attempt left would let the new password in for ever.
func TestChangeOfKeyThatWasCutOffAndMadeAgainLeavesOneSlot(t *testing.T) {
	r, be, _ := newRepo(t)
	next := keyFile(t)
	if _, err := r.AddKey(t.Context(), repo.NewKey{Secret: next}); err != nil { // as far as the first one came
		t.Fatal(err)
	}
	if _, err := r.ReplaceKey(t.Context(), repo.NewKey{Secret: next}); err != nil {
		t.Fatal(err)
	}
	keys, err := openAt(t, be, next).Keys(t.Context())
	if err != nil || len(keys) != 1 {
		t.Errorf("keys: %+v %v", keys, err)
	}
}
