package cmd

import (
	"github.com/spf13/cobra"

	"holdfast/cmd/frame"
	"holdfast/cmd/usage"
)

// documented declares the codes that a command may end with; see frame.Documented.
func documented(c *cobra.Command, codes ...exitCode) *cobra.Command {
	return frame.Documented(c, codes...)
}

// The words in which every command is declared; see package usage.

func newGroup(use, short, long string, subs ...*cobra.Command) *cobra.Command {
	return usage.Group(use, short, long, subs...)
}

func args(names ...string) cobra.PositionalArgs { return usage.Args(names...) }

func exclusive(c *cobra.Command, names ...string) error { return usage.Exclusive(c, names...) }

func oneOf(flag, word string, allowed ...string) error { return usage.OneOf(flag, word, allowed...) }
