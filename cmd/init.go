package cmd

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"holdfast/cmd/place"
	"holdfast/cmd/secret"
	"holdfast/cmd/typed"
	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/s3"
	"holdfast/repo/backend/s3/policy"
	"holdfast/repo/seal"
)

type initOptions struct {
	parity, diskChunk, compression, kdf, newKeyFile string
	objectLock, printPolicy                         string
	lockDays                                        int
}

func newInitCommand(a *app) *cobra.Command {
	var opts initOptions
	c := documented(&cobra.Command{
		Use:   "init",
		Short: "make a new repository",
		Long: `Init makes a repository at an empty place. What it decides lasts: the size of disk
chunks, the parity that lets the repository heal itself, and how hard it compresses.

The password cannot be recovered. Write it down where the backups' own disaster
does not reach, or make a key file with --new-key-file and keep a copy of it.

With --object-lock MODE --lock-days N every object is locked in its bucket for N days from
the day it is written, by everybody who writes there from now on; each prune locks what
is still needed for N days more. In governance mode who may bypass the lock can still
delete, in compliance mode nobody can. The bucket must have been made with Object Lock.

With --print-policy ROLE nothing is made: it prints the least that credentials for a ROLE
must be allowed in the bucket, as an IAM policy.`,
		Example: `holdfast -r /srv/backup init
holdfast -r /srv/backup init --new-key-file /root/holdfast.key
holdfast -r s3:bucket/site init --object-lock compliance --lock-days 30
holdfast -r s3:bucket/site init --print-policy backup`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			lock, err := opts.lock(c.Flags().Changed("lock-days"))
			if err != nil {
				return err
			}
			if c.Flags().Changed("print-policy") {
				return runPrintPolicy(opts.printPolicy, lock, a)
			}
			return runInit(c.Context(), opts, lock, a)
		},
	}, exitNoRepository, exitBusy, exitUnreachable, exitWrongKey, exitRefused)
	f := c.Flags()
	f.StringVar(&opts.parity, "parity", "standard", "`LEVEL`: how much damage heals: off, standard (6.5 %) or strong (20 %)")
	f.StringVar(&opts.diskChunk, "disk-chunk", "128K", "`SIZE` of disk chunks, a power of two from 64K to 4M")
	f.StringVar(&opts.compression, "compression", "auto", "`HOW`: auto, none, fast or max")
	f.StringVar(&opts.kdf, "kdf", "standard", "`COST`: how costly each guess at the password is: standard or strong")
	f.StringVar(&opts.newKeyFile, "new-key-file", "", "make a key in `FILE` (0600) that opens the repository")
	f.StringVar(&opts.objectLock, "object-lock", "", "lock objects in the bucket, in `MODE`: governance or compliance")
	f.IntVar(&opts.lockDays, "lock-days", 0, "for `N` days from when they are written or last needed")
	f.StringVar(&opts.printPolicy, "print-policy", "", "make nothing, print the IAM policy of a `ROLE`: backup, restore or admin")
	return c
}

// lock is what the flags say of locks; nil for none.
func (o initOptions) lock(days bool) (*repo.ObjectLock, error) {
	if o.objectLock == "" {
		if days {
			return nil, usagef("--object-lock governance or compliance", "--lock-days goes with --object-lock")
		}
		return nil, nil
	}
	if err := oneOf("object-lock", o.objectLock, s3.Governance, s3.Compliance); err != nil {
		return nil, err
	}
	if o.lockDays < 1 || o.lockDays > s3.MaxLockDays {
		return nil, usagef("--lock-days 30, for example", "--lock-days %d is not 1 to %d", o.lockDays, s3.MaxLockDays)
	}
	return &repo.ObjectLock{Mode: o.objectLock, Days: o.lockDays}, nil
}

// runPrintPolicy prints the policy of a role. It asks nobody.
func runPrintPolicy(role string, lock *repo.ObjectLock, a *app) error {
	if err := oneOf("print-policy", role, string(policy.RoleBackup), string(policy.RoleRestore), string(policy.RoleAdmin)); err != nil {
		return err
	}
	url, err := a.settings.Repository()
	if err != nil {
		return err
	}
	where, bucket, err := place.Bucket(url)
	if err != nil {
		return err
	}
	if !bucket {
		return usagef("name one: -r s3:bucket/prefix or s3:https://host/bucket/prefix", "--print-policy: %s is no bucket", url)
	}
	text, err := policy.JSON(policy.Role(role), where.Bucket, where.Prefix, lock != nil)
	if err != nil {
		return err
	}
	a.ui.Printf("%s", text)
	return a.ui.Result(json.RawMessage(text))
}

// initReport is the result of init.
type initReport struct {
	Repository string   `json:"repository"`
	ID         string   `json:"id"`
	Parity     string   `json:"parity"`
	DiskChunk  int64    `json:"disk_chunk"`
	Keys       []string `json:"keys"`
	KeyFile    string   `json:"key_file"`

	ObjectLock *repo.ObjectLock `json:"object_lock"`
	// SingleWriter is why only one program may write there at a time; "" for many.
	SingleWriter string `json:"single_writer"`
}

func runInit(ctx context.Context, opts initOptions, lock *repo.ObjectLock, a *app) error {
	chunk, err := typed.Size(opts.diskChunk)
	if err != nil {
		return err
	}
	kdf, err := secret.ParseKDF(opts.kdf)
	if err != nil {
		return err
	}
	params := repo.InitParams{Parity: opts.parity, DiskChunkBytes: chunk, Compression: opts.compression, Lock: lock}
	if err := checkParams(params); err != nil {
		return err
	}
	url, err := a.settings.Repository()
	if err != nil {
		return err
	}
	if _, bucket, err := place.Bucket(url); err == nil && !bucket && lock != nil {
		return fmt.Errorf("init %s with locked objects: %w", url, repo.ErrNoLock) // before a directory is made
	}
	be, err := a.openPlace(ctx, url, true)
	if err != nil {
		return err
	}
	defer be.Close()
	cleared, release, err := be.Reserve(ctx)
	if err != nil {
		return err // before a key is made
	}
	defer release()
	if cleared {
		a.ui.Note("an init was cut off here; what it had left is removed")
	}
	if err := repo.CheckLock(ctx, be, lock); err != nil {
		return fmt.Errorf("init %s with locked objects: %w", be.Location(), err) // before a key is made
	}
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
	if unlock, err := a.alone(ctx, be); err == nil { // to say it; the repository is made
		defer unlock()
	}
	return a.showInit(ctx, r, be.SingleWriter(), opts.newKeyFile)
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
	if keyText != nil && (!a.secrets().Given() || secret.SameFile(a.settings.Text("key-file"), opts.newKeyFile)) {
		return keyText, nil
	}
	opens, err := a.secrets().NewRepositoryKey(ctx)
	if err != nil {
		return nil, err
	}
	params.Keys = append(params.Keys, repo.NewKey{Secret: opens, KDF: kdf, Label: "made by init"})
	return keyText, nil
}

func (a *app) showInit(ctx context.Context, r *repo.Repository, alone, keyFile string) error {
	keys, err := r.Keys(ctx)
	if err != nil {
		return err
	}
	rep := initReport{Repository: r.Location(), ID: r.Config().ID, Parity: r.Config().Parity, DiskChunk: r.Config().DiskChunkBytes, KeyFile: keyFile, ObjectLock: r.Config().Lock, SingleWriter: alone}
	for _, k := range keys {
		rep.Keys = append(rep.Keys, k.ID)
	}
	a.ui.Say("made repository %s at %s\n", rep.ID[:8], rep.Repository)
	if lock := rep.ObjectLock; lock != nil {
		a.ui.Say("objects are locked for %d days, in %s mode\n", lock.Days, lock.Mode)
	}
	if keyFile != "" {
		a.ui.Say("its key is in %s: keep a copy elsewhere, nothing opens the repository without it or the password\n", keyFile)
	} else {
		a.ui.Say("keep the password safe: nothing opens the repository without it\n")
	}
	return a.ui.Result(rep)
}
