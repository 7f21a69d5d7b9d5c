package expr

import (
	"strconv"
	"strings"
	"time"

	"holdfast/sqlguest/lab/value"
)

// TextFunction are the functions of texts. LEN does not count spaces at the end.
func TextFunction(name string) *Function {
	text := []value.Type{Wide}
	switch name {
	case "LEN":
		return Strict(Int, text, func(a []any) (any, error) {
			return int64(len([]rune(strings.TrimRight(a[0].(string), " ")))), nil
		})
	case "DATALENGTH":
		return Strict(Int, []value.Type{Any}, func(a []any) (any, error) { return dataLength(a[0]), nil })
	case "UPPER":
		return Strict(Wide, text, func(a []any) (any, error) { return strings.ToUpper(a[0].(string)), nil })
	case "LOWER":
		return Strict(Wide, text, func(a []any) (any, error) { return strings.ToLower(a[0].(string)), nil })
	case "LTRIM":
		return Strict(Wide, text, func(a []any) (any, error) { return strings.TrimLeft(a[0].(string), " "), nil })
	case "RTRIM":
		return Strict(Wide, text, func(a []any) (any, error) { return strings.TrimRight(a[0].(string), " "), nil })
	case "TRIM":
		return Strict(Wide, text, func(a []any) (any, error) { return strings.Trim(a[0].(string), " "), nil })
	case "REVERSE":
		return Strict(Wide, text, func(a []any) (any, error) {
			r := []rune(a[0].(string))
			for i, j := 0, len(r)-1; i < j; i, j = i+1, j-1 {
				r[i], r[j] = r[j], r[i]
			}
			return string(r), nil
		})
	case "CHAR", "NCHAR":
		return Strict(value.Text(2), []value.Type{Int}, func(a []any) (any, error) { return string(rune(a[0].(int64))), nil })
	case "ASCII", "UNICODE":
		return Strict(Int, text, func(a []any) (any, error) {
			for _, r := range a[0].(string) {
				return int64(r), nil
			}
			return nil, nil
		})
	case "ISNUMERIC":
		return &Function{Type: Int, Min: 1, Max: 1, Types: text, Call: func(a []any) (any, error) {
			s, _ := a[0].(string)
			if _, err := strconv.ParseFloat(strings.TrimSpace(s), 64); err != nil {
				return int64(0), nil
			}
			return int64(1), nil
		}}
	}
	return composeFunction(name)
}

// composeFunction are those that cut texts and put them together.
func composeFunction(name string) *Function {
	switch name {
	case "LEFT", "RIGHT", "SUBSTRING":
		return cutFunction(name)
	case "REPLACE":
		return Strict(Wide, []value.Type{Wide, Wide, Wide}, func(a []any) (any, error) {
			return replaceFold(a[0].(string), a[1].(string), a[2].(string)), nil
		})
	case "CHARINDEX":
		return &Function{Type: Int, Min: 2, Max: 3, Types: []value.Type{Wide, Wide, Int}, Call: charIndex}
	case "REPLICATE":
		return Strict(Wide, []value.Type{Wide, Int}, func(a []any) (any, error) {
			if n := a[1].(int64); n >= 0 && n*int64(len(a[0].(string))) <= 16<<20 {
				return strings.Repeat(a[0].(string), int(n)), nil
			}
			return nil, nil
		})
	case "SPACE":
		return Strict(Wide, []value.Type{Int}, func(a []any) (any, error) {
			return strings.Repeat(" ", int(min(max(a[0].(int64), 0), 8000))), nil
		})
	case "CONCAT":
		return &Function{Type: Wide, Min: 2, Max: 254, Types: manyWide(254), Call: func(a []any) (any, error) {
			s := ""
			for _, v := range a {
				part, _ := v.(string)
				s += part
			}
			return s, nil
		}}
	case "QUOTENAME":
		return &Function{Type: value.Text(258), Min: 1, Max: 2, Types: []value.Type{Wide, Wide}, Call: quoteName}
	}
	return nil
}

func manyWide(n int) []value.Type {
	types := make([]value.Type, n)
	for i := range types {
		types[i] = Wide
	}
	return types
}

func dataLength(v any) int64 {
	switch x := v.(type) {
	case string:
		return int64(len(value.UTF16(x)))
	case []byte:
		return int64(len(x))
	case bool:
		return 1
	case int64:
		if x == int64(int32(x)) {
			return 4
		}
		return 8
	case value.GUID:
		return 16
	}
	return 8
}

// cutFunction is LEFT, RIGHT and SUBSTRING, which counts from 1.
func cutFunction(name string) *Function {
	if name == "SUBSTRING" {
		return Strict(Wide, []value.Type{Wide, BigInt, BigInt}, func(a []any) (any, error) {
			r, start, n := []rune(a[0].(string)), a[1].(int64)-1, a[2].(int64)
			if n < 0 {
				return nil, value.Errorf(537, "Invalid length parameter passed to the LEFT or SUBSTRING function.")
			}
			end := min(start+min(n, int64(len(r))+max(-start, 0)), int64(len(r)))
			start = min(max(start, 0), int64(len(r)))
			return string(r[start:max(end, start)]), nil
		})
	}
	return Strict(Wide, []value.Type{Wide, Int}, func(a []any) (any, error) {
		r, n := []rune(a[0].(string)), int(a[1].(int64))
		if n < 0 {
			return nil, value.Errorf(536, "Invalid length parameter passed to the %s function.", strings.ToLower(name))
		}
		n = min(n, len(r))
		if name == "LEFT" {
			return string(r[:n]), nil
		}
		return string(r[len(r)-n:]), nil
	})
}

// replaceFold replaces without regard to case, as the default collation does.
func replaceFold(s, from, to string) string {
	if from == "" {
		return s
	}
	src, old := []rune(s), []rune(from)
	var out strings.Builder
	for i := 0; i < len(src); {
		if i+len(old) <= len(src) && strings.EqualFold(string(src[i:i+len(old)]), from) {
			out.WriteString(to)
			i += len(old)
			continue
		}
		out.WriteRune(src[i])
		i++
	}
	return out.String()
}

func charIndex(a []any) (any, error) {
	if a[0] == nil || a[1] == nil {
		return nil, nil
	}
	what, in, start := []rune(strings.ToLower(a[0].(string))), []rune(strings.ToLower(a[1].(string))), 0
	if len(a) == 3 && a[2] != nil {
		start = int(max(a[2].(int64)-1, 0))
	}
	for i := start; len(what) > 0 && i+len(what) <= len(in); i++ {
		if string(in[i:i+len(what)]) == string(what) {
			return int64(i + 1), nil
		}
	}
	return int64(0), nil
}

func quoteName(a []any) (any, error) {
	s, ok := a[0].(string)
	if !ok || len([]rune(s)) > 128 {
		return nil, nil
	}
	open, end := "[", "]"
	if len(a) == 2 {
		switch q, _ := a[1].(string); q {
		case "'", `"`, "`":
			open, end = q, q
		case "(", ")":
			open, end = "(", ")"
		case "[", "]":
		default:
			return nil, nil
		}
	}
	return open + strings.ReplaceAll(s, end, end+end) + end, nil
}

// units are the fixed spans of time by their names in T-SQL.
var units = map[string]time.Duration{
	"week": 7 * 24 * time.Hour, "wk": 7 * 24 * time.Hour, "ww": 7 * 24 * time.Hour, "day": 24 * time.Hour, "dd": 24 * time.Hour,
	"d": 24 * time.Hour, "dayofyear": 24 * time.Hour, "hour": time.Hour, "hh": time.Hour, "minute": time.Minute, "mi": time.Minute,
	"n": time.Minute, "second": time.Second, "ss": time.Second, "s": time.Second, "millisecond": time.Millisecond,
	"ms": time.Millisecond, "microsecond": time.Microsecond, "mcs": time.Microsecond, "nanosecond": time.Nanosecond, "ns": time.Nanosecond,
}

// months are the spans of whole months.
var months = map[string]int64{"month": 1, "mm": 1, "m": 1, "quarter": 3, "qq": 3, "q": 3, "year": 12, "yy": 12, "yyyy": 12}

func badPart(part, function string) error {
	return value.Severe(155, 15, "'%s' is not a recognized %s option.", part, function)
}

// DateAdd adds n of a part of time; the last day of a month stays in its month. 155 for an
// unknown part.
func DateAdd(part string, n int64, t time.Time) (time.Time, error) {
	if m := months[part]; m > 0 {
		moved := time.Date(t.Year(), t.Month(), 1, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), t.Location()).AddDate(0, int(n*m), 0)
		last := moved.AddDate(0, 1, -1).Day()
		return moved.AddDate(0, 0, min(t.Day(), last)-1), nil
	}
	unit := units[part]
	if unit == 0 {
		return t, badPart(part, "dateadd")
	}
	if unit >= 24*time.Hour {
		return t.AddDate(0, 0, int(n*int64(unit/(24*time.Hour)))), nil
	}
	perDay := int64(24 * time.Hour / unit)
	return t.AddDate(0, 0, int(n/perDay)).Add(time.Duration(n%perDay) * unit), nil
}

// DateDiff counts the boundaries between two times.
func DateDiff(part string, a, b time.Time) (int64, error) {
	if m := months[part]; m > 0 {
		month := func(t time.Time) int64 { return int64(t.Year())*12 + int64(t.Month()) - 1 }
		return month(b)/m - month(a)/m, nil
	}
	unit := units[part]
	if unit == 0 {
		return 0, badPart(part, "datediff")
	}
	if unit >= time.Second {
		seconds := int64(unit / time.Second)
		floor := func(t time.Time) int64 {
			n := t.Unix() + 62135596800 // from year 1, so that division rounds down
			if seconds == 7*86400 {
				n += 86400 // weeks begin on Sunday; 1 January of year 1 was a Monday
			}
			return n / seconds
		}
		return floor(b) - floor(a), nil
	}
	fine := int64(time.Second / unit)
	tick := func(t time.Time) int64 { return t.Unix()*fine + int64(t.Nanosecond())/int64(unit) }
	return tick(b) - tick(a), nil
}

// DatePart is a part of a time as a number; 155 for an unknown part.
func DatePart(part string, t time.Time) (any, error) {
	parts := map[string]int{
		"year": t.Year(), "yy": t.Year(), "yyyy": t.Year(), "month": int(t.Month()), "mm": int(t.Month()), "m": int(t.Month()),
		"quarter": (int(t.Month()) + 2) / 3, "qq": (int(t.Month()) + 2) / 3, "day": t.Day(), "dd": t.Day(), "d": t.Day(),
		"dayofyear": t.YearDay(), "weekday": int(t.Weekday()) + 1, "dw": int(t.Weekday()) + 1, "hour": t.Hour(), "hh": t.Hour(),
		"minute": t.Minute(), "mi": t.Minute(), "n": t.Minute(), "second": t.Second(), "ss": t.Second(), "s": t.Second(),
		"millisecond": t.Nanosecond() / 1e6, "ms": t.Nanosecond() / 1e6, "microsecond": t.Nanosecond() / 1e3, "nanosecond": t.Nanosecond(),
	}
	n, ok := parts[part]
	if !ok {
		return nil, badPart(part, "datepart")
	}
	return int64(n), nil
}
