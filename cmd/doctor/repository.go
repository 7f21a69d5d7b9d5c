package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"holdfast/cmd/place"
	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/local"
	"holdfast/repo/ledger"
	"holdfast/sqlguest/agent/check"
)

// Repository looks whether the repository is there, takes what is written, and opens.
func (r *Report) Repository(ctx context.Context) {
	entered := false
	err := r.app.Place(ctx, func(p *place.Place) error {
		entered = true
		if err := repo.Exists(ctx, p); err != nil {
			r.fail(Repository, "repo-there", "repository", err)
			return nil
		}
		if _, err := p.Get(ctx, ledger.ConfigObject, 0, 1); err != nil && !errors.Is(err, backend.ErrNotFound) {
			r.fail(Repository, "repo-there", "repository", fmt.Errorf("read %s: %w", ledger.ConfigObject, err))
			return nil
		}
		r.add(Repository, ok("repo-there", "repository", "there is one at %s", p.Location()))
		if err := writable(ctx, p); err != nil {
			r.fail(Repository, "repo-write", "writing", fmt.Errorf("write a trial to %s: %w", p.Location(), err))
		} else {
			r.add(Repository, ok("repo-write", "writing", "a trial was written and left nothing"))
		}
		why := p.SingleWriter()
		l := check.Line{ID: "repo-writers", Name: "writers", Detail: "several runs may write at once", Remedy: "let one run end before the next begins"}
		if why != "" {
			l.Detail = "one at a time: " + why
		}
		r.add(Repository, l.When(why == "", check.Warning))
		r.open(ctx)
		return nil
	})
	if err != nil || !entered {
		r.fail(Repository, "repo-there", "repository", err)
	}
}

// open looks whether the key fits and the points can be read.
func (r *Report) open(ctx context.Context) {
	entered := false
	err := r.app.Repository(ctx, func(opened *repo.Repository) error {
		entered = true
		r.add(Repository, ok("repo-key", "key", "the repository opens"))
		points, problems, err := opened.Briefs(ctx)
		if err != nil {
			r.fail(Repository, "repo-points", "recovery points", err)
			return nil
		}
		l := check.Line{ID: "repo-points", Name: "recovery points", Detail: fmt.Sprintf("%d, all readable", len(points)), Remedy: "holdfast check names what is damaged, holdfast scrub --heal mends it"}
		if len(problems) > 0 {
			l.Detail = fmt.Sprintf("%d, and %d that cannot be read", len(points), len(problems))
		}
		r.add(Repository, l.When(len(problems) == 0, check.Warning))
		return nil
	})
	switch {
	case !entered:
		r.fail(Repository, "repo-key", "key", err)
	case err != nil:
		r.fail(Repository, "repo-points", "recovery points", err)
	}
}

// prober is a store that can try out writing on an object that is there.
type prober interface {
	ProbePutIfAbsent(ctx context.Context, name string, data []byte) error
}

// writable writes where nothing stays of it: a bucket gets the config once more if it
// is absent, which it is not; a directory a file that goes away at once.
func writable(ctx context.Context, p *place.Place) error {
	if store, ok := backend.As[prober](p); ok {
		config, err := p.Get(ctx, ledger.ConfigObject, 0, -1)
		if err != nil {
			return fmt.Errorf("read %s: %w", ledger.ConfigObject, err)
		}
		return store.ProbePutIfAbsent(ctx, ledger.ConfigObject, config)
	}
	if _, ok := backend.As[*local.Backend](p); !ok {
		return nil
	}
	return tryDirectory(filepath.Join(p.Location(), "tmp"))
}

// tryDirectory writes and removes a file in a directory, which is made for that if it
// is missing and goes with it.
func tryDirectory(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		defer func() { _ = os.Remove(dir) }()
	} else if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make a directory: %w", err)
	}
	f, err := os.CreateTemp(dir, "doctor-")
	if err != nil {
		return fmt.Errorf("make a file: %w", err)
	}
	_, err = f.Write(make([]byte, 4096))
	if err = errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name())); err != nil {
		return fmt.Errorf("write a file: %w", err)
	}
	return nil
}
