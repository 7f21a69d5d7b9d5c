package sqlcmd

import (
	"testing"
	"time"
)

// TestAMomentKeepsItsFraction: a mark's time is told alike by the server's clock and as an
// instant.
func TestAMomentKeepsItsFraction(t *testing.T) {
	at := time.Date(2026, 11, 22, 13, 34, 53, 7e8, time.FixedZone("", 3600))
	for got, want := range map[string]string{
		clock(at): "2026-11-22 13:34:53.7 +01:00", instant(at): "2026-11-22T12:34:53.7Z",
		instant(at.Truncate(time.Second)): "2026-11-22T12:34:53Z",
	} {
		if got != want {
			t.Errorf("%s; want %s", got, want)
		}
	}
}
