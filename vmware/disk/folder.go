package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/soap"

	"holdfast/vmware/task"
)

var (
	// ErrMissing means that a file is not on the datastore.
	ErrMissing = errors.New("no such file on the datastore")
	// ErrLocked means that the host refused to read the file, as it does for
	// one that a running VM writes to.
	ErrLocked = errors.New("file is locked or cannot be read over HTTPS")
	// ErrLength means that the server sent other bytes than those asked for.
	ErrLength = errors.New("server sent a wrong range or length")
)

// tryLimit bounds one try of a request that carries at most some megabytes.
const tryLimit = 5 * time.Minute

// Login is a session whose cookie the file door accepts.
type Login interface {
	// Logins counts the logins so far; Relogin makes another one if nobody did
	// since then.
	Logins() int
	Relogin(ctx context.Context, seen int) error
}

// Folder is the datastore door of a vCenter or host: files by HTTPS, as
// https://server/folder/<path>?dcPath=<datacenter>&dsName=<datastore>.
type Folder struct {
	Web   *soap.Client // carries the cookie and checks certificates
	Login Login
	// Datacenters is the inventory path of the datacenter of each datastore. On
	// a host alone it is ha-datacenter.
	Datacenters map[string]string
	Retry       task.Retry
}

// URL is a file's address. It holds no secret.
func (f *Folder) URL(p Path) *url.URL {
	u := f.Web.URL()
	u.Path = "/folder/" + p.File
	// A plus sign is legal in a path, but some servers read it as a space.
	u.RawPath = strings.ReplaceAll((&url.URL{Path: u.Path}).EscapedPath(), "+", "%2B")
	query := url.Values{"dcPath": {f.Datacenters[p.Datastore]}, "dsName": {p.Datastore}}
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20")
	return u
}

// statusError is an answer that is no success.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return e.text }

func (e *statusError) Is(target error) bool {
	switch target {
	case ErrMissing:
		return e.code == http.StatusNotFound
	case ErrLocked:
		return e.code == http.StatusInternalServerError || e.code == http.StatusForbidden
	}
	return false
}

// again reports whether another try may help.
func again(err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		return status.code >= 500 || status.code == http.StatusTooManyRequests || status.code == http.StatusUnauthorized
	}
	return !errors.Is(err, context.Canceled) && !errors.Is(err, errWriter)
}

var errWriter = errors.New("receiver failed")

// do sends requests until one succeeds: a session that ended is renewed, and a
// broken connection, a short body or a server error is tried again with pauses.
// make builds the request anew each time; use consumes a successful answer.
func (f *Folder) do(ctx context.Context, make func(context.Context) (*http.Request, error), use func(*http.Response) error) error {
	return quick(f.Retry).Do(ctx, again, func(ctx context.Context) error {
		// A connection that stands still must not hold a run for ever.
		ctx, cancel := context.WithTimeout(ctx, tryLimit)
		defer cancel()
		seen := f.Login.Logins()
		err := f.once(ctx, make, use)
		var status *statusError
		if errors.As(err, &status) && status.code == http.StatusUnauthorized {
			if err := f.Login.Relogin(ctx, seen); err != nil {
				return err
			}
			return f.once(ctx, make, use)
		}
		return err
	})
}

func (f *Folder) once(ctx context.Context, make func(context.Context) (*http.Request, error), use func(*http.Response) error) error {
	req, err := make(ctx)
	if err != nil {
		return err
	}
	if f.Web.UserAgent != "" {
		req.Header.Set("User-Agent", f.Web.UserAgent)
	}
	res, err := f.Web.Client.Do(req)
	if err != nil {
		return task.Bare(err)
	}
	defer res.Body.Close() //nolint:errcheck // what matters was read
	if res.StatusCode < 200 || res.StatusCode > 299 {
		_, _ = io.CopyN(io.Discard, res.Body, 64<<10) // so that the connection can be used again
		return &statusError{res.StatusCode, res.Status}
	}
	return use(res)
}

func (f *Folder) request(method string, p Path, header http.Header) func(context.Context) (*http.Request, error) {
	return func(ctx context.Context) (*http.Request, error) {
		req, err := http.NewRequestWithContext(ctx, method, f.URL(p).String(), nil)
		if err == nil {
			for k, v := range header {
				req.Header[k] = v
			}
		}
		return req, err
	}
}

// ReadRange fills b from offset off of a file. Nothing less than the bytes asked
// for is accepted: the range the server says it sent, the length it announces
// and the length that comes must all be right.
func (f *Folder) ReadRange(ctx context.Context, p Path, b []byte, off int64) error {
	if len(b) == 0 {
		return nil
	}
	want := fmt.Sprintf("bytes %d-%d/", off, off+int64(len(b))-1)
	header := http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", off, off+int64(len(b))-1)}}
	err := f.do(ctx, f.request(http.MethodGet, p, header), func(res *http.Response) error {
		if got := res.Header.Get("Content-Range"); res.StatusCode != http.StatusPartialContent || !strings.HasPrefix(got, want) {
			return fmt.Errorf("asked for %s, got %s %q: %w", want, res.Status, got, ErrLength)
		}
		if _, err := io.ReadFull(res.Body, b); err != nil {
			return fmt.Errorf("range is short: %w: %w", ErrLength, err)
		}
		return nil
	})
	if ctx.Err() != nil { // a body that was cut off here says nothing of the server
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("read %s at %d: %w", p, off, err)
	}
	return nil
}

// Size is a file's length in bytes.
func (f *Folder) Size(ctx context.Context, p Path) (int64, error) {
	var size int64
	err := f.do(ctx, f.request(http.MethodHead, p, nil), func(res *http.Response) error {
		if size = res.ContentLength; size < 0 {
			return fmt.Errorf("no length is announced: %w", ErrLength)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("look at %s: %w", p, err)
	}
	return size, nil
}

// ReadFile reads a small file, at most limit bytes, whole.
func (f *Folder) ReadFile(ctx context.Context, p Path, limit int64) ([]byte, error) {
	var buf bytes.Buffer
	err := f.do(ctx, f.request(http.MethodGet, p, nil), func(res *http.Response) error {
		buf.Reset()
		n, err := io.Copy(&buf, io.LimitReader(res.Body, limit+1))
		switch {
		case err != nil:
			return err
		case n > limit:
			return fmt.Errorf("more than %d bytes: %w", limit, errWriter)
		case res.ContentLength >= 0 && n != res.ContentLength:
			return ErrLength
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", p, err)
	}
	return buf.Bytes(), nil
}

// WriteFile puts a small file in its place.
func (f *Folder) WriteFile(ctx context.Context, p Path, content []byte) error {
	err := f.do(ctx, func(ctx context.Context) (*http.Request, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, f.URL(p).String(), bytes.NewReader(content))
		if err == nil {
			req.Header.Set("Content-Type", "application/octet-stream")
		}
		return req, err
	}, func(*http.Response) error { return nil })
	if err != nil {
		return fmt.Errorf("write %s: %w", p, err)
	}
	return nil
}

// WriteStream puts size bytes from r in a file's place. It cannot be tried
// again; body is read once.
func (f *Folder) WriteStream(ctx context.Context, p Path, body io.Reader, size int64) error {
	if err := f.touch(ctx); err != nil {
		return err
	}
	err := f.once(ctx, func(ctx context.Context) (*http.Request, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, f.URL(p).String(), io.NopCloser(body))
		if err == nil {
			req.ContentLength = size
			req.Header.Set("Content-Type", "application/octet-stream")
		}
		return req, err
	}, func(*http.Response) error { return nil })
	if err != nil {
		return fmt.Errorf("write %s: %w", p, err)
	}
	return nil
}

// touch renews a session that ended, before a body that can be sent only once.
func (f *Folder) touch(ctx context.Context) error {
	probe := func(ctx context.Context) (*http.Request, error) {
		u := f.Web.URL()
		u.Path = "/folder"
		return http.NewRequestWithContext(ctx, http.MethodHead, u.String(), nil)
	}
	err := f.do(ctx, probe, func(*http.Response) error { return nil })
	var status *statusError
	if errors.As(err, &status) && status.code != http.StatusUnauthorized {
		return nil // whatever it thinks of this address, it knows us
	}
	return err
}

// Delete removes a file; one that is not there is no error.
func (f *Folder) Delete(ctx context.Context, p Path) error {
	err := f.do(ctx, f.request(http.MethodDelete, p, nil), func(*http.Response) error { return nil })
	if err != nil && !errors.Is(err, ErrMissing) {
		return fmt.Errorf("delete %s: %w", p, err)
	}
	return nil
}

// quick is the patience for a transfer: a range that fails is asked again soon.
func quick(r task.Retry) task.Retry {
	if r.Tries == 0 {
		r.Tries = 5
	}
	if r.First == 0 {
		r.First = 500 * time.Millisecond
	}
	return r
}
