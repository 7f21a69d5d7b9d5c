package value

import (
	"bytes"
	"math/big"
	"strings"
	"time"
	"unicode"
)

// Compare orders two values that are not NULL and of the same type: -1, 0 or 1. Text
// is compared as the default collation does: without regard to case and to spaces
// at the end.
func Compare(a, b any) int {
	switch x := a.(type) {
	case bool:
		return compareBool(x, b.(bool))
	case int64:
		y := b.(int64)
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	case float64:
		y := b.(float64)
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	case Number:
		return x.Rat().Cmp(b.(Number).Rat())
	case string:
		return strings.Compare(Fold(x), Fold(b.(string)))
	case []byte:
		return bytes.Compare(bytes.TrimRight(x, "\x00"), bytes.TrimRight(b.([]byte), "\x00"))
	case GUID:
		y := b.(GUID)
		return compareGUID(x, y)
	case time.Time:
		return x.Compare(b.(time.Time))
	}
	return 0
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// compareGUID orders as SQL Server does: the last group first.
func compareGUID(a, b GUID) int {
	if c := bytes.Compare(a[10:], b[10:]); c != 0 {
		return c
	}
	if c := bytes.Compare(a[8:10], b[8:10]); c != 0 {
		return c
	}
	x, y := a.Wire(), b.Wire()
	return bytes.Compare(x[:8], y[:8])
}

// Fold is the form of a text that is compared: lower case, no spaces at the end.
func Fold(s string) string {
	return strings.Map(unicode.ToLower, strings.TrimRight(s, " "))
}

// Like matches SQL's pattern: %, _, [abc], [a-z], [^a]; escape is 0 without one.
func Like(s, pattern string, escape rune) bool {
	return like([]rune(strings.ToLower(s)), []rune(strings.ToLower(pattern)), unicode.ToLower(escape))
}

func like(s, p []rune, escape rune) bool {
	// The classic walk with one place to come back to, so that no pattern takes
	// more than length × length steps.
	backS, backP := -1, -1
	i, j := 0, 0
	for i < len(s) {
		if j < len(p) && p[j] == '%' {
			backP, backS = j+1, i
			j++
			continue
		}
		if width, ok := likeOne(s[i], p[j:], escape); ok {
			i, j = i+1, j+width
			continue
		}
		if backP < 0 {
			return false
		}
		backS++
		i, j = backS, backP
	}
	for j < len(p) && p[j] == '%' {
		j++
	}
	return j == len(p)
}

// likeOne matches one character and says how long its pattern is.
func likeOne(c rune, p []rune, escape rune) (int, bool) {
	if len(p) == 0 {
		return 0, false
	}
	switch {
	case escape != 0 && p[0] == escape && len(p) > 1:
		return 2, p[1] == c
	case p[0] == '_':
		return 1, true
	case p[0] == '[':
		return likeSet(c, p)
	}
	return 1, p[0] == c
}

func likeSet(c rune, p []rune) (int, bool) {
	i, not, found := 1, false, false
	if i < len(p) && p[i] == '^' {
		not = true
		i++
	}
	for start := i; i < len(p) && (p[i] != ']' || i == start); i++ {
		if i+2 < len(p) && p[i+1] == '-' && p[i+2] != ']' {
			found = found || p[i] <= c && c <= p[i+2]
			i += 2
			continue
		}
		found = found || p[i] == c
	}
	if i >= len(p) {
		return 1, p[0] == c // no closing bracket: the bracket means itself
	}
	return i + 1, found != not
}

// Add, Subtract, Multiply and Divide calculate with two values of the type that
// Arithmetic gave, neither NULL. They return 8115 on overflow and 8134 on division by zero.
func Calculate(op byte, a, b any, t Type) (any, error) {
	switch x := a.(type) {
	case int64:
		return calculateInt(op, x, b.(int64), t)
	case float64:
		y := b.(float64)
		switch op {
		case '+':
			return x + y, nil
		case '-':
			return x - y, nil
		case '*':
			return x * y, nil
		}
		if y == 0 {
			return nil, Errorf(8134, "Divide by zero error encountered.")
		}
		return x / y, nil
	case Number:
		return calculateNumber(op, x, b.(Number), t)
	}
	return nil, Errorf(8117, "Operand data type %s is invalid for operator.", t.Name())
}

func calculateInt(op byte, a, b int64, t Type) (any, error) {
	x, y, r := big.NewInt(a), big.NewInt(b), new(big.Int)
	switch op {
	case '+':
		r.Add(x, y)
	case '-':
		r.Sub(x, y)
	case '*':
		r.Mul(x, y)
	default:
		if b == 0 {
			return nil, Errorf(8134, "Divide by zero error encountered.")
		}
		if op == '%' {
			r.Rem(x, y)
		} else {
			r.Quo(x, y)
		}
	}
	if l := limits[t.Kind]; !r.IsInt64() || r.Int64() < l[0] || r.Int64() > l[1] {
		return nil, overflow(t)
	}
	return r.Int64(), nil
}

func calculateNumber(op byte, a, b Number, t Type) (any, error) {
	r := new(big.Rat)
	switch op {
	case '+':
		r.Add(a.Rat(), b.Rat())
	case '-':
		r.Sub(a.Rat(), b.Rat())
	case '*':
		r.Mul(a.Rat(), b.Rat())
	default:
		if b.Unscaled.Sign() == 0 {
			return nil, Errorf(8134, "Divide by zero error encountered.")
		}
		r.Quo(a.Rat(), b.Rat())
		if op == '%' {
			whole := new(big.Int).Quo(r.Num(), r.Denom())
			r.Sub(a.Rat(), new(big.Rat).Mul(b.Rat(), new(big.Rat).SetInt(whole)))
		}
	}
	n := round(r, t.Scale)
	if new(big.Int).Abs(n.Unscaled).Cmp(power10(38)) >= 0 {
		return nil, overflow(t)
	}
	return n, nil
}

// Arithmetic is the type of the result of + - * / % of two types, and the type into
// which both are converted before.
func Arithmetic(op byte, a, b Type) (operand, result Type) {
	c := Common(a, b)
	if c.IsText() || c.Kind == Null || c.Kind == Bit {
		c = Type{Kind: Int}
	}
	if c.Kind == Money {
		c = Type{Kind: Decimal, Precision: 19, Scale: 4}
	}
	if c.Kind != Decimal {
		return c, c
	}
	sa, sb := exact(a), exact(b)
	result = Type{Kind: Decimal, Precision: 38}
	switch op {
	case '*':
		result.Scale = min(sa+sb, 38)
	case '/':
		result.Scale = min(max(6, sa+b.Precision+1), 20)
	default:
		result.Scale = max(sa, sb)
	}
	c.Scale = max(sa, sb)
	c.Precision = 38
	return c, result
}

func exact(t Type) uint8 {
	if t.Kind == Money {
		return 4
	}
	if t.Kind == Decimal {
		return t.Scale
	}
	return 0
}
