package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/repo/backend"
	"holdfast/repo/backend/backendtest"
	"holdfast/repo/backend/retry"
)

// liar stands before a good server. It answers itself where lie says true.
type liar struct {
	good http.Handler
	lie  func(w http.ResponseWriter, r *http.Request, good http.Handler) bool
	on   atomic.Bool // else it is honest
}

func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !l.on.Load() || !l.lie(w, r, l.good) {
		l.good.ServeHTTP(w, r)
	}
}

// before starts a gofakes3 behind a liar that is switched off.
func before(t *testing.T, versioned bool, lie func(w http.ResponseWriter, r *http.Request, good http.Handler) bool) (endpoint string, l *liar) {
	t.Helper()
	l = &liar{lie: lie}
	endpoint = fake(t, versioned, func(good http.Handler) http.Handler {
		l.good = good
		return l
	})
	return endpoint, l
}

// answer writes an error as S3 servers do.
func answer(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>%s</Message><Region>%s</Region></Error>", code, message, w.Header().Get("x-amz-bucket-region"))
}

// hangUp breaks the connection without an answer.
func hangUp() { panic(http.ErrAbortHandler) }

// TestAnswersOfServers: what the caller sees of each, whether it may pass (then
// package retry asks again), and what the operator reads.
func TestAnswersOfServers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status        int
		code, message string
		want          error
		passes        bool
		text          string
	}{
		{500, "InternalError", "We encountered an internal error.", backend.ErrUnreachable, true, "500 InternalError"},
		{503, "SlowDown", "Please reduce your request rate.", backend.ErrUnreachable, true, "reduce your request rate"},
		{429, "TooManyRequests", "", backend.ErrUnreachable, true, "429"},
		{409, "ConditionalRequestConflict", "in progress", backend.ErrUnreachable, true, "409"},
		{400, "BadDigest", "The Content-MD5 you specified did not match", backend.ErrUnreachable, true, "did not match"},
		{403, "AccessDenied", "Access Denied.", ErrAccess, false, "s3:"},
		{403, "SignatureDoesNotMatch", "The signature does not match.", ErrAccess, false, "credentials were not accepted"},
		{400, "ExpiredToken", "The provided token has expired.", ErrAccess, false, "credentials were not accepted"},
		{403, "RequestTimeTooSkewed", "too large", ErrClock, false, "set this machine's clock"},
		{507, "XMinioStorageFull", "Storage backend has reached its minimum free drive threshold.", backend.ErrNoSpace, false, "507"},
		{403, "QuotaExceeded", "quota", backend.ErrNoSpace, false, "QuotaExceeded"},
		{404, "NoSuchBucket", "The specified bucket does not exist", ErrNoBucket, false, "bucket " + bucket + ": the bucket does not exist"},
		{400, "AuthorizationHeaderMalformed", "the region is wrong", ErrRegion, true, "is in eu-central-1"},
		{301, "PermanentRedirect", "must be addressed using the specified endpoint", ErrRegion, true, "is in eu-central-1"},
	} {
		t.Run(c.code, func(t *testing.T) {
			endpoint, liar := before(t, false, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
				if strings.Contains(c.text, "eu-central-1") {
					w.Header().Set("x-amz-bucket-region", "eu-central-1")
				}
				answer(w, c.status, c.code, c.message)
				return true
			})
			b := open(t, endpoint)
			mustPut(t, b, "a", "x")
			liar.on.Store(true)
			_, gerr := b.Get(t.Context(), "a", 0, -1)
			lerr := b.List(t.Context(), "", func(backend.Info) error { return nil })
			for verb, err := range map[string]error{
				"put": b.Put(t.Context(), "a", []byte("y")), "put new": b.PutIfAbsent(t.Context(), "b", []byte("y")), "get": gerr, "list": lerr,
			} {
				if !errors.Is(err, c.want) || retry.Transient(err) != c.passes || !strings.Contains(err.Error(), c.text) {
					t.Errorf("%s: %v, want %v with %q", verb, err, c.want, c.text)
				}
			}
			liar.on.Store(false)
			wantText(t, b, "a", "x")
		})
	}
}

// TestGatewayErrorPage: what stands before a server answers in HTML.
func TestGatewayErrorPage(t *testing.T) {
	endpoint, liar := before(t, false, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
		w.WriteHeader(http.StatusBadGateway)
		io.WriteString(w, "<html>\n<body>bad gateway\x00"+strings.Repeat("!", 5000))
		return true
	})
	b := open(t, endpoint)
	liar.on.Store(true)
	err := b.Put(t.Context(), "a", nil)
	if !errors.Is(err, backend.ErrUnreachable) || len(err.Error()) > 500 || strings.ContainsAny(err.Error(), "\n\x00") {
		t.Errorf("put: %v", err)
	}
}

// TestTruncatedBodyIsAnError: never fewer bytes than asked for, whole or ranged.
func TestTruncatedBodyIsAnError(t *testing.T) {
	for _, how := range []string{"hang up", "short length", "short range"} {
		endpoint, liar := before(t, false, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			if r.Method != http.MethodGet || r.URL.RawQuery != "" {
				return false
			}
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
			w.Header().Set("x-amz-checksum-crc32c", "AAAAAA==") // of the whole object, not of what comes
			w.Header().Set("Content-Length", map[string]string{"hang up": "100"}[how])
			if r.Header.Get("Range") != "" {
				w.Header().Set("Content-Range", map[string]string{"hang up": "bytes 10-109/200", "short range": "bytes 10-59/200", "short length": "bytes 10-109/200"}[how])
				w.WriteHeader(http.StatusPartialContent)
			}
			w.Write(make([]byte, 50))
			if how == "hang up" {
				hangUp()
			}
			return true
		})
		b := open(t, endpoint)
		mustPut(t, b, "a", strings.Repeat("x", 200))
		liar.on.Store(true)
		for _, length := range []int64{-1, 100} {
			offset := int64(10)
			if length < 0 {
				offset = 0
			}
			data, err := b.Get(t.Context(), "a", offset, length)
			if !errors.Is(err, backend.ErrUnreachable) || !retry.Transient(err) || data != nil {
				t.Errorf("%s: get %d from %d: %d bytes, %v", how, length, offset, len(data), err)
			}
		}
	}
}

// TestOtherRangeThanAskedFor: a server that ignores ranges is borne with, one
// that sends another is not.
func TestOtherRangeThanAskedFor(t *testing.T) {
	var other atomic.Bool
	endpoint, liar := before(t, false, func(w http.ResponseWriter, r *http.Request, good http.Handler) bool {
		if r.Method != http.MethodGet || r.Header.Get("Range") == "" {
			return false
		}
		r.Header.Del("Range")
		if other.Load() {
			r.Header.Set("Range", "bytes=30-39")
		}
		good.ServeHTTP(w, r)
		return true
	})
	b := open(t, endpoint)
	data := backendtest.Bytes(1, 1000)
	mustPut(t, b, "a", string(data))
	liar.on.Store(true)
	for _, c := range []struct{ offset, length int64 }{{20, 10}, {990, 10}, {5, -1}} {
		got, err := b.Get(t.Context(), "a", c.offset, c.length)
		want := data[c.offset:]
		if c.length > 0 {
			want = want[:c.length]
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("get %d from %d without ranges: %d bytes, %v", c.length, c.offset, len(got), err)
		}
	}
	if _, err := b.Get(t.Context(), "a", 995, 10); !errors.Is(err, backend.ErrRange) {
		t.Errorf("get beyond the end: %v", err)
	}
	other.Store(true)
	if got, err := b.Get(t.Context(), "a", 20, 10); !errors.Is(err, backend.ErrUnreachable) {
		t.Errorf("get of another range: %q, %v", got, err)
	}
}

// TestWrongBytesOnTheWay: a byte changed once is noticed and asked for again;
// one that is changed in the store comes through, for parity to heal.
func TestWrongBytesOnTheWay(t *testing.T) {
	var flips atomic.Int64
	endpoint, liar := before(t, false, func(w http.ResponseWriter, r *http.Request, good http.Handler) bool {
		if r.Method != http.MethodGet || r.URL.RawQuery != "" || flips.Add(-1) < 0 {
			return false
		}
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.Header().Set("x-amz-checksum-crc32c", "yZRlqg==") // of "hello world"
		io.WriteString(w, "hellO world")
		return true
	})
	logger, heard := hear()
	b := open(t, endpoint, func(o *Options) { o.Log = logger })
	mustPut(t, b, "a", "hello world")
	liar.on.Store(true)
	flips.Store(1)
	if _, err := b.Get(t.Context(), "a", 0, -1); !errors.Is(err, ErrChecksum) || !retry.Transient(err) {
		t.Errorf("get of changed bytes: %v", err)
	}
	wantText(t, b, "a", "hello world")
	flips.Store(1 << 30)
	wantText(t, retry.New(b, retry.Options{Sleep: noWait}), "a", "hellO world")
	if !strings.Contains(heard(), "differs from its checksum") {
		t.Errorf("nothing in the log: %s", heard())
	}
}

// TestListThatLies: out of order is an error, an overlapping page is not, and a
// broken one is never taken for the end.
func TestListThatLies(t *testing.T) {
	var body atomic.Value
	endpoint, liar := before(t, false, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.URL.Query().Get("list-type") == "" {
			return false
		}
		io.WriteString(w, body.Load().(string))
		return true
	})
	b := open(t, endpoint)
	mustPut(t, b, "a", "x")
	liar.on.Store(true)
	list := func(names ...string) ([]string, error) {
		text := "<ListBucketResult>"
		for _, name := range names {
			text += "<Contents><Key>site/one/" + name + "</Key><Size>1</Size><LastModified>2026-01-02T03:04:05Z</LastModified></Contents>"
		}
		text += "</ListBucketResult>"
		if slices.Contains(names, "cut") {
			text = text[:len(text)-40]
		}
		body.Store(text)
		var got []string
		err := b.List(t.Context(), "", func(info backend.Info) error {
			got = append(got, info.Name)
			return nil
		})
		return got, err
	}
	if got, err := list("a", "b", "b", "Folder/", "", "c"); err != nil || !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("list: %q, %v", got, err)
	}
	if got, err := list("a", "c", "b"); !errors.Is(err, backend.ErrUnreachable) {
		t.Errorf("list out of order: %q, %v", got, err)
	}
	if got, err := list("a", "b", "cut"); !errors.Is(err, backend.ErrUnreachable) {
		t.Errorf("broken list: %q, %v", got, err)
	}
	body.Store("")
	if err := b.List(t.Context(), "", func(backend.Info) error { return nil }); err == nil {
		t.Error("empty answer to a list: no error")
	}
}

// TestStaleListIsNoSuccess: on a versioned bucket the listing decides who was
// first, so one that does not yet show what was just put proves nothing.
func TestStaleListIsNoSuccess(t *testing.T) {
	endpoint, liar := before(t, true, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if !r.URL.Query().Has("versions") {
			return false
		}
		io.WriteString(w, "<ListVersionsResult></ListVersionsResult>")
		return true
	})
	b := open(t, endpoint)
	if err := b.PutIfAbsent(t.Context(), "config", []byte("x")); err != nil {
		t.Fatal(err)
	}
	liar.on.Store(true)
	if err := b.PutIfAbsent(t.Context(), "commit/s/1", []byte("mine")); !errors.Is(err, backend.ErrUnreachable) {
		t.Errorf("put new: %v", err)
	}
	liar.on.Store(false)
	if err := b.PutIfAbsent(t.Context(), "commit/s/1", []byte("mine")); err != nil {
		t.Errorf("put new again: %v", err)
	}
}

// TestDuplicateDelivery: each request is done twice and the second answer is
// what comes back.
func TestDuplicateDelivery(t *testing.T) {
	endpoint, liar := before(t, false, func(w http.ResponseWriter, r *http.Request, good http.Handler) bool {
		body, _ := io.ReadAll(r.Body)
		first := r.Clone(r.Context())
		first.Body = io.NopCloser(bytes.NewReader(body))
		good.ServeHTTP(nowhere{http.Header{}}, first)
		r.Body = io.NopCloser(bytes.NewReader(body))
		good.ServeHTTP(w, r)
		return true
	})
	liar.on.Store(true)
	next := numbered("twice")
	backendtest.Run(t, func(t *testing.T) backend.Backend { return open(t, endpoint, in(bucket, next())) }, "Put", "Delete", "ManyWriters", "Stat")
}

type nowhere struct{ h http.Header }

func (n nowhere) Header() http.Header         { return n.h }
func (n nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (n nowhere) WriteHeader(int)             {}

// TestLostAnswers: the request is done and the connection breaks.
func TestLostAnswers(t *testing.T) {
	var done atomic.Bool
	done.Store(true)
	endpoint, liar := before(t, false, func(_ http.ResponseWriter, r *http.Request, good http.Handler) bool {
		if r.Method != http.MethodPut && r.Method != http.MethodDelete {
			return false
		}
		if done.Load() {
			good.ServeHTTP(nowhere{http.Header{}}, r)
		} else {
			io.Copy(io.Discard, r.Body)
		}
		hangUp()
		return true
	})
	b := open(t, endpoint)
	if err := b.PutIfAbsent(t.Context(), "config", []byte("config")); err != nil {
		t.Fatal(err)
	}
	mustPut(t, b, "a", "old")
	liar.on.Store(true)
	if err := b.PutIfAbsent(t.Context(), "commit/s/1", []byte("mine")); err != nil {
		t.Errorf("put new, done and lost: %v", err)
	}
	if err := b.PutIfAbsent(t.Context(), "commit/s/1", []byte("other")); !errors.Is(err, backend.ErrExists) {
		t.Errorf("put new of a taken name, lost: %v", err)
	}
	if err := b.Put(t.Context(), "a", []byte("new")); !errors.Is(err, backend.ErrUnreachable) || !retry.Transient(err) {
		t.Errorf("put, done and lost: %v", err)
	}
	if err := b.Delete(t.Context(), "a"); !errors.Is(err, backend.ErrUnreachable) || !retry.Transient(err) {
		t.Errorf("delete, done and lost: %v", err)
	}
	done.Store(false)
	if err := b.PutIfAbsent(t.Context(), "commit/s/2", []byte("mine")); !errors.Is(err, backend.ErrUnreachable) {
		t.Errorf("put new, not done and lost: %v", err)
	}
	liar.on.Store(false)
	if _, err := b.Get(t.Context(), "commit/s/2", 0, -1); !errors.Is(err, backend.ErrNotFound) {
		t.Errorf("get what was never done: %v", err)
	}
}

// TestConformanceOverAnUnsteadyServer: of six requests one is refused for now
// and one done with its answer lost; with retry the contract holds.
func TestConformanceOverAnUnsteadyServer(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	dice := rand.New(rand.NewPCG(1, 2))
	endpoint, liar := before(t, false, func(w http.ResponseWriter, r *http.Request, good http.Handler) bool {
		mu.Lock()
		n := dice.IntN(6)
		mu.Unlock()
		switch n {
		case 0:
			io.Copy(io.Discard, r.Body)
			answer(w, http.StatusServiceUnavailable, "SlowDown", "Please reduce your request rate.")
			return true
		case 1:
			good.ServeHTTP(nowhere{http.Header{}}, r)
			hangUp()
		}
		return false
	})
	liar.on.Store(true)
	next := numbered("unsteady")
	backendtest.Run(t, func(t *testing.T) backend.Backend {
		return retry.New(open(t, endpoint, in(bucket, next())), retry.Options{Sleep: noWait, Attempts: 40})
	}, "PutIfAbsentSame", "PutIfAbsentOther", "OneWinner", "PutReplaces", "Missing", "DeleteThenGone")
}

// TestSilentServerIsGivenUp: a body that stops half-way ends the call, and the
// error is not the context's, which nobody would try again.
func TestSilentServerIsGivenUp(t *testing.T) {
	release := make(chan struct{})
	endpoint, liar := before(t, false, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Length", "100")
		w.Write(make([]byte, 50))
		w.(http.Flusher).Flush()
		<-release
		return true
	})
	mustPut(t, open(t, endpoint), "a", "x")
	b := open(t, endpoint, func(o *Options) { o.StallTimeout = 100 * time.Millisecond })
	liar.on.Store(true)
	_, err := b.Get(t.Context(), "a", 0, -1)
	close(release)
	if !errors.Is(err, backend.ErrUnreachable) || !retry.Transient(err) {
		t.Errorf("get: %v", err)
	}
}

// TestNobodyListens: likewise.
func TestNobodyListens(t *testing.T) {
	b := open(t, "http://"+freePort(t))
	if err := b.Put(t.Context(), "a", nil); !errors.Is(err, backend.ErrUnreachable) || !retry.Transient(err) {
		t.Errorf("put: %v", err)
	}
	if b.SingleWriter() != "" {
		t.Errorf("single writer: %s", b.SingleWriter())
	}
}

// TestTimeoutOfTheClientIsNoEndedContext: the HTTP client's own timeouts say
// that they are context.DeadlineExceeded, and must be tried again all the same.
func TestTimeoutOfTheClientIsNoEndedContext(t *testing.T) {
	b := open(t, "http://127.0.0.1:1", func(o *Options) {
		o.DialContext = func(context.Context, string, string) (net.Conn, error) {
			return nil, fmt.Errorf("dial: %w", context.DeadlineExceeded)
		}
	})
	_, gerr := b.Get(t.Context(), "a", 0, -1)
	lerr := b.List(t.Context(), "", func(backend.Info) error { return nil })
	for _, err := range []error{gerr, lerr, b.Put(t.Context(), "a", nil), b.PutIfAbsent(t.Context(), "a", nil), b.Delete(t.Context(), "a")} {
		if !errors.Is(err, backend.ErrUnreachable) || !retry.Transient(err) {
			t.Errorf("timeout inside the client: %v", err)
		}
	}
}

// TestCancelInTheMiddle: of a body and of a listing's second page.
func TestCancelInTheMiddle(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	endpoint, liar := before(t, false, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Length", "100")
		w.Write(make([]byte, 50))
		w.(http.Flusher).Flush()
		cancel()
		<-r.Context().Done()
		return true
	})
	b := open(t, endpoint)
	mustPut(t, b, "a", "x")
	liar.on.Store(true)
	if _, err := b.Get(ctx, "a", 0, -1); !errors.Is(err, context.Canceled) {
		t.Errorf("get: %v", err)
	}
}

// TestCancelBetweenPages: half a listing is never taken for a whole one.
func TestCancelBetweenPages(t *testing.T) {
	for _, versioned := range []bool{false, true} {
		b := open(t, fake(t, versioned, nil))
		for i := range 1001 {
			mustPut(t, b, fmt.Sprintf("data/%04d", i), "x")
		}
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		err := b.List(ctx, "data/", func(backend.Info) error {
			if n++; n == 1000 {
				cancel()
			}
			return nil
		})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("versioned %v: list: %v after %d names", versioned, err, n)
		}
	}
}

// TestRedirectIsNotFollowed: a signed request goes to nobody who was not named.
func TestRedirectIsNotFollowed(t *testing.T) {
	var visits atomic.Int64
	elsewhere := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visits.Add(1) }))
	endpoint, liar := before(t, false, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		http.Redirect(w, r, elsewhere+r.URL.Path, http.StatusTemporaryRedirect)
		return true
	})
	b := open(t, endpoint)
	liar.on.Store(true)
	err := b.Put(t.Context(), "a", []byte("x"))
	if !errors.Is(err, backend.ErrUnreachable) || !strings.Contains(err.Error(), "redirects") || visits.Load() != 0 {
		t.Errorf("put: %v, %d visits", err, visits.Load())
	}
}
