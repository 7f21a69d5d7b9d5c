// Package usage is what a command line must have beyond flags: help that ends
// with exit codes and examples, manual pages made of the same text, and errors
// that name the way out when something was mistyped.
//
// A command is declared with Group or as a cobra command with Args, and given its
// EXIT STATUS with SetExitStatus; Write and Manual show it. Args, Exclusive, OneOf
// and FlagError make settings.Usagef errors, which end with exit code 1 and a hint.
package usage

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// exitStatusKey is the annotation that holds the EXIT STATUS text of a command.
const exitStatusKey = "exit-status"

// SetExitStatus sets the EXIT STATUS text of a command, a line a code.
func SetExitStatus(c *cobra.Command, text string) {
	if c.Annotations == nil {
		c.Annotations = map[string]string{}
	}
	c.Annotations[exitStatusKey] = text
}

// Section is one headed part of a command's help, shared by --help and man. The
// first has no title.
type Section struct{ Title, Text string }

// Sections are the parts of a command's help in reading order. EXIT STATUS
// and EXAMPLES come last: there the eye lands on a terminal.
func Sections(c *cobra.Command) []Section {
	long := c.Long
	if long == "" {
		long = strings.ToUpper(c.Short[:1]) + c.Short[1:] + "."
	}
	usage := c.UseLine()
	var commands strings.Builder
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			fmt.Fprintf(&commands, "  %-12s %s\n", sub.Name(), sub.Short)
		}
	}
	if commands.Len() > 0 {
		usage = c.CommandPath() + " COMMAND [flags]"
	}
	all := []Section{
		{"", strings.TrimSpace(long)},
		{"USAGE", "  " + usage},
		{"COMMANDS", commands.String()},
		{"FLAGS", flagUsages(c.NonInheritedFlags())},
		{"GLOBAL FLAGS", flagUsages(c.InheritedFlags())},
		{"EXIT STATUS", c.Annotations[exitStatusKey]},
		{"EXAMPLES", indent(c.Example)},
	}
	return slices.DeleteFunc(all, func(s Section) bool { return s.Text == "" })
}

func flagUsages(set *pflag.FlagSet) string {
	return strings.TrimRight(set.FlagUsagesWrapped(100), "\n")
}

// indent sets each line two blanks in, whatever it had.
func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimSpace(text)) {
		b.WriteString("  " + strings.TrimSpace(line) + "\n")
	}
	return b.String()
}

// Write is the --help of every command.
func Write(w io.Writer, c *cobra.Command) {
	for i, s := range Sections(c) {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if s.Title != "" {
			fmt.Fprintln(w, s.Title)
		}
		fmt.Fprintln(w, strings.TrimRight(s.Text, "\n"))
	}
}
