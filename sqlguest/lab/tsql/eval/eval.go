// Package eval runs batches of T-SQL: it walks the statements, keeps their variables,
// and asks its Host for everything that a database or the server does.
package eval

import (
	"context"
	"strings"

	"holdfast/sqlguest/lab/tsql/ast"
	"holdfast/sqlguest/lab/tsql/expr"
	"holdfast/sqlguest/lab/tsql/plan"
	"holdfast/sqlguest/lab/value"
)

// Host is the server as one session sees it.
type Host interface {
	plan.Catalog
	// Execute runs a statement that is not the evaluator's own.
	Execute(ctx context.Context, b *Batch, s ast.Statement) error
	// Procedure runs a stored procedure other than sp_executesql: 2812 if there is none.
	Procedure(ctx context.Context, b *Batch, name []string, args []Argument) (status int64, err error)
	// Atomic runs a statement that writes, as a transaction of its own if there is none.
	Atomic(fn func() error) error
	// Failed tells the server of a statement's error outside TRY; true ends the batch.
	Failed(err *value.Error) bool
}

// Argument is one of a procedure's. Set, if not nil, hands an output back.
type Argument struct {
	Name  string // with its @, or ""
	Value any
	Type  value.Type
	Set   func(v any) error
}

// Sink takes what a batch says.
type Sink interface {
	Columns(columns []value.Column)
	Row(values []any)
	// Count and Done end a statement, with and without a number of rows.
	Count(rows int64)
	Done()
	Message(m value.Message)
	Failed(err error)
}

// Batch is one batch, or one text of sp_executesql, while it runs.
type Batch struct {
	plan.Binder
	Host Host
	Out  Sink

	tries  int // TRY blocks around the statement that runs
	nested int // procedures and texts around this batch
	result int64
}

// NewBatch makes a batch that runs on a host.
func NewBatch(h Host, out Sink, state *plan.State) *Batch {
	return &Batch{Host: h, Out: out, Binder: plan.Binder{Catalog: h, State: state, Variables: map[string]*plan.Variable{}, Tables: map[string]plan.Relation{}}}
}

// Declare makes a variable; its value is converted to the type.
func (b *Batch) Declare(name string, t value.Type, v any, from value.Type) error {
	key := strings.ToLower(name)
	if b.Variables[key] != nil {
		return value.Severe(134, 15, "The variable name '%s' has already been declared. Variable names must be unique within a query batch or stored procedure.", name)
	}
	c, err := value.Convert(v, from, t, 0)
	if err != nil {
		return err
	}
	b.Variables[key] = &plan.Variable{Type: t, Value: c}
	return nil
}

// Variable is a variable's value, nil if there is none of that name.
func (b *Batch) Variable(name string) any {
	if v := b.Variables[strings.ToLower(name)]; v != nil {
		return v.Value
	}
	return nil
}

// Evaluate computes an expression outside of any query.
func (b *Batch) Evaluate(ctx context.Context, x ast.Expr) (any, value.Type, error) {
	n, err := b.Expression(x)
	if err != nil {
		return nil, value.Type{}, err
	}
	v, err := n.Eval(&expr.Frame{Ctx: ctx})
	return v, n.Type, err
}

// Text evaluates an expression as text; NULL is "".
func (b *Batch) Text(ctx context.Context, x ast.Expr) (string, error) {
	v, err := b.converted(ctx, x, expr.Wide)
	s, _ := v.(string)
	return s, err
}

// Int evaluates an expression as a number; NULL is 0.
func (b *Batch) Int(ctx context.Context, x ast.Expr) (int64, error) {
	v, err := b.converted(ctx, x, expr.BigInt)
	n, _ := v.(int64)
	return n, err
}

func (b *Batch) converted(ctx context.Context, x ast.Expr, t value.Type) (any, error) {
	if x == nil {
		return nil, nil
	}
	v, from, err := b.Evaluate(ctx, x)
	if err != nil {
		return nil, err
	}
	return value.Convert(v, from, t, 0)
}

// ByName gives a procedure's by name, in lower case without the @.
func ByName(args []Argument, names ...string) map[string]any {
	out := map[string]any{}
	for i, a := range args {
		name := strings.ToLower(strings.TrimPrefix(a.Name, "@"))
		if name == "" && i < len(names) {
			name = names[i]
		}
		out[name] = a.Value
	}
	return out
}

// TextOr is a text argument's value, or otherwise.
func TextOr(v any, otherwise string) string {
	if s, ok := v.(string); ok {
		return s
	}
	return otherwise
}
