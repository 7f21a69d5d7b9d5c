package cmd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/cmd/usage"
)

// documented declares the codes that a command may end with besides 0, 1, 2
// and 130, which every command may. Each runnable command calls it once.
func documented(c *cobra.Command, codes ...exitCode) *cobra.Command {
	codes = append(codes, exitDone, exitFailed, exitCrashed, exitInterrupted)
	slices.Sort(codes)
	var b strings.Builder
	for _, code := range slices.Compact(codes) {
		fmt.Fprintf(&b, "  %3d  %s\n", code, meanings[code])
	}
	usage.SetExitStatus(c, b.String())
	return c
}

// The words in which every command is declared; see package usage.

func newGroup(use, short, long string, subs ...*cobra.Command) *cobra.Command {
	return usage.Group(use, short, long, subs...)
}

func args(names ...string) cobra.PositionalArgs { return usage.Args(names...) }

func exclusive(c *cobra.Command, names ...string) error { return usage.Exclusive(c, names...) }

func oneOf(flag, word string, allowed ...string) error { return usage.OneOf(flag, word, allowed...) }
