package demo

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/cmd/ui"
)

// teller tells the story: as text for people, or as JSON Lines with one status
// a command and one a proof.
type teller struct {
	ui      *ui.Terminal
	out     io.Writer // of the commands
	errs    io.Writer
	windows bool
	began   time.Time
	now     func() time.Time
	act     string // title of the act that is on
	acts    int
	proofs  int
	rows    []row
	apart   bool // the last line was empty
}

// row is one line of the closing table.
type row struct {
	Step     string  `json:"step"`
	Amount   string  `json:"amount"`
	Bytes    int64   `json:"bytes"`
	Duration float64 `json:"duration_seconds"`
}

// commandEvent is a command that was run, under JSON.
type commandEvent struct {
	Step     string  `json:"step"`
	Command  string  `json:"command"`
	Code     int     `json:"code"`
	Output   string  `json:"output"`
	Duration float64 `json:"duration_seconds"`
}

// proofEvent is a claim that was checked, under JSON.
type proofEvent struct {
	Step   string `json:"step"`
	Proved string `json:"proved"`
}

// summary is the last line under JSON.
type summary struct {
	Steps    []row   `json:"steps"`
	Proofs   int     `json:"proofs"`
	Duration float64 `json:"duration_seconds"`
	Kept     string  `json:"kept,omitempty"` // the folder that --keep left
}

func newTeller(opt Options) *teller {
	opt.UI.Stream()
	return &teller{ui: opt.UI, out: opt.Out, errs: opt.Err, windows: opt.Windows, began: opt.Now(), now: opt.Now}
}

// begin opens an act: what happens, and why it matters.
func (t *teller) begin(title, why string) {
	t.act = title
	t.acts++
	t.gap()
	t.print("%d. %s\n", t.acts, title)
	t.gap()
	t.say("%s", why)
}

// print writes whole lines of the story.
func (t *teller) print(format string, args ...any) {
	t.ui.Printf(format, args...)
	t.apart = false
}

// gap leaves one empty line, however many ask for it.
func (t *teller) gap() {
	if !t.apart {
		t.ui.Printf("\n")
	}
	t.apart = true
}

// say tells something.
func (t *teller) say(format string, args ...any) {
	for line := range strings.Lines(fmt.Sprintf(format, args...)) {
		t.print("   %s\n", ui.Clean(strings.TrimSpace(line)))
	}
}

// proved tells that a claim was checked and holds.
func (t *teller) proved(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	t.proofs++
	t.print("   proved: %s\n", ui.Clean(text))
	t.ui.Event("status", proofEvent{t.act, text})
}

// typed shows a command. It returns where the command's output goes, and what
// to call when it has ended.
func (t *teller) typed(args []string) (out, errs io.Writer, said func(code int, took time.Duration)) {
	if t.ui.JSON() {
		var text bytes.Buffer
		return &text, &text, func(code int, took time.Duration) {
			t.ui.Event("status", commandEvent{t.act, commandLine(args), code, text.String(), took.Seconds()})
		}
	}
	t.gap()
	t.print("$ %s\n", commandLine(args))
	return t.out, t.errs, func(int, time.Duration) { t.gap() }
}

// variables shows settings as one types them before the first command.
func (t *teller) variables(all map[string]string) {
	t.gap()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if t.windows {
			t.print("$Env:%s = '%s'\n", name, all[name])
		} else {
			t.print("$ export %s='%s'\n", name, all[name])
		}
	}
}

// suggest shows a command that the audience may try.
func (t *teller) suggest(args ...string) { t.print("$ %s\n", commandLine(args)) }

// count adds a line to the closing table.
func (t *teller) count(step string, bytes int64, took time.Duration, format string, args ...any) {
	t.rows = append(t.rows, row{step, fmt.Sprintf(format, args...), bytes, took.Seconds()})
}

// end closes the story.
func (t *teller) end(kept string) {
	took := t.now().Sub(t.began)
	table := ui.NewTable(ui.Left("What"), ui.Left("How much"), ui.Right("Time"))
	for _, r := range t.rows {
		table.Row(r.Step, r.Amount, ui.Duration(time.Duration(r.Duration*float64(time.Second))))
	}
	table.Row("the whole story", fmt.Sprintf("%d claims, each of them proved", t.proofs), ui.Duration(took))
	t.gap()
	t.ui.Table(table)
	t.apart = false
	t.gap()
	t.ui.Event("summary", summary{t.rows, t.proofs, took.Seconds(), kept})
}
