package typed

import (
	"strconv"
	"testing"
	"time"
)

// FuzzSize: a size is refused or within what arithmetic on it bears.
func FuzzSize(f *testing.F) {
	for _, text := range []string{"128K", "1.5GiB", " 4 m", "-1", "1e300P", "NaN", "Inf", "0x1p3K", "9223372036854775807", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := Size(text)
		if n < 0 || n > 1<<62 || err != nil && n != 0 {
			t.Fatalf("%q is %d bytes, %v", text, n, err)
		}
		if again, err2 := Size(strconv.FormatInt(n, 10)); err == nil && n < 1<<53 && (err2 != nil || again != n) {
			t.Fatalf("%d bytes read back as %d, %v", n, again, err2)
		}
	})
}

// FuzzTime: a moment is refused, or the same when it is typed again.
func FuzzTime(f *testing.F) {
	for _, text := range []string{"2026-03-01T12:00:00+01:00", "2026-03-01 12:00", "2026-02-30", "", "0000-01-01", "9999-12-31T23:59:60Z"} {
		f.Add(text)
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		at, err := Time(text, now)
		if err != nil {
			if !at.IsZero() {
				t.Fatalf("%q is refused and yet %v", text, at)
			}
			return
		}
		if written, err := at.MarshalText(); err == nil { // years beyond four digits have no such text
			if again, err := Time(string(written), now); err != nil || !again.Equal(at) && at.Nanosecond() == 0 {
				t.Fatalf("%q reads as %v, and %s as %v, %v", text, at, written, again, err)
			}
		}
	})
}
