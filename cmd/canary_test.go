package cmd

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"holdfast/repo/seal"
)

// A canary is a secret that was planted and must turn up nowhere. Of a text its
// cores are searched: runs of letters and digits that no quoting or escaping
// changes, so that a secret is found whatever became of what stands between.
type canary struct {
	name  string
	cores [][]byte
}

// canaryText is a password with everything in it that some encoding changes.
func canaryText(name string) string {
	core := func(part string) string {
		return "cnry" + hex.EncodeToString(fmt.Appendf(nil, "%s%08x", part, hashOf(name)))
	}
	return core("A") + `"\<é>&%'+/ $` + core("B")
}

func hashOf(text string) (h uint32) {
	for _, c := range []byte(text) {
		h = h*16777619 ^ uint32(c)
	}
	return h
}

// newCanary makes one of any text or bytes: of a canaryText its two cores.
func newCanary(name string, text []byte) canary {
	c := canary{name: name}
	for _, word := range bytes.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(`"\<é>&%'+/ $`, r) }) {
		if bytes.HasPrefix(word, []byte("cnry")) {
			c.cores = append(c.cores, word)
		}
	}
	if c.cores == nil {
		c.cores = [][]byte{text}
	}
	return c
}

// keyCanaries are the secret texts of a key file or a recovery sheet, and of a
// key file the bytes that they stand for.
func keyCanaries(name string, text []byte) (all []canary) {
	if encoded, ok := bytes.CutPrefix(bytes.TrimSpace(text), []byte("holdfast-key-1 ")); ok {
		key, err := base64.StdEncoding.DecodeString(string(encoded))
		if err != nil {
			panic(err)
		}
		return []canary{{name, [][]byte{encoded, key}}}
	}
	for i, row := range seal.SheetKeyRows(string(text)) {
		row = strings.TrimSpace(row)
		c := canary{name: fmt.Sprintf("%s, row %d", name, i+1)}
		c.cores = [][]byte{[]byte(row), []byte(strings.ReplaceAll(row, " ", ""))}
		all = append(all, c)
	}
	return all
}

// spellings are the ways in which bytes may be written down.
func spellings(core []byte) [][]byte {
	digits := []byte(hex.EncodeToString(core))
	all := [][]byte{core, digits, bytes.ToUpper(digits)}
	for shift := range 3 { // base64 looks different at each place in a longer text
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := encoding.EncodeToString(append(make([]byte, shift), core...))
			from, to := (shift*8+5)/6, (shift+len(core))*8/6
			all = append(all, []byte(text[from:to]))
		}
	}
	return all
}

// search finds canaries in one pass over what it is given.
type search struct {
	begins   [1 << 16][]int // by their first two bytes, the spellings
	spelling [][]byte
	name     []string
}

func newSearch(canaries []canary) *search {
	s := &search{}
	for _, c := range canaries {
		for _, core := range c.cores {
			for _, spelling := range spellings(core) {
				begin := int(spelling[0])<<8 | int(spelling[1])
				s.begins[begin] = append(s.begins[begin], len(s.spelling))
				s.spelling, s.name = append(s.spelling, spelling), append(s.name, c.name)
			}
		}
	}
	return s
}

// found names the first canary in data, and how it is written there; "" for none.
func (s *search) found(data []byte) string {
	for at := 0; at+1 < len(data); at++ {
		for _, i := range s.begins[int(data[at])<<8|int(data[at+1])] {
			if bytes.HasPrefix(data[at:], s.spelling[i]) {
				return fmt.Sprintf("%s, as %q", s.name[i], data[max(0, at-60):min(len(data), at+len(s.spelling[i])+20)])
			}
		}
	}
	return ""
}

// leaks searches texts by their names, and every file below dirs, its name too.
func leaks(texts map[string]string, canaries []canary, except func(path string) bool, dirs ...string) (all []string) {
	s := newSearch(canaries)
	note := func(where string, data []byte) {
		if what := s.found(data); what != "" {
			all = append(all, where+" holds "+what)
		}
	}
	for name, text := range texts {
		note(name, []byte(text))
	}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && except(path) {
				return nil
			}
			if err != nil {
				return err
			}
			note("the name "+path, []byte(d.Name()))
			if !d.Type().IsRegular() {
				return nil
			}
			data, err := os.ReadFile(path)
			note(path, data)
			return err
		})
		if err != nil {
			all = append(all, err.Error())
		}
	}
	slices.Sort(all)
	return all
}

// TestNoSecretShowsAnywhere runs every command, by every way to give the
// secrets, in success and in several kinds of trouble, and searches all that it
// leaves. A command without a case fails.
func TestNoSecretShowsAnywhere(t *testing.T) {
	w := newCanaryWorld(t)
	cases, number := canaryCases(), 0
	walk(wholeTree(), func(c *cobra.Command) {
		if c.HasSubCommands() {
			return
		}
		path := strings.TrimPrefix(c.CommandPath(), "holdfast ")
		if len(cases[path]) == 0 {
			t.Errorf("no case here runs %s: add one to canaryCases", path)
		}
		for i, one := range cases[path] {
			number++
			t.Run(fmt.Sprintf("%s %d", path, i), func(t *testing.T) { w.try(t, one, number) })
		}
		delete(cases, path)
	})
	for path := range cases {
		t.Errorf("there is a case for %s, which is no command", path)
	}
}

// TestSecretsTypedWhereTheyDoNotBelong: what an operator gets wrong is refused
// without being repeated.
func TestSecretsTypedWhereTheyDoNotBelong(t *testing.T) {
	w := newCanaryWorld(t)
	typed := canaryText("typed in the wrong place")
	plain := newCanary("typed", []byte(typed)).cores[0]
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	at := "https://user:" + string(plain) + "@127.0.0.1:1"
	for i, c := range []struct{ args, env []string }{
		{[]string{"points", "--password=" + typed}, nil},
		{[]string{"points", "--password", typed}, nil},
		{[]string{"-r", "s3:" + at + "/bucket", "points"}, nil},
		{[]string{"-r", at, "points"}, nil},
		{[]string{"-r", "sftp:user:" + string(plain) + "@host/path", "points"}, nil},
		{[]string{"--repository-file", file("r", "s3:"+at+"/bucket"), "points"}, []string{"HOLDFAST_REPOSITORY="}},
		{[]string{"points"}, []string{"HOLDFAST_REPOSITORY=s3:" + at + "/bucket"}},
		{[]string{"copy", "--from-repo", "s3:" + at + "/bucket"}, nil},
		{[]string{"vm", "list"}, []string{"HOLDFAST_VCENTER_URL=https://u:" + typed + "@vc"}},
		{[]string{"vm", "list"}, []string{"GOVC_URL=u:" + typed + "@127.0.0.1:1", "HOLDFAST_VCENTER_URL="}},
		{[]string{"points", "--ping-url", "ftp://host/" + typed}, nil},
		{[]string{"show", "nothing", "--ping-url", "http://127.0.0.1:1/" + string(plain)}, nil},
		{[]string{"--config", file("c.yaml", "profiles:\n  default:\n    password: \""+string(plain)+"\n"), "points"}, nil},
		{[]string{"--config", file("c.yaml", "profiles:\n  default:\n    password: ["+string(plain)+"]\n"), "points"}, nil},
		{[]string{"--config", file("c.yaml", string(plain)), "points"}, nil},
		{[]string{"--config", file("c.toml", "[profiles.default]\npassword = "+string(plain)+"\n"), "points"}, nil},
		{[]string{"points"}, []string{"HOLDFAST_PASSWORD=", "HOLDFAST_PASSWORD_COMMAND=false '" + string(plain)}},
		{[]string{"points"}, []string{"HOLDFAST_PASSWORD=", "HOLDFAST_PASSWORD_COMMAND=no-such-program " + string(plain)}},
		{[]string{"points"}, []string{"HOLDFAST_PASSWORD=", "HOLDFAST_KEY_FILE=" + file("k", "holdfast-key-1 "+string(plain))}},
		{[]string{"points"}, []string{"HOLDFAST_PASSWORD=", "HOLDFAST_KEY_FILE=" + file("k", string(plain))}},
		{[]string{"points"}, []string{"HOLDFAST_PASSWORD=", "HOLDFAST_PASSWORD_FILE=" + file("p", string(plain)+"\nand a second line\n")}},
	} {
		for _, more := range [][]string{nil, {"--json", "-v"}} {
			r := w.begin(t, waysToOpen[0])
			r.canaries = append(r.canaries, newCanary("what was typed", []byte(typed)))
			r.env = append(r.env, c.env...)
			if got := r.run(append(slices.Clone(more), c.args...)...); got.code == 0 {
				t.Errorf("case %d ended with 0", i)
			}
			r.search(t)
		}
	}
}

// TestPanicWithSecretsTellsNone: whatever is thrown.
func TestPanicWithSecretsTellsNone(t *testing.T) {
	w := newCanaryWorld(t)
	unknown := canaryText("that no redactor knows")
	for _, thrown := range []any{unknown, errors.New(unknown), []byte(unknown), struct{ password string }{unknown}, fmt.Errorf("wrapped: %w", errors.New(unknown))} {
		for _, way := range waysToOpen {
			r := w.begin(t, way)
			r.canaries = append(r.canaries, newCanary("what was thrown", []byte(unknown)))
			r.extra = probe(func(context.Context, *app) error { panic(thrown) })
			if got := r.run("probe"); got.code != 2 {
				t.Errorf("code %d", got.code)
			}
			r.search(t)
		}
	}
}

// TestSearchFindsWhatLeaks: a command that leaks, at each place and in each
// spelling, is caught. Without this the tests above would prove nothing.
func TestSearchFindsWhatLeaks(t *testing.T) {
	w := newCanaryWorld(t)
	core := string(newCanary("", []byte(w.password)).cores[1])
	writeTo := func(name func(r *canaryRun) string) func(*canaryRun, *app, string) error {
		return func(r *canaryRun, _ *app, text string) error {
			path := name(r)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return err
			}
			return os.WriteFile(path, []byte(text), 0o600)
		}
	}
	places := map[string]func(r *canaryRun, a *app, text string) error{
		"stdout":      func(_ *canaryRun, a *app, text string) error { a.ui.Printf("%s\n", text); return nil },
		"stderr":      func(_ *canaryRun, a *app, text string) error { _, err := io.WriteString(a.std.Err, text); return err },
		"cache":       writeTo(func(r *canaryRun) string { return filepath.Join(r.dir, "cache", "x", "y") }),
		"repository":  writeTo(func(r *canaryRun) string { return filepath.Join(r.dir, "repo", "x") }),
		"log":         writeTo(func(r *canaryRun) string { return filepath.Join(r.dir, "log") }),
		"a temp file": writeTo(func(*canaryRun) string { return filepath.Join(os.TempDir(), "holdfast-x") }),
		"a file name": func(r *canaryRun, _ *app, text string) error {
			return os.WriteFile(filepath.Join(r.dir, "x-"+strings.ReplaceAll(text, "/", "")), nil, 0o600)
		},
		"ping": func(r *canaryRun, a *app, text string) error {
			answer, err := http.Post(r.ping(), "text/plain", strings.NewReader(text))
			if err == nil {
				answer.Body.Close()
			}
			return err
		},
	}
	for place, leak := range places {
		for _, text := range []string{core, hex.EncodeToString([]byte(core)), base64.StdEncoding.EncodeToString([]byte("user:" + core)), "%22" + core + "%20", `\"` + core + `\u003c`} {
			r := w.begin(t, waysToOpen[0])
			r.extra = probe(func(_ context.Context, a *app) error { return leak(r, a, text) })
			got := r.run("probe")
			if place == "stdout" || place == "stderr" {
				if !strings.Contains(got.out+got.err, text) {
					t.Fatalf("%s: the leak was not made: %+v", place, got)
				}
			}
			if len(r.leaks()) == 0 {
				t.Errorf("a leak of %s to %s was not found", text, place)
			}
			os.Remove(filepath.Join(os.TempDir(), "holdfast-x"))
		}
	}
	if what := newSearch(w.canaries).found([]byte("nothing to see")); what != "" {
		t.Errorf("found %s where nothing is", what)
	}
	for _, c := range w.canaries {
		for _, core := range c.cores {
			for _, spelling := range spellings(core) {
				if newSearch([]canary{c}).found(append([]byte("x"), spelling...)) == "" {
					t.Errorf("%s is not found as %q", c.name, spelling)
				}
			}
		}
	}
}
