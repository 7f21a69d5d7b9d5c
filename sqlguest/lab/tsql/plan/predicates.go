package plan

import (
	"holdfast/sqlguest/lab/tsql/ast"
	"holdfast/sqlguest/lab/tsql/expr"
	"holdfast/sqlguest/lab/value"
)

// compilePredicate compiles what is neither value nor operator.
func (b *Binder) compilePredicate(x ast.Expr, s *scope) (expr.Node, error) {
	switch e := x.(type) {
	case *ast.IsNull:
		n, err := b.compile(e.X, s)
		return expr.Predicate(func(f *expr.Frame) (any, error) {
			v, err := n.Eval(f)
			return (v == nil) != e.Not, err
		}), err
	case *ast.Between:
		low := &ast.Binary{Op: ">=", L: e.X, R: e.Low}
		high := &ast.Binary{Op: "<=", L: e.X, R: e.High}
		var both ast.Expr = &ast.Binary{Op: "AND", L: low, R: high}
		if e.Not {
			both = &ast.Unary{Op: "NOT", X: both}
		}
		return b.compile(both, s)
	case *ast.Like:
		return b.compileLike(e, s)
	case *ast.Exists:
		p, err := b.compileQuery(e.Query, s)
		return expr.Predicate(func(f *expr.Frame) (any, error) {
			rows, err := p.Run(f)
			return len(rows) > 0, err
		}), err
	case *ast.In:
		return b.compileIn(e, s)
	}
	return expr.Node{}, value.Severe(102, 15, "Incorrect syntax near the expression.")
}

func (b *Binder) compileLike(e *ast.Like, s *scope) (expr.Node, error) {

	var nodes [3]expr.Node
	for i, x := range []ast.Expr{e.X, e.Pattern, e.Escape} {
		if x == nil {
			continue
		}
		n, err := b.compile(x, s)
		if err != nil {
			return n, err
		}
		nodes[i] = expr.As(n, expr.Wide)
	}
	return expr.Predicate(func(f *expr.Frame) (any, error) {
		x, pattern, err := expr.Both(f, nodes[0], nodes[1])
		if err != nil || x == nil || pattern == nil {
			return nil, err
		}
		var escape rune
		if e.Escape != nil {
			v, err := nodes[2].Eval(f)
			if err != nil {
				return nil, err
			}
			if s, ok := v.(string); ok && s != "" {
				escape = []rune(s)[0]
			}
		}
		return value.Like(x.(string), pattern.(string), escape) != e.Not, nil
	}), nil
}

// compileIn is a chain of equalities, of which NULLs leave the answer open.
func (b *Binder) compileIn(e *ast.In, s *scope) (expr.Node, error) {
	x, err := b.compile(e.X, s)
	if err != nil {
		return x, err
	}
	var list []expr.Node
	var p *Plan
	if e.Query != nil {
		if p, err = b.compileQuery(e.Query, s); err != nil {
			return x, err
		}
		if len(p.Columns) != 1 {
			return x, value.Errorf(116, "Only one expression can be specified in the select list when the subquery is not introduced with EXISTS.")
		}
	}
	for _, item := range e.List {
		n, err := b.compile(item, s)
		if err != nil {
			return n, err
		}
		list = append(list, n)
	}
	return expr.Predicate(func(f *expr.Frame) (any, error) {
		candidates := list
		if p != nil {
			rows, err := p.Run(f)
			if err != nil {
				return nil, err
			}
			for _, row := range rows {
				candidates = append(candidates, expr.Node{Type: p.Columns[0].Type, Eval: func(*expr.Frame) (any, error) { return row[0], nil }})
			}
		}
		return expr.Among(f, x, candidates, e.Not)
	}), nil
}

func (b *Binder) compileCase(e *ast.Case, s *scope) (expr.Node, error) {
	type branch struct {
		when func(f *expr.Frame) (bool, error)
		then expr.Node
	}
	var branches []branch
	result := value.Type{Kind: value.Null}
	for _, w := range e.Whens {
		x := w.If
		if e.Operand != nil {
			x = &ast.Binary{Op: "=", L: e.Operand, R: w.If}
		}
		when, err := b.condition(x, s)
		if err != nil {
			return expr.Node{}, err
		}
		then, err := b.compile(w.Then, s)
		if err != nil {
			return expr.Node{}, err
		}
		result = value.Common(result, then.Type)
		branches = append(branches, branch{when, then})
	}
	other := expr.Node{Type: value.Type{Kind: value.Null}, Eval: func(*expr.Frame) (any, error) { return nil, nil }}
	if e.Else != nil {
		var err error
		if other, err = b.compile(e.Else, s); err != nil {
			return expr.Node{}, err
		}
		result = value.Common(result, other.Type)
	}
	for i := range branches {
		branches[i].then = expr.As(branches[i].then, result)
	}
	other = expr.As(other, result)
	return expr.Node{Type: result, Eval: func(f *expr.Frame) (any, error) {
		for _, br := range branches {
			ok, err := br.when(f)
			if err != nil {
				return nil, err
			}
			if ok {
				return br.then.Eval(f)
			}
		}
		return other.Eval(f)
	}}, nil
}

func (b *Binder) compileCast(e *ast.Cast, s *scope) (expr.Node, error) {
	n, err := b.compile(e.X, s)
	if err != nil {
		return n, err
	}
	style := expr.Node{Eval: func(*expr.Frame) (any, error) { return int64(0), nil }}
	if e.Style != nil {
		if style, err = b.compile(e.Style, s); err != nil {
			return style, err
		}
		style = expr.As(style, value.Type{Kind: value.Int})
	}
	return expr.Node{Type: e.Type, Constant: n.Constant && e.Style == nil, Eval: func(f *expr.Frame) (any, error) {
		v, how, err := expr.Both(f, n, style)
		if err != nil {
			return nil, err
		}
		number, _ := how.(int64)
		out, err := value.Convert(v, n.Type, e.Type, int(number))
		if err != nil && e.Try {
			return nil, nil
		}
		return out, err
	}}, nil
}

// compileScalar is a subquery as a value: none is NULL, two rows are an error.
func (b *Binder) compileScalar(e *ast.Scalar, s *scope) (expr.Node, error) {
	p, err := b.compileQuery(e.Query, s)
	if err != nil {
		return expr.Node{}, err
	}
	if len(p.Columns) != 1 {
		return expr.Node{}, value.Errorf(116, "Only one expression can be specified in the select list when the subquery is not introduced with EXISTS.")
	}
	return expr.Node{Type: p.Columns[0].Type, Eval: func(f *expr.Frame) (any, error) {
		rows, err := p.Run(f)
		if err != nil || len(rows) == 0 {
			return nil, err
		}
		if len(rows) > 1 {
			return nil, value.Errorf(512, "Subquery returned more than 1 value. This is not permitted when the subquery follows =, !=, <, <= , >, >= or when the subquery is used as an expression.")
		}
		return rows[0][0], nil
	}}, nil
}
