package cmd

import (
	"bytes"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// TestRepositoryInABucket walks the commands through a bucket.
func TestRepositoryInABucket(t *testing.T) {
	store := s3mem.New()
	if err := store.CreateBucket("backups"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(store).Server())
	defer server.Close()
	dir := t.TempDir()
	image := filepath.Join(dir, "a.raw")
	content := bytes.Repeat([]byte("what is in the bucket comes back\n"), 20_000)
	if err := os.WriteFile(image, content, 0o600); err != nil {
		t.Fatal(err)
	}
	const secret = "a-secret-that-nobody-sees"
	std := Std{Environ: []string{
		"HOLDFAST_REPOSITORY=s3:" + server.URL + "/backups/site", "HOLDFAST_CACHE_DIR=" + filepath.Join(dir, "cache"),
		"HOLDFAST_KEY_FILE=" + filepath.Join(dir, "key"), "AWS_ACCESS_KEY_ID=me", "AWS_SECRET_ACCESS_KEY=" + secret, "AWS_REGION=us-east-1",
	}}
	must := func(code int, args ...string) outcome {
		t.Helper()
		got := try(std, nil, args...)
		if got.code != code {
			t.Fatalf("%v: code %d\n%s%s", args, got.code, got.out, got.err)
		}
		if strings.Contains(got.out+got.err, secret) {
			t.Fatalf("%v shows the secret", args)
		}
		return got
	}
	must(10, "points")
	std.Environ = append(std.Environ, "HOLDFAST_KEY_FILE=")
	must(0, "init", "--new-key-file", filepath.Join(dir, "key"))
	std.Environ = append(std.Environ, "HOLDFAST_KEY_FILE="+filepath.Join(dir, "key"))
	if got := must(16, "init"); !strings.Contains(got.err, "there is a repository already") || !strings.Contains(got.err, "hint: use it as it is") {
		t.Errorf("init again: %s", got.err)
	}
	must(0, "backup", "image", image)
	must(0, "backup", "image", image)
	if got := must(0, "points", "--json"); strings.Count(got.out, `"source":"image/a"`) != 2 {
		t.Errorf("points: %s", got.out)
	}
	back := filepath.Join(dir, "b.raw")
	must(0, "restore", "disk", "latest", "-o", back)
	if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the image came back different, %v", err)
	}
	must(0, "check", "--read-data")
	must(0, "scrub", "--heal")
	std.Environ = append(std.Environ, "HOLDFAST_REPOSITORY=s3:"+server.URL+"/backups/elsewhere")
	must(10, "points")
	server.Close()
	must(14, "points")
}

// TestMissingBucketIsNamed: a mistyped bucket is neither a repository nor a place for
// one, and both say which it is. Nothing is made, no key either.
func TestMissingBucketIsNamed(t *testing.T) {
	server := httptest.NewServer(gofakes3.New(s3mem.New()).Server())
	defer server.Close()
	servers := map[string]string{"gofakes3": server.URL}
	if _, err := exec.LookPath("versitygw"); err == nil || os.Getenv("HOLDFAST_DEMAND_PARTS") == "1" {
		servers["versitygw"] = "http://" + newGate(t).address
	}
	for name, url := range servers {
		b := newBench(t, "s3:"+url+"/nobody-made-this/site")
		b.env("AWS_ACCESS_KEY_ID="+gateKey, "AWS_SECRET_ACCESS_KEY="+gateSecret)
		key := filepath.Join(b.dir, "key")
		for _, args := range [][]string{{"points"}, {"init", "--new-key-file", key}, {"scrub"}, {"init", "--new-key-file", key, "--object-lock", "governance", "--lock-days", "3"}} {
			got := b.must(10, args...)
			if !strings.Contains(got.err, "nobody-made-this") || !strings.Contains(got.err, "the bucket does not exist") || !strings.Contains(got.err, "hint: make the bucket") {
				t.Errorf("%s, %v: %s", name, args, got.err)
			}
		}
		if _, err := os.Stat(key); err == nil {
			t.Errorf("%s: a key was made", name)
		}
	}
}
