package chain

import (
	"slices"
	"strings"
	"time"

	"holdfast/sqlguest/lsn"
)

// MaxMarks is how many marks are kept of one log backup: an application that marks
// every transaction must not make confirmations grow without end, for every listing of
// a database's backups reads all of them.
const MaxMarks = 1000

// Mark is a marked transaction (BEGIN TRANSACTION … WITH MARK) that a log backup
// holds.
type Mark struct {
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	User        string    `json:"user,omitempty"`
	LSN         lsn.LSN   `json:"lsn"`
	At          time.Time `json:"at"` // server-local, with the offset of the backup
}

// Life is when a database was where a log is, by its server's clock; a zero time is no
// bound.
type Life struct {
	// Since is when it came to the fork on which the log ends: its last restore before the
	// log, or its creation.
	Since time.Time
	// Left is when it left the fork on which the log begins. What it did on a fork between
	// the two is undone.
	Left time.Time
	// Until is when the log was finished; of a log that is asked for only later, when the
	// machine may have been set back and give its LSNs out once more.
	Until time.Time
}

// Marks chooses from msdb's marks of a database those that are in the log, by LSN,
// and says in sentences what it left out.
//
// msdb keeps names and LSNs of marks and no fork: what the database had done before
// it was restored to an earlier moment stays there, with LSNs that are given out
// again afterwards. So a mark counts only if it was made while the database was where
// the log is (Life). Times are of one server's clock, and a mark left out is found by its
// LSN still; a wrong one would be another moment. They are compared as the clock showed
// them: msdb keeps no offsets.
//
// Marks from unlisted on, if that is not NULL, were too many to be kept.
func (h *Header) Marks(found []Mark, life Life) (marks []Mark, unlisted lsn.LSN, warnings []string) {
	stale, late := 0, 0
	for _, m := range found {
		inside := h.Kind == Log && h.First.Compare(m.LSN) <= 0 && m.LSN.Less(h.Last)
		before := h.FirstFork != h.Fork && !h.ForkPoint.IsZero() && m.LSN.Less(h.ForkPoint)
		switch {
		case !inside:
		case !before && reading(m.At).Before(reading(life.Since)), before && !life.Left.IsZero() && !reading(m.At).Before(reading(life.Left)):
			stale++
		case !life.Until.IsZero() && reading(life.Until).Before(reading(m.At)):
			late++
		default:
			marks = append(marks, m)
		}
	}
	slices.SortStableFunc(marks, func(a, b Mark) int { return a.LSN.Compare(b.LSN) })
	if stale > 0 {
		warnings = append(warnings, "marks of what a restore of the database has undone were left out")
	}
	if late > 0 {
		warnings = append(warnings, "marks that were made after the log, as the clock shows it, were left out")
	}
	if len(marks) > MaxMarks {
		marks, unlisted = marks[:MaxMarks], marks[MaxMarks].LSN
		warnings = append(warnings, "the log has more marks than are kept: those after "+marks[MaxMarks-1].At.Format(time.RFC3339)+" were left out, and are reached by time or LSN")
	}
	return marks, unlisted, warnings
}

// reading is what the clock showed at t.
func reading(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// Marked is one mark with the point that holds it.
type Marked struct {
	Point string `json:"point"`
	Fork  string `json:"fork"` // recovery fork of the log's end
	Mark
	// Reachable: a restore comes to it.
	Reachable bool `json:"reachable"`
}

// Marks lists the marks of a database's logs, one for each transaction, in the order
// in which the logs were made.
func Marks(backups []Backup) []Marked {
	type transaction struct {
		fork, name string
		at         lsn.LSN
	}
	have := map[transaction]int{}
	ends := reachable(backups)
	var list []Marked
	for i := range backups {
		b := &backups[i]
		reached := ends[b.Point] && !b.BulkLogged // R9
		for _, m := range b.Marks {
			k := transaction{b.forkAt(m.LSN), strings.ToLower(m.Name), m.LSN}
			if at, known := have[k]; known { // a copy-only log holds it, too
				list[at].Reachable = list[at].Reachable || reached
				continue
			}
			have[k] = len(list)
			list = append(list, Marked{Point: b.Point, Fork: k.fork, Mark: m, Reachable: reached})
		}
	}
	return list
}

// forkAt is the fork on which the log gave out an LSN.
func (h *Header) forkAt(at lsn.LSN) string {
	if h.FirstFork != "" && !h.ForkPoint.IsZero() && at.Less(h.ForkPoint) {
		return h.FirstFork
	}
	return h.Fork
}

// reachable are the points whose ends can be restored on any of a database's
// histories.
func reachable(backups []Backup) map[string]bool {
	ends := map[string]bool{}
	families := map[string]bool{}
	for i := range backups {
		family := backups[i].Family
		if families[family] {
			continue
		}
		families[family] = true
		for _, h := range Histories(backups, family) {
			r := h.Reach(nil)
			for point, reached := range r.ends {
				ends[point] = ends[point] || reached
			}
		}
	}
	return ends
}
