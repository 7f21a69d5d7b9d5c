// Package secret gets passwords and keys from where an operator keeps them (a
// variable, a file, a command, a prompt) and keeps them from showing.
//
// A Source says where this run may look; Load and RepositoryKey get what opens
// something, LoadNew and Additional what shall open it from now on. Whatever
// they return is known to the Redactor from then on, which blots it out of all
// that goes to screen, log and monitors. No error of this package holds a secret.
package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"holdfast/cmd/settings"
	"holdfast/cmd/ui"
	"holdfast/cmd/verdict"
	"holdfast/repo/seal"
)

// Kind is a secret that can be asked for. Its value is the name of the
// setting in the table of package settings; with -file and -command behind it, the other ways.
type Kind string

// The secrets there are.
const (
	Repository Kind = "password"      // of the repository
	From       Kind = "from-password" // of the repository to copy from
	VCenter    Kind = "vcenter.password"
	Guest      Kind = "guest.password"
	SQL        Kind = "sql.password"
	// NewPassword is only ever typed or read from its own file: no setting holds it.
	NewPassword Kind = "new-password"
)

// Source is where a run may look for secrets. All fields are needed but Prompt.
type Source struct {
	Setting func(name string) string // a setting of package settings by its name, "" without one
	Environ []string                 // "NAME=value": what password commands inherit, but for our secrets
	In      any                      // where a person may sit, if it is a terminal
	Err     io.Writer                // what password commands complain to
	// TakeIn gives standard input to one purpose, and to one only.
	TakeIn func(purpose string) (io.Reader, error)
	// Prompt asks a person; nil asks on In if it is a terminal.
	Prompt func(ctx context.Context, label string) ([]byte, error)
	Warn   func(format string, args ...any)
	Redact *Redactor // told of every secret that is handed out
}

// labels are the words of prompts and errors.
var labels = map[Kind]string{
	Repository: "repository password", From: "password of the repository to copy from",
	VCenter: "vCenter password", NewPassword: "new password", Guest: "guest password", SQL: "SQL Server password",
}

// limitBytes is more than any password, and little enough that
// --password-file on a wrong file ends soon.
const limitBytes = 64 << 10

// Load gets a secret from where the settings say: itself, a file, a command,
// or, when there is none of them, a person at the terminal. For what opens a
// repository, key files included, use RepositoryKey.
func (s Source) Load(ctx context.Context, kind Kind) ([]byte, error) {
	return s.fetch(ctx, kind, false)
}

// LoadNew is Load for a password that is to be set: it must be typed twice,
// since a misspelled one could never be entered again.
func (s Source) LoadNew(ctx context.Context, kind Kind) ([]byte, error) {
	return s.fetch(ctx, kind, true)
}

// RepositoryKey is what opens the repository of kind (Repository or From): its
// key file if one was given, else its password.
func (s Source) RepositoryKey(ctx context.Context, kind Kind) (seal.Secret, error) {
	name := "key-file"
	if kind == From {
		name = "from-key-file"
	}
	file := s.Setting(name)
	if file == "" {
		password, err := s.Load(ctx, kind)
		if err != nil {
			return seal.Secret{}, err
		}
		return seal.NewPassword(password)
	}
	text, err := s.readFile("key file", file)
	if errors.Is(err, fs.ErrNotExist) {
		hint := "check --" + name
		if kind == Repository {
			hint += "; a new repository gets its key with holdfast init --new-key-file " + settings.Quote(file)
		}
		err = verdict.Advise(err, hint)
	}
	if err != nil {
		return seal.Secret{}, err
	}
	for _, row := range seal.SheetKeyRows(string(text)) { // one line, but for a recovery sheet's key
		s.Redact.Add(strings.TrimSpace(row))
	}
	return seal.ParseKeyFile(text)
}

func (s Source) fetch(ctx context.Context, kind Kind, twice bool) ([]byte, error) {
	label, name := labels[kind], string(kind)
	var secret []byte
	var err error
	switch {
	case s.Setting(name) != "":
		secret = []byte(s.Setting(name))
	case s.Setting(name+"-file") != "":
		secret, err = s.fromFile(label, s.Setting(name+"-file"))
	case s.Setting(name+"-command") != "":
		secret, err = s.fromCommand(ctx, label, s.Setting(name+"-command"))
	default:
		secret, err = s.fromPrompt(ctx, kind, twice)
	}
	if err != nil {
		return nil, err
	}
	s.Redact.Add(string(secret))
	return secret, nil
}

// fromFile reads a secret of one line from a file; "-" is standard input.
func (s Source) fromFile(label, file string) ([]byte, error) {
	data, err := s.readFile(label, file)
	if err != nil {
		return nil, err
	}
	return oneLine(label, data)
}

// readFile reads what a file or standard input holds.
func (s Source) readFile(label, file string) ([]byte, error) {
	var in io.Reader
	if file == "-" {
		std, err := s.TakeIn(label)
		if err != nil {
			return nil, err
		}
		in = std
	} else {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", label, err)
		}
		defer f.Close()
		WarnReadable(file, s.Warn)
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, limitBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", label, err)
	}
	return bytes.TrimPrefix(data, []byte("\ufeff")), nil // editors on Windows put it there
}

// oneLine checks and trims what a file or a command gave.
func oneLine(label string, data []byte) ([]byte, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	data = bytes.TrimRight(data, "\r\n")
	switch {
	case len(data) == 0:
		return nil, settings.Usagef("", "read %s: it is empty", label)
	case len(data) > limitBytes || bytes.ContainsAny(data, "\r\n\x00"):
		return nil, settings.Usagef("there must be the password on one line and nothing else", "read %s: more than one line", label)
	}
	return data, nil
}

// fromCommand runs a command and takes what it prints. The command gets neither
// our secrets, those of S3 among them, nor our standard input; its own complaints
// are shown.
func (s Source) fromCommand(ctx context.Context, label, line string) ([]byte, error) {
	words, err := settings.SplitCommand(line)
	if err != nil || len(words) == 0 {
		return nil, settings.Usagef("it is split like a shell does, with quotes, but run without one", "run command for %s: cannot split it into words", label)
	}
	c := exec.CommandContext(ctx, words[0], words[1:]...)
	c.Env = slices.DeleteFunc(slices.Clone(s.Environ), holdsSecret)
	c.Stderr = s.Err
	c.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	c.Stdout = &limitedBuffer{Buffer: &out, left: limitBytes + 1}
	if err := c.Run(); err != nil {
		// Only the program is named: its arguments may hold a secret.
		if errors.Is(err, exec.ErrNotFound) {
			err = exec.ErrNotFound
		}
		return nil, fmt.Errorf("run %s for %s: %w", filepath.Base(words[0]), label, err)
	}
	return oneLine(label, out.Bytes())
}

// limitedBuffer takes the first bytes and pretends to take the rest.
type limitedBuffer struct {
	*bytes.Buffer
	left int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	keep := min(len(p), b.left)
	b.left -= keep
	b.Buffer.Write(p[:keep])
	return len(p), nil
}

// holdsSecret reports whether an entry of the environment is one of our secrets,
// or carries one within a URL. What names a file or a command goes as well.
func holdsSecret(entry string) bool {
	name, value, _ := strings.Cut(entry, "=")
	upper := strings.ToUpper(name)
	return strings.HasPrefix(upper, "HOLDFAST_") && strings.Contains(upper, "PASSWORD") || settings.HoldsSecret(name, value)
}

// fromPrompt asks a person.
func (s Source) fromPrompt(ctx context.Context, kind Kind, twice bool) ([]byte, error) {
	label := labels[kind]
	ask := s.Prompt
	if ask == nil {
		if !ui.IsTerminal(s.In) {
			return nil, settings.Usagef(hint(kind), "no %s was given, and there is no terminal to ask on", label)
		}
		ask = s.promptTerminal
	}
	secret, err := ask(ctx, "Enter "+label+": ")
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", label, err)
	}
	if len(secret) == 0 {
		return nil, settings.Usagef("", "ask for %s: it is empty", label)
	}
	if !twice {
		return secret, nil
	}
	again, err := ask(ctx, "Enter it again: ")
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", label, err)
	}
	if !bytes.Equal(secret, again) {
		return nil, settings.Usagef("", "ask for %s: the two entries differ", label)
	}
	return secret, nil
}

// hint lists the ways to give a secret.
func hint(kind Kind) string {
	switch kind {
	case Repository:
		return "use HOLDFAST_PASSWORD, --password-file, --password-command or --key-file"
	case NewPassword:
		return "use --new-password-file, or --new-key-file where there is one"
	}
	variable := settings.Variable(string(kind))
	return fmt.Sprintf("use %s, %s_FILE or %s_COMMAND, or a profile", variable, variable, variable)
}

// promptTerminal reads a line without echo. When ctx ends it gives the terminal
// its echo back; the reading goroutine then stays blocked on standard input
// until the process ends, since a terminal's read cannot be called off.
func (s Source) promptTerminal(ctx context.Context, label string) ([]byte, error) {
	fd := int(s.In.(*os.File).Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("prepare terminal: %w", err)
	}
	fmt.Fprint(s.Err, label)
	type answer struct {
		secret []byte
		err    error
	}
	answers := make(chan answer, 1)
	go func() {
		secret, err := term.ReadPassword(fd)
		answers <- answer{secret, err}
	}()
	defer fmt.Fprintln(s.Err)
	select {
	case got := <-answers:
		return got.secret, got.err
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), term.Restore(fd, state))
	}
}

// WarnReadable warns of a secret's file that other users can read.
func WarnReadable(file string, warn func(format string, args ...any)) {
	if runtime.GOOS == "windows" {
		return // ACLs, which mode bits do not show
	}
	info, err := os.Stat(file)
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		warn("%s can be read by others (mode %04o): chmod 600 it", file, info.Mode().Perm())
	}
}
