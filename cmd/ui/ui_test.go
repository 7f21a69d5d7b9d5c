package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/rivo/uniseg"
	"pgregory.net/rapid"
)

// streams is a Terminal with both its streams caught.
func streams(opt Options) (*Terminal, *bytes.Buffer, *bytes.Buffer) {
	var out, errs bytes.Buffer
	opt.Out, opt.Err = &out, &errs
	return New(opt), &out, &errs
}

func TestBytesHaveThreeDigits(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.00 KiB", 1536: "1.50 KiB", 10 << 10: "10.0 KiB", 100 << 10: "100 KiB",
		1<<20 - 1: "1.00 MiB", 15 << 20: "15.0 MiB", 1 << 40: "1.00 TiB", 1<<63 - 1: "8.00 EiB", -1536: "-1.50 KiB", -1 << 63: "-8.00 EiB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestBytesNeverShowFourDigitsOfAUnit(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.Int64Min(1024).Draw(rt, "n")
		number, _, _ := strings.Cut(Bytes(n), " ")
		digits := strings.Replace(number, ".", "", 1)
		if len(digits) != 3 && !(len(digits) == 4 && digits <= "1023") {
			rt.Fatalf("%d: %s", n, Bytes(n))
		}
	})
}

func TestDurations(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.00s", 420 * time.Millisecond: "0.42s", 7345 * time.Millisecond: "7.3s", 59999 * time.Millisecond: "59.9s",
		125 * time.Second: "2m05s", 3*time.Hour + 4*time.Minute: "3h04m", 51 * time.Hour: "2d03h", -time.Minute: "-1m00s",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func TestNamesCannotDriveTheTerminal(t *testing.T) {
	for in, want := range map[string]string{
		"web01": "web01", "it's, ünï": "it's, ünï", "\x1b[2Jx": `\x1b[2Jx`, "a\nb": `a\x0ab`, "x\x9by": `x\x9by`, "a\u202eb": `a\u202eb`, "a\u200fb": `a\u200fb`,
		"\u009b": `\x9b`, "ok\uFFFD": "ok\uFFFD", "👨‍👩‍👧": "👨‍👩‍👧",
	} {
		if got := Clean(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestNamesInTextCannotDriveTheTerminal: whoever prints forgets nothing; lines and tabs are
// the text's own, and no name begins a line of a message.
func TestNamesInTextCannotDriveTheTerminal(t *testing.T) {
	const name = "db\x1b[2J\u202exyz\x9b"
	for _, say := range []func(term *Terminal){
		func(term *Terminal) { term.Printf("a\tb %s\nc\n", name) },
		func(term *Terminal) { term.Say("a\tb %s\nc\n", name) },
	} {
		term, out, _ := streams(Options{})
		if say(term); out.String() != "a\tb db\\x1b[2J\\u202exyz\\x9b\nc\n" {
			t.Errorf("%q", out)
		}
	}
	term, _, errs := streams(Options{})
	term.Warn("%s", "one\nerror: faked "+name)
	if errs.String() != "warning: one\n  error: faked db\\x1b[2J\\u202exyz\\x9b\n" {
		t.Errorf("%q", errs)
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\x1b[0m\xff\u2066ü")
	f.Fuzz(func(t *testing.T, s string) {
		got := Clean(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, unprintable) {
			t.Errorf("%q: %q", s, got)
		}
		if Clean(got) != got {
			t.Errorf("%q is cleaned twice", got)
		}
	})
}

func TestTableAlignsByWidthNotByBytes(t *testing.T) {
	table := NewTable(Left("NAME"), Right("SIZE"), Left("NOTE"))
	table.Row("web01", "1 B", "x")
	table.Row("日本", "1.00 KiB")
	table.Row("e\u0301té\x1b[0m", "12 B", "y", "dropped")
	want := "NAME            SIZE  NOTE\n" +
		"web01            1 B  x\n" +
		"日本        1.00 KiB\n" +
		"e\u0301té\\x1b[0m      12 B  y\n"
	if got := table.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := NewTable(Column{}, Column{}).String(); got != "" {
		t.Errorf("an empty table without heads: %q", got)
	}
}

// TestLongListsAreWrittenAsShortOnes: what is made element by element is, to the
// byte, what would be held whole, longer than any buffer and of any characters.
func TestLongListsAreWrittenAsShortOnes(t *testing.T) {
	type row struct {
		Name string `json:"name"`
	}
	for _, n := range []int{0, 1, 2, 5000} {
		rows := make([]row, n)
		whole, lazy := NewTable(Left("NAME"), Right("N")), NewTable(Left("NAME"), Right("N"))
		for i := range rows {
			rows[i].Name = strings.Repeat("<ü 機>", i%7)
			whole.Row(rows[i].Name, fmt.Sprint(i*i))
		}
		lazy.Rows(n, func(i int) []string { return []string{rows[i].Name, fmt.Sprint(i * i)} })
		if lazy.String() != whole.String() || lazy.Len() != n {
			t.Errorf("table of %d, %d rows:\n%.200s\nwant\n%.200s", lazy.Len(), n, lazy, whole)
		}
		var got, want bytes.Buffer
		must(t, New(Options{Out: &got, JSON: true}).List(n, func(i int) any { return rows[i] }))
		must(t, New(Options{Out: &want, JSON: true}).Result(rows))
		if got.String() != want.String() {
			t.Errorf("list of %d:\n%.200s\nwant\n%.200s", n, &got, &want)
		}
		got.Reset()
		must(t, New(Options{Out: &got}).List(n, func(int) any { return nil }))
		if got.Len() > 0 {
			t.Errorf("a list in text: %.200s", &got)
		}
	}
}

func TestTableColumnsStartAtOnePlace(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		table := NewTable(Left("A"), Left("B"))
		for range rapid.IntRange(1, 5).Draw(rt, "rows") {
			table.Row(rapid.StringMatching(`[a-z日本é]{0,8}`).Draw(rt, "cell"), "|")
		}
		at := -1
		for i, line := range strings.Split(strings.TrimSpace(table.String()), "\n")[1:] {
			before, _, _ := strings.Cut(line, "|")
			if w := uniseg.StringWidth(before); i == 0 {
				at = w
			} else if w != at {
				rt.Fatalf("column B at %d and %d:\n%s", at, w, table)
			}
		}
	})
}

func TestTextAndJSONDoNotMix(t *testing.T) {
	say := func(term *Terminal) {
		term.Printf("text\n")
		term.Table(func() *Table { x := NewTable(Left("T")); x.Row("r"); return x }())
		if err := term.Result([]int(nil)); err != nil {
			t.Error(err)
		}
		term.Event("summary", map[string]any{"path": "a<b>&c"})
		term.Note("note")
		term.Warn("w\x1b")
		term.Problem("vm/a", errors.New("p"))
		term.Fail(14, "m", "h", nil)
	}
	term, out, errs := streams(Options{})
	say(term)
	if out.String() != "text\nT\nr\n" || errs.String() != "note\nwarning: w\\x1b\nerror: vm/a: p\nerror: m\nhint: h\n" {
		t.Errorf("text: %q %q", out, errs)
	}
	term, out, errs = streams(Options{JSON: true})
	say(term)
	if out.String() != "[]\n{\"message_type\":\"summary\",\"path\":\"a<b>&c\"}\n" {
		t.Errorf("JSON out: %q", out)
	}
	for line := range strings.Lines(errs.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	if !strings.HasSuffix(errs.String(), `{"message_type":"exit_error","code":14,"message":"m","hint":"h"}`+"\n") {
		t.Errorf("JSON err: %s", errs)
	}
	term, out, errs = streams(Options{JSON: true})
	term.Stream()
	term.Warn("w")
	if errs.String() != "" || out.String() != `{"message_type":"warning","message":"w"}`+"\n" {
		t.Errorf("a long run's warning: out %q, err %q", out, errs)
	}
}

func TestQuietKeepsWarningsAndResults(t *testing.T) {
	term, out, errs := streams(Options{Quiet: true, Verbose: true})
	term.Note("n")
	term.Detail("d")
	term.Warn("w")
	term.Printf("result\n")
	if errs.String() != "warning: w\n" || out.String() != "result\n" {
		t.Errorf("%q %q", out, errs)
	}
}

func TestWarningsGoToTheLogAndSecretsToNoStream(t *testing.T) {
	var log bytes.Buffer
	term, _, errs := streams(Options{
		Log:    slog.New(slog.NewTextHandler(&log, nil)),
		Redact: func(s string) string { return strings.ReplaceAll(s, "hunter2", "***") },
	})
	term.Warn("hunter2 is weak")
	term.Fail(1, "hunter2 is wrong", "forget hunter2", nil)
	if !strings.Contains(log.String(), "is weak") || strings.Contains(errs.String(), "hunter2") {
		t.Errorf("log %q, err %q", &log, errs)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestFirstWriteErrorIsKept(t *testing.T) {
	term := New(Options{Out: broken{}})
	if term.Err() != nil {
		t.Fatal("an error before any write")
	}
	term.Printf("x")
	if !errors.Is(term.Err(), io.ErrClosedPipe) {
		t.Errorf("got %v", term.Err())
	}
}

func TestStatusLinesAreAtMostOneASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		term, out, errs := streams(Options{JSON: true})
		p := term.Progress()
		p.Begin("disk-2000", 1000)
		p.Begin("disk-2001", 1000)
		for range 35 { // 3.5 s
			time.Sleep(100 * time.Millisecond)
			p.Read(10)
		}
		p.Note("on the way")
		p.End("disk-2000")
		p.Done()
		p.Done()
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 5 || errs.Len() != 0 { // at 0, 1, 2, 3 s, and the note
			t.Fatalf("%d lines:\n%s%s", len(lines), out, errs)
		}
		var s struct {
			MessageType string   `json:"message_type"`
			Elapsed     int64    `json:"seconds_elapsed"`
			Remaining   int64    `json:"seconds_remaining"`
			Percent     float64  `json:"percent_done"`
			Total       int64    `json:"bytes_total"`
			Done        int64    `json:"bytes_done"`
			Items       []string `json:"items"`
		}
		if err := json.Unmarshal([]byte(lines[3]), &s); err != nil {
			t.Fatal(err)
		}
		if s.MessageType != "status" || s.Elapsed != 3 || s.Total != 2000 || s.Done < 290 || s.Done > 300 || s.Percent < 0.145 || s.Percent > 0.15 ||
			s.Remaining < 16 || s.Remaining > 18 || len(s.Items) != 2 {
			t.Errorf("got %+v from %s", s, lines[3])
		}
		if lines[4] != `{"message_type":"status","note":"on the way"}` {
			t.Errorf("note: %s", lines[4])
		}
	})
}

func TestLogGetsALineAMinuteAlsoWhenTheRunStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		term, out, errs := streams(Options{})
		p := term.Progress()
		p.Start(4<<30, "backup vm/web01")
		p.Item("disk-2000")
		p.Add(1 << 30)
		time.Sleep(3*time.Minute + 30*time.Second)
		p.Done()
		lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
		if len(lines) != 3 || out.Len() != 0 {
			t.Fatalf("%d lines:\n%s", len(lines), errs)
		}
		if lines[1] != "2m00s: 1.00 GiB of 4.00 GiB, 25.0%, 8.53 MiB/s, 6m00s left (backup vm/web01 disk-2000)" {
			t.Errorf("got %s", lines[1])
		}
	})
}

// TestPercentageCountsItemsThatHaveNotBegun and the holes of those that have ended.
func TestPercentageCountsItemsThatHaveNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		term, out, _ := streams(Options{JSON: true})
		p := term.Progress()
		for range 2 { // two VMs whose disks bear the same name
			p.Expect("disk", 600)
		}
		p.Expect("verify disk", 1000)
		var want []string
		next := func(line string) {
			want = append(want, line)
			time.Sleep(time.Second)
		}
		p.Begin("disk", 1000) // the guess was too small
		p.Read(100)
		time.Sleep(time.Second / 2)
		next("2600 100")
		p.Begin("disk", 1000)
		p.End("disk")
		next("3000 100") // the other one is under way: whose bytes were read is not known
		p.End("disk")
		next("3000 2000")
		p.Begin("verify disk", 1000)
		p.Read(1000)
		p.End("verify disk")
		next("3000 3000")
		p.Begin("one more", 500)
		next("3500 3000")
		p.Done()
		var got []string
		for line := range strings.Lines(out.String()) {
			var s struct {
				Total int64 `json:"bytes_total"`
				Done  int64 `json:"bytes_done"`
			}
			if err := json.Unmarshal([]byte(line), &s); err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(s.Total, " ", s.Done))
		}
		if len(got) == 0 || !slices.Equal(got[1:], want) { // the first line is of the very beginning
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestEstimateThatWasTooSmall: a database's full is larger than SQL Server said, and read
// faster than it is stored. It is not done before it is.
func TestEstimateThatWasTooSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		term, out, _ := streams(Options{JSON: true})
		p := term.Progress()
		p.Begin("sales", 1000)
		p.Read(1500)
		time.Sleep(time.Second * 3 / 2)
		p.End("sales")
		time.Sleep(time.Second)
		p.Done()
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		for i, want := range map[int]string{1: `"percent_done":0.99,"bytes_total":1500,"bytes_done":1500`, 2: `"percent_done":1,`} {
			if len(lines) <= i || !strings.Contains(lines[i], want) {
				t.Errorf("line %d: want %s in\n%s", i, want, out)
			}
		}
	})
}

func TestUnknownTotalHasNoPercentage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		term, _, errs := streams(Options{})
		p := term.Progress()
		p.Begin("stream", -1)
		p.Begin("disk", 100)
		p.Read(50)
		time.Sleep(61 * time.Second)
		p.Done()
		if got := errs.String(); got != "1m00s: 50 B, 0 B/s (stream, disk)\n" {
			t.Errorf("got %q", got)
		}
	})
}

func TestNoProgressWhereNoneIsWanted(t *testing.T) {
	for _, opt := range []Options{{Quiet: true}, {NoProgress: true}, {Quiet: true, JSON: true}, {NoProgress: true, JSON: true}} {
		synctest.Test(t, func(t *testing.T) {
			term, out, errs := streams(opt)
			p := term.Progress()
			p.Begin("a", 10)
			time.Sleep(5 * time.Minute)
			p.Read(10)
			p.End("a")
			p.Done()
			if out.Len()+errs.Len() != 0 {
				t.Errorf("%+v: %q %q", opt, out, errs)
			}
		})
	}
}

// screen plays a terminal line: what stands there after \r and overwriting.
func screen(raw string) []string {
	var lines []string
	for line := range strings.SplitSeq(raw, "\n") {
		var cells []rune
		column := 0
		for _, r := range line {
			if r == '\r' {
				column = 0
				continue
			}
			if column < len(cells) {
				cells[column] = r
			} else {
				cells = append(cells, r)
			}
			column++
		}
		lines = append(lines, strings.TrimRight(string(cells), " "))
	}
	return lines
}

func TestBarNeverTearsALineAndLeavesNothingBehind(t *testing.T) {
	yes := true
	synctest.Test(t, func(t *testing.T) {
		term, out, errs := streams(Options{Interactive: &yes})
		p := term.Progress()
		p.Begin("disk-2000", 1<<30)
		time.Sleep(250 * time.Millisecond)
		p.Read(1 << 29)
		time.Sleep(250 * time.Millisecond)
		synctest.Wait()
		if last := screen(errs.String()); !strings.Contains(last[0], "50%") || !strings.Contains(last[0], "512 MiB/1.00 GiB") || !strings.Contains(last[0], "disk-2000") {
			t.Errorf("the bar: %q", last)
		}
		p.Note("a note")
		p.Warn("a warning")
		time.Sleep(250 * time.Millisecond)
		p.Read(1 << 30) // more than the total: the size was a guess
		p.Begin("a second disk with a name so long that no terminal of eighty columns could ever show it", 1<<31)
		time.Sleep(250 * time.Millisecond)
		synctest.Wait()
		for _, line := range screen(errs.String()) {
			if uniseg.StringWidth(line) > 79 {
				t.Errorf("the bar is wider than the terminal: %q", line)
			}
		}
		p.Done()
		if got := strings.Join(screen(errs.String()), "\n"); got != "a note\nwarning: a warning\n" || out.Len() != 0 {
			t.Errorf("on the screen remains %q", got)
		}
	})
}

func TestBarOfUnknownSizeIsASpinner(t *testing.T) {
	yes := true
	synctest.Test(t, func(t *testing.T) {
		term, _, errs := streams(Options{Interactive: &yes})
		p := term.Progress()
		p.Begin("stdin", -1)
		p.Read(3 << 20)
		time.Sleep(550 * time.Millisecond)
		synctest.Wait()
		if got := screen(errs.String())[0]; !strings.Contains(got, "3.00 MiB") || strings.Contains(got, "%") {
			t.Errorf("got %q", got)
		}
		p.Done()
	})
}

func TestProgressFromManyGoroutines(t *testing.T) {
	yes := true
	term, _, errs := streams(Options{Interactive: &yes})
	p := term.Progress()
	var all sync.WaitGroup
	for _, item := range []string{"a", "b", "c", "d"} {
		all.Go(func() {
			p.Begin(item, 1000)
			for i := range 1000 {
				p.Read(1)
				if i%250 == 0 {
					p.Note(item)
				}
			}
			p.End(item)
		})
	}
	all.Wait()
	p.Done()
	if p.done.Load() != 4000 || len(p.items) != 0 || strings.Count(errs.String(), "\n") != 16 {
		t.Errorf("done %d, items %v, %q", p.done.Load(), p.items, errs)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestLastLineHasWhatScriptsAskFor: behind the words, in the order of their names; people
// have the words.
func TestLastLineHasWhatScriptsAskFor(t *testing.T) {
	for _, x := range []struct {
		json bool
		want string
	}{
		{true, `{"message_type":"exit_error","code":15,"message":"m","hint":"","a":"<b>","nearest_before":"t"}` + "\n"},
		{false, "error: m\n"},
	} {
		term, _, errs := streams(Options{JSON: x.json})
		term.Fail(15, "m", "", map[string]any{"nearest_before": "t", "a": "<b>"})
		if errs.String() != x.want {
			t.Errorf("%q, want %q", errs, x.want)
		}
	}
}
