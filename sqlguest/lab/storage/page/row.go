package page

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"holdfast/sqlguest/lab/value"
)

// ErrRow: bytes that are no row, or a value of a Go type that no column holds.
var ErrRow = errors.New("row cannot be coded")

// The tags of a value in a row. NULL has a tag and nothing else.
const (
	tagNull byte = iota
	tagFalse
	tagTrue
	tagInt
	tagFloat
	tagString
	tagBytes
	tagGUID
	tagTime
	tagNumber
)

// EncodeRow writes values one after the other, each with its tag: nil, bool, int64,
// float64, string, []byte, value.GUID, value.Number and time.Time (its zone kept as
// an offset in seconds).
func EncodeRow(values []any) ([]byte, error) {
	out := binary.AppendUvarint(nil, uint64(len(values)))
	for i, v := range values {
		switch v := v.(type) {
		case nil:
			out = append(out, tagNull)
		case bool:
			if v {
				out = append(out, tagTrue)
			} else {
				out = append(out, tagFalse)
			}
		case int64:
			out = binary.AppendVarint(append(out, tagInt), v)
		case float64:
			out = binary.LittleEndian.AppendUint64(append(out, tagFloat), math.Float64bits(v))
		case string:
			out = appendText(append(out, tagString), v)
		case []byte:
			out = appendText(append(out, tagBytes), string(v))
		case value.GUID:
			out = append(append(out, tagGUID), v[:]...)
		case value.Number:
			out = appendText(append(out, tagNumber), v.String())
		case time.Time:
			_, offset := v.Zone()
			out = binary.AppendVarint(append(out, tagTime), v.Unix())
			out = binary.AppendVarint(out, int64(v.Nanosecond()))
			out = binary.AppendVarint(out, int64(offset))
		default:
			return nil, fmt.Errorf("encode value %d of type %T: %w", i, v, ErrRow)
		}
	}
	return out, nil
}

func appendText(out []byte, s string) []byte {
	return append(binary.AppendUvarint(out, uint64(len(s))), s...)
}

// DecodeRow reads what EncodeRow wrote; the values do not share row's memory.
func DecodeRow(row []byte) ([]any, error) {
	r := reader{b: row}
	n := r.uvarint()
	if n > uint64(len(row)) {
		return nil, fmt.Errorf("decode row of %d values: %w", n, ErrRow)
	}
	out := make([]any, 0, n)
	for range n {
		out = append(out, r.value())
	}
	if r.bad {
		return nil, fmt.Errorf("decode row: %w", ErrRow)
	}
	return out, nil
}

// reader takes a row apart; after the first mistake everything it gives is zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) value() any {
	tag := r.take(1)
	if tag == nil {
		return nil
	}
	switch tag[0] {
	case tagNull:
		return nil
	case tagFalse, tagTrue:
		return tag[0] == tagTrue
	case tagInt:
		return r.varint()
	case tagFloat:
		if b := r.take(8); b != nil {
			return math.Float64frombits(binary.LittleEndian.Uint64(b))
		}
	case tagString:
		return string(r.take(r.uvarint()))
	case tagBytes:
		return append([]byte{}, r.take(r.uvarint())...)
	case tagGUID:
		var g value.GUID
		copy(g[:], r.take(16))
		return g
	case tagNumber:
		n, ok := value.ParseNumber(string(r.take(r.uvarint())))
		r.bad = r.bad || !ok
		return n
	case tagTime:
		return r.time()
	default:
		r.bad = true
	}
	return nil
}

func (r *reader) time() time.Time {
	seconds, nanos, offset := r.varint(), r.varint(), r.varint()
	if offset < -86400 || offset > 86400 || nanos < 0 || nanos > 999999999 {
		r.bad = true
		return time.Time{}
	}
	zone := time.UTC
	if offset != 0 {
		zone = time.FixedZone("", int(offset))
	}
	return time.Unix(seconds, nanos).In(zone)
}
