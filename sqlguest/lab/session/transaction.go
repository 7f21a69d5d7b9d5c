package session

import (
	"context"
	"errors"

	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/tds"
	"holdfast/sqlguest/lab/tsql/ast"
	"holdfast/sqlguest/lab/tsql/eval"
	"holdfast/sqlguest/lab/value"
)

// transaction is a session's. Each database gets a transaction of its own at the first
// write there; they are committed one after the other.
type transaction struct {
	depth       int // @@TRANCOUNT
	name        string
	marked      bool
	description string
	id          uint64
	parts       map[string]*storage.Tx // by database, in lower case; nil outside of transactions
}

// start begins a transaction, or nests one more deeply.
func (s *session) start(name string, marked bool, description string) {
	s.tran.depth++
	if s.tran.depth > 1 {
		return
	}
	s.tran.name, s.tran.marked, s.tran.description = name, marked, description
	s.tran.id++
	s.tran.parts = map[string]*storage.Tx{}
	if s.out != nil {
		s.out.Begun(s.tran.id)
	}
}

// Writing gives the transaction that writes to a database: the session's, or that of the
// statement around (Atomic).
func (s *session) Writing(ctx context.Context, database string) (*storage.Tx, error) {
	db, err := s.of.opt.Server().Database(database)
	if err != nil {
		return nil, failure(err)
	}
	key := s.of.opt.Server().Key(database)
	if s.tran.parts[key] == nil {
		tx, err := db.Begin(ctx, s.tran.name)
		if err != nil {
			return nil, failure(err)
		}
		s.tran.parts[key] = tx
	}
	return s.tran.parts[key], nil
}

// Atomic runs a statement that writes: in the session's transaction, or in one of its own
// that is committed if fn succeeds.
func (s *session) Atomic(fn func() error) error {
	if s.tran.parts != nil {
		return fn()
	}
	s.tran.name, s.tran.marked, s.tran.parts = "user_transaction", false, map[string]*storage.Tx{}
	err := fn()
	if err == nil {
		return s.commitParts()
	}
	s.rollbackParts()
	return err
}

func (s *session) commitParts() error {
	var errs []error
	for _, tx := range s.tran.parts {
		if s.tran.marked {
			tx.SetMark(s.tran.name, s.tran.description, s.login.Name)
		}
		_, err := tx.Commit()
		errs = append(errs, err)
	}
	s.tran.parts = nil
	return failure(errors.Join(errs...))
}

func (s *session) rollbackParts() {
	for database, tx := range s.tran.parts {
		if err := tx.Rollback(); err != nil && !errors.Is(err, storage.ErrFinished) {
			s.of.opt.Log.Error("a transaction could not be rolled back", "database", database, "error", err)
		}
	}
	s.tran.parts = nil
}

// commit ends the innermost level; the outermost commits.
func (s *session) commit() error {
	if s.tran.depth == 0 {
		return value.Errorf(3902, "The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION.")
	}
	s.tran.depth--
	if s.tran.depth > 0 {
		return nil
	}
	err := s.commitParts()
	s.of.locks.ReleaseTransaction(s.id)
	if s.out != nil {
		s.out.Committed(s.tran.id)
	}
	return err
}

// rollback ends all levels.
func (s *session) rollback() {
	if s.tran.depth == 0 {
		return
	}
	s.rollbackParts()
	s.tran.depth = 0
	s.of.locks.ReleaseTransaction(s.id)
}

// Transaction does what the client's transaction manager asks for.
func (s *session) Transaction(ctx context.Context, r tds.TransactionRequest, w *tds.Writer) error {
	_, end := s.begin(ctx, w)
	defer end()
	if err := s.dead(); err != nil {
		return err
	}
	switch r.Kind {
	case tds.TransactionBegin:
		s.start(r.Name, false, "")
		return nil
	case tds.TransactionCommit:
		return s.commit()
	case tds.TransactionRollback:
		return s.undo("")
	}
	return unsupported("transaction manager request")
}

// undo is ROLLBACK; a name must be the outermost transaction's.
func (s *session) undo(name string) error {
	if s.tran.depth == 0 {
		return value.Errorf(3903, "The ROLLBACK TRANSACTION request has no corresponding BEGIN TRANSACTION.")
	}
	if name != "" && name != s.tran.name {
		return value.Errorf(6401, "Cannot roll back %s. No transaction or savepoint of that name was found.", name)
	}
	s.rollback()
	if s.out != nil {
		s.out.RolledBack(s.tran.id)
	}
	return nil
}

func (s *session) transactionStatement(ctx context.Context, b *eval.Batch, t *ast.Transaction) error {
	name, err := b.Text(ctx, t.Name)
	if err != nil {
		return err
	}
	switch t.Kind {
	case "BEGIN":
		description, err := b.Text(ctx, t.Description)
		if err == nil {
			s.start(name, t.Mark, description)
		}
		return err
	case "COMMIT":
		return s.commit()
	case "ROLLBACK":
		return s.undo(name)
	}
	return unsupported("SAVE TRANSACTION")
}

// unsupported is SQL Server's word for a statement that this version does not have.
func unsupported(statement string) error {
	return value.Errorf(40510, "Statement '%s' is not supported in this version of SQL Server.", statement)
}
