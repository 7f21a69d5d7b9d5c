// Package place opens the store that a repository's URL names, as this run may use
// it: a directory or an S3 bucket, with the operator's credentials, certificates
// and limits of speed, and with retries where a network lies between.
package place

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"holdfast/cmd/settings"
	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/limit"
	"holdfast/repo/backend/local"
	"holdfast/repo/backend/retry"
	"holdfast/repo/backend/s3"
)

// Place is a store with the lock of the one writer where only one may write.
type Place struct {
	backend.Backend
	lockWriter func(ctx context.Context) (unlock func() error, err error)
}

// Unwrap is the store itself, for backend.As.
func (p *Place) Unwrap() backend.Backend { return p.Backend }

// LockWriter takes the lock of the one writer and returns how to give it back. It
// is for places whose SingleWriter tells why there must be one; elsewhere, where
// no lock would outlive its process, there is nothing to take.
func (p *Place) LockWriter(ctx context.Context) (unlock func() error, err error) {
	return p.lockWriter(ctx)
}

// Options are what opening a place needs of the run. Log nil is not allowed.
type Options struct {
	Settings *settings.Settings   // limits, certificates and credentials
	Environ  settings.Environment // where the S3 client looks as other programs do
	Now      func() time.Time
	Log      *slog.Logger
}

// schemePattern is the beginning of a URL; a drive letter is none.
var schemePattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]+:`)

// Open opens the store behind a repository's URL; repo.ErrNoRepository where there
// is no directory. With create an empty directory is made where there is none, and
// a place that holds anything is refused.
func Open(ctx context.Context, url string, create bool, opts Options) (*Place, error) {
	if strings.HasPrefix(url, "s3:") {
		return openBucket(ctx, url, opts)
	}
	if scheme := schemePattern.FindString(url); scheme != "" {
		return nil, settings.Usagef("a path, s3:https://host/bucket/prefix or s3:bucket/prefix; write ./NAME for one with a colon in it", "open repository: %s is no kind of place", scheme)
	}
	open := local.Open
	if create {
		open = local.Create
	}
	be, err := open(ctx, url, local.Options{Log: opts.Log})
	switch {
	case errors.Is(err, backend.ErrNotFound) && !create:
		return nil, fmt.Errorf("%s: %w", url, repo.ErrNoRepository)
	case errors.Is(err, local.ErrNotEmpty):
		return nil, notEmpty(ctx, url, opts)
	case err != nil:
		return nil, err
	}
	// No retries here: what a file system refuses once it refuses again.
	up, down := opts.Settings.Limits()
	return &Place{Backend: limit.New(be, up, down), lockWriter: be.LockWriter}, nil
}

// openBucket opens a store in an S3 bucket. It is the same place whether a
// repository is there or is to be made: init itself looks that it is empty.
func openBucket(ctx context.Context, url string, opts Options) (*Place, error) {
	location, err := s3.ParseURL(url)
	if err != nil {
		return nil, err
	}
	roots, err := opts.Settings.RootCAs()
	if err != nil {
		return nil, err
	}
	store := s3.Options{Location: location, Region: opts.Settings.Text("s3.region"), RootCAs: roots, Env: opts.Environ.Text, Now: opts.Now, Log: opts.Log}
	if id := opts.Settings.Text("s3.access-key-id"); id != "" {
		store.AccessKey, store.SecretKey = id, s3.NewSecret([]byte(opts.Settings.Text("s3.secret-access-key")))
		if token := opts.Settings.Text("s3.session-token"); token != "" {
			store.SessionToken = s3.NewSecret([]byte(token))
		}
	}
	be, err := s3.Open(ctx, store)
	if err != nil {
		return nil, err
	}
	up, down := opts.Settings.Limits()
	// A bucket has no lock that a dead process would give back.
	unlocked := func(context.Context) (func() error, error) { return func() error { return nil }, nil }
	return &Place{Backend: limit.New(retry.New(be, retry.Options{Log: opts.Log}), up, down), lockWriter: unlocked}, nil
}

// notEmpty says what is in the way of a new repository.
func notEmpty(ctx context.Context, url string, opts Options) error {
	be, err := local.Open(ctx, url, local.Options{Log: opts.Log})
	if err == nil {
		defer be.Close()
		if _, err := be.Stat(ctx, "config"); err == nil {
			return settings.Usagef("use it as it is, or choose another place for a new one", "init %s: there is a repository already", url)
		}
	}
	if ours, err := os.Stat(filepath.Join(url, "spare", "keys")); err == nil && ours.IsDir() {
		return settings.Usagef("an init was cut off here: remove the directory and try again", "init %s: %v", url, repo.ErrNotEmpty)
	}
	return settings.Usagef("choose an empty or new directory", "init %s: %v", url, repo.ErrNotEmpty)
}
