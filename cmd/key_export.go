package cmd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/cmd/secret"
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
"recovery sheet"; key remove and key rotate make the sheet worthless.

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

// recoverySheet is the result of key export.
type recoverySheet struct {
	Repository    string     `json:"repository"`
	Location      string     `json:"location"`
	FormatVersion int        `json:"format_version"`
	Made          time.Time  `json:"made"`
	Keys          []repo.Key `json:"keys"`
	Key           string     `json:"key,omitempty"`          // the id of the sheet's own
	RecoveryKey   []string   `json:"recovery_key,omitempty"` // its rows; not when the sheet is in Output
	Output        string     `json:"output,omitempty"`
}

func runKeyExport(ctx context.Context, opts keyExportOptions, a *app, r *repo.Repository) error {
	sheet := &recoverySheet{Repository: r.Config().ID, Location: r.Location(), FormatVersion: r.Config().Version, Made: a.std.Now()}
	if !opts.noKey {
		if err := sheet.addKey(ctx, a, r); err != nil {
			return err
		}
	}
	err := sheet.deliver(ctx, opts, a, r)
	if err == nil {
		err = a.ui.Err()
	}
	if err != nil && sheet.Key != "" { // nobody will ever type that key
		_, undo := r.RemoveKey(context.WithoutCancel(ctx), sheet.Key)
		err = errors.Join(err, undo)
	}
	return err
}

// addKey makes the sheet's key.
func (s *recoverySheet) addKey(ctx context.Context, a *app, r *repo.Repository) error {
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

// deliver lists the keys and writes the sheet where it was asked for.
func (s *recoverySheet) deliver(ctx context.Context, opts keyExportOptions, a *app, r *repo.Repository) error {
	keys, err := r.Keys(ctx)
	if err != nil {
		return err
	}
	s.Keys = orEmpty(keys)
	if opts.output == "" || opts.output == "-" {
		a.ui.Printf("%s", s.text())
		return a.ui.Result(s)
	}
	if err := secret.WriteKeyFile(opts.output, []byte(s.text())); err != nil {
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

// text is the sheet as it is printed.
func (s *recoverySheet) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "HOLDFAST RECOVERY SHEET\n\n")
	if s.Key != "" {
		fmt.Fprintf(&b, "WHOEVER HOLDS THIS SHEET CAN READ THE WHOLE REPOSITORY. Keep it in a safe.\n\n")
	}
	fmt.Fprintf(&b, "Repository    %s\nPlace         %s\nFormat        version %d\nMade          %s\n", s.Repository, s.Location, s.FormatVersion, s.Made.Format(time.RFC3339))
	if s.Key != "" {
		fmt.Fprintf(&b, "\nRECOVERY KEY  %s\n\n", s.Key)
		for i, row := range s.RecoveryKey {
			fmt.Fprintf(&b, "    row %d:  %s\n", i+1, row)
		}
		fmt.Fprintf(&b, `
    Type the groups of the four rows (without "row 1:") into a text file, here
    typed.txt. Small letters, missing spaces and line ends do no harm; there is no
    letter O, I, L or U, only the digits 0 and 1. A mistyped row is told by number.
`)
	}
	option := ""
	if s.Key != "" {
		option = " --key-file typed.txt"
	}
	fmt.Fprintf(&b, `
TO RESTORE

    holdfast -r PLACE%[1]s points
    holdfast -r PLACE%[1]s restore disk POINT -o disk.raw
    holdfast -r PLACE%[1]s restore vm POINT

    PLACE is the place above, or wherever a copy of the repository lies now; for a
    bucket the access keys are needed as well. Any version of holdfast that knows the
    format above will do. The bytes are described in FORMAT.md of its sources.

KEYS WHEN THIS WAS MADE

`, option)
	for _, k := range s.Keys {
		fmt.Fprintf(&b, "    %s  %-8s  %s  %s\n", k.ID, k.KDF, k.Created.Format(time.DateOnly), k.Label)
	}
	if s.Key != "" {
		fmt.Fprintf(&b, "\nThis sheet is lost or seen by others: holdfast key remove %s, then holdfast key rotate.\n", s.Key[:6])
	}
	return b.String()
}
