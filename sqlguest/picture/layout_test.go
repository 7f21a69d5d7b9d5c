package picture_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// label is a text of a drawing with the room that it takes, in the drawing's units.
type label struct {
	words            string
	left, right, y   float64
	anchor           string
	isLaneName, read bool
}

// figure is one drawing: its size, its labels, and how far its shapes reach.
type figure struct {
	wide, high               float64
	labels                   []label
	left, right, top, bottom float64
}

// glyph is how wide a character of 12 units is at most, with the fonts that browsers take.
const glyph = 7.3

// figures reads the drawings of a page.
func figures(t interface{ Fatalf(string, ...any) }, data []byte) (list []figure) {
	d := xml.NewDecoder(bytes.NewReader(data))
	var f *figure
	for {
		token, err := d.Token()
		switch {
		case errors.Is(err, io.EOF):
			return list
		case err != nil:
			t.Fatalf("%v", err)
		}
		switch e := token.(type) {
		case xml.EndElement:
			if e.Name.Local == "svg" {
				f = nil
			}
		case xml.CharData:
			if f != nil && len(f.labels) > 0 && !f.labels[len(f.labels)-1].read {
				f.labels[len(f.labels)-1].fill(string(e))
			}
		case xml.StartElement:
			at := map[string]string{}
			for _, a := range e.Attr {
				at[a.Name.Local] = a.Value
			}
			if e.Name.Local == "svg" && at["viewBox"] != "" {
				list = append(list, figure{})
				f = &list[len(list)-1]
				if n, err := fmt.Sscanf(at["viewBox"], "0 0 %f %f", &f.wide, &f.high); n != 2 {
					t.Fatalf("viewBox %q: %v", at["viewBox"], err)
				}
				f.left, f.top = f.wide, f.high
			}
			if f != nil {
				f.shape(t, e.Name.Local, at)
			}
		}
	}
}

func (l *label) fill(words string) {
	l.words, l.read = words, true
	wide := glyph * float64(len([]rune(words)))
	switch l.anchor {
	case "middle":
		l.left -= wide / 2
	case "end":
		l.left -= wide
	}
	l.right = l.left + wide
}

func (f *figure) reach(left, top, right, bottom float64) {
	f.left, f.right, f.top, f.bottom = min(f.left, left), max(f.right, right), min(f.top, top), max(f.bottom, bottom)
}

var commands = regexp.MustCompile(`([MmLlHhVvZz])([^MmLlHhVvZz]*)`)

func (f *figure) shape(t interface{ Fatalf(string, ...any) }, element string, at map[string]string) {
	n := func(name string) float64 { return parsed(t, at[name]) }
	switch element {
	case "text":
		f.labels = append(f.labels, label{left: n("x"), y: n("y"), anchor: at["text-anchor"], isLaneName: at["text-anchor"] == ""})
	case "rect":
		f.reach(n("x"), n("y"), n("x")+n("width"), n("y")+n("height"))
	case "circle":
		f.reach(n("cx")-n("r"), n("cy")-n("r"), n("cx")+n("r"), n("cy")+n("r"))
	case "path":
		var x, y float64
		for _, c := range commands.FindAllStringSubmatch(at["d"], -1) {
			var v []float64
			for _, word := range strings.Fields(strings.ReplaceAll(c[2], ",", " ")) {
				v = append(v, parsed(t, word))
			}
			for i := 0; i < len(v); {
				switch c[1] {
				case "M", "L":
					x, y, i = v[i], v[i+1], i+2
				case "m", "l":
					x, y, i = x+v[i], y+v[i+1], i+2
				case "H":
					x, i = v[i], i+1
				case "h":
					x, i = x+v[i], i+1
				case "V":
					y, i = v[i], i+1
				case "v":
					y, i = y+v[i], i+1
				}
				f.reach(x, y, x, y)
			}
		}
	}
}

func parsed(t interface{ Fatalf(string, ...any) }, text string) float64 {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return v
}

// checkLayout: all of a drawing is inside it, and no label lies on another.
func checkLayout(t interface {
	Fatalf(string, ...any)
}, data []byte) int {
	list := figures(t, data)
	for _, f := range list {
		if f.left < 0 || f.top < 0 || f.right > f.wide || f.bottom > f.high {
			t.Fatalf("shapes reach from %.1f %.1f to %.1f %.1f of %.0f x %.0f\n%s", f.left, f.top, f.right, f.bottom, f.wide, f.high, data)
		}
		slices.SortFunc(f.labels, func(a, b label) int { return int(a.left - b.left) })
		for i, a := range f.labels {
			if a.left < 0 || a.right > f.wide || a.y-12 < 0 || a.y > f.high {
				t.Fatalf("label %q reaches from %.1f to %.1f at %.1f of %.0f x %.0f", a.words, a.left, a.right, a.y, f.wide, f.high)
			}
			for _, b := range f.labels[i+1:] {
				if a.y-12 < b.y && b.y-12 < a.y && b.left < a.right {
					t.Fatalf("label %q lies on %q", a.words, b.words)
				}
			}
		}
	}
	return len(list)
}

func TestDrawingsStayInsideAndLabelsApart(t *testing.T) {
	for name, c := range lives() {
		if n := checkLayout(t, page(t, *c)); n != 1 && name != "empty" {
			t.Errorf("%s: %d drawings", name, n)
		}
	}
	rapid.Check(t, func(t *rapid.T) { checkLayout(t, page(t, *chart(live(t)))) })
}

// TestStrokesOfManyLogsLeaveTheGreenVisible: a week of logs every few minutes is a
// line with room between its strokes.
func TestStrokesOfManyLogsLeaveTheGreenVisible(t *testing.T) {
	d := newDatabase()
	d.full(5, nil)
	for range 2000 {
		d.pass(300)
		d.end += 2
		d.log(1, nil)
	}
	text := string(page(t, *chart(d)))
	at := regexp.MustCompile(`class="log" d="([^"]*)"><title>2000 log backups`).FindStringSubmatch(text)
	if at == nil {
		t.Fatal("no strokes for 2000 logs")
	}
	last, n := -100.0, 0
	for _, m := range regexp.MustCompile(`M([\d.]+) `).FindAllStringSubmatch(at[1], -1) {
		x := parsed(t, m[1])
		if x-last < 5 {
			t.Fatalf("strokes at %.1f and %.1f", last, x)
		}
		last, n = x, n+1
	}
	if n < 50 {
		t.Errorf("%d strokes", n)
	}
}

// TestForkIsDrawnFromWhereItLeftTheOther, and what a revert left behind is green from the
// last backup that both have had.
func TestForkIsDrawnFromWhereItLeftTheOther(t *testing.T) {
	leave := regexp.MustCompile(`class="leave" d="M([\d.]+) 36V92H([\d.]+)"`)
	for name, good := range map[string]int{"fork": 1, "abandoned": 3} {
		text := string(page(t, *lives()[name]))
		m := leave.FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("%s: no line between the lanes\n%s", name, text)
		}
		left, first := parsed(t, m[1]), parsed(t, m[2])
		if left <= 12 || left >= first {
			t.Errorf("%s: it leaves at %.1f, and its first backup is at %.1f", name, left, first)
		}
		if n := strings.Count(text, `class="good"`); n != good {
			t.Errorf("%s: %d green stretches", name, n)
		}
		if name != "abandoned" {
			continue
		}
		// Where the lower lane's green begins is what the line comes down to, but for the seconds of a backup.
		rows := regexp.MustCompile(`class="good" x="([\d.]+)" y="88.0"`).FindStringSubmatch(text)
		if rows == nil || parsed(t, rows[1]) > left+2 || parsed(t, rows[1]) < left-12 {
			t.Errorf("%s: green begins at %v, the line at %.1f", name, rows, left)
		}
	}
}
