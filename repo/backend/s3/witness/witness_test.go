package witness

import (
	"fmt"
	"slices"
	"testing"
)

// TestMissedNamesAreThoseInBetween: wherever the gap is.
func TestMissedNamesAreThoseInBetween(t *testing.T) {
	var n Names
	for _, name := range []string{"b/2", "a", "b/1", "c", "b/3", "gone"} {
		n.Add(name)
	}
	n.Drop("gone")
	n.Drop("never")
	due := n.Due("b/")
	if !slices.Equal(due, Due{"b/1", "b/2", "b/3"}) {
		t.Fatalf("due %q", due)
	}
	for _, step := range []struct {
		to   string
		want []string
	}{{"b/0", nil}, {"b/1", nil}, {"b/1", nil}, {"b/2x", []string{"b/2"}}, {"", []string{"b/3"}}, {"", nil}} {
		if got := due.Missed(step.to); !slices.Equal(got, step.want) {
			t.Errorf("at %q: missed %q, want %q", step.to, got, step.want)
		}
	}
}

// TestWitnessesAreBounded: the youngest is always among them.
func TestWitnessesAreBounded(t *testing.T) {
	var n Names
	for i := range boundNames + 100 {
		n.Add(fmt.Sprintf("%06d", i))
	}
	due := n.Due("")
	if len(due) != boundNames || due[len(due)-1] != fmt.Sprintf("%06d", boundNames+99) || !slices.IsSorted(due) {
		t.Errorf("%d names, the last %s", len(due), due[len(due)-1])
	}
}
