package cmd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// gate is a versitygw, a real server by other people, with a user beside root.
type gate struct {
	address string
	root    *minio.Client
}

const gateKey, gateSecret, userKey, userSecret = "root-key", "root-secret-0123456789", "user-key", "user-secret-0123456789"

func newGate(t *testing.T) *gate {
	t.Helper()
	program, err := exec.LookPath("versitygw")
	if err != nil {
		const why = "versitygw is not installed: go install github.com/versity/versitygw/cmd/versitygw@v1.8.0"
		if os.Getenv("HOLDFAST_DEMAND_PARTS") == "1" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	dir := t.TempDir()
	for _, sub := range []string{"objects", "versions", "iam"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	users := fmt.Sprintf(`{"accessAccounts":{%q:{"access":%q,"secret":%q,"role":"user"}}}`, userKey, userKey, userSecret)
	if err := os.WriteFile(filepath.Join(dir, "iam", "users.json"), []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	c := exec.Command(program, "--quiet", "--access", gateKey, "--secret", gateSecret, "--port", address, "--iam-dir", filepath.Join(dir, "iam"),
		"posix", "--versioning-dir", filepath.Join(dir, "versions"), filepath.Join(dir, "objects"))
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
	awaitGate(t, address, ended)
	root, err := minio.New(address, &minio.Options{Creds: credentials.NewStaticV4(gateKey, gateSecret, ""), Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	return &gate{address, root}
}

// awaitGate returns when something accepts at address.
func awaitGate(t *testing.T, address string, ended <-chan error) {
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

func (g *gate) makeBucket(t *testing.T, name string, locking bool) {
	t.Helper()
	if err := g.root.MakeBucket(t.Context(), name, minio.MakeBucketOptions{ObjectLocking: locking}); err != nil {
		t.Fatal(err)
	}
}

// bench runs commands against one repository in a bucket.
type bench struct {
	t   *testing.T
	dir string
	std Std
}

func newBench(t *testing.T, url string) *bench {
	dir := t.TempDir()
	return &bench{t, dir, Std{Environ: []string{"HOLDFAST_REPOSITORY=" + url, "HOLDFAST_CACHE_DIR=" + filepath.Join(dir, "cache"), "AWS_REGION=us-east-1"}}}
}

func (b *bench) env(words ...string) { b.std.Environ = append(b.std.Environ, words...) }

func (b *bench) must(code int, args ...string) outcome {
	b.t.Helper()
	got := try(b.std, nil, args...)
	if got.code != code {
		b.t.Fatalf("%v: code %d, not %d\n%s%s", args, got.code, code, got.out, got.err)
	}
	return got
}

// init makes the repository, which opens with a key file from then on.
func (b *bench) init(args ...string) outcome {
	b.t.Helper()
	key := filepath.Join(b.dir, "key")
	got := b.must(0, append([]string{"init", "--json", "--new-key-file", key}, args...)...)
	b.env("HOLDFAST_KEY_FILE=" + key)
	return got
}

// image makes a file of noise.
func (b *bench) image(name string, size int, seed uint64) string {
	b.t.Helper()
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed)}).Read(data)
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// last is the last line of a JSON output, decoded.
func last[T any](t *testing.T, text string) (v T) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return v
}

type pruned struct {
	PacksRemoved int `json:"packs_removed"`
	Locked       int
	Prolonged    int
	Points       int
}

// TestLockedObjectsStayAndGoLater: what a lock holds is counted, not an error; every
// object of the repository is locked; and prune prolongs what is still needed.
func TestLockedObjectsStayAndGoLater(t *testing.T) {
	g := newGate(t)
	g.makeBucket(t, "locked", true)
	b := newBench(t, "s3:http://"+g.address+"/locked/site")
	b.env("AWS_ACCESS_KEY_ID="+gateKey, "AWS_SECRET_ACCESS_KEY="+gateSecret)
	made := last[struct {
		ObjectLock *struct {
			Mode string
			Days int
		} `json:"object_lock"`
	}](t, b.init("--object-lock", "governance", "--lock-days", "30").out)
	if made.ObjectLock == nil || made.ObjectLock.Mode != "governance" || made.ObjectLock.Days != 30 {
		t.Errorf("init says %+v", made.ObjectLock)
	}
	b.must(0, "backup", "image", b.image("a.raw", 300_000, 1))
	b.must(0, "backup", "image", b.image("b.raw", 300_000, 2))
	b.must(0, "pin", "latest:a")
	b.must(0, "unpin", "latest:a")
	b.must(0, "forget", "latest:a")
	g.wantLocks(t, "locked", 30)

	dry := last[pruned](t, b.must(0, "prune", "--dry-run", "--json").out)
	rep := last[pruned](t, b.must(0, "prune", "--json").out)
	if rep.PacksRemoved != 0 || rep.Locked < 4 || rep.Points != 1 || rep.Prolonged < 5 || dry.Prolonged != 0 {
		t.Errorf("prune of locked objects: %+v, dry %+v", rep, dry)
	}
	again := last[pruned](t, b.must(0, "prune", "--json").out)
	if again.PacksRemoved != 0 || again.Locked < 4 {
		t.Errorf("second prune: %+v", again)
	}
	if text := b.must(0, "prune").out; !strings.Contains(text, "are locked") {
		t.Errorf("prune does not say that objects are locked:\n%s", text)
	}
	b.must(0, "check", "--read-data")

	// The locks end: here, because root may end them.
	g.unlock(t, "locked")
	rep = last[pruned](t, b.must(0, "prune", "--json").out)
	if rep.PacksRemoved != 2 || rep.Locked != 0 || rep.Prolonged < 5 {
		t.Errorf("prune after the locks: %+v", rep)
	}
	g.wantLocks(t, "locked", 30) // what stays is locked anew
	b.must(0, "restore", "disk", "latest:b", "-o", filepath.Join(b.dir, "back.raw"))
	b.must(0, "check", "--read-data")
}

// TestKeysOfALockedBucketAreRemovedAsFarAsTheLockAllows: 3 with the time until which
// the bucket keeps the slot; 16 when asked again; a rotation keeps the key out at once.
func TestKeysOfALockedBucketAreRemovedAsFarAsTheLockAllows(t *testing.T) {
	g := newGate(t)
	g.makeBucket(t, "keys", true)
	b := newBench(t, "s3:http://"+g.address+"/keys/site")
	b.env("AWS_ACCESS_KEY_ID="+gateKey, "AWS_SECRET_ACCESS_KEY="+gateSecret)
	b.init("--object-lock", "governance", "--lock-days", "30")
	second := filepath.Join(b.dir, "second")
	added := last[keyChange](t, b.must(0, "key", "add", "--new-key-file", second, "--json").out)
	until := " until " + time.Now().AddDate(0, 0, 30).UTC().Format("2006-01-02")
	got := b.must(3, "key", "remove", added.ID)
	if !strings.Contains(got.err, until) || !strings.Contains(got.err, "hint: holdfast key rotate") || !strings.Contains(got.out, "removed key "+added.ID) {
		t.Errorf("remove: %s%s", got.out, got.err)
	}
	if got := b.must(16, "key", "remove", added.ID); !strings.Contains(got.err, until) {
		t.Errorf("remove again: %s", got.err)
	}
	b.must(0, "points", "--key-file", second) // as yet
	b.must(0, "key", "rotate")
	b.must(12, "points", "--key-file", second)
	b.must(0, "backup", "image", b.image("a.raw", 300_000, 1))
	b.must(0, "check")
	g.unlock(t, "keys")
	b.must(0, "key", "rotate")
	if got := b.must(0, "key", "list", "--json"); strings.Contains(got.out, added.ID) {
		t.Errorf("keys: %s", got.out)
	}
	b.must(1, "key", "remove", added.ID)
}

// each calls fn for every version of every object.
func (g *gate) each(t *testing.T, bucket string, fn func(minio.ObjectInfo)) {
	t.Helper()
	for o := range g.root.ListObjects(t.Context(), bucket, minio.ListObjectsOptions{Recursive: true, WithVersions: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		fn(o)
	}
}

// wantLocks demands that every object, but for the records of sessions, is locked
// for so many days from now.
func (g *gate) wantLocks(t *testing.T, bucket string, days int) {
	t.Helper()
	seen := 0
	g.each(t, bucket, func(o minio.ObjectInfo) {
		if strings.Contains(o.Key, "/sessions/") || o.IsDeleteMarker {
			return
		}
		seen++
		info, err := g.root.StatObject(t.Context(), bucket, o.Key, minio.StatObjectOptions{VersionID: o.VersionID})
		if err != nil {
			t.Fatal(err)
		}
		until, err := time.Parse(time.RFC3339, info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
		if want := time.Now().AddDate(0, 0, days); err != nil || until.Sub(want).Abs() > 10*time.Minute {
			t.Errorf("%s is locked until %v, want %v; %v", o.Key, until, want, err)
		}
	})
	if seen < 5 {
		t.Errorf("%d objects in %s", seen, bucket)
	}
}

// unlock ends every lock, as who may bypass governance can.
func (g *gate) unlock(t *testing.T, bucket string) {
	t.Helper()
	mode, soon := minio.Governance, time.Now().Add(2*time.Second)
	g.each(t, bucket, func(o minio.ObjectInfo) {
		opts := minio.PutObjectRetentionOptions{GovernanceBypass: true, Mode: &mode, RetainUntilDate: &soon, VersionID: o.VersionID}
		if err := g.root.PutObjectRetention(t.Context(), bucket, o.Key, opts); err != nil {
			t.Fatalf("unlock %s: %v", o.Key, err)
		}
	})
	<-time.After(time.Until(soon) + time.Second) // a date has to pass by the server's clock
}

// TestLockWhereThereIsNoneIsRefused: 16, before a key or anything else is made.
func TestLockWhereThereIsNoneIsRefused(t *testing.T) {
	store := s3mem.New()
	if err := store.CreateBucket("plain"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(store).Server())
	defer server.Close()
	refused := func(b *bench) {
		t.Helper()
		key := filepath.Join(b.dir, "key")
		got := b.must(16, "init", "--new-key-file", key, "--object-lock", "compliance", "--lock-days", "3")
		if !strings.Contains(got.err, "cannot be locked there") || !strings.Contains(got.err, "hint: objects are locked in S3 buckets") {
			t.Errorf("it says %s", got.err)
		}
		if _, err := os.Stat(key); err == nil {
			t.Error("a key was made")
		}
		b.must(10, "points")
	}
	b := newBench(t, "s3:"+server.URL+"/plain/site")
	b.env("AWS_ACCESS_KEY_ID=me", "AWS_SECRET_ACCESS_KEY=a-secret-that-nobody-sees")
	refused(b)
	b = newBench(t, filepath.Join(t.TempDir(), "r"))
	refused(b)

	g := newGate(t)
	g.makeBucket(t, "unlocked", false)
	b = newBench(t, "s3:http://"+g.address+"/unlocked")
	b.env("AWS_ACCESS_KEY_ID="+gateKey, "AWS_SECRET_ACCESS_KEY="+gateSecret)
	refused(b)
}

// deaf is a server that has never heard of If-None-Match.
func deaf(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("If-None-Match")
		next.ServeHTTP(w, r)
	})
}

// TestServerThatCannotDecideBetweenWritersIsSaid, loudly, whenever something writes.
func TestServerThatCannotDecideBetweenWritersIsSaid(t *testing.T) {
	for _, c := range []struct {
		name  string
		wrap  func(http.Handler) http.Handler
		alone bool
	}{{"deaf", deaf, true}, {"able", func(h http.Handler) http.Handler { return h }, false}} {
		t.Run(c.name, func(t *testing.T) {
			store := s3mem.New()
			if err := store.CreateBucket("plain"); err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(c.wrap(gofakes3.New(store).Server()))
			defer server.Close()
			b := newBench(t, "s3:"+server.URL+"/plain/site")
			b.env("AWS_ACCESS_KEY_ID=me", "AWS_SECRET_ACCESS_KEY=a-secret-that-nobody-sees")
			got := b.init()
			said := func(got outcome) bool {
				return strings.Contains(got.err+got.out, "only one program may write here at a time")
			}
			if made := last[struct {
				SingleWriter string `json:"single_writer"`
			}](t, got.out); said(got) != c.alone || (made.SingleWriter != "") != c.alone {
				t.Errorf("init: %+v", got)
			}
			for _, args := range [][]string{
				{"backup", "image", b.image("a.raw", 300_000, 1), "-q"}, {"tag", "latest", "--add", "x", "--json"}, {"forget", "--keep-last", "1", "--prune"}, {"prune"}, {"repair", "index"},
				{"key", "add", "--new-key-file", filepath.Join(b.dir, "second")}, {"key", "rotate"}, {"scrub", "--heal"},
			} {
				if got := b.must(0, args...); said(got) != c.alone {
					t.Errorf("%v: %+v", args, got)
				}
			}
			for _, args := range [][]string{{"points"}, {"check"}, {"scrub"}, {"key", "list"}, {"prune", "--dry-run"}} {
				if got := b.must(0, args...); said(got) {
					t.Errorf("%v writes nothing: %+v", args, got)
				}
			}
		})
	}
}

// ledger of requests: which permissions they need, by Amazon's reference of actions
// (Service Authorization Reference, "Actions, resources, and condition keys for
// Amazon S3").
type needs struct {
	mu   sync.Mutex
	seen map[string]string // action → the first request that needed it
}

func (n *needs) take() map[string]string {
	n.mu.Lock()
	defer n.mu.Unlock()
	seen := n.seen
	n.seen = nil
	return seen
}

var objectPath = regexp.MustCompile(`^/[^/]+/.`)

func (n *needs) note(r *http.Request) {
	query := r.URL.Query()
	var actions []string
	switch object, version := objectPath.MatchString(r.URL.Path), query.Get("versionId") != ""; {
	case !object && query.Has("location"):
		actions = []string{"s3:GetBucketLocation"}
	case !object && query.Has("versioning"):
		actions = []string{"s3:GetBucketVersioning"}
	case !object && query.Has("object-lock"):
		actions = []string{"s3:GetBucketObjectLockConfiguration"}
	case !object && query.Has("versions"):
		actions = []string{"s3:ListBucketVersions"}
	case !object && r.Method == http.MethodGet:
		actions = []string{"s3:ListBucket"}
	case r.Method == http.MethodPut && query.Has("retention"):
		actions = []string{"s3:PutObjectRetention"}
	case r.Method == http.MethodPut:
		actions = []string{"s3:PutObject"}
		if r.Header.Get("X-Amz-Object-Lock-Mode") != "" {
			actions = append(actions, "s3:PutObjectRetention")
		}
	case r.Method == http.MethodDelete && version:
		actions = []string{"s3:DeleteObjectVersion"}
	case r.Method == http.MethodDelete:
		actions = []string{"s3:DeleteObject"}
	case version:
		actions = []string{"s3:GetObjectVersion"}
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		actions = []string{"s3:GetObject"}
	default:
		actions = []string{"nobody knows: " + r.Method + " " + r.URL.String()}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen == nil {
		n.seen = map[string]string{}
	}
	for _, a := range actions {
		if _, ok := n.seen[a]; !ok {
			n.seen[a] = r.Method + " " + r.URL.String()
		}
	}
}

// watch is a proxy before a server that notes what each request needs.
func (n *needs) watch(t *testing.T, address string) string {
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: address})
		r.Out.Host = r.In.Host // what was signed
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.note(r)
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// policyOf is what --print-policy prints, and the actions in it.
func policyOf(b *bench, args ...string) (policy map[string]any, actions []string) {
	b.t.Helper()
	got := b.must(0, append([]string{"init", "--json", "--print-policy"}, args...)...)
	policy = last[map[string]any](b.t, got.out)
	for _, s := range policy["Statement"].([]any) {
		for _, a := range s.(map[string]any)["Action"].([]any) {
			actions = append(actions, a.(string))
		}
	}
	return policy, actions
}

// TestPrintedPoliciesAreEnoughAndNotMore: a real server holds a user to the printed
// policy, and he can do all that his role is for, and nothing that it is not for;
// and each right in the policy is one that some command of the role has asked for.
func TestPrintedPoliciesAreEnoughAndNotMore(t *testing.T) {
	g := newGate(t)
	used := map[string]map[string]string{"backup": {}, "restore": {}, "admin": {}}
	printed := map[string]map[string]bool{"backup": {}, "restore": {}, "admin": {}}
	for _, locking := range []bool{false, true} {
		bucket, lock := "plain", []string{}
		if locking {
			bucket, lock = "locking", []string{"--object-lock", "governance", "--lock-days", "1"}
		}
		g.makeBucket(t, bucket, locking)
		var n needs
		b := newBench(t, "s3:http://"+n.watch(t, g.address)+"/"+bucket+"/site")
		b.env("AWS_ACCESS_KEY_ID="+userKey, "AWS_SECRET_ACCESS_KEY="+userSecret, "AWS_REGION=") // the server is asked for its region
		as := func(role string, run func()) {
			policy, actions := policyOf(b, append([]string{role}, lock...)...)
			for _, a := range actions {
				printed[role][a] = true
			}
			g.hold(t, bucket, policy)
			n.take()
			run()
			maps.Copy(used[role], n.take())
		}
		raw, back := b.image("a.raw", 300_000, 1), filepath.Join(b.dir, "back.raw")
		as("admin", func() { b.init(lock...) })
		as("backup", func() {
			b.must(0, "backup", "image", raw)
			b.must(0, "backup", "image", b.image("b.raw", 300_000, 2))
			b.must(0, "tag", "latest:a", "--add", "x")
			b.must(0, "points")
			b.must(0, "check", "--read-data")
			b.must(0, "forget", "latest:b") // the tombstone is written; what it frees stays
			if locking {
				b.must(0, "prune") // whatever it may, all is locked
			} else if got := b.must(14, "prune"); !strings.Contains(got.err, "s3:DeleteObject") {
				t.Errorf("prune as backup: %s", got.err)
			}
			n.take() // what was refused is no need
			b.must(0, "backup", "image", raw)
		})
		as("restore", func() {
			b.must(0, "points")
			b.must(0, "restore", "disk", "latest:a", "-o", back)
			b.must(0, "check", "--read-data")
			seen := n.take()
			b.must(14, "backup", "image", raw)
			b.must(14, "forget", "latest")
			n.take()
			n.mu.Lock()
			n.seen = seen
			n.mu.Unlock()
		})
		as("admin", func() { b.must(0, "prune"); b.must(0, "points") })
	}
	for role, want := range printed {
		for action := range want {
			if used[role][action] == "" && !slices.Contains(inferred, action) {
				t.Errorf("%s may %s, and nothing it does needs that", role, action)
			}
		}
		for action, request := range used[role] {
			if !want[action] {
				t.Errorf("%s needs %s for %s", role, action, request)
			}
		}
	}
}

// inferred are rights that no request names: the lock in the headers of a HEAD is
// shown only to who has this one.
var inferred = []string{"s3:GetObjectRetention"}

// hold gives the user of the gateway what a policy allows, and no more. A bucket's
// policy names whom it is for; this server knows no conditions.
func (g *gate) hold(t *testing.T, bucket string, policy map[string]any) {
	t.Helper()
	for _, s := range policy["Statement"].([]any) {
		statement := s.(map[string]any)
		statement["Principal"] = map[string]any{"AWS": []string{userKey}}
		delete(statement, "Condition")
	}
	text, err := json.Marshal(policy)
	if err == nil {
		err = g.root.SetBucketPolicy(t.Context(), bucket, string(text))
	}
	if err != nil {
		t.Fatalf("set policy: %v\n%s", err, text)
	}
}

// TestPrintPolicyMakesAndAsksNothing: no server, no credentials, no password.
func TestPrintPolicyMakesAndAsksNothing(t *testing.T) {
	b := newBench(t, "s3:http://127.0.0.1:1/bucket/a/b")
	got := b.must(0, "init", "--print-policy", "backup")
	if strings.Contains(got.out, "Delete") || !strings.Contains(got.out, "arn:aws:s3:::bucket/a/b/*") || !json.Valid([]byte(got.out)) || got.err != "" {
		t.Errorf("%+v", got)
	}
	if got := b.must(0, "init", "--print-policy", "admin", "--object-lock", "compliance", "--lock-days", "7", "--json"); strings.Count(got.out, "\n") != 1 || !strings.Contains(got.out, "s3:PutObjectRetention") || strings.Contains(got.out, "Bypass") {
		t.Errorf("%+v", got)
	}
	for _, args := range [][]string{{"--print-policy", "root"}, {"--print-policy", ""}, {"--print-policy", "backup", "--lock-days", "3"}} {
		b.must(1, append([]string{"init"}, args...)...)
	}
	b = newBench(t, filepath.Join(t.TempDir(), "r"))
	if got := b.must(1, "init", "--print-policy", "backup"); !strings.Contains(got.err, "no bucket") {
		t.Errorf("%+v", got)
	}
}
