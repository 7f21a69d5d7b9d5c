package trial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/lab/tsql/eval"
	"holdfast/sqlguest/lab/value"
	"holdfast/sqlguest/server"
	"holdfast/sqlguest/vdi"
)

// near is a SQL Server without the wire: statements go straight to the laboratory's
// sessions, virtual devices through its hub. A login over TLS for every question would
// cost more than everything else together; what is not asked often goes by the wire.
type near struct {
	lab *lab.Lab
	hub *bridge.Hub
}

var _ server.Server = (*near)(nil)

// heard is what a batch said: a Sink.
type heard struct {
	rows     server.Rows
	results  int
	columns  []value.Column
	messages []server.Message
	failed   []server.Message
}

func (h *heard) Columns(columns []value.Column) {
	h.columns = columns
	h.results++
	if h.results > 1 {
		return
	}
	for _, c := range columns {
		h.rows.Columns = append(h.rows.Columns, c.Name)
	}
}

func (h *heard) Row(values []any) {
	if h.results > 1 {
		return
	}
	row := make([]any, len(values))
	for i, v := range values {
		row[i] = plain(v, h.columns[i].Type)
	}
	h.rows.Values = append(h.rows.Values, row)
}

func (h *heard) Count(int64) {}
func (h *heard) Done()       {}

func said(m value.Message) server.Message {
	return server.Message{Number: m.Number, Severity: m.Class, State: m.State, Text: m.Text}
}

func (h *heard) Message(m value.Message) { h.messages = append(h.messages, said(m)) }

func (h *heard) Failed(err error) {
	var e *value.Error
	if !errors.As(err, &e) {
		h.failed = append(h.failed, server.Message{Number: 50000, Severity: 20, Text: err.Error()})
		return
	}
	for _, m := range e.All {
		h.failed = append(h.failed, said(m))
	}
}

// plain brings a value into the kinds that server.Rows has.
func plain(v any, t value.Type) any {
	switch x := v.(type) {
	case value.GUID:
		return x.String()
	case value.Number:
		return x.String()
	case time.Time:
		if t.Kind == value.DateTimeOffset {
			return x.Format(time.RFC3339Nano)
		}
		return x.Format("2006-01-02T15:04:05.999999999")
	}
	return v
}

// run runs a batch on a session of its own.
func (n *near) run(ctx context.Context, text string, args []server.Arg) (*heard, error) {
	c := n.lab.Near()
	defer c.Close()
	return say(ctx, c.Run, text, args)
}

func say(ctx context.Context, run func(context.Context, string, []eval.Argument, eval.Sink) error, text string, args []server.Arg) (*heard, error) {
	h := &heard{}
	var list []eval.Argument
	for _, a := range args {
		t := value.Text(4000)
		if a.Value != nil {
			t = value.TypeOf(a.Value)
		}
		if t.Kind == value.NVarChar || t.Kind == value.VarChar {
			t = value.Text(4000)
		}
		list = append(list, eval.Argument{Name: "@" + a.Name, Value: a.Value, Type: t})
	}
	err := run(ctx, text, list, h)
	if len(h.failed) > 0 {
		return nil, &server.Error{All: h.failed}
	}
	if err != nil {
		return nil, err
	}
	return h, nil
}

func (n *near) Query(ctx context.Context, text string, args ...server.Arg) (*server.Rows, error) {
	h, err := n.run(ctx, text, args)
	if err != nil {
		return nil, fmt.Errorf("run query: %w", err)
	}
	return &h.rows, nil
}

func (n *near) statement(st server.Statement, names []string) vdi.Statement {
	text := strings.NewReplacer("%%", "%", "%s", vdi.Clause(names)).Replace(st.Text)
	return func(ctx context.Context) (*server.Outcome, error) {
		h, err := n.run(ctx, text, st.Args)
		if err != nil {
			return nil, err
		}
		return h.outcome(), nil
	}
}

// outcome is what a statement said that succeeded, with its first result.
func (h *heard) outcome() *server.Outcome {
	o := &server.Outcome{Messages: h.messages}
	if h.results > 0 {
		o.Rows = &h.rows
	}
	return o
}

// Host is a machine that has the interface.
func (n *near) Host(context.Context) (*server.Host, error) {
	return &server.Host{System: "windows", Architecture: "amd64", Name: "LAB", Elevated: true, HasVDI: true}, nil
}

// Close has nothing to end.
func (n *near) Close() error { return nil }

func (n *near) Backup(ctx context.Context, st server.Statement) (server.Backup, error) {
	set, err := n.hub.OpenSet(vdi.SetOptions{Name: st.Name, Devices: st.Devices})
	if err != nil {
		return nil, err
	}
	names := vdi.Names(st.Name, st.Devices)
	saving, err := vdi.Save(ctx, set, names, n.statement(st, names), vdi.Options{})
	if err != nil {
		return nil, err
	}
	return saving, nil
}

func (n *near) Restore(ctx context.Context, st server.Statement, streams []io.Reader) (*server.Outcome, error) {
	if len(streams) == 0 {
		h, err := n.run(ctx, st.Text, st.Args)
		if err != nil {
			return nil, fmt.Errorf("restore: %w", err)
		}
		return h.outcome(), nil
	}
	set, err := n.hub.OpenSet(vdi.SetOptions{Name: st.Name, Devices: len(streams)})
	if err != nil {
		return nil, err
	}
	names := vdi.Names(st.Name, len(streams))
	return vdi.Load(ctx, set, names, streams, n.statement(st, names), vdi.Options{})
}

// Held says yes: a connection of the laboratory's own is never lost.
func (n *near) Held(context.Context, string) error { return nil }

// Hold takes the application lock as package direct does.
func (n *near) Hold(ctx context.Context, name string) (func() error, error) {
	c := n.lab.Near()
	h, err := say(ctx, c.Run, `DECLARE @result int;
EXEC @result = sp_getapplock @Resource = @name, @LockMode = N'Exclusive', @LockOwner = N'Session', @LockTimeout = 0;
SELECT @result AS result;`, []server.Arg{{Name: "name", Value: name}})
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("hold lock %s: %w", name, err)
	}
	if len(h.rows.Values) != 1 || h.rows.Values[0][0] == int64(-1) {
		c.Close()
		return nil, fmt.Errorf("hold lock %s: %w", name, server.ErrHeld)
	}
	return func() error { c.Close(); return nil }, nil
}
