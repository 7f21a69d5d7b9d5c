package eval

import (
	"context"

	"holdfast/sqlguest/lab/tsql/ast"
)

// Reader evaluates a statement's options one after the other; the first error sticks and
// what follows is empty.
type Reader struct {
	Err error

	batch *Batch
	ctx   context.Context // of the statement whose options these are
}

// NewReader reads options of a statement that runs in ctx.
func NewReader(ctx context.Context, b *Batch) *Reader { return &Reader{ctx: ctx, batch: b} }

// Text is an option as text; a missing one is "".
func (r *Reader) Text(x ast.Expr) string {
	if r.Err != nil || x == nil {
		return ""
	}
	s, err := r.batch.Text(r.ctx, x)
	r.Err = err
	return s
}

// Int is an option as a number; a missing one is 0.
func (r *Reader) Int(x ast.Expr) int {
	if r.Err != nil || x == nil {
		return 0
	}
	n, err := r.batch.Int(r.ctx, x)
	r.Err = err
	return int(n)
}
