package syntax

import (
	"holdfast/sqlguest/lab/tsql/ast"
	"holdfast/sqlguest/lab/value"
)

// Text is a word as a literal.
func Text(s string) *ast.Literal {
	return &ast.Literal{Value: s, Type: value.Text(max(len([]rune(s)), 1))}
}

// Hint passes over a list in parentheses.
func (p *Reader) Hint() error {
	if err := p.Symbol("("); err != nil {
		return err
	}
	for depth := 1; depth > 0; p.At++ {
		switch {
		case p.Current().Kind == End:
			return p.Unexpected()
		case p.IsSymbol("("):
			depth++
		case p.IsSymbol(")"):
			depth--
		}
	}
	return nil
}

// Query reads [WITH …] SELECT … [UNION …] [ORDER BY …].
func (p *Reader) Query() (*ast.Query, error) {
	p.Depth++
	defer func() { p.Depth-- }()
	if p.Depth > DepthLimit {
		return nil, p.Unexpected()
	}
	q := &ast.Query{}
	if p.Accept("WITH") {
		if err := p.ctes(q); err != nil {
			return nil, err
		}
	}
	for {
		s, err := p.term(q)
		if err != nil {
			return nil, err
		}
		q.Selects = append(q.Selects, s...)
		if !p.Accept("UNION") {
			break
		}
		q.All = append(q.All, p.Accept("ALL"))
	}
	if p.Accept("ORDER") {
		if err := p.Expect("BY"); err != nil {
			return nil, err
		}
		for {
			x, err := p.Expression()
			if err != nil {
				return nil, err
			}
			o := ast.Order{Expr: x, Desc: p.Accept("DESC")}
			p.Accept("ASC")
			q.OrderBy = append(q.OrderBy, o)
			if !p.AcceptSymbol(",") {
				break
			}
		}
	}
	return q, nil
}

// term reads one SELECT of a UNION, which may stand in parentheses.
func (p *Reader) term(q *ast.Query) ([]*ast.Select, error) {
	if p.AcceptSymbol("(") {
		inner, err := p.Query()
		if err != nil {
			return nil, err
		}
		q.All = append(q.All, inner.All...)
		return inner.Selects, p.Symbol(")")
	}
	s, err := p.selectTerm()
	return []*ast.Select{s}, err
}

func (p *Reader) ctes(q *ast.Query) error {
	for {
		name, err := p.Name()
		if err != nil {
			return err
		}
		c := ast.CTE{Name: name}
		if p.IsSymbol("(") {
			if c.Columns, err = p.NameList(); err != nil {
				return err
			}
		}
		if err := p.Expect("AS"); err != nil {
			return err
		}
		if err := p.Symbol("("); err != nil {
			return err
		}
		if c.Query, err = p.Query(); err != nil {
			return err
		}
		if err := p.Symbol(")"); err != nil {
			return err
		}
		q.With = append(q.With, c)
		if !p.AcceptSymbol(",") {
			return nil
		}
	}
}

// NameList reads (a, b, c).
func (p *Reader) NameList() ([]string, error) {
	if err := p.Symbol("("); err != nil {
		return nil, err
	}
	var out []string
	for {
		n, err := p.Name()
		if err != nil {
			return nil, err
		}
		out = append(out, n)
		if !p.AcceptSymbol(",") {
			return out, p.Symbol(")")
		}
	}
}

func (p *Reader) selectTerm() (*ast.Select, error) {
	if err := p.Expect("SELECT"); err != nil {
		return nil, err
	}
	s := &ast.Select{Distinct: p.Accept("DISTINCT")}
	if !s.Distinct {
		p.Accept("ALL")
	}
	var err error
	if s.Top, err = p.Top(); err != nil {
		return nil, err
	}
	s.Percent = s.Top != nil && p.Accept("PERCENT")
	for {
		item, err := p.item()
		if err != nil {
			return nil, err
		}
		s.Items = append(s.Items, item)
		if !p.AcceptSymbol(",") {
			break
		}
	}
	if p.Accept("INTO") {
		if s.Into, err = p.Parts(); err != nil {
			return nil, err
		}
	}
	if p.Accept("FROM") {
		if s.From, err = p.Tables(); err != nil {
			return nil, err
		}
	}
	return s, p.clauses(s)
}

// clauses reads WHERE, GROUP BY and HAVING.
func (p *Reader) clauses(s *ast.Select) (err error) {
	if p.Accept("WHERE") {
		if s.Where, err = p.Expression(); err != nil {
			return err
		}
	}
	if p.Accept("GROUP") {
		if err = p.Expect("BY"); err != nil {
			return err
		}
		if s.GroupBy, err = p.List(); err != nil {
			return err
		}
	}
	if p.Accept("HAVING") {
		s.Having, err = p.Expression()
	}
	return err
}

// Top reads TOP n, TOP (expression).
func (p *Reader) Top() (ast.Expr, error) {
	if !p.Accept("TOP") {
		return nil, nil
	}
	if p.IsSymbol("(") {
		return p.parenthesis()
	}
	return p.Primary()
}

func (p *Reader) item() (ast.Item, error) {
	t := p.Current()
	switch {
	case p.AcceptSymbol("*"):
		return ast.Item{Star: true}, nil
	case t.Kind == Var && p.PeekSymbol(1, "="):
		p.At += 2
		x, err := p.Expression()
		return ast.Item{Expr: x, Assign: t.Text}, err
	case (t.Kind == Word && !Reserved[t.Upper] || t.Kind == Quoted || t.Kind == String) && p.PeekSymbol(1, "="):
		p.At += 2
		x, err := p.Expression()
		return ast.Item{Expr: x, Alias: t.Text}, err
	case t.Kind == Word && !Reserved[t.Upper] || t.Kind == Quoted:
		if table, ok := p.tableStar(); ok {
			return ast.Item{Star: true, Table: table}, nil
		}
	}
	x, err := p.Expression()
	if err != nil {
		return ast.Item{}, err
	}
	alias, err := p.alias(true)
	return ast.Item{Expr: x, Alias: alias}, err
}

// tableStar reads t.* if that is what stands here.
func (p *Reader) tableStar() ([]string, bool) {
	mark := p.At
	var out []string
	for {
		t := p.Current()
		if t.Kind != Word && t.Kind != Quoted || !p.PeekSymbol(1, ".") {
			p.At = mark
			return nil, false
		}
		out = append(out, t.Text)
		p.At += 2
		if p.AcceptSymbol("*") {
			return out, true
		}
	}
}

// alias reads [AS] name; strings are aliases of columns alone.
func (p *Reader) alias(column bool) (string, error) {
	as := p.Accept("AS")
	t := p.Current()
	switch {
	case t.Kind == Quoted, column && (t.Kind == String || t.Kind == National && as):
		p.At++
		return t.Text, nil
	case t.Kind == Word && !Reserved[t.Upper] && (as || !Starters[t.Upper] || !column):
		if !as && Starters[t.Upper] {
			return "", nil
		}
		p.At++
		return t.Text, nil
	case as:
		return "", p.Unexpected()
	}
	return "", nil
}

// Tables reads what follows FROM, joins included.
func (p *Reader) Tables() ([]ast.TableRef, error) {
	var out []ast.TableRef
	for {
		t, err := p.joined()
		if err != nil {
			return nil, err
		}
		out = append(out, t)
		if !p.AcceptSymbol(",") {
			return out, nil
		}
	}
}

// joined reads an entry of FROM with all that is joined to it.
func (p *Reader) joined() (ast.TableRef, error) {
	left, err := p.table()
	if err != nil {
		return nil, err
	}
	for {
		kind := p.joinKind()
		if kind == "" {
			return left, nil
		}
		right, err := p.table()
		if err != nil {
			return nil, err
		}
		j := &ast.Join{Kind: kind, L: left, R: right}
		switch kind {
		case "CROSS", "CROSS APPLY", "OUTER APPLY":
		default:
			if err := p.Expect("ON"); err != nil {
				return nil, err
			}
			if j.On, err = p.Expression(); err != nil {
				return nil, err
			}
		}
		left = j
	}
}

// joinKind reads the words of a join; "" and nothing read where none stands.
func (p *Reader) joinKind() string {
	mark := p.At
	switch {
	case p.Accept("JOIN"):
		return "INNER"
	case p.Accept("INNER"):
		if p.Accept("JOIN") {
			return "INNER"
		}
	case p.Accept("CROSS"):
		if p.Accept("APPLY") {
			return "CROSS APPLY"
		}
		if p.Accept("JOIN") {
			return "CROSS"
		}
	case p.Is("OUTER") && p.Peek(1).Upper == "APPLY":
		p.At += 2
		return "OUTER APPLY"
	case p.Is("LEFT"), p.Is("RIGHT"), p.Is("FULL"):
		kind := p.Current().Upper
		p.At++
		p.Accept("OUTER")
		if p.Accept("JOIN") {
			return kind
		}
	}
	p.At = mark
	return ""
}

// table reads one entry of FROM without joins.
func (p *Reader) table() (ast.TableRef, error) {
	if p.IsSymbol("(") {
		return p.derived()
	}
	n := &ast.Named{}
	var err error
	if t := p.Current(); t.Kind == Var {
		p.At++
		n.Parts = []string{t.Text}
	} else if n.Parts, err = p.Parts(); err != nil {
		return nil, err
	}
	if p.AcceptSymbol("(") {
		n.Function = true
		if !p.IsSymbol(")") {
			if n.Args, err = p.tableArguments(); err != nil {
				return nil, err
			}
		}
		if err = p.Symbol(")"); err != nil {
			return nil, err
		}
	}
	if n.Alias, err = p.alias(false); err != nil {
		return nil, err
	}
	if p.Is("WITH") && p.PeekSymbol(1, "(") {
		p.At++
		if err := p.Hint(); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// tableArguments are expressions; DEFAULT stands for NULL there.
func (p *Reader) tableArguments() ([]ast.Expr, error) {
	var out []ast.Expr
	for {
		if p.Accept("DEFAULT") {
			out = append(out, &ast.Literal{Value: nil, Type: value.Type{Kind: value.Null}})
		} else {
			x, err := p.Expression()
			if err != nil {
				return nil, err
			}
			out = append(out, x)
		}
		if !p.AcceptSymbol(",") {
			return out, nil
		}
	}
}

// derived reads (query) AS x (columns), (VALUES …) AS x (…), and (a JOIN b).
func (p *Reader) derived() (ast.TableRef, error) {
	p.At++
	d := &ast.Derived{}
	var err error
	switch {
	case p.Is("SELECT"), p.Is("WITH"):
		d.Query, err = p.Query()
	case p.Accept("VALUES"):
		d.Rows, err = p.Rows()
	default:
		t, err := p.joined()
		if err != nil {
			return nil, err
		}
		return t, p.Symbol(")")
	}
	if err == nil {
		err = p.Symbol(")")
	}
	if err != nil {
		return nil, err
	}
	if d.Alias, err = p.alias(false); err != nil {
		return nil, err
	}
	if d.Alias == "" {
		return nil, p.Unexpected()
	}
	if p.IsSymbol("(") {
		d.Columns, err = p.NameList()
	}
	return d, err
}

// Rows reads (a, b), (c, d); DEFAULT is a nil expression.
func (p *Reader) Rows() ([][]ast.Expr, error) {
	var out [][]ast.Expr
	for {
		if err := p.Symbol("("); err != nil {
			return nil, err
		}
		var row []ast.Expr
		for {
			if p.Accept("DEFAULT") {
				row = append(row, nil)
			} else {
				x, err := p.Expression()
				if err != nil {
					return nil, err
				}
				row = append(row, x)
			}
			if !p.AcceptSymbol(",") {
				break
			}
		}
		if err := p.Symbol(")"); err != nil {
			return nil, err
		}
		out = append(out, row)
		if !p.AcceptSymbol(",") {
			return out, nil
		}
	}
}
