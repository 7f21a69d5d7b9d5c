package points

import (
	"reflect"
	"testing"
	"time"
	"unsafe"

	"holdfast/repo/ledger"
	"holdfast/repo/recovery"
)

func entryOf(random string, zone *time.Location) Entry {
	sid := ledger.SID{Gen: 3, Src: string([]byte("00000000000000aa")), Rand: random}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, zone)
	return Entry{sid: sid, label: -1, Point: &recovery.Point{
		ID: random, SID: sid.String(), Kind: recovery.SQLLog, Source: string([]byte("sql/db01/sales")), Reason: string([]byte("the log")),
		Time: at, Finished: at.Add(time.Second), Tags: []string{string([]byte("nightly"))}, Items: []recovery.Item{{Name: string([]byte("log"))}},
	}}
}

// TestTextsOfManyPointsAreHeldOnce, and nothing about a point changes by it.
func TestTextsOfManyPointsAreHeldOnce(t *testing.T) {
	w := newWords()
	east := func() *time.Location { return time.FixedZone("", 7200) }
	a, b, c := entryOf("00000000000000b1", east()), entryOf("00000000000000b2", east()), entryOf("00000000000000b3", time.UTC)
	for _, e := range []*Entry{&a, &b, &c} {
		zone := e.Time.Location()
		want := entryOf(e.ID, zone)
		w.share(e)
		if !e.Time.Equal(want.Time) || e.Time.Format(time.RFC3339) != want.Time.Format(time.RFC3339) {
			t.Errorf("time %s became %s", want.Time, e.Time)
		}
		e.Time, e.Finished = want.Time, want.Finished
		if !reflect.DeepEqual(*e, want) {
			t.Errorf("%+v became %+v", want.Point, e.Point)
		}
	}
	shared := func(x, y string) bool { return unsafe.StringData(x) == unsafe.StringData(y) }
	if !shared(a.Source, b.Source) || !shared(a.Items[0].Name, b.Items[0].Name) || !shared(a.Tags[0], b.Tags[0]) || !shared(a.sid.Src, c.sid.Src) {
		t.Error("texts are held twice")
	}
	if !shared(a.ID, a.sid.Rand) || len(w.zones) != 2 {
		t.Errorf("id apart from its session, or %d zones", len(w.zones))
	}
}

// TestTimeKeepsItsOffset on a machine whose own zone has that offset only in winter.
func TestTimeKeepsItsOffset(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zones here: ", err)
	}
	w := newWords()
	for _, want := range []string{"2026-01-10T12:00:00+01:00", "2026-07-10T12:00:00+01:00", "2026-07-10T12:00:00+02:00", "2026-07-10T12:00:00Z"} {
		at, err := time.Parse(time.RFC3339, want)
		if err != nil {
			t.Fatal(err)
		}
		if local := at.In(berlin); local.Format(time.RFC3339) == want {
			at = local // as reading a manifest there gives it
		}
		w.time(&at)
		if got := at.Format(time.RFC3339); got != want {
			t.Errorf("%s became %s", want, got)
		}
	}
}
