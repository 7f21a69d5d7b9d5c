package wire

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// fixed answers every request with a date.
type fixed struct{ date string }

func (f fixed) RoundTrip(*http.Request) (*http.Response, error) {
	resp := &http.Response{Header: http.Header{}, Body: http.NoBody}
	resp.Header.Set("Date", f.date)
	return resp, nil
}

// TestServersClock: as its last answer told it, going on by ours.
func TestServersClock(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var heard bytes.Buffer
	w := New(Options{
		Transport: fixed{now.Add(time.Hour).Format(http.TimeFormat)},
		Now:       func() time.Time { return now },
		Log:       slog.New(slog.NewTextHandler(&heard, nil)),
	})
	if _, err := w.ServerTime(); !errors.Is(err, ErrNoClock) {
		t.Errorf("clock before the first answer: %v", err)
	}
	for range 2 {
		if _, err := w.RoundTrip(&http.Request{}); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(time.Minute)
	if got, err := w.ServerTime(); err != nil || !got.Equal(now.Add(time.Hour)) {
		t.Errorf("server time: %v, %v", got, err)
	}
	if n := strings.Count(heard.String(), "clock differs"); n != 1 {
		t.Errorf("said %d times: %s", n, heard.String())
	}
	w.CloseIdleConnections() // fixed has none, which is no harm
}

// TestAnswersWithoutADate: leave the clock unknown.
func TestAnswersWithoutADate(t *testing.T) {
	w := New(Options{Transport: fixed{"yesterday"}})
	if _, err := w.RoundTrip(&http.Request{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Ahead(); !errors.Is(err, ErrNoClock) {
		t.Errorf("clock: %v", err)
	}
}

// TestSlowUploadIsNotSilence: a body that takes much longer than the stall
// limit, but always moves, goes through; the reader that waits meanwhile does
// not give up.
func TestSlowUploadIsNotSilence(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		if n != 40 {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(server.Close)
	client := http.Client{Transport: New(Options{StallTimeout: time.Second})}
	resp, err := client.Post(server.URL, "text/plain", &dripping{left: 40, tick: time.NewTicker(35 * time.Millisecond)})
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("post: %v, %v", resp, err)
	}
	resp.Body.Close()
}

// dripping gives a byte each tick.
type dripping struct {
	left int
	tick *time.Ticker
}

func (d *dripping) Read(p []byte) (int, error) {
	if d.left == 0 {
		d.tick.Stop()
		return 0, io.EOF
	}
	<-d.tick.C
	d.left--
	p[0] = 'x'
	return 1, nil
}

// TestProxyOfTheEnvironment: the request for a server goes to the proxy that
// the variables name, unless they except it.
func TestProxyOfTheEnvironment(t *testing.T) {
	var asked string
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked = r.URL.String() }))
	t.Cleanup(proxy.Close)
	env := func(name string) string {
		return map[string]string{"HTTP_PROXY": proxy.URL, "NO_PROXY": "direct.invalid"}[name]
	}
	client := http.Client{Transport: New(Options{Env: env})}
	resp, err := client.Get("http://s3.invalid/bucket")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if asked != "http://s3.invalid/bucket" {
		t.Errorf("proxy was asked for %q", asked)
	}
	if _, err := client.Get("http://direct.invalid/bucket"); err == nil {
		t.Error("an excepted server was reached through the proxy")
	}
}
