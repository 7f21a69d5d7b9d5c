package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/server"
	"holdfast/sqlguest/vdi"
)

// cell is a value of a row or parameter. JSON has one kind of number and no bytes,
// so those two travel as objects: {"float":"1.5"}, {"bytes":"…"}.
type cell struct{ v any }

type marked struct {
	Float *string `json:"float,omitempty"`
	Bytes *[]byte `json:"bytes,omitempty"`
}

// MarshalJSON fails for what server.Rows does not have.
func (c cell) MarshalJSON() ([]byte, error) {
	switch v := c.v.(type) {
	case nil, string, int64, bool:
		return json.Marshal(v)
	case float64:
		text := strconv.FormatFloat(v, 'g', -1, 64)
		return json.Marshal(marked{Float: &text})
	case []byte:
		return json.Marshal(marked{Bytes: &v})
	default:
		return nil, fmt.Errorf("value of kind %T cannot travel", v)
	}
}

// UnmarshalJSON fails for what MarshalJSON cannot have written.
func (c *cell) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		d.DisallowUnknownFields()
		var m marked
		if err := d.Decode(&m); err != nil {
			return err
		}
		return c.unmark(m)
	}
	d.UseNumber()
	if err := d.Decode(&c.v); err != nil {
		return err
	}
	switch v := c.v.(type) {
	case json.Number:
		n, err := v.Int64()
		c.v = n
		return err
	case []any:
		return errors.New("a list is no value")
	}
	return nil
}

func (c *cell) unmark(m marked) (err error) {
	switch {
	case m.Float != nil && m.Bytes == nil:
		c.v, err = strconv.ParseFloat(*m.Float, 64)
	case m.Bytes != nil && m.Float == nil:
		c.v = *m.Bytes
	default:
		err = errors.New("an object is either float or bytes")
	}
	return err
}

// question is a query's request.
type question struct {
	Text string `json:"text"`
	Args []arg  `json:"args,omitempty"`
}

type arg struct {
	Name  string `json:"name"`
	Value cell   `json:"value"`
}

func wireArgs(args []server.Arg) (out []arg) {
	for _, a := range args {
		out = append(out, arg{a.Name, cell{a.Value}})
	}
	return out
}

func serverArgs(args []arg) (out []server.Arg) {
	for _, a := range args {
		out = append(out, server.Arg{Name: a.Name, Value: a.Value.v})
	}
	return out
}

// task is the request of a backup or restore.
type task struct {
	Statement server.Statement `json:"statement"` // without its parameters
	Args      []arg            `json:"args,omitempty"`
	Streams   int              `json:"streams,omitempty"` // of a restore
	Adopt     bool             `json:"adopt,omitempty"`   // a backup whose files an earlier run has left
}

// folder is a staging directory, as in server.Statement.
type folder struct {
	Staging string `json:"staging"`
	Local   string `json:"local"`
}

func newTask(s server.Statement, streams int) task {
	t := task{Statement: s, Args: wireArgs(s.Args), Streams: streams}
	t.Statement.Args = nil
	return t
}

func (t task) statement() server.Statement {
	s := t.Statement
	s.Args = serverArgs(t.Args)
	return s
}

// rows is a query's answer.
type rows struct {
	Columns  []string         `json:"columns"`
	Values   [][]cell         `json:"values"`
	Messages []server.Message `json:"messages,omitempty"`
}

func wireRows(r *server.Rows) *rows {
	out := &rows{Columns: r.Columns, Messages: r.Messages}
	for _, row := range r.Values {
		cells := make([]cell, len(row))
		for i, v := range row {
			cells[i] = cell{v}
		}
		out.Values = append(out.Values, cells)
	}
	return out
}

func (r *rows) server() *server.Rows {
	out := &server.Rows{Columns: r.Columns, Messages: r.Messages}
	for _, cells := range r.Values {
		row := make([]any, len(cells))
		for i, c := range cells {
			row[i] = c.v
		}
		out.Values = append(out.Values, row)
	}
	return out
}

// outcome is what a statement's end is told with.
type outcome struct {
	Messages []server.Message `json:"messages,omitempty"`
	Rows     *rows            `json:"rows,omitempty"`
}

func wireOutcome(o *server.Outcome) *outcome {
	if o == nil {
		return nil
	}
	out := &outcome{Messages: o.Messages}
	if o.Rows != nil {
		out.Rows = wireRows(o.Rows)
	}
	return out
}

func (o *outcome) server() *server.Outcome {
	if o == nil {
		return nil
	}
	out := &server.Outcome{Messages: o.Messages}
	if o.Rows != nil {
		out.Rows = o.Rows.server()
	}
	return out
}

// sentinels are the errors that keep their identity on the way.
var sentinels = map[string]error{
	"no-vdi": server.ErrNoVDI, "aborted": server.ErrAborted, "held": server.ErrHeld, "lock-lost": server.ErrLockLost,
	"unread": vdi.ErrUnread, "not-asked": vdi.ErrNotAsked, "more-data": vdi.ErrMoreData, "unused": vdi.ErrUnused,
	"busy": ErrBusy, "version": ErrVersion, "cut": ErrCut, "staging": direct.ErrStaging, "elsewhere": direct.ErrElsewhere, "no-stager": ErrNoStager, "canceled": context.Canceled, "deadline": context.DeadlineExceeded,
}

// failure is an error on the wire.
type failure struct {
	Text string           `json:"text"`
	Is   []string         `json:"is,omitempty"`
	All  []server.Message `json:"all,omitempty"`  // of a *server.Error
	Kept *direct.Kept     `json:"kept,omitempty"` // a log that is in files now
}

// maxTrailer bounds what a trailer says: HTTP/2 limits headers.
const maxTrailer = 32 << 10

func wireFailure(err error) *failure {
	f := &failure{Text: err.Error()}
	for name, s := range sentinels {
		if errors.Is(err, s) {
			f.Is = append(f.Is, name)
		}
	}
	var refused *server.Error
	if errors.As(err, &refused) {
		f.All = refused.All
	}
	_ = errors.As(err, &f.Kept)
	return f
}

// trailer is the failure in a header's line: JSON without line breaks, all but
// ASCII escaped.
func (f *failure) trailer() string {
	data, err := json.Marshal(f)
	if err != nil || len(data) > maxTrailer {
		data, _ = json.Marshal(failure{Text: "the stream failed", Is: f.Is}) // plain data
	}
	return strconv.QuoteToASCII(string(data))
}

func readTrailer(line string) error {
	text, err := strconv.Unquote(line)
	f := &failure{}
	if err == nil {
		err = json.Unmarshal([]byte(text), f)
	}
	if err != nil {
		return fmt.Errorf("%w: unreadable end of stream", ErrCut)
	}
	return f.err()
}

// err is the error again, with its identity.
func (f *failure) err() error {
	e := &remoteError{text: f.Text}
	if f.All != nil {
		e.causes = append(e.causes, &server.Error{All: f.All})
	}
	if f.Kept != nil {
		e.causes = append(e.causes, f.Kept)
	}
	for _, name := range f.Is {
		if s, ok := sentinels[name]; ok {
			e.causes = append(e.causes, s)
		}
	}
	return e
}

// remoteError is an error that happened beside the SQL Server.
type remoteError struct {
	text   string
	causes []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.causes }

// readJSON reads one value of at most limit bytes.
func readJSON(from io.Reader, limit int64, into any) error {
	data, err := io.ReadAll(io.LimitReader(from, limit+1))
	if err != nil {
		return err
	}
	if int64(len(data)) > limit {
		return fmt.Errorf("message of more than %d bytes", limit)
	}
	return json.Unmarshal(data, into)
}

// reply answers a request: nothing, a value, or an error.
func reply(w http.ResponseWriter, value any, err error) {
	status := http.StatusOK
	if err != nil {
		status, value = http.StatusUnprocessableEntity, wireFailure(err)
	}
	data, encoded := json.Marshal(value)
	if encoded != nil {
		status = http.StatusUnprocessableEntity
		data, _ = json.Marshal(wireFailure(encoded)) // plain data
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(data) // the client is gone: its session ends, too
}
