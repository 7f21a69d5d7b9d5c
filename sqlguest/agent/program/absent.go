package program

import (
	"context"
	"io"

	"holdfast/sqlguest/server"
)

// absent is a SQL Server that could not be logged in to: every request tells why.
type absent struct{ why error }

func (a absent) Query(context.Context, string, ...server.Arg) (*server.Rows, error) {
	return nil, a.why
}

func (a absent) Backup(context.Context, server.Statement) (server.Backup, error) { return nil, a.why }

func (a absent) Restore(context.Context, server.Statement, []io.Reader) (*server.Outcome, error) {
	return nil, a.why
}

func (a absent) Hold(context.Context, string) (func() error, error) { return nil, a.why }
func (a absent) Held(context.Context, string) error                 { return a.why }
func (a absent) Host(context.Context) (*server.Host, error)         { return nil, a.why }
func (a absent) Close() error                                       { return nil }
