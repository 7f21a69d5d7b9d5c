package ledger

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"slices"
)

// Packed is a SID in 20 bytes: generation, source, random, big-endian, so that the
// order of bytes is the order of SIDs and of their texts. It is for where there are
// hundreds of thousands; two strings and what they point to take six times as much.
type Packed [4 + srcDigits/2 + randDigits/2]byte

// Pack is s in 20 bytes. s is one that ParseSID gives: what has no right length
// packs to something that is no session of anybody's.
func (s SID) Pack() (p Packed) {
	binary.BigEndian.PutUint32(p[:], s.Gen)
	if len(s.Src) == srcDigits && len(s.Rand) == randDigits {
		_, _ = hex.Decode(p[4:], []byte(s.Src))
		_, _ = hex.Decode(p[4+srcDigits/2:], []byte(s.Rand))
	}
	return p
}

// SID is what was packed.
func (p Packed) SID() SID {
	return SID{Gen: p.Gen(), Src: p.Src(), Rand: p.Rand()}
}

// Src names the SID's source.
func (p Packed) Src() string { return hex.EncodeToString(p[4 : 4+srcDigits/2]) }

// Gen is the SID's generation.
func (p Packed) Gen() uint32 { return binary.BigEndian.Uint32(p[:]) }

// Rand is the id of the session's point.
func (p Packed) Rand() string { return hex.EncodeToString(p[genDigits/2+srcDigits/2:]) }

// Compare orders as SIDs are ordered.
func (p Packed) Compare(q Packed) int { return bytes.Compare(p[:], q[:]) }

// Pile is a set of sessions, 20 bytes each. Add them, then Sort it once, then ask.
// In JSON it is a list of their texts.
type Pile []Packed

// PileOf is a sorted pile.
func PileOf(sids ...SID) Pile {
	var p Pile
	for _, sid := range sids {
		p.Add(sid)
	}
	p.Sort()
	return p
}

// Add takes one in; after it the pile is not sorted.
func (p *Pile) Add(sid SID) { *p = append(*p, sid.Pack()) }

// Sort puts the pile in order and removes what is twice.
func (p *Pile) Sort() {
	if !slices.IsSortedFunc(*p, Packed.Compare) {
		slices.SortFunc(*p, Packed.Compare)
	}
	*p = slices.Compact(*p)
}

// Has reports whether sid is in the sorted pile.
func (p Pile) Has(sid Packed) bool {
	_, found := slices.BinarySearchFunc(p, sid, Packed.Compare)
	return found
}

// MarshalJSON writes the list, in the pile's order; of a nil pile null.
func (p Pile) MarshalJSON() ([]byte, error) {
	if p == nil {
		return []byte("null"), nil
	}
	return p.appendList(make([]byte, 0, len("[]")+p.textBytes())), nil
}

// appendList writes the list, of a nil pile the empty one.
func (p Pile) appendList(text []byte) []byte {
	text = append(text, '[')
	for i, sid := range p {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, '"')
		text = sid.append(text)
		text = append(text, '"')
	}
	return append(text, ']')
}

// textBytes is what the pile takes in JSON, but for the brackets.
func (p Pile) textBytes() int { return len(p) * (sidLength + nameExtra) }

// append writes the text of the SID.
func (p Packed) append(to []byte) []byte {
	const gen, src = genDigits / 2, genDigits/2 + srcDigits/2
	to = append(hex.AppendEncode(to, p[:gen]), '-')
	to = append(hex.AppendEncode(to, p[gen:src]), '-')
	return hex.AppendEncode(to, p[src:])
}

// UnmarshalJSON reads what MarshalJSON writes, in its order, and any other form of
// the same list. A text that is no session id is ErrName: to pass over it would
// make a point void.
func (p *Pile) UnmarshalJSON(text []byte) error {
	if found, ok := readPile(text); ok {
		*p = found
		return nil
	}
	var texts []string
	if err := json.Unmarshal(text, &texts); err != nil {
		return err
	}
	if *p = nil; texts != nil {
		*p = make(Pile, 0, len(texts))
	}
	for _, t := range texts {
		sid, err := ParseSID(t)
		if err != nil {
			return err
		}
		p.Add(sid)
	}
	return nil
}

// readPile reads the very form that MarshalJSON writes: a million names are not
// to be a million strings first.
func readPile(text []byte) (Pile, bool) {
	const each = sidLength + nameExtra // "…",
	inner, ok := bytes.CutPrefix(text, []byte("["))
	if !ok || len(inner) == 0 || len(inner)%each != 0 { // the last comma is the bracket
		return nil, false
	}
	found := make(Pile, len(inner)/each)
	for i := range found {
		name, end := inner[i*each:(i+1)*each], byte(',')
		if i == len(found)-1 {
			end = ']'
		}
		if name[0] != '"' || name[each-2] != '"' || name[each-1] != end || !found[i].read(name[1:1+sidLength]) {
			return nil, false
		}
	}
	return found, true
}

// read reads what append writes.
func (p *Packed) read(text []byte) bool {
	const gen, src = genDigits, genDigits + 1 + srcDigits
	if text[gen] != '-' || text[src] != '-' || bytes.ContainsAny(text, "ABCDEF") {
		return false
	}
	for _, part := range []struct{ to, from []byte }{{p[:4], text[:gen]}, {p[4:12], text[gen+1 : src]}, {p[12:], text[src+1:]}} {
		if _, err := hex.Decode(part.to, part.from); err != nil {
			return false
		}
	}
	return true
}
