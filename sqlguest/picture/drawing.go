package picture

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lsn"
)

// Sizes of the drawing, in its own units.
const (
	drawn    = 1000 // its width
	edge     = 12
	laneHigh = 56
	axisHigh = 24
)

// lane is a line of the drawing: a fork, or what was abandoned of one.
type lane struct {
	name  string
	fork  string
	left  string  // fork that it left, at the LSN at
	at    lsn.LSN //
	gone  bool
	nodes []chain.Node
}

// leaves is when a lane parted from the one above it: in the middle of the log that has
// the LSN at which it left, or behind the last backup that both have had.
func (l *lane) leaves(above *lane) (when time.Time) {
	before := time.Time{}
	for i := range above.nodes {
		n := &above.nodes[i]
		if l.gone && n.Made > l.nodes[0].Made {
			break
		}
		if !l.gone && n.Kind == chain.Log && l.at.Less(n.Last) && !before.IsZero() {
			return before.Add(n.At().Sub(before) / 2)
		}
		before = n.At()
	}
	return before
}

// lanes are one for each fork, and one more for what a revert has left behind on it.
func (c *Chart) lanes() []lane {
	var list []lane
	for _, b := range c.blocks() {
		on, gone := lane{name: "fork " + short(b.Fork), fork: b.Fork}, lane{name: "fork " + short(b.Fork) + ", left behind by a revert", fork: b.Fork, gone: true}
		if b.depth > 0 {
			on.left, on.at = b.Parent, b.At
		}
		if b.now {
			on.name += ", the database is on it"
		}
		for _, n := range nodes(b.Limb) {
			if n.Abandoned {
				gone.nodes = append(gone.nodes, n)
			} else {
				on.nodes = append(on.nodes, n)
			}
		}
		list = append(list, on)
		if len(gone.nodes) > 0 {
			list = append(list, gone)
		}
	}
	return list
}

// drawing writes one chart's timeline.
func (p *page) drawing(i int, c *Chart) {
	from, to := c.extent()
	if from.IsZero() {
		return
	}
	d := &drawing{page: p, from: from, span: max(to.Sub(from), time.Second), chart: c}
	lanes := c.lanes()
	high := len(lanes)*laneHigh + axisHigh
	p.addf("<figure>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-labelledby=\"t%d d%d\">\n", drawn, high, i, i)
	p.text("title", fmt.Sprintf("id=\"t%d\"", i), "Timeline of "+c.Source)
	p.text("desc", fmt.Sprintf("id=\"d%d\"", i), fmt.Sprintf("%s to %s; %s. The tables below say the same in words.", stamp(from), stamp(to), plural(c.count(), "backup")))
	d.axis(high)
	for k := range lanes {
		d.parting(lanes, k)
	}
	for k := range lanes {
		d.lane(&lanes[k], k)
	}
	p.addf("</svg>\n</figure>\n")
}

// legend says once what the drawings mean.
const legend = "Squares are fulls (hollow: copy-only), diamonds differentials, strokes logs, crosses what cannot be used. Green: any moment can be restored; a green dot: the end of one backup; hatched red: a gap; hatched yellow: the end of a bulk-logged log only. A dashed line shows where a fork left another one."

type drawing struct {
	*page
	from  time.Time
	span  time.Duration
	chart *Chart
}

// x is where a moment lies.
func (d *drawing) x(t time.Time) float64 {
	share := float64(t.Sub(d.from)) / float64(d.span)
	return edge + (drawn-2*edge)*min(max(share, 0), 1)
}

// steps between the axis' ticks.
var steps = []time.Duration{time.Second, 5 * time.Second, 15 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 3 * time.Hour,
	6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 2 * 24 * time.Hour, 7 * 24 * time.Hour, 14 * 24 * time.Hour, 28 * 24 * time.Hour, 91 * 24 * time.Hour, 365 * 24 * time.Hour}

func (d *drawing) axis(high int) {
	const most = 8
	step := steps[len(steps)-1]
	for _, s := range steps {
		if d.span/s < most {
			step = s
			break
		}
	}
	for d.span/step > most {
		step *= 2
	}
	layout := "2006-01-02"
	if step < time.Minute {
		layout = "15:04:05"
	} else if step < 24*time.Hour {
		layout = "01-02 15:04"
	}
	_, offset := d.from.Zone()
	local := time.Duration(offset) * time.Second
	for t := d.from.Add(local).Truncate(step).Add(-local); !t.After(d.from.Add(d.span)); t = t.Add(step) {
		if t.Before(d.from) {
			continue
		}
		x := d.x(t)
		d.addf("<path class=\"axis\" d=\"M%.1f 0V%d\"/>", x, high-axisHigh)
		anchor := "middle"
		if x < 60 {
			anchor = "start"
		} else if x > drawn-60 {
			anchor = "end"
		}
		d.addf("<text x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">%s</text>\n", x, high-8, anchor, escaped(t.Format(layout)))
	}
}

// middle is where the line of a lane runs.
func middle(k int) float64 { return float64(k*laneHigh + 36) }

// parting draws from where a lane left another one to its first backup.
func (d *drawing) parting(lanes []lane, k int) {
	l := &lanes[k]
	above := slices.IndexFunc(lanes[:k], func(a lane) bool { return !a.gone && (a.fork == l.left || l.gone && a.fork == l.fork) })
	if above < 0 || len(l.nodes) == 0 || len(lanes[above].nodes) == 0 {
		return
	}
	left := l.leaves(&lanes[above])
	if left.IsZero() {
		left = l.nodes[0].Started
	}
	d.addf("<path class=\"leave\" d=\"M%.1f %.0fV%.0fH%.1f\"/>\n", d.x(left), middle(above), middle(k), d.x(l.nodes[0].At()))
}

// closest is how near to each other strokes are drawn: of thousands of logs the green
// behind them would not be seen.
const closest = 6

// lane draws one: its name, what is reachable, the backups.
func (d *drawing) lane(l *lane, k int) {
	y := middle(k)
	d.addf("<text x=\"%d\" y=\"%.0f\">%s</text>\n", edge, y-20, escaped(l.name))
	if len(l.nodes) == 0 {
		return
	}
	d.addf("<path class=\"lane\" d=\"M%.1f %.1fH%.1f\"/>\n", d.x(l.nodes[0].Started), y, d.x(l.nodes[len(l.nodes)-1].At()))
	d.reach(l, y)
	var strokes strings.Builder
	logs, last := 0, -closest*1.0
	for i := range l.nodes {
		n := &l.nodes[i]
		if !plain(n) {
			continue
		}
		if x := d.x(n.At()); x-last >= closest {
			last = x
			fmt.Fprintf(&strokes, "M%.1f %.1fv14", x, y-7)
		}
		logs++
	}
	if logs > 0 {
		d.addf("<path class=\"log\" d=\"%s\"><title>%s</title></path>\n", strokes.String(), escaped(plural(logs, "log backup")+" of "+l.name))
	}
	for i := range l.nodes {
		d.mark(&l.nodes[i], y)
	}
	d.ends(l, y)
}

// reach draws, from backup to backup, whether the time between can be restored.
func (d *drawing) reach(l *lane, y float64) {
	holes := d.chart.holes()
	for i := range l.nodes {
		n := &l.nodes[i]
		before := n.Started
		if i > 0 {
			before = l.nodes[i-1].At()
		}
		h, hole := holes[n.Point]
		switch {
		case hole && h.Why == chain.HoleBulk:
			d.box("bulk", before, n.At(), y, "bulk-logged: only the end of "+short(n.Point)+" can be restored")
		case hole || n.Kind == chain.Log && n.State == chain.Confirmed && !n.Restorable:
			d.box("gap", before, n.At(), y, fmt.Sprintf("%s to %s cannot be restored", stamp(before), stamp(n.At())))
		}
	}
	var good []chain.Span
	for i := range d.chart.Lines {
		line := &d.chart.Lines[i]
		for _, s := range line.Spans {
			good = append(good, d.parts(line, l, s)...)
		}
	}
	for _, s := range joined(good) {
		d.box("good", s.From, s.To, y, fmt.Sprintf("any moment from %s to %s", stamp(s.From), stamp(s.To)))
	}
}

// joined are spans without overlaps: histories share what lies before they parted.
func joined(spans []chain.Span) (list []chain.Span) {
	slices.SortStableFunc(spans, func(a, b chain.Span) int { return a.From.Compare(b.From) })
	for _, s := range spans {
		if k := len(list) - 1; k >= 0 && !list[k].To.Before(s.From) {
			if list[k].To.Before(s.To) {
				list[k].To = s.To
			}
			continue
		}
		list = append(list, s)
	}
	return list
}

// parts are the stretches of a span in which the history was on the lane's fork, by
// the backups of the lane that are on the history.
func (d *drawing) parts(line *chain.Line, l *lane, s chain.Span) (list []chain.Span) {
	on := map[string]bool{}
	for _, p := range line.Points {
		on[p] = true
	}
	var before time.Time
	if l.gone { // the history went on there from what the other lane has
		before = d.shared(line, l)
	}
	for i := range l.nodes {
		n := &l.nodes[i]
		if !on[n.Point] {
			continue
		}
		from, to := before, n.Started
		if before = n.Started; from.IsZero() { // what came before lies on another lane
			continue
		}
		if s.From.After(from) {
			from = s.From
		}
		if s.To.Before(to) {
			to = s.To
		}
		if !to.After(from) {
			continue
		}
		list = append(list, chain.Span{From: from, To: to})
	}
	return list
}

// shared is when the last backup of a history was begun before those of a lane that a
// revert has left behind.
func (d *drawing) shared(line *chain.Line, l *lane) (at time.Time) {
	for _, b := range d.chart.blocks() {
		for _, n := range nodes(b.Limb) {
			if slices.Contains(line.Points, n.Point) && n.Made < l.nodes[0].Made && at.Before(n.Started) {
				at = n.Started
			}
		}
	}
	return at
}

func (d *drawing) box(class string, from, to time.Time, y float64, title string) {
	x := d.x(from)
	d.addf("<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"8\" rx=\"2\"><title>%s</title></rect>\n", class, x, y-4, max(d.x(to)-x, 1), escaped(title))
}

// ends marks the single states that can be restored.
func (d *drawing) ends(l *lane, y float64) {
	single := map[string]bool{}
	for _, line := range d.chart.Lines {
		for _, w := range line.Windows {
			single[w.From.Point] = single[w.From.Point] || w.Single
		}
	}
	for i := range l.nodes {
		if n := &l.nodes[i]; single[n.Point] {
			d.addf("<circle class=\"one\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"><title>%s</title></circle>\n", d.x(n.At()), y+12, escaped("the end of "+short(n.Point)+" can be restored"))
		}
	}
}

// mark draws one backup; plain logs are strokes already.
func (d *drawing) mark(n *chain.Node, y float64) {
	x := d.x(n.At())
	shape, class := "", string(n.Kind)
	switch {
	case n.State != chain.Confirmed || n.Damage != "":
		class, shape = "unusable", fmt.Sprintf("M%.1f %.1fl10 10m0 -10l-10 10", x-5, y-5)
	case n.Kind == chain.Full:
		if shape = fmt.Sprintf("M%.1f %.1fh12v12h-12z", x-6, y-6); n.CopyOnly {
			class = "copy"
		}
	case n.Kind == chain.Diff:
		shape = fmt.Sprintf("M%.1f %.1fl7 7l-7 7l-7 -7z", x, y-7)
	case plain(n):
		return
	default:
		shape = fmt.Sprintf("M%.1f %.1fv14", x, y-7)
	}
	words := []string{string(n.Kind), short(n.Point), stamp(n.At()), d.size(n.Bytes)}
	if n.Rule != "" {
		words = append(words, strings.TrimSuffix(n.Rule+": "+n.Reason, ": "))
	}
	words = append(words, nodeRow([]chain.Node{*n}, "").notes...)
	d.addf("<path class=\"%s\" d=\"%s\"><title>%s</title></path>\n", class, shape, escaped(strings.Join(words, " · ")))
}
