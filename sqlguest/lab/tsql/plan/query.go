package plan

import (
	"sort"
	"strings"

	"holdfast/sqlguest/lab/tsql/ast"
	"holdfast/sqlguest/lab/tsql/expr"
	"holdfast/sqlguest/lab/value"
)

// Plan is a compiled query.
type Plan struct {
	Columns []value.Column
	Run     func(f *expr.Frame) ([][]any, error)
}

// ordering is one key of ORDER BY over rows of results followed by their keys.
type ordering struct {
	index int
	desc  bool
}

// compileQuery compiles SELECTs, their UNION and their order. outer is the scope of
// the query around, whose row is the frame that run gets.
func (b *Binder) compileQuery(q *ast.Query, outer *scope) (*Plan, error) {
	env := &scope{outer: outer, ctes: map[string]*cte{}}
	for _, c := range q.With {
		p, err := b.compileQuery(c.Query, env.around())
		if err != nil {
			return nil, err
		}
		columns := p.Columns
		if len(c.Columns) > 0 {
			if columns, err = renamed(c.Name, columns, c.Columns); err != nil {
				return nil, err
			}
		}
		env.ctes[strings.ToLower(c.Name)] = &cte{p, columns}
	}
	if len(q.Selects) == 1 {
		return b.compileSelect(q.Selects[0], q.OrderBy, env)
	}
	return b.compileUnion(q, env)
}

func (b *Binder) compileUnion(q *ast.Query, env *scope) (*Plan, error) {
	var plans []*Plan
	var columns []value.Column
	for _, sel := range q.Selects {
		p, err := b.compileSelect(sel, nil, &scope{outer: env.outer, ctes: env.ctes})
		if err != nil {
			return nil, err
		}
		if columns == nil {
			columns = append(columns, p.Columns...)
		}
		if len(p.Columns) != len(columns) {
			return nil, value.Errorf(205, "All queries combined using a UNION, INTERSECT or EXCEPT operator must have an equal number of expressions in their target lists.")
		}
		for i, c := range p.Columns {
			columns[i].Type = value.Common(columns[i].Type, c.Type)
		}
		plans = append(plans, p)
	}
	var orders []ordering
	for _, o := range q.OrderBy {
		i := ordinal(o.Expr, columns)
		if i < 0 {
			return nil, value.Errorf(104, "ORDER BY items must appear in the select list if the statement contains a UNION, INTERSECT or EXCEPT operator.")
		}
		orders = append(orders, ordering{i, o.Desc})
	}
	return &Plan{Columns: columns, Run: func(f *expr.Frame) ([][]any, error) {
		var out [][]any
		for i, p := range plans {
			rows, err := p.Run(f)
			if err != nil {
				return nil, err
			}
			for _, row := range rows {
				converted := make([]any, len(row))
				for j, v := range row {
					if converted[j], err = value.Convert(v, p.Columns[j].Type, columns[j].Type, 0); err != nil {
						return nil, err
					}
				}
				out = append(out, converted)
			}
			if i > 0 && !q.All[i-1] {
				out = distinct(out, len(columns))
			}
		}
		sortRows(out, orders)
		return out, nil
	}}, nil
}

// ordinal is the result column that an ORDER BY item names by number or alias, or -1.
func ordinal(x ast.Expr, columns []value.Column) int {
	switch e := x.(type) {
	case *ast.Literal:
		if n, ok := e.Value.(int64); ok && n >= 1 && int(n) <= len(columns) {
			return int(n) - 1
		}
	case *ast.ColumnRef:
		for i, c := range columns {
			if len(e.Parts) == 1 && strings.EqualFold(c.Name, e.Parts[0]) {
				return i
			}
		}
	}
	return -1
}

// output is one column of a result, or an assignment.
type output struct {
	column value.Column
	node   expr.Node
	assign *Variable
}

// compileSelect compiles one SELECT in its own scope s, of which outer and ctes are set.
func (b *Binder) compileSelect(sel *ast.Select, order []ast.Order, s *scope) (*Plan, error) {
	rows, err := b.from(sel.From, s, nil)
	if err != nil {
		return nil, err
	}
	if rows, err = b.filter(rows, sel.Where, s); err != nil {
		return nil, err
	}
	items := s
	grouped := len(sel.GroupBy) > 0 || sel.Having != nil || ast.Aggregates(sel)
	if grouped {
		if items, err = b.groupScope(sel, s); err != nil {
			return nil, err
		}
	}
	outs, err := b.outputs(sel.Items, items)
	if err != nil {
		return nil, err
	}
	columns := make([]value.Column, len(outs))
	for i, o := range outs {
		columns[i] = o.column
	}
	keys, orders, err := b.orderKeys(order, columns, items)
	if err != nil {
		return nil, err
	}
	var having ast.Expr
	if grouped {
		having = sel.Having
	}
	compute, err := b.having(having, items)
	if err != nil {
		return nil, err
	}
	if grouped {
		rows = items.groups.run(rows) // compiled last: by now all aggregates are known
	}
	top, err := b.top(sel)
	if err != nil {
		return nil, err
	}
	return &Plan{Columns: columns, Run: func(f *expr.Frame) ([][]any, error) {
		in, err := rows(f)
		if err != nil {
			return nil, err
		}
		out, err := project(f, in, compute, outs, keys)
		if err != nil {
			return nil, err
		}
		if sel.Distinct {
			out = distinct(out, len(outs))
		}
		sortRows(out, orders)
		if out, err = top(f, out); err != nil {
			return nil, err
		}
		for i := range out {
			out[i] = out[i][:len(outs)]
		}
		return out, nil
	}}, nil
}

func (b *Binder) filter(rows func(f *expr.Frame) ([][]any, error), where ast.Expr, s *scope) (func(f *expr.Frame) ([][]any, error), error) {
	if where == nil {
		return rows, nil
	}
	keep, err := b.condition(where, s)
	if err != nil {
		return nil, err
	}
	return func(f *expr.Frame) ([][]any, error) {
		in, err := rows(f)
		if err != nil {
			return nil, err
		}
		var out [][]any
		for _, row := range in {
			ok, err := keep(f.With(row))
			if err != nil {
				return nil, err
			}
			if ok {
				out = append(out, row)
			}
		}
		return out, nil
	}, nil
}

func (b *Binder) having(x ast.Expr, s *scope) (func(f *expr.Frame) (bool, error), error) {
	if x == nil {
		return func(*expr.Frame) (bool, error) { return true, nil }, nil
	}
	return b.condition(x, s)
}

// project computes each row's results and, behind them, the keys it is ordered by.
func project(f *expr.Frame, in [][]any, keep func(f *expr.Frame) (bool, error), outs []output, keys []expr.Node) ([][]any, error) {
	var out [][]any
	for _, row := range in {
		if err := f.Ctx.Err(); err != nil {
			return nil, err
		}
		g := f.With(row)
		if ok, err := keep(g); err != nil || !ok {
			if err != nil {
				return nil, err
			}
			continue
		}
		result := make([]any, 0, len(outs)+len(keys))
		for _, o := range outs {
			v, err := o.node.Eval(g)
			if err != nil {
				return nil, err
			}
			if o.assign != nil {
				if o.assign.Value, err = value.Convert(v, o.node.Type, o.assign.Type, 0); err != nil {
					return nil, err
				}
			}
			result = append(result, v)
		}
		for _, k := range keys {
			v, err := k.Eval(g)
			if err != nil {
				return nil, err
			}
			result = append(result, v)
		}
		out = append(out, result)
	}
	return out, nil
}

// outputs compiles the select list.
func (b *Binder) outputs(items []ast.Item, s *scope) ([]output, error) {
	var outs []output
	for _, item := range items {
		if item.Star {
			more, err := b.star(item, s)
			if err != nil {
				return nil, err
			}
			outs = append(outs, more...)
			continue
		}
		n, err := b.compile(item.Expr, s)
		if err != nil {
			return nil, err
		}
		if n.Type.Kind == value.Boolean {
			return nil, value.Severe(102, 15, "Incorrect syntax near a condition in the select list.")
		}
		o := output{node: n, column: value.Column{Name: item.Alias, Type: n.Type, Nullable: true}}
		if c, ok := item.Expr.(*ast.ColumnRef); ok && item.Alias == "" {
			o.column.Name = c.Parts[len(c.Parts)-1]
		}
		if item.Assign != "" {
			if o.assign = b.Variables[strings.ToLower(item.Assign)]; o.assign == nil {
				return nil, value.Severe(137, 15, "Must declare the scalar variable \"%s\".", item.Assign)
			}
		}
		outs = append(outs, o)
	}
	return outs, nil
}

func (b *Binder) star(item ast.Item, s *scope) ([]output, error) {
	var outs []output
	look := s
	if s.groups != nil {
		look = s.groups.inner
	}
	for _, src := range look.sources {
		if len(item.Table) > 0 && !src.called(item.Table) {
			continue
		}
		for i, c := range src.columns {
			if strings.HasPrefix(c.Name, "\x00") {
				continue
			}
			at := src.base + i
			n := expr.Node{Type: c.Type, Eval: func(f *expr.Frame) (any, error) { return f.Row[at], nil }}
			if s.groups != nil {
				var err error
				if n, err = b.compile(&ast.ColumnRef{Parts: append(append([]string{}, src.names...), c.Name)}, s); err != nil {
					return nil, err
				}
			}
			outs = append(outs, output{column: c, node: n})
		}
	}
	if len(outs) == 0 {
		if len(item.Table) > 0 {
			return nil, value.Errorf(107, "The column prefix '%s' does not match with a table name or alias name used in the query.", strings.Join(item.Table, "."))
		}
		return nil, value.Errorf(263, "Must specify table to select from.")
	}
	return outs, nil
}

// orderKeys compiles ORDER BY: columns of the result by alias or number, or
// expressions of their own, whose values stand behind the result.
func (b *Binder) orderKeys(order []ast.Order, columns []value.Column, s *scope) (keys []expr.Node, orders []ordering, err error) {
	for _, o := range order {
		if i := ordinal(o.Expr, columns); i >= 0 {
			orders = append(orders, ordering{i, o.Desc})
			continue
		}
		n, err := b.compile(o.Expr, s)
		if err != nil {
			return nil, nil, err
		}
		orders = append(orders, ordering{len(columns) + len(keys), o.Desc})
		keys = append(keys, n)
	}
	return keys, orders, nil
}

func sortRows(rows [][]any, orders []ordering) {
	if len(orders) == 0 {
		return
	}
	sort.SliceStable(rows, func(i, j int) bool {
		for _, o := range orders {
			c := value.Order(rows[i][o.index], rows[j][o.index])
			if c != 0 {
				return c < 0 != o.desc
			}
		}
		return false
	})
}

// distinct keeps the first of rows that are equal in their first n columns.
func distinct(rows [][]any, n int) [][]any {
	seen := map[string]bool{}
	out := rows[:0]
	for _, row := range rows {
		k := value.Key(row[:n])
		if !seen[k] {
			seen[k] = true
			out = append(out, row)
		}
	}
	return out
}

func (b *Binder) top(sel *ast.Select) (func(f *expr.Frame, rows [][]any) ([][]any, error), error) {
	if sel.Top == nil {
		return func(_ *expr.Frame, rows [][]any) ([][]any, error) { return rows, nil }, nil
	}
	n, err := b.compile(sel.Top, &scope{})
	if err != nil {
		return nil, err
	}
	n = expr.As(n, value.Type{Kind: value.BigInt})
	return func(f *expr.Frame, rows [][]any) ([][]any, error) {
		v, err := n.Eval(f)
		if err != nil {
			return nil, err
		}
		limit, ok := v.(int64)
		if !ok || limit < 0 {
			return nil, value.Errorf(1060, "The number of rows provided for a TOP or FETCH clauses row count parameter must be an expr.Int.")
		}
		if sel.Percent {
			limit = (int64(len(rows))*limit + 99) / 100
		}
		return rows[:min(int(limit), len(rows))], nil
	}, nil
}
