package trouble

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Damage puts the transfers' trouble before a handler.
func (s *Set) Damage(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f := s.transfer(r)
		if f == nil {
			next(w, r)
			return
		}
		if f.Delay > 0 {
			select {
			case <-time.After(f.Delay):
			case <-s.closing:
			}
		}
		if f.Status != 0 {
			http.Error(w, http.StatusText(f.Status), f.Status)
			return
		}
		if f.IgnoreRange {
			r.Header.Del("Range")
		}
		// A short answer is announced as such, so the client's HTTP library finds no fault with it.
		shorten(r, f.Short)
		if f.CutAfter > 0 {
			c := &cutter{ResponseWriter: w, body: r.Body, left: f.CutAfter}
			w, r.Body = c, c
		}
		next(w, r)
	}
}

// shorten takes bytes off the end of a "bytes=a-b" range.
func shorten(r *http.Request, by int64) {
	from, to, ok := strings.Cut(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-")
	end, err := strconv.ParseInt(to, 10, 64)
	if by > 0 && ok && err == nil {
		r.Header.Set("Range", "bytes="+from+"-"+strconv.FormatInt(end-by, 10))
	}
}

// cutter aborts the connection after left bytes in either direction.
type cutter struct {
	http.ResponseWriter
	body io.ReadCloser
	left int64
}

func (c *cutter) pass(n int) int {
	return int(min(int64(n), c.left))
}

func (c *cutter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:c.pass(len(p))])
	if c.left -= int64(n); c.left <= 0 {
		if f, ok := c.ResponseWriter.(http.Flusher); ok {
			f.Flush()
		}
		// What was promised and not sent makes this a broken body, not a short one.
		panic(http.ErrAbortHandler)
	}
	return n, err
}

func (c *cutter) Read(p []byte) (int, error) {
	if c.left <= 0 {
		panic(http.ErrAbortHandler)
	}
	n, err := c.body.Read(p[:c.pass(len(p))])
	c.left -= int64(n)
	return n, err
}

func (c *cutter) Close() error { return c.body.Close() }
