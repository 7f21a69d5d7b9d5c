// Package picture shows what the repository holds of a database: as text for a
// terminal of 80 columns, and as one HTML page with a drawn timeline.
//
// Both are made of the same rows: for each recovery fork its backups in the order of
// their making, runs of logs that meet each other told as one, and before a backup the
// hole that lies in front of it. A fork stands beneath the one that it left. Nothing is
// decided here: what can be restored is said by package chain.
package picture

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/sqlguest/chain"
)

// Chart is one database of the repository, an element of `chain --json`.
type Chart struct {
	Source   string `json:"source"`
	Identity string `json:"identity"`
	// Earlier: another database has had this source's name since.
	Earlier bool `json:"earlier,omitempty"`
	chain.Report
}

// block is a fork with what is told of it.
type block struct {
	chain.Limb
	depth int
	now   bool // the database is on it
	rows  []row
}

// row is one backup, a run of logs, or a hole.
type row struct {
	word  string // full, diff, log, logs, gap …
	nodes []chain.Node
	base  string   // of a differential: its full, as people name it
	notes []string // sentences; a hole has nothing else
	bad   bool     // it says that something cannot be restored
}

func (r *row) first() *chain.Node { return &r.nodes[0] }
func (r *row) last() *chain.Node  { return &r.nodes[len(r.nodes)-1] }

func (r *row) bytes() (sum int64) {
	for i := range r.nodes {
		sum += r.nodes[i].Bytes
	}
	return sum
}

// short is an id as people type it.
func short(id string) string {
	const enough = 8
	return id[:min(enough, len(id))]
}

// blocks are the forks, each behind the one that it left.
func (c *Chart) blocks() []block {
	children := map[string][]int{}
	known := map[string]bool{}
	for _, f := range c.Forks {
		known[f.Fork] = true
	}
	for i, f := range c.Forks {
		parent := f.Parent
		if !known[parent] {
			parent = ""
		}
		children[parent] = append(children[parent], i)
	}
	h := c.holes()
	var list []block
	told := make([]bool, len(c.Forks))
	var visit func(i, depth int)
	visit = func(i, depth int) {
		if told[i] {
			return
		}
		told[i] = true
		f := c.Forks[i]
		now := len(c.Lines) > 0 && c.Lines[0].Fork == f.Fork
		list = append(list, block{Limb: f, depth: depth, now: now, rows: c.rows(f, h)})
		for _, child := range children[f.Fork] {
			visit(child, depth+1)
		}
	}
	for _, i := range children[""] {
		visit(i, 0)
	}
	for i := range c.Forks { // forks that name each other as parents hang nowhere
		visit(i, 0)
	}
	return list
}

// holes are those of all histories by the backup that lies behind them.
func (c *Chart) holes() map[string]chain.Hole {
	holes := map[string]chain.Hole{}
	for _, l := range c.Lines {
		for _, h := range l.Holes {
			if _, told := holes[h.Point]; !told {
				holes[h.Point] = h
			}
		}
	}
	return holes
}

// nodes are all backups of a fork as they were made; a full that is not here has no
// node.
func nodes(f chain.Limb) []chain.Node {
	list := slices.Clone(f.Logs)
	for _, b := range f.Bases {
		if b.Point != "" {
			list = append(list, b.Node)
		}
		list = append(list, b.Diffs...)
	}
	slices.SortFunc(list, func(a, b chain.Node) int { return a.Made - b.Made })
	return list
}

// bases are the fulls of differentials, as people name them, by the differential.
func bases(all []chain.Limb) map[string]string {
	points := map[string]string{}
	for _, f := range all {
		for _, b := range f.Bases {
			if b.Point != "" && b.Set != "" {
				points[b.Set] = b.Point
			}
		}
	}
	names := map[string]string{}
	for _, f := range all {
		for _, b := range f.Bases {
			for _, d := range b.Diffs {
				if names[d.Point] = "of " + short(points[b.Set]); points[b.Set] == "" {
					names[d.Point] = "of a full that is not here"
				}
			}
		}
	}
	return names
}

// plain tells whether a log is told together with its neighbours.
func plain(n *chain.Node) bool {
	return n.Kind == chain.Log && n.State == chain.Confirmed && n.Damage == "" && !n.BulkLogged && !n.CopyOnly && !n.Tail
}

// fewest logs that are told as one.
const fewest = 3

func (c *Chart) rows(f chain.Limb, holes map[string]chain.Hole) []row {
	var list []row
	of := bases(c.Forks)
	all := nodes(f)
	for i := 0; i < len(all); {
		n := &all[i]
		if h, ok := holes[n.Point]; ok && h.Why != chain.HoleDamage { // damage is said of the backup itself
			list = append(list, holeRow(h, n))
		}
		k := i + 1
		for plain(n) && k < len(all) && plain(&all[k]) && all[k].Abandoned == n.Abandoned && all[k].Restorable == n.Restorable {
			if _, ok := holes[all[k].Point]; ok {
				break
			}
			k++
		}
		if k-i < fewest {
			k = i + 1
		}
		list = append(list, nodeRow(all[i:k], of[n.Point]))
		i = k
	}
	return list
}

func nodeRow(nodes []chain.Node, base string) row {
	n := &nodes[0]
	r := row{word: string(n.Kind), nodes: nodes, base: base}
	if len(nodes) > 1 {
		r.word = "logs"
	}
	note := func(when bool, text string) {
		if when {
			r.notes = append(r.notes, text)
		}
	}
	note(n.CopyOnly, "copy-only")
	note(n.Tail, "tail of the log")
	note(n.BulkLogged, "bulk-logged")
	note(n.Abandoned, "left behind by a revert")
	note(n.State == chain.Unconfirmed, "unconfirmed: the next backup asks SQL Server for its word")
	note(n.State == chain.Denied, strings.Join(append([]string{"denied"}, n.Why...), ": "))
	note(n.Damage != "", "damaged: "+n.Damage)
	r.bad = n.State == chain.Confirmed && !n.Restorable || n.Damage != ""
	note(r.bad && n.Damage == "", "cannot be restored")
	return r
}

// holeRow tells of a hole in front of the backup n.
func holeRow(h chain.Hole, n *chain.Node) row {
	r := row{word: h.Why, bad: true}
	switch h.Why {
	case chain.HoleGap:
		text := fmt.Sprintf("no log backup here leads from LSN %s to %s", h.From, h.To)
		if h.From.IsZero() {
			text = "no full is here that this log could follow"
		}
		if f := h.Foreign; f != nil {
			text += fmt.Sprintf("; %s took it to %s at %s", f.User, f.Device, stamp(f.Finished))
		}
		r.notes = append(r.notes, text)
	case chain.HoleBulk:
		r.word, r.bad = "bulk", false
		r.notes = append(r.notes, "bulk changes: of this log only the end can be restored")
	case chain.HoleBase:
		r.notes = append(r.notes, "the full that this differential counts from is not here")
	}
	if n.Reason != "" && h.Why == chain.HoleGap {
		r.notes = append(r.notes, n.Rule+": "+n.Reason)
	}
	return r
}

// extent are the first and the last moment that a chart tells of.
func (c *Chart) extent() (from, to time.Time) {
	for _, f := range c.Forks {
		for _, n := range nodes(f) {
			for _, t := range []time.Time{n.Started, n.Finished} {
				if t.IsZero() {
					continue
				}
				if from.IsZero() || t.Before(from) {
					from = t
				}
				if t.After(to) {
					to = t
				}
			}
		}
	}
	return from, to
}

// count is how many backups there are.
func (c *Chart) count() (n int) {
	for _, f := range c.Forks {
		n += len(nodes(f))
	}
	return n
}

// printable makes control characters and directions visible as U+FFFD: a database's
// name must not be able to fake a line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		hidden := r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0xfeff
		if hidden {
			return '\uFFFD'
		}
		return r
	}, s)
}

func stamp(t time.Time) string { return t.Format("2006-01-02 15:04:05 -07:00") }

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
