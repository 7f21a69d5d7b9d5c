// Package revive says what becomes of the databases of a virtual machine that comes
// back from a recovery point. It is pure: it reads nothing and asks nobody.
//
// A restored machine is a copy, and the machine that it was copied from may be alive.
// So nothing here ever leads to a backup: what the copy's log holds belongs to no chain
// of ours (its tail is not taken), and which moment a database gets is decided from the
// repository alone, by what was stored before the machine's own point.
//
//	Plan    which database gets which moment, or why it stays as the disks have it
//	Judge   is what the restored machine has under that name this very database?
//	Local   does an address mean the restored machine itself, and nobody else?
package revive

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/plan"
)

var (
	// ErrNone: the repository holds no database of the virtual machine that was backed up
	// before the machine's point.
	ErrNone = errors.New("the repository holds no databases of this virtual machine from before its point")
	// ErrUndone: the run that made the machine's point was not done with its databases, so
	// that the disks are newer than every backup of them.
	ErrUndone = errors.New("the disks are newer than the backups of the databases")
	// ErrAddress: the address of the SQL Server may be another machine's than the one
	// that is restored.
	ErrAddress = errors.New("the SQL Server's address is not the restored machine's own")
	// ErrMissed: the database's own backup failed, or was left out, in the run that made the
	// machine's point, so that every point of it is older than the disks.
	ErrMissed = errors.New("it has no point of the run that backed up the virtual machine")
	// ErrForgotten: the newest backup that the database had when the run was done that made
	// the machine's point is lost, so that every other one is older than the disks.
	ErrForgotten = errors.New("the backup that it would come to is not in the repository any more, or cannot be read")
	// ErrOther: the restored machine has another database of that name.
	ErrOther = errors.New("the restored machine's database of that name is not the one of the backups")
)

// Held is a database that the repository holds.
type Held struct {
	Identity string
	// Backups are in the order of their making; Stored tells of each by its point.
	Backups []chain.Backup
	Stored  map[string]Stored
	// Unread stand for points that cannot be read and may be newer than all Backups.
	Unread []chain.Backup
}

// Stored is when a point was complete, by the clock of the machine that made it, what
// its database was called then, and, of a copy, which point of which repository it is of:
// REPOSITORY/POINT.
type Stored struct {
	At             time.Time
	Source, Origin string
}

// is tells whether a point is the one of that id, or a copy of it.
func (h *Held) is(point, id string) bool {
	return point == id || id != "" && strings.HasSuffix(h.Stored[point].Origin, "/"+id)
}

// Machine is the point of a virtual machine.
type Machine struct {
	Name string // as it was called then
	// Before is the moment up to which databases count: when the run that made the point
	// was done with them; zero if it never was.
	Before time.Time
	Failed bool // that run tried, and could not
	// Missed are sources whose backup failed in that run.
	Missed []string
	// Protected are the databases that had a backup when that run was done with them; nil if
	// the point does not say.
	Protected []Protected
}

// Protected is a database of the machine, and its newest backup when the run was done.
type Protected struct{ Source, Identity, Database, Point string }

// Wants tells whether a database of the repository may be one of the machine's: called
// tells whether a source has ever been its name.
func (m Machine) Wants(identity string, called func(source string) bool) bool {
	return m.listed(identity) != nil || slices.ContainsFunc(m.Missed, called)
}

func (m Machine) listed(identity string) *Protected {
	i := slices.IndexFunc(m.Protected, func(p Protected) bool { return p.Identity == identity })
	if i < 0 {
		return nil
	}
	return &m.Protected[i]
}

// Check refuses a machine whose disks hold newer databases than the backups: what is
// restored last must never be behind them. Errors: ErrUndone.
func (m Machine) Check() error {
	switch {
	case !m.Before.IsZero():
		return nil
	case m.Failed:
		return fmt.Errorf("%w: the run that made the point of %s could not back them up", ErrUndone, m.Name)
	}
	return fmt.Errorf("%w: the point of %s was made without them", ErrUndone, m.Name)
}

// Step is what becomes of one database.
type Step struct {
	Source   string `json:"source"`
	Identity string `json:"-"`
	Database string `json:"database"`
	// Point is the backup whose end the database is brought to, Points all that leads
	// there; Ended is when that backup was over, by the SQL Server's clock.
	Point  string    `json:"point"`
	Points []string  `json:"points"`
	Ended  time.Time `json:"ended,omitzero"`
	// Moment is the one that is reached, by the same clock: as the restore will tell it,
	// behind Ended where the database rested since.
	Moment time.Time `json:"moment,omitzero"`
	// Why is given where the database stays as the disks have it; Err is the error that
	// it comes from.
	Why string `json:"left,omitempty"`
	Err error  `json:"-"`
	// System databases stay as the disks have them, and nothing is missing by it (M22).
	System bool `json:"system,omitempty"`
	// Backups are those that were there before the machine's point.
	Backups []chain.Backup `json:"-"`
}

// Key tells steps apart: a database that was never open in the run, and of which the
// repository holds nothing, has no identity.
func (s *Step) Key() string { return cmp.Or(s.Identity, s.Source) }

// Plan tells what becomes of each database of the machine, by source. Which these are the
// point says. If it does not, those count whose newest backup by then was taken in that
// machine's guest, though they may have been dropped long before.
func Plan(vm Machine, all []Held) []Step {
	var steps []Step
	named := map[string]bool{}
	for i := range all {
		backups := all[i].before(&vm)
		if !vm.has(&all[i], backups) {
			continue
		}
		steps = append(steps, step(vm, &all[i], backups))
		for _, b := range backups {
			source := all[i].Stored[b.Point].Source
			named[source] = named[source] || vm.listed(all[i].Identity) == nil // else by the name that it had then
		}
	}
	steps = append(steps, vm.lost(steps, named)...)
	slices.SortStableFunc(steps, func(a, b Step) int { return strings.Compare(a.Source, b.Source) })
	return steps
}

// has tells whether a database with those backups is one of the machine's.
func (m Machine) has(h *Held, backups []chain.Backup) bool {
	switch {
	case len(backups) == 0:
		return false
	case m.listed(h.Identity) != nil:
		return true
	}
	return strings.EqualFold(guestOf(backups), m.Name) && (m.Protected == nil || m.missed(h, backups))
}

// missed tells whether the backup of a database failed in the run. One that was not open
// then is known by its name alone.
func (m Machine) missed(h *Held, backups []chain.Backup) bool {
	if p := m.listed(h.Identity); p != nil {
		return slices.Contains(m.Missed, p.Source)
	}
	return slices.ContainsFunc(backups, func(b chain.Backup) bool {
		source := h.Stored[b.Point].Source
		return slices.Contains(m.Missed, source) && !m.names(source)
	})
}

// names tells whether a protected database was called so.
func (m Machine) names(source string) bool {
	return slices.ContainsFunc(m.Protected, func(p Protected) bool { return p.Source == source })
}

// lost are the databases of the machine of which no backup is left, or never was any;
// found are the others, and named what those that are known by a name alone are called.
func (m Machine) lost(found []Step, named map[string]bool) (steps []Step) {
	if m.Protected == nil {
		return nil
	}
	for _, p := range m.Protected {
		s := Step{Source: p.Source, Identity: p.Identity, Database: p.Database, Points: []string{}}
		switch {
		case slices.ContainsFunc(found, func(s Step) bool { return s.Identity == p.Identity }):
		case system(p.Database):
			steps = append(steps, s.system())
		case slices.Contains(m.Missed, p.Source):
			steps = append(steps, s.left(ErrMissed))
		default:
			steps = append(steps, s.left(fmt.Errorf("%w: point %s", ErrForgotten, p.Point)))
		}
	}
	for _, source := range m.Missed {
		if !named[source] && !m.names(source) {
			_, name, _ := strings.Cut(strings.TrimPrefix(source, "sql/"), "/")
			steps = append(steps, Step{Source: source, Database: name, Points: []string{}}.left(ErrMissed))
		}
	}
	return steps
}

// before are the backups that were stored when the run was done, the one that it has noted
// among them whatever clocks say.
func (h *Held) before(vm *Machine) (list []chain.Backup) {
	noted := -1
	if p := vm.listed(h.Identity); p != nil {
		noted = slices.IndexFunc(h.Backups, func(b chain.Backup) bool { return h.is(b.Point, p.Point) })
	}
	for i, b := range h.Backups {
		if s, known := h.Stored[b.Point]; known && (i <= noted || !s.At.After(vm.Before)) {
			list = append(list, b)
		}
	}
	return list
}

// guestOf is the machine through which the newest backup was taken that was taken
// through any: the same server may have been reached directly as well.
func guestOf(backups []chain.Backup) string {
	for _, b := range slices.Backward(backups) {
		if b.Guest != "" {
			return b.Guest
		}
	}
	return ""
}

func step(vm Machine, h *Held, backups []chain.Backup) Step {
	newest := &backups[len(backups)-1]
	s := Step{Source: h.Stored[newest.Point].Source, Identity: h.Identity, Database: newest.Database, Points: []string{}, Backups: backups}
	if system(newest.Database) {
		return s.system()
	}
	p := vm.listed(h.Identity)
	if p != nil {
		s.Database = p.Database // one that was renamed need not have anything in its log since
	}
	switch {
	case vm.missed(h, backups):
		return s.left(ErrMissed)
	case p != nil && !slices.ContainsFunc(backups, func(b chain.Backup) bool { return h.is(b.Point, p.Point) }):
		return s.left(fmt.Errorf("%w: point %s", ErrForgotten, p.Point))
	}
	way, err := plan.Make(plan.Target{}, backups, plan.Options{Replace: true})
	if err == nil {
		err = unsettled(way.Target, slices.Concat(backups, h.Unread))
	}
	if err != nil {
		return s.left(err)
	}
	for _, do := range way.Steps {
		if do.Point == "" {
			continue
		}
		s.Points, s.Point, s.Moment = append(s.Points, do.Point), do.Point, way.Reached(backups, do.After, do.Fork)
	}
	for _, b := range backups {
		if b.Point == s.Point {
			s.Ended = b.Finished
		}
	}
	return s
}

func (s Step) system() Step {
	s.System, s.Why = true, "SQL Server's own databases are part of the disks"
	return s
}

func (s Step) left(err error) Step {
	s.Err, s.Why = err, err.Error()
	return s
}

// unsettled is an error if the newest backup cannot be read or SQL Server's word on it is
// not known: what is confirmed may then be older than the disks by more than a run.
func unsettled(target string, backups []chain.Backup) error {
	for _, b := range slices.Backward(backups) {
		switch {
		case b.State == chain.Confirmed:
			return nil
		case b.Kind == "":
			return &plan.Unreachable{Target: target, Why: fmt.Sprintf("point %s may be the newest backup, and cannot be read: %s", b.Point, b.Damage)}
		case b.State == chain.Unconfirmed:
			return &plan.Unreachable{Target: target, Why: fmt.Sprintf("SQL Server has not confirmed the newest backup, point %s", b.Point)}
		}
	}
	return nil
}

func system(name string) bool {
	return slices.Contains([]string{"master", "model", "msdb", "tempdb"}, strings.ToLower(name))
}

// Verdict is what the restored machine's SQL Server has of a database.
type Verdict int

// The verdicts.
const (
	Same  Verdict = iota // the very database, which is restored over
	Gone                 // none: it was dropped before the machine's snapshot
	Other                // another one has its name, or it has another name: hands off
)

// Judge holds a step against the databases of the restored machine and their
// identities (sqlguest.Identities). All are the steps of the machine: a database that has
// the name and a step of its own came after this one. Why is a sentence where the verdict
// is not Same.
func Judge(s *Step, all []Step, databases []facts.Database, identities []string) (v Verdict, why string) {
	if i := slices.Index(identities, s.Identity); i >= 0 {
		if databases[i].Name != s.Database {
			return Other, fmt.Sprintf("the database of these backups is called %s there, and not %s any more", databases[i].Name, s.Database)
		}
		return Same, ""
	}
	i := slices.IndexFunc(databases, func(d facts.Database) bool { return strings.EqualFold(d.Name, s.Database) })
	switch {
	case i < 0:
		return Gone, "there was no such database any more when the virtual machine was backed up"
	case slices.ContainsFunc(all, func(o Step) bool { return o.Identity == identities[i] }):
		return Gone, fmt.Sprintf("it had been dropped when the virtual machine was backed up, and a later database is called %s", databases[i].Name)
	case databases[i].Family != "":
		return Other, fmt.Sprintf("database %s there is not the one of these backups", databases[i].Name)
	case !shares(&databases[i], s.Backups):
		return Other, fmt.Sprintf("database %s there is %s, and nothing tells whether it is the one of these backups", databases[i].Name, databases[i].State)
	}
	return Same, ""
}

// shares tells whether a database that is not open, and so does not say what it is, has
// a file of the backups': a file's GUID is made with the file.
func shares(d *facts.Database, backups []chain.Backup) bool {
	for _, b := range backups {
		for _, was := range b.Files {
			for _, is := range d.Prints() {
				if was.GUID != "" && was.GUID == is.GUID && was.ID == is.ID {
					return true
				}
			}
		}
	}
	return false
}

// own are the addresses that lead nowhere but to the machine that they are used on: this
// machine by one of its words or by a loopback address, with a port or an instance. The
// agent takes any other word for a machine's name, an instance's too.
var own = regexp.MustCompile(`^(?i:localhost|127\.[0-9]+\.[0-9]+\.[0-9]+|::1|\[::1\]|\.|\(local\)|)(:[0-9]+)?(\\[^\\/@?#:]+)?$`)

// Local tells whether an address, or each of several with blanks between them, means
// the very machine that it is used on. "" does: it is whatever is installed there. A
// machine's name does not, be it the restored machine's own: where it leads is the
// network's to say, and that may be the original.
func Local(address string) bool {
	return !slices.ContainsFunc(strings.Fields(address), func(one string) bool { return !own.MatchString(one) })
}
