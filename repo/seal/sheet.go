package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A recovery sheet carries a key that a person types in after the disaster: 32
// bytes as four rows of four groups of four characters. Crockford's base32 has
// no I, L, O and U, so what is misread most often still means the same. Each
// row ends with a check of its own, so that an error is told by its row.
const (
	SheetRows     = 4
	sheetRowBytes = KeyBytes / SheetRows
	sheetCheck    = 2 // bytes
	sheetRowChars = (sheetRowBytes + sheetCheck) * 8 / 5
)

// ErrMistyped: a row of a recovery sheet's key does not match its check.
var ErrMistyped = errors.New("the key of the recovery sheet is mistyped")

var crockford = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// NewSheetKey draws a key for a recovery sheet and returns its rows as they are
// to be printed, such as "7K3M 9QWX 04TB ZC5H". They are the secret; joined by
// anything, they are the text of a key file (ParseKeyFile).
func NewSheetKey(rand io.Reader) (rows [SheetRows]string, err error) {
	key, err := draw(rand, KeyBytes)
	if err != nil {
		return rows, fmt.Errorf("make key of recovery sheet: %w", err)
	}
	for i := range rows {
		part := key[i*sheetRowBytes : (i+1)*sheetRowBytes]
		chars := crockford.EncodeToString(append(bytes.Clone(part), sheetSum(i, part)...))
		rows[i] = strings.Join([]string{chars[:4], chars[4:8], chars[8:12], chars[12:]}, " ")
	}
	return rows, nil
}

// sheetSum is the check of a row. Its place enters, so that rows in the wrong
// order are noticed.
func sheetSum(row int, part []byte) []byte {
	sum := sha256.Sum256(append([]byte{'h', 'o', 'l', 'd', 'f', 'a', 's', 't', byte(row)}, part...))
	return sum[:sheetCheck]
}

// plainTyping undoes what typing does to base32: case, separators, look-alikes.
func plainTyping(c rune) rune {
	switch c {
	case ' ', '\t', '\r', '\n', '-', '.', '\ufeff':
		return -1
	case 'o', 'O':
		return '0'
	case 'i', 'I', 'l', 'L':
		return '1'
	}
	if c >= 'a' && c <= 'z' {
		return c - 'a' + 'A'
	}
	return c
}

// SheetKeyRows are the rows of the key in a text: what stands behind "row 1:"
// and so on, as on a whole sheet, or else all lines, as a person types them.
func SheetKeyRows(text string) []string {
	var marked, all []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		all = append(all, line)
		if head, row, ok := strings.Cut(line, ":"); ok && strings.HasPrefix(strings.ToLower(head), "row ") {
			marked = append(marked, row)
		}
	}
	if len(marked) > 0 {
		return marked
	}
	return all
}

// parseSheetKey reads the four rows. The errors quote nothing of the key.
func parseSheetKey(text []byte) (Secret, error) {
	rows := strings.Join(SheetKeyRows(string(text[:min(len(text), 64<<10)])), "")
	chars := strings.Map(plainTyping, rows)
	if strings.Trim(chars, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != "" || len(chars) < (SheetRows-1)*sheetRowChars {
		return Secret{}, fmt.Errorf("parse key file: %w", ErrKeyFile)
	}
	if len(chars) != SheetRows*sheetRowChars {
		return Secret{}, fmt.Errorf("parse key of recovery sheet: %d characters instead of %d: %w: %w", len(chars), SheetRows*sheetRowChars, ErrMistyped, ErrKeyFile)
	}
	var key []byte
	for row := range SheetRows {
		raw, err := crockford.DecodeString(chars[row*sheetRowChars : (row+1)*sheetRowChars])
		if err != nil || !bytes.Equal(raw[sheetRowBytes:], sheetSum(row, raw[:sheetRowBytes])) {
			return Secret{}, fmt.Errorf("parse key of recovery sheet: row %d: %w: %w", row+1, ErrMistyped, ErrKeyFile)
		}
		key = append(key, raw[:sheetRowBytes]...)
	}
	return Secret{held: veil(key), keyFile: true}, nil
}
