package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net/url"
	"strconv"
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

func TestQueriesOfAddressesAreBlottedOut(t *testing.T) {
	var r Redactor
	const sent = `Put "https://esx1:443/guestFile?id=vm-34&token=canary": interrupted`
	inJSON, err := json.Marshal(sent + " <b>")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	for _, asJSON := range []bool{false, true} {
		l := slog.New(r.LogHandler(&log, asJSON, slog.LevelInfo))
		l.Info("message "+sent, "error", errors.New(sent), "any", []string{sent})
	}
	for _, text := range []string{sent, strconv.Quote(sent), string(inJSON), html.EscapeString(sent), log.String(), "get https://s3/b?X-Amz-Signature=canary: 403", "see https://s3/b?sig=canary"} {
		got := r.Redact(text)
		if strings.Contains(got, "canary") || strings.Contains(got, "token") || !strings.Contains(got, "?***") || r.Redact(got) != got {
			t.Errorf("%s is left as %s", text, got)
		}
	}
	if got := r.Redact(sent); got != `Put "https://esx1:443/guestFile?***": interrupted` {
		t.Error(got)
	}
	if got := r.Redact("https://s3/b?sig=canary: 403"); got != "https://s3/b?***: 403" {
		t.Error(got)
	}
	for _, plain := range []string{"https://host/path: what now? nothing", `C:\dir?x`, "is s3://bucket/prefix there?", "is it at s3://bucket?"} {
		if got := r.Redact(plain); got != plain {
			t.Errorf("%s became %s", plain, got)
		}
	}
}
