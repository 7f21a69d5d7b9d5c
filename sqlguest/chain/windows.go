package chain

import (
	"slices"
	"time"

	"holdfast/sqlguest/lsn"
)

// Moment is a state that can be restored: the end of one of the backups.
type Moment struct {
	Point string  `json:"point"`
	LSN   lsn.LSN `json:"lsn"`
	// Time is server-local, with the offset of then. Where a window begins it is the
	// first whole second that surely lies behind the backup; where it ends, the last
	// one that surely lies before the end of the log. Of a place alone see Ending.
	Time time.Time `json:"time"`
}

// Window is a stretch in which every moment can be restored; From and To are the
// same moment where a backup can be restored and nothing around it.
type Window struct {
	From   Moment `json:"from"`
	To     Moment `json:"to"`
	Single bool   `json:"single,omitempty"`
}

// Hole is a stretch between two backups of a history in which nothing can be
// restored, or nothing but its end.
type Hole struct {
	From    lsn.LSN `json:"from"` // null: there is nothing before
	To      lsn.LSN `json:"to"`
	Why     string  `json:"why"`               // HoleGap, HoleBulk, HoleDamage, HoleBase
	Point   string  `json:"point"`             // the backup behind it, which needs it
	Foreign *Row    `json:"foreign,omitempty"` // somebody else's log that lies in it
	// Rule and Reason are why the backup behind it was made, where that bridges a gap.
	Rule   string `json:"rule,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Why a stretch cannot be restored.
const (
	HoleGap    = "gap"         // no log backup of ours covers it
	HoleBulk   = "bulk-logged" // R9: the log restores to its end only
	HoleDamage = "damage"      // the repository cannot give the backup back, or SQL Server met damage
	HoleBase   = "foreign"     // the differential counts from a full that is not here
)

// Reach is what of a history can be restored.
type Reach struct {
	Windows []Window `json:"windows"` // by LSN, from the oldest
	Holes   []Hole   `json:"holes,omitempty"`
	// Broken tells that the newest backup cannot be restored: the chain must be
	// mended before the next moment is safe (exit 15).
	Broken bool `json:"broken"`
	ends   map[string]bool
}

// Ends tells whether the state at the end of that point can be restored.
func (r *Reach) Ends(point string) bool { return r.ends[point] }

// SurelyAfter is the first whole second at which everything in the backup has
// happened: SQL Server notes when it ended in whole seconds, rounded down.
func (h *Header) SurelyAfter() time.Time {
	return h.Finished.Truncate(time.Second).Add(time.Second)
}

// stretch is a run of LSNs that can be restored, with the backups at its ends.
type stretch struct{ from, to *Backup }

// Reach computes what can be restored, from the chain alone. Rows are msdb's rows,
// whoever made them (nil: not known); they say who sits in a gap.
func (h *History) Reach(rows []Row) Reach {
	r := Reach{Windows: []Window{}, ends: map[string]bool{}}
	var at []*Backup // ends that are reached, by LSN
	var runs []stretch
	for i := range h.Backups {
		b := &h.Backups[i]
		low, high := b, b
		if b.Kind == Log {
			low, high = before(at, b)
		}
		usable := b.Usable() && !(b.Kind == Log && b.Empty())
		switch {
		case b.Kind == Log && b.Empty():
			continue
		case b.Kind != Log && h.Starts(b):
			low = b
		case !usable || low == nil || b.Kind != Log:
			r.Holes = append(r.Holes, h.hole(b, at, rows))
			continue
		case b.BulkLogged:
			r.Holes = append(r.Holes, Hole{From: high.Last, To: b.Last, Why: HoleBulk, Point: b.Point})
			low = b
		}
		r.ends[b.Point] = true
		at = append(at, b)
		runs = append(runs, stretch{low, b})
	}
	r.elsewhere(h, at)
	r.Windows = merge(append(runs, h.rests(at)...))
	r.bridged(h, rows)
	newest := h.Newest()
	r.Broken = len(newest) > 0 && !slices.ContainsFunc(at, func(b *Backup) bool { return slices.Contains(newest, b) })
	return r
}

// rests are the stretches of time in which nothing was written behind one of the ends.
func (h *History) rests(at []*Backup) (runs []stretch) {
	ends := map[lsn.LSN]*Backup{}
	for _, b := range at {
		if _, known := ends[b.Last]; !known {
			ends[b.Last] = b
		}
	}
	for i := range h.Backups {
		b := &h.Backups[i]
		if end := ends[b.Last]; end != nil && end != b && end.Tie().Holds(b) && b.Rests(end.Last, end.Fork) {
			runs = append(runs, stretch{end, b})
		}
	}
	return runs
}

// elsewhere finds logs that no restore needs, for something else ends where they end:
// empty ones, those that hold nothing behind their full, damaged ones that a copy-only
// log replaces. What they would have brought is no gap.
func (r *Reach) elsewhere(h *History, at []*Backup) {
	reached := map[lsn.LSN]bool{}
	for _, b := range at {
		reached[b.Last] = true
	}
	for i := range h.Backups {
		if b := &h.Backups[i]; b.Kind == Log && reached[b.Last] {
			r.ends[b.Point] = true
		}
	}
	r.Holes = slices.DeleteFunc(r.Holes, func(o Hole) bool { return o.Why == HoleGap && r.ends[o.Point] })
}

// bridged adds the gaps that a full or a differential ends: the logs stop, and what comes
// next stands on none of them. Databases without logs have no gaps, only ends.
func (r *Reach) bridged(h *History, rows []Row) {
	for i := 1; i < len(r.Windows); i++ {
		old, next := &r.Windows[i-1], &r.Windows[i]
		o := Hole{From: old.To.LSN, To: next.From.LSN, Why: HoleGap, Point: next.From.Point}
		told := func(t Hole) bool { return t.Why != HoleBase && t.From.Less(o.To) && o.From.Less(t.To) }
		k := slices.IndexFunc(h.Backups, func(b Backup) bool { return b.Point == o.Point && b.Kind != Log })
		if old.Single && next.Single || k < 0 || slices.ContainsFunc(r.Holes, told) || !h.lost(o.From, &h.Backups[k]) {
			continue
		}
		o.Rule, o.Reason = h.Backups[k].Rule, h.Backups[k].Reason
		o.Foreign = h.foreign(&o, rows)
		r.Holes = append(r.Holes, o)
	}
}

// lost tells whether the log from there to a data backup is in nobody's hands any more.
// As long as no log has been backed up since, the next one may hold it, unless the
// backup was made for the reason that it will not.
func (h *History) lost(from lsn.LSN, b *Backup) bool {
	behind := false
	for i := range h.Backups {
		log := &h.Backups[i]
		if log.Kind != Log || log.Last.Compare(from) <= 0 {
			continue
		}
		if log.First.Compare(from) <= 0 {
			return false
		}
		behind = true
	}
	// SIMPLE since our last log, somebody else's log backup, a chain that was begun anew,
	// a log backup of ours that is lost: see the table in the design.
	return behind || b.Model == "SIMPLE" || slices.Contains([]string{"Q19", "Q20", "S-chain-reset", "S-lost"}, b.Rule)
}

// before are the earliest and the latest end at which a database may stand that
// takes the log; nil if there is none.
func before(at []*Backup, log *Backup) (low, high *Backup) {
	for i := len(at) - 1; i >= 0; i-- {
		b := at[i]
		if b.Last.Less(log.First) {
			break
		}
		if !b.Precedes(log) {
			continue
		}
		low = b
		if high == nil {
			high = b
		}
	}
	return low, high
}

// hole says why a backup cannot be reached.
func (h *History) hole(b *Backup, at []*Backup, rows []Row) Hole {
	o := Hole{To: b.First, Why: HoleGap, Point: b.Point}
	if len(at) > 0 {
		o.From = at[len(at)-1].Last
	}
	switch {
	case !b.Usable():
		o.Why, o.From, o.To = HoleDamage, b.First, b.Last
	case b.Kind == Diff:
		o.Why, o.From, o.To = HoleBase, b.BaseLSN, b.Last
	}
	if o.Why == HoleGap {
		o.Foreign = h.foreign(&o, rows)
	}
	return o
}

// foreign finds somebody else's log that lies in a gap.
func (h *History) foreign(o *Hole, rows []Row) *Row {
	for i := range rows {
		w := &rows[i]
		ours := slices.ContainsFunc(h.Backups, func(b Backup) bool { return b.Set == w.Set })
		if !ours && w.Kind == Log && !w.CopyOnly && o.From.Less(w.Last) && w.First.Less(o.To) {
			return w
		}
	}
	return nil
}

// merge joins stretches that touch.
func merge(runs []stretch) []Window {
	slices.SortStableFunc(runs, func(a, b stretch) int { return a.from.Last.Compare(b.from.Last) })
	out := []Window{}
	var last stretch
	for _, s := range runs {
		n := len(out) - 1
		if n < 0 || last.to.Last.Less(s.from.Last) {
			last = s
			out = append(out, Window{From: begin(s.from), To: s.from.Ending(), Single: true})
			n++
		}
		if further(last.to, s.to) {
			last.to = s.to
		}
		if to := last.to; out[n].From.LSN.Less(to.Last) || to.Kind == Log && reading(out[n].From.Time).Before(reading(to.Started)) {
			out[n].To, out[n].Single = end(last.to), false
		}
	}
	for i := range out {
		if out[i].Single { // a place and no time: nothing leads to the second behind it
			out[i].From = out[i].To
		}
	}
	return out
}

// further tells whether a window ends with b rather than with a. Of those that end
// together it is the log that was begun last, for it covers the latest time, unless
// it restores to its end only (R9).
func further(a, b *Backup) bool {
	if a.Last != b.Last {
		return a.Last.Less(b.Last)
	}
	if b.Kind != Log || b.BulkLogged {
		return false
	}
	return a.Kind != Log || a.BulkLogged || reading(a.Started).Before(reading(b.Started))
}

// Ending is the end of a backup as a place. A log's time is the last one that it surely
// covers; another backup's is when it ended, by SQL Server's whole seconds: that is no
// time to restore to.
func (b *Backup) Ending() Moment {
	m := Moment{Point: b.Point, LSN: b.Last, Time: b.Finished}
	if b.Kind == Log && !b.BulkLogged {
		m.Time = b.Started
	}
	return m
}

func begin(b *Backup) Moment { return Moment{Point: b.Point, LSN: b.Last, Time: b.SurelyAfter()} }

func end(b *Backup) Moment {
	m := Moment{Point: b.Point, LSN: b.Last, Time: b.Started}
	if b.Kind != Log { // its log part ends with it, and nothing is known in between
		m.Time = b.SurelyAfter()
	}
	return m
}
