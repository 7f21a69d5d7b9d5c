package siege_test

import (
	"bytes"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

const bucket = "siege"

// gateway starts a versitygw over a new directory, on loopback, makes the bucket
// and ends the server with the test. It is a real server, by other people.
func gateway(t testing.TB) string {
	t.Helper()
	path := gatewayProgram(t)
	dir := t.TempDir()
	objects := filepath.Join(dir, "objects")
	if err := os.Mkdir(objects, 0o700); err != nil {
		t.Fatal(err)
	}
	address := freePort(t)
	c := exec.Command(path, "--quiet", "--keep-alive", "--access", accessKey, "--secret", secretKey, "--port", address, "posix", objects)
	var output bytes.Buffer
	c.Stdout, c.Stderr = &output, &output
	c.Env = append(os.Environ(), "HOME="+dir)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	t.Cleanup(func() {
		_ = c.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("versitygw: %s", output.String())
		}
	})
	awaitPort(t, address, ended)
	client, err := minio.New(address, &minio.Options{Creds: credentials.NewStaticV4(accessKey, secretKey, ""), Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{}); err != nil {
		t.Fatalf("make bucket: %v", err)
	}
	return address
}

// gatewayProgram finds versitygw in PATH or where go install puts it.
func gatewayProgram(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath("versitygw"); err == nil {
		return path
	}
	if out, err := exec.Command("go", "env", "GOPATH").Output(); err == nil {
		if path, err := exec.LookPath(filepath.Join(strings.TrimSpace(string(out)), "bin", "versitygw")); err == nil {
			return path
		}
	}
	const why = "versitygw is not installed: go install github.com/versity/versitygw/cmd/versitygw@v1.8.0"
	if os.Getenv("HOLDFAST_DEMAND_PARTS") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
	return ""
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// awaitPort returns when something accepts at address.
func awaitPort(t testing.TB, address string, ended <-chan error) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return
		}
		select {
		case err := <-ended:
			t.Fatalf("versitygw ended: %v", err)
		case <-deadline:
			t.Fatal("versitygw does not answer")
		case <-tick.C:
		}
	}
}

// moment is where in a request a process is killed.
type moment int

// The moments: the server never hears of the request; it gets half of the body;
// it does what was asked, and the answer never comes.
const (
	before moment = iota
	within
	after
	moments
)

func (m moment) String() string { return [...]string{"before", "within", "after"}[m] }

// gate stands between one machine and the server.
type gate struct {
	url   string
	proxy *httputil.ReverseProxy
	seen  atomic.Int64

	mu  sync.Mutex
	set *trap // nil: none
}

// trap kills the machine's process at one of its requests.
type trap struct {
	left  int // requests until then
	when  moment
	share float64     // of a body that still comes through
	shoot func() bool // kills, and reports whether anything ran
	fired chan string // hears once what was hit; "": nothing ran
}

// newGate opens a gate to the server at address.
func newGate(t testing.TB, address string) *gate {
	t.Helper()
	quiet := log.New(io.Discard, "", 0) // connections break here on purpose
	g := &gate{}
	g.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: address})
			r.Out.Host = r.In.Host // it is signed
		},
		Transport:    &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 32},
		ErrorLog:     quiet,
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewUnstartedServer(g)
	server.Config.ErrorLog = quiet
	server.Start()
	t.Cleanup(server.Close)
	g.url = server.URL
	return g
}

// arm sets a trap: the machine's process is killed at the n-th request from now.
func (g *gate) arm(rng *rand.Rand, n int, shoot func() bool) *trap {
	tr := &trap{left: n, when: moment(rng.IntN(int(moments))), share: rng.Float64(), shoot: shoot, fired: make(chan string, 1)}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.set = tr
	return tr
}

// disarm takes the trap away. It reports whether it was still set; if not it has
// fired, or fires now.
func (g *gate) disarm() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.set != nil
	g.set = nil
	return was
}

// due counts a request, and returns the trap if this is the one.
func (g *gate) due() *trap {
	g.seen.Add(1)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.set == nil {
		return nil
	}
	if g.set.left--; g.set.left > 0 {
		return nil
	}
	tr := g.set
	g.set = nil
	return tr
}

// ServeHTTP passes a request on, or kills who sent it.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	tr := g.due()
	if tr == nil {
		g.proxy.ServeHTTP(w, r)
		return
	}
	fire := sync.OnceFunc(func() {
		what := ""
		if tr.shoot() {
			what = tr.when.String() + " " + r.Method + " " + r.URL.Path
		}
		tr.fired <- what
	})
	defer fire()
	switch tr.when {
	case within:
		r.Body = &cut{ReadCloser: r.Body, left: int64(tr.share * float64(r.ContentLength)), fire: fire}
		g.proxy.ServeHTTP(httptest.NewRecorder(), r)
	case after:
		g.proxy.ServeHTTP(httptest.NewRecorder(), r)
	}
	fire()
	panic(http.ErrAbortHandler)
}

// cut is a body that ends too early, since its sender was killed.
type cut struct {
	io.ReadCloser
	left int64
	fire func()
}

func (c *cut) Read(p []byte) (int, error) {
	if c.left <= 0 {
		c.fire()
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.ReadCloser.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}
