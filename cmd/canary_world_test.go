package cmd

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"holdfast/cmd/practice"
	"holdfast/repo"
	"holdfast/repo/backend/local"
	"holdfast/repo/seal"
	"holdfast/vmware/lab"
)

// canaryWorld is all that a run may need, with a secret at every place that
// takes one. The repositories in it are only ever copied.
type canaryWorld struct {
	dir      string // secrets in files, repositories
	tmp      string // where programs put temporary files
	lab      *lab.Lab
	sql      *practice.SQL
	canaries []canary

	password, wrong, token string // of the repository; not of it; of ping URLs
	keyFile, sheet         string // paths
	environ                []string
	profiled               []string // what remains of environ when a profile holds the secrets
	profile                string   // the file

	monitor, bucket, vcenter *httptest.Server // hears pings; echoes headers; echoes logins

	mu   sync.Mutex
	told map[string]string // by run: what the monitor heard

	points []string // ids of the image's, oldest first
	spare  string   // id of a key that may be removed
	runs   int
}

// plant makes a secret text that must not be seen again.
func (w *canaryWorld) plant(name string) string {
	text := canaryText(name)
	w.canaries = append(w.canaries, newCanary(name, []byte(text)))
	return text
}

// file writes a file of the world.
func (w *canaryWorld) file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func newCanaryWorld(t *testing.T) *canaryWorld {
	t.Helper()
	w := &canaryWorld{dir: t.TempDir(), tmp: t.TempDir(), told: map[string]string{}}
	w.password, w.wrong = w.plant("the repository's password"), w.plant("a wrong password")
	w.token = string(newCanary("", []byte(canaryText("the ping URL"))).cores[0])
	w.startLab(t)
	for _, name := range []string{"TMPDIR", "TMP", "TEMP"} {
		t.Setenv(name, w.tmp)
	}
	w.startMonitor(t)
	w.startLiars(t)
	w.plantEverywhere(t)
	w.makeRepositories(t)
	return w
}

func (w *canaryWorld) startLab(t *testing.T) {
	t.Helper()
	var err error
	if w.lab, err = lab.Start(t.Context(), lab.Options{Password: w.plant("the vCenter password")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.lab.Close)
	_, err = w.lab.AddVM(lab.VMSpec{
		Name: "web01", Guest: "windows2019srv_64Guest", HardwareVersion: "vmx-19", PoweredOn: true,
		ExtraConfig: map[string]string{"disk.EnableUUID": "TRUE"}, VSS: lab.ApplicationVSS, Disks: []lab.DiskSpec{{Bytes: 1 << 20}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (w *canaryWorld) startMonitor(t *testing.T) {
	w.monitor = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		run := strings.Split(strings.TrimPrefix(r.URL.Path, "/"+w.token+"/"), "/")[0]
		heard, err := httputil.DumpRequest(r, true)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.told[run] += strings.ReplaceAll(string(heard), "/"+w.token+"/", "/") + fmt.Sprint(err)
	}))
	t.Cleanup(w.monitor.Close)
}

// startLiars starts a bucket that refuses by repeating what it was sent, and a
// vCenter that repeats the request of a login.
func (w *canaryWorld) startLiars(t *testing.T) {
	w.bucket = httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead { // whose answer has no body to repeat anything in
			out.Header().Set("Last-Modified", "Sun, 01 Mar 2026 12:00:00 GMT")
			out.Header().Set("Content-Length", "20480")
			return
		}
		heard, _ := httputil.DumpRequest(r, false)
		out.Header().Set("Content-Type", "application/xml")
		out.WriteHeader(http.StatusForbidden)
		fmt.Fprint(out, "<Error><Code>AccessDenied</Code><Message>you sent ")
		_ = xml.EscapeText(out, []byte(r.Header.Get("X-Amz-Security-Token")+" in "+string(heard)))
		fmt.Fprint(out, "</Message></Error>")
	}))
	honest := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "https", Host: w.lab.URL().Host})
	honest.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	w.vcenter = httptest.NewTLSServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if !bytes.Contains(body, []byte("<Login ")) {
			honest.ServeHTTP(out, r)
			return
		}
		out.Header().Set("Content-Type", "text/xml")
		out.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(out, `<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><Fault><faultcode>ServerFaultCode</faultcode><faultstring>cannot parse `)
		_ = xml.EscapeText(out, body)
		fmt.Fprint(out, `</faultstring></Fault></Body></Envelope>`)
	}))
	t.Cleanup(w.bucket.Close)
	t.Cleanup(w.vcenter.Close)
}

// plantEverywhere fills the environment, and a profile with the same.
func (w *canaryWorld) plantEverywhere(t *testing.T) {
	t.Helper()
	at := *w.lab.URL()
	at.User = url.UserPassword(w.lab.User(), w.lab.Password())
	thumbprint := w.lab.Env()["HOLDFAST_VCENTER_THUMBPRINT"]
	other := url.URL{Scheme: "https", Host: "127.0.0.1:1", User: url.UserPassword("u", w.plant("the password in GOVC_URL"))}
	secretKey, token := w.plant("the S3 secret key"), w.plant("the S3 session token")
	token = strings.ReplaceAll(token, "é", "") // a header carries it
	guest, sql, from := w.plant("the guest's password"), w.plant("the SQL Server's password"), w.plant("the other repository's password")
	w.file(t, "aws", fmt.Sprintf("[default]\naws_access_key_id = AKIAX\naws_secret_access_key = %s\naws_session_token = %s\n",
		newCanary("", []byte(w.plant("the S3 secret key in a file"))).cores[0], newCanary("", []byte(w.plant("the S3 session token in a file"))).cores[0]))
	server, err := practice.StartSQL(sql)
	if err != nil {
		t.Fatal(err)
	}
	w.sql = server
	t.Cleanup(func() { server.Close() }) //nolint:errcheck // a laboratory goes as a whole
	w.environ = []string{
		"PATH=" + os.Getenv("PATH"), "HOLDFAST_VCENTER_URL=" + at.String(), "GOVC_URL=" + other.String(), "GOVC_PASSWORD=" + w.plant("GOVC_PASSWORD"),
		"HOLDFAST_VCENTER_THUMBPRINT=" + thumbprint, "HOLDFAST_GUEST_USER=guest", "HOLDFAST_GUEST_PASSWORD=" + guest, "HOLDFAST_SQL_USER=sa", "HOLDFAST_SQL_PASSWORD=" + sql,
		"AWS_ACCESS_KEY_ID=AKIAX", "AWS_SECRET_ACCESS_KEY=" + secretKey, "AWS_SESSION_TOKEN=" + token, "HOLDFAST_FROM_PASSWORD=" + from,
	}
	w.profiled = []string{"PATH=" + os.Getenv("PATH")}
	text, err := json.Marshal(map[string]any{"profiles": map[string]any{"default": map[string]any{ // JSON is YAML
		"password": w.password, "from-password": from, "vcenter": map[string]any{"url": at.String(), "thumbprint": thumbprint},
		"guest": map[string]any{"password": guest}, "sql": map[string]any{"user": "sa", "password": sql},
		"s3": map[string]any{"access-key-id": "AKIAX", "secret-access-key": secretKey, "session-token": token},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	w.profile = w.file(t, "config.yaml", string(text))
	w.file(t, "password", w.password+"\n")
	w.file(t, "new password", w.plant("a new password")+"\n")
	key, err := seal.NewKeyFile(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w.keyFile = w.file(t, "key", string(key))
	w.canaries = append(w.canaries, keyCanaries("the key file", key)...)
	rows, err := seal.NewSheetKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w.sheet = w.file(t, "sheet", strings.Join(rows[:], "\n"))
	w.canaries = append(w.canaries, keyCanaries("the recovery sheet", []byte(strings.Join(rows[:], "\n")))...)
	w.file(t, "from password", from)
	w.file(t, "a.raw", strings.Repeat("what is in the image\n", 20_000))
}

// makeRepositories makes the repository of all runs and the one to copy from.
// Passwords cost as little there as the format allows.
func (w *canaryWorld) makeRepositories(t *testing.T) {
	t.Helper()
	secrets := func(file string, parse func([]byte) (seal.Secret, error)) seal.Secret {
		text, err := os.ReadFile(filepath.Join(w.dir, file))
		if err != nil {
			t.Fatal(err)
		}
		s, err := parse(bytes.TrimSpace(text))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	cheap := seal.KDF{Time: 1, MemoryKiB: 8 << 10, Threads: 1}
	spare, err := seal.NewPassword([]byte("of nobody"))
	if err != nil {
		t.Fatal(err)
	}
	for dir, keys := range map[string][]repo.NewKey{
		"from": {{Secret: secrets("from password", seal.NewPassword), KDF: cheap}},
		"repo": {{Secret: secrets("password", seal.NewPassword), KDF: cheap}, {Secret: secrets("key", seal.ParseKeyFile)}, {Secret: secrets("sheet", seal.ParseKeyFile)}, {Secret: spare, KDF: cheap, Label: "spare"}},
	} {
		be, err := local.Create(t.Context(), filepath.Join(w.dir, dir), local.Options{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := repo.Init(t.Context(), be, repo.InitParams{Parity: "off", Keys: keys}, repo.Options{Now: time.Now, Rand: rand.Reader})
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		be.Close()
	}
	w.fill(t)
}

// fill makes the points of both.
func (w *canaryWorld) fill(t *testing.T) {
	t.Helper()
	image := filepath.Join(w.dir, "a.raw")
	run := func(dir, password string, args ...string) outcome {
		t.Helper()
		got := try(Std{Environ: slices.Concat(w.environ, []string{
			"HOLDFAST_REPOSITORY=" + filepath.Join(w.dir, dir), "HOLDFAST_PASSWORD_FILE=" + filepath.Join(w.dir, password), "HOLDFAST_CACHE_DIR=" + filepath.Join(w.dir, "cache"),
		})}, nil, args...)
		if got.code != 0 {
			t.Fatalf("%v: %+v", args, got)
		}
		return got
	}
	run("repo", "password", "backup", "image", image)
	run("repo", "password", "backup", "image", image, "--full")
	run("repo", "password", "backup", "vm", "web01")
	run("repo", "password", "backup", "sql", "--instance", w.sql.Address(), "-d", "sales")
	run("from", "from password", "backup", "image", image, "--name", "other")
	var points []struct{ ID, Source string }
	var keys []struct{ ID, Label string }
	if err := json.Unmarshal([]byte(run("repo", "password", "points", "--json").out), &points); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(run("repo", "password", "key", "list", "--json").out), &keys); err != nil {
		t.Fatal(err)
	}
	for _, p := range points {
		if p.Source == "image/a" {
			w.points = append(w.points, p.ID)
		}
	}
	for _, k := range keys {
		if k.Label == "spare" {
			w.spare = k.ID
		}
	}
	if len(w.points) != 2 || w.spare == "" {
		t.Fatalf("points %v, keys %v", points, keys)
	}
}

// canaryRun is one run: a directory of its own with a copy of the repository, and
// what it was given.
type canaryRun struct {
	w        *canaryWorld
	dir      string
	number   string
	env      []string
	canaries []canary
	extra    func(*app) *cobra.Command
	signals  chan os.Signal
	serves   bool // until it is interrupted, which is once it serves

	got  outcome
	made string // what holds a secret by right: a file's path, or "stdout"
}

// wayToOpen is how a run is told its secrets, and with which words.
type wayToOpen struct {
	name    string
	env     func(w *canaryWorld) []string
	profile bool // all secrets come from a profile
	flags   []string
}

var waysToOpen = []wayToOpen{
	{"variable", func(w *canaryWorld) []string { return []string{"HOLDFAST_PASSWORD=" + w.password} }, false, []string{"-v"}},
	{"key file", func(w *canaryWorld) []string { return []string{"HOLDFAST_KEY_FILE=" + w.keyFile} }, false, []string{"-v", "--json", "--log-file", "log", "--log-format", "json"}},
	{"recovery sheet", func(w *canaryWorld) []string { return []string{"HOLDFAST_KEY_FILE=" + w.sheet} }, false, []string{"-v", "--log-file", "log"}},
	{"command", func(w *canaryWorld) []string {
		exe, _ := os.Executable()
		return []string{"HOLDFAST_PASSWORD_COMMAND='" + exe + "' " + string(newCanary("", []byte(canaryText("an argument of the password command"))).cores[0])}
	}, false, []string{"--json", "--log-file", "log", "--log-format", "text"}},
	{"profile", func(*canaryWorld) []string { return nil }, true, []string{"-v", "--log-file", "log", "--log-format", "json"}},
	{"file", func(w *canaryWorld) []string {
		return []string{"HOLDFAST_PASSWORD_FILE=" + filepath.Join(w.dir, "password")}
	}, false, []string{"-v", "--json"}},
}

// begin makes the directory of a run.
func (w *canaryWorld) begin(t *testing.T, way wayToOpen) *canaryRun {
	t.Helper()
	w.runs++
	r := &canaryRun{w: w, dir: t.TempDir(), number: strconv.Itoa(w.runs), canaries: slices.Clone(w.canaries)}
	r.canaries = append(r.canaries, canary{"the ping URL", [][]byte{[]byte(w.token)}}, newCanary("an argument of the password command", []byte(canaryText("an argument of the password command"))))
	for _, dir := range []string{"repo", "from"} {
		if err := linked(filepath.Join(w.dir, dir), r.path(dir)); err != nil {
			t.Fatal(err)
		}
	}
	r.env = slices.Clone(w.environ)
	if way.profile {
		r.env = append(slices.Clone(w.profiled), "HOLDFAST_CONFIG="+w.profile)
	}
	r.env = append(r.env,
		"HOME="+filepath.Join(r.dir, "home"), "XDG_CONFIG_HOME="+filepath.Join(r.dir, "home"), "HOLDFAST_REPOSITORY="+filepath.Join(r.dir, "repo"), "HOLDFAST_CACHE_DIR="+filepath.Join(r.dir, "cache"),
		"HOLDFAST_METRICS_TEXTFILE="+filepath.Join(r.dir, "metrics.prom"), "HOLDFAST_PING_URL="+r.ping(),
		childKey+"=record", recordKey+"="+filepath.Join(r.dir, "child"), answerKey+"="+filepath.Join(w.dir, "password"))
	r.env = append(r.env, way.env(w)...)
	return r
}

// linked makes a copy of a repository of links: it never writes into a file that
// has a name.
func linked(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		return os.Link(path, filepath.Join(to, rel))
	})
}

func (r *canaryRun) ping() string { return r.w.monitor.URL + "/" + r.w.token + "/" + r.number }

// path is a path of the run; "" stays.
func (r *canaryRun) path(name string) string { return filepath.Join(r.dir, name) }

// run runs a command line; "log" stands for the run's log.
func (r *canaryRun) run(args ...string) outcome {
	for i, arg := range args {
		if arg == "log" && i > 0 && args[i-1] == "--log-file" {
			args[i] = r.path("log")
		}
	}
	if r.serves && r.signals == nil {
		return r.serve(args)
	}
	// As to a process's own, several goroutines may write to these streams.
	var out, errs watched
	std := Std{Environ: r.env, Out: &out, Err: &errs}
	if r.signals != nil {
		std.Signals = r.signals
	}
	code := run(args, std, func(a *app) []*cobra.Command {
		if r.extra == nil {
			return commands(a)
		}
		return append(commands(a), r.extra(a))
	})
	r.got.code = code
	r.got.out, _ = out.state()
	r.got.err, _ = errs.state()
	return r.got
}

// serve runs a command until it has said what it serves, and interrupts it then.
func (r *canaryRun) serve(args []string) outcome {
	var out, errs watched
	signals, ended := make(chan os.Signal, 1), make(chan int)
	go func() {
		ended <- Main(args, Std{Environ: r.env, Out: &out, Err: &errs, Signals: signals})
	}()
	out.await("HOLDFAST_VCENTER_URL", 30*time.Second)
	signals <- os.Interrupt
	r.got.code = <-ended
	r.got.out, _ = out.state()
	r.got.err, _ = errs.state()
	return r.got
}

// leaks are the secrets in what the run left.
func (r *canaryRun) leaks() []string {
	r.w.mu.Lock()
	texts := map[string]string{"the monitor": r.w.told[r.number], "standard error": r.got.err, "standard output": r.got.out}
	r.w.mu.Unlock()
	if r.made == "stdout" {
		delete(texts, "standard output")
	}
	return leaks(texts, r.canaries, func(path string) bool { return path == r.made || filepath.Base(path) == "reserve" }, r.dir, r.w.tmp)
}

func (r *canaryRun) search(t *testing.T) {
	t.Helper()
	for _, leak := range r.leaks() {
		t.Errorf("%s", leak)
	}
}
