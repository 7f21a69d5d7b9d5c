// Package lsn holds SQL Server's log sequence numbers.
//
// An LSN names one record of a transaction log: the virtual log file it lies in,
// the log block there, the slot in the block. SQL Server shows it as numeric(25,0),
// whose last 15 digits are the block (ten) and the slot (five), and in hexadecimal
// with colons (fn_dblog, STOPATMARK = 'lsn:0x…'). LSNs are ordered, and that is all
// they are for: the difference of two says nothing, and neither fits an int64 once
// a log has seen more than 9,223 virtual log files. The zero LSN stands for SQL's
// NULL, which always means something ("no log backup is possible", "no base").
package lsn

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ErrFormat: a text is neither an LSN of up to 25 decimal digits nor three
// hexadecimal numbers with colons between them.
var ErrFormat = errors.New("not a log sequence number")

// Digits is how many decimal digits an LSN has when it is written in full.
const Digits = 25

const (
	slotDigits  = 5
	blockDigits = 10
)

// LSN is one log sequence number. Values compare with ==; the zero value is NULL.
type LSN struct {
	VLF   uint32 // sequence number of the virtual log file
	Block uint32 // log block in it, in units of 512 bytes
	Slot  uint16 // record in the block
}

// Parse reads an LSN in decimal (1 to 25 digits, as numeric(25,0) prints) or in
// hexadecimal ("0000002d:00000130:0001", with or without 0x). Nothing else is
// accepted, no blanks either; errors wrap ErrFormat.
func Parse(s string) (LSN, error) {
	if strings.Contains(s, ":") {
		return parseHex(s)
	}
	return parseDecimal(s)
}

func parseDecimal(s string) (LSN, error) {
	if len(s) == 0 || len(s) > Digits {
		return LSN{}, fmt.Errorf("parse %q: %w", clip(s), ErrFormat)
	}
	if strings.Trim(s, "0123456789") != "" {
		return LSN{}, fmt.Errorf("parse %q: %w", clip(s), ErrFormat)
	}
	// Padded to full length, each part has its own place, however short the text was.
	s = strings.Repeat("0", Digits-len(s)) + s
	block := Digits - slotDigits - blockDigits
	return join(s, 10, s[:block], s[block:block+blockDigits], s[block+blockDigits:])
}

func parseHex(s string) (LSN, error) {
	digits := strings.TrimPrefix(strings.TrimPrefix(s, "0x"), "0X")
	parts := strings.Split(digits, ":")
	if len(parts) != 3 || len(parts[0]) > 8 || len(parts[1]) > 8 || len(parts[2]) > 4 {
		return LSN{}, fmt.Errorf("parse %q: %w", clip(s), ErrFormat)
	}
	return join(s, 16, parts[0], parts[1], parts[2])
}

// join makes an LSN of its three parts; whole is for the error alone.
func join(whole string, base int, vlf, block, slot string) (LSN, error) {
	v, err1 := strconv.ParseUint(vlf, base, 32)
	b, err2 := strconv.ParseUint(block, base, 32)
	s, err3 := strconv.ParseUint(slot, base, 16)
	if err1 != nil || err2 != nil || err3 != nil {
		return LSN{}, fmt.Errorf("parse %q: %w", clip(whole), ErrFormat)
	}
	return LSN{VLF: uint32(v), Block: uint32(b), Slot: uint16(s)}, nil
}

// clip keeps a wrong text short enough for an error message.
func clip(s string) string {
	const most = 40
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// Of reads the LSN in a value of a result row: nil is NULL and gives the zero LSN;
// text and whole numbers are read as Parse does. Other kinds of value are ErrFormat,
// floating point above all, which would have lost digits already.
func Of(value any) (LSN, error) {
	switch v := value.(type) {
	case nil:
		return LSN{}, nil
	case string:
		return Parse(v)
	case []byte:
		return Parse(string(v))
	case int64:
		if v < 0 {
			return LSN{}, fmt.Errorf("parse %d: %w", v, ErrFormat)
		}
		return Parse(strconv.FormatInt(v, 10))
	}
	return LSN{}, fmt.Errorf("parse a value of type %T: %w", value, ErrFormat)
}

// String is the LSN in 25 decimal digits, so that texts sort as LSNs do and
// CONVERT(numeric(25,0), …) takes them. NULL is 25 zeros.
func (l LSN) String() string {
	return fmt.Sprintf("%010d%010d%05d", l.VLF, l.Block, l.Slot)
}

// Hex is the LSN as fn_dblog and STOPATMARK's lsn: form write it, without 0x.
func (l LSN) Hex() string {
	return fmt.Sprintf("%08x:%08x:%04x", l.VLF, l.Block, l.Slot)
}

// IsZero tells whether this is NULL.
func (l LSN) IsZero() bool { return l == LSN{} }

// Compare is -1, 0 or +1 as l lies before, at or after m. NULL is before all.
func (l LSN) Compare(m LSN) int {
	if c := cmp.Compare(l.VLF, m.VLF); c != 0 {
		return c
	}
	if c := cmp.Compare(l.Block, m.Block); c != 0 {
		return c
	}
	return cmp.Compare(l.Slot, m.Slot)
}

// Less tells whether l lies before m.
func (l LSN) Less(m LSN) bool { return l.Compare(m) < 0 }

// Max is the largest LSN that can be written.
var Max = LSN{VLF: math.MaxUint32, Block: math.MaxUint32, Slot: math.MaxUint16}

// MarshalText writes the LSN in 25 digits, NULL as the empty text; JSON gets it as a
// string, because a JSON number of that size does not survive every reader.
func (l LSN) MarshalText() ([]byte, error) {
	if l.IsZero() {
		return []byte{}, nil
	}
	return []byte(l.String()), nil
}

// UnmarshalText reads what MarshalText wrote and everything that Parse reads.
func (l *LSN) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*l = LSN{}
		return nil
	}
	parsed, err := Parse(string(text))
	if err != nil {
		return err
	}
	*l = parsed
	return nil
}
