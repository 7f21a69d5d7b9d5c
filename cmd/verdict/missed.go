package verdict

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Missed are points that were there before a run and that it does not find. It may be
// told from many goroutines; its zero value has missed none.
type Missed struct {
	mu     sync.Mutex
	points []string          // for which the run is not complete
	told   map[string]string // their warnings
}

// Add makes the run incomplete for a point.
func (m *Missed) Add(point string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Contains(m.points, point) {
		m.points = append(m.points, point)
	}
}

// Tell is the warning of a point, once; then it is "". source is what it was of, "" if
// that is not known.
func (m *Missed) Tell(point, source string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.told[point] != "" {
		return ""
	}
	if source != "" {
		source = "; it was of " + source
	}
	if m.told == nil {
		m.told = map[string]string{}
	}
	m.told[point] = "point " + point + " is gone, and nobody has forgotten it: somebody or something has removed it from the repository's place" + source
	return m.told[point]
}

// Warnings are all that was told.
func (m *Missed) Warnings() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Values(m.told))
}

// Verdict is the error of a run that ended with err: a point that is missed makes
// it incomplete, for once the next one is made nothing else will tell.
func (m *Missed) Verdict(err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.points) == 0 {
		return err
	}
	return errors.Join(err, Incomplete("of points that were here before these are gone: "+strings.Join(m.points, ", ")))
}
