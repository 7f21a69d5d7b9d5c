package ui

import (
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/rivo/uniseg"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// status is the JSON form of progress. bytes_total is absent while it is not
// known, seconds_remaining while nothing can be said.
type status struct {
	SecondsElapsed   int64    `json:"seconds_elapsed"`
	SecondsRemaining int64    `json:"seconds_remaining,omitempty"`
	PercentDone      float64  `json:"percent_done"` // 0 … 1, as restic has it
	BytesTotal       int64    `json:"bytes_total,omitempty"`
	BytesDone        int64    `json:"bytes_done"`
	Label            string   `json:"label,omitempty"`
	Items            []string `json:"items,omitempty"`
}

func (p *Progress) showStatus(s snapshot) {
	p.t.Event("status", status{
		SecondsElapsed:   int64(s.elapsed / time.Second),
		SecondsRemaining: int64(s.left() / time.Second),
		PercentDone:      math.Round(s.fraction()*10000) / 10000,
		BytesTotal:       max(s.total, 0),
		BytesDone:        s.done,
		Label:            s.label,
		Items:            s.items,
	})
}

// showLine writes the line a minute of a log.
func (p *Progress) showLine(s snapshot) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", Duration(s.elapsed), Bytes(s.done))
	if s.total >= 0 {
		fmt.Fprintf(&b, " of %s, %.1f%%", Bytes(s.total), 100*s.fraction())
	}
	if rate := Rate(s.done, s.elapsed); rate != "" {
		fmt.Fprintf(&b, ", %s", rate)
	}
	if left := s.left(); left > 0 {
		fmt.Fprintf(&b, ", %s left", Duration(left))
	}
	if title := s.title(); title != "" {
		fmt.Fprintf(&b, " (%s)", title)
	}
	p.t.Note("%s", b.String())
}

// bar is the one line at the bottom of a terminal. The progress bar only
// formats; writing is ours, so that messages and bar share one lock, and
// without ANSI codes, which old Windows consoles do not know.
type bar struct {
	t      *Terminal
	format *progressbar.ProgressBar
	width  int // cells that the bar now covers on the screen
	total  int64
}

func newBar(t *Terminal) *bar { return &bar{t: t} }

// show draws the bar anew.
func (b *bar) show(s snapshot) {
	b.t.mu.Lock()
	defer b.t.mu.Unlock()
	line := b.line(s, b.columns())
	b.clear()
	b.t.live = b
	b.width = uniseg.StringWidth(line)
	_, _ = io.WriteString(b.t.opt.Err, b.t.opt.Redact(line))
}

// clear takes the bar off the screen. Caller holds the terminal's mu.
func (b *bar) clear() {
	if b.width > 0 {
		_, _ = io.WriteString(b.t.opt.Err, "\r"+strings.Repeat(" ", b.width)+"\r")
		b.width = 0
	}
}

// columns is the width that a line may have without wrapping.
func (b *bar) columns() int {
	if f, ok := b.t.opt.Err.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 1 {
			return w - 1
		}
	}
	return 79
}

func (b *bar) line(s snapshot, columns int) string {
	if b.format == nil || b.total != s.total {
		b.total = s.total
		b.format = progressbar.NewOptions64(s.total, // -1 makes a spinner of it
			progressbar.OptionSetWriter(io.Discard),
			progressbar.OptionSetSpinnerChangeInterval(0), // no goroutine of its own
			progressbar.OptionSetWidth(14),
			progressbar.OptionSetElapsedTime(false),
			progressbar.OptionSetPredictTime(false))
	}
	done := s.done
	if s.total >= 0 {
		// At its maximum a progress bar finishes and no longer draws, but the
		// run is over only when Done says so.
		done = min(done, s.total-1)
	}
	_ = b.format.Set64(done)
	parts := []string{strings.TrimSpace(strings.ReplaceAll(b.format.String(), "\r", "")), Bytes(s.done)}
	if s.total >= 0 {
		parts[1] += "/" + Bytes(s.total)
	}
	parts = append(parts, Rate(s.done, s.elapsed))
	if left := s.left(); left > 0 {
		parts = append(parts, Duration(left)+" left")
	} else {
		parts = append(parts, Duration(s.elapsed))
	}
	return truncate(strings.Join(append(parts, s.title()), "  "), columns)
}

// truncate cuts s to so many terminal cells, by whole characters.
func truncate(s string, cells int) string {
	if uniseg.StringWidth(s) <= cells {
		return s
	}
	var b strings.Builder
	used := 1 // for the ellipsis
	for g := uniseg.NewGraphemes(s); g.Next() && used+g.Width() <= cells; {
		used += g.Width()
		b.WriteString(g.Str())
	}
	return b.String() + "…"
}
