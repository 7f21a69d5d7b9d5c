package s3

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"holdfast/repo/backend"
)

// FuzzAnswer: whatever a server answers, with whatever status, is an error or
// what was asked for, in one line, and never an empty success of a listing.
func FuzzAnswer(f *testing.F) {
	type answer struct {
		status int
		span   string
		body   []byte
	}
	var current atomic.Pointer[answer]
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := current.Load()
		if a.span != "" {
			w.Header().Set("Content-Range", a.span)
		}
		w.Header().Set("Content-Type", "application/xml")
		w.Header().Set("Last-Modified", "Sun, 01 Mar 2026 12:00:00 GMT")
		w.Header().Set("ETag", `"d41d8cd98f00b204e9800998ecf8427e"`)
		w.WriteHeader(a.status)
		_, _ = w.Write(a.body)
	}))
	server.Config.ErrorLog = quiet()
	server.Start()
	f.Cleanup(server.Close)
	f.Add(403, "", []byte("<Error><Code>AccessDenied</Code><Message>no\nway</Message></Error>"))
	f.Add(206, "bytes 0-9/10", []byte("0123456789"))
	f.Add(206, "bytes 9223372036854775807-9223372036854775807/-1", []byte("0123456789"))
	f.Add(200, "", []byte(`<ListBucketResult><Name>b</Name><IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken><Contents><Key>site/one/data/a</Key><Size>-3</Size></Contents></ListBucketResult>`))
	f.Add(200, "", []byte(`<ListVersionsResult><Version><Key>site/one/x</Key></Version></ListVersionsResult>`))
	f.Add(200, "", []byte(`<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>`))
	f.Add(200, "", []byte("<html>log in first</html>"))
	f.Fuzz(func(t *testing.T, status int, span string, body []byte) {
		if status < 200 || status > 599 || strings.ContainsFunc(span, unicode.IsControl) || len(body) > 64<<10 {
			return
		}
		current.Store(&answer{status, span, body})
		b := open(t, server.URL, func(o *Options) { o.Now = func() time.Time { return time.Unix(1_800_000_000, 0) } })
		defer b.Close()
		data, err := b.Get(t.Context(), "data/x", 2, 3)
		tell(t, "get", err)
		if err == nil && (len(data) != 3 || !bytes.Contains(body, data)) {
			t.Fatalf("got %q of %q", data, body)
		}
		listed := 0
		err = b.List(t.Context(), "data/", func(info backend.Info) error {
			if listed++; listed > 10_000 {
				return io.EOF // the same page again and again
			}
			if !strings.HasPrefix(info.Name, "data/") || info.Bytes < 0 {
				t.Fatalf("listed %+v", info)
			}
			return nil
		})
		tell(t, "list", err)
		_, err = b.Stat(t.Context(), "data/x")
		tell(t, "stat", err)
		tell(t, "lockable", b.Lockable(t.Context()))
	})
}

// tell holds an error to what may be printed.
func tell(t *testing.T, verb string, err error) {
	t.Helper()
	if err != nil && (strings.ContainsFunc(err.Error(), unicode.IsControl) || len(err.Error()) > 4<<10 || strings.Contains(err.Error(), secretKey)) {
		t.Fatalf("%s: error of %d bytes: %q", verb, len(err.Error()), err.Error())
	}
}

// FuzzContentRange: what is said of a range is at most wrong, never out of bounds.
func FuzzContentRange(f *testing.F) {
	f.Add("bytes 2-4/10", []byte("0123456789"), int64(2), int64(3))
	f.Add("bytes -9223372036854775808-4/10", []byte("01"), int64(9223372036854775807), int64(-1))
	f.Add("", []byte("0123456789"), int64(5), int64(1<<62))
	f.Fuzz(func(t *testing.T, span string, body []byte, offset, length int64) {
		if offset < 0 {
			return
		}
		header := http.Header{"Content-Range": {span}}
		skip, size := partOf(header, int64(len(body)), offset)
		data, err := readBody(bytes.NewReader(body), skip, length)
		if err == nil && (length >= 0 && int64(len(data)) != length || !bytes.Contains(body, data)) {
			t.Fatalf("%d bytes of %d (%d skipped, size %d)", len(data), len(body), skip, size)
		}
	})
}

// FuzzCredentialsFile: a file of the SDKs that a person has edited. Errors tell
// nothing of it.
func FuzzCredentialsFile(f *testing.F) {
	f.Add([]byte("[default]\naws_access_key_id = a\naws_secret_access_key = "+secretKey+"\n"), "")
	f.Add([]byte("[one]\naws_session_token=x\n[two\n"), "one")
	f.Add([]byte("aws_secret_access_key"), "default")
	f.Fuzz(func(t *testing.T, text []byte, profile string) {
		file := filepath.Join(t.TempDir(), "credentials")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		env := map[string]string{"AWS_SHARED_CREDENTIALS_FILE": file, "AWS_PROFILE": profile}
		provider, err := fromFile(t.Context(), func(name string) string { return env[name] }, &veil{})
		if (provider == nil) == (err == nil) {
			t.Fatalf("%v, %v", provider, err)
		}
		if err != nil && strings.Contains(fmt.Sprint(err), secretKey) {
			t.Fatalf("the error shows the secret: %v", err)
		}
	})
}
