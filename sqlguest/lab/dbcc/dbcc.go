// Package dbcc is what DBCC does in the laboratory's SQL Server: it checks databases, and
// makes their files smaller. The rest of DBCC is accepted and does nothing.
package dbcc

import (
	"context"
	"strings"

	"holdfast/sqlguest/lab/backups"
	"holdfast/sqlguest/lab/tsql/eval"
	"holdfast/sqlguest/lab/value"
)

// Run runs a DBCC command with the values of its arguments, on behalf of a session that
// has database as its current one; 2526 if there is no such command.
func Run(ctx context.Context, srv *backups.Server, database, command string, args []any) error {
	s := &run{srv, database}
	switch command {
	case "SHRINKFILE":
		return s.shrinkFile(ctx, args)
	case "SHRINKDATABASE":
		return s.shrinkDatabase(ctx, args)
	case "CHECKDB":
		return s.checkDB(args)
	case "TRACEON", "TRACEOFF", "FREEPROCCACHE", "DROPCLEANBUFFERS":
		return nil
	}
	return value.Severe(2526, 16, "Incorrect DBCC statement. Check the documentation for the correct DBCC syntax and options.")
}

type run struct {
	srv      *backups.Server
	database string
}

// checkDB checks a database's pages.
func (s *run) checkDB(args []any) error {
	name := s.database
	if len(args) > 0 {
		name = eval.TextOr(args[0], name)
	}
	db, err := s.srv.Database(name)
	if err != nil {
		return err
	}
	problems, err := db.Check()
	if err != nil {
		return err
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
func (s *run) shrinkFile(ctx context.Context, args []any) error {
	if len(args) == 0 {
		return value.Severe(2526, 16, "Incorrect DBCC statement. Check the documentation for the correct DBCC syntax and options.")
	}
	db, err := s.srv.Database(s.database)
	if err != nil {
		return err
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
		return value.Errorf(8985, "Could not locate file '%v' for database '%s' in sys.database_files. The file either does not exist, or was dropped.", args[0], s.database)
	}
	return db.ShrinkFile(ctx, logical, pages, empty)
}

func (s *run) shrinkDatabase(ctx context.Context, args []any) error {
	name := s.database
	if len(args) > 0 {
		name = eval.TextOr(args[0], name)
	}
	db, err := s.srv.Database(name)
	if err != nil {
		return err
	}
	for _, f := range db.Info().Files {
		if f.DropLSN.IsZero() {
			if err := db.ShrinkFile(ctx, f.Logical, 0, false); err != nil {
				return err
			}
		}
	}
	return nil
}
