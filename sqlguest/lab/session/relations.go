package session

import (
	"context"
	"strings"

	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/tables"
	"holdfast/sqlguest/lab/tsql"
	"holdfast/sqlguest/lab/tsql/ast"
	"holdfast/sqlguest/lab/tsql/eval"
	"holdfast/sqlguest/lab/tsql/plan"
	"holdfast/sqlguest/lab/value"
)

// split cuts a name into database, schema and object; the server's own may stand before.
func (s *session) split(name []string) (database, schema, object string) {
	object = name[len(name)-1]
	if len(name) > 1 {
		schema = strings.ToLower(name[len(name)-2])
	}
	database = s.Database()
	if len(name) > 2 && name[len(name)-3] != "" {
		database = name[len(name)-3]
	}
	return database, schema, object
}

func noObject(name []string) error {
	return value.Errorf(208, "Invalid object name '%s'.", strings.Join(name, "."))
}

// Relation finds a system view, a table of msdb's history, or a user's table.
func (s *session) Relation(name []string, function bool) (plan.Relation, error) {
	database, schema, object := s.split(name)
	if !s.of.opt.Server().Same(database, s.Database()) {
		db, err := s.of.opt.Server().Database(database)
		if err != nil {
			return nil, noObject(name)
		}
		if err := s.of.canOpen(s, db.Info()); err != nil {
			return nil, err
		}
	}
	if schema == "sys" {
		if v := s.instance().System(object, database); v != nil {
			return v, nil
		}
		return nil, noObject(name)
	}
	if function || schema != "" && schema != "dbo" {
		return nil, noObject(name)
	}
	if strings.EqualFold(database, "msdb") {
		if v := s.instance().History(object); v != nil {
			if !s.login.Sysadmin {
				return nil, value.Severe(229, 14, "The SELECT permission was denied on the object '%s', database 'msdb', schema 'dbo'.", object)
			}
			return v, nil
		}
	}
	db, err := s.of.opt.Server().Database(database)
	if err != nil {
		return nil, noObject(name)
	}
	t, err := tables.Find(s, db, database, object)
	if err != nil {
		return nil, s.tableError(err, name)
	}
	return t, nil
}

// tableError gives 208 the name as the client wrote it.
func (s *session) tableError(err error, name []string) error {
	e, ok := failure(err).(*value.Error)
	if ok && len(e.All) > 0 && e.All[0].Number == 208 {
		return noObject(name)
	}
	return failure(err)
}

// dropTable is DROP TABLE and TRUNCATE TABLE.
func (s *session) dropTable(ctx context.Context, d *ast.DropTable) error {
	for _, parts := range d.Names {
		database, _, name := s.split(parts)
		tx, err := s.Writing(ctx, database)
		if err != nil {
			return err
		}
		if d.Truncate {
			err = failure(tables.Truncate(tx, name))
		} else {
			err = failure(tx.DropTable(name))
		}
		if e, ok := err.(*value.Error); ok && e.All[0].Number == 208 && !d.Truncate {
			if d.IfExists {
				continue
			}
			err = value.Severe(3701, 11, "Cannot drop the table '%s', because it does not exist or you do not have permission.", strings.Join(parts, "."))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// createTable is CREATE TABLE.
func (s *session) createTable(ctx context.Context, c *ast.CreateTable) error {
	database, _, name := s.split(c.Name)
	if strings.HasPrefix(name, "#") {
		return unsupported("CREATE TABLE #…")
	}
	tx, err := s.Writing(ctx, database)
	if err != nil {
		return err
	}
	return tables.Create(tx, name, c)
}

// Open is the session's transaction in a database.
func (s *session) Open(database string) *storage.Tx {
	return s.tran.parts[s.of.opt.Server().Key(database)]
}

// Uncommitted tells of READ UNCOMMITTED.
func (s *session) Uncommitted() bool { return s.uncommitted }

// Default evaluates a column's default.
func (s *session) Default(ctx context.Context, text string, t value.Type) (any, error) {
	statements, err := tsql.Parse("SELECT " + text)
	if err != nil {
		return nil, err
	}
	x := statements[0].(*ast.SelectStatement).Query.Selects[0].Items[0].Expr
	v, from, err := eval.NewBatch(s, nil, &plan.State{}).Evaluate(ctx, x)
	if err != nil {
		return nil, err
	}
	return value.Convert(v, from, t, 0)
}
