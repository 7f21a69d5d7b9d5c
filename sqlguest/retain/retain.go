// Package retain tells the repository's retention which backups of a database need
// which others.
//
// Retention itself knows days and weeks and no LSNs. What it keeps must stay
// restorable to its very end, and that is decided here by the same histories that a
// restore is planned on (package chain): a Chain rebuilds them from those backups that
// would be left, so that "restorable" means the same before and after a forget. Three
// things follow that no list of parents could tell:
//
//   - A log needs a way, not its predecessor: whatever full, differential or log brings
//     the database to where it begins. A copy-only full may do, a gap behind it does not
//     matter, another fork does.
//   - After a revert of the machine LSNs were given out twice. Which backups belong to
//     the history that was left says one backup alone, the full that saw it
//     (chain.Backup.Abandons). While one of those stays it stays, or what was
//     abandoned would be mixed with what came later. And one of those stays while a log
//     does that leads over to another fork from where LSNs are doubtful.
//   - A backup without SQL Server's word is no link yet, and may turn out to be one: the
//     log may be truncated behind it. It stays until a run has settled it, with what it
//     would be restored by; one that was denied is nobody's base and restores nothing.
package retain

import (
	"maps"
	"slices"
	"time"

	"holdfast/repo/recovery"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lsn"
)

const none = -1

// Chains makes the chains of databases from what read finds of one, by its identity and
// in the order of their making.
func Chains(read func(identity string) ([]chain.Backup, error)) recovery.Chains {
	return func(identity string, ids []string) (recovery.Chain, error) {
		backups, err := read(identity)
		if err != nil {
			return nil, err
		}
		return New(ids, backups), nil
	}
}

// Chain is what of one database's backups leads where. It is a recovery.Chain.
type Chain struct {
	all    []chain.Backup // in the order of their making; the places below are in here
	place  []int          // in the caller's list
	number []int          // of each of the caller's list, none if it is not known
	// seenBy is the first backup that saw a backup abandoned, none if none did.
	seenBy []int
	proofs map[int][]int // of logs over a fork: abandoned ones that show where the fork may lie
	lines  []line
	home   []int // the line of the history that ends on the backup's own fork, or none
}

var _ recovery.Chain = (*Chain)(nil)

// New makes the chain of a database from its backups in the order of their making. Ids
// are the points that are judged; of others that were made meanwhile nothing is said.
func New(ids []string, backups []chain.Backup) *Chain {
	c := &Chain{number: make([]int, len(ids))}
	places := make(map[string]int, len(ids))
	for i, id := range ids {
		places[id], c.number[i] = i, none
	}
	for _, b := range backups {
		if i, asked := places[b.Point]; asked {
			b.Files, b.StreamBytes, b.Marks, b.Why = nil, nil, nil, nil // what only a restore needs
			c.number[i] = len(c.all)
			c.all, c.place = append(c.all, b), append(c.place, i)
		}
	}
	c.seenBy = abandoners(c.all)
	c.proofs = c.prove()
	c.lines, c.home = draw(c.all)
	return c
}

// draw draws the lines of all histories, and tells on which each backup is at home.
func draw(backups []chain.Backup) (lines []line, home []int) {
	home = slices.Repeat([]int{none}, len(backups))
	for _, h := range histories(backups) {
		l := newLine(h)
		for i := range h.Backups {
			b := &h.Backups[i]
			n := h.Made[b.Point]
			if b.Fork == h.Fork && (home[n] == none || !lines[home[n]].reached[n] && l.reached[n]) {
				home[n] = len(lines)
			}
		}
		lines = append(lines, l)
	}
	return lines, home
}

// histories are those of all families; a source has one, as a rule.
func histories(backups []chain.Backup) []chain.History {
	var list []chain.History
	var seen []string
	for _, b := range slices.Backward(backups) {
		if b.State == chain.Confirmed && !slices.Contains(seen, b.Family) {
			seen = append(seen, b.Family)
			list = append(list, chain.Histories(backups, b.Family)...)
		}
	}
	return list
}

// abandoners says of each backup which one saw it abandoned first.
func abandoners(backups []chain.Backup) []int {
	first := map[string]int{}
	for n, b := range backups {
		for _, set := range slices.Concat(b.Abandons, b.Left) {
			if _, known := first[set]; !known {
				first[set] = n
			}
		}
	}
	list := make([]int, len(backups))
	for n, b := range backups {
		list[n] = none
		if at, abandoned := first[b.Set]; abandoned && b.State == chain.Confirmed {
			list[n] = at
		}
	}
	return list
}

// prove finds for each log that leads from one fork to another the backups that show
// that LSNs there were given out twice: without them it would be taken for a part of
// whichever history is still to be seen. Of what one backup saw abandoned the one that
// reaches furthest will do.
func (c *Chain) prove() map[int][]int {
	proofs := map[int][]int{}
	for n := range c.all {
		log := &c.all[n]
		if log.Kind != chain.Log || log.State != chain.Confirmed || log.FirstFork == "" || log.FirstFork == log.Fork {
			continue
		}
		furthest := map[int]int{}
		for x := range c.all {
			b, by := &c.all[x], c.seenBy[x]
			if by == none && b.By == chain.ByItself && b.State == chain.Confirmed {
				by = x // it says so itself
			}
			if by == none || b.Fork != log.FirstFork || b.Last.Less(log.First) {
				continue
			}
			if best, known := furthest[by]; !known || c.all[best].Last.Less(b.Last) {
				furthest[by] = x
			}
		}
		proofs[n] = slices.Sorted(maps.Values(furthest))
	}
	return proofs
}

// told reports whether all is there that tells to which history a backup belongs.
func (c *Chain) told(n int, there []bool) bool {
	if w := c.seenBy[n]; w != none && !there[c.place[w]] {
		return false
	}
	return !slices.ContainsFunc(c.proofs[n], func(x int) bool { return !there[c.place[x]] })
}

// Reach tells which backups can be restored to their ends by those that are there.
func (c *Chain) Reach(there []bool) []bool {
	var left []chain.Backup
	var numbers []int
	for n, b := range c.all {
		if there[c.place[n]] && c.told(n, there) {
			left, numbers = append(left, b), append(numbers, n)
		}
	}
	lines, home := c.lines, c.home
	if len(left) < len(c.all) {
		lines, home = draw(left)
	}
	reached := make([]bool, len(there))
	for n, at := range home {
		reached[c.place[numbers[n]]] = at != none && lines[at].reached[n]
	}
	return reached
}

// Serves is from when on a backup serves to restore later moments: SQL Server notes
// whole seconds, and a point has its time before SQL Server has finished.
func (c *Chain) Serves(i int) time.Time {
	if n := c.number[i]; n != none && c.all[n].State == chain.Confirmed {
		return c.all[n].SurelyAfter()
	}
	return time.Time{}
}

// Newest is the last of them in the order of making.
func (c *Chain) Newest(among []bool) int {
	for n := range slices.Backward(c.all) {
		if among[c.place[n]] {
			return c.place[n]
		}
	}
	return none
}

// Open tells that SQL Server's word on the backup is not known yet.
func (c *Chain) Open(i int) bool {
	return c.number[i] != none && c.all[c.number[i]].State == chain.Unconfirmed
}

// Hold adds what the kept ones are restored by, and what tells to which history any of
// these belongs.
func (c *Chain) Hold(keep []bool, by []int32, since time.Time) {
	h := holding{c, keep, by, make([]map[int]bool, len(c.lines))}
	for n := range slices.Backward(c.all) {
		if !keep[c.place[n]] {
			continue
		}
		h.follow(n)
		if !since.IsZero() {
			h.begin(n, since)
		}
	}
}

// holding is a Hold under way.
type holding struct {
	*Chain
	keep []bool
	by   []int32
	seen []map[int]bool // by line, what was followed already
}

// add keeps one that another needs.
func (h *holding) add(n, needs int) {
	i := h.place[n]
	if h.by[i] < 0 {
		h.by[i] = int32(h.place[needs])
	}
	h.keep[i] = true
	h.witness(n)
}

// witness keeps what tells to which history this one belongs.
func (h *holding) witness(n int) {
	for _, w := range append([]int{h.seenBy[n]}, h.proofs[n]...) {
		if w != none && !h.keep[h.place[w]] {
			h.add(w, n)
			h.follow(w)
		}
	}
}

// follow keeps what one is restored by.
func (h *holding) follow(n int) {
	h.witness(n)
	at := h.home[n]
	if h.all[n].State == chain.Unconfirmed {
		base, on := h.wouldStand(n)
		if base == none {
			return
		}
		h.add(base, n)
		n, at = base, on
	}
	h.walk(at, n)
}

// walk follows the way on one line, all the way down.
func (h *holding) walk(at, n int) {
	if at == none {
		return
	}
	if h.seen[at] == nil {
		h.seen[at] = map[int]bool{}
	}
	for before := h.lines[at].before; !h.seen[at][n]; {
		h.seen[at][n] = true
		base, stands := before[n]
		if !stands {
			return
		}
		h.add(base, n)
		h.name(at, base, n)
		n = base
	}
}

// name keeps a differential by which alone it is known that a full that was abandoned
// lies on this line after all: somebody went back to it.
func (h *holding) name(at, full, needs int) {
	l := &h.lines[at]
	if h.seenBy[full] == none || l.h.Reverted != "" || h.all[needs].Kind == chain.Diff {
		return
	}
	for i := range l.h.Backups {
		if d := &l.h.Backups[i]; chain.Bases(&h.all[full].Header, &d.Header) {
			h.add(l.h.Made[d.Point], needs)
			return
		}
	}
}

// begin keeps what leads into a log early enough for all its moments since then: what
// leads to its end may lie in the midst of it.
func (h *holding) begin(n int, since time.Time) {
	log, at := &h.all[n], h.home[n]
	if at == none || log.Kind != chain.Log || !log.SurelyAfter().After(since) {
		return
	}
	if base, stands := h.lines[at].before[n]; !stands || !h.all[base].SurelyAfter().After(since) {
		return
	}
	if x := h.lines[at].into(log, since); x != none {
		h.add(x, n)
		h.walk(at, x)
	}
}

// wouldStand is what an unconfirmed backup would be restored by, and on which line, if
// SQL Server confirms it: what it was made to continue, as far as is known before that.
// No log is made on a fork that has no data backup of ours yet.
func (c *Chain) wouldStand(n int) (base, on int) {
	b := c.all[n]
	b.Last = lsn.Max
	best := none
	for m := range n {
		x := &c.all[m]
		if c.home[m] == none || !c.lines[c.home[m]].reached[m] {
			continue
		}
		fits := b.Kind == chain.Diff && x.Kind == chain.Full && x.Set == b.Base ||
			b.Kind == chain.Log && c.seenBy[m] == none && x.Precedes(&b)
		if fits && (best == none || nearer(x, &c.all[best])) {
			best = m
		}
	}
	if best == none {
		return none, none
	}
	return best, c.home[best]
}

// nearer tells which of two a log is rather restored on: a data backup, which needs the
// fewest others; of logs one that is a link; else the one that reaches further.
func nearer(a, b *chain.Backup) bool {
	rank := func(x *chain.Backup) int {
		switch {
		case x.Kind != chain.Log:
			return 2
		case !x.CopyOnly:
			return 1
		}
		return 0
	}
	if rank(a) != rank(b) {
		return rank(a) > rank(b)
	}
	return b.Last.Less(a.Last)
}

// line is a history with a way to each backup that has one.
type line struct {
	h       chain.History
	ends    []*chain.Backup // whose ends are reached, by their last LSNs
	reached map[int]bool    // by place in the order of making
	before  map[int]int     // what each that is no full is restored by, likewise
}

func newLine(h chain.History) line {
	l := line{h: h, reached: map[int]bool{}, before: map[int]int{}}
	for i := range h.Backups {
		b := &h.Backups[i]
		var base *chain.Backup
		switch {
		case !b.Usable() || b.Empty():
			continue
		case b.Kind == chain.Log:
			base = l.opens(b)
		case b.Kind == chain.Diff:
			base = h.Base(b)
		}
		if base != nil {
			l.before[h.Made[b.Point]] = h.Made[base.Point]
		}
		if base != nil || b.Kind == chain.Full {
			l.reached[h.Made[b.Point]] = true
			l.ends = append(l.ends, b)
		}
	}
	l.otherwise()
	return l
}

// opens is what the database is brought to before the log, nil if nothing leads there.
func (l *line) opens(log *chain.Backup) *chain.Backup {
	var best *chain.Backup
	for _, x := range slices.Backward(l.ends) {
		if x.Last.Less(log.First) {
			break
		}
		if x.Precedes(log) && (best == nil || !nearer(best, x)) { // of equals the first, as a plan does
			best = x
		}
	}
	return best
}

// into is the newest backup that serves all moments since then and on which the log can
// be restored; failing one, that which leads to its earliest place.
func (l *line) into(log *chain.Backup, since time.Time) int {
	var best *chain.Backup
	for _, x := range slices.Backward(l.ends) {
		if x.Last.Less(log.First) {
			break
		}
		if !x.Precedes(log) {
			continue
		}
		best = x
		if !x.SurelyAfter().After(since) {
			break
		}
	}
	if best == nil {
		return none
	}
	return l.h.Made[best.Point]
}

// otherwise finds logs that have no way themselves, for they are empty, say, and whose
// end is another's as well.
func (l *line) otherwise() {
	for i := range l.h.Backups {
		b := &l.h.Backups[i]
		n := l.h.Made[b.Point]
		if b.Kind != chain.Log || l.reached[n] {
			continue
		}
		k, found := slices.BinarySearchFunc(l.ends, b.Last, func(x *chain.Backup, last lsn.LSN) int { return x.Last.Compare(last) })
		if !found {
			continue
		}
		best := l.ends[k]
		for ; k < len(l.ends) && l.ends[k].Last == b.Last; k++ {
			if nearer(l.ends[k], best) {
				best = l.ends[k]
			}
		}
		l.reached[n], l.before[n] = true, l.h.Made[best.Point]
	}
}
