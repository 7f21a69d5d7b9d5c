package plan

import (
	"strings"

	"holdfast/sqlguest/lab/tsql/ast"
	"holdfast/sqlguest/lab/tsql/expr"
	"holdfast/sqlguest/lab/value"
)

// aggregate is a compiled aggregate: it goes over a group's rows.
type aggregate struct {
	typ  value.Type
	over func(f *expr.Frame, rows [][]any) (any, error)
}

// groupScope makes the scope in which a select list over groups is compiled.
func (b *Binder) groupScope(sel *ast.Select, s *scope) (*scope, error) {
	g := &groups{inner: s, keys: sel.GroupBy}
	for _, key := range sel.GroupBy {
		n, err := b.compile(key, s)
		if err != nil {
			return nil, err
		}
		g.keyTypes = append(g.keyTypes, n.Type)
		index := -1
		if c, ok := key.(*ast.ColumnRef); ok {
			if found, at, _, _ := s.find(c.Parts); found {
				index = at
			}
		}
		g.keyColumns = append(g.keyColumns, index)
		g.keyNodes = append(g.keyNodes, n)
	}
	return &scope{outer: s.outer, ctes: s.ctes, groups: g}, nil
}

// run turns rows into groups' rows: the keys, then the aggregates. Without keys there is
// one group, also of no rows.
func (g *groups) run(rows func(f *expr.Frame) ([][]any, error)) func(f *expr.Frame) ([][]any, error) {
	return func(f *expr.Frame) ([][]any, error) {
		in, err := rows(f)
		if err != nil {
			return nil, err
		}
		type group struct {
			keys []any
			rows [][]any
		}
		var order []string
		members := map[string]*group{}
		for _, row := range in {
			keys := make([]any, len(g.keyNodes))
			for i, n := range g.keyNodes {
				if keys[i], err = n.Eval(f.With(row)); err != nil {
					return nil, err
				}
			}
			k := value.Key(keys)
			if members[k] == nil {
				members[k] = &group{keys: keys}
				order = append(order, k)
			}
			members[k].rows = append(members[k].rows, row)
		}
		if len(g.keys) == 0 && len(order) == 0 {
			order, members[""] = []string{""}, &group{}
		}
		var out [][]any
		for _, k := range order {
			result := append([]any{}, members[k].keys...)
			for _, a := range g.aggregates {
				v, err := a.over(f, members[k].rows)
				if err != nil {
					return nil, err
				}
				result = append(result, v)
			}
			out = append(out, result)
		}
		return out, nil
	}
}

// compileAggregate compiles one call over the rows of scope s.
func (b *Binder) compileAggregate(c *ast.Call, s *scope) (aggregate, error) {
	name := strings.ToUpper(c.Name[0])
	if c.Star {
		if !strings.HasPrefix(name, "COUNT") {
			return aggregate{}, value.Severe(102, 15, "Incorrect syntax near '*'.")
		}
		return aggregate{countType(name), func(_ *expr.Frame, rows [][]any) (any, error) { return int64(len(rows)), nil }}, nil
	}
	if len(c.Args) != 1 {
		return aggregate{}, value.Severe(174, 15, "The %s function requires 1 argument(s).", name)
	}
	n, err := b.compile(c.Args[0], s)
	if err != nil {
		return aggregate{}, err
	}
	t, combine := n.Type, extreme(name)
	switch name {
	case "COUNT", "COUNT_BIG":
		t = countType(name)
	case "SUM", "AVG":
		if t.Kind < value.Bit || t.IsTime() {
			return aggregate{}, value.Errorf(8117, "Operand data type %s is invalid for %s operator.", t.Name(), strings.ToLower(name))
		}
		if t.Kind < value.Int {
			t = value.Type{Kind: value.Int}
		}
		if t.Kind == value.Decimal || t.Kind == value.Money {
			_, t = value.Arithmetic('+', t, t)
			if name == "AVG" {
				t.Scale = max(t.Scale, 6)
			}
		}
		n = expr.As(n, t)
		combine = func(a, c any) (any, error) { return value.Calculate('+', a, c, t) }
	}
	return aggregate{t, func(f *expr.Frame, rows [][]any) (any, error) {
		return fold(f, name, n, rows, c.Distinct, t, combine)
	}}, nil
}

func countType(name string) value.Type {
	if name == "COUNT_BIG" {
		return value.Type{Kind: value.BigInt}
	}
	return value.Type{Kind: value.Int}
}

func extreme(name string) func(a, b any) (any, error) {
	return func(a, b any) (any, error) {
		if c := value.Compare(b, a); name == "MIN" && c < 0 || name == "MAX" && c > 0 {
			return b, nil
		}
		return a, nil
	}
}

// fold goes over a group; NULLs do not count.
func fold(f *expr.Frame, name string, n expr.Node, rows [][]any, unique bool, t value.Type, combine func(a, b any) (any, error)) (any, error) {
	var sum any
	count := int64(0)
	seen := map[string]bool{}
	for _, row := range rows {
		v, err := n.Eval(f.With(row))
		if err != nil {
			return nil, err
		}
		if v == nil {
			continue
		}
		if k := value.Key([]any{v}); unique && seen[k] {
			continue
		} else if unique {
			seen[k] = true
		}
		if count++; strings.HasPrefix(name, "COUNT") {
			continue
		}
		if sum == nil {
			sum = v
		} else if sum, err = combine(sum, v); err != nil {
			return nil, err
		}
	}
	switch {
	case strings.HasPrefix(name, "COUNT"):
		return count, nil
	case name == "AVG" && sum != nil:
		divisor, err := value.Convert(count, value.Type{Kind: value.BigInt}, t, 0)
		if err != nil {
			return nil, err
		}
		return value.Calculate('/', sum, divisor, t)
	}
	return sum, nil
}
