package ledger

import "slices"

// View is one ledger entry made ready for many questions: a repository may
// have hundreds of thousands of points, so no answer scans a list.
type View struct {
	Number uint32 // of the entry
	Entry  *Entry // read only

	points    Pile // sorted
	runs      map[string]bool
	leaving   map[string]bool // superseded segments
	condemned map[string]bool // by pack; true: it is going
}

// NewView prepares the entry of that number.
func NewView(number uint32, e *Entry) (*View, error) {
	v := &View{Number: number, Entry: e, points: e.Points, condemned: map[string]bool{}, runs: set(e.Runs), leaving: set(e.Superseded)}
	if !slices.IsSortedFunc(v.points, Packed.Compare) {
		v.points = slices.SortedFunc(slices.Values(v.points), Packed.Compare)
	}
	for _, batch := range e.Condemned {
		for _, pack := range batch.Packs {
			v.condemned[pack] = v.condemned[pack] || batch.Going
		}
	}
	return v, nil
}

func set(names []string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, name := range names {
		m[name] = true
	}
	return m
}

// IsPoint reports whether the ledger names sid among the points below its horizon.
func (v *View) IsPoint(sid SID) bool {
	return v.points.Has(sid.Pack())
}

// IsVoid is Entry.IsVoid (W8): below the horizon, only a named point counts.
func (v *View) IsVoid(sid SID) bool { return sid.Gen < v.Entry.Horizon && !v.IsPoint(sid) }

// Voids is IsVoid.
func (v *View) Voids(sid Packed) bool { return sid.Gen() < v.Entry.Horizon && !v.points.Has(sid) }

// IsCondemned reports whether the pack of that name is in a condemned batch,
// waiting or going.
func (v *View) IsCondemned(pack string) bool {
	_, found := v.condemned[pack]
	return found
}

// IsGoing reports whether the pack of that name has been examined for the last
// time: nobody can need it, whoever finds it deletes it.
func (v *View) IsGoing(pack string) bool { return v.condemned[pack] }

// IsRun reports whether the ledger names the segment as one of its runs.
func (v *View) IsRun(segment string) bool { return v.runs[segment] }

// Runs are the names of the runs, not to be changed.
func (v *View) Runs() map[string]bool { return v.runs }

// MayReuse is W5, asked of the entry that the writer began with: may content
// of this pack stand in for content of the writer's own? Not if the pack is
// condemned. Of a session below the horizon a pack may have been deleted long
// ago, while a writer that was away publishes its segment only now or a
// request arrives twice: such a pack counts only if a run of this ledger lists
// it. A pack of a session at or above the horizon has never been deleted,
// because no batch goes before the horizon has passed its owners.
func (v *View) MayReuse(pack string, owner SID, inRun bool) bool {
	return !v.IsCondemned(pack) && (inRun || owner.Gen >= v.Entry.Horizon)
}
