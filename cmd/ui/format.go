package ui

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bytes is n in IEC units with three significant digits: 0 B, 1023 B, 1.50 KiB,
// 15.4 MiB, 1023 GiB.
func Bytes(n int64) string {
	if n < 0 {
		if n == -1<<63 {
			return "-8.00 EiB"
		}
		return "-" + Bytes(-n)
	}
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	// 1023.5 would print as 1024: the next unit says it better.
	for value >= 1023.5 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	digits := 0
	switch {
	case value < 9.995:
		digits = 2
	case value < 99.95:
		digits = 1
	}
	return fmt.Sprintf("%.*f %ciB", digits, value, units[unit])
}

const units = "KMGTPE"

// Rate is a throughput, as Bytes a second; "" when no time has passed.
func Rate(n int64, d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return Bytes(int64(float64(n)/d.Seconds())) + "/s"
}

// Duration is d for people: 0.42s, 7.3s, 2m05s, 3h04m, 2d03h.
func Duration(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + Duration(-d)
	case d < time.Second:
		return fmt.Sprintf("%.2fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Truncate(100*time.Millisecond).Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// Clean makes control characters, line separators, direction overrides and
// broken UTF-8 visible as escapes: the name of a VM must not be able to move
// the cursor, colour the screen or fake a line.
func Clean(s string) string {
	if !strings.ContainsFunc(s, unprintable) && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !unprintable(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// unprintable reports what Clean escapes. Joiners (Cf) other than direction
// marks stay: scripts and emoji need them.
func unprintable(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' ||
		r == '\u061c' || r == '\u200e' || r == '\u200f' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
}
