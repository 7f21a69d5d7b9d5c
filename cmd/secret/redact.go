package secret

import (
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Redactor blots secrets out of text on its way to screen and log. It is the
// last line: code above should never put one there. The zero value knows none.
type Redactor struct {
	mu      sync.RWMutex
	secrets []string
}

// redactMinBytes keeps short secrets from tearing holes into every sentence;
// the words below give nothing away but would make messages unreadable.
const redactMinBytes = 8

const harmlessWords = "repository password, key file, vcenter, guest, holdfast, sql server"

// Add makes secret one of those that are blotted out, unless it is too short
// or too ordinary a word for that.
func (r *Redactor) Add(secret string) {
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

// Redact returns text with *** in place of every known secret.
func (r *Redactor) Redact(text string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, s := range r.secrets {
		text = strings.ReplaceAll(text, s, "***")
	}
	return text
}

// LogHandler writes lines, as text or JSON, from which every known secret is
// blotted out, and the value of every attribute that is named like one.
func (r *Redactor) LogHandler(w io.Writer, asJSON bool, level slog.Level) slog.Handler {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: hideAttr}
	w = redactingWriter{w, r}
	if asJSON {
		return slog.NewJSONHandler(w, options)
	}
	return slog.NewTextHandler(w, options)
}

var secretAttr = regexp.MustCompile(`(?i)passw|secret|token|credential|authorization|cookie`)

func hideAttr(_ []string, attr slog.Attr) slog.Attr {
	if secretAttr.MatchString(attr.Key) {
		return slog.String(attr.Key, "***")
	}
	return attr
}

// redactingWriter redacts each write; slog writes a line at a time.
type redactingWriter struct {
	w      io.Writer
	redact *Redactor
}

func (r redactingWriter) Write(p []byte) (int, error) {
	if _, err := io.WriteString(r.w, r.redact.Redact(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}
