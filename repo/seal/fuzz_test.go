package seal

import (
	"strings"
	"testing"
)

// FuzzKeyFile: what a person typed, or a file that is none. What is accepted is
// the same key however it is written.
func FuzzKeyFile(f *testing.F) {
	text, err := NewKeyFile(strings.NewReader(strings.Repeat("k", KeyBytes)))
	if err != nil {
		f.Fatal(err)
	}
	rows, err := NewSheetKey(strings.NewReader(strings.Repeat("s", KeyBytes)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(strings.Join(rows[:], "\n")))
	f.Add([]byte("row 1: " + strings.ToLower(rows[0]) + "\nrow 2: " + rows[1] + "\n row 3:" + rows[2] + "\nrow 4:" + rows[3]))
	f.Add([]byte(keyFileHead + "AAAA"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseKeyFile(text)
		if err != nil {
			if !s.IsZero() {
				t.Fatal("a key of a text that was refused")
			}
			return
		}
		if len(s.held()) != KeyBytes || !s.IsKeyFile() {
			t.Fatalf("a key of %d bytes", len(s.held()))
		}
		again, err := ParseKeyFile(append([]byte(strings.TrimSpace(string(text))), '\n'))
		if err != nil || string(again.held()) != string(s.held()) {
			t.Fatalf("white space around it makes another key of it: %v", err)
		}
	})
}

// FuzzRing: the ring inside a slot, which whoever made the slot has written.
func FuzzRing(f *testing.F) {
	ring, err := NewRing(strings.NewReader(strings.Repeat("r", 4*KeyBytes)))
	if err != nil {
		f.Fatal(err)
	}
	plain, _, err := ring.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add([]byte(`{"version":1,"id_root":"","epochs":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRing(b)
		if err != nil {
			return
		}
		out, current, err := r.encode()
		if err != nil || current != r.Current() || current < 1 || current > maxEpochs {
			t.Fatalf("epoch %d of %d: %v", current, r.Current(), err)
		}
		again, err := decodeRing(out)
		if err != nil || again.Keys().ID(1, nil) != r.Keys().ID(1, nil) {
			t.Fatalf("what was written again reads otherwise: %v", err)
		}
	})
}
