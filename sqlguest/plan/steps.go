package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/plan/clock"
	"holdfast/sqlguest/plan/paths"
)

// steps writes a way down as statements.
func (m *maker) steps(h *chain.History, t Target, g goal, w way) (Plan, error) {
	p := Plan{Target: t.String(), Fork: h.Fork, Stop: g.stop, End: m.o.End}
	newest := h.Backups[len(h.Backups)-1]
	p.Database = newest.Database
	if len(w) > 0 {
		p.Database = w[len(w)-1].Database
	}
	p.Database = cmp.Or(m.o.As, m.o.Name, p.Database)
	m.prepare(&p)
	files := newPlacing(m.o, p.Database)
	var redo lsn.LSN
	if m.o.Standing != nil {
		redo = m.o.Standing.Redo
	}
	for _, b := range w {
		s := m.step(&p, b, files, redo)
		s.May = b.Kind == chain.Log && !g.stop.IsZero() && (g.log(b) == last || !g.time.IsZero() && g.behind(b.SurelyAfter()))
		redo = s.After
		p.Bytes += s.Bytes
		p.Again = p.Again || b.Point == TailPoint
		p.Steps = append(p.Steps, s)
		m.doubts(&p, b, &s)
	}
	p.Files = files.files
	m.finish(&p)
	return p, files.err
}

// doubts are the warnings that a backup gives reason for.
func (m *maker) doubts(p *Plan, b *chain.Backup, s *Step) {
	if s.May && p.Stop.Mark == "" && m.o.Fork != "" && b.FirstFork != b.Fork && b.FirstFork != "" && !m.behind(p.Stop.At, b) {
		p.Warnings = append(p.Warnings, fmt.Sprintf("the database was restored while log %s was written: for a time between the moment to which it was set back and that restore, this gives what it was set back to", b.Point))
	}
	for _, v := range s.Moves {
		if len([]rune(v.To)) > paths.Longest {
			p.Warnings = append(p.Warnings, fmt.Sprintf("the path of file %s has more than %d characters: %s", v.File, paths.Longest, v.To))
		}
	}
}

// behind tells whether a reading surely lies behind the restore that a log spans: the
// backups on both sides of it were begun on what came of that.
func (m *maker) behind(reading time.Time, b *chain.Backup) bool {
	unnamed, o := *m, *m.o
	o.Fork, unnamed.o = "", &o
	list, jumped := unnamed.lived(func(c *chain.Backup) bool { return !clock.Wall(c.Started).Before(reading) })
	return !jumped && slices.ContainsFunc(list, func(h *chain.History) bool { return h.Holds(b.Point) })
}

// prepare writes what must happen to a database that exists.
func (m *maker) prepare(p *Plan) {
	name := quoted(p.Database)
	if m.o.Kick {
		p.Steps = append(p.Steps, Step{Do: DoKick, Text: "ALTER DATABASE " + plain(p.Database) + " SET SINGLE_USER WITH ROLLBACK IMMEDIATE"})
	}
	if m.o.Tail && m.o.Standing == nil {
		p.Steps = append(p.Steps, Step{Do: DoTail, Streams: 1, Text: "BACKUP LOG " + name + " TO %s WITH NORECOVERY, CHECKSUM, FORMAT, INIT"})
	}
}

// quoted is a name in a text with devices, plain one in a text without.
func quoted(name string) string { return escape(plain(name)) }
func plain(name string) string  { return facts.Quote(name) }
func escape(text string) string { return strings.ReplaceAll(text, "%", "%%") }

func (m *maker) step(p *Plan, b *chain.Backup, files *placing, redo lsn.LSN) Step {
	s := Step{Do: DoFull, Point: b.Point, Streams: max(b.Stripes, 1), Before: redo, After: b.Last, Fork: b.Fork}
	if b.Point == TailPoint {
		s.After = lsn.LSN{}
	}
	for _, n := range b.StreamBytes {
		s.Bytes += n
	}
	what, with := "DATABASE", []string{"NORECOVERY"}
	switch b.Kind {
	case chain.Diff:
		s.Do = DoDiff
	case chain.Log:
		s.Do, what = DoLog, "LOG"
	default:
		if m.o.Replace {
			with = append(with, "REPLACE")
		}
	}
	if b.Checksums {
		with = append(with, "CHECKSUM")
	}
	s.Moves = files.moves(b)
	for _, v := range s.Moves {
		with = append(with, "MOVE "+escape(facts.Literal(v.File))+" TO "+escape(facts.Literal(v.To)))
	}
	if clause := p.Stop.String(); s.Do == DoLog && clause != "" {
		with = append(with, escape(clause))
	}
	s.Text = "RESTORE " + what + " " + quoted(p.Database) + " FROM %s WITH " + strings.Join(with, ", ")
	return s
}

func (m *maker) finish(p *Plan) {
	text := "RESTORE DATABASE " + plain(p.Database) + " WITH "
	switch m.o.End {
	case NoRecovery:
		return
	case Standby:
		text += "STANDBY = " + facts.Literal(m.o.UndoFile)
	default:
		text += "RECOVERY"
	}
	s := Step{Do: DoFinish, Text: text}
	if n := len(p.Steps); n > 0 {
		s.Before, s.After, s.Fork = p.Steps[n-1].After, p.Steps[n-1].After, p.Steps[n-1].Fork
	}
	p.Steps = append(p.Steps, s)
}
