package tds

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"time"

	"holdfast/sqlguest/lab/value"
)

// Param is a parameter of a remote procedure call.
type Param struct {
	Name   string // with its @, or "" where parameters go by position
	Type   value.Type
	Value  any
	Output bool
}

// Call is a remote procedure call.
type Call struct {
	// Name is the procedure's name; sp_executesql stands here also when the client
	// called it by its number.
	Name   string
	Params []Param
}

// procedures are those that clients call by number.
var procedures = map[uint16]string{
	10: "sp_executesql", 11: "sp_prepare", 12: "sp_execute", 13: "sp_prepexec", 15: "sp_unprepare",
}

// skipHeaders drops ALL_HEADERS in front of a request.
func skipHeaders(body []byte) ([]byte, error) {
	if len(body) < 4 {
		return nil, fmt.Errorf("request of %d bytes: %w", len(body), errMalformed)
	}
	n := binary.LittleEndian.Uint32(body)
	if n < 4 || uint64(n) > uint64(len(body)) {
		return nil, fmt.Errorf("headers of %d bytes: %w", n, errMalformed)
	}
	return body[n:], nil
}

// parseCall reads an RPC message of one call.
func parseCall(body []byte) (*Call, error) {
	body, err := skipHeaders(body)
	if err != nil {
		return nil, err
	}
	c := &cursor{b: body}
	call := &Call{}
	if n := c.u16(); n == 0xFFFF {
		id := c.u16()
		name, ok := procedures[id]
		if !ok {
			return nil, fmt.Errorf("procedure number %d: %w", id, errMalformed)
		}
		call.Name = name
	} else {
		call.Name = value.FromUTF16(c.take(2 * int(n)))
	}
	c.u16() // option flags
	for len(c.b) > 0 && !c.bad {
		p, err := readParam(c)
		if err != nil {
			return nil, err
		}
		call.Params = append(call.Params, p)
	}
	if c.bad {
		return nil, fmt.Errorf("call of %q: %w", call.Name, errMalformed)
	}
	return call, nil
}

func readParam(c *cursor) (Param, error) {
	p := Param{Name: value.FromUTF16(c.take(2 * int(c.u8())))}
	p.Output = c.u8()&1 != 0
	token := c.u8()
	t, wide, err := readType(c, token)
	if err != nil {
		return p, err
	}
	p.Type = t
	if p.Value, err = readValue(c, token, t, wide); err != nil {
		return p, err
	}
	return p, nil
}

// fixedTypes have no length at all on the wire.
var fixedTypes = map[byte]value.Type{
	typeInt1: {Kind: value.TinyInt}, typeBit: {Kind: value.Bit}, typeInt2: {Kind: value.SmallInt}, typeInt4: {Kind: value.Int},
	typeInt8: {Kind: value.BigInt}, typeReal: {Kind: value.Real}, typeFloat: {Kind: value.Float}, typeMoney: {Kind: value.Money},
	typeDateTime: {Kind: value.DateTime}, typeDateTime4: {Kind: value.SmallDateTime}, typeNull: {Kind: value.Null},
}

// fixedWidths are their sizes.
var fixedWidths = map[byte]int{
	typeInt1: 1, typeBit: 1, typeInt2: 2, typeInt4: 4, typeInt8: 8, typeReal: 4, typeFloat: 8, typeMoney: 8, typeDateTime: 8,
	typeDateTime4: 4, typeNull: 0,
}

// readType reads TYPE_INFO. wide tells that the value comes in parts (PLP).
func readType(c *cursor, token byte) (t value.Type, wide bool, err error) {
	if f, ok := fixedTypes[token]; ok {
		return f, false, nil
	}
	switch token {
	case typeIntN:
		t.Kind = map[byte]value.Kind{1: value.TinyInt, 2: value.SmallInt, 4: value.Int, 8: value.BigInt}[c.u8()]
	case typeBitN:
		c.u8()
		t.Kind = value.Bit
	case typeFloatN:
		t.Kind = value.Float
		if c.u8() == 4 {
			t.Kind = value.Real
		}
	case typeMoneyN:
		c.u8()
		t.Kind = value.Money
	case typeDateTimeN:
		t.Kind = value.DateTime
		if c.u8() == 4 {
			t.Kind = value.SmallDateTime
		}
	case typeGUID:
		c.u8()
		t.Kind = value.UniqueIdentifier
	case typeDateN:
		t.Kind = value.Date
	case typeTimeN, typeDateTime2N, typeDateTimeOffsetN:
		t.Kind = map[byte]value.Kind{typeTimeN: value.Time, typeDateTime2N: value.DateTime2, typeDateTimeOffsetN: value.DateTimeOffset}[token]
		if t.Scale = c.u8(); t.Scale > 7 {
			return t, false, fmt.Errorf("time of scale %d: %w", t.Scale, errMalformed)
		}
	case typeDecimalN, typeNumericN:
		c.u8()
		t.Kind, t.Precision, t.Scale = value.Decimal, c.u8(), c.u8()
		if t.Precision > 38 || t.Scale > t.Precision {
			return t, false, fmt.Errorf("numeric(%d,%d): %w", t.Precision, t.Scale, errMalformed)
		}
	default:
		return readLongType(c, token)
	}
	return t, false, nil
}

// readLongType reads the types whose length has two bytes.
func readLongType(c *cursor, token byte) (t value.Type, wide bool, err error) {
	kinds := map[byte]value.Kind{typeVarBinary: value.VarBinary, typeBinary: value.Binary, typeVarChar: value.VarChar,
		typeChar: value.Char, typeNVarChar: value.NVarChar, typeNChar: value.NChar}
	kind, ok := kinds[token]
	if !ok {
		return t, false, fmt.Errorf("parameter of type %#x: %w", token, errMalformed)
	}
	t.Kind = kind
	n := c.u16()
	t.Size = int(n)
	if n == unlimited {
		t.Size = value.Max
	} else if kind == value.NVarChar || kind == value.NChar {
		t.Size /= 2
	}
	if t.IsText() {
		c.take(5) // collation
	}
	return t, n == unlimited, nil
}

func readValue(c *cursor, token byte, t value.Type, wide bool) (any, error) {
	if width, ok := fixedWidths[token]; ok {
		if token == typeNull {
			return nil, nil
		}
		return decode(t, c.take(width))
	}
	var raw []byte
	switch {
	case wide:
		b, null, err := readParts(c)
		if err != nil || null {
			return nil, err
		}
		raw = b
	case t.IsText() || t.IsBinary():
		n := c.u16()
		if n == noValue {
			return nil, nil
		}
		raw = c.take(int(n))
	default:
		n := c.u8()
		if n == 0 {
			return nil, nil
		}
		raw = c.take(int(n))
	}
	if c.bad {
		return nil, fmt.Errorf("value of type %s: %w", t, errMalformed)
	}
	return decode(t, raw)
}

// readParts reads a value of unknown length in parts (PLP).
func readParts(c *cursor) (b []byte, null bool, err error) {
	if c.u64() == math.MaxUint64 {
		return nil, true, nil
	}
	for !c.bad {
		n := c.u32()
		if n == 0 {
			return b, false, nil
		}
		if uint64(n) > uint64(len(c.b)) {
			break
		}
		b = append(b, c.take(int(n))...)
	}
	return nil, false, fmt.Errorf("value in parts: %w", errMalformed)
}

// decode turns a value's bytes into a Go value.
func decode(t value.Type, b []byte) (any, error) {
	bad := fmt.Errorf("value of type %s in %d bytes: %w", t, len(b), errMalformed)
	switch {
	case t.Kind == value.NVarChar || t.Kind == value.NChar:
		return value.FromUTF16(b), nil
	case t.IsText():
		return latin(b), nil
	case t.IsBinary():
		return append([]byte{}, b...), nil
	case t.IsTime():
		return decodeTime(t, b)
	}
	switch t.Kind {
	case value.Bit:
		if len(b) == 1 {
			return b[0] != 0, nil
		}
	case value.TinyInt, value.SmallInt, value.Int, value.BigInt:
		if len(b) == int(widths[t.Kind]) {
			return decodeInt(b), nil
		}
	case value.Real, value.Float:
		if len(b) == 4 {
			return float64(math.Float32frombits(binary.LittleEndian.Uint32(b))), nil
		}
		if len(b) == 8 {
			return math.Float64frombits(binary.LittleEndian.Uint64(b)), nil
		}
	case value.Money:
		if len(b) == 4 {
			return value.Number{Unscaled: big.NewInt(decodeInt(b)), Scale: 4}, nil
		}
		if len(b) == 8 {
			n := int64(binary.LittleEndian.Uint32(b))<<32 | int64(binary.LittleEndian.Uint32(b[4:]))
			return value.Number{Unscaled: big.NewInt(n), Scale: 4}, nil
		}
	case value.UniqueIdentifier:
		if len(b) == 16 {
			return value.GUID(b).Wire(), nil
		}
	case value.Decimal:
		if len(b) > 1 && len(b) <= 17 {
			return decodeNumber(t, b), nil
		}
	}
	return nil, bad
}

// decodeInt reads a little-endian integer; only the single byte has no sign.
func decodeInt(b []byte) int64 {
	switch len(b) {
	case 1:
		return int64(b[0])
	case 2:
		return int64(int16(binary.LittleEndian.Uint16(b)))
	case 4:
		return int64(int32(binary.LittleEndian.Uint32(b)))
	}
	return int64(binary.LittleEndian.Uint64(b))
}

func decodeNumber(t value.Type, b []byte) value.Number {
	big0 := make([]byte, len(b)-1)
	for i := range big0 {
		big0[len(big0)-1-i] = b[1+i]
	}
	n := new(big.Int).SetBytes(big0)
	if b[0] == 0 {
		n.Neg(n)
	}
	return value.Number{Unscaled: n, Scale: t.Scale}
}

func decodeTime(t value.Type, b []byte) (any, error) {
	bad := fmt.Errorf("%s in %d bytes: %w", t, len(b), errMalformed)
	switch t.Kind {
	case value.DateTime:
		if len(b) != 8 {
			return nil, bad
		}
		ticks := time.Duration(binary.LittleEndian.Uint32(b[4:]))
		at := day1900.AddDate(0, 0, int(int32(binary.LittleEndian.Uint32(b))))
		return value.Truncate(at.Add(ticks*time.Second/300), t), nil
	case value.SmallDateTime:
		if len(b) != 4 {
			return nil, bad
		}
		return day1900.AddDate(0, 0, int(binary.LittleEndian.Uint16(b))).Add(time.Duration(binary.LittleEndian.Uint16(b[2:])) * time.Minute), nil
	}
	clock, day, zone := 0, 0, 0
	if t.Kind != value.Date {
		clock = timeBytes(t.Scale)
	}
	if t.Kind != value.Time {
		day = 3
	}
	if t.Kind == value.DateTimeOffset {
		zone = 2
	}
	if len(b) != clock+day+zone {
		return nil, bad
	}
	units := binary.LittleEndian.Uint64(append(append([]byte{}, b[:clock]...), make([]byte, 8)...))
	at := dayZero
	if day == 0 {
		at = day1900
	} else {
		d := b[clock:]
		at = at.AddDate(0, 0, int(d[0])|int(d[1])<<8|int(d[2])<<16)
	}
	at = at.Add(time.Duration(units * uint64(math.Pow10(9-int(t.Scale)))))
	if zone == 2 {
		minutes := int16(binary.LittleEndian.Uint16(b[clock+day:]))
		at = at.In(time.FixedZone("", int(minutes)*60))
	}
	return at, nil
}

// latin reads one-byte text as Windows-1252 does for everything outside 80-9F.
func latin(b []byte) string {
	r := make([]rune, len(b))
	for i, c := range b {
		r[i] = rune(c)
	}
	return string(r)
}
