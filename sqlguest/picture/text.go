package picture

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"holdfast/sqlguest/chain"
)

// columns is the width of the terminal that text is made for.
const columns = 80

// Text writes a chart for a terminal; size is how byte counts are told.
func Text(to io.Writer, c *Chart, size func(bytes int64) string) error {
	t := &text{size: size}
	t.head(c)
	t.bars(c)
	t.windows(c)
	for _, b := range c.blocks() {
		t.block(c, &b)
	}
	_, err := io.WriteString(to, t.String())
	return err
}

type text struct {
	strings.Builder
	size   func(int64) string
	offset string // that the heading has told
}

func (t *text) linef(format string, args ...any) {
	t.WriteString(strings.TrimRight(printable(fmt.Sprintf(format, args...)), " ") + "\n")
}

// wrapped writes sentences behind an indent, broken at blanks.
func (t *text) wrapped(indent int, words string) {
	for _, line := range fold(words, columns-indent) {
		t.linef("%*s%s", indent, "", line)
	}
}

func (t *text) head(c *Chart) {
	t.linef("%s", c.Source)
	words := fmt.Sprintf("%s on %s", plural(c.count(), "backup"), plural(len(c.Forks), "recovery fork"))
	if from, _ := c.extent(); !from.IsZero() {
		t.offset = from.Format("-07:00")
		words += "; times by the server's clock, UTC" + t.offset
	}
	t.linef("%s", words)
	if c.Earlier {
		t.wrapped(0, "Another database has had this name since.")
	}
	switch {
	case c.count() == 0:
		t.linef("There is no backup.")
	case c.Broken && (len(c.Lines) == 0 || len(c.Lines[0].Windows) == 0):
		t.wrapped(0, "BROKEN: nothing of it can be restored.")
	case c.Broken:
		t.wrapped(0, "BROKEN: the newest backup cannot be restored to its end; holdfast backup sql mends the chain.")
	}
	t.linef("")
}

// bars draws for each history the backups and the times that can be restored.
func (t *text) bars(c *Chart) {
	from, to := c.extent()
	if !to.After(from) {
		return
	}
	const width = columns - 2
	left, right := t.time(from), t.time(to)
	t.linef("  %s%*s", left, width-len(left), right)
	of := map[string]*chain.Node{}
	for _, f := range c.Forks {
		for _, n := range nodes(f) {
			of[n.Point] = &n
		}
	}
	at := func(when time.Time) int {
		return int(int64(width-1) * int64(when.Sub(from)/time.Millisecond) / max(int64(to.Sub(from)/time.Millisecond), 1))
	}
	for i, l := range c.Lines {
		marks, reach := slices.Repeat([]byte{' '}, width), slices.Repeat([]byte{'.'}, width)
		for _, p := range l.Points {
			if n := of[p]; n != nil {
				k := min(max(at(n.At()), 0), width-1)
				marks[k] = graver(marks[k], letter(n))
			}
		}
		for _, s := range l.Spans {
			for k := max(at(s.From), 0); k <= min(at(s.To), width-1); k++ {
				reach[k] = '='
			}
		}
		if i > 0 {
			t.linef("  %s", t.lineName(c, i))
		}
		t.linef("  %s", marks)
		t.linef("  %s", reach)
	}
	t.linef("  F full, D differential, l log, x unusable; = any moment, . none")
	t.linef("")
}

// lineName tells which of several histories one is.
func (t *text) lineName(c *Chart, i int) string {
	l := &c.Lines[i]
	switch {
	case l.Reverted != "":
		return "before the revert that " + short(l.Reverted) + " saw:"
	case i == 0:
		return "fork " + short(l.Fork) + ":"
	}
	return "fork " + short(l.Fork) + ", left by a restore:"
}

func letter(n *chain.Node) byte {
	switch {
	case n.State != chain.Confirmed || n.Damage != "":
		return 'x'
	case n.Kind == chain.Full:
		return 'F'
	case n.Kind == chain.Diff:
		return 'D'
	}
	return 'l'
}

// graver is which of two letters is shown where there is room for one.
func graver(a, b byte) byte {
	const order = " lDFx"
	if strings.IndexByte(order, a) > strings.IndexByte(order, b) {
		return a
	}
	return b
}

// time leaves out the offset that the heading has told.
func (t *text) time(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return strings.TrimSuffix(stamp(at), " "+t.offset)
}

// windows lists what can be restored.
func (t *text) windows(c *Chart) {
	for i, l := range c.Lines {
		if len(l.Windows) == 0 {
			continue
		}
		switch {
		case i == 0:
			t.linef("Can be restored:")
		default:
			t.linef("Can be restored, %s", t.lineName(c, i))
		}
		for _, w := range l.Windows {
			t.window(&l, w)
		}
		t.linef("")
	}
}

func (t *text) window(l *chain.Line, w chain.Window) {
	if w.Single {
		t.linef("  %s, the end of %s alone (--point)", t.time(w.From.Time), short(w.From.Point))
		return
	}
	spans := within(l.Spans, w)
	for _, s := range spans {
		t.linef("  %s to %s, any moment", t.time(s.From), t.time(s.To))
	}
	if len(spans) == 0 || spans[len(spans)-1].To.Before(w.To.Time) {
		t.linef("  %s to %s by point, LSN or mark", short(w.From.Point), short(w.To.Point))
	}
}

// within are the spans that lie in a window.
func within(spans []chain.Span, w chain.Window) (list []chain.Span) {
	for _, s := range spans {
		if !s.From.Before(w.From.Time) && !w.To.Time.Before(s.To) {
			list = append(list, s)
		}
	}
	return list
}

func (t *text) block(c *Chart, b *block) {
	indent := 2 * min(b.depth, 4)
	words := "fork " + short(b.Fork)
	if b.Parent != "" && b.depth > 0 {
		words += fmt.Sprintf(", left %s at LSN %s", short(b.Parent), b.At)
	}
	if b.now && len(c.Forks) > 1 {
		words += "; the database is on it"
	}
	t.wrapped(indent, words)
	for i := range b.rows {
		t.row(indent+2, &b.rows[i])
	}
	t.linef("")
}

func (t *text) row(indent int, r *row) {
	const word = 8
	if len(r.nodes) == 0 {
		t.hanging(indent, word, strings.ToUpper(r.word), strings.Join(r.notes, "; "))
		return
	}
	cells := []string{short(r.first().Point), t.time(r.first().At()), fmt.Sprintf("%9s", t.size(r.bytes()))}
	switch {
	case len(r.nodes) > 1:
		cells = append(cells, fmt.Sprintf("the first of %d", len(r.nodes)))
	case r.base != "":
		cells = append(cells, r.base)
	default:
		cells = append(cells, r.first().Rule)
	}
	t.hanging(indent, word, r.word, strings.Join(cells, "  "))
	if len(r.nodes) > 1 {
		t.hanging(indent, word, "", short(r.last().Point)+"  "+t.time(r.last().At())+"             the last")
	}
	for _, n := range r.notes {
		t.wrapped(indent+word+10, n)
	}
}

// hanging writes a word and, beside it, a text of one or several lines.
func (t *text) hanging(indent, width int, word, words string) {
	lines := []string{words}
	if indent+width+len([]rune(words)) > columns {
		lines = fold(words, columns-indent-width)
	}
	for i, l := range lines {
		if i > 0 {
			word = ""
		}
		t.linef("%*s%-*s%s", indent, "", width, word, l)
	}
}

// fold breaks a text at blanks.
func fold(words string, width int) []string {
	lines := []string{""}
	for _, w := range strings.Fields(words) {
		n := len(lines) - 1
		if lines[n] != "" && len([]rune(lines[n]))+1+len([]rune(w)) > width {
			lines = append(lines, "")
			n++
		}
		lines[n] = strings.TrimLeft(lines[n]+" "+w, " ")
	}
	return lines
}
