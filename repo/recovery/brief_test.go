package recovery_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"

	"holdfast/repo/recovery"
)

// TestBriefSaysWhatThePointSays, whatever a manifest of some other writer holds:
// ids that are no ids, zones, tags with any character.
func TestBriefSaysWhatThePointSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var briefer recovery.Briefer
		text := rapid.SampledFrom([]string{"", "x", "3f21a7c000000001", "3f21a7c0000000012", "\x00", "a\x00\x00", "vm/web", "ü,\""})
		for range rapid.IntRange(1, 8).Draw(t, "points") {
			id := text.Draw(t, "id")
			p := &recovery.Point{
				ID: id, SID: rapid.SampledFrom([]string{"", "0000001f-00000000000000aa-"}).Draw(t, "session") + rapid.SampledFrom([]string{id, "y"}).Draw(t, "end"),
				Kind: recovery.Kind(text.Draw(t, "kind")), Source: text.Draw(t, "source"), Identity: text.Draw(t, "identity"), Parent: text.Draw(t, "parent"),
				ReadMode: text.Draw(t, "read"), Consistency: text.Draw(t, "consistency"), BytesTotal: rapid.Int64().Draw(t, "total"), BytesAdded: rapid.Int64().Draw(t, "added"),
				Tags: rapid.SliceOfN(text, 0, 3).Draw(t, "tags"),
				Time: time.Unix(rapid.Int64Range(-1<<35, 1<<37).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).
					In(time.FixedZone("XYZ", 900*rapid.IntRange(-48, 56).Draw(t, "zone"))),
			}
			pinned := rapid.Bool().Draw(t, "pinned")
			b := briefer.Brief(p, pinned)
			for what, same := range map[string]bool{
				"id": b.ID() == p.ID, "sid": b.SID() == p.SID, "parent": b.Parent() == p.Parent, "base": b.Base() == p.Base(), "kind": b.Kind() == p.Kind,
				"source": b.Source() == p.Source, "identity": b.Identity() == p.Identity, "read mode": b.ReadMode() == p.ReadMode, "consistency": b.Consistency() == p.Consistency,
				"sizes": b.BytesTotal == p.BytesTotal && b.BytesAdded == p.BytesAdded, "tags": slices.Equal(b.Tags(), p.Tags), "pinned": b.Pinned == pinned,
				"time": b.Time().Equal(p.Time) && b.Time().Format(time.RFC3339Nano) == p.Time.Format(time.RFC3339Nano),
			} {
				if !same {
					t.Fatalf("another %s: %+v of %+v", what, b, p)
				}
			}
		}
	})
}

// TestTimeOfABriefKeepsItsOffset on a machine whose own zone has that offset only
// in winter.
func TestTimeOfABriefKeepsItsOffset(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zones here: ", err)
	}
	was := time.Local
	time.Local = berlin
	defer func() { time.Local = was }()
	var briefer recovery.Briefer
	for _, text := range []string{`"2026-01-10T12:00:00+01:00"`, `"2026-07-10T12:00:00+01:00"`, `"2026-07-10T12:00:00+02:00"`, `"2026-07-10T12:00:00Z"`} {
		var p recovery.Point
		if err := json.Unmarshal([]byte(text), &p.Time); err != nil {
			t.Fatal(err)
		}
		b := briefer.Brief(&p, false)
		if got, _ := json.Marshal(b.Time()); string(got) != text {
			t.Errorf("%s became %s", text, got)
		}
	}
}

// TestBriefTakesLittle: half a million of them are what a listing holds.
func TestBriefTakesLittle(t *testing.T) {
	if size := unsafe.Sizeof(recovery.Brief{}); size > 72 {
		t.Errorf("a brief takes %d bytes", size)
	}
	points := series("a1 image/a", "b1 image/b", "a2 image/a")
	got := recovery.BriefsOf(points)
	got[0], got[2] = got[2], got[0]
	recovery.SortBriefs(got)
	for i, p := range points {
		if got[i].ID() != p.ID {
			t.Errorf("%d: %s, want %s", i, got[i].ID(), p.ID)
		}
	}
}

// TestAncestorsAreFollowedAsFarAsTheyExist, and a manifest that lies cannot make
// it run for ever.
func TestAncestorsAreFollowedAsFarAsTheyExist(t *testing.T) {
	points := series("a1 vm/a vm", "a2 vm/a vm a1", "b1 vm/b vm a2", "a3 vm/a vm a2-which-is-gone-and-long", "a4 vm/a vm a3", "x1 vm/x vm x2", "x2 vm/x vm x1")
	for of, want := range map[string]string{"a1": "", "b1": "a2 a1", "a3": "", "a4": "a3", "x1": "x2 x1 x2 x1 x2 x1 x2"} {
		p := points[slices.IndexFunc(points, func(p *recovery.Point) bool { return p.ID == of })]
		if got := strings.Join(p.Ancestors(recovery.BriefsOf(points)), " "); got != want {
			t.Errorf("%s: %q, want %q", of, got, want)
		}
	}
}
