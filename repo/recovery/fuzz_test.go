package recovery_test

import (
	"encoding/json"
	"testing"

	"holdfast/repo/recovery"
)

// FuzzPoint: a manifest of whoever may write. Reading it, listing it and looking
// for its items never panics, and it is written as it was read.
func FuzzPoint(f *testing.F) {
	f.Add([]byte(`{"id":"0123456789abcdef","kind":"vm","source":"vm/web01","time":"2026-03-01T12:00:00+01:00","items":[{"name":"disk-0","bytes":3,"disk":{"bytes":3,"chunk_bytes":65536,"root":"` +
		`0000000000000000000000000000000000000000000000000000000000000000"}},{"name":"t","stream":{"bytes":0}},{"name":"c","inline":"YQ=="}],"attrs":{"a":[1]}}`))
	f.Add([]byte(`{"items":[{}],"source":"/"}`))
	f.Add([]byte(`{"source":"","kind":"log","parent":"x","items":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p := new(recovery.Point)
		if json.Unmarshal(text, p) != nil {
			return
		}
		p.Base()
		p.Disks()
		for _, item := range p.Items {
			if p.Item(item.Name) == nil {
				t.Fatalf("item %q is there and is not found", item.Name)
			}
		}
		points := recovery.BriefsOf([]*recovery.Point{p})
		for _, spec := range []string{"latest", "latest:" + p.Source, p.ID} {
			if found, err := recovery.Find(points, spec); err == nil && found != &points[0] {
				t.Fatalf("%s is another point", spec)
			}
		}
		if b := points[0]; b.ID() != p.ID || b.SID() != p.SID || b.Parent() != p.Parent || b.Base() != p.Base() || !b.Time().Equal(p.Time) || b.Source() != p.Source {
			t.Fatalf("%+v is short for %+v", b, p)
		}
		out, err := json.Marshal(p)
		if err != nil {
			return // a time that has no text; it is never written
		}
		if err := json.Unmarshal(out, new(recovery.Point)); err != nil {
			t.Fatalf("written again as %s: %v", out, err)
		}
	})
}
