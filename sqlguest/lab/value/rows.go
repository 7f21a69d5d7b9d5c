package value

import (
	"fmt"
	"strings"
)

// Order compares two values of one type with NULL first.
func Order(a, b any) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return -1
	case b == nil:
		return 1
	}
	return Compare(a, b)
}

// Key is a text that equal rows share.
func Key(row []any) string {
	var b strings.Builder
	for _, v := range row {
		switch x := v.(type) {
		case string:
			fmt.Fprintf(&b, "s%q,", Fold(x))
		case Number:
			fmt.Fprintf(&b, "n%s,", x.Rat().RatString())
		default:
			fmt.Fprintf(&b, "%T%v,", v, v)
		}
	}
	return b.String()
}
