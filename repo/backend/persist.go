package backend

import "context"

// Persister is a place where an object that another process has put may not be
// durable yet, because that process has died before its Sync.
type Persister interface {
	// Persist lets the next Sync make the object durable, too. ErrNotFound if
	// there is none.
	Persist(ctx context.Context, name string) error
}
