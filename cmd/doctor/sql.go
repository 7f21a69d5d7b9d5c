package doctor

import (
	"context"
	"errors"
	"fmt"

	"holdfast/cmd/database"
	"holdfast/sqlguest/agent/check"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/server"
)

// SQL looks at a SQL Server that is reached without an agent.
func (r *Report) SQL(ctx context.Context, l database.Login, request decide.Request) {
	s, err := database.Connect(ctx, l)
	if err != nil {
		r.fail(SQL, "Q5-sql-login", "SQL login", err)
		return
	}
	defer s.Close() //nolint:errcheck // nothing of ours is left in a connection
	r.server(ctx, s, request)
	host, err := s.Host(ctx)
	if err != nil {
		r.fail(SQL, "sql-transport", "way of the data", err)
		return
	}
	line := check.Line{ID: "sql-transport", Name: "way of the data", Detail: "through virtual devices",
		Remedy: "run beside the SQL Server on Windows, or with --staging SERVERPATH=LOCALPATH"}
	switch {
	case host.HasVDI:
	case s.Beside():
		line.Detail = "through files in the server's backup directory: " + host.WhyNoVDI
	default:
		line.Detail = "none but a directory that both reach (--staging): " + host.WhyNoVDI
	}
	r.add(SQL, line.When(host.HasVDI || s.Beside(), check.Warning))
}

// server looks at a SQL Server, wherever it is.
func (r *Report) server(ctx context.Context, s server.Server, request decide.Request) {
	if _, err := s.Query(ctx, "SELECT 1 AS one"); err != nil {
		var said *server.Error
		switch {
		case errors.As(err, &said) && said.Has(18456):
			err = fmt.Errorf("%w: %w", database.ErrLogin, err)
		case ctx.Err() == nil:
			err = fmt.Errorf("%w: %w", database.ErrUnreachable, err)
		}
		r.fail(SQL, "Q5-sql-login", "SQL login", err)
		return
	}
	r.add(SQL, ok("Q5-sql-login", "SQL login", "SQL Server lets us in"))
	r.add(SQL, check.SQL(ctx, s, check.SQLOptions{Request: request})...)
}
