package secret

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"holdfast/cmd/settings"
	"holdfast/repo/seal"
)

// Given reports whether the settings hold any secret of the repository.
func (s Source) Given() bool {
	for _, name := range []string{"password", "password-file", "password-command", "key-file"} {
		if s.Setting(name) != "" {
			return true
		}
	}
	return false
}

// NewRepositoryKey is the secret for a new repository: an existing key file, or a
// password that is typed twice.
func (s Source) NewRepositoryKey(ctx context.Context) (seal.Secret, error) {
	if s.Setting("key-file") != "" {
		return s.RepositoryKey(ctx, Repository)
	}
	password, err := s.LoadNew(ctx, Repository)
	if err != nil {
		return seal.Secret{}, err
	}
	return seal.NewPassword(password)
}

// SameFile tells whether two paths name one file, which need not be there yet; "" names
// none.
func SameFile(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	a, errA := filepath.Abs(a)
	b, errB := filepath.Abs(b)
	return errA == nil && errB == nil && a == b
}

// WriteKeyFile writes a new file that only its owner may read, durably.
func WriteKeyFile(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make key file: %w", err)
	}
	_, err = f.Write(bytes.TrimRight(text, "\n"))
	if err == nil {
		_, err = f.WriteString("\n")
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		os.Remove(path)
		return fmt.Errorf("make key file: %w", err)
	}
	return nil
}

// Additional is a further password of a repository: from file, or typed twice
// where file is "".
func (s Source) Additional(ctx context.Context, file string) (seal.Secret, error) {
	var password []byte
	var err error
	if file != "" {
		password, err = s.fromFile("new password", file)
	} else {
		password, err = s.fromPrompt(ctx, NewPassword, true)
	}
	if err != nil {
		return seal.Secret{}, err
	}
	s.Redact.Add(string(password))
	return seal.NewPassword(password)
}

// ParseKDF reads the value of --kdf.
func ParseKDF(word string) (seal.KDF, error) {
	switch word {
	case "standard":
		return seal.KDFStandard, nil
	case "strong":
		return seal.KDFStrong, nil
	}
	return seal.KDF{}, settings.Usagef("standard or strong", "--kdf %q is unknown", word)
}
