package replay

import (
	"crypto/rand"
	"fmt"

	"holdfast/sqlguest/replay/origin"
)

// Repository gives the streams of a database's points; see origin.Repository.
type Repository = origin.Repository

var _ Streams = (*Repository)(nil)

// Source is a database that a repository has backups of.
type Source = origin.Source

// device makes a fresh GUID in braces.
func device() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("{%X-%X-%X-%X-%X}", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
