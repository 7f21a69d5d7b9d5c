package chain

import "holdfast/sqlguest/lsn"

// Report is what the chain of one database looks like: the shape of `chain --json`.
type Report struct {
	Family   string `json:"family"`
	Database string `json:"database"`
	Forks    []Limb `json:"forks"`
	// Lines are the histories, the one that the database is on first. Others are told
	// only if they hold a backup that no line before them holds.
	Lines []Line `json:"histories"`
	// Broken: the newest backup of the first line cannot be restored (exit 15).
	Broken bool `json:"broken"`
}

// Limb is a fork with the backups that end on it, by their points.
type Limb struct {
	Fork   string  `json:"fork"`
	Parent string  `json:"parent,omitempty"`
	At     lsn.LSN `json:"at,omitzero"` // where it left its parent
	Bases  []Base  `json:"bases,omitempty"`
	Logs   []Node  `json:"logs,omitempty"`
}

// Base is a full with its differentials.
type Base struct {
	Node
	Missing bool   `json:"missing,omitempty"` // the differentials' full is not ours
	Diffs   []Node `json:"differentials,omitempty"`
}

// Node is one backup.
type Node struct {
	Point      string  `json:"point,omitempty"`
	Set        string  `json:"set,omitempty"`
	First      lsn.LSN `json:"first,omitzero"`
	Last       lsn.LSN `json:"last,omitzero"`
	CopyOnly   bool    `json:"copy_only,omitempty"`
	BulkLogged bool    `json:"bulk_logged,omitempty"`
	State      State   `json:"state"` // "" is unconfirmed
	Damage     string  `json:"damage,omitempty"`
	Abandoned  bool    `json:"abandoned,omitempty"`
}

// Line is one history with what of it can be restored.
type Line struct {
	Fork     string   `json:"fork"`
	Reverted string   `json:"reverted,omitempty"` // the point that saw that it was left by a revert
	Points   []string `json:"points"`
	Reach
}

// Describe reports on the family that the newest confirmed backup is of. The backups
// are in the order of their making; rows are msdb's, or nil.
func Describe(backups []Backup, rows []Row) Report {
	r := Report{Forks: []Limb{}, Lines: []Line{}}
	for _, b := range backups {
		if b.State == Confirmed {
			r.Family, r.Database = b.Family, b.Database
		}
	}
	f := Grow(backups).Family(r.Family)
	for _, fork := range f.Forks {
		r.Forks = append(r.Forks, limb(f, fork))
	}
	told := map[string]bool{}
	for i, h := range Histories(backups, r.Family) {
		l := Line{Fork: h.Fork, Reverted: h.Reverted, Reach: h.Reach(rows)}
		fresh := false
		for _, b := range h.Backups {
			l.Points = append(l.Points, b.Point)
			fresh = fresh || !told[b.Point]
			told[b.Point] = true
		}
		if i == 0 {
			r.Broken = l.Broken
		}
		if fresh {
			r.Lines = append(r.Lines, l)
		}
	}
	return r
}

func limb(f Family, fork Fork) Limb {
	l := Limb{Fork: fork.GUID, Parent: fork.Parent, At: fork.At}
	at := map[string]int{}
	for _, b := range fork.Backups {
		n := Node{Point: b.Point, Set: b.Set, First: b.First, Last: b.Last, CopyOnly: b.CopyOnly, BulkLogged: b.BulkLogged,
			State: b.State, Damage: b.Damage, Abandoned: f.Abandoned[b.Set]}
		switch b.Kind {
		case Full:
			at[b.Set] = len(l.Bases)
			l.Bases = append(l.Bases, Base{Node: n})
		case Diff:
			i, known := at[b.Base]
			if !known { // its full is on another fork, or somebody else's
				i = len(l.Bases)
				at[b.Base] = i
				l.Bases = append(l.Bases, Base{Node: Node{Set: b.Base}, Missing: !holds(f, b.Base)})
			}
			l.Bases[i].Diffs = append(l.Bases[i].Diffs, n)
		case Log:
			l.Logs = append(l.Logs, n)
		}
	}
	return l
}

// holds tells whether a full is anywhere in the family.
func holds(f Family, set string) bool {
	for _, fork := range f.Forks {
		for _, b := range fork.Backups {
			if b.Kind == Full && b.Set == set && set != "" {
				return true
			}
		}
	}
	return false
}
