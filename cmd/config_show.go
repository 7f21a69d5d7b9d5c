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

// shownSetting is one element of config show's JSON.
type shownSetting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
}

func runConfigShow(opts configShowOptions, a *app) error {
	var shown []shownSetting
	for _, set := range settingTable {
		if v, ok := a.settings.values[set.name]; ok {
			shown = append(shown, shownSetting{set.name, set.show(v.text), v.origin.String()})
		}
	}
	shown = append(shown, a.settings.profile.shownFlags()...)
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

// shownFlags are the profile's defaults for commands' own flags.
func (p *profile) shownFlags() []shownSetting {
	if p == nil {
		return nil
	}
	var shown []shownSetting
	for _, path := range sortedKeys(p.commands) {
		for _, name := range sortedKeys(p.commands[path]) {
			for _, text := range p.commands[path][name] {
				shown = append(shown, shownSetting{path + " --" + name, text, "profile " + p.place()})
			}
		}
	}
	return shown
}
