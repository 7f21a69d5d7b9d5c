package eval

import "holdfast/sqlguest/lab/value"

// Quiet is a Sink for a batch that nobody listens to: it keeps the first error.
type Quiet struct{ Err error }

// Columns says nothing to anybody.
func (*Quiet) Columns([]value.Column) {}

// Row is not looked at.
func (*Quiet) Row([]any) {}

// Count is not looked at.
func (*Quiet) Count(int64) {}

// Done is not looked at.
func (*Quiet) Done() {}

// Message is not looked at.
func (*Quiet) Message(value.Message) {}

// Failed keeps the first error.
func (c *Quiet) Failed(err error) {
	if c.Err == nil {
		c.Err = err
	}
}
