package chain

import "slices"

// reaches are what of each history can be restored, without gaps that are none: a history
// that left another one inside a log knows that log no more, but up to a backup that both
// hold they are one, and what either reaches of that is reached.
func reaches(list []History, rows []Row) []Reach {
	all := make([]Reach, len(list))
	for i := range list {
		all[i] = list[i].Reach(rows)
	}
	for i := range all {
		all[i].Holes = slices.DeleteFunc(all[i].Holes, func(o Hole) bool {
			for k := range all {
				if k != i && o.Why == HoleGap && list[k].Holds(o.Point) && all[k].covers(o) {
					return true
				}
			}
			return false
		})
	}
	return all
}

// covers tells whether one window holds all of a stretch.
func (r *Reach) covers(o Hole) bool {
	return !o.From.IsZero() && slices.ContainsFunc(r.Windows, func(w Window) bool {
		return w.From.LSN.Compare(o.From) <= 0 && o.To.Compare(w.To.LSN) <= 0
	})
}
