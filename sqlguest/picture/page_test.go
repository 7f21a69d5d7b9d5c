package picture_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast/sqlguest/picture"
)

var noon = time.Date(2026, 3, 9, 12, 0, 0, 0, time.UTC)

// parse reads a page as XML does, and returns its words and how often each element and
// class occurs.
func parse(t interface{ Fatalf(string, ...any) }, data []byte) (words string, count map[string]int) {
	d := xml.NewDecoder(bytes.NewReader(data))
	d.Strict = true
	count = map[string]int{}
	ids := map[string]bool{}
	var text strings.Builder
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return text.String(), count
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v\n%s", err, data)
		}
		switch e := token.(type) {
		case xml.CharData:
			text.Write(e)
		case xml.StartElement:
			count[e.Name.Local]++
			for _, a := range e.Attr {
				switch {
				case a.Name.Local == "class":
					count["."+a.Value]++
				case a.Name.Local == "id" && ids[a.Value]:
					t.Fatalf("two elements have the id %s", a.Value)
				case a.Name.Local == "id":
					ids[a.Value] = true
				case a.Name.Local == "src", a.Name.Local == "href", strings.HasPrefix(a.Name.Local, "on"):
					t.Fatalf("the page needs something else: %s=%q", a.Name.Local, a.Value)
				}
			}
		}
	}
}

func page(t interface{ Fatalf(string, ...any) }, charts ...picture.Chart) []byte {
	var b bytes.Buffer
	if err := picture.Page(&b, charts, noon, size); err != nil {
		t.Fatalf("%v", err)
	}
	return b.Bytes()
}

func TestPageIsOneWellFormedFileWithoutScript(t *testing.T) {
	charts := lives()
	var all []picture.Chart
	for _, name := range slices.Sorted(maps.Keys(charts)) {
		all = append(all, *charts[name])
	}
	data := page(t, all...)
	words, count := parse(t, data)
	if count["script"]+count["link"]+count["img"] > 0 || strings.Contains(string(data), "@import") || strings.Contains(string(data), "http") {
		t.Error("the page is not alone")
	}
	if count["section"] != len(all) || count["table"] != 2*len(all) || count["h2"] != len(all) {
		t.Errorf("%d sections, %d tables for %d charts", count["section"], count["table"], len(all))
	}
	for _, want := range []string{"full", "diff", "log", "unusable", "copy", "good", "gap", "bulk", "one", "leave"} {
		if count["."+want] == 0 {
			t.Errorf("nothing is drawn as %s", want)
		}
	}
	if name := "sql/a<b>&'\"c/\uFFFDевіл\uFFFD"; !strings.Contains(words, name) {
		t.Errorf("the hostile name %q is not shown as it is", name)
	}
	if bytes.Contains(data, []byte("<script")) || bytes.Contains(data, []byte("\x1b")) {
		t.Error("a text of the repository became markup")
	}
	golden(t, "page.html", data)
}

func TestGapIsDrawnRedAndWindowsGreen(t *testing.T) {
	charts := lives()
	for name, want := range map[string][2]int{"whole": {1, 0}, "gap": {1, 1}, "mended": {2, 1}, "fork": {1, 0}, "abandoned": {3, 0}, "damaged": {1, 2}, "foreign": {1, 1}, "bulk": {2, 0}} {
		_, count := parse(t, page(t, *charts[name]))
		if got := [2]int{count[".good"], count[".gap"]}; got != want {
			t.Errorf("%s: %d green and %d red, want %d and %d", name, got[0], got[1], want[0], want[1])
		}
	}
}

// TestAnyHistoryHasAPicture that fits 80 columns and a page that is well-formed.
func TestAnyHistoryHasAPicture(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := chart(live(t))
		c.Source = rapid.String().Draw(t, "name")
		parse(t, page(t, *c))
		var b bytes.Buffer
		if err := picture.Text(&b, c, size); err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(b.String(), "\n") {
			if n := len([]rune(line)); i > 0 && n > 80 {
				t.Fatalf("%d columns: %s", n, line)
			}
		}
	})
}

func TestPageReplacesAFileAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "chain.html")
	charts := []picture.Chart{*lives()["whole"]}
	for _, before := range []string{"", "an older page"} {
		if before != "" {
			if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := picture.Save(file, charts, noon, size); err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(file); err != nil || !bytes.Equal(data, page(t, charts...)) {
			t.Errorf("the file holds %d bytes, %v", len(data), err)
		}
	}
	if err := picture.Save(dir, charts, noon, size); !errors.Is(err, picture.ErrNotFile) {
		t.Errorf("a directory: %v", err)
	}
	if err := picture.Save(filepath.Join(dir, "nowhere", "x.html"), charts, noon, size); err == nil {
		t.Error("a page was written nowhere")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
