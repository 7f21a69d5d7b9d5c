package plan

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/lsn"
)

// longestPath is what a restore takes without trouble on Windows, in characters.
const longestPath = 256

// steps writes a way down as statements.
func (m *maker) steps(h *chain.History, t Target, g goal, w way) (Plan, error) {
	p := Plan{Target: t.String(), Fork: h.Fork, Stop: g.stop, End: m.o.End}
	newest := h.Backups[len(h.Backups)-1]
	p.Database = newest.Database
	if len(w) > 0 {
		p.Database = w[len(w)-1].Database
	}
	if m.o.As != "" {
		p.Database = m.o.As
	}
	m.prepare(&p)
	files := newPlacing(m.o, p.Database)
	redo := spot{}
	if m.o.Standing != nil {
		redo = spot{m.o.Standing.Redo, m.o.Standing.Fork}
	}
	for i, b := range w {
		s := m.step(&p, b, files, redo.redo)
		s.May = b.Kind == chain.Log && !g.stop.IsZero() && (i == len(w)-1 || !g.time.IsZero() && wall(b.SurelyAfter()).After(g.time))
		redo = spot{s.After, s.Fork}
		p.Bytes += s.Bytes
		p.Steps = append(p.Steps, s)
		m.doubts(&p, b, &s)
	}
	m.finish(&p)
	return p, files.err
}

// doubts are the warnings that a backup gives reason for.
func (m *maker) doubts(p *Plan, b *chain.Backup, s *Step) {
	if s.May && p.Stop.Mark == "" && m.o.Fork != "" && b.FirstFork != b.Fork && b.FirstFork != "" {
		p.Warnings = append(p.Warnings, fmt.Sprintf("the database was restored while log %s was written: for a time between the moment to which it was set back and that restore, this gives what it was set back to", b.Point))
	}
	for _, v := range s.Moves {
		if len([]rune(v.To)) > longestPath {
			p.Warnings = append(p.Warnings, fmt.Sprintf("the path of file %s has more than %d characters: %s", v.File, longestPath, v.To))
		}
	}
}

// prepare writes what must happen to a database that exists.
func (m *maker) prepare(p *Plan) {
	name := quoted(p.Database)
	if m.o.Standing != nil {
		return
	}
	if m.o.Kick {
		p.Steps = append(p.Steps, Step{Do: DoKick, Text: "ALTER DATABASE " + plain(p.Database) + " SET SINGLE_USER WITH ROLLBACK IMMEDIATE"})
	}
	if m.o.Tail {
		p.Steps = append(p.Steps, Step{Do: DoTail, Streams: 1, Text: "BACKUP LOG " + name + " TO %s WITH NORECOVERY, CHECKSUM, FORMAT, INIT"})
	}
}

// quoted is a name in a text with devices, plain one in a text without.
func quoted(name string) string { return escape(plain(name)) }
func plain(name string) string  { return facts.Quote(name) }
func escape(text string) string { return strings.ReplaceAll(text, "%", "%%") }

func (m *maker) step(p *Plan, b *chain.Backup, files *placing, redo lsn.LSN) Step {
	s := Step{Do: DoFull, Point: b.Point, Streams: max(b.Stripes, 1), Before: redo, After: b.Last, Fork: b.Fork}
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

// placing says where files go; each is placed by the first step that brings it.
type placing struct {
	o     *Options
	name  string // the database's
	known map[string]bool
	taken map[string]string // path in lower case → logical name
	err   error
}

func newPlacing(o *Options, name string) *placing {
	return &placing{o: o, name: name, known: map[string]bool{}, taken: map[string]string{}}
}

// moves are the MOVEs of one step: of its files that no step before it has brought.
// A log may bring files, too: those that were added while it was written.
func (p *placing) moves(b *chain.Backup) []Move {
	var list []Move
	for _, f := range b.Files {
		key := fmt.Sprintf("%d %s", f.ID, f.GUID)
		if p.known[key] || !f.Drop.IsZero() {
			continue
		}
		p.known[key] = true
		to := p.place(f)
		folded := strings.ToLower(to)
		if other, is := p.taken[folded]; is && p.err == nil && other != f.Name {
			p.err = fmt.Errorf("place file %s: %w: file %s goes to %s already", f.Name, ErrTarget, other, to)
		}
		p.taken[folded] = f.Name
		if to != f.Path {
			list = append(list, Move{f.Name, to})
		}
	}
	slices.SortStableFunc(list, func(a, b Move) int { return strings.Compare(a.File, b.File) })
	return list
}

// place is where a file goes: where MOVE says; else, with a new name or directory,
// to a path made of both; else where it was.
func (p *placing) place(f chain.File) string {
	for file, to := range p.o.Moves {
		if strings.EqualFold(file, f.Name) {
			return to
		}
	}
	cut := strings.LastIndexAny(f.Path, `\/`)
	dir, base, separator := "", f.Path, `\`
	if cut >= 0 {
		dir, base, separator = f.Path[:cut], f.Path[cut+1:], f.Path[cut:cut+1]
	}
	target := p.o.DataDir
	if f.Type == 1 {
		target = p.o.LogDir
	}
	if target != "" {
		dir = strings.TrimRight(target, `\/`)
		if strings.Contains(target, "/") {
			separator = "/"
		}
	}
	if p.o.As != "" {
		base = p.base(f, base)
	}
	return dir + separator + base
}

// base is a file name of the new database: NAME.mdf, NAME_log.ldf, and with their id
// behind it for others, so that no two are the same.
func (p *placing) base(f chain.File, was string) string {
	name := strings.Map(func(r rune) rune {
		if r < ' ' || strings.ContainsRune(`<>:"/\|?*`, r) {
			return '_'
		}
		return r
	}, p.name)
	extension := ""
	if dot := strings.LastIndexByte(was, '.'); dot >= 0 {
		extension = was[dot:]
	}
	switch {
	case f.ID == 1:
		return name + extension
	case f.ID == 2 && f.Type == 1:
		return name + "_log" + extension
	}
	return fmt.Sprintf("%s_%d%s", name, f.ID, extension)
}
