package cmd

import (
	"context"
	"crypto/rand"
	"os"

	"github.com/spf13/cobra"

	"holdfast/cmd/secret"
	"holdfast/cmd/typed"
	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/seal"
)

type initOptions struct {
	parity, diskChunk, compression, kdf, newKeyFile string
}

func newInitCommand(a *app) *cobra.Command {
	var opts initOptions
	c := documented(&cobra.Command{
		Use:   "init",
		Short: "make a new repository",
		Long: `Init makes a repository at an empty place. What it decides lasts: the size of disk
chunks, the parity that lets the repository heal itself, and how hard it compresses.

The password cannot be recovered. Write it down where the backups' own disaster
does not reach, or make a key file with --new-key-file and keep a copy of it.`,
		Example: "holdfast -r /srv/backup init\nholdfast -r /srv/backup init --new-key-file /root/holdfast.key",
		Args:    args(),
		RunE:    func(c *cobra.Command, _ []string) error { return runInit(c.Context(), opts, a) },
	}, exitUnreachable, exitWrongKey)
	f := c.Flags()
	f.StringVar(&opts.parity, "parity", "standard", "`LEVEL`: how much damage heals: off, standard (6.5 %) or strong (20 %)")
	f.StringVar(&opts.diskChunk, "disk-chunk", "128K", "`SIZE` of disk chunks, a power of two from 64K to 4M")
	f.StringVar(&opts.compression, "compression", "auto", "`HOW`: auto, none, fast or max")
	f.StringVar(&opts.kdf, "kdf", "standard", "`COST`: how costly each guess at the password is: standard or strong")
	f.StringVar(&opts.newKeyFile, "new-key-file", "", "make a key in `FILE` (0600) that opens the repository")
	return c
}

// initReport is the result of init.
type initReport struct {
	Repository string   `json:"repository"`
	ID         string   `json:"id"`
	Parity     string   `json:"parity"`
	DiskChunk  int64    `json:"disk_chunk"`
	Keys       []string `json:"keys"`
	KeyFile    string   `json:"key_file,omitempty"`
}

func runInit(ctx context.Context, opts initOptions, a *app) error {
	chunk, err := typed.Size(opts.diskChunk)
	if err != nil {
		return err
	}
	kdf, err := secret.ParseKDF(opts.kdf)
	if err != nil {
		return err
	}
	params := repo.InitParams{Parity: opts.parity, DiskChunkBytes: chunk, Compression: opts.compression}
	if err := checkParams(params); err != nil {
		return err
	}
	url, err := a.settings.Repository()
	if err != nil {
		return err
	}
	be, err := a.openPlace(ctx, url, true)
	if err != nil {
		return err
	}
	defer be.Close()
	keyText, err := a.initKeys(ctx, opts, kdf, &params)
	if err != nil {
		return err
	}
	if keyText != nil {
		// The key is on disk before the repository that only it may open.
		if err := secret.WriteKeyFile(opts.newKeyFile, keyText); err != nil {
			return err
		}
	}
	r, err := initOrUndo(ctx, be, params, opts.newKeyFile, keyText != nil, a)
	if err != nil {
		return err
	}
	defer r.Close()
	return a.showInit(ctx, r, opts.newKeyFile)
}

// checkParams refuses what the format does not allow, and the zero values that
// would stand for defaults there: here they were typed.
func checkParams(params repo.InitParams) error {
	for _, err := range []error{
		oneOf("parity", params.Parity, "off", "standard", "strong"),
		oneOf("compression", params.Compression, "auto", "none", "fast", "max"),
	} {
		if err != nil {
			return err
		}
	}
	if err := params.Check(); err != nil || params.DiskChunkBytes == 0 {
		return usagef("a power of two from 64K to 4M", "--disk-chunk %d bytes is not allowed", params.DiskChunkBytes)
	}
	return nil
}

// initOrUndo makes the repository; if that fails the key file of a repository
// that does not exist is removed.
func initOrUndo(ctx context.Context, be backend.Backend, params repo.InitParams, keyFile string, made bool, a *app) (*repo.Repository, error) {
	r, err := repo.Init(ctx, be, params, a.options())
	if err != nil && made {
		if _, statErr := be.Stat(context.WithoutCancel(ctx), "config"); statErr != nil {
			os.Remove(keyFile)
		}
	}
	return r, err
}

// initKeys gathers the secrets of a new repository: a password unless only a
// key file was asked for, and a new key file. It returns the text of the latter.
func (a *app) initKeys(ctx context.Context, opts initOptions, kdf seal.KDF, params *repo.InitParams) ([]byte, error) {
	var keyText []byte
	if opts.newKeyFile != "" {
		if _, err := os.Lstat(opts.newKeyFile); err == nil {
			return nil, usagef("choose another name; a key is never overwritten", "make key file %s: it exists", opts.newKeyFile)
		}
		text, err := seal.NewKeyFile(rand.Reader)
		if err != nil {
			return nil, err
		}
		opens, err := seal.ParseKeyFile(text)
		if err != nil {
			return nil, err
		}
		keyText = text
		params.Keys = append(params.Keys, repo.NewKey{Secret: opens, Label: "key file made by init"})
	}
	if keyText != nil && !a.secrets().Given() {
		return keyText, nil
	}
	opens, err := a.secrets().NewRepositoryKey(ctx)
	if err != nil {
		return nil, err
	}
	params.Keys = append(params.Keys, repo.NewKey{Secret: opens, KDF: kdf, Label: "made by init"})
	return keyText, nil
}

func (a *app) showInit(ctx context.Context, r *repo.Repository, keyFile string) error {
	keys, err := r.Keys(ctx)
	if err != nil {
		return err
	}
	rep := initReport{Repository: r.Location(), ID: r.Config().ID, Parity: r.Config().Parity, DiskChunk: r.Config().DiskChunkBytes, KeyFile: keyFile}
	for _, k := range keys {
		rep.Keys = append(rep.Keys, k.ID)
	}
	a.ui.Say("made repository %s at %s\n", rep.ID[:8], rep.Repository)
	if keyFile != "" {
		a.ui.Say("its key is in %s: keep a copy elsewhere, nothing opens the repository without it or the password\n", keyFile)
	} else {
		a.ui.Say("keep the password safe: nothing opens the repository without it\n")
	}
	return a.ui.Result(rep)
}
