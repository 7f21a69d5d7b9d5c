package cmd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"holdfast/cmd/settings"
	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/limit"
	"holdfast/repo/backend/local"
	"holdfast/repo/backend/retry"
	"holdfast/repo/backend/s3"
)

// place is a store with the lock of the one writer where only one may write.
type place struct {
	backend.Backend
	lockWriter func(ctx context.Context) (unlock func() error, err error)
}

// schemePattern is the beginning of a URL; a drive letter is none.
var schemePattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]+:`)

// openPlace opens the store behind a repository's URL. With create an empty
// directory is made where there is none; a place that holds anything is refused.
func (a *app) openPlace(ctx context.Context, url string, create bool) (*place, error) {
	if strings.HasPrefix(url, "s3:") {
		return a.openBucket(ctx, url)
	}
	if scheme := schemePattern.FindString(url); scheme != "" {
		return nil, usagef("a path, s3:https://host/bucket/prefix or s3:bucket/prefix; write ./NAME for one with a colon in it", "open repository: %s is no kind of place", scheme)
	}
	open := local.Open
	if create {
		open = local.Create
	}
	be, err := open(ctx, url, local.Options{Log: a.log})
	switch {
	case errors.Is(err, backend.ErrNotFound) && !create:
		return nil, fmt.Errorf("%s: %w", url, repo.ErrNoRepository)
	case errors.Is(err, local.ErrNotEmpty):
		return nil, a.notEmpty(ctx, url)
	case err != nil:
		return nil, err
	}
	// No retries here: what a file system refuses once it refuses again.
	up, down := a.settings.Limits()
	return &place{Backend: limit.New(be, up, down), lockWriter: be.LockWriter}, nil
}

// openBucket opens a store in an S3 bucket. It is the same place whether a
// repository is there or is to be made: init itself looks that it is empty.
func (a *app) openBucket(ctx context.Context, url string) (*place, error) {
	location, err := s3.ParseURL(url)
	if err != nil {
		return nil, err
	}
	roots, err := a.rootCAs()
	if err != nil {
		return nil, err
	}
	opts := s3.Options{Location: location, Region: a.settings.Text("s3.region"), RootCAs: roots, Env: settings.Environment(a.std.Environ).Text, Now: a.now, Log: a.log}
	if id := a.settings.Text("s3.access-key-id"); id != "" {
		opts.AccessKey, opts.SecretKey = id, s3.NewSecret([]byte(a.settings.Text("s3.secret-access-key")))
		if token := a.settings.Text("s3.session-token"); token != "" {
			opts.SessionToken = s3.NewSecret([]byte(token))
		}
	}
	be, err := s3.Open(ctx, opts)
	if err != nil {
		return nil, err
	}
	up, down := a.settings.Limits()
	// A bucket has no lock that a dead process would give back.
	unlocked := func(context.Context) (func() error, error) { return func() error { return nil }, nil }
	return &place{Backend: limit.New(retry.New(be, retry.Options{Log: a.log}), up, down), lockWriter: unlocked}, nil
}

// notEmpty says what is in the way of a new repository.
func (a *app) notEmpty(ctx context.Context, url string) error {
	be, err := local.Open(ctx, url, local.Options{Log: a.log})
	if err == nil {
		defer be.Close()
		if _, err := be.Stat(ctx, "config"); err == nil {
			return usagef("use it as it is, or choose another place for a new one", "init %s: there is a repository already", url)
		}
	}
	if ours, err := os.Stat(filepath.Join(url, "spare", "keys")); err == nil && ours.IsDir() {
		return usagef("an init was cut off here: remove the directory and try again", "init %s: %v", url, repo.ErrNotEmpty)
	}
	return usagef("choose an empty or new directory", "init %s: %v", url, repo.ErrNotEmpty)
}

// options are what every repository gets from the program.
func (a *app) options() repo.Options {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	cache, err := a.settings.CacheDir()
	if err != nil {
		a.log.Info("no cache", "error", err)
	}
	return repo.Options{
		CacheDir: cache, Log: a.log, Now: a.now, Rand: rand.Reader, Host: host,
		Program: "holdfast " + version().Version, PID: os.Getpid(), Healed: a.noteHealed,
	}
}

// noteHealed tells the operator, once an object, that a read had to heal.
func (a *app) noteHealed(name string) {
	if _, told := a.healed.LoadOrStore(name, true); !told {
		a.ui.Warn("%s is damaged or missing; parity or a copy brought its bytes back. Mend it with: holdfast scrub --heal", name)
	}
}

// withPlace runs fn with the store of the repository that the settings name.
func (a *app) withPlace(ctx context.Context, fn func(be *place) error) error {
	url, err := a.settings.Repository()
	if err != nil {
		return err
	}
	be, err := a.openPlace(ctx, url, false)
	if err != nil {
		return err
	}
	defer be.Close()
	return fn(be)
}

// withRepository runs fn with the open repository that the settings name.
func (a *app) withRepository(ctx context.Context, fn func(r *repo.Repository) error) error {
	return a.open(ctx, false, fn)
}

// withWriter is withRepository for commands that write: where the place allows
// only one writer at a time it takes that place's lock, or refuses.
func (a *app) withWriter(ctx context.Context, fn func(r *repo.Repository) error) error {
	return a.open(ctx, true, fn)
}

func (a *app) open(ctx context.Context, write bool, fn func(r *repo.Repository) error) error {
	return a.withPlace(ctx, func(be *place) error {
		if err := repo.Exists(ctx, be); err != nil {
			return err
		}
		secret, err := a.repositoryKey(ctx, repositorySecret)
		if err != nil {
			return err
		}
		r, err := repo.Open(ctx, be, secret, a.options())
		if err != nil {
			return err
		}
		defer r.Close()
		if why := be.SingleWriter(); write && why != "" {
			a.ui.Note("one writer at a time here: %s", why)
			unlock, err := be.lockWriter(ctx)
			if err != nil {
				return err
			}
			defer unlock()
		}
		return fn(r)
	})
}
