package chain

import (
	"errors"
	"time"

	"holdfast/sqlguest/lsn"
)

// ErrBroken: the backup that reaches furthest on the history that the database is on
// cannot be restored to its end, or nothing of the database can be restored at all.
var ErrBroken = errors.New("the newest window is broken")

// Report is what the chain of one database looks like: the shape of `chain --json`.
type Report struct {
	Family   string `json:"family"`
	Database string `json:"database"`
	Forks    []Limb `json:"forks"`
	// Lines are the histories, the one that the database is on first. Others are told
	// only if they hold a backup that no line before them holds.
	Lines []Line `json:"histories"`
	// Broken is ErrBroken (exit 15).
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
	Point string `json:"point,omitempty"`
	Kind  Kind   `json:"kind,omitempty"`
	// Made is its place in the order of making, from 0.
	Made     int       `json:"made"`
	Set      string    `json:"set,omitempty"`
	Started  time.Time `json:"started,omitzero"` // server-local, with the offset of then
	Finished time.Time `json:"finished,omitzero"`
	First    lsn.LSN   `json:"first,omitzero"`
	Last     lsn.LSN   `json:"last,omitzero"`
	Bytes    int64     `json:"bytes,omitempty"` // of its streams

	CopyOnly   bool   `json:"copy_only,omitempty"`
	BulkLogged bool   `json:"bulk_logged,omitempty"`
	Tail       bool   `json:"tail,omitempty"`
	State      State  `json:"state"` // "" is unconfirmed
	Damage     string `json:"damage,omitempty"`
	Abandoned  bool   `json:"abandoned,omitempty"`
	// Restorable: a restore comes to its end, on one history or another.
	Restorable bool `json:"restorable"`

	Rule   string   `json:"rule,omitempty"`
	Reason string   `json:"reason,omitempty"`
	Why    []string `json:"confirmation,omitempty"` // what SQL Server's word says beside its verdict
	Marks  int      `json:"marks,omitempty"`
}

// At is when the backup was over, or, as long as nobody knows that, when it began.
func (n *Node) At() time.Time {
	if n.Finished.IsZero() {
		return n.Started
	}
	return n.Finished
}

// known is what nodes say of their backups beside what is in those.
type known struct {
	made map[string]int  // by point
	gone map[string]bool // abandoned, by set
	ends map[string]bool // can be restored, by point
}

func (k *known) node(b *Backup) Node {
	n := Node{
		Point: b.Point, Kind: b.Kind, Made: k.made[b.Point], Set: b.Set, Started: b.Started, Finished: b.Finished, First: b.First, Last: b.Last,
		CopyOnly: b.CopyOnly, BulkLogged: b.BulkLogged, Tail: b.Tail, State: b.State, Damage: b.Damage, Abandoned: k.gone[b.Set], Restorable: k.ends[b.Point],
		Rule: b.Rule, Reason: b.Reason, Why: b.Why, Marks: len(b.Marks),
	}
	if n.Damage == "" && b.Damaged {
		n.Damage = "SQL Server met damage in the database while it made the backup"
	}
	for _, bytes := range b.StreamBytes {
		n.Bytes += bytes
	}
	return n
}

// Line is one history with what of it can be restored.
type Line struct {
	Fork     string   `json:"fork"`
	Reverted string   `json:"reverted,omitempty"` // the point that saw that it was left by a revert
	Points   []string `json:"points"`
	Reach
	// Spans are the times by the server's clock to which the database can be restored:
	// inside the windows, where it was on this history. By point, mark and LSN all of a
	// window can be reached.
	Spans []Span `json:"times"`
}

// Describe reports on the family that the newest confirmed backup is of, or the newest
// one if none is. The backups are in the order of their making; rows are msdb's, or
// nil.
func Describe(backups []Backup, rows []Row) Report {
	r := Report{Forks: []Limb{}, Lines: []Line{}, Broken: len(backups) > 0}
	confirmed := false
	for i := range backups {
		if b := &backups[i]; b.State == Confirmed || !confirmed {
			r.Family, r.Database, confirmed = b.Family, b.Database, b.State == Confirmed
		}
	}
	f := Grow(backups).Family(r.Family)
	k := known{made: map[string]int{}, gone: f.Abandoned, ends: reachable(backups)}
	for i := range backups {
		k.made[backups[i].Point] = i
	}
	for _, fork := range f.Forks {
		r.Forks = append(r.Forks, limb(f, fork, k))
	}
	lives := lived(backups, r.Family)
	told := map[string]bool{}
	list := Histories(backups, r.Family)
	reached := reaches(list, rows)
	for i, h := range list {
		l := Line{Fork: h.Fork, Reverted: h.Reverted, Reach: reached[i]}
		l.Spans = h.spans(l.Windows, lives)
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

func limb(f Family, fork Fork, k known) Limb {
	l := Limb{Fork: fork.GUID, Parent: fork.Parent, At: fork.At}
	at := map[string]int{}
	for i := range fork.Backups {
		b := &fork.Backups[i]
		n := k.node(b)
		switch b.Kind {
		case Full:
			at[b.Set] = len(l.Bases)
			l.Bases = append(l.Bases, Base{Node: n})
		case Diff:
			i, known := at[b.Base]
			if !known { // its full is on another fork, or somebody else's
				i = len(l.Bases)
				at[b.Base] = i
				l.Bases = append(l.Bases, Base{Node: Node{Kind: Full, Set: b.Base}, Missing: !holds(f, b.Base)})
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
