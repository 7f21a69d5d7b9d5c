package cbt

import "testing"

// FuzzAttrs: what a point says of changed-block tracking.
func FuzzAttrs(f *testing.F) {
	f.Add([]byte(`{"change_id":"52 de c0 d9/81"}`))
	f.Add([]byte(DiskAttrs{}.JSON()))
	f.Add([]byte(`{"change_id":7}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := ParseAttrs(text)
		if err != nil {
			return
		}
		if again, err := ParseAttrs(a.JSON()); err != nil || string(again.JSON()) != string(a.JSON()) {
			t.Fatalf("written again as %s: %v", a.JSON(), err)
		}
	})
}
