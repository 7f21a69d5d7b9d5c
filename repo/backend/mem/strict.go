package mem

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strings"
)

// ErrStrict: the call breaks a rule that every writer of a repository keeps.
var ErrStrict = errors.New("call breaks the rules of the repository")

// The rules of Options.Strict:
//
//  1. A name that decides something among writers is taken by PutIfAbsent,
//     never first written by Put.
//  2. An immutable object's bytes change only when it is healed, which keeps
//     the damaged bytes under quarantine/<name>… first.
//  3. No name is both an object and the folder of another: a bucket would
//     allow it, a directory cannot hold it.
var (
	// claimed names decide among writers (rule 1). "/" at the end: all below.
	claimed = []string{
		"config", "spare/", "keys/", "sessions/", "commit/", "confirm/", "forget/", "ledger/", "epochs/", "removals/",
	}
	// immutable objects are written once (rule 2).
	immutable = append([]string{"data/", "meta/", "index/", "label/"}, claimed...)
)

// quarantine is where a healer keeps damaged bytes.
const quarantine = "quarantine/"

func within(name string, places []string) bool {
	for _, p := range places {
		if name == p || strings.HasSuffix(p, "/") && strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// checkPut is called with mu held.
func (b *Backend) checkPut(name string, data []byte) error {
	have, taken := b.visible[name]
	switch {
	case !taken && within(name, claimed):
		return fmt.Errorf("put %s: %w: this name is taken by put-if-absent only", name, ErrStrict)
	case !taken:
		return b.checkFolders(name)
	case bytes.Equal(have.data, data) || !within(name, immutable):
		return nil
	}
	for kept, o := range b.visible {
		if strings.HasPrefix(kept, quarantine+name) && bytes.Equal(o.data, have.data) {
			return nil
		}
	}
	return fmt.Errorf("put %s: %w: other bytes for an immutable object that is not in quarantine", name, ErrStrict)
}

// checkFolders is called with mu held.
func (b *Backend) checkFolders(name string) error {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if _, is := b.visible[dir]; is {
			return fmt.Errorf("put %s: %w: %s is an object", name, ErrStrict, dir)
		}
	}
	for other := range b.visible {
		if strings.HasPrefix(other, name+"/") {
			return fmt.Errorf("put %s: %w: it is the folder of %s", name, ErrStrict, other)
		}
	}
	return nil
}
