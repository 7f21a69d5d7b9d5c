package value

import (
	"errors"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func number(s string) Number {
	n, ok := ParseNumber(s)
	if !ok {
		panic(s)
	}
	return n
}

func TestConvert(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 123456700, time.UTC)
	plus2 := time.Date(2026, 3, 4, 5, 6, 7, 123456700, time.FixedZone("", 7200))
	lsn := number("15000000040000037")
	for _, c := range []struct {
		v        any
		from, to Type
		style    int
		want     any
		number   int32
	}{
		{"42", Text(10), Type{Kind: Int}, 0, int64(42), 0},
		{"", Text(10), Type{Kind: Int}, 0, int64(0), 0},
		{"x", Text(10), Type{Kind: Int}, 0, nil, 245},
		{"x", Text(10), Type{Kind: BigInt}, 0, nil, 8114},
		{"3000000000", Text(10), Type{Kind: Int}, 0, nil, 248},
		{int64(256), Type{Kind: Int}, Type{Kind: TinyInt}, 0, nil, 8115},
		{"true", Text(10), Type{Kind: Bit}, 0, true, 0},
		{lsn, LSN, Type{Kind: VarChar, Size: 26}, 0, "15000000040000037", 0},
		{lsn, LSN, Type{Kind: VarChar, Size: 5}, 0, nil, 8115},
		{"hello", Text(10), Type{Kind: VarChar, Size: 3}, 0, "hel", 0},
		{"ab", Text(10), Type{Kind: Char, Size: 4}, 0, "ab  ", 0},
		{"1.239", Text(10), Type{Kind: Decimal, Precision: 5, Scale: 2}, 0, "1.24", 0},
		{"-1.235", Text(10), Type{Kind: Decimal, Precision: 5, Scale: 2}, 0, "-1.24", 0},
		{"12345", Text(10), Type{Kind: Decimal, Precision: 4}, 0, nil, 8115},
		{at, Type{Kind: DateTime2, Scale: 7}, Text(40), 126, "2026-03-04T05:06:07.1234567", 0},
		{at, Type{Kind: DateTime2, Scale: 7}, Text(40), 0, "2026-03-04 05:06:07.1234567", 0},
		{plus2, Type{Kind: DateTimeOffset, Scale: 7}, Text(40), 127, "2026-03-04T03:06:07.1234567Z", 0},
		{plus2, Type{Kind: DateTimeOffset, Scale: 3}, Text(40), 126, "2026-03-04T05:06:07.123+02:00", 0},
		{"2026-03-04T05:06:07.127", Text(40), Type{Kind: DateTime}, 126, time.Date(2026, 3, 4, 5, 6, 7, 127e6, time.UTC), 0},
		{"2026-03-04T05:06:07.128", Text(40), Type{Kind: DateTime}, 126, time.Date(2026, 3, 4, 5, 6, 7, 127e6, time.UTC), 0},
		{"20260304", Text(40), Type{Kind: Date}, 0, time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC), 0},
		{"not a time", Text(40), Type{Kind: DateTime}, 0, nil, 241},
		{"0001-01-01", Text(40), Type{Kind: DateTime}, 0, nil, 242},
		{"40700425-0080-11d2-851f-00c04fc21759", Text(40), Type{Kind: UniqueIdentifier}, 0, "40700425-0080-11D2-851F-00C04FC21759", 0},
		{"{40700425-0080-11d2-851f-00c04fc21759}", Text(40), Type{Kind: UniqueIdentifier}, 0, "40700425-0080-11D2-851F-00C04FC21759", 0},
		{"4070", Text(40), Type{Kind: UniqueIdentifier}, 0, nil, 8169},
		{"0x0aFF", Text(40), Type{Kind: VarBinary, Size: 8}, 1, "\x0a\xff", 0},
		{[]byte{10, 255}, Type{Kind: VarBinary, Size: 8}, Text(40), 2, "0AFF", 0},
		{int64(258), Type{Kind: Int}, Type{Kind: VarBinary, Size: 4}, 0, "\x00\x00\x01\x02", 0},
		{at, Type{Kind: DateTime}, Type{Kind: UniqueIdentifier}, 0, nil, 529},
		{nil, Text(1), Type{Kind: Int}, 0, nil, 0},
	} {
		got, err := Convert(c.v, c.from, c.to, c.style)
		var e *Error
		if errors.As(err, &e) != (c.number != 0) || c.number != 0 && e.All[0].Number != c.number {
			t.Errorf("%v as %s: error %v, want %d", c.v, c.to, err, c.number)
			continue
		}
		switch x := got.(type) {
		case []byte:
			got = string(x)
		case Number:
			got = x.String()
		case GUID:
			got = x.String()
		}
		if got != c.want {
			t.Errorf("%v as %s: got %#v, want %#v", c.v, c.to, got, c.want)
		}
	}
}

func TestDivisionAndOverflow(t *testing.T) {
	for _, c := range []struct {
		op     byte
		a, b   any
		t      Type
		number int32
	}{{'/', int64(1), int64(0), Type{Kind: Int}, 8134}, {'%', int64(1), int64(0), Type{Kind: Int}, 8134}, {'+', int64(1 << 31), int64(0), Type{Kind: Int}, 8115},
		{'*', int64(1) << 62, int64(4), Type{Kind: BigInt}, 8115}, {'/', number("1"), number("0"), Type{Kind: Decimal}, 8134}, {'/', 1.0, 0.0, Type{Kind: Float}, 8134}} {
		_, err := Calculate(c.op, c.a, c.b, c.t)
		var e *Error
		if !errors.As(err, &e) || e.All[0].Number != c.number {
			t.Errorf("%v %c %v: %v", c.a, c.op, c.b, err)
		}
	}
}

// Numbers that are written and read again are the same, and rescaling keeps the value as
// far as the scale goes.
func TestNumbersSurvive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := Number{big.NewInt(rapid.Int64().Draw(t, "unscaled")), uint8(rapid.IntRange(0, 30).Draw(t, "scale"))}
		back, ok := ParseNumber(n.String())
		if !ok || back.Rat().Cmp(n.Rat()) != 0 || back.Scale != n.Scale {
			t.Fatalf("%s came back as %v", n, back)
		}
		wider := n.Rescale(n.Scale + 5)
		if wider.Rat().Cmp(n.Rat()) != 0 || wider.Rescale(n.Scale).Rat().Cmp(n.Rat()) != 0 {
			t.Fatalf("%s rescaled is %s", n, wider)
		}
	})
}

// LIKE agrees with the regular expression that means the same.
func TestLikeIsARegularExpression(t *testing.T) {
	if Like("a%b", "a!%c", '!') || !Like("a%b", "a!%b", '!') || !Like("x]y", "x[]]y", 0) || !Like("q", "[^a-p]", 0) || Like("b", "[^a-p]", 0) || !Like("ÜBER", "ü%", 0) {
		t.Error("a case by hand is wrong")
	}
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringOf(rapid.RuneFrom([]rune("ab%_"))).Draw(t, "pattern")
		text := rapid.StringOf(rapid.RuneFrom([]rune("abc"))).Draw(t, "text")
		re := regexp.MustCompile("(?s)^" + strings.NewReplacer("%", ".*", "_", ".").Replace(pattern) + "$")
		if got := Like(text, pattern, 0); got != re.MatchString(text) {
			t.Fatalf("%q LIKE %q: %v", text, pattern, got)
		}
	})
}

func TestGUIDOrderAndWire(t *testing.T) {
	a, _ := ParseGUID("FFFFFFFF-0000-0000-0000-000000000001")
	b, _ := ParseGUID("00000000-0000-0000-0000-000000000002")
	if Compare(a, b) >= 0 {
		t.Error("the last group decides")
	}
	if c, _ := ParseGUID("40700425-0080-11D2-851F-00C04FC21759"); c.Wire().Wire() != c || c.Wire() == c {
		t.Error("Wire is no involution")
	}
}

func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"2026-03-04T05:06:07.1234567+02:00", "Mar  4 2026  5:06AM", "20260304", "", "05:06"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		at, _, ok := ParseTime(s)
		if !ok {
			return
		}
		typ := Type{Kind: DateTime2, Scale: 7}
		v, err := Convert(at, Type{Kind: DateTimeOffset, Scale: 7}, typ, 0)
		if err != nil {
			return
		}
		text, err := Convert(v, typ, Text(40), 126)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Convert(text, Text(40), typ, 126)
		if err != nil || !back.(time.Time).Equal(v.(time.Time)) {
			t.Fatalf("%q: %v came back as %v (%v)", s, v, back, err)
		}
	})
}
