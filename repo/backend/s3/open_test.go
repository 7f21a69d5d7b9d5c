package s3

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"holdfast/repo/backend"
	"holdfast/repo/backend/retry"
)

func TestParseURL(t *testing.T) {
	for _, c := range []struct {
		text string
		want Location
	}{
		{"s3:https://s3.example.com/backups", Location{"https://s3.example.com", "backups", ""}},
		{"s3:https://s3.example.com:9000/backups/site/a/", Location{"https://s3.example.com:9000", "backups", "site/a"}},
		{"s3:http://127.0.0.1:7070/backups/Site-1", Location{"http://127.0.0.1:7070", "backups", "Site-1"}},
		{"s3:http://[::1]:7070/backups", Location{"http://[::1]:7070", "backups", ""}},
		{"s3:backups/prefix", Location{"", "backups", "prefix"}},
		{"s3:backups", Location{"", "backups", ""}},
	} {
		got, err := ParseURL(c.text)
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v", c.text, got, err)
		}
		if again, err := ParseURL(got.String()); err != nil || again != got {
			t.Errorf("%s: %s does not read back: %v", c.text, got, err)
		}
	}
}

func TestParseURLRefuses(t *testing.T) {
	for _, text := range []string{
		"", "s3:", "/a/path", "s3://bucket/prefix", "s3:https://host", "s3:https://host/", "s3:https:///bucket", "s3:ftp://host/bucket", "s3:Bucket", "s3:ab",
		"s3:bucket//x", "s3:bucket/../x", "s3:bucket/a b", "s3:bucket/a?b", "s3:bucket/" + strings.Repeat("a", 512), "s3:https://host:port/bucket",
		"s3:https://user:canary-password@host/bucket", "s3:https://host?x=canary-password/bucket", "s3:bucket/ä", "s3:1.2.3.4",
	} {
		got, err := ParseURL(text)
		if !errors.Is(err, ErrLocation) || strings.Contains(fmt.Sprint(err), "canary-password") {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

// FuzzParseURL: no panic, and what is read writes and reads back.
func FuzzParseURL(f *testing.F) {
	for _, text := range []string{"s3:https://h:1/bucket/p", "s3:bucket/a/b", "s3:http://[::1]:1/bucket", "s3:https://u:p@h/bucket", "s3:bucket/", "s3::"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		where, err := ParseURL(text)
		if err != nil {
			return
		}
		if again, err := ParseURL(where.String()); err != nil || again != where {
			t.Errorf("%q: %+v writes as %q, which is %+v, %v", text, where, where, again, err)
		}
	})
}

// env makes an Options.Env of pairs.
func env(pairs ...string) func(string) string {
	return func(name string) string {
		if i := slices.Index(pairs, name); i >= 0 && i%2 == 0 {
			return pairs[i+1]
		}
		return ""
	}
}

// TestCredentialsInTheSDKsOrder: whose access key signs the request.
func TestCredentialsInTheSDKsOrder(t *testing.T) {
	var signer atomic.Pointer[string]
	endpoint := fake(t, false, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, rest, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
			key, _, _ := strings.Cut(rest, "/")
			key += " " + r.Header.Get("X-Amz-Security-Token")
			signer.Store(&key)
			next.ServeHTTP(w, r)
		})
	})
	home := t.TempDir()
	file := filepath.Join(home, ".aws", "credentials")
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	const text = "[default]\naws_access_key_id=FILE\naws_secret_access_key=s\n[other]\naws_access_key_id=OTHER\naws_secret_access_key=s\naws_session_token=tok\n[half]\naws_access_key_id=HALF\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	secret := NewSecret([]byte("s"))
	variables := []string{"AWS_ACCESS_KEY_ID", "ENV", "AWS_SECRET_ACCESS_KEY", "s", "AWS_SESSION_TOKEN", "envtok", "HOME", home}
	for _, c := range []struct {
		name string
		opts Options
		want string
	}{
		{"given", Options{AccessKey: "GIVEN", SecretKey: secret, Env: env(variables...)}, "GIVEN "},
		{"function", Options{Keys: func(context.Context) (Keys, error) {
			return Keys{AccessKey: "FUNC", SecretKey: secret, SessionToken: secret}, nil
		}, Env: env(variables...)}, "FUNC s"},
		{"environment", Options{Env: env(variables...)}, "ENV envtok"},
		{"default file", Options{Env: env("HOME", home)}, "FILE "},
		{"profile", Options{Env: env("HOME", home, "AWS_PROFILE", "other")}, "OTHER tok"},
		{"named file", Options{Env: env("AWS_SHARED_CREDENTIALS_FILE", file)}, "FILE "},
	} {
		c.opts.Location, c.opts.Region = Location{Endpoint: endpoint, Bucket: bucket}, "us-east-1"
		b, err := Open(t.Context(), c.opts)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if err := b.Put(t.Context(), "a", nil); err != nil || *signer.Load() != c.want {
			t.Errorf("%s: signed by %q, want %q; %v", c.name, *signer.Load(), c.want, err)
		}
		b.Close()
	}
	for name, environment := range map[string]func(string) string{
		"nothing":       nil,
		"half a pair":   env("AWS_ACCESS_KEY_ID", "x"),
		"no profile":    env("HOME", home, "AWS_PROFILE", "gone"),
		"half a file":   env("HOME", home, "AWS_PROFILE", "half"),
		"no file there": env("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(home, "gone")),
	} {
		_, err := Open(t.Context(), Options{Location: Location{Endpoint: endpoint, Bucket: bucket}, Env: environment})
		if !errors.Is(err, ErrCredentials) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKeysAreAskedForAgainWhenTheyEnd: and not before.
func TestKeysAreAskedForAgainWhenTheyEnd(t *testing.T) {
	var asked atomic.Int64
	var clock atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(clock.Load())) }
	b := open(t, fake(t, false, nil), func(o *Options) {
		o.AccessKey, o.SecretKey, o.Now = "", Secret{}, now
		o.Keys = func(context.Context) (Keys, error) {
			asked.Add(1)
			return Keys{AccessKey: "FUNC", SecretKey: NewSecret([]byte("s")), Expires: now().Add(time.Hour)}, nil
		}
	})
	for range 3 {
		mustPut(t, b, "a", "x")
	}
	first := asked.Load()
	clock.Store(int64(2 * time.Hour))
	mustPut(t, b, "a", "x")
	if first != 1 || asked.Load() != 2 {
		t.Errorf("asked %d times, then %d; want 1, then 2", first, asked.Load())
	}
}

func TestOpenRefuses(t *testing.T) {
	good := Options{Location: Location{Endpoint: "http://127.0.0.1:1", Bucket: bucket}, AccessKey: "a", SecretKey: NewSecret([]byte("s"))}
	for _, c := range []struct {
		change func(*Options)
		want   error
	}{
		{func(o *Options) { o.Location.Bucket = "" }, ErrLocation},
		{func(o *Options) { o.Location.Endpoint = "ftp://x" }, ErrLocation},
		{func(o *Options) { o.Location.Endpoint, o.Env = "", env("AWS_ENDPOINT_URL_S3", "nonsense") }, ErrLocation},
		{func(o *Options) { o.ObjectLock = ObjectLock{Days: 3} }, ErrLockOption},
		{func(o *Options) { o.ObjectLock = ObjectLock{Mode: "forever", Days: 3} }, ErrLockOption},
		{func(o *Options) { o.ObjectLock = ObjectLock{Mode: Compliance} }, ErrLockOption},
		{func(o *Options) { o.SecretKey = Secret{} }, ErrCredentials},
	} {
		opts := good
		c.change(&opts)
		if _, err := Open(t.Context(), opts); !errors.Is(err, c.want) {
			t.Errorf("open %+v: %v, want %v", opts.Location, err, c.want)
		}
	}
}

func TestClosedBackendRefuses(t *testing.T) {
	b := open(t, fake(t, false, nil))
	for range 2 {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, gerr := b.Get(t.Context(), "a", 0, -1)
	for _, err := range []error{b.Put(t.Context(), "a", nil), gerr, b.Sync(t.Context()), b.List(t.Context(), "", nil)} {
		if !errors.Is(err, errClosed) {
			t.Errorf("after close: %v", err)
		}
	}
}

// TestEndpointFromTheEnvironment: "s3:bucket" is Amazon unless a variable of
// the SDKs names another server.
func TestEndpointFromTheEnvironment(t *testing.T) {
	endpoint := fake(t, false, nil)
	for _, name := range []string{"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"} {
		b := open(t, "", func(o *Options) { o.Env = env(name, endpoint) })
		mustPut(t, b, "a", "x")
		if b.Location() != "s3:"+bucket+"/site/one" {
			t.Errorf("location: %s", b.Location())
		}
	}
	u, err := endpointOf(Location{Bucket: bucket}, env())
	if err != nil || u.String() != "https://s3.amazonaws.com" {
		t.Errorf("default: %v, %v", u, err)
	}
}

// TestRegionIsLearnt: from the bucket's location, or from the refusal of a
// request that was signed for another; a region that was named is not changed.
func TestRegionIsLearnt(t *testing.T) {
	endpoint := fake(t, false, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("location") {
				answer(w, http.StatusForbidden, "AccessDenied", "Access Denied.")
				return
			}
			if !strings.Contains(r.Header.Get("Authorization"), "/eu-central-1/s3/") {
				w.Header().Set("x-amz-bucket-region", "eu-central-1")
				answer(w, http.StatusBadRequest, "AuthorizationHeaderMalformed", "the region is wrong")
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	b := open(t, endpoint, func(o *Options) { o.Region = "" })
	if err := retry.New(b, retry.Options{Sleep: noWait}).Put(t.Context(), "a", []byte("x")); err != nil {
		t.Errorf("put without a region: %v", err)
	}
	wantText(t, open(t, endpoint, func(o *Options) { o.Region, o.Env = "", env("AWS_REGION", "eu-central-1") }), "a", "x")
	_, err := open(t, endpoint).Get(t.Context(), "a", 0, -1)
	if !errors.Is(err, ErrRegion) || !strings.Contains(err.Error(), "eu-central-1") {
		t.Errorf("get with the wrong region: %v", err)
	}
}

// TestPathAndVirtualHostStyle: where the bucket stands in the request.
func TestPathAndVirtualHostStyle(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]bool{}
	store := s3mem.New()
	if err := store.CreateBucket(bucket); err != nil {
		t.Fatal(err)
	}
	inner := gofakes3.New(store, gofakes3.WithHostBucketBase("s3.test")).Server()
	endpoint := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen[r.Host+" "+strings.Split(r.URL.Path, "/")[1]] = true
		mu.Unlock()
		inner.ServeHTTP(w, r)
	}))
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, strings.TrimPrefix(endpoint, "http://"))
	}
	for style, want := range map[Style]string{StylePath: "s3.test " + bucket, StyleAuto: "s3.test " + bucket, StyleVirtual: bucket + ".s3.test p"} {
		clear(seen)
		b := open(t, "http://s3.test", in(bucket, "p"), func(o *Options) { o.Style, o.DialContext = style, dial })
		mustPut(t, b, "a/b", "x")
		wantText(t, b, "a/b", "x")
		n := 0
		if err := b.List(t.Context(), "a/", func(backend.Info) error { n++; return nil }); err != nil || n != 1 {
			t.Errorf("style %d: list: %d, %v", style, n, err)
		}
		if !seen[want] {
			t.Errorf("style %d: %v, want %s", style, seen, want)
		}
	}
}

// TestCustomCA: a server with a certificate of its own is believed when its
// authority is given, and otherwise told from one that is down.
func TestCustomCA(t *testing.T) {
	store := s3mem.New()
	if err := store.CreateBucket(bucket); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(gofakes3.New(store).Server())
	server.Config.ErrorLog = quiet()
	server.StartTLS()
	t.Cleanup(server.Close)
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	b := open(t, server.URL, func(o *Options) { o.RootCAs = pool })
	mustPut(t, b, "a", "x")
	wantText(t, b, "a", "x")
	err := open(t, server.URL).Put(t.Context(), "a", nil)
	if !errors.Is(err, ErrCertificate) || !errors.Is(err, backend.ErrUnreachable) {
		t.Errorf("put without the CA: %v", err)
	}
	err = open(t, strings.Replace(server.URL, "https:", "http:", 1)).Put(t.Context(), "a", nil)
	if !errors.Is(err, backend.ErrUnreachable) {
		t.Errorf("put in the clear: %v", err)
	}
}

// TestSkewOfClocksIsSaid: once, before the server begins to refuse.
func TestSkewOfClocksIsSaid(t *testing.T) {
	logger, heard := hear()
	b := open(t, fake(t, false, nil), func(o *Options) {
		o.Log = logger
		o.Now = func() time.Time { return time.Now().Add(-10 * time.Minute) }
	})
	mustPut(t, b, "a", "x")
	mustPut(t, b, "b", "x")
	if n := strings.Count(heard(), "clock differs"); n != 1 {
		t.Errorf("said %d times: %s", n, heard())
	}
}

// TestLockWithoutAServersClock: nothing is written with a guessed date.
func TestLockWithoutAServersClock(t *testing.T) {
	endpoint := fake(t, false, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Date"] = nil
			next.ServeHTTP(w, r)
		})
	})
	b := open(t, endpoint, withLock(Compliance, 1))
	if err := b.Put(t.Context(), "a", nil); !errors.Is(err, backend.ErrUnreachable) {
		t.Errorf("put: %v", err)
	}
}

// TestNoSecretIsPrinted: a server that answers with the request it got, logs at
// their most talkative, and every verb of fmt.
func TestNoSecretIsPrinted(t *testing.T) {
	const token = "canary-token-ABCDEF"
	echo := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var dump bytes.Buffer
		fmt.Fprint(&dump, r.Header.Get("X-Amz-Security-Token"), " ", r.Header)
		io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodPut {
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(http.StatusTeapot)
			fmt.Fprintf(w, "you sent %s and could have sent %s", dump.String(), secretKey)
			return
		}
		answer(w, http.StatusForbidden, "SignatureDoesNotMatch", "token "+token+" and "+secretKey)
	}))
	logger, heard := hear()
	var opts Options
	b := open(t, echo, func(o *Options) {
		o.SessionToken, o.Log = NewSecret([]byte(token)), logger
		opts = *o
	})
	again := retry.New(b, retry.Options{Sleep: noWait, Log: logger})
	_, gerr := again.Get(t.Context(), "a", 0, -1)
	b.versions.Store(single) // so that the PUT itself is sent
	perr := again.Put(t.Context(), "a", nil)
	if gerr == nil || perr == nil || !strings.Contains(perr.Error(), "418") {
		t.Fatalf("get: %v, put: %v", gerr, perr)
	}
	asJSON, err := json.Marshal(map[string]any{"secret": opts.SecretKey, "keys": Keys{SecretKey: opts.SecretKey, SessionToken: opts.SessionToken}})
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{gerr.Error(), perr.Error(), heard(), string(asJSON), b.Location()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} { // others would walk through what the client is using
		texts = append(texts, fmt.Sprintf(verb, b))
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		texts = append(texts, fmt.Sprintf(verb, opts.SecretKey), fmt.Sprintf(verb, opts), fmt.Sprintf(verb, Keys{SessionToken: opts.SessionToken}))
	}
	logger.Info("options", "opts", opts.SecretKey, "any", fmt.Sprint(opts))
	texts = append(texts, heard())
	for _, text := range texts {
		for _, canary := range []string{secretKey, token, fmt.Sprintf("%x", secretKey), fmt.Sprintf("%x", token)} {
			if strings.Contains(text, canary) {
				t.Errorf("%q found in %s", canary, text)
			}
		}
	}
}
