package repo_test

import (
	"errors"
	"strings"
	"testing"

	"holdfast/repo"
)

// TestForgottenPointThatAListingHidesIsNoticed: a policy that kept it instead of
// another would forget one point too many.
func TestForgottenPointThatAListingHidesIsNoticed(t *testing.T) {
	r, _, _ := newRepo(t)
	gone, stays := makePoint(t, r, "image/a", noise(1, testChunk)), makePoint(t, r, "image/b", noise(2, testChunk))
	behind, problems, err := r.Briefs(t.Context()) // what a listing of that moment shows
	if err != nil || len(problems) > 0 || len(behind) != 2 {
		t.Fatal(behind, problems, err)
	}
	if err := r.Standing(t.Context(), behind); err != nil {
		t.Errorf("while all stand: %v", err)
	}
	forget(t, r, gone.ID)
	if err := r.Standing(t.Context(), behind); !errors.Is(err, repo.ErrBehind) || !strings.Contains(err.Error(), gone.ID) {
		t.Errorf("%v", err)
	}
	now, _, err := r.Briefs(t.Context())
	if err != nil || len(now) != 1 || now[0].ID() != stays.ID {
		t.Fatal(now, err)
	}
	if err := r.Standing(t.Context(), now); err != nil {
		t.Errorf("of those that are there: %v", err)
	}
}
