package direct

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/golang-sql/sqlexp"
	mssql "github.com/microsoft/go-mssqldb"

	"holdfast/sqlguest/server"
)

// ErrSilent: the connection gave no sign of life when a statement began.
var ErrSilent = errors.New("SQL Server did not answer")

// knock makes SQL Server answer before the statement begins. Without it the driver
// waits for its queue of messages for ever when the connection is lost before the
// first answer, and the first answer of a BACKUP may be hours away. The server sends
// it at once (NOWAIT), in a message that is nobody's.
const knock = "RAISERROR (N'holdfast', 0, 1) WITH NOWAIT;\n"

// knockTimeout is how long that may take.
const knockTimeout = 30 * time.Second

// execute runs a BACKUP or RESTORE to its end, on a connection of its own.
func (s *Server) execute(ctx context.Context, text string, args []server.Arg) (*server.Outcome, error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to SQL Server %s: %w", s.opt.place(), translate(err))
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(knockTimeout, func() { cancel(ErrSilent) })
	defer silence.Stop()
	queue := &sqlexp.ReturnMessage{}
	rows, err := conn.QueryContext(ctx, knock+text, append(named(args), queue)...)
	if err != nil {
		return nil, translate(err)
	}
	defer func() { _ = rows.Close() }()
	c := &conversation{}
	for more := true; more; {
		said := queue.Message(ctx)
		silence.Stop()
		more = c.take(ctx, said, rows)
	}
	c.fail(rows.Err())
	c.fail(context.Cause(ctx))
	return c.end()
}

// conversation is what a batch has said so far.
type conversation struct {
	knocked  bool
	messages []server.Message
	rows     *server.Rows // of the first result
	refused  bool         // an error was among the messages
	broken   error        // what is no message of SQL Server's
}

// take reads one message, and tells whether there is more.
func (c *conversation) take(ctx context.Context, raw sqlexp.RawMessage, rows *sql.Rows) bool {
	switch m := raw.(type) {
	case sqlexp.MsgNotice:
		c.note(m.Message)
	case sqlexp.MsgError:
		c.fail(m.Error)
		// After anything else than an error of SQL Server's the queue stays silent.
		return c.broken == nil
	case sqlexp.MsgNext:
		c.keep(rows)
	case sqlexp.MsgNextResultSet:
		return ctx.Err() == nil && rows.NextResultSet()
	}
	return true
}

// keep keeps the first result and passes over the others.
func (c *conversation) keep(rows *sql.Rows) {
	if c.rows == nil {
		c.rows = &server.Rows{}
		c.fail(read(rows, c.rows))
	}
	for rows.Next() {
	}
}

// note keeps a message that is no error, but for the first, which we asked for.
func (c *conversation) note(m any) {
	e, ok := m.(mssql.Error)
	if !ok {
		return
	}
	if !c.knocked {
		c.knocked = true
		return
	}
	c.messages = append(c.messages, message(e))
}

// fail keeps what went wrong. SQL Server's errors come one by one; the driver's sums
// of them (All) say nothing new.
func (c *conversation) fail(err error) {
	var e mssql.Error
	switch {
	case err == nil:
	case !errors.As(err, &e):
		if c.broken == nil {
			c.broken = err
		}
	case len(e.All) == 0 || !c.refused:
		c.refused = true
		c.messages = append(c.messages, said(e)...)
	}
}

// end is the batch's result. SQL Server's own words go before the driver's.
func (c *conversation) end() (*server.Outcome, error) {
	if c.refused {
		return nil, &server.Error{All: c.messages}
	}
	if c.broken != nil {
		return nil, c.broken
	}
	return &server.Outcome{Messages: c.messages, Rows: c.rows}, nil
}
