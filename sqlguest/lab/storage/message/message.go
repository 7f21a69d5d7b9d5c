// Package message is the list of SQL Server's numbered messages that the
// laboratory's storage speaks: number, severity and text, as sys.messages has them.
//
// SQL Server tells a failure in several messages, the cause first and then what
// became of the statement (3013). A *server.Error carries all of them, because that
// is what a driver receives.
package message

import (
	"errors"
	"fmt"

	"holdfast/sqlguest/server"
)

// New makes message number of its arguments. A number that the list lacks gets
// severity 16 and its arguments as text.
func New(number int32, args ...any) server.Message {
	t, ok := texts[number]
	if !ok {
		return server.Message{Number: number, Severity: 16, State: 1, Text: fmt.Sprint(args...)}
	}
	severity := t.severity
	if severity == 0 {
		severity = 16
	}
	return server.Message{Number: number, Severity: severity, State: 1, Text: fmt.Sprintf(t.format, args...)}
}

// Fail is an error of one message.
func Fail(number int32, args ...any) *server.Error {
	return &server.Error{All: []server.Message{New(number, args...)}}
}

// Then adds a message to an error, which 3013 does after every failure of BACKUP
// and RESTORE. An err that is not SQL Server's becomes a message 3271 with its text.
func Then(err error, number int32, args ...any) *server.Error {
	return &server.Error{All: append(Of(err), New(number, args...))}
}

// Of gives an error's messages; an err that is none of SQL Server's is wrapped as
// 3271 (a nonrecoverable I/O error).
func Of(err error) []server.Message {
	var sql *server.Error
	if errors.As(err, &sql) {
		return append([]server.Message(nil), sql.All...)
	}
	return []server.Message{New(3271, err)}
}

// Has tells whether err is SQL Server's and has a message of that number.
func Has(err error, number int32) bool {
	var sql *server.Error
	return errors.As(err, &sql) && sql.Has(number)
}

type text struct {
	severity uint8 // 0 is 16
	format   string
}
