// Package backend is the narrow door between the repository and the place
// where its objects lie: a directory, a bucket, memory. A backend stores whole
// named objects and knows nothing of what is inside them.
//
// Names are slash-separated, of lower-case letters, digits, '.', '-' and '_',
// without empty, "." or ".." parts; ValidName tells. An object is written whole
// or not at all: no reader ever sees half of one, whatever process dies when.
// Only a power cut may tear or lose an object that a Put made and no Sync
// followed; nothing may depend on such an object.
package backend

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrNotFound: no object of that name exists (also: no repository place at all).
var ErrNotFound = errors.New("object not found")

// ErrExists: PutIfAbsent found an object of that name with other bytes. With
// equal bytes PutIfAbsent answers nil, since a lost answer looks the same.
var ErrExists = errors.New("object exists")

// ErrNoSpace: the place is full. Nothing was written under the name.
var ErrNoSpace = errors.New("no space left")

// ErrUnreachable: the place did not answer, or refused the login.
var ErrUnreachable = errors.New("storage unreachable")

// ErrBusy: the place asks for fewer requests: try again, later than after other
// errors. It is a kind of ErrUnreachable.
var ErrBusy = fmt.Errorf("%w: too many requests", ErrUnreachable)

// ErrRefused: the place is there and says no: trying again is useless.
var ErrRefused = errors.New("refused")

// ErrNoLock: the place has no way to refuse the deletion of an object.
var ErrNoLock = errors.New("objects cannot be locked there")

// ErrRange: a Get asked for bytes outside the object.
var ErrRange = errors.New("range outside object")

// ErrDurability: bytes may not be on stable storage (fsync failed). Final for
// that object: write it again under a new name, never sync the same file twice.
var ErrDurability = errors.New("data may not be durable")

// Info describes one object.
type Info struct {
	Name     string
	Bytes    int64
	Modified time.Time // by the store's clock; for liveness hints, never for safety
}

// Backend stores objects. All methods may be called from many goroutines; all
// obey ctx. Errors wrap the sentinels above where they apply.
type Backend interface {
	// Put writes an object, replacing one of that name atomically. Other names
	// written before are not yet durable: Sync is the barrier.
	Put(ctx context.Context, name string, data []byte) error
	// PutIfAbsent writes an object only if the name is free, decided atomically
	// among all writers, and returns when it is durable. If the name is taken
	// by the same bytes it returns nil, by others ErrExists.
	PutIfAbsent(ctx context.Context, name string, data []byte) error
	// Get reads length bytes from offset; length < 0 reads to the end. It
	// returns exactly what was asked or an error (ErrNotFound, ErrRange).
	Get(ctx context.Context, name string, offset, length int64) ([]byte, error)
	// Stat returns size and time of one object, or ErrNotFound.
	Stat(ctx context.Context, name string) (Info, error)
	// List calls fn for each object whose name starts with prefix, sorted by
	// name; an error from fn ends the listing and is returned. Temporary files
	// of unfinished writes are never listed. fn may call the backend.
	List(ctx context.Context, prefix string, fn func(Info) error) error
	// Delete removes an object; a missing one is no error.
	Delete(ctx context.Context, name string) error
	// Sync returns when every Put and Delete of this process that returned
	// before is durable.
	Sync(ctx context.Context) error
	// Location is how an operator names the place, without secrets.
	Location() string
	// SingleWriter tells why only one process may write at a time ("" when
	// many may): the place cannot decide PutIfAbsent among hosts.
	SingleWriter() string
	// Close releases what the backend holds.
	Close() error
}

// ValidName reports whether name may name an object.
func ValidName(name string) bool {
	if name == "" || len(name) > 512 {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
		for _, c := range part {
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}
