package direct

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	mssql "github.com/microsoft/go-mssqldb"

	"holdfast/sqlguest/server"
)

// Query runs one statement and returns its first result. It has no messages: the
// driver tells them only in the way that execute takes, which is not as safe.
func (s *Server) Query(ctx context.Context, text string, args ...server.Arg) (*server.Rows, error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to SQL Server %s: %w", s.opt.place(), translate(err))
	}
	defer func() { _ = conn.Close() }()
	rows, err := ask(ctx, conn, text, args)
	if err != nil {
		return nil, fmt.Errorf("run query: %w", err)
	}
	return rows, nil
}

// ask runs a batch to its end and keeps the first result's rows.
func ask(ctx context.Context, conn *sql.Conn, text string, args []server.Arg) (*server.Rows, error) {
	rows, err := conn.QueryContext(ctx, text, named(args)...)
	if err != nil {
		return nil, translate(err)
	}
	defer func() { _ = rows.Close() }()
	out := &server.Rows{}
	if err := read(rows, out); err != nil {
		return nil, translate(err)
	}
	for rows.NextResultSet() { // an error may come after the first result
		for rows.Next() {
		}
	}
	if err := rows.Err(); err != nil {
		return nil, translate(err)
	}
	return out, nil
}

func named(args []server.Arg) []any {
	var out []any
	for _, a := range args {
		out = append(out, sql.Named(a.Name, a.Value))
	}
	return out
}

// read takes the rows of the result that is open.
func read(rows *sql.Rows, out *server.Rows) error {
	kinds, err := rows.ColumnTypes()
	if err != nil {
		return err
	}
	for _, k := range kinds {
		out.Columns = append(out.Columns, k.Name())
	}
	for rows.Next() {
		values, into := make([]any, len(kinds)), make([]any, len(kinds))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		for i, k := range kinds {
			values[i] = convert(values[i], k.DatabaseTypeName())
		}
		out.Values = append(out.Values, values)
	}
	return rows.Err()
}

// convert brings a value of the driver's into the few kinds that server.Rows has.
func convert(v any, kind string) any {
	switch v := v.(type) {
	case time.Time:
		return timeText(v, kind)
	case []byte:
		switch strings.ToUpper(kind) {
		case "DECIMAL", "NUMERIC", "MONEY", "SMALLMONEY":
			return string(v)
		case "UNIQUEIDENTIFIER":
			var g mssql.UniqueIdentifier
			if g.Scan(v) == nil {
				return strings.ToUpper(g.String())
			}
		}
		return append([]byte{}, v...)
	case mssql.UniqueIdentifier:
		return strings.ToUpper(v.String())
	case float32:
		return float64(v)
	case int:
		return int64(v)
	case int32:
		return int64(v)
	}
	return v
}

// timeText is a time as text: with a zone only where the column has one.
func timeText(at time.Time, kind string) string {
	switch strings.ToUpper(kind) {
	case "DATETIMEOFFSET":
		return at.Format(time.RFC3339Nano)
	case "DATE":
		return at.Format(time.DateOnly)
	case "TIME":
		return at.Format("15:04:05.999999999")
	}
	return at.Format("2006-01-02T15:04:05.999999999")
}

func message(e mssql.Error) server.Message {
	return server.Message{Number: e.Number, Severity: e.Class, State: e.State, Text: e.Message}
}

// said are an error's messages, one or all.
func said(e mssql.Error) (all []server.Message) {
	for _, one := range e.All {
		all = append(all, message(one))
	}
	if len(e.All) == 0 {
		all = append(all, message(e))
	}
	return all
}

// translate turns an error of SQL Server's into a *server.Error; others stay.
func translate(err error) error {
	var e mssql.Error
	if !errors.As(err, &e) {
		return err
	}
	return &server.Error{All: said(e)}
}
