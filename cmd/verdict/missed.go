package verdict

import (
	"errors"
	"slices"
	"strings"
	"sync"
)

// Missed are points that were there before a run and that it does not find. It may be
// told from many goroutines; its zero value has missed none.
type Missed struct {
	mu     sync.Mutex
	points []string // for which the run is not complete
	told   []string
}

// Add makes the run incomplete for a point.
func (m *Missed) Add(point string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Contains(m.points, point) {
		m.points = append(m.points, point)
	}
}

// Tell is the warning of a point, once; then it is "".
func (m *Missed) Tell(point string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Contains(m.told, point) {
		return ""
	}
	m.told = append(m.told, point)
	return warning(point)
}

func warning(point string) string {
	return "point " + point + " was the newest of its source; it is gone, and nobody has forgotten it: somebody or something has removed it from the repository's place"
}

// Warnings are all that was told.
func (m *Missed) Warnings() (list []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, point := range m.told {
		list = append(list, warning(point))
	}
	return list
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
