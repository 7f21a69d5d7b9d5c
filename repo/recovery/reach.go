package recovery

// links are what points stand on, by their numbers. This is the place that knows
// how one backup of a database leads to the next: today by Parent. A differential
// names its full. A log names the log before it, or, of the first, the data backup
// that it opens on; but every full or differential that was taken between those two
// leads to it just as well, since backups of one database are taken one after the
// other and a log holds all since the log before.
type links struct {
	briefs []Brief
	parent []int32 // what Parent names, -1 if it names nothing that is there
	source []int32 // number of the source, from 0
	count  int     // of sources
}

const none = -1

func newLinks(briefs []Brief) *links {
	l := &links{briefs: briefs, parent: make([]int32, len(briefs)), source: make([]int32, len(briefs))}
	ids := newByID(briefs)
	numbers := map[sourceKey]int32{}
	for i := range briefs {
		l.parent[i] = none
		if base, there := ids.base(i); there {
			l.parent[i] = int32(base)
		}
		key := keyOf(&briefs[i])
		number, known := numbers[key]
		if !known {
			number = int32(len(numbers))
			numbers[key] = number
		}
		l.source[i] = number
	}
	l.count = len(numbers)
	return l
}

func (l *links) isLog(i int) bool { return l.briefs[i].with.kind == SQLLog }

// isWhole reports whether the point, no log, can be restored: it is complete in
// itself, or a differential whose full is there.
func (l *links) isWhole(i int) bool {
	switch l.briefs[i].with.kind {
	case SQLLog:
		return false
	case SQLDiff:
		return l.parent[i] != none && l.briefs[l.parent[i]].with.kind == SQLFull
	}
	return true
}

// opening is the newest data backup of a source so far that holds, and what has
// come after it.
type opening struct {
	data  int32 // none if there is none
	log   int32 // the first log behind it, none if there is none
	mixed bool  // the logs behind it do not all continue the same, lost, one
}

// reach tells which points are restorable by what holds: points that are no logs
// if they hold, and each log that holds, or that may be and follows something that
// is restorable. base, unless nil, becomes the number of what each such log is
// restored upon, the newest data backup if it has the choice.
func (l *links) reach(holds, may func(i int) bool, base []int32) []bool {
	reached := make([]bool, len(l.briefs))
	open := make([]opening, l.count)
	for n := range open {
		open[n] = opening{data: none, log: none}
	}
	for i := range l.briefs {
		o := &open[l.source[i]]
		switch {
		case !l.isLog(i):
			if reached[i] = holds(i); reached[i] {
				*o = opening{data: int32(i), log: none}
			}
			continue
		case holds(i):
			reached[i] = true
		case may(i) && l.opens(o, i):
			reached[i] = true
			if base != nil {
				base[i] = o.data
			}
		}
		l.pass(o, i)
	}
	l.follow(reached, may)
	return reached
}

// opens reports whether the data backup leads to the i-th point, a log, without
// any other log. What was before a log whose parent is gone nobody can look up: it
// was older than the data backup if no log behind that continued anything else.
func (l *links) opens(o *opening, i int) bool {
	switch {
	case o.data == none:
		return false
	case l.parent[i] != none:
		return o.data >= l.parent[i]
	}
	return o.log == none || !o.mixed && l.sameParent(int(o.log), i)
}

// pass notes a log behind the data backup.
func (l *links) pass(o *opening, i int) {
	if o.log == none {
		o.log = int32(i)
	}
	o.mixed = o.mixed || !l.sameParent(int(o.log), i)
}

func (l *links) sameParent(i, j int) bool {
	a, b := &l.briefs[i], &l.briefs[j]
	return a.parent == b.parent && a.with.farParent == b.with.farParent
}

// follow passes what is reached on from each log to those that continue it.
func (l *links) follow(reached []bool, may func(i int) bool) {
	seen := make([]bool, len(reached)) // a manifest that lies cannot make it run for ever
	var path []int32
	for i := range reached {
		path = path[:0]
		at := int32(i)
		for at != none && !reached[at] && !seen[at] && l.isLog(int(at)) && may(int(at)) {
			seen[at] = true
			path = append(path, at)
			at = l.parent[at]
		}
		for _, n := range path {
			reached[n] = at != none && reached[at]
		}
	}
}
