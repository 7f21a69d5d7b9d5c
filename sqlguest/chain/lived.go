package chain

import (
	"slices"
	"time"
)

// Span is a stretch of the server's clock, both ends in it, whole seconds.
type Span struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// life is a stretch of the server's clock with the backup that tells on which history
// the database was then: the first that was begun at its end or later.
type life struct {
	after time.Time // it begins behind this reading; zero: there was nothing before
	until time.Time
	point string
}

// lived divides a database's time by its backups. Where it came to another history
// between two backups nobody knows when, and no life covers the time between them.
func lived(backups []Backup, family string) []life {
	var list []life
	var previous *Backup
	reverted := false // seen since then, if only by a backup that SQL Server gave up
	var gone Gone
	var latest time.Time // clocks may have been set back
	for i := range backups {
		b := &backups[i]
		reverted = b.Family == family && len(gone.News(b)) > 0 || reverted
		if b.State != Confirmed || b.Family != family || b.Fork == "" {
			continue
		}
		jumped := previous != nil && (previous.Fork != b.Fork || reverted)
		if !jumped && reading(latest).Before(reading(b.Started)) {
			list = append(list, life{latest, b.Started, b.Point})
		}
		if latest.IsZero() || reading(latest).Before(reading(b.Started)) {
			latest = b.Started
		}
		previous, reverted = b, b.By == ByItself // the next one may be of another history
	}
	return list
}

// spans are the times in the windows at which the database was on this history.
func (h *History) spans(windows []Window, lives []life) []Span {
	list := []Span{}
	mine := map[string]bool{}
	for i := range h.Backups {
		mine[h.Backups[i].Point] = true
	}
	lives = slices.DeleteFunc(slices.Clone(lives), func(l life) bool { return !mine[l.point] })
	for _, w := range windows {
		if w.Single { // no log leads to a time there
			continue
		}
		first := len(list)
		for _, l := range lives {
			s := Span{From: later(w.From.Time, l.after.Add(time.Second)), To: sooner(w.To.Time, l.until)}
			if n := len(list) - 1; n >= first && reading(list[n].To).Equal(reading(l.after)) {
				list[n].To = later(list[n].To, s.To)
			} else if !reading(s.To).Before(reading(s.From)) {
				list = append(list, s)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b Span) int { return reading(a.From).Compare(reading(b.From)) })
	return list
}

func later(a, b time.Time) time.Time {
	if reading(a).Before(reading(b)) {
		return b
	}
	return a
}

func sooner(a, b time.Time) time.Time {
	if reading(b).Before(reading(a)) {
		return b
	}
	return a
}

// Gone are the sets that backups, in the order of their making, have told to be of a
// history that was left without a fork.
type Gone struct{ sets map[string]bool }

// News are those sets of a backup that none before it has named. It need not be the one
// that saw them left: that may be lost.
func (g *Gone) News(b *Backup) (sets []string) {
	for _, set := range slices.Concat(b.Abandons, b.Left) {
		if !g.sets[set] {
			if g.sets == nil {
				g.sets = map[string]bool{}
			}
			g.sets[set] = true
			sets = append(sets, set)
		}
	}
	return sets
}
