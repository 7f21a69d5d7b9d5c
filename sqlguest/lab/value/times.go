package value

import (
	"math"
	"strings"
	"time"
	"unicode/utf16"
)

// UTF16 is text in little-endian UTF-16, as nvarchar is stored and sent.
func UTF16(s string) []byte {
	units := utf16.Encode([]rune(s))
	b := make([]byte, 0, 2*len(units))
	for _, u := range units {
		b = append(b, byte(u), byte(u>>8))
	}
	return b
}

// FromUTF16 reads little-endian UTF-16; an odd last byte is dropped.
func FromUTF16(b []byte) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = uint16(b[2*i]) | uint16(b[2*i+1])<<8
	}
	return string(utf16.Decode(units))
}

// layouts are the written forms of times that are read, the longest first. The
// fraction is read wherever seconds are.
var layouts = []string{
	"2006-01-02T15:04:05Z07:00", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 Z07:00", "2006-01-02T15:04:05 -07:00", "2006-01-02 15:04:05 -07:00",
	"2006-01-02 15:04 -07:00",
	"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02",
	"20060102 15:04:05", "20060102 15:04", "20060102", "15:04:05", "15:04",
	"Jan _2 2006 3:04PM", "Jan 2 2006 3:04PM", "Jan _2 2006 3:04:05PM", "Jan 2 2006 3:04:05PM", "2006/01/02 15:04:05", "2006/01/02",
	"01/02/2006 15:04:05", "01/02/2006 3:04:05 PM", "01/02/2006",
}

// ParseTime reads a time as SQL Server with us_english does. zoned tells whether
// the text names an offset.
func ParseTime(s string) (t time.Time, zoned, ok bool) {
	s = strings.Join(strings.Fields(s), " ")
	if s == "" {
		return time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC), false, true
	}
	for i, layout := range layouts {
		t, err := time.Parse(layout, s)
		if err != nil {
			continue
		}
		if t.Year() == 0 { // a time of day alone is one of 1 January 1900
			t = t.AddDate(1900, 0, 0)
		}
		return t, i < 6, true
	}
	return time.Time{}, false, false
}

func toTime(v any, from, to Type, style int) (any, error) {
	var t time.Time
	switch x := v.(type) {
	case time.Time:
		t = x
	case string:
		parsed, zoned, ok := ParseTime(x)
		if !ok || zoned && (to.Kind == DateTime || to.Kind == SmallDateTime) && style != 127 {
			return nil, Errorf(241, "Conversion failed when converting date and/or time from character string.")
		}
		if zoned && style == 127 && to.Kind != DateTimeOffset {
			parsed = parsed.UTC()
		}
		t = parsed
	case int64:
		if to.Kind != DateTime && to.Kind != SmallDateTime {
			return nil, notAllowed(from, to)
		}
		t = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, int(x))
	case float64:
		t = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(x * float64(24*time.Hour)))
	default:
		return nil, notAllowed(from, to)
	}
	if to.Kind != DateTimeOffset {
		t = time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
	}
	if to.Kind == DateTime && t.Year() < 1753 || t.Year() < 1 || t.Year() > 9999 {
		return nil, Errorf(242, "The conversion of a %s data type to a %s data type resulted in an out-of-range value.", from.Name(), to.Name())
	}
	return Truncate(t, to), nil
}

// Truncate rounds a time to what a column of that type can hold: datetime to 1/300 s,
// datetime2 to its scale, smalldatetime to the minute, date to the day.
func Truncate(t time.Time, to Type) time.Time {
	switch to.Kind {
	case Date:
		return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
	case SmallDateTime:
		return t.Round(time.Minute)
	case DateTime:
		day := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, t.Location())
		ticks := math.Round(float64(t.Sub(day)) * 300 / float64(time.Second))
		millis := math.Round(ticks * 10 / 3)
		return day.Add(time.Duration(millis) * time.Millisecond)
	case Time, DateTime2, DateTimeOffset:
		unit := time.Duration(math.Pow10(9 - int(min(to.Scale, 7))))
		t = t.Round(unit)
		if to.Kind == Time {
			return time.Date(1900, 1, 1, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
		}
	}
	return t
}

// writeTime is a time as CONVERT writes it; styles without a rule of their own here
// are written in ISO form.
func writeTime(t time.Time, from Type, style int) (string, error) {
	fraction := ""
	if n := int(from.Scale); n > 0 && (from.Kind == DateTime2 || from.Kind == DateTimeOffset || from.Kind == Time) {
		fraction = "." + strings.Repeat("0", n)
	}
	if from.Kind == DateTime {
		fraction = ".000"
	}
	switch {
	case from.Kind == Date || style == 23:
		if style == 112 {
			return t.Format("20060102"), nil
		}
		return t.Format("2006-01-02"), nil
	case style == 112:
		return t.Format("20060102"), nil
	case style == 108 || style == 8:
		return t.Format("15:04:05"), nil
	case style == 114 || style == 14:
		return t.Format("15:04:05.000"), nil
	case from.Kind == Time:
		return t.Format("15:04:05" + fraction), nil
	case style == 120 || style == 20:
		return t.Format("2006-01-02 15:04:05"), nil
	case style == 126:
		return isoTime(t, from, fraction, "-07:00"), nil
	case style == 127:
		return isoTime(t.UTC(), from, fraction, "Z07:00"), nil
	case from.Kind == DateTimeOffset:
		return t.Format("2006-01-02 15:04:05" + fraction + " -07:00"), nil
	case (style == 0 || style == 100) && (from.Kind == DateTime || from.Kind == SmallDateTime):
		return t.Format("Jan _2 2006 ") + padHour(t.Format("3:04PM")), nil
	}
	return t.Format("2006-01-02 15:04:05" + fraction), nil
}

// isoTime is ISO 8601 with a T; datetime drops a fraction of zero.
func isoTime(t time.Time, from Type, fraction, zone string) string {
	if from.Kind == DateTime && t.Nanosecond() == 0 {
		fraction = ""
	}
	if from.Kind != DateTimeOffset {
		zone = ""
	}
	return t.Format("2006-01-02T15:04:05" + fraction + zone)
}

func padHour(s string) string {
	if len(s) == len("3:04PM") {
		return " " + s
	}
	return s
}
