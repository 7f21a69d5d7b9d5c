package chain

import (
	"math"
	"slices"

	"holdfast/sqlguest/lsn"
)

// History is one line of a database's life, from its beginning to one end: the
// confirmed backups whose states lie on it. A database has one history that it is on
// now, and one more for every end that it has left, by a restore (another fork) or
// by a revert of the machine beneath it (Reverted).
type History struct {
	Family string
	Fork   string // where it ends
	// Reverted is the set that saw that this history was left without a fork; ""
	// while LSNs tell everything.
	Reverted string
	// Backups are in the order of their last LSNs, equal ones as they were made.
	// Unusable ones (damage) are among them, for they tell where forks lie.
	Backups []Backup
	// Made is each backup's place in the order of making, by Point.
	Made map[string]int
}

// Histories are all histories of a family, the one that the database is on first,
// then the others, the newest first. The backups are in the order in which they were
// made; that order, and not any clock, says which history is the newest.
func Histories(backups []Backup, family string) []History {
	v := view{family: family, backups: backups}
	list := v.histories("")
	news := make([][]string, len(backups)) // what each is the first to tell of
	var gone Gone
	for i := range backups {
		if b := &backups[i]; b.Family == family {
			news[i] = gone.News(b)
		}
	}
	for i := len(backups) - 1; i >= 0; i-- {
		b := &backups[i]
		if b.Family != family {
			continue
		}
		if b.By == ByItself {
			alone := view{family: family, backups: backups[:i+1], only: []string{b.Set}, later: b.TakenIn}
			list = append(list, alone.histories(b.Point)...)
		}
		if len(news[i]) == 0 {
			continue
		}
		// What was abandoned restores among itself and with what was there before: the
		// world as it was until somebody saw that the database had gone back.
		before := view{family: family, backups: backups[:i], only: news[i]}
		list = append(list, before.histories(b.Point)...)
	}
	return list
}

// view is the backups that existed at a moment.
type view struct {
	family  string
	backups []Backup
	only    []string           // histories must hold one of these sets; empty: any
	later   func(*Backup) bool // what may be younger than it looks; nil: nothing
}

// line is where a fork left the one before it.
type line struct {
	parent string
	at     lsn.LSN // the fork point
	first  lsn.LSN // where the log backup that spans it begins
}

func (v view) histories(reverted string) []History {
	w := v.sort()
	var heads []string
	for _, b := range slices.Backward(w.all) {
		if !slices.Contains(heads, b.Fork) {
			heads = append(heads, b.Fork)
		}
	}
	var list []History
	for _, head := range heads {
		h := History{Family: v.family, Fork: head, Reverted: reverted, Made: w.made, Backups: w.along(head)}
		// Also one whose fork was left before what was abandoned came.
		if len(v.only) == 0 || slices.ContainsFunc(h.Backups, func(b Backup) bool { return slices.Contains(v.only, b.Set) }) {
			list = append(list, h)
		}
	}
	return list
}

// sorted is a view's backups with what they tell of each other.
type sorted struct {
	all   []Backup       // confirmed and not abandoned
	gone  []Backup       // confirmed and abandoned
	made  map[string]int // place in the order of making, by point
	lines map[string]line
	// twice is, by fork, where LSNs were given out twice: the database was set back on
	// the fork without a new one.
	twice map[string][]setback
}

// setback is an abandoned backup of a fork.
type setback struct {
	seen int // place of the backup that saw it abandoned
	last lsn.LSN
}

// common is the place up to which the backups of a fork are on every history that
// left the fork with a log that begins there: whether such a one left before or after
// the fork was set back is not known, unless it lies beyond all that was abandoned.
func (w *sorted) common(fork string, first lsn.LSN) int {
	until := math.MaxInt
	for _, s := range w.twice[fork] {
		if !s.last.Less(first) {
			until = min(until, s.seen)
		}
	}
	return until
}

func (v view) sort() sorted {
	w := sorted{made: map[string]int{}, twice: map[string][]setback{}}
	gone := map[string]int{}
	for i, b := range v.backups {
		for _, set := range slices.Concat(b.Abandons, b.Left) {
			if _, known := gone[set]; !known {
				gone[set] = i
			}
		}
		if _, known := gone[b.Set]; !known && b.By == ByItself && !slices.Contains(v.only, b.Set) {
			gone[b.Set] = i
		}
	}
	for i, b := range v.backups {
		if b.Family != v.family || b.State != Confirmed || b.Kind == Other || b.Fork == "" || v.later != nil && v.later(&b) {
			continue
		}
		w.made[b.Point] = i
		seen, abandoned := gone[b.Set]
		if !abandoned {
			w.all = append(w.all, b)
			continue
		}
		w.gone = append(w.gone, b)
		w.twice[b.Fork] = append(w.twice[b.Fork], setback{seen, b.Last})
	}
	w.lines = lines(w.all)
	return w
}

// lines reads from the logs that span them how forks follow each other.
func lines(all []Backup) map[string]line {
	lines := map[string]line{}
	for _, b := range all {
		if b.FirstFork == b.Fork || b.FirstFork == "" {
			continue
		}
		l := line{parent: b.FirstFork, at: b.ForkPoint, first: b.First}
		if l.at.IsZero() {
			l.at = b.First
		}
		if old, known := lines[b.Fork]; !known || l.first.Less(old.first) {
			lines[b.Fork] = l
		}
	}
	return lines
}

// along collects the backups on the way back from a fork.
func (w *sorted) along(head string) []Backup {
	var list []Backup
	seen := map[string]bool{}
	dataUntil, logUntil, sure := lsn.Max, lsn.Max, lsn.Max
	for fork := head; fork != "" && !seen[fork]; {
		seen[fork] = true
		common := w.common(fork, logUntil)
		for _, b := range w.all {
			limit := dataUntil
			if b.Kind == Log {
				// What the restore that left this fork applied whole ended where the next
				// log begins; a log that ends later went on without it.
				limit = logUntil
			}
			if b.Fork != fork || limit.Less(b.Last) || sure.Less(b.Last) && w.turnsOff(head, fork, sure, b.Last) {
				continue
			}
			if fork != head && w.made[b.Point] >= common {
				continue
			}
			list = append(list, b)
		}
		l, known := w.lines[fork]
		if !known {
			break
		}
		dataUntil, logUntil, sure = earlier(dataUntil, l.at), earlier(logUntil, l.first), earlier(sure, l.first)
		fork = l.parent
	}
	list = w.withBases(list)
	slices.SortStableFunc(list, func(a, b Backup) int { return a.Last.Compare(b.Last) })
	return list
}

// turnsOff tells whether another fork leaves this one between two LSNs. A log that
// spans several forks names the first and the last of them only, so what lies beyond
// such a point may be on the other branch, and is not trusted.
func (w *sorted) turnsOff(head, fork string, from, to lsn.LSN) bool {
	for guid, l := range w.lines {
		if guid != head && l.parent == fork && from.Compare(l.at) <= 0 && l.at.Less(to) {
			return true
		}
	}
	return false
}

// withBases adds the fulls that differentials on the line name by GUID: they lie on
// it even where no log tells how the forks between hang together, and even if they
// were abandoned: somebody went back to them.
func (w *sorted) withBases(list []Backup) []Backup {
	have := map[string]bool{}
	for _, b := range list {
		have[b.Point] = true
	}
	var fulls []Backup // of a year of logs they are few
	for _, b := range slices.Concat(w.all, w.gone) {
		if b.Kind == Full {
			fulls = append(fulls, b)
		}
	}
	for _, d := range list {
		if d.Kind != Diff {
			continue
		}
		for _, f := range fulls {
			if !have[f.Point] && Bases(&f.Header, &d.Header) {
				have[f.Point] = true
				list = append(list, f)
			}
		}
	}
	return list
}

func earlier(a, b lsn.LSN) lsn.LSN {
	if b.Less(a) {
		return b
	}
	return a
}

// Base is the usable full in this history that the differential was read against,
// or nil.
func (h *History) Base(diff *Backup) *Backup {
	for i := range h.Backups {
		if f := &h.Backups[i]; f.Usable() && Bases(&f.Header, &diff.Header) {
			return f
		}
	}
	return nil
}

// Starts tells whether a restore can begin with the backup: a usable full, or a
// usable differential whose full is here.
func (h *History) Starts(b *Backup) bool {
	return b.Usable() && (b.Kind == Full || b.Kind == Diff && h.Base(b) != nil)
}

// Newest are the backups that reach furthest, usable or not, all to the same LSN. One
// that left no trace is not among them if SQL Server came later to where it ends, or not
// as far, in another run: the disk may have been set back behind it.
func (h *History) Newest() (list []*Backup) {
	for i := range slices.Backward(h.Backups) {
		b := &h.Backups[i]
		if len(list) > 0 && b.Last.Less(list[0].Last) {
			break
		}
		if !h.outlived(b) {
			list = append(list, b)
		}
	}
	slices.Reverse(list)
	return list
}

// outlived tells whether a backup was made later that ends no further, and that could not
// be restored on this one. One that was taken in from a file may be older than it looks.
func (h *History) outlived(b *Backup) bool {
	return b.Tie().Bound && slices.ContainsFunc(h.Backups, func(o Backup) bool {
		return h.Made[b.Point] < h.Made[o.Point] && o.Last.Compare(b.Last) <= 0 && !b.Tie().Holds(&o) && (o.Rule != RuleKept || o.Fresh)
	})
}

// Holds tells whether the point is in this history.
func (h *History) Holds(point string) bool {
	return slices.ContainsFunc(h.Backups, func(b Backup) bool { return b.Point == point })
}
