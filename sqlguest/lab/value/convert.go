package value

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Common is the type in which two values meet: the one of higher precedence, wide
// enough for both.
func Common(a, b Type) Type {
	if a.Kind == Null {
		return b
	}
	if b.Kind == Null {
		return a
	}
	high, low := a, b
	if b.Kind > a.Kind {
		high, low = b, a
	}
	switch {
	case high.IsText() && low.IsText(), high.IsBinary() && low.IsBinary():
		if low.Size == Max || high.Size != Max && low.Size > high.Size {
			high.Size = low.Size
		}
		if high.Kind == Char || high.Kind == NChar || high.Kind == Binary {
			if low.Kind != high.Kind || low.Size != high.Size {
				high.Kind++ // two lengths of char meet in varchar
			}
		}
	case high.Kind == Decimal && low.Kind == Decimal:
		scale := max(high.Scale, low.Scale)
		whole := max(high.Precision-high.Scale, low.Precision-low.Scale)
		high.Precision, high.Scale = min(whole+scale, 38), scale
	case high.Kind == Decimal && low.IsInteger():
		high.Precision = min(max(high.Precision-high.Scale, 19)+high.Scale, 38)
	case high.IsTime() && low.IsTime():
		high.Scale = max(high.Scale, low.Scale)
	}
	return high
}

// Convert turns a value of one type into one of another. style is CONVERT's third
// argument, 0 without one. Its errors are SQL Server's (245, 8114, 8115, 241, 8169, 529).
func Convert(v any, from, to Type, style int) (any, error) {
	if v == nil {
		return nil, nil
	}
	if from.Kind == Variant || to.Kind == Variant || from.Kind == Boolean {
		from = TypeOf(v)
	}
	switch {
	case to.Kind == Variant || to.Kind == Null:
		return v, nil
	case to.IsText():
		return toText(v, from, to, style)
	case to.IsBinary():
		return toBinary(v, from, to, style)
	case to.Kind == UniqueIdentifier:
		return toGUID(v, from, to)
	case to.IsTime():
		return toTime(v, from, to, style)
	case to.IsInteger():
		return toInteger(v, from, to)
	case to.Kind == Float || to.Kind == Real:
		return toFloat(v, from, to)
	default:
		return toNumber(v, from, to)
	}
}

// TypeOf is the type that a bare Go value has as a sql_variant or a literal.
func TypeOf(v any) Type {
	switch x := v.(type) {
	case bool:
		return Type{Kind: Bit}
	case int64:
		if x == int64(int32(x)) {
			return Type{Kind: Int}
		}
		return Type{Kind: BigInt}
	case float64:
		return Type{Kind: Float}
	case Number:
		digits := len(new(big.Int).Abs(x.Unscaled).String())
		return Type{Kind: Decimal, Precision: uint8(min(max(digits, int(x.Scale), 1), 38)), Scale: x.Scale}
	case string:
		return Text(max(len(x), 1))
	case []byte:
		return Type{Kind: VarBinary, Size: max(len(x), 1)}
	case GUID:
		return Type{Kind: UniqueIdentifier}
	case time.Time:
		return Type{Kind: DateTime2, Scale: 7}
	}
	return Type{Kind: Null}
}

func notAllowed(from, to Type) error {
	return Errorf(529, "Explicit conversion from data type %s to %s is not allowed.", from.Name(), to.Name())
}

func conversionFailed(s string, from, to Type) error {
	return Errorf(245, "Conversion failed when converting the %s value '%s' to data type %s.", from.Name(), s, to.Name())
}

func converting(from, to Type) error {
	return Errorf(8114, "Error converting data type %s to %s.", from.Name(), to.Name())
}

func overflow(to Type) error {
	return Errorf(8115, "Arithmetic overflow error converting expression to data type %s.", to.Name())
}

// toText writes a value out and cuts it to the size; numbers that do not fit fail
// instead, as in SQL Server.
func toText(v any, from, to Type, style int) (any, error) {
	s, err := write(v, from, style)
	if err != nil {
		return nil, err
	}
	if to.Size != Max {
		if r := []rune(s); len(r) > to.Size {
			if from.IsNumeric() || from.Kind == UniqueIdentifier {
				return nil, overflow(to)
			}
			s = string(r[:to.Size])
		}
		if to.Kind == Char || to.Kind == NChar {
			s += strings.Repeat(" ", max(to.Size-len([]rune(s)), 0))
		}
	}
	return s, nil
}

// write is a value as text without regard to size.
func write(v any, from Type, style int) (string, error) {
	switch x := v.(type) {
	case string:
		return x, nil
	case bool:
		if x {
			return "1", nil
		}
		return "0", nil
	case int64:
		return strconv.FormatInt(x, 10), nil
	case float64:
		return strconv.FormatFloat(x, 'g', 6, 64), nil
	case Number:
		return x.String(), nil
	case GUID:
		return x.String(), nil
	case time.Time:
		return writeTime(x, from, style)
	case []byte:
		switch style {
		case 1:
			return "0x" + strings.ToUpper(hex.EncodeToString(x)), nil
		case 2:
			return strings.ToUpper(hex.EncodeToString(x)), nil
		}
		return string(x), nil
	}
	return "", notAllowed(from, Text(1))
}

func toBinary(v any, from, to Type, style int) (any, error) {
	var b []byte
	switch x := v.(type) {
	case []byte:
		b = x
	case string:
		raw, err := textToBinary(x, from, to, style)
		if err != nil {
			return nil, err
		}
		b = raw
	case int64:
		b = binary.BigEndian.AppendUint64(nil, uint64(x))
		width := map[Kind]int{TinyInt: 1, SmallInt: 2, Int: 4}[from.Kind]
		if width > 0 {
			b = b[8-width:]
		}
	case bool:
		b = []byte{0}
		if x {
			b[0] = 1
		}
	case GUID:
		w := x.Wire()
		b = w[:]
	default:
		return nil, notAllowed(from, to)
	}
	if to.Size != Max && len(b) > to.Size {
		if from.IsInteger() {
			b = b[len(b)-to.Size:]
		} else {
			b = b[:to.Size]
		}
	}
	if to.Kind == Binary && len(b) < to.Size {
		pad := make([]byte, to.Size-len(b))
		if from.IsInteger() {
			b = append(pad, b...)
		} else {
			b = append(append([]byte(nil), b...), pad...)
		}
	}
	return b, nil
}

func textToBinary(s string, from, to Type, style int) ([]byte, error) {
	if style == 1 || style == 2 {
		digits := s
		if style == 1 {
			if len(s) < 2 || !strings.EqualFold(s[:2], "0x") {
				return nil, converting(from, to)
			}
			digits = s[2:]
		}
		raw, err := hex.DecodeString(digits)
		if err != nil {
			return nil, converting(from, to)
		}
		return raw, nil
	}
	if from.Kind == NVarChar || from.Kind == NChar {
		return UTF16(s), nil
	}
	return []byte(s), nil
}

func toGUID(v any, from, to Type) (any, error) {
	switch x := v.(type) {
	case GUID:
		return x, nil
	case string:
		g, ok := ParseGUID(x)
		if !ok {
			return nil, Errorf(8169, "Conversion failed when converting from a character string to uniqueidentifier.")
		}
		return g, nil
	case []byte:
		if len(x) >= 16 {
			return GUID(x[:16]).Wire(), nil
		}
	}
	return nil, notAllowed(from, to)
}

// limits are the integers' ranges.
var limits = map[Kind][2]int64{
	TinyInt: {0, 255}, SmallInt: {math.MinInt16, math.MaxInt16}, Int: {math.MinInt32, math.MaxInt32},
	BigInt: {math.MinInt64, math.MaxInt64},
}

func toInteger(v any, from, to Type) (any, error) {
	n, err := integer(v, from, to)
	if err != nil {
		return nil, err
	}
	if to.Kind == Bit {
		return n != 0, nil
	}
	if l := limits[to.Kind]; n < l[0] || n > l[1] {
		if s, ok := v.(string); ok && to.Kind == Int {
			return nil, Errorf(248, "The conversion of the %s value '%s' overflowed an int column.", from.Name(), s)
		}
		return nil, overflow(to)
	}
	return n, nil
}

func integer(v any, from, to Type) (int64, error) {
	switch x := v.(type) {
	case int64:
		return x, nil
	case bool:
		if x {
			return 1, nil
		}
		return 0, nil
	case float64:
		if math.IsNaN(x) || math.Abs(x) >= math.MaxInt64 {
			return 0, overflow(to)
		}
		return int64(x), nil
	case Number:
		q := new(big.Int).Quo(x.Unscaled, power10(int(x.Scale)))
		if !q.IsInt64() {
			return 0, overflow(to)
		}
		return q.Int64(), nil
	case string:
		return parseInteger(x, from, to)
	case []byte:
		var n uint64
		for _, b := range x {
			n = n<<8 | uint64(b)
		}
		if to.Kind == Int && len(x) >= 4 {
			return int64(int32(n)), nil
		}
		return int64(n), nil
	}
	return 0, notAllowed(from, to)
}

// parseInteger reads text; an empty one is 0, as SQL Server has it.
func parseInteger(s string, from, to Type) (int64, error) {
	t := strings.TrimSpace(s)
	if to.Kind == Bit {
		switch strings.ToLower(t) {
		case "true":
			return 1, nil
		case "false":
			return 0, nil
		}
	}
	if t == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(t, 10, 64)
	if err == nil {
		return n, nil
	}
	if to.Kind == BigInt {
		return 0, converting(from, to)
	}
	return 0, conversionFailed(s, from, to)
}

func toFloat(v any, from, to Type) (any, error) {
	switch x := v.(type) {
	case float64:
		if to.Kind == Real {
			return float64(float32(x)), nil
		}
		return x, nil
	case int64:
		return float64(x), nil
	case bool:
		n, err := integer(v, from, to)
		return float64(n), err
	case Number:
		f, _ := x.Rat().Float64()
		return f, nil
	case string:
		f, err := strconv.ParseFloat(strings.TrimSpace(x), 64)
		if err != nil {
			return nil, converting(from, to)
		}
		return f, nil
	}
	return nil, notAllowed(from, to)
}

func toNumber(v any, from, to Type) (any, error) {
	scale, precision := to.Scale, to.Precision
	if to.Kind == Money {
		scale, precision = 4, 19
	}
	var n Number
	switch x := v.(type) {
	case Number:
		n = x
	case int64:
		n = Number{big.NewInt(x), 0}
	case bool:
		i, _ := integer(v, from, to)
		n = Number{big.NewInt(i), 0}
	case float64:
		r := new(big.Rat)
		if r.SetFloat64(x) == nil {
			return nil, overflow(to)
		}
		n = round(r, scale)
	case string:
		parsed, ok := ParseNumber(x)
		if !ok {
			return nil, converting(from, to)
		}
		n = parsed
	default:
		return nil, notAllowed(from, to)
	}
	n = n.Rescale(scale)
	if new(big.Int).Abs(n.Unscaled).Cmp(power10(int(precision))) >= 0 {
		return nil, Errorf(8115, "Arithmetic overflow error converting %s to data type numeric.", fmt.Sprint(from.Name()))
	}
	return n, nil
}
