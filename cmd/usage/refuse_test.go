package usage

import (
	"errors"
	"slices"
	"testing"

	"holdfast/cmd/settings"

	"github.com/spf13/cobra"
)

func TestArgumentCounts(t *testing.T) {
	c := &cobra.Command{Use: "x NAME"}
	for _, k := range []struct {
		names []string
		count int
		ok    bool
	}{
		{nil, 0, true}, {nil, 1, false},
		{[]string{"A"}, 0, false}, {[]string{"A"}, 1, true}, {[]string{"A"}, 2, false},
		{[]string{"A", "[B]"}, 1, true}, {[]string{"A", "[B]"}, 3, false},
		{[]string{"A…"}, 0, false}, {[]string{"A…"}, 9, true}, {[]string{"[A…]"}, 0, true}, {[]string{"[A…]"}, 9, true},
	} {
		err := Args(k.names...)(c, slices.Repeat([]string{"v"}, k.count))
		if (err == nil) != k.ok {
			t.Errorf("%v with %d arguments: %v", k.names, k.count, err)
		}
		var wrong *settings.UsageError
		if err != nil && !errors.As(err, &wrong) {
			t.Errorf("%v: %v is no usage error", k.names, err)
		}
	}
}
