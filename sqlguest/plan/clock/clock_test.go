package clock_test

import (
	"testing"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/plan/clock"
)

// TestReadingBetweenTwoBackupsOfOneOffsetHasIt: Berlin shows the hour from two to three
// twice on 25 October 2026. The zone alone does not tell which of the two it was; the
// backups on both sides of the reading do. (Found by a history of restores, seed 3024.)
func TestReadingBetweenTwoBackupsOfOneOffsetHasIt(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]int{"first showing": 2 * 3600, "second showing": 3600} {
		zone := time.FixedZone("", o)
		backup := func(minute int) chain.Backup {
			at := time.Date(2026, 10, 25, 2, minute, 0, 0, zone)
			return chain.Backup{State: chain.Confirmed, Header: chain.Header{Started: at, Finished: at.Add(time.Second)}}
		}
		c := clock.New([]chain.Backup{backup(10), backup(50)}, berlin)
		want := time.Date(2026, 10, 25, 2, 30, 0, 0, zone)
		first, last := c.Instants(clock.Wall(want))
		if got := c.Read(clock.Wall(want), true); !got.Instant.Equal(want) || !first.Equal(want) || !last.Equal(want) {
			t.Errorf("%s: read as %s, between %s and %s; want %s", name, got.Instant, first, last, want)
		}
	}
}
