// Package value is the SQL Server laboratory's idea of a typed value: what a column
// holds, what an expression yields and what travels over the wire.
//
// A value is a plain Go value whose meaning its Type gives: nil (NULL), bool (BIT),
// int64 (all integers), float64, Decimal, string, []byte, GUID, and time.Time for
// every date and time; times without a zone are kept with time.UTC and mean the
// server's local time.
package value

import (
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
)

// Kind is a family of types.
type Kind uint8

// The kinds, in the order of SQL Server's data type precedence, lowest first:
// where two meet in an expression, the higher one wins.
const (
	Null Kind = iota // the literal NULL, before anything gave it a type
	Binary
	VarBinary
	Char
	VarChar
	NChar
	NVarChar
	UniqueIdentifier
	Bit
	TinyInt
	SmallInt
	Int
	BigInt
	Money
	Decimal
	Real
	Float
	Time
	Date
	SmallDateTime
	DateTime
	DateTime2
	DateTimeOffset
	Variant // sql_variant: a value that brings its type along
	Boolean // the result of a predicate; no column has it
)

// Max is the Size of varchar(max), nvarchar(max) and varbinary(max).
const Max = -1

// Type is a kind with its measures.
type Type struct {
	Kind Kind
	// Size is in characters for text, in bytes for binary; Max for (max).
	Size int
	// Precision and Scale are those of decimal and of times (Scale alone).
	Precision, Scale uint8
}

// Column is a named column of a result or a table.
type Column struct {
	Name     string
	Type     Type
	Nullable bool
	// Identity: the server gives the value.
	Identity bool
}

// GUID is a uniqueidentifier, its bytes in the order in which it is written.
type GUID [16]byte

// String is the upper case form 8-4-4-4-12, as SQL Server writes it.
func (g GUID) String() string {
	h := strings.ToUpper(hex.EncodeToString(g[:]))
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// ParseGUID reads the written form, with or without braces.
func ParseGUID(s string) (GUID, bool) {
	var g GUID
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "{") && strings.HasSuffix(s, "}") {
		s = s[1 : len(s)-1]
	}
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return g, false
	}
	raw, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(raw) != len(g) {
		return g, false
	}
	copy(g[:], raw)
	return g, true
}

// Wire turns between the written order and the order on the wire and in binary
// form (the first three groups are little-endian there). It is its own inverse.
func (g GUID) Wire() GUID {
	return GUID{g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6], g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]}
}

// Number is an exact number: Unscaled / 10^Scale.
type Number struct {
	Unscaled *big.Int
	Scale    uint8
}

// String writes the number with exactly Scale digits after the point.
func (n Number) String() string {
	digits := new(big.Int).Abs(n.Unscaled).String()
	if n.Scale > 0 {
		for len(digits) <= int(n.Scale) {
			digits = "0" + digits
		}
		digits = digits[:len(digits)-int(n.Scale)] + "." + digits[len(digits)-int(n.Scale):]
	}
	if n.Unscaled.Sign() < 0 {
		return "-" + digits
	}
	return digits
}

// Rat is the number as a fraction.
func (n Number) Rat() *big.Rat {
	return new(big.Rat).SetFrac(n.Unscaled, power10(int(n.Scale)))
}

// ParseNumber reads decimal digits with an optional sign and point.
func ParseNumber(s string) (Number, bool) {
	s = strings.TrimSpace(s)
	body := strings.TrimLeft(s, "+-")
	whole, fraction, _ := strings.Cut(body, ".")
	if whole+fraction == "" || len(s)-len(body) > 1 || len(fraction) > 38 ||
		strings.Trim(whole+fraction, "0123456789") != "" {
		return Number{}, false
	}
	n, ok := new(big.Int).SetString(whole+fraction, 10)
	if !ok {
		return Number{}, false
	}
	if strings.HasPrefix(s, "-") {
		n.Neg(n)
	}
	return Number{n, uint8(len(fraction))}, true
}

// Rescale gives the number another scale; digits that fall off are rounded half
// away from zero.
func (n Number) Rescale(scale uint8) Number {
	if scale >= n.Scale {
		return Number{new(big.Int).Mul(n.Unscaled, power10(int(scale-n.Scale))), scale}
	}
	return round(n.Rat(), scale)
}

// round makes a Number of a fraction.
func round(r *big.Rat, scale uint8) Number {
	scaled := new(big.Rat).Mul(r, new(big.Rat).SetInt(power10(int(scale))))
	two := big.NewInt(2)
	num := new(big.Int).Mul(new(big.Int).Abs(scaled.Num()), two)
	num.Add(num, scaled.Denom())
	num.Quo(num, new(big.Int).Mul(scaled.Denom(), two))
	if scaled.Sign() < 0 {
		num.Neg(num)
	}
	return Number{num, scale}
}

func power10(n int) *big.Int {
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil)
}

// names are the types' names in T-SQL.
var names = map[Kind]string{
	Binary: "binary", VarBinary: "varbinary", Char: "char", VarChar: "varchar", NChar: "nchar", NVarChar: "nvarchar",
	UniqueIdentifier: "uniqueidentifier", Bit: "bit", TinyInt: "tinyint", SmallInt: "smallint", Int: "int", BigInt: "bigint",
	Money: "money", Decimal: "decimal", Real: "real", Float: "float", Time: "time", Date: "date", SmallDateTime: "smalldatetime",
	DateTime: "datetime", DateTime2: "datetime2", DateTimeOffset: "datetimeoffset", Variant: "sql_variant", Null: "int", Boolean: "bit",
}

// String is the type as it stands in a declaration.
func (t Type) String() string {
	name := names[t.Kind]
	switch t.Kind {
	case Binary, VarBinary, Char, VarChar, NChar, NVarChar:
		if t.Size == Max {
			return name + "(max)"
		}
		return fmt.Sprintf("%s(%d)", name, t.Size)
	case Decimal:
		return fmt.Sprintf("%s(%d,%d)", name, t.Precision, t.Scale)
	case Time, DateTime2, DateTimeOffset:
		return fmt.Sprintf("%s(%d)", name, t.Scale)
	}
	return name
}

// Name is the type's name without measures.
func (t Type) Name() string { return names[t.Kind] }

// ParseType finds a declared type: its name in any case and its measures, of which
// Max stands for (max). ok is false for a type that the laboratory does not have.
func ParseType(name string, measures []int) (t Type, ok bool) {
	name = strings.ToLower(name)
	switch name {
	case "numeric", "dec":
		name = "decimal"
	case "integer":
		name = "int"
	case "sysname":
		return Type{Kind: NVarChar, Size: 128}, true
	case "double", "double precision":
		name = "float"
	case "rowversion", "timestamp":
		return Type{Kind: Binary, Size: 8}, true
	case "text":
		return Type{Kind: VarChar, Size: Max}, true
	case "ntext", "xml":
		return Type{Kind: NVarChar, Size: Max}, true
	}
	for kind, n := range names {
		if n == name && kind != Null && kind != Boolean {
			t.Kind, ok = kind, true
		}
	}
	if !ok {
		return t, false
	}
	switch t.Kind {
	case Binary, VarBinary, Char, VarChar, NChar, NVarChar:
		t.Size = 1
		if len(measures) > 0 {
			t.Size = measures[0]
		}
	case Decimal:
		t.Precision = 18
		if len(measures) > 0 {
			t.Precision = uint8(min(max(measures[0], 1), 38))
		}
		if len(measures) > 1 {
			t.Scale = uint8(min(max(measures[1], 0), int(t.Precision)))
		}
	case Time, DateTime2, DateTimeOffset:
		t.Scale = 7
		if len(measures) > 0 {
			t.Scale = uint8(min(max(measures[0], 0), 7))
		}
	}
	return t, true
}

// IsText tells of the character types.
func (t Type) IsText() bool { return t.Kind >= Char && t.Kind <= NVarChar }

// IsBinary tells of binary and varbinary.
func (t Type) IsBinary() bool { return t.Kind == Binary || t.Kind == VarBinary }

// IsInteger tells of the integers, bit included.
func (t Type) IsInteger() bool { return t.Kind >= Bit && t.Kind <= BigInt }

// IsNumeric tells of everything one can calculate with.
func (t Type) IsNumeric() bool { return t.Kind >= Bit && t.Kind <= Float }

// IsTime tells of dates and times.
func (t Type) IsTime() bool { return t.Kind >= Time && t.Kind <= DateTimeOffset }

// Text is nvarchar of that size, the type that most columns of system views have.
func Text(size int) Type { return Type{Kind: NVarChar, Size: size} }

// LSN is numeric(25,0), the type of log sequence numbers.
var LSN = Type{Kind: Decimal, Precision: 25}
