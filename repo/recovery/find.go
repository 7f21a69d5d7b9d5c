package recovery

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrUnknown: no point fits what was asked for.
var ErrUnknown = errors.New("no such recovery point")

// ErrVanished: the point was there, its commit object is gone, and nobody has
// forgotten it.
var ErrVanished = errors.New("it is gone, and nobody has forgotten it")

// ErrAmbiguous: several points or sources fit.
var ErrAmbiguous = errors.New("ambiguous recovery point")

const (
	minPrefix = 4
	latest    = "latest"
)

// Find resolves an operator's word for a point: a full id, a unique prefix of
// at least four characters, "latest" (of the only source, or the newest of
// all when there is one), or "latest:SOURCE", with a source as MatchSource takes
// it. points are ordered oldest first. What is found is one of them.
func Find(points []Brief, spec string) (*Brief, error) {
	if spec == latest || strings.HasPrefix(spec, latest+":") {
		source := strings.TrimPrefix(strings.TrimPrefix(spec, latest), ":")
		return findLatest(points, source)
	}
	if len(spec) < minPrefix {
		return nil, fmt.Errorf("%q is shorter than %d characters: %w", spec, minPrefix, ErrUnknown)
	}
	var found *Brief
	fits, prefix := 0, strings.ToLower(spec)
	for i := range points {
		if points[i].idBegins(prefix) {
			found = &points[i]
			fits++
		}
	}
	switch fits {
	case 0:
		return nil, fmt.Errorf("%q: %w", spec, ErrUnknown)
	case 1:
		return found, nil
	}
	return nil, fmt.Errorf("%q fits %d points: %w", spec, fits, ErrAmbiguous)
}

// findLatest picks the newest point of the source that is meant. Two sources
// of the same name but different identity (a VM that was made anew) are one
// name here: the newest point wins, as the operator sees it in the list.
func findLatest(points []Brief, source string) (*Brief, error) {
	meant := func(*Brief) bool { return true }
	if source != "" {
		sources, err := MatchSource(points, source)
		if err != nil {
			return nil, err
		}
		meant = sources.Has
	}
	for i := range slices.Backward(points) {
		if meant(&points[i]) {
			return &points[i], nil
		}
	}
	return nil, fmt.Errorf("latest: the repository holds no point: %w", ErrUnknown)
}
