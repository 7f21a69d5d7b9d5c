package session

import (
	"context"
	"strings"

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
	switch d.Command {
	case "SHRINKFILE":
		if err := s.shrinkFile(ctx, args); err != nil {
			return err
		}
	case "SHRINKDATABASE":
		if err := s.shrinkDatabase(ctx, args); err != nil {
			return err
		}
	case "CHECKDB":
		if err := s.checkDB(args); err != nil {
			return err
		}
	case "TRACEON", "TRACEOFF", "FREEPROCCACHE", "DROPCLEANBUFFERS":
	default:
		return value.Severe(2526, 16, "Incorrect DBCC statement. Check the documentation for the correct DBCC syntax and options.")
	}
	b.Out.Message(value.Message{Number: 2528, State: 1, Text: "DBCC execution completed. If DBCC printed error messages, contact your system administrator."})
	return nil
}

// checkDB checks a database's pages.
func (s *session) checkDB(args []any) error {
	name := s.Database()
	if len(args) > 0 {
		name = eval.TextOr(args[0], name)
	}
	db, err := s.of.opt.Server().Database(name)
	if err != nil {
		return failure(err)
	}
	problems, err := db.Check()
	if err != nil {
		return failure(err)
	}
	out := &value.Error{}
	for _, p := range problems {
		out.All = append(out.All, value.Errorf(8939, "Table error: %v", p).All...)
	}
	if len(problems) == 0 {
		return nil
	}
	out.All = append(out.All, value.Severe(8990, 16, "CHECKDB found 0 allocation errors and %d consistency errors in database '%s'.", len(problems), name).All...)
	return out
}

// shrinkFile is DBCC SHRINKFILE (file, megabytes | EMPTYFILE).
func (s *session) shrinkFile(ctx context.Context, args []any) error {
	if len(args) == 0 {
		return value.Severe(2526, 16, "Incorrect DBCC statement. Check the documentation for the correct DBCC syntax and options.")
	}
	db, err := s.of.opt.Server().Database(s.Database())
	if err != nil {
		return failure(err)
	}
	logical := eval.TextOr(args[0], "")
	for _, f := range db.Info().Files {
		if args[0] == int64(f.ID) {
			logical = f.Logical
		}
	}
	pages, empty := uint32(0), false
	for _, a := range args[1:] {
		if n, ok := a.(int64); ok {
			pages = uint32(n * (1 << 20) / 8192)
		}
		empty = empty || strings.EqualFold(eval.TextOr(a, ""), "EMPTYFILE")
	}
	if logical == "" {
		return value.Errorf(8985, "Could not locate file '%v' for database '%s' in sys.database_files. The file either does not exist, or was dropped.", args[0], s.Database())
	}
	return failure(db.ShrinkFile(ctx, logical, pages, empty))
}

func (s *session) shrinkDatabase(ctx context.Context, args []any) error {
	name := s.Database()
	if len(args) > 0 {
		name = eval.TextOr(args[0], name)
	}
	db, err := s.of.opt.Server().Database(name)
	if err != nil {
		return failure(err)
	}
	for _, f := range db.Info().Files {
		if f.DropLSN.IsZero() {
			if err := db.ShrinkFile(ctx, f.Logical, 0, false); err != nil {
				return failure(err)
			}
		}
	}
	return nil
}
