package picture

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"

	"holdfast/sqlguest/chain"
)

// Page writes charts as one HTML page that needs nothing else: no script, no other
// file, no network. It is well-formed XML, too. Now is the time that it names.
func Page(to io.Writer, charts []Chart, now time.Time, size func(bytes int64) string) error {
	p := &page{size: size}
	p.WriteString(pageHead)
	p.text("p", "class=\"when\"", "From the repository alone, "+stamp(now)+". Times are those of the servers' clocks.")
	if len(charts) == 0 {
		p.text("p", "", "The repository holds no database.")
	} else {
		p.text("p", "class=\"about\"", legend)
	}
	for i := range charts {
		p.chart(i, &charts[i])
	}
	p.WriteString("</main>\n</body>\n</html>\n")
	_, err := io.WriteString(to, p.String())
	return err
}

const pageHead = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta name="color-scheme" content="light dark"/>
<title>What can be restored</title>
<style>
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --paper: #ffffff; --good: #2da44e; --bad: #cf222e; --bulk: #bf8700; --full: #0550ae; --diff: #8250df; --log: #57606a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --paper: #0d1117; --good: #3fb950; --bad: #f85149; --bulk: #d29922; --full: #58a6ff; --diff: #bc8cff; --log: #9198a1; } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin: 2.5rem 0 0.25rem; overflow-wrap: anywhere; } h3 { font-size: 1rem; margin: 1rem 0 0.25rem; }
.when, .about, caption { color: var(--soft); text-align: left; }
.broken { color: var(--bad); font-weight: 600; }
figure { margin: 0.75rem 0; overflow-x: auto; } svg { min-width: 40rem; width: 100%; height: auto; display: block; }
svg text { fill: var(--soft); font-size: 12px; paint-order: stroke; stroke: var(--paper); stroke-width: 4px; } svg .axis { stroke: var(--line); } svg .lane { stroke: var(--soft); }
svg .good { fill: var(--good); } svg .one { fill: var(--good); stroke: var(--paper); } svg .gap { fill: url(#bad); stroke: var(--bad); } svg .bulk { fill: url(#some); stroke: var(--bulk); }
svg .full { fill: var(--full); } svg .diff { fill: var(--diff); } svg .copy { fill: none; stroke: var(--full); stroke-width: 2; } svg .log { stroke: var(--log); stroke-width: 1.5; fill: none; } svg .unusable { stroke: var(--bad); stroke-width: 2.5; fill: none; } svg .leave { stroke: var(--soft); fill: none; stroke-dasharray: 3 3; }
#bad path { stroke: var(--bad); } #some path { stroke: var(--bulk); }
table { border-collapse: collapse; width: 100%; font-size: 0.87rem; } th, td { text-align: left; vertical-align: top; padding: 0.2rem 0.6rem 0.2rem 0; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; } td, th { white-space: nowrap; } td { font-variant-numeric: tabular-nums; } td:last-child, caption { white-space: normal; overflow-wrap: anywhere; } td:last-child { min-width: 12rem; } tr.bad td { color: var(--bad); } code { font-size: 0.95em; }
.scroll { overflow-x: auto; }
</style>
</head>
<body>
<svg width="0" height="0" style="position:absolute;min-width:0;width:0" aria-hidden="true"><defs>
<pattern id="bad" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path d="M0 0V6" stroke-width="2"/></pattern>
<pattern id="some" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path d="M0 0V6" stroke-width="2"/></pattern>
</defs></svg>
<main>
<h1>What can be restored</h1>
`

type page struct {
	strings.Builder
	size func(int64) string
}

func (p *page) addf(format string, args ...any) { fmt.Fprintf(p, format, args...) }

// escaped is a text as content or as an attribute's value.
func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(printable(s))) // a Builder does not fail
	return b.String()
}

// text writes an element that holds words.
func (p *page) text(element, attributes, words string) {
	p.addf("<%s>%s</%s>\n", strings.TrimSpace(element+" "+attributes), escaped(words), element)
}

func (p *page) chart(i int, c *Chart) {
	p.addf("<section aria-labelledby=\"s%d\">\n", i)
	p.text("h2", fmt.Sprintf("id=\"s%d\"", i), c.Source)
	about := fmt.Sprintf("%s on %s", plural(c.count(), "backup"), plural(len(c.Forks), "recovery fork"))
	if c.Family != "" {
		about += ", database family " + c.Family
	}
	if c.Earlier {
		about += ". Another database has had this name since"
	}
	p.text("p", "class=\"about\"", about+".")
	if c.Broken {
		p.text("p", "class=\"broken\"", "Broken: the newest backup cannot be restored to its end.")
	}
	p.drawing(i, c)
	p.windows(c)
	p.backups(c)
	p.addf("</section>\n")
}

func (p *page) cells(row, element string, cells ...string) {
	p.addf("<tr%s>", row)
	for _, c := range cells {
		p.addf("<%s>%s</%s>", element, c, strings.Fields(element)[0])
	}
	p.addf("</tr>\n")
}

func code(s string) string { return "<code>" + escaped(s) + "</code>" }

func when(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return escaped(stamp(t))
}

func (p *page) windows(c *Chart) {
	p.addf("<h3>Windows</h3>\n<div class=\"scroll\"><table>\n<caption>Moments that can be restored, by the history that the database was on then.</caption>\n")
	p.cells("", "th scope=\"col\"", "History", "From", "To", "How")
	for i := range c.Lines {
		l := &c.Lines[i]
		name := "fork " + code(short(l.Fork))
		switch {
		case l.Reverted != "":
			name += ", before a revert"
		case i == 0:
			name += ", the newest"
		}
		for _, w := range l.Windows {
			p.window(name, l, w)
		}
	}
	p.addf("</table></div>\n")
}

func (p *page) window(name string, l *chain.Line, w chain.Window) {
	if w.Single {
		p.cells("", "td", name, when(w.From.Time), "–", "end of "+code(short(w.From.Point))+" alone, by point")
		return
	}
	spans := within(l.Spans, w)
	for _, s := range spans {
		p.cells("", "td", name, when(s.From), when(s.To), "any moment")
	}
	if len(spans) == 0 || spans[len(spans)-1].To.Before(w.To.Time) {
		p.cells("", "td", name, "end of "+code(short(w.From.Point)), "end of "+code(short(w.To.Point)), "by point, LSN or mark")
	}
}

func (p *page) backups(c *Chart) {
	p.addf("<h3>Backups</h3>\n<div class=\"scroll\"><table>\n<caption>As they were made, by recovery fork; logs that meet are one line.</caption>\n")
	p.cells("", "th scope=\"col\"", "What", "Point", "Finished", "Size", "Rule", "Remarks")
	for _, b := range c.blocks() {
		words := "fork " + code(b.Fork)
		if b.depth > 0 {
			words += ", left " + code(short(b.Parent)) + " at LSN " + code(b.At.String())
		}
		if b.now {
			words += "; the database is on it"
		}
		p.addf("<tr><th scope=\"rowgroup\" colspan=\"6\">%s</th></tr>\n", words)
		for i := range b.rows {
			p.backup(&b.rows[i])
		}
	}
	p.addf("</table></div>\n")
}

func (p *page) backup(r *row) {
	class := ""
	if r.bad {
		class = " class=\"bad\""
	}
	remarks := r.notes
	if r.base != "" {
		remarks = append([]string{r.base}, remarks...)
	}
	words := escaped(strings.Join(remarks, "; "))
	if len(r.nodes) == 0 {
		p.addf("<tr%s><td>%s</td><td colspan=\"5\">%s</td></tr>\n", class, escaped(r.word), words)
		return
	}
	point, at, rule := code(short(r.first().Point)), when(r.first().At()), escaped(r.first().Rule)
	what := escaped(r.word)
	if n := len(r.nodes); n > 1 {
		point += " to " + code(short(r.last().Point))
		at += " to " + when(r.last().At())
		what = fmt.Sprintf("%d logs", n)
	}
	p.cells(class, "td", what, point, at, escaped(p.size(r.bytes())), rule, words)
}
