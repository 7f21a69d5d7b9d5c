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
		return nil, &unbegun{fmt.Errorf("connect to SQL Server %s: %w", s.opt.place(), translate(err))}
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
	c := &conversation{isBackup: isLog(text) || isData(text)}
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
	isBackup bool
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

// What SQL Server says of a BACKUP that it has made, and of a statement that it gives up.
const (
	processed   = 3014
	noHistory   = 3009 // severity 16, and the backup or restore was successful all the same
	terminating = 3013
)

// end is the batch's result. SQL Server's own words go before the driver's; where it was
// cut off before it had said that the statement is over, both stand.
func (c *conversation) end() (*server.Outcome, error) {
	said := &server.Error{All: c.messages}
	switch {
	case c.broken != nil && c.refused && !said.Has(terminating):
		return nil, fmt.Errorf("%w; then: %w", said, c.broken)
	case c.broken != nil && !c.refused:
		return nil, c.broken
	case c.refused && (said.Has(terminating) || !said.Has(noHistory) && !(c.isBackup && said.Has(processed))):
		return nil, said
	}
	return &server.Outcome{Messages: c.messages, Rows: c.rows}, nil
}

// unbegun is why a statement never reached SQL Server.
type unbegun struct{ error }

func (u *unbegun) Unwrap() error { return u.error }

// GaveUp tells whether the error of a BACKUP proves that SQL Server did not make it: it
// said so (3013), to the statement's end, and nothing that it says of a backup that was
// made; or it never heard of the statement. Everything else is doubt: a cut connection,
// above all, beyond which SQL Server may go on, and whatever ends a session (KILL's 596) or
// a batch (1205) without a word about the backup.
func GaveUp(err error) bool {
	var u *unbegun
	if errors.As(err, &u) {
		return true
	}
	var said *server.Error
	if _, mixed := err.(interface{ Unwrap() []error }); mixed || !errors.As(err, &said) { //nolint:errorlint // of this very error
		return false
	}
	return said.Has(terminating) && !said.Has(noHistory) && !said.Has(processed)
}
