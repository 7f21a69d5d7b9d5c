package demo_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"holdfast/cmd"
	"holdfast/cmd/demo"
	"holdfast/cmd/ui"
)

// smallest are the arguments of the shortest demo.
var smallest = []string{"demo", "--size", "64M"}

// ownTemp gives the test a temporary directory of its own for everything.
func ownTemp(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"TMPDIR", "TMP", "TEMP"} {
		t.Setenv(name, dir)
	}
	return dir
}

// nothingLeft fails the test if a directory holds anything.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("%s was left behind", e.Name())
	}
}

func TestDemo(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := ownTemp(t)
	var out, errs bytes.Buffer
	// Settings of the user's own must not reach the demo.
	environ := []string{"HOLDFAST_REPOSITORY=/nowhere", "HOLDFAST_PASSWORD=of-the-user-1", "HOLDFAST_VCENTER_URL=https://127.0.0.1:1/sdk"}
	if code := cmd.Main(smallest, cmd.Std{Out: &out, Err: &errs, Environ: environ}); code != 0 {
		t.Fatalf("code %d\n%s\n%s", code, out.String(), errs.String())
	}
	text := out.String()
	for _, want := range []string{
		"$ holdfast init --new-key-file ", "$ holdfast backup vm web01\n", "$ holdfast restore vm latest:web01 --name web01-restored\n",
		"$ holdfast scrub --heal\n", "$ holdfast check --read-data\n", "the whole story", "Nothing of it is left",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in:\n%s", want, text)
		}
	}
	if n := strings.Count(text, "   proved: "); n != 10 {
		t.Errorf("%d claims were proved:\n%s", n, text)
	}
	for line := range strings.Lines(text) {
		if strings.TrimRight(line, " \n") != strings.TrimSuffix(line, "\n") {
			t.Errorf("blanks at the end of %q", line)
		}
	}
	nothingLeft(t, dir)
}

func TestKeptDemoCanBeGoneOnWith(t *testing.T) {
	ownTemp(t)
	var out, errs bytes.Buffer
	if code := cmd.Main(append(slices.Clone(smallest), "--keep", "--json"), cmd.Std{Out: &out, Err: &errs}); code != 0 {
		t.Fatalf("code %d\n%s\n%s", code, out.String(), errs.String())
	}
	var last struct {
		MessageType string           `json:"message_type"`
		Kept        string           `json:"kept"`
		Proofs      int              `json:"proofs"`
		Steps       []map[string]any `json:"steps"`
		Command     string           `json:"command"`
	}
	commands := 0
	for line := range strings.Lines(out.String()) {
		last.Command = ""
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if last.Command != "" {
			commands++
		}
	}
	if last.MessageType != "summary" || last.Proofs != 10 || len(last.Steps) != 6 || commands < 8 {
		t.Errorf("%d commands and %+v", commands, last)
	}
	var left []string
	entries, err := os.ReadDir(last.Kept)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"before.raw", "key", "repository"}; !slices.Equal(left, want) {
		t.Errorf("left are %q, want %q", left, want)
	}
	environ := []string{
		"HOLDFAST_REPOSITORY=" + filepath.Join(last.Kept, "repository"), "HOLDFAST_KEY_FILE=" + filepath.Join(last.Kept, "key"),
		"HOLDFAST_CACHE_DIR=" + t.TempDir(),
	}
	if code := cmd.Main([]string{"show", "latest:web01"}, cmd.Std{Err: &errs, Environ: environ}); code != 0 {
		t.Errorf("show: code %d: %s", code, errs.String())
	}
}

// onSight sends a signal when the text goes by.
type onSight struct {
	text    string
	seen    bytes.Buffer
	signals chan<- os.Signal
}

func (w *onSight) Write(p []byte) (int, error) {
	w.seen.Write(p)
	if w.text != "" && strings.Contains(w.seen.String(), w.text) {
		w.text = ""
		w.signals <- os.Interrupt
	}
	return len(p), nil
}

func TestInterruptedDemoLeavesNothing(t *testing.T) {
	for _, at := range []string{"1. A vCenter", "$ holdfast backup vm", "$ holdfast restore vm", "$ holdfast scrub"} {
		t.Run(at, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			dir := ownTemp(t)
			signals := make(chan os.Signal, 1)
			out := &onSight{text: at, signals: signals}
			var errs bytes.Buffer
			if code := cmd.Main(smallest, cmd.Std{Out: out, Err: &errs, Signals: signals}); code != 130 {
				t.Errorf("code %d\n%s\n%s", code, out.seen.String(), errs.String())
			}
			nothingLeft(t, dir)
		})
	}
}

func TestImpossibleSizeIsRefused(t *testing.T) {
	for _, size := range []string{"0", "1M", "1T", "much"} {
		var errs bytes.Buffer
		if code := cmd.Main([]string{"demo", "--size", size}, cmd.Std{Err: &errs}); code != 1 || !strings.Contains(errs.String(), "hint:") {
			t.Errorf("--size %s: code %d: %s", size, code, errs.String())
		}
	}
}

// What the demo claims it checks: a program that does something else than it
// says is found out.
func TestFalseClaimEndsTheDemo(t *testing.T) {
	for name, c := range map[string]struct {
		false string // the claim that is found to be false
		cheat func(args []string, earlier int) []string
	}{
		"nothing is backed up": {"exit code 1", func(args []string, _ int) []string {
			if args[0] == "backup" {
				return []string{"version"}
			}
			return args
		}},
		"the incremental backup is a full one": {"by changed-block tracking", func(args []string, earlier int) []string {
			if args[0] == "backup" && earlier > 0 {
				return append(slices.Clone(args), "--full")
			}
			return args
		}},
		"another disk is restored": {"as it was at the first backup", func(args []string, _ int) []string {
			if args[0] == "restore" && args[1] == "disk" {
				return slices.Concat(args[:2], []string{"latest:web01"}, args[3:])
			}
			return args
		}},
		"nothing is healed": {"are again, bit for bit", func(args []string, _ int) []string {
			if args[0] == "scrub" {
				return args[:1]
			}
			return args
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var out bytes.Buffer
			backups := 0
			err := demo.Run(t.Context(), demo.Options{
				DiskBytes: demo.MinDiskBytes, TempDir: dir, UI: ui.New(ui.Options{Out: &out}),
				Run: func(_ context.Context, args, environ []string, out, errs io.Writer) int {
					if args = c.cheat(args, backups); args[0] == "backup" {
						backups++
					}
					return cmd.Main(args, cmd.Std{Out: out, Err: errs, Environ: environ})
				},
			})
			if !errors.Is(err, demo.ErrClaim) || !strings.Contains(err.Error(), c.false) {
				t.Errorf("the demo ended with %v:\n%s", err, out.String())
			}
			nothingLeft(t, dir)
		})
	}
}
