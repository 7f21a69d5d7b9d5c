package seal

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

const keyFileHead = "holdfast-key-1 "

// ErrKeyFile: the text is not a key file of this format.
var ErrKeyFile = errors.New("not a holdfast key file")

// ErrEmptyPassword: a password of no bytes protects nothing.
var ErrEmptyPassword = errors.New("password is empty")

// Secret opens a key slot: a password, or the 32 random bytes of a key file.
// It prints as "***" in every way. The zero Secret opens nothing.
type Secret struct {
	held    veiled[[]byte]
	keyFile bool
}

// veiled keeps a value where no print finds it. The methods that hide a secret
// are not asked when it is an unexported field of another struct; fmt then
// walks in, and given a verb that does not fit even follows pointers. A func it
// prints as an address.
type veiled[T any] func() T

func veil[T any](v T) veiled[T] { return func() T { return v } }

// NewPassword makes a Secret of a password's bytes, which it copies.
func NewPassword(password []byte) (Secret, error) {
	if len(password) == 0 {
		return Secret{}, ErrEmptyPassword
	}
	return Secret{held: veil(bytes.Clone(password))}, nil
}

// NewKeyFile draws a key and returns the text of its file, one line:
// "holdfast-key-1 " and 44 characters of base64. The text is the secret.
func NewKeyFile(rand io.Reader) ([]byte, error) {
	key, err := draw(rand, KeyBytes)
	if err != nil {
		return nil, fmt.Errorf("make key file: %w", err)
	}
	text := base64.StdEncoding.AppendEncode([]byte(keyFileHead), key)
	return append(text, '\n'), nil
}

// ParseKeyFile reads the text of a key file: the line that NewKeyFile makes,
// or the groups of a recovery sheet as a person typed them. White space at the
// end, which editors add, does no harm; anything else is ErrKeyFile, and a
// mistyped sheet ErrMistyped, too.
func ParseKeyFile(text []byte) (Secret, error) {
	if !bytes.HasPrefix(text, []byte("holdfast-")) {
		return parseSheetKey(text)
	}
	rest, ok := bytes.CutPrefix(bytes.TrimRight(text, " \t\r\n"), []byte(keyFileHead))
	if !ok || bytes.ContainsAny(rest, "\r\n") { // base64 would skip over line ends
		return Secret{}, fmt.Errorf("parse key file: %w", ErrKeyFile)
	}
	key, err := base64.StdEncoding.Strict().AppendDecode(nil, rest)
	if err != nil || len(key) != KeyBytes {
		return Secret{}, fmt.Errorf("parse key file: %w", ErrKeyFile) // the cause would quote the key
	}
	return Secret{held: veil(key), keyFile: true}, nil
}

// IsZero reports whether s holds nothing.
func (s Secret) IsZero() bool { return s.held == nil }

// IsKeyFile reports whether s came from a key file.
func (s Secret) IsKeyFile() bool { return s.held != nil && s.keyFile }

// String hides the secret.
func (s Secret) String() string { return redacted }

// GoString hides the secret.
func (s Secret) GoString() string { return redacted }

// Format hides the secret, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText hides the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON hides the secret.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// LogValue hides the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
