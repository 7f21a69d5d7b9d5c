package lsn

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseReadsWhatSQLServerShows(t *testing.T) {
	for text, want := range map[string]LSN{
		// The example of Microsoft's "Recover to a log sequence number".
		"15000000040000037":         {15, 400, 37},
		"0000000015000000040000037": {15, 400, 37},
		"37":                        {0, 0, 37},
		"0":                         {},
		"4294967295429496729565535": Max,
		// A VLF for which int64 would have overflowed.
		"92240000000001600001":   {92240, 16, 1},
		"0000002d:00000130:0001": {45, 304, 1},
		"0000002D:00000130:000A": {45, 304, 10},
		"0x2d:130:1":             {45, 304, 1},
		"ffffffff:ffffffff:ffff": Max,
	} {
		got, err := Parse(text)
		if err != nil || got != want {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", text, got, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		"", " ", " 37", "37 ", "+37", "-37", "3.7", "1e5", "NULL", "0x37", "1_0",
		strings.Repeat("1", 26),     // longer than numeric(25,0)
		"4294967296000000000000000", // a VLF that is no uint32
		"1429496729600000",          // a block that is no uint32
		"65536",                     // a slot that is no uint16
		"::", "1:2", "1:2:3:4", "1:2:", "g:1:1", "000000001:1:1", "1:000000001:1", "1:1:00001", "0x0x1:1:1", "+1:1:1",
	} {
		if got, err := Parse(text); !errors.Is(err, ErrFormat) {
			t.Errorf("Parse(%q) = %+v, %v; want ErrFormat", text, got, err)
		}
	}
}

func TestOfKeepsNULL(t *testing.T) {
	for _, c := range []struct {
		in   any
		want LSN
	}{{nil, LSN{}}, {"15000000040000037", LSN{15, 400, 37}}, {[]byte("100005"), LSN{0, 1, 5}}, {int64(37), LSN{0, 0, 37}}} {
		if got, err := Of(c.in); err != nil || got != c.want {
			t.Errorf("Of(%v) = %+v, %v; want %+v", c.in, got, err, c.want)
		}
	}
	for _, wrong := range []any{1.5e16, true, int64(-1), "x", 7} {
		if _, err := Of(wrong); !errors.Is(err, ErrFormat) {
			t.Errorf("Of(%T %v) = %v; want ErrFormat", wrong, wrong, err)
		}
	}
}

func anyLSN() *rapid.Generator[LSN] {
	return rapid.Custom(func(t *rapid.T) LSN {
		return LSN{rapid.Uint32().Draw(t, "vlf"), rapid.Uint32().Draw(t, "block"), rapid.Uint16().Draw(t, "slot")}
	})
}

func TestTextsSortAsLSNsDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyLSN().Draw(t, "a"), anyLSN().Draw(t, "b")
		if got, want := a.Compare(b), strings.Compare(a.String(), b.String()); got != want {
			t.Fatalf("Compare(%v, %v) = %d, texts compare %d", a, b, got, want)
		}
		if got, want := a.Compare(b), strings.Compare(a.Hex(), b.Hex()); got != want {
			t.Fatalf("Compare(%v, %v) = %d, hexadecimal texts compare %d", a, b, got, want)
		}
		if a.Less(b) && b.Less(a) || a.Compare(b) != -b.Compare(a) {
			t.Fatalf("%v and %v are not ordered", a, b)
		}
		for _, text := range []string{a.String(), a.Hex(), strings.TrimLeft(a.String(), "0") + ""} {
			if text == "" {
				continue
			}
			if back, err := Parse(text); err != nil || back != a {
				t.Fatalf("Parse(%q) = %+v, %v; want %+v", text, back, err, a)
			}
		}
	})
}

func TestJSONIsAString(t *testing.T) {
	type row struct {
		L LSN `json:"l,omitzero"`
		M LSN `json:"m"`
	}
	in := row{M: LSN{15, 400, 37}}
	data, err := json.Marshal(in)
	if err != nil || string(data) != `{"m":"0000000015000000040000037"}` {
		t.Fatalf("json = %s, %v", data, err)
	}
	var out row
	if err := json.Unmarshal(data, &out); err != nil || out != in {
		t.Fatalf("back = %+v, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"l":"","m":null}`), &out); err != nil || !out.L.IsZero() {
		t.Fatalf("NULL = %+v, %v", out, err)
	}
	for _, wrong := range []string{`{"m":15000000040000037}`, `{"m":"x"}`} {
		if err := json.Unmarshal([]byte(wrong), &out); err == nil {
			t.Errorf("%s was accepted", wrong)
		}
	}
}

func TestSortByCompare(t *testing.T) {
	got := []LSN{{2, 0, 0}, {1, 9, 9}, {1, 9, 8}, {}, {1, 10, 0}}
	slices.SortFunc(got, LSN.Compare)
	if want := []LSN{{}, {1, 9, 8}, {1, 9, 9}, {1, 10, 0}, {2, 0, 0}}; !slices.Equal(got, want) {
		t.Errorf("sorted = %v", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "0", "15000000040000037", "0000002d:00000130:0001", "0x1:2:3", ":::", "4294967295429496729565535"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := Parse(s)
		if err != nil {
			if !errors.Is(err, ErrFormat) || l != (LSN{}) {
				t.Fatalf("Parse(%q) = %+v, %v", s, l, err)
			}
			return
		}
		if back, err := Parse(l.String()); err != nil || back != l || len(l.String()) != Digits {
			t.Fatalf("%q: %s reads back as %+v, %v", s, l, back, err)
		}
		if back, err := Parse(l.Hex()); err != nil || back != l {
			t.Fatalf("%q: %s reads back as %+v, %v", s, l.Hex(), back, err)
		}
	})
}
