package s3

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/repo/backend"
	"holdfast/repo/backend/retry"
)

// TestWebPageInPlaceOfAnAnswer: a login portal says "200 OK" to everything. No
// call takes that for success, an object, or an empty listing, whether the page
// says what it is or not; and afterwards all is as it was.
func TestWebPageInPlaceOfAnAnswer(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"text/html; charset=utf-8", "application/xml", ""} {
		for _, versioned := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s versioned=%v", kind, versioned), func(t *testing.T) {
				t.Parallel()
				endpoint, liar := before(t, versioned, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
					io.Copy(io.Discard, r.Body)
					w.Header()["Content-Type"] = nil
					if kind != "" {
						w.Header().Set("Content-Type", kind)
					}
					io.WriteString(w, "<?xml version=\"1.0\"?>\n<!DOCTYPE html><html><body>please log in</body></html>")
					return true
				})
				b := open(t, endpoint)
				mustPut(t, b, "a", "x")
				fresh := open(t, endpoint) // knows nothing of the bucket yet
				liar.on.Store(true)
				for _, be := range []*Backend{b, fresh} {
					portal(t, be)
				}
				liar.on.Store(false)
				wantText(t, b, "a", "x")
				if _, err := b.Get(t.Context(), "b", 0, -1); !errors.Is(err, backend.ErrNotFound) {
					t.Errorf("get what was never put: %v", err)
				}
			})
		}
	}
}

func portal(t *testing.T, b *Backend) {
	t.Helper()
	_, serr := b.Stat(t.Context(), "a")
	_, verr := b.Versions(t.Context(), "a")
	_, gerr := b.Get(t.Context(), "a", 0, -1)
	_, rerr := b.Get(t.Context(), "a", 0, 1)
	for verb, err := range map[string]error{
		"put": b.Put(t.Context(), "b", []byte("y")), "put new": b.PutIfAbsent(t.Context(), "b", []byte("y")), "stat": serr, "versions": verr, "get": gerr, "get a range": rerr,
		"list": b.List(t.Context(), "", func(backend.Info) error { return nil }),
	} {
		if !errors.Is(err, backend.ErrUnreachable) || !retry.Transient(err) {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if b.SingleWriter() != "" || b.versions.Load() == single && b.absent.Load() != undecided {
		t.Errorf("a page was believed: single writer %q, versions %d", b.SingleWriter(), b.versions.Load())
	}
}

// TestFullStoreIsToldAtOnce: 507 and the codes of full stores are asked about
// once, without a wait.
func TestFullStoreIsToldAtOnce(t *testing.T) {
	for _, code := range []string{"InsufficientStorage", "XMinioStorageFull", "QuotaExceeded", "Unheard"} {
		var asked atomic.Int64
		endpoint, liar := before(t, false, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			if r.Method != http.MethodPut {
				return false
			}
			asked.Add(1)
			io.Copy(io.Discard, r.Body)
			answer(w, http.StatusInsufficientStorage, code, "full")
			return true
		})
		inner := open(t, endpoint)
		if err := inner.PutIfAbsent(t.Context(), "config", []byte("x")); err != nil {
			t.Fatal(err)
		}
		liar.on.Store(true)
		b := retry.New(inner, retry.Options{Sleep: func(context.Context, time.Duration) error {
			t.Errorf("%s: waited", code)
			return nil
		}})
		for i, err := range []error{b.Put(t.Context(), "a", []byte("x")), b.PutIfAbsent(t.Context(), "b", []byte("x"))} {
			if !errors.Is(err, backend.ErrNoSpace) || asked.Load() != int64(i+1) && i == 1 {
				t.Errorf("%s: call %d: %v after %d requests", code, i, err, asked.Load())
			}
		}
		if asked.Load() != 2 {
			t.Errorf("%s: %d requests for 2 calls", code, asked.Load())
		}
	}
}

// TestSlowDownIsGivenMoreTime: a server that is busy for longer than the usual
// attempts last is outwaited, and the waits grow.
func TestSlowDownIsGivenMoreTime(t *testing.T) {
	var left atomic.Int64
	endpoint, liar := before(t, false, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if left.Add(-1) < 0 {
			return false
		}
		io.Copy(io.Discard, r.Body)
		answer(w, http.StatusServiceUnavailable, "SlowDown", "Please reduce your request rate.")
		return true
	})
	inner := open(t, endpoint)
	mustPut(t, inner, "a", "x")
	var waits []time.Duration
	b := retry.New(inner, retry.Options{Rand: func() float64 { return 1 }, Sleep: func(_ context.Context, d time.Duration) error {
		waits = append(waits, d)
		return nil
	}})
	liar.on.Store(true)
	left.Store(10)
	if err := b.Put(t.Context(), "a", []byte("y")); err != nil {
		t.Errorf("put: %v", err)
	}
	if len(waits) != 10 || !slices.IsSorted(waits) || waits[9] != 15*time.Second {
		t.Errorf("waits %v", waits)
	}
	left.Store(1 << 40)
	if err := b.Put(t.Context(), "a", []byte("y")); !errors.Is(err, backend.ErrBusy) || !errors.Is(err, backend.ErrUnreachable) {
		t.Errorf("put on a server that stays busy: %v", err)
	}
}

// TestStaleListIsNoticed: a listing that misses what this process has put is an
// error wherever the gap is, and one that misses what others deleted is not.
func TestStaleListIsNoticed(t *testing.T) {
	for _, versioned := range []bool{false, true} {
		var hide atomic.Value
		hide.Store("")
		endpoint, liar := before(t, versioned, func(w http.ResponseWriter, r *http.Request, good http.Handler) bool {
			if r.Method != http.MethodGet || r.URL.RawQuery == "" || r.URL.Query().Get("prefix") != "site/one/" {
				return false
			}
			w.Write(without(record(good, r), "site/one/"+hide.Load().(string)))
			return true
		})
		b := open(t, endpoint)
		names := []string{"commit/s/1", "ledger/0", "ledger/1"}
		for _, name := range names {
			mustPut(t, b, name, name)
		}
		list := func() (got []string, err error) {
			err = b.List(t.Context(), "", func(info backend.Info) error {
				got = append(got, info.Name)
				return nil
			})
			return got, err
		}
		liar.on.Store(true)
		if got, err := list(); err != nil || !slices.Equal(got, names) {
			t.Fatalf("honest listing: %q, %v", got, err)
		}
		for i, name := range names {
			hide.Store(name)
			got, err := list()
			if !errors.Is(err, backend.ErrUnreachable) || !retry.Transient(err) || !strings.Contains(err.Error(), name) || !slices.Equal(got, names[:i]) {
				t.Errorf("versioned %v: without %s: %q, %v", versioned, name, got, err)
			}
		}
		hide.Store("")
		if err := open(t, endpoint).Delete(t.Context(), "ledger/0"); err != nil { // by another process
			t.Fatal(err)
		}
		for range 2 {
			if got, err := list(); err != nil || !slices.Equal(got, []string{"commit/s/1", "ledger/1"}) {
				t.Errorf("versioned %v: after a delete by another: %q, %v", versioned, got, err)
			}
		}
	}
}

// record is a good server's answer to a listing.
func record(good http.Handler, r *http.Request) []byte {
	rec := httptest.NewRecorder()
	good.ServeHTTP(rec, r)
	return rec.Body.Bytes()
}

// without takes a key out of a listing.
func without(document []byte, key string) []byte {
	text := string(document)
	for _, tag := range []string{"Contents", "Version"} {
		for from := 0; ; {
			start := strings.Index(text[from:], "<"+tag+">")
			if start < 0 {
				break
			}
			start += from
			end := start + strings.Index(text[start:], "</"+tag+">") + len("</"+tag+">")
			if strings.Contains(text[start:end], "<Key>"+key+"</Key>") {
				text = text[:start] + text[end:]
				continue
			}
			from = end
		}
	}
	return []byte(text)
}

// TestPagesThatComeTwice: a page delivered again, whole or in its last names,
// never doubles or loses a name: the listing is right, or an error.
func TestPagesThatComeTwice(t *testing.T) {
	for _, overlap := range []int{1, 3, 10} {
		var calls, mixed atomic.Int64
		endpoint, liar := before(t, false, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			if r.URL.Query().Get("list-type") == "" {
				return false
			}
			calls.Add(1)
			token := 0
			fmt.Sscan(r.URL.Query().Get("continuation-token"), &token)
			io.WriteString(w, page(max(0, token-overlap*int(mixed.Load())), token+10, 35))
			return true
		})
		b := retry.New(open(t, endpoint), retry.Options{Sleep: noWait})
		liar.on.Store(true)
		var want []string
		for i := range 35 {
			want = append(want, fmt.Sprintf("data/%03d", i))
		}
		for _, lies := range []int64{0, 1} {
			mixed.Store(lies)
			var got []string
			err := b.List(t.Context(), "", func(info backend.Info) error {
				got = append(got, info.Name)
				return nil
			})
			if err == nil && !slices.Equal(got, want) || lies == 0 && err != nil || err != nil && !errors.Is(err, backend.ErrUnreachable) {
				t.Errorf("overlap %d, lies %d: %q, %v", overlap, lies, got, err)
			}
			for i, name := range got {
				if name != want[i] {
					t.Errorf("overlap %d: name %d is %s", overlap, i, name)
					break
				}
			}
		}
		if calls.Load() < 5 {
			t.Errorf("overlap %d: only %d pages were asked for", overlap, calls.Load())
		}
	}
}

// page lists names from one number up to another, of so many.
func page(from, to, all int) string {
	type contents struct {
		Key, LastModified string
		Size              int
	}
	result := struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		Contents              []contents
		IsTruncated           bool
		NextContinuationToken string
	}{IsTruncated: to < all, NextContinuationToken: fmt.Sprint(to)}
	for i := from; i < min(to, all); i++ {
		result.Contents = append(result.Contents, contents{fmt.Sprintf("site/one/data/%03d", i), "2026-01-02T03:04:05Z", 1})
	}
	text, err := xml.Marshal(result)
	if err != nil {
		panic(err) // of a struct of strings
	}
	return string(text)
}
