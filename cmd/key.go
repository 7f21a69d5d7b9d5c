package cmd

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"holdfast/cmd/frame"
	"holdfast/cmd/secret"
	"holdfast/cmd/ui"
	"holdfast/cmd/verdict"
	"holdfast/repo"
	"holdfast/repo/seal"
	"holdfast/repo/slot"
)

func newKeyCommand(a *app) *cobra.Command {
	return newGroup("key", "passwords and key files of the repository",
		`Several passwords and key files can open one repository, each in a slot of its own.`,
		newKeyListCommand(a), newKeyAddCommand(a), newKeyRemoveCommand(a), newKeyPasswdCommand(a),
		newKeyRotateCommand(a), newKeyExportCommand(a))
}

func newKeyListCommand(a *app) *cobra.Command {
	return documented(&cobra.Command{
		Use:     "list",
		Short:   "list the key slots",
		Example: "holdfast -r /srv/backup key list",
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withRepository(c.Context(), func(r *repo.Repository) error {
				keys, err := r.Keys(c.Context())
				if err != nil {
					return err
				}
				if !a.json {
					a.ui.Table(keyTable(keys))
				}
				return a.ui.Result(orEmpty(keys))
			})
		},
	}, repositoryCodes...)
}

// keyTable shows key slots.
func keyTable(keys []repo.Key) *ui.Table {
	t := ui.NewTable(ui.Left("ID"), ui.Left("Kind"), ui.Left("Created"), ui.Right("Epoch"), ui.Left("Label"), ui.Left(""))
	for _, k := range keys {
		mark := ""
		switch {
		case k.Damaged:
			mark = "damaged"
		case k.Removing:
			mark = "removal begun"
		case k.Behind:
			mark = "missed a rotation"
		case k.Current:
			mark = "opened this"
		}
		t.Row(k.ID, k.KDF, k.Created.Local().Format(time.DateTime), strconv.FormatUint(uint64(k.Epoch), 10), k.Label, mark)
	}
	return t
}

// The exit codes of every command that opens a repository, and of those that write to it.
var (
	repositoryCodes = frame.RepositoryCodes()
	writerCodes     = frame.WriterCodes()
)

type keyAddOptions struct{ passwordFile, keyFile, kdf, label string }

func newKeyAddCommand(a *app) *cobra.Command {
	var opts keyAddOptions
	c := documented(&cobra.Command{
		Use:     "add",
		Short:   "let one more password or key file open the repository",
		Example: "holdfast -r /srv/backup key add --new-password-file /root/second\nholdfast -r /srv/backup key add --new-key-file /media/usb/holdfast.key",
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := exclusive(c, "new-password-file", "new-key-file"); err != nil {
				return err
			}
			return a.withWriter(c.Context(), func(r *repo.Repository) error { return runKeyAdd(c.Context(), opts, a, r) })
		},
	}, writerCodes...)
	f := c.Flags()
	f.StringVar(&opts.passwordFile, "new-password-file", "", "the new password is in `FILE`")
	f.StringVar(&opts.keyFile, "new-key-file", "", "make a new key in `FILE` (0600)")
	f.StringVar(&opts.kdf, "kdf", "standard", "`COST`: how costly each guess at the password is: standard or strong")
	f.StringVar(&opts.label, "label", "", "what to call it in the list, `TEXT`")
	return c
}

// keyChange is the result of key add, remove and passwd.
type keyChange struct {
	ID      string `json:"id"`
	Removed string `json:"removed"`
	KeyFile string `json:"key_file"`
}

func runKeyAdd(ctx context.Context, opts keyAddOptions, a *app, r *repo.Repository) error {
	key, err := a.additionalKey(ctx, opts)
	if err != nil {
		return err
	}
	id, err := r.AddKey(ctx, key)
	if err != nil {
		if opts.keyFile != "" && !errors.Is(err, slot.ErrUncertain) {
			os.Remove(opts.keyFile)
		}
		return err
	}
	a.ui.Say("added key %s\n", id)
	return a.ui.Result(keyChange{ID: id, KeyFile: opts.keyFile})
}

// additionalKey reads or makes the secret of a new slot.
func (a *app) additionalKey(ctx context.Context, opts keyAddOptions) (repo.NewKey, error) {
	kdf, err := secret.ParseKDF(opts.kdf)
	if err != nil {
		return repo.NewKey{}, err
	}
	key := repo.NewKey{KDF: kdf, Label: opts.label}
	if opts.keyFile == "" {
		key.Secret, err = a.secrets().Additional(ctx, opts.passwordFile)
		return key, err
	}
	text, err := seal.NewKeyFile(rand.Reader)
	if err != nil {
		return key, err
	}
	if key.Secret, err = seal.ParseKeyFile(text); err != nil {
		return key, err
	}
	return key, secret.WriteKeyFile(opts.keyFile, text)
}

func newKeyRemoveCommand(a *app) *cobra.Command {
	return documented(&cobra.Command{
		Use:     "remove ID",
		Short:   "take a password or key file its right to open the repository",
		Long:    "Remove deletes a key slot. The last one is never removed. Whoever had that key and a\ncopy of the repository can still read the copy; what is written later, too, unless the\nkeys are rotated: holdfast key rotate.",
		Example: "holdfast -r /srv/backup key remove 3f21a7",
		Args:    args("ID"),
		RunE: func(c *cobra.Command, ids []string) error {
			return a.withWriter(c.Context(), func(r *repo.Repository) error {
				removed, held := r.RemoveKey(c.Context(), ids[0])
				if held != nil && !errors.Is(held, slot.ErrHeld) {
					return held
				}
				a.ui.Say("removed key %s\n", removed)
				if held == nil && removed == r.Slot() {
					a.ui.Warn("key %s opened this run: the password or key file in use opens nothing from now on; give schedules and profiles another. Whoever knows it and has a copy of the repository still reads what is written later: holdfast key rotate ends that", removed)
				}
				return errors.Join(a.ui.Result(keyChange{Removed: removed}), whileHeld(held))
			})
		},
	}, append([]exitCode{exitIncomplete, exitRefused}, writerCodes...)...)
}

// whileHeld makes of slot.ErrHeld what it comes to: the key is removed, and the
// bucket's lock keeps its slot for a time. nil of nil.
func whileHeld(held error) error {
	if held == nil {
		return nil
	}
	return verdict.Advise(verdict.Incomplete(held.Error()), "holdfast key rotate keeps it from what is written from then on; once the lock has ended holdfast key remove, or a rotation, deletes it")
}

func newKeyPasswdCommand(a *app) *cobra.Command {
	var opts keyAddOptions
	c := documented(&cobra.Command{
		Use:     "passwd",
		Short:   "change the password that was used to open the repository",
		Long:    "Passwd makes a slot for the new password and removes the one that opened the\nrepository. The data is not encrypted anew: whoever knew the old password and has a\ncopy of the repository can still read the copy; what is written later, too, unless the\nkeys are rotated: holdfast key rotate.",
		Example: "holdfast -r /srv/backup key passwd",
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withWriter(c.Context(), func(r *repo.Repository) error {
				key, err := a.additionalKey(c.Context(), opts)
				if err != nil {
					return err
				}
				old := r.Slot()
				id, held := r.ReplaceKey(c.Context(), key)
				if held != nil && !errors.Is(held, slot.ErrHeld) {
					return held
				}
				a.ui.Say("key %s replaces %s\n", id, old)
				if held == nil {
					a.ui.Say("what opened this run opens nothing from now on: give schedules and profiles the new password\n")
				}
				return errors.Join(a.ui.Result(keyChange{ID: id, Removed: old}), whileHeld(held))
			})
		},
	}, append([]exitCode{exitIncomplete}, writerCodes...)...)
	f := c.Flags()
	f.StringVar(&opts.passwordFile, "new-password-file", "", "the new password is in `FILE`")
	f.StringVar(&opts.kdf, "kdf", "standard", "`COST`: how costly each guess at the password is: standard or strong")
	return c
}
