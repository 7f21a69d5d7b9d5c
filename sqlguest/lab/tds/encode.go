package tds

import (
	"encoding/binary"
	"math"
	"math/big"
	"time"

	"holdfast/sqlguest/lab/value"
)

// Type tokens.
const (
	typeNull, typeGUID, typeIntN, typeDateN, typeTimeN, typeDateTime2N, typeDateTimeOffsetN = 0x1F, 0x24, 0x26, 0x28, 0x29, 0x2A, 0x2B
	typeInt1, typeBit, typeInt2, typeInt4, typeDateTime4, typeReal, typeMoney, typeDateTime = 0x30, 0x32, 0x34, 0x38, 0x3A, 0x3B, 0x3C, 0x3D
	typeFloat, typeVariant, typeBitN, typeDecimalN, typeNumericN, typeFloatN, typeMoneyN    = 0x3E, 0x62, 0x68, 0x6A, 0x6C, 0x6D, 0x6E
	typeDateTimeN, typeMoney4, typeInt8                                                     = 0x6F, 0x7A, 0x7F
	typeVarBinary, typeVarChar, typeBinary, typeChar, typeNVarChar, typeNChar, typeXML      = 0xA5, 0xA7, 0xAD, 0xAF, 0xE7, 0xEF, 0xF1
)

const (
	unlimited = 0xFFFF // the length that announces varchar(max) and its like
	noValue   = 0xFFFF // NULL in types with a length of two bytes
)

// widths are the sizes of integers.
var widths = map[value.Kind]byte{value.TinyInt: 1, value.SmallInt: 2, value.Int: 4, value.BigInt: 8, value.Null: 4}

// appendType writes TYPE_INFO.
func appendType(b []byte, t value.Type) []byte {
	switch t.Kind {
	case value.Bit, value.Boolean:
		return append(b, typeBitN, 1)
	case value.TinyInt, value.SmallInt, value.Int, value.BigInt, value.Null:
		return append(b, typeIntN, widths[t.Kind])
	case value.Real:
		return append(b, typeFloatN, 4)
	case value.Float:
		return append(b, typeFloatN, 8)
	case value.Decimal:
		return append(b, typeNumericN, 17, t.Precision, t.Scale)
	case value.Money:
		return append(b, typeMoneyN, 8)
	case value.UniqueIdentifier:
		return append(b, typeGUID, 16)
	case value.Date:
		return append(b, typeDateN)
	case value.Time:
		return append(b, typeTimeN, t.Scale)
	case value.DateTime2:
		return append(b, typeDateTime2N, t.Scale)
	case value.DateTimeOffset:
		return append(b, typeDateTimeOffsetN, t.Scale)
	case value.DateTime:
		return append(b, typeDateTimeN, 8)
	case value.SmallDateTime:
		return append(b, typeDateTimeN, 4)
	case value.Binary:
		return binary.LittleEndian.AppendUint16(append(b, typeBinary), wireSize(t, 1))
	case value.VarBinary:
		return binary.LittleEndian.AppendUint16(append(b, typeVarBinary), wireSize(t, 1))
	case value.Variant:
		return binary.LittleEndian.AppendUint32(append(b, typeVariant), 8009)
	case value.Char, value.NChar:
		b = binary.LittleEndian.AppendUint16(append(b, typeNChar), wireSize(t, 2))
	default:
		// varchar travels as nvarchar: the laboratory keeps all text in Unicode.
		b = binary.LittleEndian.AppendUint16(append(b, typeNVarChar), wireSize(t, 2))
	}
	return append(b, collation...)
}

// wireSize is a size in bytes; what exceeds a row's limit of 8,000 is sent as (max).
func wireSize(t value.Type, unit int) uint16 {
	n := max(t.Size, 1) * unit
	if t.Size == value.Max || n > 8000 {
		return unlimited
	}
	return uint16(n)
}

// appendValue writes a value of the announced type; nil is NULL.
func appendValue(b []byte, t value.Type, v any) []byte {
	switch t.Kind {
	case value.VarChar, value.NVarChar, value.Char, value.NChar:
		return appendBytes(b, wireSize(t, 2), v)
	case value.Binary, value.VarBinary:
		return appendBytes(b, wireSize(t, 1), v)
	case value.Variant:
		return appendVariant(b, v)
	}
	if v == nil {
		return append(b, 0)
	}
	body := fixed(t, v)
	return append(append(b, byte(len(body))), body...)
}

// appendBytes writes text or bytes: with a length of two bytes, or in parts (PLP)
// for (max).
func appendBytes(b []byte, size uint16, v any) []byte {
	var body []byte
	switch x := v.(type) {
	case string:
		body = value.UTF16(x)
	case []byte:
		body = x
	}
	if size != unlimited {
		if v == nil {
			return binary.LittleEndian.AppendUint16(b, noValue)
		}
		body = body[:min(len(body), int(size))]
		return append(binary.LittleEndian.AppendUint16(b, uint16(len(body))), body...)
	}
	if v == nil {
		return binary.LittleEndian.AppendUint64(b, math.MaxUint64)
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(len(body)))
	if len(body) > 0 {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
		b = append(b, body...)
	}
	return binary.LittleEndian.AppendUint32(b, 0)
}

// appendVariant writes a sql_variant: length, base type, the base type's properties,
// value.
func appendVariant(b []byte, v any) []byte {
	var body []byte
	switch x := v.(type) {
	case nil:
		return binary.LittleEndian.AppendUint32(b, 0)
	case string:
		text := value.UTF16(x)
		body = append([]byte{typeNVarChar, 7}, collation...)
		body = binary.LittleEndian.AppendUint16(body, 8000)
		body = append(body, text...)
	case []byte:
		body = append([]byte{typeVarBinary, 2, 0x40, 0x1F}, x...)
	case bool:
		body = append([]byte{typeBit, 0}, fixed(value.Type{Kind: value.Bit}, x)...)
	case value.GUID:
		w := x.Wire()
		body = append([]byte{typeGUID, 0}, w[:]...)
	case time.Time:
		body = append([]byte{typeDateTime, 0}, fixed(value.Type{Kind: value.DateTime}, x)...)
	default:
		n, _ := x.(int64)
		body = append([]byte{typeInt8, 0}, fixed(value.Type{Kind: value.BigInt}, n)...)
		if n == int64(int32(n)) {
			body = append([]byte{typeInt4, 0}, fixed(value.Type{Kind: value.Int}, n)...)
		}
	}
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(body))), body...)
}

// fixed is the body of a value whose length stands in one byte.
func fixed(t value.Type, v any) []byte {
	switch x := v.(type) {
	case bool:
		if x {
			return []byte{1}
		}
		return []byte{0}
	case int64:
		return binary.LittleEndian.AppendUint64(nil, uint64(x))[:widths[t.Kind]]
	case float64:
		if t.Kind == value.Real {
			return binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(x)))
		}
		return binary.LittleEndian.AppendUint64(nil, math.Float64bits(x))
	case value.GUID:
		w := x.Wire()
		return w[:]
	case value.Number:
		return fixedNumber(t, x)
	case time.Time:
		return fixedTime(t, x)
	}
	return nil
}

func fixedNumber(t value.Type, n value.Number) []byte {
	if t.Kind == value.Money {
		units := n.Rescale(4).Unscaled.Int64()
		b := binary.LittleEndian.AppendUint32(nil, uint32(units>>32))
		return binary.LittleEndian.AppendUint32(b, uint32(units))
	}
	n = n.Rescale(t.Scale)
	out := make([]byte, 17)
	if n.Unscaled.Sign() >= 0 {
		out[0] = 1
	}
	magnitude := new(big.Int).Abs(n.Unscaled).Bytes()
	for i, b := range magnitude {
		if at := len(magnitude) - i; at < len(out) {
			out[at] = b
		}
	}
	return out
}

// dayZero is day 0 of date, datetime2 and datetimeoffset; the older types count from 1900.
var (
	dayZero = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	day1900 = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)
)

// days counts days between two midnights without time.Duration, which ends at 292 years.
func days(from, to time.Time) int64 { return (to.Unix() - from.Unix()) / 86400 }

func fixedTime(t value.Type, x time.Time) []byte {
	_, offset := x.Zone()
	if t.Kind == value.DateTimeOffset {
		x = x.UTC()
	}
	midnight := time.Date(x.Year(), x.Month(), x.Day(), 0, 0, 0, 0, time.UTC)
	wall := time.Date(x.Year(), x.Month(), x.Day(), x.Hour(), x.Minute(), x.Second(), x.Nanosecond(), time.UTC)
	since := wall.Sub(midnight)
	switch t.Kind {
	case value.DateTime:
		b := binary.LittleEndian.AppendUint32(nil, uint32(days(day1900, midnight)))
		return binary.LittleEndian.AppendUint32(b, uint32(math.Round(float64(since)*300/float64(time.Second))))
	case value.SmallDateTime:
		b := binary.LittleEndian.AppendUint16(nil, uint16(days(day1900, midnight)))
		return binary.LittleEndian.AppendUint16(b, uint16(since/time.Minute))
	}
	var b []byte
	if t.Kind != value.Date {
		units := uint64(since) / uint64(math.Pow10(9-int(t.Scale)))
		b = binary.LittleEndian.AppendUint64(nil, units)[:timeBytes(t.Scale)]
	}
	if t.Kind != value.Time {
		b = append(b, binary.LittleEndian.AppendUint32(nil, uint32(days(dayZero, midnight)))[:3]...)
	}
	if t.Kind == value.DateTimeOffset {
		b = binary.LittleEndian.AppendUint16(b, uint16(int16(offset/60)))
	}
	return b
}

// timeBytes is how many bytes a time of day takes at a scale.
func timeBytes(scale uint8) int {
	switch {
	case scale <= 2:
		return 3
	case scale <= 4:
		return 4
	}
	return 5
}
