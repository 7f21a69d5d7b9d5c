package cmd

import (
	"github.com/spf13/cobra"

	"holdfast/cmd/ui"
)

// newConfigCommand makes `config`, whose only command so far is `show`.
func newConfigCommand(a *app) *cobra.Command {
	return newGroup("config", "look at the configuration", "", newConfigShowCommand(a))
}

type configShowOptions struct{ origin bool }

func newConfigShowCommand(a *app) *cobra.Command {
	var opts configShowOptions
	c := documented(&cobra.Command{
		Use:   "show",
		Short: "show the settings in effect and where each came from",
		Long: `Show the settings that a command started now, in this environment and with
these global flags, would use. Secrets are shown as ***.

A flag wins over a variable, a variable over the profile, the profile over the
default. Of several ways to give one secret only the strongest is in effect.`,
		Example: `holdfast config show --origin
holdfast --profile nightly config show --json`,
		Args:        args(),
		Annotations: map[string]string{offlineKey: ""},
		RunE:        func(c *cobra.Command, _ []string) error { return runConfigShow(opts, a) },
	})
	c.Flags().BoolVar(&opts.origin, "origin", false, "show where each value came from")
	return c
}

func runConfigShow(opts configShowOptions, a *app) error {
	shown := a.settings.Show()
	columns := []ui.Column{ui.Left("NAME"), ui.Left("VALUE"), ui.Left("ORIGIN")}
	if !opts.origin {
		columns = columns[:2]
	}
	table := ui.NewTable(columns...)
	for _, s := range shown {
		table.Row(s.Name, s.Value, s.Origin)
	}
	a.ui.Table(table)
	return a.ui.Result(shown)
}
