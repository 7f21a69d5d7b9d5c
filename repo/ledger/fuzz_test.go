package ledger

import (
	"encoding/json"
	"errors"
	"testing"
)

// FuzzEveryRecord: each kind of record reads back what it was read from, or is
// refused; a newer version is told as such.
func FuzzEveryRecord(f *testing.F) {
	f.Add([]byte(`{"version":1,"host":"h","pid":1,"started":"2026-03-01T12:00:00Z","source":"vm/a"}`))
	f.Add([]byte(`{"version":1,"tags":["a"],"pinned":true}`))
	f.Add([]byte(`{"version":1,"time":"2026-03-01T12:00:00Z","reason":"old"}`))
	f.Add([]byte(`{"version":1,"revoked":{"by":"a","time":"2026-03-01T12:00:00Z"}}`))
	f.Add([]byte(`{"version":1,"point":{"id":"1"}}`))
	f.Add([]byte(`{"version":1,"id":"x","parity":"off","disk_chunk_bytes":-1,"lock":{"mode":"governance","days":-3}}`))
	f.Add([]byte(`{"version":1,"horizon":4294967295,"condemned":[{"since":1,"packs":["data/x"]}],"open":[{}]}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1}{"version":1}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		again[Session](t, payload)
		again[Label](t, payload)
		again[Forget](t, payload)
		again[Slot](t, payload)
		again[Config](t, payload)
		if e := again[Entry](t, payload); e != nil {
			if v, err := NewView(3, e); (v == nil) == (err == nil) {
				t.Fatalf("view %v, %v", v, err)
			}
			e.IsCondemned("data/x")
		}
	})
}

// again decodes, encodes and decodes again; nil if payload was refused.
func again[T any](t *testing.T, payload []byte) *T {
	t.Helper()
	v, err := Decode[T](payload)
	var head struct {
		Version int `json:"version"`
	}
	known := json.Unmarshal(payload, &head) == nil && head.Version == Version
	if err != nil {
		if v != nil || known && errors.Is(err, ErrVersion) {
			t.Fatalf("%T %+v, %v", v, v, err)
		}
		return nil
	}
	if !known {
		t.Fatalf("%T of a version that nobody knows was read", v)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return v // a time that has no text; it is never written
	}
	if _, err := Decode[T](text); err != nil {
		t.Fatalf("%T: written again as %s it is refused: %v", v, text, err)
	}
	return v
}
