package cmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/cmd/verdict"
	"holdfast/repo"
)

func newKeyRotateCommand(a *app) *cobra.Command {
	return documented(&cobra.Command{
		Use:   "rotate",
		Short: "seal what is written from now on with a new random key",
		Long: `Rotate draws a new random key, a new epoch: backups that begin from now on are sealed
by it. All passwords and key files go on working, whoever knows them; old points stay
readable. A password or key file that was removed before cannot open what comes after.

After a leak, in this order: take whoever has the key the access to the place where the
repository lies, remove the key (holdfast key remove), rotate, and read the list of keys
that rotate prints. A backup that is running ends under the old key.`,
		Example: "holdfast -r /srv/backup key rotate",
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withWriter(c.Context(), func(r *repo.Repository) error {
				done, err := r.RotateKeys(c.Context())
				if err != nil {
					return err
				}
				if !a.json {
					a.ui.Say("epoch %d has begun: what is written from now on is sealed by a new key, which these have\n", done.Epoch)
					a.ui.Table(keyTable(done.Keys))
				}
				if err := a.ui.Result(done); err != nil {
					return err
				}
				var reasons []string
				for _, out := range done.LeftOut {
					reasons = append(reasons, fmt.Sprintf("key %s (%q) does not open the repository any more: %s", out.ID, out.Label, out.Reason))
				}
				return verdict.Incomplete(reasons...)
			})
		},
	}, append([]exitCode{exitIncomplete, exitRefused}, writerCodes...)...)
}
