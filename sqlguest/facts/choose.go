package facts

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// ErrNoDatabase: no database of that name is on the server.
var ErrNoDatabase = errors.New("no such database")

// Find gives the databases that names mean, as places in the list. Errors: ErrNoDatabase.
func Find(names []string, at *Instance, all []Database) (places []int, err error) {
	for _, name := range names {
		i, err := find(name, at, all)
		if err == nil && i < 0 {
			err = fmt.Errorf("find database %q on %s: %w", name, at.Name, ErrNoDatabase)
		}
		if err != nil {
			return nil, err
		}
		places = append(places, i)
	}
	return places, nil
}

// Except gives the databases that names, or patterns with * and ?, leave out, and those
// of the names that mean none: what comes and goes may not be there just now. Errors:
// ErrNoDatabase, for a name from which several differ in case alone.
func Except(names []string, at *Instance, all []Database) (places []int, idle []string, err error) {
	for _, name := range names {
		i, err := find(name, at, all)
		if err != nil {
			return nil, nil, err
		}
		fit := []int{i}
		if i < 0 {
			fit = fitting(name, all)
		}
		if len(fit) == 0 {
			idle = append(idle, name)
		}
		places = append(places, fit...)
	}
	return places, idle, nil
}

// find is the database that is written so, else the one that differs in case alone; -1 if
// there is none. Where that are several, as a server with a case-sensitive collation may
// have them, nobody knows which is meant.
func find(name string, at *Instance, all []Database) (int, error) {
	var alike []int
	for i := range all {
		if all[i].Name == name {
			return i, nil
		}
		if strings.EqualFold(all[i].Name, name) {
			alike = append(alike, i)
		}
	}
	switch len(alike) {
	case 0:
		return -1, nil
	case 1:
		return alike[0], nil
	default:
		return -1, fmt.Errorf("find database %q on %s: %w that is written so, and several differ in case", name, at.Name, ErrNoDatabase)
	}
}

// fitting are the databases whose whole name fits a pattern, in whatever case.
func fitting(pattern string, all []Database) (places []int) {
	quoted := regexp.QuoteMeta(strings.ToValidUTF8(pattern, "\uFFFD"))
	fits := regexp.MustCompile("(?is)^" + strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(quoted) + "$")
	for i := range all {
		if fits.MatchString(all[i].Name) {
			places = append(places, i)
		}
	}
	return places
}
