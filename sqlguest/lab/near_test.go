package lab

import (
	"testing"

	"holdfast/sqlguest/lab/tsql/eval"
	"holdfast/sqlguest/lab/value"
)

// collected is a Sink that keeps rows and failures.
type collected struct {
	eval.Quiet
	rows [][]any
}

func (c *collected) Row(values []any) { c.rows = append(c.rows, values) }

// TestDeafInstanceHasItsClientsInThisProcess: no port, sessions like any other.
func TestDeafInstanceHasItsClientsInThisProcess(t *testing.T) {
	l := start(t, Options{Deaf: true, Sample: true})
	if l.Address() != "127.0.0.1:0" {
		t.Errorf("it listens on %s", l.Address())
	}
	c := l.Near()
	defer c.Close()
	out := &collected{}
	args := []eval.Argument{{Name: "@id", Value: int64(2), Type: value.TypeOf(int64(2))}}
	if err := c.Run(t.Context(), "SELECT name FROM sales.dbo.customers WHERE id=@id", args, out); err != nil || out.Err != nil {
		t.Fatal(err, out.Err)
	}
	if len(out.rows) != 1 || out.rows[0][0] != "O'Hara" {
		t.Errorf("rows %v", out.rows)
	}
	if n := l.sessions.In("master"); n != 1 {
		t.Errorf("%d sessions in master", n)
	}
	if err := l.StopService(); err != nil {
		t.Fatal(err)
	}
	if err := l.StartService(); err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context(), "SELECT * FROM nowhere", nil, out); err == nil || out.Err == nil {
		t.Error("a table that is not there gives no error")
	}
}
