package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"html"
	"io"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Redactor blots secrets out of text on its way to screen and log, also where a
// server repeats them in another spelling: a vCenter that cannot parse a login
// may answer with the request, XML and all. It is the last line: code above
// should never put one there. The zero value knows none.
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
	if slices.Contains(r.secrets, secret) {
		return
	}
	r.secrets = append(r.secrets, spellings(secret)...)
	// The longest first, or a secret within another leaves its rest.
	slices.SortFunc(r.secrets, func(a, b string) int { return len(b) - len(a) })
	r.secrets = slices.Compact(r.secrets)
}

// spellings are a secret as it is and as text formats write it down, each of
// them also within quotes. Most are the same for letters and digits.
func spellings(secret string) []string {
	var escaped bytes.Buffer
	_ = xml.EscapeText(&escaped, []byte(secret)) // a buffer takes everything
	user := url.UserPassword("", secret).String()
	all := []string{
		secret, url.QueryEscape(secret), url.PathEscape(secret), strings.TrimPrefix(user, ":"),
		escaped.String(), html.EscapeString(secret), entities.Replace(secret),
		base64.RawStdEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret)),
		hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))),
	}
	for _, text := range slices.Clone(all) {
		asGo, asASCII := strconv.Quote(text), strconv.QuoteToASCII(text)
		asJSON, _ := json.Marshal(text) // a string always has a JSON form
		all = append(all, asGo[1:len(asGo)-1], asASCII[1:len(asASCII)-1], string(asJSON[1:len(asJSON)-1]))
		var plain bytes.Buffer
		encoder := json.NewEncoder(&plain)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(text) // with quotes around it and a newline behind
		all = append(all, plain.String()[1:plain.Len()-2])
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// entities are the names that XML has of its own.
var entities = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&apos;")

// query is an address with what follows its ?, in plain text as in JSON and XML.
var query = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"<>?\\]*\?(?:[^\s"<>\\]|\\u00[0-9A-Fa-f]{2})+`)

// blotQuery leaves an address alone; the stop behind it is the sentence's.
func blotQuery(address string) string {
	end := len(strings.TrimRight(address, ":;,.)'…"))
	at := strings.IndexByte(address, '?') + 1
	if at >= end {
		return address
	}
	return address[:at] + "***" + address[end:]
}

// Redact returns text with *** in place of every known secret, and of the query of
// every address: what is signed or one-time has its secret there, which nobody told us.
func (r *Redactor) Redact(text string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, s := range r.secrets {
		text = strings.ReplaceAll(text, s, "***")
	}
	if !strings.Contains(text, "://") {
		return text
	}
	return query.ReplaceAllStringFunc(text, blotQuery)
}

// LogHandler writes lines, as text or JSON, from which every known secret is
// blotted out, and the value of every attribute that is named like one.
func (r *Redactor) LogHandler(w io.Writer, asJSON bool, level slog.Level) slog.Handler {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: r.hideAttr}
	w = redactingWriter{w, r}
	if asJSON {
		return slog.NewJSONHandler(w, options)
	}
	return slog.NewTextHandler(w, options)
}

var secretAttr = regexp.MustCompile(`(?i)passw|secret|token|credential|authorization|cookie`)

// hideAttr blots out before a value is quoted, which is when it is still as it was.
func (r *Redactor) hideAttr(_ []string, attr slog.Attr) slog.Attr {
	switch {
	case secretAttr.MatchString(attr.Key):
		return slog.String(attr.Key, "***")
	case attr.Value.Kind() == slog.KindString:
		return slog.String(attr.Key, r.Redact(attr.Value.String()))
	}
	if err, ok := attr.Value.Any().(error); ok {
		return slog.String(attr.Key, r.Redact(err.Error()))
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
