package expr

import (
	"strings"
	"time"

	"holdfast/sqlguest/lab/value"
)

// Predicate makes a condition: true, false or nil for unknown.
func Predicate(eval func(f *Frame) (any, error)) Node {
	return Node{Type: value.Type{Kind: value.Boolean}, Eval: eval}
}

// Logic is AND, or OR, of three values: the deciding one wins over NULL.
func Logic(l, r Node, decides bool) Node {
	return Predicate(func(f *Frame) (any, error) {
		a, err := l.Eval(f)
		if err != nil || a == decides {
			return a, err
		}
		c, err := r.Eval(f)
		if err != nil || c == decides {
			return c, err
		}
		if a == nil || c == nil {
			return nil, nil
		}
		return !decides, nil
	})
}

// Compare is a comparison in the common type of both sides.
func Compare(op string, l, r Node) Node {
	t := value.Common(l.Type, r.Type)
	l, r = As(l, t), As(r, t)
	return Predicate(func(f *Frame) (any, error) {
		a, err := l.Eval(f)
		if err != nil || a == nil {
			return nil, err
		}
		c, err := r.Eval(f)
		if err != nil || c == nil {
			return nil, err
		}
		return holds(op, value.Compare(a, c)), nil
	})
}

func holds(op string, order int) bool {
	switch op {
	case "=":
		return order == 0
	case "<>":
		return order != 0
	case "<":
		return order < 0
	case ">":
		return order > 0
	case "<=":
		return order <= 0
	}
	return order >= 0
}

// Arithmetic is + - * / % & | ^, and + of texts and of bytes.
func Arithmetic(op string, l, r Node) (Node, error) {
	common := value.Common(l.Type, r.Type)
	switch {
	case op == "+" && (common.IsText() || common.IsBinary()):
		return concatenation(l, r, common), nil
	case strings.Contains("&|^", op):
		return bits(op, l, r, common), nil
	case common.IsTime():
		return timeArithmetic(op, l, r)
	case common.Kind == value.UniqueIdentifier || common.IsBinary() || common.Kind == value.Boolean:
		return Node{}, value.Errorf(402, "The data types %s and %s are incompatible in the operator.", l.Type.Name(), r.Type.Name())
	}
	operand, result := value.Arithmetic(op[0], l.Type, r.Type)
	l, r = As(l, operand), As(r, operand)
	return Node{Type: result, Constant: l.Constant && r.Constant, Eval: func(f *Frame) (any, error) {
		x, y, err := Both(f, l, r)
		if err != nil || x == nil || y == nil {
			return nil, err
		}
		return value.Calculate(op[0], x, y, result)
	}}, nil
}

// Both evaluates two nodes, left first.
func Both(f *Frame, l, r Node) (x, y any, err error) {
	if x, err = l.Eval(f); err != nil {
		return nil, nil, err
	}
	y, err = r.Eval(f)
	return x, y, err
}

func concatenation(l, r Node, t value.Type) Node {
	t.Size = value.Max
	if l.Type.Size != value.Max && r.Type.Size != value.Max {
		t.Size = max(min(l.Type.Size+r.Type.Size, 4000), 1)
	}
	switch t.Kind {
	case value.Char, value.NChar, value.Binary:
		t.Kind++
	}
	wide := t
	wide.Size = value.Max
	l, r = As(l, wide), As(r, wide)
	return Node{Type: t, Constant: l.Constant && r.Constant, Eval: func(f *Frame) (any, error) {
		x, y, err := Both(f, l, r)
		if err != nil || x == nil || y == nil {
			return nil, err
		}
		if s, ok := x.(string); ok {
			return s + y.(string), nil
		}
		return append(append([]byte{}, x.([]byte)...), y.([]byte)...), nil
	}}
}

func bits(op string, l, r Node, t value.Type) Node {
	if !t.IsInteger() || t.Kind == value.Bit {
		t = value.Type{Kind: value.Int}
	}
	l, r = As(l, t), As(r, t)
	return Node{Type: t, Eval: func(f *Frame) (any, error) {
		x, y, err := Both(f, l, r)
		if err != nil || x == nil || y == nil {
			return nil, err
		}
		a, c := x.(int64), y.(int64)
		switch op {
		case "&":
			return a & c, nil
		case "|":
			return a | c, nil
		}
		return a ^ c, nil
	}}
}

// Among is x IN (candidates): nil if only a NULL might have been it.
func Among(f *Frame, x Node, candidates []Node, not bool) (any, error) {
	open := false
	for _, c := range candidates {
		v, err := Compare("=", x, c).Eval(f)
		if err != nil {
			return nil, err
		}
		if v == true {
			return !not, nil
		}
		open = open || v == nil
	}
	if open {
		return nil, nil
	}
	return not, nil
}

// timeArithmetic is datetime plus or minus days, and the difference of two datetimes.
func timeArithmetic(op string, l, r Node) (Node, error) {
	old := func(t value.Type) bool { return t.Kind == value.DateTime || t.Kind == value.SmallDateTime }
	if op != "+" && op != "-" || l.Type.IsTime() && !old(l.Type) || r.Type.IsTime() && !old(r.Type) {
		return Node{}, value.Errorf(402, "The data types %s and %s are incompatible in the operator.", l.Type.Name(), r.Type.Name())
	}
	t := value.Type{Kind: value.DateTime}
	days := value.Type{Kind: value.Float}
	base := time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)
	number := func(n Node) Node {
		if !n.Type.IsTime() {
			return As(n, days)
		}
		return Node{Type: days, Eval: func(f *Frame) (any, error) {
			v, err := n.Eval(f)
			if at, ok := v.(time.Time); ok {
				return float64(at.Sub(base)) / float64(24*time.Hour), err
			}
			return nil, err
		}}
	}
	l, r = number(l), number(r)
	return Node{Type: t, Eval: func(f *Frame) (any, error) {
		x, y, err := Both(f, l, r)
		if err != nil || x == nil || y == nil {
			return nil, err
		}
		sum, err := value.Calculate(op[0], x, y, days)
		if err != nil {
			return nil, err
		}
		return value.Convert(sum, days, t, 0)
	}}, nil
}
