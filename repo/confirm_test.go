package repo_test

import (
	"encoding/json"
	"errors"
	"testing"

	"holdfast/repo"
)

// TestConfirmationIsWrittenOnce, survives a prune with its point, and goes with it.
func TestConfirmationIsWrittenOnce(t *testing.T) {
	r, be, _ := newRepo(t)
	p, other := makePoint(t, r, "image/a", noise(1, 3*testChunk)), makePoint(t, r, "image/b", noise(2, testChunk))
	if said, err := r.Confirmation(t.Context(), p); said != nil || err != nil {
		t.Fatalf("before anybody confirmed: %s, %v", said, err)
	}
	word := json.RawMessage(`{"state":"confirmed"}`)
	for range 2 {
		if err := r.Confirm(t.Context(), p, word); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Confirm(t.Context(), p, json.RawMessage(`{"state":"denied"}`)); !errors.Is(err, repo.ErrConfirmed) {
		t.Errorf("another word: %v", err)
	}
	forget(t, r, other.ID)
	wantTidy(t, r, be)
	if said, err := r.Confirmation(t.Context(), p); string(said) != string(word) || err != nil {
		t.Errorf("after a prune: %s, %v", said, err)
	}
	wantVerdict(t, check(t, r), nil)
	forget(t, r, p.ID)
	wantTidy(t, r, be)
	if said, err := r.Confirmation(t.Context(), p); said != nil || err != nil {
		t.Errorf("of a forgotten point: %s, %v", said, err)
	}
}

// TestCopyTakesTheConfirmationAlong: a chain of database backups stays one.
func TestCopyTakesTheConfirmationAlong(t *testing.T) {
	from, _, _ := newRepo(t)
	to, _, _ := newRepo(t)
	p := makePoint(t, from, "image/a", noise(1, 3*testChunk))
	word := json.RawMessage(`{"state":"confirmed"}`)
	if err := from.Confirm(t.Context(), p, word); err != nil {
		t.Fatal(err)
	}
	e, err := from.Find(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	made, err := to.CopierFrom(from, nil).Copy(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	if said, err := to.Confirmation(t.Context(), made); string(said) != string(word) || err != nil {
		t.Errorf("the copy's: %s, %v", said, err)
	}
}
