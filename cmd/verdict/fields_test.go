package verdict

import (
	"errors"
	"fmt"
	"testing"
)

type teller struct{ error }

func (teller) Fields() map[string]any { return map[string]any{"lsn": "7"} }

func TestFieldsAreThoseOfTheErrorInside(t *testing.T) {
	inner := teller{errors.New("x")}
	if got := Fields(fmt.Errorf("restore: %w", Advise(errors.Join(errors.New("y"), inner), "h"))); got["lsn"] != "7" {
		t.Errorf("%v", got)
	}
	for _, err := range []error{nil, errors.New("x")} {
		if got := Fields(err); got != nil {
			t.Errorf("%v: %v", err, got)
		}
	}
}
