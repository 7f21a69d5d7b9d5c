package replay

import "holdfast/sqlguest/replay/origin"

// Repository gives the streams of a database's points; see origin.Repository.
type Repository = origin.Repository

var _ Streams = (*Repository)(nil)

// Source is a database that a repository has backups of.
type Source = origin.Source
