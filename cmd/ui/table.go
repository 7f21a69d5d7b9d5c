package ui

import (
	"bufio"
	"io"
	"strings"

	"github.com/rivo/uniseg"
)

// Column heads one column of a Table.
type Column struct {
	Head  string
	Right bool // numbers line up at their end
}

// Table collects rows and writes them aligned by the width that a terminal
// gives each character: a CJK letter is two wide, a combining accent none.
type Table struct {
	columns []Column
	rows    [][]string
	lazy    int                  // rows behind these, which are made when they are written
	lazyRow func(i int) []string // one of them
}

// NewTable makes a table; without columns' heads it has no head line.
func NewTable(columns ...Column) *Table { return &Table{columns: columns} }

// Left makes a column whose cells line up at their beginning.
func Left(head string) Column { return Column{Head: head} }

// Right makes a column whose cells line up at their end.
func Right(head string) Column { return Column{Head: head, Right: true} }

// Row adds a row. Missing cells are empty, those beyond the columns are dropped.
func (t *Table) Row(cells ...string) { t.rows = append(t.rows, t.clean(cells)) }

func (t *Table) clean(cells []string) []string {
	row := make([]string, len(t.columns))
	for i := range min(len(cells), len(row)) {
		row[i] = Clean(cells[i])
	}
	return row
}

// Rows adds n rows that are not held: each is made twice, once to be measured and
// once to be written, and must come out the same. It may be called once, last.
func (t *Table) Rows(n int, row func(i int) []string) { t.lazy, t.lazyRow = n, row }

// Len is the number of rows.
func (t *Table) Len() int { return len(t.rows) + t.lazy }

// each gives fn the head, if there is one, and every row.
func (t *Table) each(fn func(cells []string)) {
	head := make([]string, len(t.columns))
	for i, c := range t.columns {
		head[i] = c.Head
	}
	if strings.Join(head, "") != "" {
		fn(head)
	}
	for _, row := range t.rows {
		fn(row)
	}
	for i := range t.lazy {
		fn(t.clean(t.lazyRow(i)))
	}
}

// String is the table, each line ended by a newline, no trailing blanks.
func (t *Table) String() string {
	var b strings.Builder
	_ = t.write(&b) // never fails
	return b.String()
}

func (t *Table) write(to io.Writer) error {
	width := make([]int, len(t.columns))
	t.each(func(cells []string) {
		for i, cell := range cells {
			width[i] = max(width[i], widthOf(cell))
		}
	})
	out := bufio.NewWriterSize(to, writeBytes)
	t.each(func(cells []string) { t.line(out, cells, width) })
	return out.Flush()
}

func (t *Table) line(to *bufio.Writer, cells []string, width []int) {
	var line strings.Builder
	for i, cell := range cells {
		if i > 0 {
			line.WriteString("  ")
		}
		pad := strings.Repeat(" ", width[i]-widthOf(cell))
		if t.columns[i].Right {
			line.WriteString(pad + cell)
		} else {
			line.WriteString(cell + pad)
		}
	}
	_, _ = to.WriteString(strings.TrimRight(line.String(), " ") + "\n") // Flush tells
}

// widthOf is the number of a terminal's cells that s takes. Of what most cells
// hold that is quickly told.
func widthOf(s string) int {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return uniseg.StringWidth(s)
		}
	}
	return len(s)
}

// Table writes the table to Out; under JSON it writes nothing.
func (t *Terminal) Table(table *Table) {
	if !t.opt.JSON {
		_ = table.write(t.Out()) // Err tells
	}
}
