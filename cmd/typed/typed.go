// Package typed reads what operators write for sizes, moments, lengths of time and
// tags: 128K, 2026-03-01 12:00, 7d. What cannot be read is a settings.Usagef
// error that shows how to write it.
package typed

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"holdfast/cmd/settings"
)

// Size reads a size as operators write it: 128K, 4M, 1.5G, 512 (bytes).
// Units are powers of 1024; iB and B behind them are allowed.
func Size(text string) (int64, error) {
	number := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(strings.TrimSpace(text)), "B"), "I")
	factor := 1.0
	if n := len(number); n > 0 {
		if i := strings.IndexByte("KMGTP", number[n-1]); i >= 0 {
			factor, number = math.Pow(1024, float64(i+1)), number[:n-1]
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || v < 0 || math.IsNaN(v) || v*factor > math.MaxInt64/2 {
		return 0, settings.Usagef("write it like 128K, 4M or 1.5G", "%q is no size", text)
	}
	return int64(v * factor), nil
}

// Time reads a moment: RFC 3339, or local date and time. "" is now.
func Time(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return now, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, settings.Usagef("write it like 2026-03-01T12:00:00+01:00 or 2026-03-01 12:00:00 (local)", "%q is no time", text)
}

// Age reads a length of time, 0 or more: 24h, 90m, 7d, 2w.
func Age(text string) (time.Duration, error) {
	scale := time.Duration(1)
	number := text
	for unit, hours := range map[string]time.Duration{"d": 24, "w": 7 * 24} {
		if cut, ok := strings.CutSuffix(text, unit); ok {
			scale, number = hours, cut+"h"
		}
	}
	d, err := time.ParseDuration(number)
	if err != nil || d < 0 || d > math.MaxInt64/scale {
		return 0, settings.Usagef("write it like 24h, 90m, 7d or 2w", "%q is no length of time", text)
	}
	return d * scale, nil
}

// Tags sorts the tags that were typed and refuses those nobody could type again.
func Tags(tags []string) ([]string, error) {
	tags = slices.Clone(tags)
	for i, tag := range tags {
		tags[i] = strings.TrimSpace(tag)
		if tags[i] == "" || strings.ContainsFunc(tags[i], unicode.IsControl) {
			return nil, settings.Usagef("some letters or digits", "%q is no tag", tag)
		}
	}
	slices.Sort(tags)
	return slices.Compact(tags), nil
}
