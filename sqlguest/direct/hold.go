package direct

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"holdfast/sqlguest/server"
)

// lockText tells sp_getapplock's result: 0 and 1 are granted, -1 is held by another
// session.
const lockText = `DECLARE @result int;
EXEC @result = sp_getapplock @Resource = @name, @LockMode = N'Exclusive', @LockOwner = N'Session', @LockTimeout = 0;
SELECT @result AS result;`

// Hold takes the lock of that name (255 characters at most) on a connection that
// serves nothing else. The server lets go of it when that connection ends, however
// that happens. The lock belongs to the database master.
func (s *Server) Hold(ctx context.Context, name string) (func() error, error) {
	db := sql.OpenDB(s.connector)
	conn, err := db.Conn(ctx)
	if err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("connect to SQL Server %s: %w", s.opt.place(), translate(err))
	}
	h := &held{name: name, db: db, conn: conn}
	if err := h.take(ctx); err != nil {
		_ = h.drop()
		return nil, fmt.Errorf("hold lock %s: %w", name, err)
	}
	s.held.Store(name, h)
	end := func(how func() error) {
		h.once.Do(func() { s.held.CompareAndDelete(name, h); h.err = how() })
	}
	stop := context.AfterFunc(ctx, func() { end(h.drop) })
	return func() error {
		stop()
		end(h.release)
		return h.err
	}, nil
}

// Held asks the session of the lock of that name. The lock is the session's and nothing
// but its release takes it away before the session ends, so that it is held as long as
// the session answers. A connection is never made anew behind its back.
func (s *Server) Held(ctx context.Context, name string) error {
	h, ok := s.held.Load(name)
	if !ok {
		return fmt.Errorf("lock %s: %w", name, server.ErrLockLost)
	}
	if _, err := ask(ctx, h.(*held).conn, "SELECT @@SPID AS session", nil); err != nil && ctx.Err() == nil {
		return fmt.Errorf("lock %s: %w: %w", name, server.ErrLockLost, err)
	}
	return ctx.Err()
}

// held is a lock that is held.
type held struct {
	name string
	db   *sql.DB
	conn *sql.Conn
	once sync.Once
	err  error
}

func (h *held) take(ctx context.Context) error {
	rows, err := ask(ctx, h.conn, lockText, []server.Arg{{Name: "name", Value: h.name}})
	if err != nil {
		return err
	}
	if len(rows.Values) != 1 || len(rows.Values[0]) != 1 {
		return fmt.Errorf("sp_getapplock gave no result")
	}
	switch result := rows.Values[0][0]; result {
	case int64(0), int64(1):
		return nil
	case int64(-1):
		return server.ErrHeld
	default:
		return fmt.Errorf("sp_getapplock said %v", result)
	}
}

// release gives the lock back by its own procedure, which fails if the session does
// not have it any more.
func (h *held) release() error {
	text := "EXEC sp_releaseapplock @Resource = @name, @LockOwner = N'Session';"
	limit, cancel := context.WithTimeout(context.Background(), loginTimeout) // ctx may be over
	defer cancel()
	_, err := ask(limit, h.conn, text, []server.Arg{{Name: "name", Value: h.name}})
	if dropped := h.drop(); err == nil {
		return dropped
	}
	return fmt.Errorf("release lock %s: %w: %w", h.name, server.ErrLockLost, err)
}

// drop ends the session, and the lock with it.
func (h *held) drop() error {
	if err := errors.Join(h.conn.Close(), h.db.Close()); err != nil {
		return fmt.Errorf("end the session of lock %s: %w", h.name, err)
	}
	return nil
}
