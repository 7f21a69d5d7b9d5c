package plan

import (
	"strings"

	"holdfast/sqlguest/lab/tsql/ast"
	"holdfast/sqlguest/lab/tsql/expr"
	"holdfast/sqlguest/lab/value"
)

// table is a compiled entry of FROM: it yields joined rows.
type table struct {
	sources []source // bases count from this table's own beginning
	width   int
	rows    func(f *expr.Frame) ([][]any, error)
	lateral bool // it may look at the tables left of it
}

// cte is a common table expression that has been compiled.
type cte struct {
	plan    *Plan
	columns []value.Column
}

// marked makes a table yield its rows' IDs in a column behind the others: the way
// UPDATE and DELETE find what they change.
type marked struct{ names []string }

// from compiles FROM: its entries joined crosswise, in scope s.
func (b *Binder) from(refs []ast.TableRef, s *scope, m *marked) (func(f *expr.Frame) ([][]any, error), error) {
	rows := func(*expr.Frame) ([][]any, error) { return [][]any{{}}, nil }
	if len(refs) == 0 {
		return rows, nil
	}
	var all *table
	for _, ref := range refs {
		t, err := b.tableRef(ref, s, m)
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = t
		} else {
			all = joined("CROSS", all, t, nil)
		}
	}
	s.sources, s.width = append(s.sources, all.sources...), all.width
	return all.rows, nil
}

// tableRef compiles one entry.
func (b *Binder) tableRef(ref ast.TableRef, s *scope, m *marked) (*table, error) {
	switch r := ref.(type) {
	case *ast.Join:
		return b.compileJoin(r, s, m)
	case *ast.Derived:
		return b.derived(r, s)
	case *ast.Named:
		return b.named(r, s, m)
	}
	return nil, value.Severe(102, 15, "Incorrect syntax near FROM.")
}

func (b *Binder) compileJoin(r *ast.Join, s *scope, m *marked) (*table, error) {
	left, err := b.tableRef(r.L, s, m)
	if err != nil {
		return nil, err
	}
	around := s
	apply := strings.HasSuffix(r.Kind, "APPLY")
	if apply {
		around = &scope{sources: left.sources, width: left.width, outer: s.outer, ctes: s.ctes}
		// The right side sees the left row as the query around it.
		around = &scope{outer: around, ctes: s.ctes, transparent: true}
	}
	right, err := b.tableRef(r.R, around, m)
	if err != nil {
		return nil, err
	}
	right.lateral = apply
	if r.On == nil {
		return joined(r.Kind, left, right, nil), nil
	}
	t := joined(r.Kind, left, right, nil)
	both := &scope{sources: t.sources, width: t.width, outer: s.outer, ctes: s.ctes}
	on, err := b.condition(r.On, both)
	if err != nil {
		return nil, err
	}
	return joined(r.Kind, left, right, on), nil
}

// joined puts two tables beside each other.
func joined(kind string, l, r *table, on func(f *expr.Frame) (bool, error)) *table {
	t := &table{width: l.width + r.width, sources: append([]source{}, l.sources...)}
	for _, src := range r.sources {
		src.base += l.width
		t.sources = append(t.sources, src)
	}
	t.rows = func(f *expr.Frame) ([][]any, error) {
		left, err := l.rows(f)
		if err != nil {
			return nil, err
		}
		var right [][]any
		if !r.lateral {
			if right, err = r.rows(f); err != nil {
				return nil, err
			}
		}
		return combine(f, kind, left, right, l, r, on)
	}
	return t
}

// combine is the nested loop over both sides' rows.
func combine(f *expr.Frame, kind string, left, right [][]any, l, r *table, on func(f *expr.Frame) (bool, error)) ([][]any, error) {
	var out [][]any
	matched := make([]bool, len(right))
	for _, a := range left {
		if err := f.Ctx.Err(); err != nil {
			return nil, err
		}
		if r.lateral {
			var err error
			if right, err = r.rows(f.With(a)); err != nil {
				return nil, err
			}
		}
		found := false
		for i, c := range right {
			row := append(append(make([]any, 0, len(a)+len(c)), a...), c...)
			if on != nil {
				ok, err := on(f.With(row))
				if err != nil {
					return nil, err
				}
				if !ok {
					continue
				}
				matched[i] = true
			}
			found = true
			out = append(out, row)
		}
		if !found && (kind == "LEFT" || kind == "FULL" || kind == "OUTER APPLY") {
			out = append(out, append(append([]any{}, a...), make([]any, r.width)...))
		}
	}
	if kind == "RIGHT" || kind == "FULL" {
		for i, c := range right {
			if !matched[i] {
				out = append(out, append(make([]any, l.width), c...))
			}
		}
	}
	return out, nil
}

func (b *Binder) derived(r *ast.Derived, s *scope) (*table, error) {
	var p *Plan
	var err error
	if r.Query != nil {
		p, err = b.compileQuery(r.Query, s.around())
	} else {
		p, err = b.compileValues(r.Rows, s.around())
	}
	if err != nil {
		return nil, err
	}
	columns := p.Columns
	if len(r.Columns) > 0 {
		if columns, err = renamed(r.Alias, columns, r.Columns); err != nil {
			return nil, err
		}
	}
	return planTable(r.Alias, columns, p), nil
}

// around is what a derived table sees: the query around, nothing of its neighbours.
func (s *scope) around() *scope {
	return &scope{outer: s.outer, ctes: s.ctes, transparent: true}
}

// renamed gives columns the names of AS x (a, b).
func renamed(table string, columns []value.Column, names []string) ([]value.Column, error) {
	if len(names) != len(columns) {
		return nil, value.Errorf(8158, "'%s' has more columns than were specified in the column list.", table)
	}
	out := append([]value.Column{}, columns...)
	for i, n := range names {
		out[i].Name = n
	}
	return out, nil
}

func planTable(name string, columns []value.Column, p *Plan) *table {
	return &table{width: len(columns), rows: p.Run, sources: []source{{names: []string{name}, columns: columns}}}
}

// compileValues is (VALUES (…), (…)) as a table.
func (b *Binder) compileValues(rows [][]ast.Expr, s *scope) (*Plan, error) {
	var nodes [][]expr.Node
	p := &Plan{}
	for _, row := range rows {
		var compiled []expr.Node
		for i, x := range row {
			if x == nil || len(row) != len(rows[0]) {
				return nil, value.Severe(10709, 16, "The number of columns for each row in a table value constructor must be the same.")
			}
			n, err := b.compile(x, s)
			if err != nil {
				return nil, err
			}
			compiled = append(compiled, n)
			if len(nodes) == 0 {
				p.Columns = append(p.Columns, value.Column{Type: n.Type, Nullable: true})
			} else {
				p.Columns[i].Type = value.Common(p.Columns[i].Type, n.Type)
			}
		}
		nodes = append(nodes, compiled)
	}
	p.Run = func(f *expr.Frame) ([][]any, error) {
		var out [][]any
		for _, row := range nodes {
			values := make([]any, len(row))
			for i, n := range row {
				v, err := expr.As(n, p.Columns[i].Type).Eval(f)
				if err != nil {
					return nil, err
				}
				values[i] = v
			}
			out = append(out, values)
		}
		return out, nil
	}
	return p, nil
}

// named compiles a table, view, table variable, CTE or table function.
func (b *Binder) named(r *ast.Named, s *scope, m *marked) (*table, error) {
	names := r.Parts
	if r.Alias != "" {
		names = []string{r.Alias}
	}
	if len(r.Parts) == 1 && !r.Function {
		for at := s; at != nil; at = at.outer {
			if c := at.ctes[strings.ToLower(r.Parts[0])]; c != nil {
				return planTable(names[0], c.columns, c.plan), nil
			}
		}
	}
	rel, err := b.Find(r.Parts, r.Function)
	if err != nil {
		return nil, err
	}
	var args []expr.Node
	for _, a := range r.Args {
		n, err := b.compile(a, s.around())
		if err != nil {
			return nil, err
		}
		args = append(args, n)
	}
	columns := rel.Columns()
	t := &table{width: len(columns), sources: []source{{names: names, columns: columns}}}
	mark := m != nil && (source{names: names}).called(m.names)
	if mark {
		columns = append(append([]value.Column{}, columns...), value.Column{Name: idColumn})
		t.sources[0].columns, t.width = columns, len(columns)
	}
	t.rows = func(f *expr.Frame) ([][]any, error) { return readRelation(f, rel, args, mark) }
	return t, nil
}

// idColumn is the hidden column's name: no text of a client's can spell it.
const idColumn = "\x00id"

func readRelation(f *expr.Frame, rel Relation, args []expr.Node, mark bool) ([][]any, error) {
	values := make([]any, len(args))
	for i, a := range args {
		v, err := a.Eval(f)
		if err != nil {
			return nil, err
		}
		values[i] = v
	}
	rows, err := rel.Rows(f.Ctx, values)
	if err != nil {
		return nil, err
	}
	out := make([][]any, len(rows))
	for i, row := range rows {
		out[i] = row.Values
		if mark {
			out[i] = append(append([]any{}, row.Values...), row.ID)
		}
	}
	return out, nil
}
