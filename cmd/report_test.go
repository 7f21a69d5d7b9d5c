package cmd

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/cmd/verdict"
	"holdfast/repo/backend"
)

// watcher records the pings it gets.
type watcher struct {
	mu    sync.Mutex
	pings []string
	code  int
}

func (m *watcher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pings = append(m.pings, r.Method+" "+r.URL.String()+" "+string(body))
	if m.code != 0 {
		w.WriteHeader(m.code)
	}
}

func succeed(context.Context, *app) error { return nil }

func TestPingTellsHowTheRunEnded(t *testing.T) {
	m := &watcher{}
	server := httptest.NewServer(m)
	defer server.Close()
	for _, c := range []struct {
		do   func(context.Context, *app) error
		args []string
		want string
	}{
		{succeed, []string{"probe"}, "POST /uuid?x=1 exit 0"},
		{func(context.Context, *app) error { return errors.New("no luck") }, []string{"probe"}, "POST /uuid/fail?x=1 exit 1: no luck"},
		{func(context.Context, *app) error { return verdict.Incomplete("db offline") }, []string{"probe"}, "POST /uuid/fail?x=1 exit 3: done, but not complete: db offline"},
		{func(context.Context, *app) error { return backend.ErrUnreachable }, []string{"probe"}, "POST /uuid/fail?x=1 exit 14: storage unreachable"},
		{func(context.Context, *app) error { panic("x") }, []string{"probe"}, "POST /uuid/fail?x=1 exit 2: the program crashed: string"},
		{succeed, []string{"probe", "--nonsense"}, "POST /uuid/fail?x=1 exit 1: unknown flag --nonsense"},
		{succeed, []string{"version"}, ""},
		{succeed, []string{"probe", "--help"}, ""},
		{succeed, []string{}, ""},
	} {
		m.pings = nil
		try(Std{Environ: []string{"HOLDFAST_PING_URL=" + server.URL + "/uuid?x=1"}}, probe(c.do), c.args...)
		if got := strings.Join(m.pings, "; "); got != c.want {
			t.Errorf("%v: %q, want %q", c.args, got, c.want)
		}
	}
}

func TestPingOfAnInterruptedRunIsStillSent(t *testing.T) {
	m := &watcher{}
	server := httptest.NewServer(m)
	defer server.Close()
	signals := make(chan os.Signal, 1)
	signals <- os.Interrupt
	o := try(Std{Signals: signals}, probe(func(ctx context.Context, _ *app) error { <-ctx.Done(); return ctx.Err() }), "probe", "--ping-url", server.URL+"/u")
	if o.code != 130 || len(m.pings) != 1 || m.pings[0] != "POST /u/fail exit 130: interrupted" {
		t.Errorf("%+v %v", o, m.pings)
	}
}

func TestFailedPingIsAWarningAndHidesTheURL(t *testing.T) {
	m := &watcher{code: 500}
	server := httptest.NewServer(m)
	for _, want := range []string{"answered 500", "refused"} {
		o := try(Std{}, probe(succeed), "probe", "--ping-url", server.URL+"/secret-uuid")
		if o.code != 0 || !strings.Contains(o.err, "warning: ping "+server.URL) || !strings.Contains(o.err, want) || strings.Contains(o.err, "secret-uuid") {
			t.Errorf("%s: %+v", want, o)
		}
		server.Close() // the second round finds nobody there
	}
}

func TestTLSCAIsTrustedForPings(t *testing.T) {
	m := &watcher{}
	server := httptest.NewTLSServer(m)
	defer server.Close()
	server.Config.ErrorLog = nil
	ca := write(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	o := try(Std{}, probe(succeed), "probe", "--ping-url", server.URL+"/u", "--tls-ca", ca)
	if o.code != 0 || o.err != "" || len(m.pings) != 1 {
		t.Errorf("%+v %v", o, m.pings)
	}
	o = try(Std{}, probe(succeed), "probe", "--ping-url", server.URL+"/u", "--tls-ca", write(t, "x.pem", "no certificate"))
	if !strings.Contains(o.err, "no certificate in") {
		t.Errorf("%+v", o)
	}
}

func TestMetricsKeepTheLastSuccess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "holdfast.prom")
	config := write(t, "c.yaml", "profiles: {'night\"ly': {}}")
	runAt := func(at int64, do func(context.Context, *app) error) string {
		now := time.Unix(at, 0)
		clock := func() time.Time { now = now.Add(500 * time.Millisecond); return now }
		try(Std{Now: clock}, probe(do), "probe", "--metrics-textfile", file, "--config", config, "--profile", `night"ly`)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	text := runAt(1000, func(_ context.Context, a *app) error {
		a.report.Set("bytes_read", "Bytes read.", 1<<40, [2]string{"source", "vm/a"})
		a.report.Set("bytes_read", "Bytes read.", 7, [2]string{"source", "vm/b"})
		return nil
	})
	labels := `{command="probe",profile="night\"ly"}`
	for _, want := range []string{
		"# HELP holdfast_bytes_read Bytes read.\n# TYPE holdfast_bytes_read gauge\nholdfast_bytes_read{source=\"vm/a\"} 1099511627776\nholdfast_bytes_read{source=\"vm/b\"} 7\n",
		"holdfast_last_exit_code" + labels + " 0\n", "holdfast_last_duration_seconds" + labels + " 0.5",
		"holdfast_last_run_timestamp_seconds" + labels + " 1001\n", "holdfast_last_success_timestamp_seconds" + labels + " 1001\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q:\n%s", want, text)
		}
	}
	for at := int64(2000); at < 4000; at += 1000 { // twice: the memory survives more than one failure
		text = runAt(at, func(context.Context, *app) error { return errors.New("no") })
	}
	if !strings.Contains(text, "last_exit_code"+labels+" 1\n") || !strings.Contains(text, "last_success_timestamp_seconds"+labels+" 1001\n") ||
		!strings.Contains(text, "last_run_timestamp_seconds"+labels+" 3001\n") {
		t.Errorf("after failures:\n%s", text)
	}
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(entries) != 1 {
		t.Errorf("leftovers: %v %v", entries, err)
	}
}

func TestMetricsThatCannotBeWrittenAreAWarning(t *testing.T) {
	o := try(Std{}, probe(succeed), "probe", "--metrics-textfile", filepath.Join(t.TempDir(), "no", "such", "dir.prom"))
	if o.code != 0 || !strings.Contains(o.err, "warning: write metrics") {
		t.Errorf("%+v", o)
	}
}

func TestLogFileHasBothFormatsAndOneRunID(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	fail := func(_ context.Context, a *app) error {
		a.log.Debug("too much detail")
		a.ui.Warn("look here")
		return errors.New("no luck")
	}
	try(Std{}, probe(fail), "probe", "--log-file", file, "--log-format", "json")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var messages []string
	ids := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		var l struct{ Msg, Run, Level string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		messages = append(messages, l.Level+" "+l.Msg)
		ids[l.Run] = true
	}
	if got := strings.Join(messages, ", "); got != "INFO start, WARN look here, ERROR run failed, INFO end" || len(ids) != 1 || ids[""] {
		t.Errorf("%s, ids %v", got, ids)
	}
	try(Std{}, probe(fail), "probe", "--log-file", file, "-v") // appended
	data, _ = os.ReadFile(file)
	if !strings.Contains(string(data), `level=DEBUG msg="too much detail"`) || !strings.HasPrefix(string(data), "{") {
		t.Errorf("second run:\n%s", data)
	}
	if o := try(Std{}, probe(fail), "probe", "--log-file", t.TempDir()); o.code != 1 || !strings.Contains(o.err, "open log") {
		t.Errorf("a log that cannot be opened: %+v", o)
	}
}
