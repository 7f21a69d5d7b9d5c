// Package expr is what expressions are once their names and types are settled: nodes
// that compute on a row, the operators over them and the functions that need no server.
package expr

import (
	"context"

	"holdfast/sqlguest/lab/value"
)

// Node is a compiled expression.
type Node struct {
	Type value.Type
	Eval func(f *Frame) (any, error)
	// Constant: it can be computed on an empty frame, once.
	Constant bool
}

// Frame is the row that an expression is computed on; Outer is that of the query around.
type Frame struct {
	Ctx   context.Context
	Row   []any
	Outer *Frame
}

// With is a frame inside this one.
func (f *Frame) With(row []any) *Frame { return &Frame{Ctx: f.Ctx, Row: row, Outer: f} }

// As converts a node's value. A condition stays one.
func As(n Node, t value.Type) Node {
	if n.Type == t || n.Type.Kind == value.Boolean {
		return n
	}
	return Node{Type: t, Constant: n.Constant, Eval: func(f *Frame) (any, error) {
		v, err := n.Eval(f)
		if err != nil {
			return nil, err
		}
		return value.Convert(v, n.Type, t, 0)
	}}
}

// Function is a scalar function: its result's type and what it does.
type Function struct {
	Type value.Type
	// Min and Max are how many arguments it takes.
	Min, Max int
	// Types are what the arguments are converted to; one of type Any stays as it is.
	Types []value.Type
	Call  func(args []any) (any, error)
}

// Types that functions speak of.
var (
	Wide   = value.Text(value.Max)
	Int    = value.Type{Kind: value.Int}
	BigInt = value.Type{Kind: value.BigInt}
	Any    = value.Type{Kind: value.Variant}
)

// Strict makes a function of as many arguments as types, that is NULL where any is.
func Strict(t value.Type, types []value.Type, fn func(a []any) (any, error)) *Function {
	return &Function{Type: t, Min: len(types), Max: len(types), Types: types, Call: func(a []any) (any, error) {
		for _, v := range a {
			if v == nil {
				return nil, nil
			}
		}
		return fn(a)
	}}
}
