// Package server is what the rest of the driver asks of one SQL Server: to answer
// a query, to hand out a backup as streams, to take a restore from streams.
//
// Two packages do it: direct, beside the SQL Server, and agent, from afar through
// a program in the guest. Nobody else can tell them apart.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrNoVDI: this machine has no Virtual Device Interface that could be used
// (another system, or no SQL Server's client library is installed).
var ErrNoVDI = errors.New("the Virtual Device Interface is not available")

// ErrAborted: the backup or restore was given up by our side; SQL Server was told
// so and has changed nothing that a backup changes.
var ErrAborted = errors.New("backup aborted")

// ErrUntold: whoever ran the backup is gone, and nobody can tell what became of it.
var ErrUntold = errors.New("nobody is there to tell what became of the backup")

// Server is one SQL Server with one login. Its methods may be called at once; each
// call has a connection of its own, in master, with no transaction open.
type Server interface {
	// Query runs one statement and returns all rows of its first result. A
	// failure of SQL Server's is a *Error.
	Query(ctx context.Context, text string, args ...Arg) (*Rows, error)
	// Backup begins a BACKUP statement; see Backup. Statement.Text has one %s
	// where its devices belong.
	Backup(ctx context.Context, s Statement) (Backup, error)
	// Restore runs a RESTORE statement that reads the streams, one a device, in
	// the order in which the backup had them. Statement.Text as for Backup; without
	// streams it has no %s and is run as it is.
	Restore(ctx context.Context, s Statement, streams []io.Reader) (*Outcome, error)
	// Hold takes the application lock of that name on a session of its own
	// (sp_getapplock, exclusive, no waiting) until release is called or ctx ends.
	// ErrHeld if somebody has it.
	Hold(ctx context.Context, name string) (release func() error, err error)
	// Held asks the session that holds the lock of that name whether it still does. A
	// session can die while everything else goes on: ErrLockLost then, and when nobody
	// holds the lock through this Server.
	Held(ctx context.Context, name string) error
	// Host says what the machine is and what Backup and Restore can use.
	Host(ctx context.Context) (*Host, error)
	Close() error
}

// ErrHeld: another run holds the lock.
var ErrHeld = errors.New("lock is held by another run")

// ErrLockLost: the session that held the lock has ended before it was released, so
// that somebody else may have had it.
var ErrLockLost = errors.New("the lock was lost while it was held")

// Statement is a BACKUP or RESTORE.
type Statement struct {
	Text string `json:"text"`
	Args []Arg  `json:"args,omitempty"`
	// Name is the devices' name: a GUID in braces, fresh for every statement. The
	// first device has it, the others have a number appended.
	Name string `json:"name"`
	// Devices is how many streams there are, 1 to 64.
	Devices int `json:"devices"`
	// Transport is VDI or Disk.
	Transport string `json:"transport"`
	// Staging is the server's directory for files; "" is the instance's default
	// backup directory. Local is the same directory as our side sees it, if it is
	// not on this machine under the same name.
	Staging string `json:"staging,omitempty"`
	Local   string `json:"local,omitempty"`
}

// Transports of streams.
const (
	VDI  = "vdi"
	Disk = "disk" // files in a directory that both sides reach
)

// Backup is a BACKUP statement under way. Exactly one of Commit and Abort ends it.
type Backup interface {
	// Streams are the devices' bytes. Each ends with io.EOF once SQL Server has
	// handed out everything and waits for our word; every other end is an error,
	// and then the statement has failed or will.
	Streams() []io.ReadCloser
	// Commit says that every byte is durable and waits for SQL Server's verdict.
	// An error means that SQL Server says the backup failed, or that nobody knows.
	Commit(ctx context.Context) (*Outcome, error)
	// Abort makes the statement fail and waits until it has. After Commit it does
	// nothing. ErrUntold if nobody was there to say so.
	Abort(ctx context.Context) error
}

// Outcome is what SQL Server said while it ran a statement that succeeded.
type Outcome struct {
	Messages []Message `json:"messages,omitempty"`
	// Rows are the statement's first result, nil if it has none: RESTORE HEADERONLY and
	// FILELISTONLY have one.
	Rows *Rows `json:"rows,omitempty"`
}

// Has tells whether a message of that number was among them.
func (o *Outcome) Has(number int32) bool {
	if o == nil {
		return false
	}
	for _, m := range o.Messages {
		if m.Number == number {
			return true
		}
	}
	return false
}

// Message is one message or error of SQL Server's, with its number.
type Message struct {
	Number   int32  `json:"number"`
	Severity uint8  `json:"severity"` // 10 and less is information
	State    uint8  `json:"state"`
	Text     string `json:"text"`
}

// Error is a statement that SQL Server refused or gave up: all its messages, in
// order. The last is often just 3013, the cause stands before it.
type Error struct {
	All []Message `json:"all"`
}

// Error names the first message of an error's severity, which is the cause.
func (e *Error) Error() string {
	var parts []string
	for _, m := range e.All {
		if m.Severity > 10 && m.Number != 3013 {
			parts = append(parts, fmt.Sprintf("%s (SQL Server error %d)", strings.TrimSpace(m.Text), m.Number))
		}
	}
	if len(parts) == 0 && len(e.All) > 0 {
		m := e.All[len(e.All)-1]
		return fmt.Sprintf("%s (SQL Server error %d)", strings.TrimSpace(m.Text), m.Number)
	}
	return strings.Join(parts, "; ")
}

// Has tells whether an error of that number was among the messages.
func (e *Error) Has(number int32) bool { return (&Outcome{Messages: e.All}).Has(number) }

// Arg is a named parameter: @Name in the text. Value is nil, string, int64, bool
// or []byte; times and LSNs travel as strings that the statement converts.
type Arg struct {
	Name  string `json:"name"`
	Value any    `json:"value"`
}

// Rows is a result. A value is nil, string, int64, float64, bool or []byte: text,
// numbers beyond int64, GUIDs (as 8-4-4-4-12 in upper case) and times (RFC 3339,
// without zone if the column has none) are strings.
type Rows struct {
	Columns  []string  `json:"columns"`
	Values   [][]any   `json:"values"`
	Messages []Message `json:"messages,omitempty"`
}

// Host is the machine beside the SQL Server.
type Host struct {
	System       string `json:"system"` // windows or linux
	Architecture string `json:"architecture"`
	Name         string `json:"name"`
	Elevated     bool   `json:"elevated"` // may use global kernel objects; always true where there is no such thing
	HasVDI       bool   `json:"has_vdi"`
	// Others are the addresses of further SQL Servers of the machine that were meant,
	// too: each is opened for itself.
	Others []string `json:"others,omitempty"`
	// SystemDrive is where Windows itself lies, "C:".
	SystemDrive string `json:"system_drive,omitempty"`
	// WhyNoVDI is a sentence.
	WhyNoVDI string `json:"why_no_vdi,omitempty"`
}
