package cmd

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptJSON checks JSON output:
//
//	json FILE doc CHECK…      FILE holds one document on one line
//	json FILE TYPE CHECK…     FILE holds JSON Lines; the last of message_type TYPE
//	json FILE count TYPE N    so many lines of that type
//	json FILE list CHECK…     the list on the first line, which JSON Lines may follow
//
// FILE is stdout, stderr or a file. A CHECK is PATH OP VALUE without blanks
// round OP. PATH is dotted, with numbers into arrays and len for a length; OP is =
// != < > (numbers), ~ (regular expression), : (type: string bool array object
// integer number time). VALUE is JSON, or else text. $NAME is testscript's.
func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: json FILE doc|count|TYPE CHECK…")
	}
	text := ts.ReadFile(args[0])
	if args[1] == "count" {
		n, err := strconv.Atoi(args[3])
		ts.Check(err)
		if got := len(jsonLines(ts, text, args[2])); got != n {
			ts.Fatalf("%d lines of %s, want %d, in:\n%s", got, args[2], n, text)
		}
		return
	}
	value := jsonValue(ts, text, args[1])
	for _, check := range args[2:] {
		if err := checkJSON(value, check); err != nil {
			ts.Fatalf("%s: %v in:\n%s", check, err, text)
		}
	}
}

// scriptLet puts a field of JSON output into a variable: let VAR FILE doc|TYPE PATH.
func scriptLet(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: let VAR FILE doc|TYPE PATH")
	}
	value, err := walkJSON(jsonValue(ts, ts.ReadFile(args[1]), args[2]), args[3])
	ts.Check(err)
	ts.Setenv(args[0], fmt.Sprint(value))
}

// jsonValue is the one document of text, or the last line of a message_type.
func jsonValue(ts *testscript.TestScript, text, kind string) any {
	if kind == "doc" {
		if strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") {
			ts.Fatalf("not one line:\n%s", text)
		}
		value, err := parseJSON(text)
		if err != nil {
			ts.Fatalf("%v in:\n%s", err, text)
		}
		return value
	}
	if kind == "list" {
		first, _, _ := strings.Cut(text, "\n")
		value, err := parseJSON(first)
		if _, ok := value.([]any); err != nil || !ok {
			ts.Fatalf("no list (%v) on the first line of:\n%s", err, text)
		}
		return value
	}
	lines := jsonLines(ts, text, kind)
	if len(lines) == 0 {
		ts.Fatalf("no line of message_type %s in:\n%s", kind, text)
	}
	return lines[len(lines)-1]
}

// jsonLines are the lines of a message_type. Every line must be an object with
// one, but for a list that may stand before them.
func jsonLines(ts *testscript.TestScript, text, kind string) []any {
	var lines []any
	if strings.HasPrefix(text, "[") {
		_, text, _ = strings.Cut(text, "\n")
	}
	for line := range strings.Lines(text) {
		value, err := parseJSON(line)
		fields, ok := value.(map[string]any)
		if err != nil || !ok {
			ts.Fatalf("no JSON object (%v): %s", err, line)
		}
		found, ok := fields["message_type"].(string)
		if !ok {
			ts.Fatalf("no message_type: %s", line)
		}
		if found == kind {
			lines = append(lines, value)
		}
	}
	return lines
}

// parseJSON keeps numbers as they were written: byte counts are integers.
func parseJSON(text string) (any, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("more than one document")
	}
	return value, nil
}

var checkPattern = regexp.MustCompile(`(?s)^([\w.-]+)(!=|=|<|>|~|:)(.*)$`)

func checkJSON(value any, check string) error {
	m := checkPattern.FindStringSubmatch(check)
	if m == nil {
		return fmt.Errorf("not PATH OP VALUE")
	}
	got, err := walkJSON(value, m[1])
	if err != nil {
		return err
	}
	ok := false
	switch m[2] {
	case "=", "!=":
		want, err := parseJSON(m[3])
		if err != nil {
			want = m[3]
		}
		_, gotText := got.(string)
		_, wantText := want.(string)
		if gotText && !wantText { // an id of digits only is text all the same
			want = m[3]
		}
		ok = reflect.DeepEqual(got, want) == (m[2] == "=")
	case "<", ">":
		x, errX := strconv.ParseFloat(fmt.Sprint(got), 64)
		y, errY := strconv.ParseFloat(m[3], 64)
		ok = errX == nil && errY == nil && (x < y && m[2] == "<" || x > y && m[2] == ">")
	case "~":
		ok = regexp.MustCompile(m[3]).MatchString(fmt.Sprint(got))
	case ":":
		ok = isType(got, m[3])
	}
	if !ok {
		return fmt.Errorf("it is %v (%T)", got, got)
	}
	return nil
}

var timePattern = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$`)

func isType(value any, name string) bool {
	switch v := value.(type) {
	case string:
		return name == "string" || name == "time" && timePattern.MatchString(v)
	case bool:
		return name == "bool"
	case []any:
		return name == "array"
	case map[string]any:
		return name == "object"
	case json.Number:
		_, err := v.Int64()
		return name == "number" || name == "integer" && err == nil
	}
	return false
}

// walkJSON follows a dotted path.
func walkJSON(value any, path string) (any, error) {
	for _, step := range strings.Split(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			inner, ok := v[step]
			if !ok {
				return nil, fmt.Errorf("no field %s", step)
			}
			value = inner
		case []any:
			if step == "len" {
				value = json.Number(strconv.Itoa(len(v)))
				continue
			}
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(v) {
				return nil, fmt.Errorf("no element %s of %d", step, len(v))
			}
			value = v[i]
		default:
			return nil, fmt.Errorf("%s: %v has no parts", step, value)
		}
	}
	return value, nil
}
