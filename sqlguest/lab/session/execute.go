package session

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/tsql/ast"
	"holdfast/sqlguest/lab/tsql/eval"
	"holdfast/sqlguest/lab/value"
)

// Execute runs the statements that are the server's.
func (s *session) Execute(ctx context.Context, b *eval.Batch, statement ast.Statement) error {
	if err := s.dispatch(ctx, b, statement); err != nil {
		return err
	}
	switch statement.(type) {
	case *ast.SetOption, *ast.Use, *ast.Restore: // RESTORE … ONLY has ended its own rows
		return nil
	}
	b.Out.Done()
	return nil
}

func (s *session) dispatch(ctx context.Context, b *eval.Batch, statement ast.Statement) error {
	switch t := statement.(type) {
	case *ast.SetOption:
		return s.setOption(t)
	case *ast.Use:
		return s.useStatement(b, t.Database)
	case *ast.Transaction:
		return s.transactionStatement(ctx, b, t)
	case *ast.CreateTable:
		return s.Atomic(func() error { return s.createTable(ctx, t) })
	case *ast.DropTable:
		return s.Atomic(func() error { return s.dropTable(ctx, t) })
	case *ast.Checkpoint:
		db, err := s.of.opt.Server().Database(s.Database())
		if err == nil {
			err = db.Checkpoint()
		}
		return failure(err)
	case *ast.Kill:
		id, err := b.Int(ctx, t.Session)
		if err != nil {
			return err
		}
		return s.killStatement(id)
	case *ast.DBCC:
		defer s.does("DBCC")()
		return s.dbcc(ctx, b, t)
	}
	return s.administer(ctx, b, statement)
}

// administer runs what cannot be part of a transaction.
func (s *session) administer(ctx context.Context, b *eval.Batch, statement ast.Statement) error {
	switch t := statement.(type) {
	case *ast.Backup:
		return s.backup(ctx, b, t)
	case *ast.Restore:
		return s.restore(ctx, b, t)
	}
	name := map[string]string{"*ast.CreateDatabase": "CREATE DATABASE", "*ast.DropDatabase": "DROP DATABASE", "*ast.AlterDatabase": "ALTER DATABASE"}[fmt.Sprintf("%T", statement)]
	if s.tran.depth > 0 {
		return value.Errorf(226, "%s statement not allowed within multi-statement transaction.", name)
	}
	defer s.does(name)()
	switch t := statement.(type) {
	case *ast.CreateDatabase:
		return s.createDatabase(ctx, b, t)
	case *ast.DropDatabase:
		return s.dropDatabase(t)
	case *ast.AlterDatabase:
		return s.alterDatabase(ctx, b, t)
	}
	return unsupported(strings.TrimPrefix(fmt.Sprintf("%T", statement), "*ast."))
}

// setOption is SET of what is no variable. Options that change nothing here are taken.
func (s *session) setOption(o *ast.SetOption) error {
	words := strings.Join(o.Words, " ")
	switch {
	case strings.HasPrefix(words, "XACT_ABORT"):
		s.xactAbort = strings.HasSuffix(words, " ON")
	case strings.HasPrefix(words, "TRANSACTION ISOLATION LEVEL"):
		s.uncommitted = strings.HasSuffix(words, "READ UNCOMMITTED")
	case strings.HasPrefix(words, "IDENTITY_INSERT"), strings.HasPrefix(words, "PARSEONLY"), strings.HasPrefix(words, "NOEXEC"), strings.HasPrefix(words, "ROWCOUNT"), strings.HasPrefix(words, "IMPLICIT_TRANSACTIONS ON"):
		if !strings.HasSuffix(words, "OFF") && words != "ROWCOUNT 0" {
			return unsupported("SET " + o.Words[0])
		}
	}
	return nil
}

func (s *session) useStatement(b *eval.Batch, name string) error {
	before := s.Database()
	if err := s.use(name); err != nil {
		return err
	}
	if s.out != nil {
		s.out.Database(before, s.Database())
	}
	b.Out.Message(value.Message{Number: 5701, State: 1, Text: fmt.Sprintf("Changed database context to '%s'.", s.Database())})
	return nil
}

// pages reads a size such as 8MB; a bare number is megabytes.
func pages(size string) uint32 {
	digits := strings.TrimRight(size, "KMGTBkmgtb %")
	n, err := strconv.ParseUint(digits, 10, 40)
	if err != nil || strings.HasSuffix(size, "%") {
		return 0
	}
	shift := map[string]uint{"KB": 10, "MB": 20, "GB": 30, "TB": 40, "": 20}[strings.ToUpper(strings.TrimSpace(size[len(digits):]))]
	return uint32(n << shift / 8192)
}

// file reads a file's specification: NAME, FILENAME, SIZE.
func (s *session) file(ctx context.Context, b *eval.Batch, spec ast.FileSpec) (f storage.File, newName string, err error) {
	texts := map[string]string{}
	for _, o := range spec.Options {
		if texts[o.Name], err = b.Text(ctx, o.Value); err != nil {
			return f, "", err
		}
	}
	f = storage.File{Logical: texts["NAME"], Physical: texts["FILENAME"], Pages: pages(texts["SIZE"])}
	if spec.Log {
		f.Type = storage.Log
	}
	if f.Logical == "" {
		return f, "", value.Errorf(1038, "An object or column name is missing or empty.")
	}
	return f, texts["NEWNAME"], nil
}
