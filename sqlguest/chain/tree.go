package chain

import (
	"cmp"
	"maps"
	"slices"

	"holdfast/sqlguest/lsn"
)

// Tree is backups by family and fork.
type Tree struct {
	Families []Family // by GUID
}

// Family is one database through renames and restores.
type Family struct {
	GUID  string
	Forks []Fork // by GUID
	// Abandoned are the sets that a later backup saw to lie on a history which the
	// database has left without a fork, by a revert of the machine beneath it. They
	// restore among themselves; with anything newer they must not be mixed, for the
	// same LSNs were given out twice.
	Abandoned map[string]bool
}

// Fork is one recovery fork: the backups that end on it, in the order of their last
// LSNs (equal ones in the order given), unconfirmed and denied ones among them.
type Fork struct {
	GUID    string
	Parent  string  // the fork it left, "" if no backup tells
	At      lsn.LSN // where it left it
	Backups []Backup
}

// Grow sorts backups into families and forks. Where two forks follow each other is
// known from the log backups that span them.
func Grow(backups []Backup) Tree {
	families := map[string]map[string]*Fork{}
	abandoned := map[string]map[string]bool{}
	for _, b := range backups {
		if families[b.Family] == nil {
			families[b.Family] = map[string]*Fork{}
			abandoned[b.Family] = map[string]bool{}
		}
		fork := families[b.Family][b.Fork]
		if fork == nil {
			fork = &Fork{GUID: b.Fork}
			families[b.Family][b.Fork] = fork
		}
		fork.Backups = append(fork.Backups, b)
		if b.State == Confirmed && b.FirstFork != b.Fork && b.FirstFork != "" {
			fork.Parent, fork.At = b.FirstFork, b.ForkPoint
		}
		for _, set := range slices.Concat(b.Abandons, b.Left) {
			abandoned[b.Family][set] = true
		}
		if b.By == ByItself {
			abandoned[b.Family][b.Set] = true
		}
	}
	var t Tree
	for _, guid := range slices.Sorted(maps.Keys(families)) {
		f := Family{GUID: guid, Abandoned: abandoned[guid]}
		for _, fork := range families[guid] {
			slices.SortStableFunc(fork.Backups, func(a, b Backup) int { return a.Last.Compare(b.Last) })
			f.Forks = append(f.Forks, *fork)
		}
		slices.SortFunc(f.Forks, func(a, b Fork) int { return cmp.Compare(a.GUID, b.GUID) })
		t.Families = append(t.Families, f)
	}
	return t
}

// Family returns the family of that GUID; an empty one if there is none.
func (t Tree) Family(guid string) Family {
	for _, f := range t.Families {
		if f.GUID == guid {
			return f
		}
	}
	return Family{GUID: guid}
}

func (f Family) fork(guid string) (Fork, bool) {
	i := slices.IndexFunc(f.Forks, func(k Fork) bool { return k.GUID == guid })
	if i < 0 {
		return Fork{}, false
	}
	return f.Forks[i], true
}

// Head is where a database stands now: its fork, and where that left the one before
// (Parent is "" or equals Fork if the server does not say).
type Head struct {
	Fork, Parent string
	At           lsn.LSN
}

// Timeline is the history of one head: the backups that lie on the way from the
// family's beginning to it, in the order of their last LSNs, without denied,
// unconfirmed and abandoned ones.
type Timeline struct {
	Backups []Backup
}

// Timeline follows the forks back from head. A backup of an earlier fork belongs to
// it only if it ended no later than the point where the next fork began.
func (f Family) Timeline(head Head) Timeline {
	var t Timeline
	seen := map[string]bool{}
	guid, parent, at := head.Fork, head.Parent, head.At
	limit := lsn.Max
	for guid != "" && !seen[guid] {
		seen[guid] = true
		fork, _ := f.fork(guid)
		for _, b := range fork.Backups {
			if b.State == Confirmed && !f.Abandoned[b.Set] && b.Last.Compare(limit) <= 0 {
				t.Backups = append(t.Backups, b)
			}
		}
		if parent == "" || parent == guid {
			parent, at = fork.Parent, fork.At
		}
		if at.Less(limit) {
			limit = at
		}
		guid, parent, at = parent, "", lsn.LSN{}
	}
	slices.SortStableFunc(t.Backups, func(a, b Backup) int { return a.Last.Compare(b.Last) })
	return t
}

// newest is the last backup that fits.
func (t Timeline) newest(fits func(*Backup) bool) *Backup {
	for i := len(t.Backups) - 1; i >= 0; i-- {
		if fits(&t.Backups[i]) {
			return &t.Backups[i]
		}
	}
	return nil
}

// NewestFull is the newest full that is not copy-only, usable or not: the one that
// the server should hold as differential base. Nil if there is none.
func (t Timeline) NewestFull() *Backup {
	return t.newest(func(b *Backup) bool { return b.Kind == Full && !b.CopyOnly })
}

// NewestBase is the newest full that differentials can be built on.
func (t Timeline) NewestBase() *Backup {
	return t.newest(func(b *Backup) bool { return b.Kind == Full && !b.CopyOnly && b.Usable() })
}

// NewestStart is the newest backup from which a restore can go on with the log that is
// taken next, in that run of SQL Server: a full, copy-only or not, or a differential whose
// full is here.
func (t Timeline) NewestStart(run string) *Backup {
	return t.newest(func(b *Backup) bool {
		if !b.Usable() || !b.Tie().Holds(&Backup{Run: run}) {
			return false
		}
		return b.Kind == Full || b.Kind == Diff && t.BaseOf(b) != nil
	})
}

// NewestDiff is the newest usable differential of that full.
func (t Timeline) NewestDiff(full *Backup) *Backup {
	return t.newest(func(b *Backup) bool { return b.Usable() && Bases(&full.Header, &b.Header) })
}

// BaseOf is the usable full that the differential was read against, or nil.
func (t Timeline) BaseOf(diff *Backup) *Backup {
	return t.newest(func(b *Backup) bool { return b.Usable() && Bases(&b.Header, &diff.Header) })
}

// NewestLog is the newest log that is a link: not copy-only. It counts even where
// the repository can no longer give it back (Usable), because where SQL Server
// truncated its log does not depend on that.
func (t Timeline) NewestLog() *Backup {
	return t.newest(func(b *Backup) bool { return b.Kind == Log && !b.CopyOnly })
}

// Newest is the newest backup of any kind, or nil.
func (t Timeline) Newest() *Backup { return t.newest(func(*Backup) bool { return true }) }

// Restorable tells whether a restore can come to the end of the log, and on from there
// with the log that is taken next, in that run of SQL Server: there is a start from which
// usable logs lead to it without a gap. An empty one leads to nothing itself.
func (t Timeline) Restorable(log *Backup, run string) bool {
	if !log.Usable() {
		return false
	}
	opened := func(by *Backup) bool {
		return slices.ContainsFunc(t.Backups, func(d Backup) bool {
			start := d.Usable() && (d.Kind == Full || d.Kind == Diff && t.BaseOf(&d) != nil)
			return start && Opens(&d, by)
		})
	}
	reached := map[lsn.LSN][]Tie{}
	for i := range t.Backups {
		b := &t.Backups[i]
		if b.Usable() && b.Kind == Log && !b.CopyOnly && !b.Empty() && (opened(b) || slices.ContainsFunc(reached[b.First], func(t Tie) bool { return t.Holds(b) })) {
			reached[b.Last] = append(reached[b.Last], b.Tie())
		}
	}
	next := Backup{Header: Header{Kind: Log, Family: log.Family, FirstFork: log.Fork, Fork: log.Fork, First: log.Last, Last: lsn.Max}, Run: run}
	return len(reached[log.Last]) > 0 || log.Empty() && opened(&next)
}
