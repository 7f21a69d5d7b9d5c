package cmd

import (
	"fmt"
	"os"
	"strings"

	"holdfast/cmd/about"
	"holdfast/cmd/usage"

	"github.com/spf13/cobra"
)

func newVersionCommand(a *app) *cobra.Command {
	return documented(&cobra.Command{
		Use:         "version",
		Short:       "show which holdfast this is",
		Example:     "holdfast version --json",
		Args:        args(),
		Annotations: map[string]string{offlineKey: ""},
		RunE: func(*cobra.Command, []string) error {
			b := about.Program()
			commit := ""
			if b.Commit != "" {
				commit = ", commit " + b.Commit
			}
			a.ui.Printf("holdfast %s (%s/%s, %s%s)\n", b.Version, b.OS, b.Arch, b.Go, commit)
			return a.ui.Result(b)
		},
	})
}

func newCompletionCommand(a *app) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return documented(&cobra.Command{
		Use:         "completion bash|zsh|fish|powershell",
		Short:       "print the completion script of a shell",
		Example:     "holdfast completion bash >/etc/bash_completion.d/holdfast\nholdfast completion zsh >\"${fpath[1]}/_holdfast\"",
		Args:        args("SHELL"),
		ValidArgs:   shells,
		Annotations: map[string]string{offlineKey: ""},
		RunE: func(c *cobra.Command, given []string) error {
			root, out := c.Root(), a.ui.Out()
			switch given[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return usagef("it is one of "+strings.Join(shells, ", "), "write completion: unknown shell %q", given[0])
		},
	})
}

func newManCommand(a *app) *cobra.Command {
	return documented(&cobra.Command{
		Use:         "man DIR",
		Short:       "write the manual pages into a directory",
		Example:     "holdfast man /usr/local/share/man/man1",
		Args:        args("DIR"),
		Annotations: map[string]string{offlineKey: ""},
		RunE: func(c *cobra.Command, given []string) error {
			if err := os.MkdirAll(given[0], 0o755); err != nil {
				return fmt.Errorf("write manual: %w", err)
			}
			files, err := usage.Manual(given[0], c.Root(), about.Program().Version)
			if err != nil {
				return err
			}
			a.ui.Say("%d pages written to %s\n", len(files), given[0])
			return a.ui.Result(files)
		},
	})
}
