package scrub

import (
	"crypto/sha256"

	"holdfast/repo/ledger"
)

// OtherThere ends what is said of a copy whose bytes come from the other one. Whether
// that one is right only who has the keys can tell.
const OtherThere = "; its copy is there"

// Copies are the sums of objects of which two copies lie in a repository, by name: of
// those that parity finds whole or makes so.
type Copies map[string][sha256.Size]byte

// Note takes in a copy as it was once written. What has no second one is passed over.
func (c Copies) Note(name string, object []byte) {
	if ledger.HasSpare(ledger.TrueName(name)) {
		c[name] = sha256.Sum256(object)
	}
}

// Whole reports whether the copy of that name was noted.
func (c Copies) Whole(name string) bool {
	_, whole := c[name]
	return whole
}

// Differ reports whether both copies were noted and are not the same bytes: another
// object, whole in itself, lies in the place of one.
func (c Copies) Differ(name string) bool {
	one, whole := c[name]
	other, too := c[ledger.Twin(name)]
	return whole && too && one != other
}
