package plan

import (
	"reflect"
	"strings"

	"holdfast/sqlguest/lab/tsql/ast"
	"holdfast/sqlguest/lab/tsql/expr"
	"holdfast/sqlguest/lab/value"
)

// source is one table of FROM: where its columns stand in the joined row.
type source struct {
	names   []string // what it can be called by: its alias, or the parts of its name
	columns []value.Column
	base    int
}

// scope is what names mean inside one SELECT.
type scope struct {
	sources []source
	width   int
	outer   *scope
	ctes    map[string]*cte
	groups  *groups
	// transparent: no row belongs to this scope, it only leads outward.
	transparent bool
}

// groups is set while a select list over groups is compiled: rows are then the
// values of the keys followed by those of the aggregates.
type groups struct {
	inner      *scope
	keys       []ast.Expr
	keyColumns []int // the keys that are plain columns, else -1
	keyTypes   []value.Type
	keyNodes   []expr.Node
	calls      []*ast.Call
	aggregates []aggregate
}

func invalidColumn(parts []string) error {
	if len(parts) > 1 {
		return value.Errorf(4104, "The multi-part identifier \"%s\" could not be bound.", strings.Join(parts, "."))
	}
	return value.Errorf(207, "Invalid column name '%s'.", parts[0])
}

// resolve finds a column: how many queries outward, where in the row, its type.
func (s *scope) resolve(parts []string) (depth, index int, t value.Type, err error) {
	for at := s; at != nil; at = at.outer {
		look := at
		if at.groups != nil {
			look = at.groups.inner
		}
		found, index, t, err := look.find(parts)
		if err != nil {
			return 0, 0, t, err
		}
		if found {
			if at.groups == nil {
				return depth, index, t, nil
			}
			for i, c := range at.groups.keyColumns {
				if c == index {
					return depth, i, t, nil
				}
			}
			return 0, 0, t, value.Errorf(8120, "Column '%s' is invalid in the select list because it is not contained in either an aggregate function or the GROUP BY clause.", strings.Join(parts, "."))
		}
		if !at.transparent {
			depth++
		}
	}
	return 0, 0, value.Type{}, invalidColumn(parts)
}

// find looks in one SELECT's tables.
func (s *scope) find(parts []string) (found bool, index int, t value.Type, err error) {
	name := parts[len(parts)-1]
	for _, src := range s.sources {
		if len(parts) > 1 && !src.called(parts[:len(parts)-1]) {
			continue
		}
		for i, c := range src.columns {
			if !strings.EqualFold(c.Name, name) {
				continue
			}
			if found {
				return false, 0, t, value.Errorf(209, "Ambiguous column name '%s'.", name)
			}
			found, index, t = true, src.base+i, c.Type
		}
	}
	return found, index, t, nil
}

// called tells whether a qualifier means this table: its alias, or the end of its name.
func (s source) called(qualifier []string) bool {
	if len(qualifier) > len(s.names) {
		return false
	}
	tail := s.names[len(s.names)-len(qualifier):]
	for i, q := range qualifier {
		if !strings.EqualFold(q, tail[i]) {
			return false
		}
	}
	return true
}

// compile settles an expression's names and types.
func (b *Binder) compile(x ast.Expr, s *scope) (expr.Node, error) {
	if s.groups != nil {
		if n, ok, err := b.compileGrouped(x, s); ok || err != nil {
			return n, err
		}
	}
	switch e := x.(type) {
	case *ast.Literal:
		return expr.Node{Type: e.Type, Constant: true, Eval: func(*expr.Frame) (any, error) { return e.Value, nil }}, nil
	case *ast.Variable:
		return b.compileVariable(e)
	case *ast.ColumnRef:
		depth, index, t, err := s.resolve(e.Parts)
		return expr.Node{Type: t, Eval: func(f *expr.Frame) (any, error) {
			for range depth {
				f = f.Outer
			}
			return f.Row[index], nil
		}}, err
	case *ast.Unary:
		return b.compileUnary(e, s)
	case *ast.Binary:
		return b.compileBinary(e, s)
	case *ast.Case:
		return b.compileCase(e, s)
	case *ast.Cast:
		return b.compileCast(e, s)
	case *ast.Call:
		return b.compileCall(e, s)
	case *ast.Scalar:
		return b.compileScalar(e, s)
	}
	return b.compilePredicate(x, s)
}

// compileGrouped finds keys and aggregates in an expression over groups.
func (b *Binder) compileGrouped(x ast.Expr, s *scope) (expr.Node, bool, error) {
	g := s.groups
	for i, key := range g.keys {
		if reflect.DeepEqual(key, x) {
			return expr.Node{Type: g.keyTypes[i], Eval: func(f *expr.Frame) (any, error) { return f.Row[i], nil }}, true, nil
		}
	}
	call, ok := x.(*ast.Call)
	if !ok || !ast.IsAggregate(call) {
		return expr.Node{}, false, nil
	}
	for i, known := range g.calls {
		if reflect.DeepEqual(known, call) {
			return g.slot(i), true, nil
		}
	}
	a, err := b.compileAggregate(call, g.inner)
	if err != nil {
		return expr.Node{}, true, err
	}
	g.calls, g.aggregates = append(g.calls, call), append(g.aggregates, a)
	return g.slot(len(g.calls) - 1), true, nil
}

func (g *groups) slot(i int) expr.Node {
	at := len(g.keys) + i
	return expr.Node{Type: g.aggregates[i].typ, Eval: func(f *expr.Frame) (any, error) { return f.Row[at], nil }}
}

func (b *Binder) compileVariable(e *ast.Variable) (expr.Node, error) {
	if strings.HasPrefix(e.Name, "@@") {
		name := strings.ToUpper(e.Name)
		v, t, ok := b.global(name)
		if !ok {
			return expr.Node{}, value.Severe(137, 15, "Must declare the scalar variable \"%s\".", e.Name)
		}
		return expr.Node{Type: t, Eval: func(*expr.Frame) (any, error) { return v, nil }}, nil
	}
	v := b.Variables[strings.ToLower(e.Name)]
	if v == nil {
		return expr.Node{}, value.Severe(137, 15, "Must declare the scalar variable \"%s\".", e.Name)
	}
	return expr.Node{Type: v.Type, Eval: func(*expr.Frame) (any, error) { return v.Value, nil }}, nil
}

func (b *Binder) global(name string) (any, value.Type, bool) {
	switch name {
	case "@@ROWCOUNT":
		return b.State.RowCount, expr.Int, true
	case "@@ERROR":
		return int64(b.State.Error), expr.Int, true
	}
	return b.Catalog.Global(name)
}

func (b *Binder) compileUnary(e *ast.Unary, s *scope) (expr.Node, error) {
	n, err := b.compile(e.X, s)
	if err != nil {
		return n, err
	}
	switch e.Op {
	case "+":
		return n, nil
	case "NOT":
		if n.Type.Kind != value.Boolean {
			return n, notCondition()
		}
		return expr.Predicate(func(f *expr.Frame) (any, error) {
			v, err := n.Eval(f)
			if t, ok := v.(bool); ok {
				return !t, err
			}
			return nil, err
		}), nil
	case "~":
		n = expr.As(n, value.Common(n.Type, value.Type{Kind: value.TinyInt}))
		return expr.Node{Type: n.Type, Eval: func(f *expr.Frame) (any, error) {
			v, err := n.Eval(f)
			if i, ok := v.(int64); ok {
				return ^i, err
			}
			return nil, err
		}}, nil
	}
	zero := expr.Node{Type: value.Type{Kind: value.Int}, Constant: true, Eval: func(*expr.Frame) (any, error) { return int64(0), nil }}
	return expr.Arithmetic("-", zero, n)
}

func notCondition() error {
	return value.Severe(4145, 15, "An expression of non-boolean type specified in a context where a condition is expected.")
}

// condition compiles an expression that must be a predicate.
func (b *Binder) condition(x ast.Expr, s *scope) (func(f *expr.Frame) (bool, error), error) {
	n, err := b.compile(x, s)
	if err != nil {
		return nil, err
	}
	if n.Type.Kind != value.Boolean {
		return nil, notCondition()
	}
	return func(f *expr.Frame) (bool, error) {
		v, err := n.Eval(f)
		t, _ := v.(bool)
		return t, err
	}, nil
}

func (b *Binder) compileBinary(e *ast.Binary, s *scope) (expr.Node, error) {
	l, err := b.compile(e.L, s)
	if err != nil {
		return l, err
	}
	r, err := b.compile(e.R, s)
	if err != nil {
		return r, err
	}
	switch e.Op {
	case "AND", "OR":
		if l.Type.Kind != value.Boolean || r.Type.Kind != value.Boolean {
			return l, notCondition()
		}
		return expr.Logic(l, r, e.Op == "OR"), nil
	case "=", "<>", "<", ">", "<=", ">=":
		return expr.Compare(e.Op, l, r), nil
	}
	return expr.Arithmetic(e.Op, l, r)
}
