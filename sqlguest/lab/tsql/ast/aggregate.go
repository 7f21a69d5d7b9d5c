package ast

import "strings"

// IsAggregate tells whether a call is of an aggregate.
func IsAggregate(c *Call) bool {
	if len(c.Name) != 1 {
		return false
	}
	switch strings.ToUpper(c.Name[0]) {
	case "COUNT", "COUNT_BIG", "SUM", "MIN", "MAX", "AVG":
		return true
	}
	return false
}

// Aggregates tells whether a select list or HAVING calls an aggregate of its own.
func Aggregates(sel *Select) bool {
	for _, item := range sel.Items {
		if HasAggregate(item.Expr) {
			return true
		}
	}
	return HasAggregate(sel.Having)
}

// HasAggregate tells whether an expression calls an aggregate outside of subqueries.
func HasAggregate(x Expr) bool {
	any := func(list ...Expr) bool {
		for _, e := range list {
			if e != nil && HasAggregate(e) {
				return true
			}
		}
		return false
	}
	switch e := x.(type) {
	case *Call:
		return IsAggregate(e) || any(e.Args...)
	case *Unary:
		return any(e.X)
	case *Binary:
		return any(e.L, e.R)
	case *Cast:
		return any(e.X)
	case *IsNull:
		return any(e.X)
	case *Between:
		return any(e.X, e.Low, e.High)
	case *In:
		return any(append([]Expr{e.X}, e.List...)...)
	case *Like:
		return any(e.X, e.Pattern)
	case *Case:
		for _, w := range e.Whens {
			if any(w.If, w.Then) {
				return true
			}
		}
		return any(e.Operand, e.Else)
	}
	return false
}
