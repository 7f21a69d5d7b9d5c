package origin

import (
	"fmt"

	"holdfast/repo/recovery"
	"holdfast/sqlguest/shelf"
)

// Source is a database that a repository has backups of.
type Source struct {
	Name     string // sql/PLACE/DATABASE, as it was called last
	Identity string
}

// Choose finds the database that an operator means, as shelf.One does: DATABASE,
// PLACE/DATABASE or sql/PLACE/DATABASE, where place, if given, is the PLACE; of several
// that have had the name the newest. points are ordered oldest first. Errors:
// recovery.ErrUnknown, recovery.ErrAmbiguous.
func Choose(points []recovery.Brief, name, place string) (Source, error) {
	if name == "" {
		return Source{}, fmt.Errorf("find database %q: %w", name, recovery.ErrUnknown)
	}
	d, err := shelf.One(shelf.Of(points), name, place)
	if err != nil {
		return Source{}, fmt.Errorf("find %w", err)
	}
	return Source{d.Source, d.Identity}, nil
}
