package s3

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/minio-go/v7"
)

const (
	accessKey = "canary-access"
	secretKey = "canary-secret-0123456789"
	bucket    = "holdfast-test"
)

// open opens a backend at endpoint, "http://host:port", with a prefix of the
// test's own, and closes it at the end.
func open(t *testing.T, endpoint string, change ...func(*Options)) *Backend {
	t.Helper()
	opts := Options{
		Location:  Location{Endpoint: endpoint, Bucket: bucket, Prefix: "site/one"},
		AccessKey: accessKey, SecretKey: NewSecret([]byte(secretKey)), Region: "us-east-1",
	}
	for _, c := range change {
		c(&opts)
	}
	b, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// fake starts gofakes3 with one bucket; around may wrap its handler.
func fake(t *testing.T, versioned bool, around func(http.Handler) http.Handler) string {
	t.Helper()
	store := s3mem.New()
	if err := store.CreateBucket(bucket); err != nil {
		t.Fatal(err)
	}
	if versioned {
		config := gofakes3.VersioningConfiguration{}
		config.SetEnabled(true)
		if err := store.SetVersioningConfiguration(bucket, config); err != nil {
			t.Fatal(err)
		}
	}
	handler := gofakes3.New(store).Server()
	if around != nil {
		handler = around(handler)
	}
	return serve(t, handler)
}

// serve runs a handler on loopback.
func serve(t *testing.T, handler http.Handler) string {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = quiet()
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

// quiet takes what an HTTP server says of connections that break on purpose.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// hear returns a logger and what it has heard.
func hear() (*slog.Logger, func() string) {
	var mu sync.Mutex
	var text bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return text.Write(p)
	}), &slog.HandlerOptions{Level: slog.LevelDebug}))
	return logger, func() string {
		mu.Lock()
		defer mu.Unlock()
		return text.String()
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// gateway starts a versitygw over a new directory, on loopback, and ends it
// with the test. It is a real server, by other people.
func gateway(t *testing.T) string {
	t.Helper()
	program := gatewayProgram(t)
	dir := t.TempDir()
	for _, sub := range []string{"objects", "versions"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	address := freePort(t)
	command := exec.Command(program, "--quiet", "--keep-alive", "--access", accessKey, "--secret", secretKey, "--port", address,
		"posix", "--versioning-dir", filepath.Join(dir, "versions"), filepath.Join(dir, "objects"))
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	command.Env = append(os.Environ(), "HOME="+dir)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() {
		command.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("versitygw: %s", output.String())
		}
	})
	awaitPort(t, address, ended)
	return "http://" + address
}

// gatewayProgram finds versitygw in PATH or where go install puts it.
func gatewayProgram(t *testing.T) string {
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

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// awaitPort returns when something accepts at address.
func awaitPort(t *testing.T, address string, ended <-chan error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address); err == nil {
			conn.Close()
			return
		}
		select {
		case err := <-ended:
			t.Fatalf("versitygw ended: %v", err)
		case <-ctx.Done():
			t.Fatal("versitygw does not answer")
		case <-tick.C:
		}
	}
}

// makeBucket makes a bucket through the client, which is not part of the
// backend: operators make buckets.
func makeBucket(t *testing.T, endpoint, name string, opts minio.MakeBucketOptions, versioned bool) {
	t.Helper()
	client := open(t, endpoint).core
	if err := client.MakeBucket(t.Context(), name, opts); err != nil {
		t.Fatalf("make bucket: %v", err)
	}
	if versioned {
		if err := client.EnableVersioning(t.Context(), name); err != nil {
			t.Fatalf("enable versioning: %v", err)
		}
	}
}

// in moves a backend to another bucket or prefix.
func in(bucketName, prefix string) func(*Options) {
	return func(o *Options) { o.Location.Bucket, o.Location.Prefix = bucketName, prefix }
}

// numbered gives each test of a suite a place of its own.
func numbered(prefix string) func() string {
	n := 0
	return func() string {
		n++
		return fmt.Sprintf("%s/%d", prefix, n)
	}
}
