package usage

import (
	"errors"
	"fmt"
	"strings"

	"holdfast/cmd/settings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Group makes a command that only holds others. Without one of them, or
// with a word that is none, it is a usage error that names them.
func Group(use, short, long string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Long: long, Args: cobra.ArbitraryArgs}
	c.RunE = func(c *cobra.Command, args []string) error { return Unknown(c, args) }
	c.AddCommand(subs...)
	return c
}

// Unknown is the error of a group called with args that name none of
// its commands.
func Unknown(c *cobra.Command, args []string) error {
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	hint := fmt.Sprintf("%s takes one of: %s", c.CommandPath(), strings.Join(names, ", "))
	if len(args) == 0 {
		return settings.Usagef(hint, "%s needs a command", c.CommandPath())
	}
	if near := settings.Nearest(args[0], names); near != "" {
		hint = fmt.Sprintf("did you mean %q? %s", c.CommandPath()+" "+near, hint)
	}
	return settings.Usagef(hint, "unknown command %q for %q", args[0], c.CommandPath())
}

// Args checks the count of positional arguments. names says what they are:
// "NAME" is needed, "[NAME]" may be missing, "NAME…" is one or more, "[NAME…]" any number.
func Args(names ...string) cobra.PositionalArgs {
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
			return settings.Usagef(hint, "%s needs %s", c.CommandPath(), strings.Trim(names[len(given)], "[]…"))
		case len(given) > most && most == 0:
			return settings.Usagef(hint, "%s takes no arguments, but %d came", c.CommandPath(), len(given))
		case len(given) > most:
			return settings.Usagef(hint, "%s takes at most %d arguments, but %d came", c.CommandPath(), most, len(given))
		}
		return nil
	}
}

// Exclusive refuses flags that contradict each other.
func Exclusive(c *cobra.Command, names ...string) error {
	var given []string
	for _, name := range names {
		if c.Flags().Changed(name) {
			given = append(given, "--"+name)
		}
	}
	if len(given) < 2 {
		return nil
	}
	return settings.Usagef("leave one of them away", "%s cannot be meant together", strings.Join(given, " and "))
}

// FlagError turns what the flag parser says into a usage error. Values typed
// after a flag that does not exist are not repeated: they may be secrets.
func FlagError(c *cobra.Command, err error) error {
	hint := fmt.Sprintf("%q lists the flags", c.CommandPath()+" --help")
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		text, _, _ := strings.Cut(err.Error(), ": strconv.") // Go's own words tell nobody more
		return settings.Usagef(hint, "%s", text)
	}
	name := unknown.GetSpecifiedName()
	if unknown.GetSpecifiedShortnames() != "" {
		name = string([]rune(name)[:1])
		return settings.Usagef(hint, "unknown flag -%s", name)
	}
	var known []string
	c.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	if settings.Nearest(name, append(known, "password")) == "password" {
		hint = "a password never goes on the command line: use HOLDFAST_PASSWORD, --password-file or --password-command"
	} else if near := settings.Nearest(name, known); near != "" {
		hint = fmt.Sprintf("did you mean --%s? %s", near, hint)
	}
	return settings.Usagef(hint, "unknown flag --%s", name)
}

// OneOf refuses a word that is not among the allowed.
func OneOf(flag, word string, allowed ...string) error {
	for _, w := range allowed {
		if w == word {
			return nil
		}
	}
	return settings.Usagef(strings.Join(allowed, ", "), "--%s %q is unknown", flag, word)
}
