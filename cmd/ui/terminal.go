// Package ui is how the program speaks: results on standard output, everything
// else on standard error, each in two languages.
//
// Text is for people: tables that stay aligned whatever script a VM's name is
// written in, sizes in IEC units, a progress bar where a terminal looks on and a
// line a minute where a log file does. JSON is for programs: one document for a
// list or a single result, JSON Lines with a message_type for a long run. A
// command says what happened once; the Terminal knows which language was asked
// for. It is the only place that writes to the two streams, so that a bar never
// tears a line and no secret known to Options.Redact reaches the screen.
package ui

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// Options say where and how to speak. The zero value is text into nowhere.
type Options struct {
	Out, Err   io.Writer
	JSON       bool // results and events as JSON, no text on Out
	Quiet      bool // no progress, no notes; warnings and errors remain
	Verbose    bool // details as well
	NoProgress bool
	// Log gets a copy of warnings and errors; nil for none.
	Log *slog.Logger
	// Redact is applied to all that goes to Err; nil for none.
	Redact func(string) string
	// Now is the clock of progress and estimates; nil means time.Now.
	Now func() time.Time
	// Interactive forces the question whether a terminal looks at Err.
	Interactive *bool
}

// Terminal writes results, messages and progress. Its methods may be called
// from many goroutines.
type Terminal struct {
	opt         Options
	interactive bool

	mu     sync.Mutex
	stream bool // a long run: events, warnings too, are JSON Lines on Out
	live   *bar // the bar now on the screen, nil when there is none
	err    error
}

// New makes a Terminal.
func New(opt Options) *Terminal {
	if opt.Out == nil {
		opt.Out = io.Discard
	}
	if opt.Err == nil {
		opt.Err = io.Discard
	}
	if opt.Redact == nil {
		opt.Redact = func(s string) string { return s }
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	t := &Terminal{opt: opt, interactive: IsTerminal(opt.Err)}
	if opt.Interactive != nil {
		t.interactive = *opt.Interactive
	}
	return t
}

// IsTerminal reports whether stream is a file that a person looks at or types
// into.
func IsTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && f != nil && term.IsTerminal(int(f.Fd()))
}

// JSON reports whether results are wanted as JSON.
func (t *Terminal) JSON() bool { return t.opt.JSON }

// Tells reports whether notes are shown: to people who want to read them.
func (t *Terminal) Tells() bool { return !t.opt.JSON && !t.opt.Quiet }

// Err returns the first error of writing to Out: a result that could not be
// delivered is a failed run.
func (t *Terminal) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// Out is standard output itself, for a command whose result is raw bytes.
func (t *Terminal) Out() io.Writer { return outWriter{t} }

type outWriter struct{ t *Terminal }

func (w outWriter) Write(p []byte) (int, error) {
	w.t.mu.Lock()
	defer w.t.mu.Unlock()
	return w.t.writeOut(p)
}

// writeOut writes to Out and keeps the first error. Caller holds mu.
func (t *Terminal) writeOut(p []byte) (int, error) {
	n, err := t.opt.Out.Write(p)
	if err != nil && t.err == nil {
		t.err = fmt.Errorf("write standard output: %w", err)
	}
	return n, err
}

// writeErr writes whole lines to Err, round a bar that may stand there. An
// error there has nowhere to be reported. Caller holds mu.
func (t *Terminal) writeErr(s string) {
	if t.live != nil {
		t.live.clear()
	}
	_, _ = io.WriteString(t.opt.Err, t.opt.Redact(s))
}

// Printf writes text of the result to Out; under JSON it writes nothing.
// The format brings its own newline. Whatever names are in the text, they are made
// visible (Clean) but for line feeds and tabs; who prints a name that must stay in its
// line cleans it.
func (t *Terminal) Printf(format string, args ...any) {
	if t.opt.JSON {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = t.writeOut([]byte(cleanText(fmt.Sprintf(format, args...))))
}

// Say is Printf for what an action did, as opposed to what a question asked
// for: with Quiet the exit code alone tells.
func (t *Terminal) Say(format string, args ...any) {
	if !t.opt.Quiet {
		t.Printf(format, args...)
	}
}

// Note tells the operator something useful on Err, one line; nothing with
// Quiet or JSON.
func (t *Terminal) Note(format string, args ...any) {
	if t.opt.Quiet || t.opt.JSON {
		return
	}
	t.message("", fmt.Sprintf(format, args...))
}

// Detail is a Note for the curious: only with Verbose.
func (t *Terminal) Detail(format string, args ...any) {
	if t.opt.Verbose {
		t.Note(format, args...)
	}
}

// Warn tells of something that the operator should act upon. Under JSON it is
// {"message_type":"warning","message":…}: on Out within a long run, else on
// Err, where it cannot break the one document of a result.
func (t *Terminal) Warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	t.opt.Log.Warn(text)
	if !t.opt.JSON {
		t.message("warning: ", text)
		return
	}
	t.sideline(object{"warning", message{t.opt.Redact(text)}})
}

// Problem tells of one failed thing in a run that goes on with its neighbours.
// item names the thing; under JSON it is message_type error. An error that has a Hint
// brings it.
func (t *Terminal) Problem(item string, err error) {
	text, hint := t.opt.Redact(err.Error()), ""
	if knows := (interface{ Hint() string })(nil); errors.As(err, &knows) {
		hint = t.opt.Redact(knows.Hint())
	}
	t.opt.Log.Error("item failed", "item", item, "error", text)
	if t.opt.JSON {
		t.sideline(object{"error", problem{item, text, hint}})
		return
	}
	t.message("error: ", item+": "+text)
	if hint != "" {
		t.message("hint: ", hint)
	}
}

// Fail is the last word of a run that did not end with 0. More are fields for scripts,
// beside the words that say the same to people; nil for none.
func (t *Terminal) Fail(code int, text, hint string, more map[string]any) {
	text, hint = t.opt.Redact(text), t.opt.Redact(hint)
	t.opt.Log.Error("run failed", "code", code, "error", text)
	if t.opt.JSON {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.writeErr(string(encode(object{"exit_error", failed{failure{code, text, hint}, more}})))
		return
	}
	t.message("error: ", text)
	if hint != "" {
		t.message("hint: ", hint)
	}
}

// message writes one message to Err, control characters made visible.
func (t *Terminal) message(prefix, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.writeErr(prefix + cleanLines(text) + "\n")
}

// sideline writes an event that is not the result: to Out in a long run, else
// to Err.
func (t *Terminal) sideline(o object) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stream {
		_, _ = t.writeOut(encode(o))
		return
	}
	t.writeErr(string(encode(o)))
}

// cleanLines is Clean for a message that may have several lines of its own; all but the
// first are indented, so that no name begins a line as if it were another message.
func cleanLines(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	for i, line := range lines {
		lines[i] = Clean(strings.TrimSuffix(line, "\r"))
	}
	return strings.Join(lines, "\n  ")
}

// cleanText is Clean for text with lines and tabs of its own.
func cleanText(s string) string {
	if Clean(s) == s {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		end := strings.IndexAny(s, "\n\t")
		if end < 0 {
			end = len(s)
		}
		b.WriteString(Clean(s[:end]))
		b.WriteString(s[end:min(end+1, len(s))])
		s = s[min(end+1, len(s)):]
	}
	return b.String()
}
