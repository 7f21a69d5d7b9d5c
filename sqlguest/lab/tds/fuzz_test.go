package tds

import (
	"bytes"
	"testing"

	"holdfast/sqlguest/lab/value"
)

func FuzzPackets(f *testing.F) {
	f.Add([]byte{1, 1, 0, 10, 0, 0, 0, 0, 'a', 0})
	f.Add([]byte{1, 0, 0, 8, 0, 0, 0, 0, 1, 1, 0, 9, 0, 0, 0, 0, 7})
	f.Add([]byte{6, 1, 0, 8, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readMessage(bytes.NewReader(b), 1<<16)
		if err == nil && len(m.body) > len(b) {
			t.Fatalf("%d bytes from %d", len(m.body), len(b))
		}
		if err == nil {
			_, _ = clientEncryption(m.body)
			_, _ = parseTransaction(m.body)
		}
	})
}

func FuzzLogin(f *testing.F) {
	b := make([]byte, 120)
	b[0], b[36], b[38] = 120, 94, 4
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := parseLogin(b)
		if err == nil && len(l.User) > len(b)*3 {
			t.Fatalf("a user of %d bytes from %d", len(l.User), len(b))
		}
	})
}

// FuzzCall: what is read as a call can be written as values of its types again.
func FuzzCall(f *testing.F) {
	head := []byte{4, 0, 0, 0, 0xFF, 0xFF, 10, 0, 0, 0}
	f.Add(append(append([]byte{}, head...), 0, 0, typeIntN, 4, 4, 1, 0, 0, 0))
	f.Add(append(append([]byte{}, head...), 0, 1, typeNVarChar, 8, 0, 9, 4, 0xD0, 0, 0x34, 4, 0, 'a', 0, 'b', 0))
	f.Add(append(append([]byte{}, head...), 0, 0, typeNVarChar, 0xFF, 0xFF, 9, 4, 0xD0, 0, 0x34, 0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2, 0, 0, 0, 'a', 0, 0, 0, 0, 0))
	f.Add(append(append([]byte{}, head...), 0, 0, typeNumericN, 17, 25, 0, 5, 1, 1, 2, 3, 4))
	f.Add(append(append([]byte{}, head...), 0, 0, typeDateTimeOffsetN, 7, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCall(b)
		if err != nil {
			return
		}
		for _, p := range c.Params {
			if out := appendValue(nil, p.Type, p.Value); len(out) == 0 {
				t.Fatalf("%s %v is written as nothing", p.Type, p.Value)
			}
			_ = appendType(nil, p.Type)
			_ = value.TypeOf(p.Value)
		}
	})
}
