package plan

import (
	"slices"

	"holdfast/sqlguest/chain"
)

// whyStrays: where a machine was set back LSNs were given out twice.
const whyStrays = "the database may stand on a history that was left by a revert of the machine, whose LSNs were given out twice; it must be restored anew"

// strays tells whether a database that is gone on with stands, or may stand, on another
// history than this one, though LSN and fork are the same. What was restored into it last
// says it, as far as that set explains where it stands: a restore that was cut has gone
// beyond it. Else it may be on any history that has a backup there.
func (m *maker) strays(h *chain.History) bool {
	at := m.o.Standing
	if i := slices.IndexFunc(m.backups, func(b chain.Backup) bool { return b.State == chain.Confirmed && at.Set != "" && b.Set == at.Set }); i >= 0 && at.Redo.Compare(m.backups[i].Last) <= 0 {
		return !h.Holds(m.backups[i].Point)
	}
	return slices.ContainsFunc(m.backups, func(b chain.Backup) bool {
		return b.State == chain.Confirmed && b.Family == m.family && b.Fork == at.Fork && !h.Holds(b.Point) && b.First.Less(at.Redo) && at.Redo.Compare(b.Last) <= 0 && (h.Reverted != "" || m.setBack(&b))
	})
}

// setBack tells whether a later backup saw that the database has left this one behind
// without a fork.
func (m *maker) setBack(b *chain.Backup) bool {
	return b.By == chain.ByItself || slices.ContainsFunc(m.backups, func(o chain.Backup) bool { return slices.Contains(o.Abandons, b.Set) || slices.Contains(o.Left, b.Set) })
}

// tied is what a database that is gone on with asks of the next log: as the backup does
// that was restored into it last. If nobody says which that was, one that ends there.
func (m *maker) tied() (tie chain.Tie) {
	at := m.o.Standing
	if i := slices.IndexFunc(m.backups, func(b chain.Backup) bool { return at.Set != "" && b.Set == at.Set }); i >= 0 {
		return m.backups[i].Tie()
	}
	for i := range m.backups {
		if b := &m.backups[i]; b.State == chain.Confirmed && b.Family == m.family && b.Fork == at.Fork && b.Last == at.Redo {
			if tie = b.Tie(); !tie.Bound {
				break
			}
		}
	}
	return tie
}
