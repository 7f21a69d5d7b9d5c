package eval

import (
	"fmt"
	"strings"
)

// format writes RAISERROR's and sprintf-like texts: %s %d %i %u %x %%, with widths.
func format(text string, args []any) string {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' || i+1 == len(text) {
			out.WriteByte(text[i])
			continue
		}
		j := i + 1
		for j < len(text) && strings.IndexByte("-+ #0123456789.*lhI", text[j]) >= 0 {
			j++
		}
		if j == len(text) {
			out.WriteString(text[i:])
			break
		}
		verb := text[j]
		if verb == '%' {
			out.WriteByte('%')
		} else if len(args) > 0 {
			out.WriteString(verbText(strings.Trim(text[i+1:j], "lhI64"), verb, args[0]))
			args = args[1:]
		} else {
			out.WriteString("(null)")
		}
		i = j
	}
	return out.String()
}

func verbText(flags string, verb byte, v any) string {
	if v == nil {
		return "(null)"
	}
	if verb == 'i' || verb == 'u' {
		verb = 'd'
	}
	if n, ok := v.(int64); ok && verb != 's' {
		return fmt.Sprintf("%"+flags+string(verb), n)
	}
	return fmt.Sprintf("%"+flags+"v", v)
}
