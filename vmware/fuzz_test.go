package vmware

import (
	"encoding/json"
	"testing"
)

// FuzzThumbprint: 20 or 32 bytes of hex, however they are set, or a refusal.
func FuzzThumbprint(f *testing.F) {
	f.Add("")
	f.Add("AA:BB")
	f.Add("00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33")
	f.Add("00112233445566778899aabbccddeeff 00112233445566778899aabbccddeeff")
	f.Fuzz(func(t *testing.T, text string) {
		pin, err := parseThumbprint(text)
		if err == nil && text != "" && len(pin) != 20 && len(pin) != 32 || err != nil && pin != nil {
			t.Fatalf("%q: %d bytes, %v", text, len(pin), err)
		}
	})
}

// FuzzVMAttrs: what a point says of its VM, which whoever made the point wrote.
func FuzzVMAttrs(f *testing.F) {
	f.Add([]byte(`{"port_groups":{"a":"b"},"cbt_doubts":{},"tags":["x"]}`))
	f.Add([]byte(`{"cbt_doubts":null,"snapshot":7}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := ParseVMAttrs(text)
		if err != nil {
			return
		}
		out, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseVMAttrs(out); err != nil {
			t.Fatalf("written again as %s: %v", out, err)
		}
	})
}
