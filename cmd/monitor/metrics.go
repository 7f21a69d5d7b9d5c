// Package monitor tells whoever watches how a run ended: the node_exporter by a
// textfile of metrics, and a service like healthchecks.io by a ping.
//
// A Report gathers the figures of one run while it goes on; at its end Write and
// Ping are given the Ending. Neither decides anything: a monitor that cannot be
// told is worth a warning, and never changes how a run ended.
package monitor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Report collects the figures that a run tells. Commands add theirs with Set,
// from any goroutine.
type Report struct {
	started time.Time
	mu      sync.Mutex
	gauges  []gauge
}

type gauge struct {
	name, help string
	labels     [][2]string
	value      float64
}

// NewReport begins the report of a run that started now.
func NewReport(now time.Time) *Report { return &Report{started: now} }

// Elapsed is how long the run has taken until now.
func (r *Report) Elapsed(now time.Time) time.Duration { return now.Sub(r.started) }

// Set tells a figure of this run; of one that was told before the last counts. name is
// without the prefix holdfast_, in base units (bytes_read, duration_seconds), never
// _total; labels are pairs.
func (r *Report) Set(name, help string, value float64, labels ...[2]string) {
	r.tell(name, help, labels, func(float64) float64 { return value })
}

// Add is Set of a figure that is a sum over the run: a database's full and the log behind
// it are of one source.
func (r *Report) Add(name, help string, value float64, labels ...[2]string) {
	r.tell(name, help, labels, func(before float64) float64 { return before + value })
}

// tell gives a series its value by the one that it has, 0 for none. There is one line a
// series: node_exporter refuses a file that has two.
func (r *Report) tell(name, help string, labels [][2]string, value func(before float64) float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name = "holdfast_" + name
	i := slices.IndexFunc(r.gauges, func(g gauge) bool { return g.name == name && slices.Equal(g.labels, labels) })
	if i < 0 {
		i = len(r.gauges)
		r.gauges = append(r.gauges, gauge{name: name, help: help, labels: labels})
	}
	r.gauges[i].value = value(r.gauges[i].value)
}

// Ending is how a run ended.
type Ending struct {
	Command, Profile string // Profile may be ""
	Code             int
	Message          string // the error's text without secrets; "" with code 0
	At               time.Time
}

// Write writes the textfile whole or not at all, readable for the node_exporter,
// which runs as somebody else.
func (r *Report) Write(file string, end Ending) error {
	now := float64(end.At.Unix())
	labels := [][2]string{{"command", end.Command}}
	if end.Profile != "" {
		labels = append(labels, [2]string{"profile", end.Profile})
	}
	r.Set("last_run_timestamp_seconds", "When the last run ended.", now, labels...)
	r.Set("last_exit_code", "Exit code of the last run.", float64(end.Code), labels...)
	r.Set("last_duration_seconds", "How long the last run took.", r.Elapsed(end.At).Seconds(), labels...)
	if end.Code == 0 {
		r.Set("last_success_timestamp_seconds", "When a run last ended with exit code 0.", now, labels...)
	} else if before, ok := lastSuccess(file); ok {
		r.Set("last_success_timestamp_seconds", "When a run last ended with exit code 0.", before, labels...)
	}
	return replaceFile(file, r.textfile(), 0o644)
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
func (r *Report) textfile() []byte {
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
