package wire

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestDrippingBodyEnds: bytes that come for ever are no silence, and still end.
func TestDrippingBodyEnds(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, "."); err != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	}))
	t.Cleanup(server.Close)
	client := http.Client{Transport: New(Options{Grace: 200 * time.Millisecond})}
	resp, err := client.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); !errors.Is(err, ErrSlow) {
		t.Errorf("read: %v", err)
	}
}

// TestAnswerThatNeverComesEnds: likewise, before the headers.
func TestAnswerThatNeverComesEnds(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(server.Close)
	client := http.Client{Transport: New(Options{Grace: 50 * time.Millisecond})}
	_, err := client.Get(server.URL)
	if !errors.Is(err, ErrSlow) || strings.Contains(err.Error(), "context") {
		t.Errorf("get: %v", err)
	}
}

// TestLimitGrowsWithTheBytes: a pack over a very thin line is no fault.
func TestLimitGrowsWithTheBytes(t *testing.T) {
	w := New(Options{})
	if w.limit(-1) != 10*time.Minute || w.limit(0) != 10*time.Minute {
		t.Errorf("limit of nothing: %v, %v", w.limit(-1), w.limit(0))
	}
	if got := w.limit(32 << 20); got != 10*time.Minute+16384*time.Second {
		t.Errorf("limit of 32 MiB: %v", got)
	}
}

// canned answers with a document.
type canned struct{ kind, text string }

func (c canned) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {c.kind}}, Body: io.NopCloser(strings.NewReader(c.text))}, nil
}

// TestPagesAreToldFromAnswers: by their type, or where a document is asked for
// by how they begin; an object may hold what it likes.
func TestPagesAreToldFromAnswers(t *testing.T) {
	const html = "<!DOCTYPE html><HTML>hello"
	for _, c := range []struct {
		url, kind, text string
		page            bool
	}{
		{"http://s/b/k", "text/html; charset=utf-8", "hello", true},
		{"http://s/b/k", "application/octet-stream", html, false},
		{"http://s/b/k?versionId=1", "application/octet-stream", html, false},
		{"http://s/b/?list-type=2", "application/xml", html, true},
		{"http://s/b/?versioning=", "", "\n<?xml version='1.0'?><html xmlns='x'>", true},
		{"http://s/b/?list-type=2", "application/xml", "<ListBucketResult/>" + strings.Repeat("x", 2000), false},
		{"http://s/b/?list-type=2", "application/xml", "", false},
	} {
		resp, err := (&http.Client{Transport: New(Options{Transport: canned{c.kind, c.text}})}).Get(c.url)
		if errors.Is(err, ErrPage) != c.page {
			t.Errorf("%s as %q: %v, page %v", c.url, c.kind, err, c.page)
		}
		if err != nil {
			continue
		}
		if got, err := io.ReadAll(resp.Body); err != nil || string(got) != c.text {
			t.Errorf("%s: %d bytes of %d came through, %v", c.url, len(got), len(c.text), err)
		}
		resp.Body.Close()
	}
}
