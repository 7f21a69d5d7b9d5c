package session

import (
	"context"

	"holdfast/sqlguest/lab/dbcc"
	"holdfast/sqlguest/lab/tsql/ast"
	"holdfast/sqlguest/lab/tsql/eval"
	"holdfast/sqlguest/lab/value"
)

// dbcc is DBCC of the commands that there are.
func (s *session) dbcc(ctx context.Context, b *eval.Batch, d *ast.DBCC) error {
	var args []any
	for _, x := range d.Args {
		v, _, err := b.Evaluate(ctx, x)
		if err != nil {
			return err
		}
		args = append(args, v)
	}
	if err := dbcc.Run(ctx, s.of.opt.Server(), s.Database(), d.Command, args); err != nil {
		return failure(err)
	}
	b.Out.Message(value.Message{Number: 2528, State: 1, Text: "DBCC execution completed. If DBCC printed error messages, contact your system administrator."})
	return nil
}
