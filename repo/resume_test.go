package repo_test

import (
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/fault"
	"holdfast/repo/backend/mem"
	"holdfast/repo/ledger"
)

// TestKilledBackupIsResumedWithoutSendingItsPacksAgain: the packs that it wrote
// and never listed are found by their owner's source, whole ones only.
func TestKilledBackupIsResumedWithoutSendingItsPacksAgain(t *testing.T) {
	store, secret := mem.New(), keyFile(t)
	initAt(t, store, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, options())
	data := noise(1, 40*testChunk)
	// A process that dies between its packs and their segment.
	dying := fault.New(store, fault.Options{Rules: []fault.Rule{{Op: fault.PutIfAbsent, Prefix: ledger.Indexes, Err: backend.ErrRefused}}})
	s, _ := stored(t, openAt(t, dying, secret), "image/a", data)
	if err := s.Flush(t.Context()); err == nil {
		t.Fatal("the segment was written")
	}
	packs := names(t, store, ledger.Data)
	if len(packs) == 0 {
		t.Fatal("no pack was written")
	}
	r := openAt(t, store, secret)
	before := stored64(t, store, ledger.Data)
	other := makePoint(t, r, "image/b", noise(2, testChunk)) // another source leaves them alone
	grown := stored64(t, store, ledger.Data) - before
	p := makePoint(t, r, "image/a", data)
	if p.ChunksNew != 0 {
		t.Errorf("%d chunks were sent again", p.ChunksNew)
	}
	if again := stored64(t, store, ledger.Data) - before - grown; again != 0 {
		t.Errorf("%d bytes of data were sent again", again)
	}
	wantContent(t, openAt(t, store, secret), p, data)
	prune(t, r, repo.PruneOptions{DeadAfter: 1})
	prune(t, r, repo.PruneOptions{DeadAfter: 1})
	wantContent(t, openAt(t, store, secret), p, data)
	wantContent(t, openAt(t, store, secret), other, noise(2, testChunk))
	wantTidy(t, r, store)
	wantVerdict(t, check(t, openAt(t, store, secret)), nil)
}

// TestTornPackOfAKilledBackupIsNotResumed: what a power cut has torn is stored
// anew.
func TestTornPackOfAKilledBackupIsNotResumed(t *testing.T) {
	store, secret := mem.New(), keyFile(t)
	initAt(t, store, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, options())
	data := noise(1, 40*testChunk)
	dying := fault.New(store, fault.Options{Rules: []fault.Rule{{Op: fault.PutIfAbsent, Prefix: ledger.Indexes, Err: backend.ErrRefused}}})
	s, _ := stored(t, openAt(t, dying, secret), "image/a", data)
	if err := s.Flush(t.Context()); err == nil {
		t.Fatal("the segment was written")
	}
	for _, name := range names(t, store, ledger.Data) {
		damage(t, store, name, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	}
	for _, name := range names(t, store, ledger.Meta) {
		damage(t, store, name, func(b []byte) []byte { return b[:len(b)/2] })
	}
	r := openAt(t, store, secret)
	p := makePoint(t, r, "image/a", data)
	if p.ChunksNew == 0 {
		t.Error("torn packs were adopted")
	}
	wantContent(t, openAt(t, store, secret), p, data)
}
