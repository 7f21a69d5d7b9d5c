package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"holdfast/cmd/settings"
	"holdfast/cmd/ui"
	"holdfast/repo/seal"
)

// secretKind is a secret that can be asked for. Its value is the name of the
// setting in the table of package settings; with -file and -command behind it, the other ways.
type secretKind string

const (
	repositorySecret secretKind = "password"
	fromSecret       secretKind = "from-password"
	vcenterSecret    secretKind = "vcenter.password"
	guestSecret      secretKind = "guest.password"
	sqlSecret        secretKind = "sql.password"
)

// secretLabels are the words of prompts and errors.
var secretLabels = map[secretKind]string{
	repositorySecret: "repository password", fromSecret: "password of the repository to copy from",
	vcenterSecret: "vCenter password", newPassword: "new password", guestSecret: "guest password", sqlSecret: "SQL Server password",
}

// secretLimitBytes is more than any password, and little enough that
// --password-file on a wrong file ends soon.
const secretLimitBytes = 64 << 10

// loadSecret gets a secret from where the settings say: itself, a file, a
// command, or, when there is none of them, a person at the terminal. What it
// returns is from then on redacted from messages and logs. The errors never
// hold the secret. For what opens a repository, key files included, use
// repositoryKey.
func (a *app) loadSecret(ctx context.Context, kind secretKind) ([]byte, error) {
	return a.fetchSecret(ctx, kind, false)
}

// loadNewSecret is loadSecret for a password that is to be set: it must be
// typed twice, since a misspelled one could never be entered again.
func (a *app) loadNewSecret(ctx context.Context, kind secretKind) ([]byte, error) {
	return a.fetchSecret(ctx, kind, true)
}

// repositoryKey is what opens the repository of kind (repositorySecret or
// fromSecret): its key file if one was given, else its password.
func (a *app) repositoryKey(ctx context.Context, kind secretKind) (seal.Secret, error) {
	name := "key-file"
	if kind == fromSecret {
		name = "from-key-file"
	}
	file := a.settings.Text(name)
	if file == "" {
		password, err := a.loadSecret(ctx, kind)
		if err != nil {
			return seal.Secret{}, err
		}
		return seal.NewPassword(password)
	}
	text, err := a.secretFromFile("key file", file)
	if err != nil {
		return seal.Secret{}, err
	}
	a.redact.add(string(text))
	return seal.ParseKeyFile(text)
}

func (a *app) fetchSecret(ctx context.Context, kind secretKind, twice bool) ([]byte, error) {
	label, name := secretLabels[kind], string(kind)
	var secret []byte
	var err error
	switch {
	case a.settings.Text(name) != "":
		secret = []byte(a.settings.Text(name))
	case a.settings.Text(name+"-file") != "":
		secret, err = a.secretFromFile(label, a.settings.Text(name+"-file"))
	case a.settings.Text(name+"-command") != "":
		secret, err = a.secretFromCommand(ctx, label, a.settings.Text(name+"-command"))
	default:
		secret, err = a.secretFromPrompt(ctx, kind, twice)
	}
	if err != nil {
		return nil, err
	}
	a.redact.add(string(secret))
	return secret, nil
}

// secretFromFile reads a secret from a file; "-" is standard input.
func (a *app) secretFromFile(label, file string) ([]byte, error) {
	var in io.Reader
	if file == "-" {
		std, err := a.takeStdin(label)
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
		a.warnReadable(file)
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, secretLimitBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", label, err)
	}
	return oneLine(label, data)
}

// oneLine checks and trims what a file or a command gave.
func oneLine(label string, data []byte) ([]byte, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // editors on Windows put it there
	data = bytes.TrimRight(data, "\r\n")
	switch {
	case len(data) == 0:
		return nil, usagef("", "read %s: it is empty", label)
	case len(data) > secretLimitBytes || bytes.ContainsAny(data, "\r\n\x00"):
		return nil, usagef("there must be the password on one line and nothing else", "read %s: more than one line", label)
	}
	return data, nil
}

// secretFromCommand runs a command and takes what it prints. The command gets
// neither our passwords nor our standard input; its own complaints are shown.
func (a *app) secretFromCommand(ctx context.Context, label, line string) ([]byte, error) {
	words, err := settings.SplitCommand(line)
	if err != nil || len(words) == 0 {
		return nil, usagef("it is split like a shell does, with quotes, but run without one", "run command for %s: cannot split it into words", label)
	}
	c := exec.CommandContext(ctx, words[0], words[1:]...)
	c.Env = slices.DeleteFunc(slices.Clone(a.std.Environ), holdsPassword)
	c.Stderr = a.std.Err
	c.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	c.Stdout = &limitedBuffer{Buffer: &out, left: secretLimitBytes + 1}
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

// holdsPassword reports whether an entry of the environment is, or may carry
// within a URL, one of our secrets.
func holdsPassword(entry string) bool {
	name, _, _ := strings.Cut(strings.ToUpper(entry), "=")
	return strings.HasPrefix(name, "HOLDFAST_") && strings.Contains(name, "PASSWORD") ||
		name == "HOLDFAST_VCENTER_URL" || name == "GOVC_URL" || name == "GOVC_PASSWORD"
}

// secretFromPrompt asks a person.
func (a *app) secretFromPrompt(ctx context.Context, kind secretKind, twice bool) ([]byte, error) {
	label := secretLabels[kind]
	ask := a.std.Prompt
	if ask == nil {
		if !ui.IsTerminal(a.std.In) {
			return nil, usagef(secretHint(kind), "no %s was given, and there is no terminal to ask on", label)
		}
		ask = a.promptTerminal
	}
	secret, err := ask(ctx, "Enter "+label+": ")
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", label, err)
	}
	if len(secret) == 0 {
		return nil, usagef("", "ask for %s: it is empty", label)
	}
	if !twice {
		return secret, nil
	}
	again, err := ask(ctx, "Enter it again: ")
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", label, err)
	}
	if !bytes.Equal(secret, again) {
		return nil, usagef("", "ask for %s: the two entries differ", label)
	}
	return secret, nil
}

// secretHint lists the ways to give a secret.
func secretHint(kind secretKind) string {
	switch kind {
	case repositorySecret:
		return "use HOLDFAST_PASSWORD, --password-file, --password-command or --key-file"
	case newPassword:
		return "use --new-password-file, or --new-key-file where there is one"
	}
	variable := settings.Variable(string(kind))
	return fmt.Sprintf("use %s, %s_FILE or %s_COMMAND, or a profile", variable, variable, variable)
}

// promptTerminal reads a line without echo. When ctx ends it gives the terminal
// its echo back; the reading goroutine then stays blocked on standard input
// until the process ends, since a terminal's read cannot be called off.
func (a *app) promptTerminal(ctx context.Context, label string) ([]byte, error) {
	fd := int(a.std.In.(*os.File).Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("prepare terminal: %w", err)
	}
	fmt.Fprint(a.std.Err, label)
	type answer struct {
		secret []byte
		err    error
	}
	answers := make(chan answer, 1)
	go func() {
		secret, err := term.ReadPassword(fd)
		answers <- answer{secret, err}
	}()
	defer fmt.Fprintln(a.std.Err)
	select {
	case got := <-answers:
		return got.secret, got.err
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), term.Restore(fd, state))
	}
}

// takeStdin gives standard input to one purpose; a second one would read what
// is left, so it is refused.
func (a *app) takeStdin(purpose string) (io.Reader, error) {
	if a.stdinFor != "" {
		return nil, usagef("give one of them as a file", "standard input is wanted twice: for %s and for %s", a.stdinFor, purpose)
	}
	a.stdinFor = purpose
	return a.std.In, nil
}

// warnReadable warns of a secret's file that other users can read.
func (a *app) warnReadable(file string) {
	if runtime.GOOS == "windows" {
		return // ACLs, which mode bits do not show
	}
	info, err := os.Stat(file)
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		a.ui.Warn("%s can be read by others (mode %04o): chmod 600 it", file, info.Mode().Perm())
	}
}

// redactor blots secrets out of text on its way to screen and log. It is the
// last line: code above should never put one there.
type redactor struct {
	mu      sync.RWMutex
	secrets []string
}

// redactMinBytes keeps short secrets from tearing holes into every sentence;
// the words below give nothing away but would make messages unreadable.
const redactMinBytes = 8

const harmlessWords = "repository password, key file, vcenter, guest, holdfast, sql server"

func (r *redactor) add(secret string) {
	if len(secret) < redactMinBytes || strings.Contains(harmlessWords, secret) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.secrets, secret) {
		r.secrets = append(r.secrets, secret)
		// The longest first, or a secret within another leaves its rest.
		slices.SortFunc(r.secrets, func(a, b string) int { return len(b) - len(a) })
	}
}

func (r *redactor) redact(text string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, s := range r.secrets {
		text = strings.ReplaceAll(text, s, "***")
	}
	return text
}
