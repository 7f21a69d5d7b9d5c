package ledger

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func drawSID(t *rapid.T) SID {
	hex := rapid.SampledFrom([]string{"0000000000000000", "ffffffffffffffff", "00000000000000aa", "a000000000000000"})
	return SID{
		Gen: rapid.OneOf(rapid.Uint32(), rapid.SampledFrom([]uint32{0, 1, 255, 256, 1<<32 - 1})).Draw(t, "gen"),
		Src: hex.Draw(t, "src"), Rand: rapid.OneOf(hex, rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("%016x", rapid.Uint64().Draw(t, "rand")) })).Draw(t, "hex"),
	}
}

// TestPackedSIDIsTheSID, in the same order, and a pile of them knows what it holds.
func TestPackedSIDIsTheSID(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawSID(t), drawSID(t)
		if a.Pack().SID() != a || (a.Pack() == b.Pack()) != (a == b) {
			t.Fatalf("%s packed is %s", a, a.Pack().SID())
		}
		if got := a.Pack().Compare(b.Pack()); got != strings.Compare(a.String(), b.String()) || got != cmp.Compare(compareSIDs(a, b), 0) {
			t.Fatalf("%s and %s: %d", a, b, got)
		}
		var pile Pile
		var held []SID
		for range rapid.IntRange(0, 6).Draw(t, "held") {
			held = append(held, drawSID(t))
			pile.Add(held[len(held)-1])
		}
		pile.Sort()
		if want := slices.Contains(held, a); pile.Has(a.Pack()) != want {
			t.Fatalf("%v holds %s: %t", held, a, !want)
		}
		for _, sid := range held {
			if !pile.Has(sid.Pack()) {
				t.Fatalf("%v lacks %s", held, sid)
			}
		}
	})
}

// TestPayloadOfAnEntryIsItsJSON, to the byte.
func TestPayloadOfAnEntryIsItsJSON(t *testing.T) {
	for _, e := range []Entry{
		{}, {Version: Version, Horizon: 7, Points: Pile{}}, {Version: Version, Points: PileOf(sidOf(1, 1))},
		{Version: Version, Horizon: 7, Points: PileOf(sidOf(1, 1), sidOf(2, 1)), Runs: []string{`"points":null`}, Open: []Open{{SID: sidOf(3, 3).String()}}},
	} {
		want, err := json.Marshal(&e)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := e.Payload(); err != nil || string(got) != string(want) {
			t.Errorf("%s, want %s, %v", got, want, err)
		}
	}
}

// FuzzPile: a list of sessions is read as a list of texts would be, in whatever
// form it stands, and is written as that.
func FuzzPile(f *testing.F) {
	const one, two = `"0000001f-00000000000000aa-00000000000000b1"`, `"0000001f-00000000000000aa-00000000000000b0"`
	for _, text := range []string{
		`null`, `[]`, `[` + one + `]`, `[` + one + `,` + two + `]`, `[` + one + `, ` + two + `]`, ` [ ` + one + `]`, `[` + strings.ToUpper(one) + `]`, `[` + one + `,]`,
		`["\u0030` + one[2:] + `]`, `["x"]`, `[null]`, `{}`, `[` + one + `;` + two + `]`, `[` + one + `,` + two + `,` + one + `]`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var pile Pile
		var texts []string
		err, asTexts := json.Unmarshal(text, &pile), json.Unmarshal(text, &texts)
		var want []byte
		for _, one := range texts {
			if _, bad := ParseSID(one); bad != nil && asTexts == nil {
				asTexts = bad
			}
		}
		if (err == nil) != (asTexts == nil) || errors.Is(err, ErrName) != errors.Is(asTexts, ErrName) {
			t.Fatalf("%s: %v, and as texts %v", text, err, asTexts)
		}
		if err != nil {
			return
		}
		want, _ = json.Marshal(texts)
		if got, err := json.Marshal(pile); err != nil || string(got) != string(want) {
			t.Fatalf("%s is written as %s, %v", text, got, err)
		}
	})
}
