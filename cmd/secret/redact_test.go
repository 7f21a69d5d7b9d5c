package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net/url"
	"strings"
	"testing"
)

func TestRedactorLeavesOrdinaryWordsAlone(t *testing.T) {
	var r Redactor
	for _, s := range []string{"pass", "password", "", "longer-secret", "longer-secret-still"} {
		r.Add(s)
	}
	got := r.Redact("wrong password: longer-secret-still, longer-secret, pass")
	if got != "wrong password: ***, ***, pass" {
		t.Error(got)
	}
}

func TestRedactorKnowsSecretsInEverySpelling(t *testing.T) {
	const secret = `Begin"\<é>&%'+/ End`
	var r Redactor
	r.Add(secret)
	inJSON, err := json.Marshal("it is " + html.EscapeString(secret))
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	for _, asJSON := range []bool{false, true} {
		l := slog.New(r.LogHandler(&log, asJSON, slog.LevelInfo))
		l.Info("message "+secret, "error", errors.New(secret), "text", html.EscapeString(secret))
	}
	for _, text := range []string{
		secret, fmt.Sprintf("%q", secret), fmt.Sprintf("%+q", secret), url.QueryEscape(secret), url.PathEscape(secret), url.UserPassword("u", secret).String(),
		html.EscapeString(secret), fmt.Sprintf("%q", html.EscapeString(secret)), string(inJSON), fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), log.String(),
	} {
		if got := r.Redact(text); strings.Contains(got, "Begin") || strings.Contains(got, "End") || strings.Contains(got, "426567696") {
			t.Errorf("%s is left as %s", text, got)
		}
	}
}
