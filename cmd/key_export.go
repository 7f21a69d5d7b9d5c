package cmd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/cmd/secret"
	"holdfast/cmd/sheet"
	"holdfast/cmd/ui"
	"holdfast/repo"
	"holdfast/repo/seal"
	"holdfast/repo/slot"
)

type keyExportOptions struct {
	output string
	noKey  bool
}

func newKeyExportCommand(a *app) *cobra.Command {
	var opts keyExportOptions
	c := documented(&cobra.Command{
		Use:   "export",
		Short: "make a recovery sheet for the safe",
		Long: `Export makes a sheet for the safe: what this repository is, where it lies, which keys it
has, how to restore, and a new recovery key in groups that a person can type. Whoever
holds the sheet can read the whole repository. The key appears in key list with the label
"recovery sheet". The sheet goes on opening what is written after a key rotate; key remove,
and then key rotate, make it worthless for that.

The sheet goes to a terminal, to a new file that only its owner can read, or, with -o -,
to wherever standard output leads; a pipe alone is refused.`,
		Example: "holdfast -r /srv/backup key export -o /media/usb/sheet.txt\nholdfast -r /srv/backup --key-file typed.txt points",
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			if opts.output == "" && !opts.noKey && !ui.IsTerminal(a.std.Out) {
				return usagef("-o FILE writes it to a file (0600), -o - to standard output all the same", "the sheet holds a key to everything, and standard output is no terminal")
			}
			if _, err := os.Lstat(opts.output); opts.output != "" && err == nil {
				return usagef("choose another name; a sheet is never overwritten", "make recovery sheet %s: it exists", opts.output)
			}
			return a.withRepository(c.Context(), func(r *repo.Repository) error { return runKeyExport(c.Context(), opts, a, r) })
		},
	}, repositoryCodes...)
	c.Flags().StringVarP(&opts.output, "output", "o", "", "write the sheet to `FILE` (0600); - is standard output")
	c.Flags().BoolVar(&opts.noKey, "no-key", false, "only what is no secret: make no recovery key")
	return c
}

// sheetLabel is what key list calls the key of a sheet.
const sheetLabel = "recovery sheet"

func runKeyExport(ctx context.Context, opts keyExportOptions, a *app, r *repo.Repository) error {
	made := &sheet.Sheet{Repository: r.Config().ID, Location: r.Location(), FormatVersion: r.Config().Version, Made: a.std.Now()}
	if !opts.noKey {
		if err := addSheetKey(ctx, a, r, made); err != nil {
			return err
		}
	}
	err := deliverSheet(ctx, opts, a, r, made)
	if err == nil {
		err = a.ui.Err()
	}
	if err != nil && made.Key != "" { // nobody will ever type that key
		_, undo := r.RemoveKey(context.WithoutCancel(ctx), made.Key)
		err = errors.Join(err, undo)
	}
	return err
}

// addSheetKey makes the sheet's key.
func addSheetKey(ctx context.Context, a *app, r *repo.Repository, s *sheet.Sheet) error {
	rows, err := seal.NewSheetKey(rand.Reader)
	if err != nil {
		return err
	}
	for _, row := range rows {
		a.redact.Add(row)
	}
	key, err := seal.ParseKeyFile([]byte(strings.Join(rows[:], "\n")))
	if err != nil {
		return err
	}
	id, err := r.AddKey(ctx, repo.NewKey{Secret: key, Label: sheetLabel})
	if errors.Is(err, slot.ErrUncertain) {
		return fmt.Errorf("make recovery key %s: %w", id, err)
	}
	s.Key, s.RecoveryKey = id, rows[:]
	return err
}

// deliverSheet lists the keys and writes the sheet where it was asked for.
func deliverSheet(ctx context.Context, opts keyExportOptions, a *app, r *repo.Repository, s *sheet.Sheet) error {
	keys, err := r.Keys(ctx)
	if err != nil {
		return err
	}
	s.Keys = orEmpty(keys)
	if opts.output == "" || opts.output == "-" {
		a.ui.Printf("%s", s.Text())
		return a.ui.Result(s)
	}
	if err := secret.WriteKeyFile(opts.output, []byte(s.Text())); err != nil {
		return err
	}
	s.Output, s.RecoveryKey = opts.output, nil
	if s.Key != "" {
		a.ui.Say("the recovery sheet is in %s: print it, put it into a safe, delete the file\nwhoever holds it can read the whole repository; key %s opens it until holdfast key remove %s\n", s.Output, s.Key, s.Key[:6])
	}
	err = a.ui.Result(s)
	if err == nil {
		err = a.ui.Err()
	}
	if err != nil {
		os.Remove(opts.output)
	}
	return err
}
