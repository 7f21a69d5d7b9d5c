package stop

import (
	"testing"
	"time"
)

// TestClauses: a name is a literal, however it is written, and times have no offset.
func TestClauses(t *testing.T) {
	noon := time.Date(2026, 3, 2, 12, 0, 0, 30e6, time.UTC)
	for want, s := range map[string]Stop{
		"":                                    {},
		"STOPAT = N'2026-03-02T12:00:00.030'": {At: noon},
		"STOPATMARK = N'it''s'":               {Mark: "it's"},
		"STOPBEFOREMARK = N'lsn:34000000002000001'":          {Mark: "lsn:34000000002000001", Before: true},
		"STOPATMARK = N'm' AFTER N'2026-03-02T12:00:00.030'": {Mark: "m", After: noon},
	} {
		if got := s.String(); got != want || s.IsZero() != (want == "") {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
