package wire

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"sync/atomic"
	"time"
)

// ErrSlow: a request took longer than even a very slow line needs. A connection
// on which a byte moves now and then is not silent, and would else never end.
var ErrSlow = errors.New("transfer takes too long")

// ErrPage: the answer is a web page: something between here and the server, a
// proxy or a login portal, has answered in its place, and often with "200 OK".
var ErrPage = errors.New("a web page came in place of an answer")

const (
	grace   = 10 * time.Minute // default: for a request of no bytes
	slowest = 2 << 10          // bytes per second, at least, of each of many uploads that share a thin line
	peek    = 512              // bytes of a document that tell what it is
)

// limit is how long a body of so many bytes may take; less than 0 is unknown.
func (w *Wire) limit(bytes int64) time.Duration {
	return w.grace + time.Duration(max(bytes, 0)/slowest)*time.Second
}

// carry is one request within its limits, first for the request's body and the
// answer's headers, then for the answer's body.
func (w *Wire) carry(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	timer := time.AfterFunc(w.limit(r.ContentLength), func() { cancel(ErrSlow) })
	resp, err := w.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		timer.Stop()
		if context.Cause(ctx) == ErrSlow {
			err = ErrSlow // and not "context canceled", which is the caller's
		}
		cancel(nil)
		return nil, err
	}
	timer.Reset(w.limit(resp.ContentLength))
	resp.Body = &bounded{ReadCloser: resp.Body, ctx: ctx, end: func() {
		timer.Stop()
		cancel(nil)
	}}
	return resp, nil
}

// bounded is the body of an answer, until the time is up.
type bounded struct {
	io.ReadCloser
	ctx   context.Context
	end   func()
	ended atomic.Bool
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF && !b.ended.Load() && context.Cause(b.ctx) == ErrSlow {
		err = ErrSlow
	}
	return n, err
}

// Close implements io.Closer.
func (b *bounded) Close() error {
	b.ended.Store(true)
	b.end()
	return b.ReadCloser.Close()
}

// documents are the queries whose answers a client decodes without looking at
// the outermost element: a page would be an empty list, or "no versioning".
var documents = []string{"list-type", "versions", "versioning", "location"}

// refusePage is ErrPage if a successful answer is a web page. Holdfast's own
// objects are never of that type.
func refusePage(r *http.Request, resp *http.Response) error {
	if resp.StatusCode/100 != 2 {
		return nil // explained by its status, whatever the text
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err == nil && (kind == "text/html" || kind == "application/xhtml+xml") {
		resp.Body.Close()
		return ErrPage
	}
	if r.Method != http.MethodGet || r.URL == nil || r.URL.RawQuery == "" {
		return nil
	}
	query := r.URL.Query()
	for _, q := range documents {
		if !query.Has(q) {
			continue
		}
		body := bufio.NewReaderSize(resp.Body, peek)
		start, _ := body.Peek(peek) // a short or broken body explains itself when it is read
		if isPage(start) {
			resp.Body.Close()
			return ErrPage
		}
		resp.Body = struct {
			io.Reader
			io.Closer
		}{body, resp.Body}
		return nil
	}
	return nil
}

// isPage: the document is HTML, with or without an XML header.
func isPage(start []byte) bool {
	start = bytes.ToLower(start)
	return bytes.Contains(start, []byte("<html")) || bytes.Contains(start, []byte("<!doctype html"))
}
