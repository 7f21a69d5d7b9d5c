package typed

import (
	"slices"
	"testing"
	"time"
)

func TestSizesAreReadAsWritten(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "512": 512, "128K": 128 << 10, "128k": 128 << 10, " 4MiB ": 4 << 20, "4MB": 4 << 20, "1.5G": 3 << 29, "2T": 2 << 40, "1P": 1 << 50} {
		if got, err := Size(text); err != nil || got != want {
			t.Errorf("%q: %d %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "K", "-1", "4X", "NaN", "1e30", "9999P", "4 M M", "Inf"} {
		if got, err := Size(text); err == nil {
			t.Errorf("%q: %d and no error", text, got)
		}
	}
}

func TestTimesAreReadAsWritten(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	local := func(hour, minute, second int) time.Time {
		return time.Date(2026, 3, 2, hour, minute, second, 0, time.Local)
	}
	for text, want := range map[string]time.Time{
		"": now, "2026-03-01T13:00:00+01:00": now, "2026-03-02": local(0, 0, 0), "2026-03-02 03:04": local(3, 4, 0), "2026-03-02 03:04:05": local(3, 4, 5), "2026-03-02T03:04:05": local(3, 4, 5),
	} {
		if got, err := Time(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"yesterday", "2026-02-30", "12:00", "2026-03-02 25:00"} {
		if got, err := Time(text, now); err == nil {
			t.Errorf("%q: %v and no error", text, got)
		}
	}
}

func TestLengthsOfTimeAreReadAsWritten(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{"0s": 0, "90m": 90 * time.Minute, "24h": day, "7d": 7 * day, "2w": 14 * day, "1.5d": 36 * time.Hour, "1h30m": 90 * time.Minute} {
		if got, err := Age(text); err != nil || got != want {
			t.Errorf("%q: %v %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "soon", "-1h", "-1d", "7", "d", "1d12h", "200000d", "1e9h"} {
		if got, err := Age(text); err == nil {
			t.Errorf("%q: %v and no error", text, got)
		}
	}
}

func FuzzAge(f *testing.F) {
	for _, text := range []string{"24h", "7d", "2w", "1.5d", "", "-1h", "106751d", "106752d", "9999999w"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := Age(text); d < 0 || err != nil && d != 0 {
			t.Errorf("%q: %v %v", text, d, err)
		}
	})
}

func TestTagsAreSortedAndEachStandsOnce(t *testing.T) {
	typed := []string{"b", " a ", "b"}
	got, err := Tags(typed)
	if err != nil || !slices.Equal(got, []string{"a", "b"}) || !slices.Equal(typed, []string{"b", " a ", "b"}) {
		t.Errorf("%q %v, and what was typed is now %q", got, err, typed)
	}
	for _, tag := range []string{"", "  ", "a\nb", "a\x1b"} {
		if _, err := Tags([]string{tag}); err == nil {
			t.Errorf("%q is taken for a tag", tag)
		}
	}
}
