package sqlguest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/identity"
	"holdfast/sqlguest/locks"
)

// PlaceOf is identity.PlaceOf.
func PlaceOf(at *facts.Instance) string { return identity.PlaceOf(at) }

// Identity is identity.New.
func Identity(place, family string) string { return identity.New(place, family) }

// Known are our backups of an identity, the oldest first.
type Known = identity.Known

// Identities is identity.All.
func Identities(place string, databases []facts.Database, known Known) ([]string, error) {
	return identity.All(place, databases, known)
}

// IdentityOf is identity.Of.
func IdentityOf(place string, databases []facts.Database, i int, known Known) (string, error) {
	return identity.Of(place, databases, i, known)
}

// ErrHeir: which database of a family keeps the family's identity has changed while a run
// was under way; the next run goes on.
var ErrHeir = errors.New("its identity has changed since the run began")

// identify finds out whose backups a job's database continues, and what locks that needs.
// A database that was not open when the run began may be by now.
func (j *job) identify(ctx context.Context) error {
	if j.request.Excluded {
		return nil
	}
	r := j.owner
	all := r.all
	i := j.among(all)
	if all[i].Family == "" {
		var err error
		if _, all, err = r.look(ctx); err != nil {
			return err
		}
		if i = j.among(all); i < 0 {
			return nil // as the first question will find
		}
	}
	d := &all[i]
	id, err := IdentityOf(r.Place, all, i, func(id string) ([]chain.Backup, error) { return r.Keep.Backups(ctx, id) })
	switch {
	case err != nil:
		return err
	case id == "" && d.Family == "":
		j.closed = *d
	case id != "":
		j.id, j.guid, j.lock, j.locks = id, d.GUID, LockName(d), locks.New(r.Server, d, id)
	}
	return nil
}

// among is the job's database in a list of all, -1 if it is not there.
func (j *job) among(all []facts.Database) int {
	return slices.IndexFunc(all, func(d facts.Database) bool {
		return d.Name == j.name && (j.guid == "" || d.GUID == "" || d.GUID == j.guid)
	})
}

// stays makes sure, under the locks, that ours are still the backups of the job's
// database: another run may have made some of a relative in between.
func (j *job) stays(ctx context.Context, all []facts.Database, i int, ours []chain.Backup) error {
	r := j.owner
	id, err := IdentityOf(r.Place, all, i, func(id string) ([]chain.Backup, error) {
		if id == j.id {
			return ours, nil
		}
		return r.Keep.Backups(ctx, id)
	})
	if err == nil && id != j.id && all[i].Family != "" {
		err = fmt.Errorf("back up database %q: %w", j.name, ErrHeir)
	}
	return err
}
