package value

import (
	"fmt"
	"strings"
)

// Message is one message or error of the server's, as a client gets to see it.
type Message struct {
	Number int32
	State  uint8
	Class  uint8 // the severity: 10 and less is information
	Text   string
	Line   int32
	Proc   string
}

// Error is a statement's failure: its messages in order, the cause first.
type Error struct{ All []Message }

// Error writes the messages as SQL Server's clients do.
func (e *Error) Error() string {
	parts := make([]string, 0, len(e.All))
	for _, m := range e.All {
		parts = append(parts, fmt.Sprintf("Msg %d, Level %d, State %d: %s", m.Number, m.Class, m.State, m.Text))
	}
	return strings.Join(parts, "; ")
}

// Errorf makes an error of severity 16 with that number.
func Errorf(number int32, format string, args ...any) *Error {
	return Severe(number, 16, format, args...)
}

// Severe makes an error of that number and severity.
func Severe(number int32, class uint8, format string, args ...any) *Error {
	return &Error{All: []Message{{Number: number, State: 1, Class: class, Text: fmt.Sprintf(format, args...)}}}
}
