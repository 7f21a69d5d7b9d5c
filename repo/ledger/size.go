package ledger

import (
	"errors"
	"fmt"
)

// ErrFull: an entry that says all that must be said would be longer than a record
// may be (32 MiB, FORMAT.md §4). What takes the room are points: each is named
// with 45 bytes, so that about 720,000 of them fit. Nothing is lost and backups
// go on; prune refuses until points have been forgotten.
var ErrFull = errors.New("the ledger cannot name so many recovery points: forget some, or begin another repository")

const (
	recordBytes = 32 << 20
	runsBytes   = 1 << 20 // kept for the names of runs, which a plan does not know yet: 15,000 of them

	nameExtra  = 3   // quotes and comma
	batchBytes = 100 // of a batch of condemned packs, beside its names
)

// CheckSize returns ErrFull if the entry would not fit into a record. It is to be
// asked before anything is written for it.
func (e *Entry) CheckSize() error {
	bytes := batchBytes + e.Points.textBytes() + lengthOf(e.Runs) + lengthOf(e.Superseded)
	for _, batch := range e.Condemned {
		bytes += batchBytes + lengthOf(batch.Packs) + lengthOf(batch.Covered)
	}
	bytes += (len(e.Open) + len(e.Made)) * batchBytes
	if bytes > recordBytes-runsBytes {
		return fmt.Errorf("write ledger entry of %d points and %d bytes: %w", len(e.Points), bytes, ErrFull)
	}
	return nil
}

// lengthOf is what names take in JSON; none of them has anything to escape.
func lengthOf(names []string) (bytes int) {
	for _, name := range names {
		bytes += len(name) + nameExtra
	}
	return bytes
}
