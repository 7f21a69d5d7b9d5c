package eval

import (
	"context"
	"strings"

	"holdfast/sqlguest/lab/tsql/ast"
	"holdfast/sqlguest/lab/tsql/expr"
	"holdfast/sqlguest/lab/tsql/plan"
	"holdfast/sqlguest/lab/value"
)

// count ends a statement that touched rows.
func (b *Batch) count(rows int) {
	b.State.RowCount = int64(rows)
	if b.State.NoCount {
		b.Out.Done()
		return
	}
	b.Out.Count(int64(rows))
}

// selectInto runs a SELECT: rows to the client, to variables, or to a new table.
func (b *Batch) selectInto(ctx context.Context, s *ast.SelectStatement) error {
	p, err := b.Query(s.Query)
	if err != nil {
		return err
	}
	sel := s.Query.Selects[0]
	rows, err := p.Run(&expr.Frame{Ctx: ctx})
	if err != nil {
		return err
	}
	switch {
	case len(sel.Into) > 0:
		return b.into(ctx, sel.Into, p.Columns, rows)
	case len(sel.Items) > 0 && sel.Items[0].Assign != "":
		b.State.RowCount = int64(len(rows))
		return nil
	}
	b.Out.Columns(p.Columns)
	for _, row := range rows {
		b.Out.Row(row)
	}
	b.count(len(rows))
	return nil
}

func (b *Batch) into(ctx context.Context, name []string, columns []value.Column, rows [][]any) error {
	create := &ast.CreateTable{Name: name}
	for _, c := range columns {
		if c.Name == "" {
			return value.Errorf(1038, "An object or column name is missing or empty.")
		}
		create.Columns = append(create.Columns, ast.ColumnDefinition{Name: c.Name, Type: c.Type})
	}
	if err := b.Host.Execute(ctx, b, create); err != nil {
		return err
	}
	t, err := b.Table(name)
	if err != nil {
		return err
	}
	if err := t.Insert(ctx, rows); err != nil {
		return err
	}
	b.count(len(rows))
	return nil
}

func (b *Batch) insert(ctx context.Context, s *ast.Insert) error {
	t, err := b.Table(s.Table)
	if err != nil {
		return err
	}
	columns := t.Columns()
	places, err := insertPlaces(columns, s)
	if err != nil {
		return err
	}
	rows, types, err := b.insertRows(ctx, s)
	if err != nil {
		return err
	}
	full := make([][]any, len(rows))
	for i, row := range rows {
		if len(row) != len(places) {
			return wrongCount(len(row), len(places))
		}
		full[i] = make([]any, len(columns))
		for j := range columns {
			full[i][j] = plan.Default{}
		}
		for j, at := range places {
			v := row[j]
			if _, ok := v.(plan.Default); !ok {
				if v, err = store(v, types(i, j), columns[at], s.Table); err != nil {
					return err
				}
			}
			full[i][at] = v
		}
	}
	if err := t.Insert(ctx, full); err != nil {
		return err
	}
	b.count(len(full))
	return nil
}

func wrongCount(values, places int) error {
	if values < places {
		return value.Errorf(109, "There are more columns in the INSERT statement than values specified in the VALUES clause. The number of values in the VALUES clause must match the number of columns specified in the INSERT statement.")
	}
	return value.Errorf(110, "There are fewer columns in the INSERT statement than values specified in the VALUES clause. The number of values in the VALUES clause must match the number of columns specified in the INSERT statement.")
}

// insertPlaces says which column each value goes to.
func insertPlaces(columns []value.Column, s *ast.Insert) ([]int, error) {
	var places []int
	if s.Columns == nil {
		for i, c := range columns {
			if !c.Identity {
				places = append(places, i)
			}
		}
		return places, nil
	}
	for _, name := range s.Columns {
		at := -1
		for i, c := range columns {
			if strings.EqualFold(c.Name, name) {
				at = i
			}
		}
		if at < 0 {
			return nil, value.Errorf(207, "Invalid column name '%s'.", name)
		}
		if columns[at].Identity {
			return nil, value.Errorf(544, "Cannot insert explicit value for identity column in table '%s' when IDENTITY_INSERT is set to OFF.", s.Table[len(s.Table)-1])
		}
		places = append(places, at)
	}
	return places, nil
}

// insertRows computes the values to insert; types tells each one's type.
func (b *Batch) insertRows(ctx context.Context, s *ast.Insert) (rows [][]any, types func(row, column int) value.Type, err error) {
	if s.Exec != nil {
		c := &capture{Sink: b.Out}
		inner := *b
		inner.Out = c
		if err := inner.exec(ctx, s.Exec); err != nil {
			return nil, nil, err
		}
		return c.rows, func(_, column int) value.Type { return c.columns[column].Type }, nil
	}
	if s.Query != nil {
		p, err := b.Query(s.Query)
		if err != nil {
			return nil, nil, err
		}
		rows, err := p.Run(&expr.Frame{Ctx: ctx})
		return rows, func(_, column int) value.Type { return p.Columns[column].Type }, err
	}
	var all [][]value.Type
	for _, exprs := range s.Rows {
		row, kinds := make([]any, len(exprs)), make([]value.Type, len(exprs))
		for i, x := range exprs {
			if x == nil {
				row[i] = plan.Default{}
				continue
			}
			if row[i], kinds[i], err = b.Evaluate(ctx, x); err != nil {
				return nil, nil, err
			}
		}
		rows, all = append(rows, row), append(all, kinds)
	}
	return rows, func(row, column int) value.Type { return all[row][column] }, nil
}

// capture keeps a procedure's rows for INSERT … EXEC.
type capture struct {
	Sink
	columns []value.Column
	rows    [][]any
}

// Columns takes a result's header.
func (c *capture) Columns(columns []value.Column) { c.columns = columns }

// Row keeps a row.
func (c *capture) Row(values []any) { c.rows = append(c.rows, values) }

// Count and Done say nothing: the INSERT speaks.
func (c *capture) Count(int64) {}

// Done says nothing.
func (c *capture) Done() {}

// store converts a value for a column: NULL and text that is too long are refused.
func store(v any, from value.Type, c value.Column, table []string) (any, error) {
	name := table[len(table)-1]
	if v == nil {
		if !c.Nullable {
			return nil, value.Errorf(515, "Cannot insert the value NULL into column '%s', table '%s'; column does not allow nulls. INSERT fails.", c.Name, name)
		}
		return nil, nil
	}
	wide := c.Type
	if wide.IsText() || wide.IsBinary() {
		wide.Size = value.Max
	}
	out, err := value.Convert(v, from, wide, 0)
	if err != nil || c.Type.Size == value.Max {
		return out, err
	}
	switch x := out.(type) {
	case string:
		if n := len([]rune(strings.TrimRight(x, " "))); n > c.Type.Size {
			return nil, value.Errorf(2628, "String or binary data would be truncated in table '%s', column '%s'. Truncated value: '%s'.", name, c.Name, string([]rune(x)[:c.Type.Size]))
		}
	case []byte:
		if len(x) > c.Type.Size {
			return nil, value.Errorf(2628, "String or binary data would be truncated in table '%s', column '%s'. Truncated value: ''.", name, c.Name)
		}
	}
	return value.Convert(out, wide, c.Type, 0)
}

// limit is TOP of an UPDATE or DELETE; -1 without one.
func (b *Batch) limit(ctx context.Context, top ast.Expr) (int, error) {
	if top == nil {
		return -1, nil
	}
	n, err := b.Int(ctx, top)
	return int(n), err
}

// each calls do once for every row found, by ID.
func each(rows [][]any, index, limit int, do func(row []any) error) (int, error) {
	seen := map[any]bool{}
	for _, row := range rows {
		if seen[row[index]] || limit >= 0 && len(seen) >= limit {
			continue
		}
		seen[row[index]] = true
		if err := do(row); err != nil {
			return 0, err
		}
	}
	return len(seen), nil
}

func (b *Batch) update(ctx context.Context, s *ast.Update) error {
	sel, err := b.Selection(s.Table, s.From, s.Where)
	if err != nil {
		return err
	}
	columns := sel.Table.Columns()
	changes, err := assignments(sel, columns, s.Set)
	if err != nil {
		return err
	}
	f := &expr.Frame{Ctx: ctx}
	in, err := sel.Rows(f)
	if err != nil {
		return err
	}
	limit, err := b.limit(ctx, s.Top)
	if err != nil {
		return err
	}
	n, err := each(in, sel.ID, limit, func(row []any) error {
		values := append([]any{}, row[sel.First:sel.ID]...)
		for _, c := range changes {
			v, err := c.to.Eval(f.With(row))
			if err == nil {
				v, err = store(v, c.to.Type, columns[c.at], s.Table)
			}
			if err != nil {
				return err
			}
			values[c.at] = v
		}
		return sel.Table.Update(ctx, row[sel.ID], values)
	})
	if err != nil {
		return err
	}
	b.count(n)
	return nil
}

// change is what an UPDATE puts into a column.
type change struct {
	at int
	to expr.Node
}

// assignments compiles SET.
func assignments(sel *plan.Selection, columns []value.Column, set []ast.Assignment) ([]change, error) {
	var changes []change
	for _, a := range set {
		at := -1
		for i, c := range columns {
			if strings.EqualFold(c.Name, a.Column) {
				at = i
			}
		}
		if at < 0 {
			return nil, value.Errorf(207, "Invalid column name '%s'.", a.Column)
		}
		n, err := sel.Expression(a.Value)
		if err != nil {
			return nil, err
		}
		changes = append(changes, change{at, n})
	}
	return changes, nil
}

func (b *Batch) delete(ctx context.Context, s *ast.Delete) error {
	sel, err := b.Selection(s.Table, s.From, s.Where)
	if err != nil {
		return err
	}
	in, err := sel.Rows(&expr.Frame{Ctx: ctx})
	if err != nil {
		return err
	}
	limit, err := b.limit(ctx, s.Top)
	if err != nil {
		return err
	}
	n, err := each(in, sel.ID, limit, func(row []any) error { return sel.Table.Delete(ctx, row[sel.ID]) })
	if err != nil {
		return err
	}
	b.count(n)
	return nil
}

// tableVariable is DECLARE @t TABLE (…): rows that live as long as the batch.
type tableVariable struct {
	columns []value.Column
	rows    []plan.Row
	next    int
}

func newTableVariable(columns []ast.ColumnDefinition) *tableVariable {
	t := &tableVariable{}
	for _, c := range columns {
		t.columns = append(t.columns, value.Column{Name: c.Name, Type: c.Type, Nullable: !c.NotNull})
	}
	return t
}

// Columns are as declared.
func (t *tableVariable) Columns() []value.Column { return t.columns }

// Rows are those inserted so far.
func (t *tableVariable) Rows(context.Context, []any) ([]plan.Row, error) {
	return append([]plan.Row{}, t.rows...), nil
}

// Insert adds rows; a column without a value is NULL.
func (t *tableVariable) Insert(_ context.Context, rows [][]any) error {
	for _, row := range rows {
		for i, v := range row {
			if _, ok := v.(plan.Default); ok {
				row[i] = nil
			}
		}
		t.next++
		t.rows = append(t.rows, plan.Row{ID: t.next, Values: row})
	}
	return nil
}

// Update replaces a row.
func (t *tableVariable) Update(_ context.Context, id any, values []any) error {
	for i := range t.rows {
		if t.rows[i].ID == id {
			t.rows[i].Values = values
		}
	}
	return nil
}

// Delete removes a row.
func (t *tableVariable) Delete(_ context.Context, id any) error {
	for i := range t.rows {
		if t.rows[i].ID == id {
			t.rows = append(t.rows[:i], t.rows[i+1:]...)
			return nil
		}
	}
	return nil
}
