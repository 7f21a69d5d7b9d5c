package facts

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/server"
)

// ErrColumn: a result lacks a column or has a value there that cannot be read.
var ErrColumn = errors.New("unexpected result")

// unknownZone is msdb's time_zone of sets whose server did not say.
const unknownZone = 127

// table reads a result by column names; the first trouble stays in err, so that a
// row is read in one go and judged once.
type table struct {
	rows   *server.Rows
	column map[string]int
	row    []any
	err    error
}

func newTable(rows *server.Rows) *table {
	t := &table{rows: rows, column: map[string]int{}}
	for i, c := range rows.Columns {
		t.column[strings.ToLower(c)] = i
	}
	return t
}

// each calls read for every row and stops at the first trouble.
func (t *table) each(read func()) error {
	for _, t.row = range t.rows.Values {
		if read(); t.err != nil {
			return t.err
		}
	}
	return nil
}

func (t *table) fail(name string, v any, why error) {
	if t.err == nil {
		if why == nil {
			why = ErrColumn
		}
		t.err = fmt.Errorf("read column %s (%T): %w", name, v, why)
	}
}

// has tells whether the result has that column.
func (t *table) has(name string) bool {
	_, ok := t.column[strings.ToLower(name)]
	return ok
}

// value is the row's value in that column, nil for NULL.
func (t *table) value(name string) any {
	i, ok := t.column[strings.ToLower(name)]
	if !ok || i >= len(t.row) {
		t.fail(name, nil, nil)
		return nil
	}
	return t.row[i]
}

// text reads a text; NULL is "".
func (t *table) text(name string) string {
	switch v := t.value(name).(type) {
	case nil:
		return ""
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	default:
		t.fail(name, v, nil)
		return ""
	}
}

// guid reads a GUID as upper-case text; NULL and the GUID of zeros are "".
func (t *table) guid(name string) string {
	return Guid(t.text(name))
}

// Guid brings a GUID's text into the one form that is compared: upper case, without
// braces; the GUID of zeros is "".
func Guid(text string) string {
	g := strings.ToUpper(strings.Trim(text, "{}"))
	if strings.Trim(g, "0-") == "" {
		return ""
	}
	return g
}

// number reads a whole number; NULL is 0. Numbers beyond int64 and those that the
// server calls numeric come as text; a fraction is an error unless it is zero.
func (t *table) number(name string) int64 {
	switch v := t.value(name).(type) {
	case nil:
		return 0
	case int64:
		return v
	case bool:
		if v {
			return 1
		}
		return 0
	case float64:
		if n := int64(v); float64(n) == v {
			return n
		}
		t.fail(name, v, nil)
		return 0
	case string:
		whole, fraction, _ := strings.Cut(v, ".")
		n, err := strconv.ParseInt(whole, 10, 64)
		if err != nil || strings.Trim(fraction, "0") != "" {
			t.fail(name, v, nil)
		}
		return n
	default:
		t.fail(name, v, nil)
		return 0
	}
}

// real reads a number with a fraction; NULL is 0.
func (t *table) real(name string) float64 {
	switch v := t.value(name).(type) {
	case nil:
		return 0
	case float64:
		return v
	case int64:
		return float64(v)
	default:
		t.fail(name, v, nil)
		return 0
	}
}

// maybe reads a whole number that may be NULL.
func (t *table) maybe(name string) *int64 {
	if t.value(name) == nil {
		return nil
	}
	n := t.number(name)
	return &n
}

// yes reads a bit; NULL is false.
func (t *table) yes(name string) bool { return t.number(name) != 0 }

// lsn reads an LSN; NULL is the zero LSN.
func (t *table) lsn(name string) lsn.LSN {
	l, err := lsn.Of(t.value(name))
	if err != nil {
		t.fail(name, t.value(name), err)
	}
	return l
}

// local reads a time without zone as one of that zone; NULL is the zero time.
func (t *table) local(name string, zone *time.Location) time.Time {
	text := t.text(name)
	if text == "" {
		return time.Time{}
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05"} {
		if at, err := time.ParseInLocation(layout, text, zone); err == nil {
			return at
		}
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.fail(name, text, nil)
		return time.Time{}
	}
	// A driver that gives a time of day without zone as UTC means the digits.
	return time.Date(at.Year(), at.Month(), at.Day(), at.Hour(), at.Minute(), at.Second(), at.Nanosecond(), zone)
}

// instant reads a time with offset, which it keeps.
func (t *table) instant(name string) time.Time {
	text := t.text(name)
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.fail(name, text, nil)
		return time.Time{}
	}
	_, offset := at.Zone()
	return at.In(zone(offset))
}

// zone is a fixed offset east of UTC in seconds, the same value for the same offset.
func zone(seconds int) *time.Location {
	if seconds == 0 {
		return time.UTC
	}
	return time.FixedZone("", seconds)
}

// setZone is the zone of a backup set: its quarter hours, or the fallback where those
// are unknown or, as in headers before SQL Server 2022, not told; and whether it is
// the fallback.
func (t *table) setZone(name string, fallback *time.Location) (*time.Location, bool) {
	if !t.has(name) {
		return fallback, true
	}
	if quarters := t.maybe(name); quarters != nil && *quarters != unknownZone {
		return zone(int(*quarters) * 15 * 60), false
	}
	return fallback, true
}
