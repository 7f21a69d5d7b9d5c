package ui

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
)

// writeBytes is how much of a long result is gathered before it is written.
const writeBytes = 64 << 10

// object is an event: the fields of value behind a message_type.
type object struct {
	kind  string
	value any // a struct or a map with string keys
}

type message struct {
	Message string `json:"message"`
}

type problem struct {
	Item    string `json:"item"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

type failure struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// failed is a failure with what scripts want to know of it beside the words.
type failed struct {
	failure
	more map[string]any
}

// MarshalJSON puts the words first.
func (f failed) MarshalJSON() ([]byte, error) {
	line, err := marshal(f.failure)
	if err != nil || len(f.more) == 0 {
		return line, err
	}
	more, err := marshal(f.more)
	if err != nil {
		return nil, err
	}
	return append(append(line[:len(line)-1], ','), more[1:]...), nil
}

// MarshalJSON puts message_type first, where a person reading the lines looks.
func (o object) MarshalJSON() ([]byte, error) {
	body, err := marshal(o.value)
	if err != nil {
		return nil, err
	}
	if len(body) < 2 || body[0] != '{' {
		return nil, fmt.Errorf("encode %s: not an object", o.kind)
	}
	head := fmt.Appendf(nil, `{"message_type":%q`, o.kind)
	if body[1] != '}' {
		head = append(head, ',')
	}
	return append(head, body[1:]...), nil
}

// marshal is json.Marshal without HTML escapes: paths and names keep & < >.
func marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(buf.Bytes(), "\n"), nil
}

// encode gives the line of a value that is ours to shape. A value that cannot
// be encoded is a bug, so it becomes a line that says so, not silence.
func encode(v any) []byte {
	line, err := marshal(v)
	if err != nil {
		line, _ = marshal(object{"error", message{err.Error()}})
	}
	return append(line, '\n')
}

// Stream declares a long run: from here Out holds JSON Lines, warnings among
// them, when JSON was asked for. In text it changes nothing.
func (t *Terminal) Stream() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stream = true
}

// Result writes a list or a single result as one JSON document on one line; in
// text it writes nothing. A nil slice is the empty list, never null.
func (t *Terminal) Result(v any) error {
	if !t.opt.JSON {
		return nil
	}
	line := []byte("[]")
	if rv := reflect.ValueOf(v); rv.Kind() != reflect.Slice || !rv.IsNil() {
		var err error
		if line, err = marshal(v); err != nil {
			return fmt.Errorf("encode result: %w", err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, err := t.writeOut(append(line, '\n'))
	return err
}

// List is Result of a list of n, of which one element at a time is made and
// written: what is printed may be larger than what is held.
func (t *Terminal) List(n int, element func(i int) any) error {
	if !t.opt.JSON {
		return nil
	}
	out := bufio.NewWriterSize(t.Out(), writeBytes)
	_ = out.WriteByte('[') // Flush tells
	for i := range n {
		text, err := marshal(element(i))
		if err != nil {
			return fmt.Errorf("encode result: %w", err)
		}
		if i > 0 {
			_ = out.WriteByte(',')
		}
		if _, err := out.Write(text); err != nil {
			return err
		}
	}
	_, _ = out.WriteString("]\n")
	return out.Flush()
}

// Event writes one line of a long run: value's fields behind message_type kind
// (status, skipped, summary). value must encode to an object. In text it writes
// nothing.
func (t *Terminal) Event(kind string, value any) {
	if !t.opt.JSON {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = t.writeOut(encode(object{kind, value}))
}

// OrEmpty makes an empty list of a nil one: JSON shows [] instead of null.
func OrEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
