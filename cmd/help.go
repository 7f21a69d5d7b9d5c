package cmd

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"holdfast/cmd/settings"
)

// exitCodesKey is the annotation that lists a command's exit codes.
const exitCodesKey = "exit-codes"

// documented declares the codes that a command may end with besides 0, 1, 2
// and 130, which every command may. Each runnable command calls it once.
func documented(c *cobra.Command, codes ...exitCode) *cobra.Command {
	codes = append(codes, exitDone, exitFailed, exitCrashed, exitInterrupted)
	slices.Sort(codes)
	words := make([]string, 0, len(codes))
	for _, code := range slices.Compact(codes) {
		words = append(words, strconv.Itoa(int(code)))
	}
	annotate(c, exitCodesKey, strings.Join(words, " "))
	return c
}

func annotate(c *cobra.Command, key, value string) {
	if c.Annotations == nil {
		c.Annotations = map[string]string{}
	}
	c.Annotations[key] = value
}

// exitStatus is the EXIT STATUS text of a command.
func exitStatus(c *cobra.Command) string {
	var b strings.Builder
	for word := range strings.FieldsSeq(c.Annotations[exitCodesKey]) {
		n, _ := strconv.Atoi(word)
		fmt.Fprintf(&b, "  %3d  %s\n", n, meanings[exitCode(n)])
	}
	return b.String()
}

// section is one headed part of a command's help, shared by --help and man.
type section struct{ title, text string }

// helpSections are the parts of a command's help in reading order. EXIT STATUS
// and EXAMPLES come last: there the eye lands on a terminal.
func helpSections(c *cobra.Command) []section {
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
	all := []section{
		{"", strings.TrimSpace(long)},
		{"USAGE", "  " + usage},
		{"COMMANDS", commands.String()},
		{"FLAGS", flagUsages(c.NonInheritedFlags())},
		{"GLOBAL FLAGS", flagUsages(c.InheritedFlags())},
		{"EXIT STATUS", exitStatus(c)},
		{"EXAMPLES", indent(c.Example)},
	}
	return slices.DeleteFunc(all, func(s section) bool { return s.text == "" })
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

// writeHelp is the --help of every command.
func writeHelp(w io.Writer, c *cobra.Command) {
	for i, s := range helpSections(c) {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if s.title != "" {
			fmt.Fprintln(w, s.title)
		}
		fmt.Fprintln(w, strings.TrimRight(s.text, "\n"))
	}
}

// newGroup makes a command that only holds others. Without one of them, or
// with a word that is none, it is a usage error that names them.
func newGroup(use, short, long string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Long: long, Args: cobra.ArbitraryArgs}
	c.RunE = func(c *cobra.Command, args []string) error { return unknownCommand(c, args) }
	c.AddCommand(subs...)
	return c
}

// unknownCommand is the error of a group called with args that name none of
// its commands.
func unknownCommand(c *cobra.Command, args []string) error {
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	hint := fmt.Sprintf("%s takes one of: %s", c.CommandPath(), strings.Join(names, ", "))
	if len(args) == 0 {
		return usagef(hint, "%s needs a command", c.CommandPath())
	}
	if near := settings.Nearest(args[0], names); near != "" {
		hint = fmt.Sprintf("did you mean %q? %s", c.CommandPath()+" "+near, hint)
	}
	return usagef(hint, "unknown command %q for %q", args[0], c.CommandPath())
}

// args checks the count of positional arguments. names says what they are:
// "NAME" is needed, "[NAME]" may be missing, "NAME…" is one or more, "[NAME…]" any number.
func args(names ...string) cobra.PositionalArgs {
	least, most := 0, 0
	for _, name := range names {
		optional := strings.HasPrefix(name, "[")
		many := strings.HasSuffix(strings.TrimSuffix(name, "]"), "…")
		if !optional {
			least++
		}
		if most++; many {
			most = 1 << 20
		}
	}
	return func(c *cobra.Command, given []string) error {
		hint := "usage: " + c.UseLine()
		switch {
		case len(given) < least:
			return usagef(hint, "%s needs %s", c.CommandPath(), strings.Trim(names[len(given)], "[]…"))
		case len(given) > most && most == 0:
			return usagef(hint, "%s takes no arguments, but %d came", c.CommandPath(), len(given))
		case len(given) > most:
			return usagef(hint, "%s takes at most %d arguments, but %d came", c.CommandPath(), most, len(given))
		}
		return nil
	}
}

// exclusive refuses flags that contradict each other.
func exclusive(c *cobra.Command, names ...string) error {
	var given []string
	for _, name := range names {
		if c.Flags().Changed(name) {
			given = append(given, "--"+name)
		}
	}
	if len(given) < 2 {
		return nil
	}
	return usagef("leave one of them away", "%s cannot be meant together", strings.Join(given, " and "))
}

// flagError turns what the flag parser says into a usage error. Values typed
// after a flag that does not exist are not repeated: they may be secrets.
func flagError(c *cobra.Command, err error) error {
	hint := fmt.Sprintf("%q lists the flags", c.CommandPath()+" --help")
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return usagef(hint, "%s", err.Error())
	}
	name := unknown.GetSpecifiedName()
	if unknown.GetSpecifiedShortnames() != "" {
		name = string([]rune(name)[:1])
		return usagef(hint, "unknown flag -%s", name)
	}
	var known []string
	c.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	if settings.Nearest(name, append(known, "password")) == "password" {
		hint = "a password never goes on the command line: use HOLDFAST_PASSWORD, --password-file or --password-command"
	} else if near := settings.Nearest(name, known); near != "" {
		hint = fmt.Sprintf("did you mean --%s? %s", near, hint)
	}
	return usagef(hint, "unknown flag --%s", name)
}
