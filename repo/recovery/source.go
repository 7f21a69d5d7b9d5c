package recovery

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Sources are what one name means: the points of that source, or of the databases
// that are called so. The zero value has no point.
type Sources struct {
	name       string          // of a source that is no database
	identities map[string]bool // of databases, whatever their points were called
}

// Has tells whether a point is of them.
func (s *Sources) Has(b *Brief) bool {
	if b.isDatabase() {
		return s.identities[b.Identity()]
	}
	return s.name != "" && b.Source() == s.name
}

// fit is how well a source's name fits a word; the greater the better.
type fit int

const (
	unfit fit = iota
	foldedEnd
	foldedWhole
	exactEnd
	exactWhole
)

// MatchSource finds what spec means: a source's whole name, or what follows one of the
// slashes in it where that is unique: DB, or MACHINE/DB. All points of a database are
// meant, whichever of its names spec is: it may be backed up through its VM one day and
// as an instance the next, or be renamed. What databases are called now goes before what
// they were called once. The case of a database's machine says nothing, that of its own
// name only where it tells two apart. points are ordered oldest first.
func MatchSource(points []Brief, spec string) (Sources, error) {
	type candidate struct {
		fit
		now bool
	}
	var best candidate
	found, names := Sources{}, map[string]string{} // what is shown, by what tells them apart
	called, seen := map[string]string{}, map[*common]bool{}
	for i := range slices.Backward(points) {
		b := &points[i]
		if seen[b.with] {
			continue
		}
		seen[b.with] = true
		source, name := b.Source(), b.Source()
		if b.isDatabase() {
			if _, known := called[b.Identity()]; !known {
				called[b.Identity()] = source
			}
			name = called[b.Identity()]
		}
		c := candidate{b.fits(spec), name == source}
		if c.fit == unfit || c.fit < best.fit || c.fit == best.fit && best.now && !c.now {
			continue
		}
		if c != best {
			best, found = c, Sources{}
			clear(names)
		}
		if b.isDatabase() {
			if found.identities == nil {
				found.identities = map[string]bool{}
			}
			found.identities[b.Identity()] = true
		} else {
			found.name = name
		}
		if key := b.key(name); names[key] == "" {
			names[key] = name
		}
	}
	switch len(names) {
	case 0:
		return Sources{}, fmt.Errorf("source %q: %w", spec, ErrUnknown)
	case 1:
		return found, nil
	}
	return Sources{}, fmt.Errorf("source %q may be %s: %w", spec, strings.Join(slices.Sorted(maps.Values(names)), " or "), ErrAmbiguous)
}

// key is what tells sources of names apart.
func (b *Brief) key(name string) string {
	if !b.isDatabase() {
		return name
	}
	machine, database := machineOf(name)
	return strings.ToLower(machine) + database
}

// machineOf cuts sql/MACHINE/DATABASE before the last slash of sql/MACHINE/.
func machineOf(source string) (machine, database string) {
	kind, rest, _ := strings.Cut(source, "/")
	i := strings.IndexByte(rest, '/')
	if i < 0 {
		return "", source
	}
	cut := len(kind) + 1 + i
	return source[:cut], source[cut:]
}

// fits tells how spec names a point's source.
func (b *Brief) fits(spec string) fit {
	source := b.Source()
	from := len(source) - len(spec)
	if from < 0 || spec == "" || from > 0 && source[from-1] != '/' || !strings.EqualFold(source[from:], spec) {
		return unfit
	}
	exact := source[from:] == spec
	if b.isDatabase() {
		_, database := machineOf(source)
		n := min(len(database), len(spec))
		exact = source[len(source)-n:] == spec[len(spec)-n:]
	} else if !exact {
		return unfit
	}
	switch {
	case exact && from == 0:
		return exactWhole
	case exact:
		return exactEnd
	case from == 0:
		return foldedWhole
	}
	return foldedEnd
}
