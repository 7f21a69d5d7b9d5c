// Package place opens the store that a repository's URL names, as this run may use
// it: a directory or an S3 bucket, with the operator's credentials, certificates
// and limits of speed, and with retries where a network lies between.
package place

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"holdfast/cmd/settings"
	"holdfast/cmd/verdict"
	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/limit"
	"holdfast/repo/backend/local"
	"holdfast/repo/backend/retry"
	"holdfast/repo/backend/s3"
	"holdfast/repo/ledger"
)

// Place is a store with the lock of the one writer where only one may write.
type Place struct {
	backend.Backend
	lockWriter func(ctx context.Context) (unlock func() error, err error) // nil where there is no such lock
	log        *slog.Logger
}

// Unwrap is the store itself, for backend.As.
func (p *Place) Unwrap() backend.Backend { return p.Backend }

// LockWriter takes the lock of the one writer and returns how to give it back. It
// is for places whose SingleWriter tells why there must be one; elsewhere, where
// no lock would outlive its process, there is nothing to take.
func (p *Place) LockWriter(ctx context.Context) (unlock func() error, err error) {
	if p.lockWriter == nil {
		return func() error { return nil }, nil
	}
	return p.lockWriter(ctx)
}

// prober is a store that can try out whether it decides between writers, on an
// object that is there.
type prober interface {
	ProbePutIfAbsent(ctx context.Context, name string, data []byte) error
}

// Probe lets SingleWriter know before anything is written, where that takes a
// trial: a config put over itself, if absent. A trial that fails decides nothing;
// what is really wrong then ends the first write.
func (p *Place) Probe(ctx context.Context) {
	store, ok := backend.As[prober](p.Backend)
	if !ok {
		return
	}
	config, err := p.Get(ctx, ledger.ConfigObject, 0, -1)
	if err == nil {
		err = store.ProbePutIfAbsent(ctx, ledger.ConfigObject, config)
	}
	if err != nil {
		p.log.Info("cannot tell whether several may write here at once", "error", err)
	}
}

// Guarded reports whether a lock keeps a second writer out where only one may
// write. A bucket has none that a dead process would give back.
func (p *Place) Guarded() bool { return p.lockWriter != nil }

// Bucket is where in S3 a repository's URL points, if it points there.
func Bucket(url string) (where s3.Location, ok bool, err error) {
	if !strings.HasPrefix(url, "s3:") {
		return s3.Location{}, false, nil
	}
	where, err = s3.ParseURL(url)
	return where, true, err
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
		if be, err = cutOff(ctx, url, opts); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	}
	// No retries here: what a file system refuses once it refuses again.
	up, down := opts.Settings.Limits()
	return &Place{Backend: limit.New(be, up, down), lockWriter: be.LockWriter, log: opts.Log}, nil
}

// styles are the ways to name a bucket, by the setting's words; the zero one is auto.
var styles = map[string]s3.Style{"path": s3.StylePath, "virtual": s3.StyleVirtual}

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
	store := s3.Options{Location: location, Region: opts.Settings.Text("s3.region"), Style: styles[opts.Settings.Text("s3.style")], RootCAs: roots, Env: opts.Environ.Text, Now: opts.Now, Log: opts.Log}
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
	return &Place{Backend: limit.New(retry.New(be, retry.Options{Log: opts.Log}), up, down), log: opts.Log}, nil
}

// cutOff opens a directory that is not empty if all in it is what an init left that was
// cut off; else the error says what is in the way of a new repository.
func cutOff(ctx context.Context, url string, opts Options) (*local.Backend, error) {
	refusal := fmt.Errorf("init %s: %w", url, repo.ErrNotEmpty)
	be, err := local.Open(ctx, url, local.Options{Log: opts.Log})
	if err != nil {
		return nil, refusal
	}
	if err := Vacant(ctx, be); err != nil {
		refusal = err
	}
	if errors.Is(refusal, repo.ErrCutOff) {
		return be, nil
	}
	return nil, errors.Join(refusal, be.Close())
}

// Reserve keeps a place for a new repository until it is given back, and refuses one
// that is not empty. In a directory only one init is at work at a time; so what one has
// left that was killed is cleared away (cleared). Where there is no such lock, or
// listings are cached, that is for the operator to do.
func (p *Place) Reserve(ctx context.Context) (cleared bool, unlock func() error, err error) {
	if p.lockWriter == nil {
		return false, func() error { return nil }, Vacant(ctx, p)
	}
	unlock, err = p.lockWriter(ctx)
	switch {
	case errors.Is(err, local.ErrLocked):
		return false, nil, err
	case err != nil: // there are file systems without locks
		return false, func() error { return nil }, Vacant(ctx, p)
	}
	err = Vacant(ctx, p)
	if errors.Is(err, repo.ErrCutOff) && p.SingleWriter() == "" {
		err, cleared = repo.ClearCutOff(ctx, p), true
	}
	if err != nil {
		return false, nil, errors.Join(err, unlock())
	}
	return cleared, unlock, nil
}

// taken is the refusal of a place where a repository is, or was, with advice; nil
// elsewhere.
func taken(ctx context.Context, be backend.Backend) error {
	there := repo.Exists(ctx, be)
	if errors.Is(there, repo.ErrConfigLost) {
		return verdict.Advise(fmt.Errorf("init %s: there is a repository already, though its config and spare/config are gone: %w", be.Location(), repo.ErrNotEmpty), configLost)
	}
	if there != nil {
		return nil
	}
	err := fmt.Errorf("init %s: there is a repository already: %w", be.Location(), repo.ErrNotEmpty)
	return verdict.Advise(err, "use it as it is, or choose another place for a new one")
}

// Vacant refuses, before anything is made, a place that holds any object, and a
// bucket that does not exist.
func Vacant(ctx context.Context, be backend.Backend) error {
	err := repo.Vacant(ctx, be)
	switch {
	case errors.Is(err, repo.ErrNotEmpty):
		if err := taken(ctx, be); err != nil {
			return err
		}
	case errors.Is(err, s3.ErrNoBucket):
		return fmt.Errorf("init %s: %w", be.Location(), s3.ErrNoBucket)
	case err == nil:
		return nil
	}
	return fmt.Errorf("init: %w", err)
}

// configLost is what to do about a repository without config.
const configLost = "bring config, or spare/config, back from another copy of the repository: same name, same bytes; nothing opens it without. Make a new one elsewhere"
