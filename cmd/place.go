package cmd

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"

	"holdfast/cmd/about"
	"holdfast/cmd/place"
	"holdfast/cmd/runlock"
	"holdfast/cmd/secret"
	"holdfast/repo"
	"holdfast/repo/session"
)

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
		Locks:    func(repository string) session.Locks { return a.locks(cache, repository) },
		CacheDir: cache, Log: a.log, Now: a.now, Rand: rand.Reader, Host: host,
		Program: "holdfast " + about.Program().Version, PID: os.Getpid(), Healed: a.noteHealed, Unlisted: a.noteUnlisted, Vanished: func(point string) { a.noteVanished(point, "") },
	}
}

// locks are those of the sessions of this host, as far as possible where every run
// looks for them, whatever its user and cache.
func (a *app) locks(cache, repository string) session.Locks {
	s := runlock.Sessions{Repository: repository, Warn: a.noteUnlocked}
	if cache != "" {
		s.Own = filepath.Join(cache, repository, "sessions")
	}
	var err error
	if s.Shared, err = runlock.Shared(); err != nil {
		a.log.Info("locks of sessions lie in the cache alone", "error", err)
	}
	return s
}

// noteUnlocked tells the operator, once, that no other run learns from this host
// whether this one lives.
func (a *app) noteUnlocked(err error) {
	a.unlocked.Do(func() {
		a.ui.Warn("no lock can be taken for this run; if it dies, prune waits for --dead-after before it removes what the run leaves: %v", err)
	})
}

// noteHealed tells the operator, once an object, that a read had to heal.
func (a *app) noteHealed(name string) {
	if _, told := a.healed.LoadOrStore(name, true); !told {
		a.ui.Warn("%s is damaged or missing; parity or a copy brought its bytes back. Mend it with: holdfast scrub --heal", name)
	}
}

// noteUnlisted tells the operator, once, that the index is incomplete.
func (a *app) noteUnlisted(packs int) {
	a.unlisted.Do(func() {
		a.ui.Warn("%d packs are in no index: what they hold is read from the packs themselves, and backups store it again. Mend it with: holdfast repair index", packs)
	})
}

// noteVanished tells the operator, once, that a point is gone that was there, and that
// the run is not complete for it. source is what it was of, "" if that is not known.
func (a *app) noteVanished(point, source string) {
	if text := a.vanished.Tell(point, source); text != "" {
		a.ui.Warn("%s", text)
	}
	a.vanished.Add(point)
}

// openPlace opens the store behind a repository's URL, or makes it.
func (a *app) openPlace(ctx context.Context, url string, create bool) (*place.Place, error) {
	return place.Open(ctx, url, create, place.Options{Settings: a.settings, Environ: a.std.Environ, Now: a.now, Log: a.log})
}

// withPlace runs fn with the store of the repository that the settings name.
func (a *app) withPlace(ctx context.Context, fn func(be *place.Place) error) error {
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
	return a.withPlace(ctx, func(be *place.Place) error {
		if err := repo.Exists(ctx, be); err != nil {
			return err
		}
		opens, err := a.secrets().RepositoryKey(ctx, secret.Repository)
		if err != nil {
			return err
		}
		r, err := repo.Open(ctx, be, opens, a.options())
		if err != nil {
			return err
		}
		defer r.Close()
		if !write {
			return a.vanished.Verdict(fn(r))
		}
		unlock, err := a.alone(ctx, be)
		if err != nil {
			return err
		}
		defer unlock()
		return a.vanished.Verdict(fn(r))
	})
}

// alone says where only one process may write at a time, and takes the lock that
// sees to it; where there is none, the operator has to.
func (a *app) alone(ctx context.Context, be *place.Place) (unlock func() error, err error) {
	be.Probe(ctx)
	why := be.SingleWriter()
	switch {
	case why == "":
		return func() error { return nil }, nil
	case be.Guarded():
		a.ui.Note("one writer at a time here: %s", why)
	default:
		a.ui.Warn("only one program may write here at a time, and nothing but you sees to that: %s", why)
	}
	return be.LockWriter(ctx)
}
