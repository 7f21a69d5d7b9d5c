package recovery

import "time"

// Need is what some points cannot do without.
type Need struct {
	// By are the points besides those chosen that one of them is restored by, or that
	// tell which history it is of, each with a point that needs it, by their ids.
	By map[string]string
	// Short are those chosen that cannot be restored by all that there is.
	Short []string
}

// Needs tells what the chosen ones of points, which are ordered oldest first, need to be
// restored somewhere else. A source whose chain cannot be told is judged by parents, as
// NeededBy does. Only backups of databases need others.
func Needs(points []Brief, chosen func(id string) bool, chains Chains) Need {
	need, by := Need{By: map[string]string{}}, bySource(points)
	for n := range by.count() {
		m := by.members(n)
		if !m.any(func(b *Brief) bool { return chosen(b.ID()) }) {
			continue
		}
		chain, err := m.chain(chains)
		if err != nil {
			chain = newParents(m)
		}
		v := newVerdict(m, chain)
		for k := range v.keep {
			v.keep[k] = chosen(m.at(k).ID())
			if v.keep[k] && !v.whole[k] && !chain.Open(k) {
				need.Short = append(need.Short, m.at(k).ID())
			}
		}
		chain.Hold(v.keep, v.by, time.Time{})
		for k, keep := range v.keep {
			if id := m.at(k).ID(); keep && !chosen(id) {
				need.By[id] = m.at(int(v.by[k])).ID()
			}
		}
	}
	return need
}
