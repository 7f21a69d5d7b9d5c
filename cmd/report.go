package cmd

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"holdfast/cmd/settings"
)

// offlineKey annotates commands that only look at the program itself: how they
// end is told to no monitor.
const offlineKey = "offline"

// pingTimeout bounds how long a monitor that does not answer can hold up a run.
const pingTimeout = 10 * time.Second

// report collects what a run tells its monitors. Commands add figures with set.
type report struct {
	started time.Time
	mu      sync.Mutex
	gauges  []gauge
}

type gauge struct {
	name, help string
	labels     [][2]string
	value      float64
}

func newReport(now time.Time) *report { return &report{started: now} }

// set adds a figure of this run to --metrics-textfile. name is without the
// prefix holdfast_, in base units (bytes_read, duration_seconds), never
// _total; labels are pairs.
func (r *report) set(name, help string, value float64, labels ...[2]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gauges = append(r.gauges, gauge{"holdfast_" + name, help, labels, value})
}

// finish tells the monitors and closes the log. A monitor that cannot be told
// is a warning: it never changes how the run ended.
func (a *app) finish(ctx context.Context, c *cobra.Command, code exitCode, runErr error) {
	help := c.Flags().Lookup("help")
	if isCompletion(c) || help != nil && help.Changed {
		return
	}
	if !a.settings.Loaded() {
		// The command line was wrong. A monitor hears of that, too, if flags
		// and variables tell which.
		if s, err := settings.Load(c, a.std.Environ); err == nil {
			a.settings = s
		}
	}
	if _, offline := c.Annotations[offlineKey]; !offline {
		if file := a.settings.Text("metrics-textfile"); file != "" {
			if err := a.writeMetrics(file, c, code); err != nil {
				a.ui.Warn("write metrics: %v", err)
			}
		}
		if to := a.settings.Text("ping-url"); to != "" {
			if err := a.ping(ctx, to, code, runErr); err != nil {
				a.ui.Warn("ping %s: %v", settings.HostOf(to), err)
			}
		}
	}
	a.log.Info("end", "code", int(code), "duration", a.now().Sub(a.report.started).Round(time.Millisecond))
	if err := a.closeLog(); err != nil {
		a.ui.Warn("close log: %v", err)
	}
}

// writeMetrics writes the textfile whole or not at all, readable for the
// node_exporter, which runs as somebody else.
func (a *app) writeMetrics(file string, c *cobra.Command, code exitCode) error {
	now := float64(a.now().Unix())
	labels := [][2]string{{"command", strings.TrimPrefix(c.CommandPath(), "holdfast ")}}
	if profile := a.settings.Profile(); profile != "" {
		labels = append(labels, [2]string{"profile", profile})
	}
	a.report.set("last_run_timestamp_seconds", "When the last run ended.", now, labels...)
	a.report.set("last_exit_code", "Exit code of the last run.", float64(code), labels...)
	a.report.set("last_duration_seconds", "How long the last run took.", a.now().Sub(a.report.started).Seconds(), labels...)
	if code == exitDone {
		a.report.set("last_success_timestamp_seconds", "When a run last ended with exit code 0.", now, labels...)
	} else if before, ok := lastSuccess(file); ok {
		a.report.set("last_success_timestamp_seconds", "When a run last ended with exit code 0.", before, labels...)
	}
	return replaceFile(file, a.report.textfile(), 0o644)
}

var successPattern = regexp.MustCompile(`(?m)^holdfast_last_success_timestamp_seconds(?:\{.*\})? (\S+)$`)

// lastSuccess reads the time of the last success out of the file about to be
// replaced, so that a failure does not make it forgotten.
func lastSuccess(file string) (float64, bool) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	m := successPattern.FindSubmatch(data)
	if m == nil {
		return 0, false
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	return v, err == nil
}

// textfile is the Prometheus text format: each metric's lines together, under
// one HELP and one TYPE.
func (r *report) textfile() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortStableFunc(r.gauges, func(a, b gauge) int { return strings.Compare(a.name, b.name) })
	var b bytes.Buffer
	last := ""
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	for _, g := range r.gauges {
		if g.name != last {
			fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s gauge\n", g.name, g.help, g.name)
			last = g.name
		}
		b.WriteString(g.name)
		for i, label := range g.labels {
			fmt.Fprintf(&b, `%c%s="%s"`, "{,"[min(i, 1)], label[0], escape.Replace(label[1]))
		}
		if len(g.labels) > 0 {
			b.WriteByte('}')
		}
		fmt.Fprintf(&b, " %s\n", strconv.FormatFloat(g.value, 'f', -1, 64))
	}
	return b.Bytes()
}

// replaceFile puts data under the name by rename, so that no reader sees half.
func replaceFile(file string, data []byte, mode os.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// ping posts how the run ended: to the URL itself after success, to URL/fail
// otherwise, as healthchecks.io and its kin expect.
func (a *app) ping(ctx context.Context, to string, code exitCode, runErr error) error {
	u, err := url.Parse(to)
	if err != nil {
		return errors.New("not a URL")
	}
	body := fmt.Sprintf("exit %d", code)
	if code != exitDone {
		u = u.JoinPath("fail")
		body += ": " + a.redact.redact(runErr.Error())
	}
	client, err := a.httpClient(pingTimeout)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(body))
	if err != nil {
		return errors.New("not a URL")
	}
	response, err := client.Do(request)
	if err != nil {
		// The client's error quotes the URL, whose path is a secret.
		var outer *url.Error
		if errors.As(err, &outer) {
			err = outer.Err
		}
		return err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("answered %s", response.Status)
	}
	return nil
}

// httpClient is a client that trusts --tls-ca besides the system's authorities.
func (a *app) httpClient(timeout time.Duration) (*http.Client, error) {
	pool, err := a.rootCAs()
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return &http.Client{Timeout: timeout, Transport: transport}, nil
}

// rootCAs are the system's certificate authorities and those of --tls-ca; nil
// means the system's alone.
func (a *app) rootCAs() (*x509.CertPool, error) {
	file := a.settings.Text("tls-ca")
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read --tls-ca: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a system without any, such as a bare container
	}
	if !pool.AppendCertsFromPEM(data) {
		return nil, usagef("it must hold certificates in PEM form", "read --tls-ca: no certificate in %s", file)
	}
	return pool, nil
}

// openLog opens --log-file and sets a.log. It returns the file's logger, nil
// without a file; with --verbose alone the log goes to standard error.
func (a *app) openLog() (*slog.Logger, error) {
	level := slog.LevelInfo
	if a.verbose {
		level = slog.LevelDebug
	}
	file := a.settings.Text("log-file")
	if file == "" {
		if a.verbose && !a.quiet {
			a.log = slog.New(a.logHandler(a.std.Err, a.json, level))
		}
		return nil, nil
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	a.closeLog = f.Close
	run := make([]byte, 4)
	_, _ = rand.Read(run) // crypto/rand never fails
	a.log = slog.New(a.logHandler(f, a.settings.Text("log-format") == "json", level)).With("run", hex.EncodeToString(run))
	return a.log, nil
}

// logHandler writes lines from which every known secret is blotted out, and the
// value of every attribute that is named like one.
func (a *app) logHandler(w io.Writer, asJSON bool, level slog.Level) slog.Handler {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: hideAttr}
	w = redactingWriter{w, a.redact}
	if asJSON {
		return slog.NewJSONHandler(w, options)
	}
	return slog.NewTextHandler(w, options)
}

var secretAttr = regexp.MustCompile(`(?i)passw|secret|token|credential|authorization|cookie`)

func hideAttr(_ []string, attr slog.Attr) slog.Attr {
	if secretAttr.MatchString(attr.Key) {
		return slog.String(attr.Key, "***")
	}
	return attr
}

// redactingWriter redacts each write; slog writes a line at a time.
type redactingWriter struct {
	w      io.Writer
	redact *redactor
}

func (r redactingWriter) Write(p []byte) (int, error) {
	if _, err := io.WriteString(r.w, r.redact.redact(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}
