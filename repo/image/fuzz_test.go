package image

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"holdfast/repo/blob"
)

// nothing has no content, whatever is asked for.
type nothing struct{}

func (nothing) Load(_ context.Context, _ blob.Kind, ids []blob.ID, _ func(int, []byte) error) error {
	if len(ids) > Fanout {
		panic("asked for more than a node's worth at once")
	}
	return errors.New("there is nothing")
}

// FuzzMap: the map in a manifest. What Validate lets through neither panics nor
// asks for more than there can be.
func FuzzMap(f *testing.F) {
	f.Add([]byte(`{"bytes":1073741824,"chunk_bytes":65536,"root":"0000000000000000000000000000000000000000000000000000000000000000"}`), int64(0))
	f.Add([]byte(`{"bytes":9223372036854775807,"chunk_bytes":65536,"root":"01`+"00000000000000000000000000000000000000000000000000000000000000"+`"}`), int64(1<<40))
	f.Add([]byte(`{"bytes":-1,"chunk_bytes":1}`), int64(-1))
	f.Fuzz(func(t *testing.T, text []byte, at int64) {
		var m Map
		if json.Unmarshal(text, &m) != nil || m.Validate() != nil {
			return
		}
		if m.Depth() < 1 || m.Depth() > 10 || m.Chunks() < 0 {
			t.Fatalf("%+v: depth %d, %d chunks", m, m.Depth(), m.Chunks())
		}
		r, err := NewReader(t.Context(), nothing{}, m)
		if err != nil {
			return
		}
		buf := make([]byte, 100)
		n, err := r.ReadAt(buf, at)
		if n == len(buf) && err == nil && m.Root != (blob.ID{}) {
			t.Fatalf("%d bytes were read of a disk whose content is nowhere", n)
		}
	})
}
