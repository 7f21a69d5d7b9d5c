package ledger

import (
	"errors"
	"testing"

	"pgregory.net/rapid"
)

// TestFirstFreeFindsTheEnd, with few questions.
func TestFirstFreeFindsTheEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.Uint32Range(0, 100).Draw(t, "from")
		length := rapid.Uint32Range(0, 1<<20).Draw(t, "length")
		asked := 0
		got, err := FirstFree(from, func(n uint32) (bool, error) {
			asked++
			return n < from+length, nil
		})
		if err != nil || got != from+length || asked > 44 || length == 0 && asked > 1 {
			t.Fatalf("%d from %d on: %d after %d questions, %v", length, from, got, asked, err)
		}
	})
}

// TestFirstFreeTellsErrors of any question.
func TestFirstFreeTellsErrors(t *testing.T) {
	lost := errors.New("lost")
	for at := range 12 {
		asked := 0
		_, err := FirstFree(3, func(n uint32) (bool, error) {
			if asked++; asked == at+1 {
				return false, lost
			}
			return n < 40, nil
		})
		if asked > at && !errors.Is(err, lost) {
			t.Errorf("question %d: %v", at+1, err)
		}
	}
}
