package ui

import (
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
}

// NewTable makes a table; without columns' heads it has no head line.
func NewTable(columns ...Column) *Table { return &Table{columns: columns} }

// Left makes a column whose cells line up at their beginning.
func Left(head string) Column { return Column{Head: head} }

// Right makes a column whose cells line up at their end.
func Right(head string) Column { return Column{Head: head, Right: true} }

// Row adds a row. Missing cells are empty, those beyond the columns are dropped.
func (t *Table) Row(cells ...string) {
	row := make([]string, len(t.columns))
	for i := range min(len(cells), len(row)) {
		row[i] = Clean(cells[i])
	}
	t.rows = append(t.rows, row)
}

// Len is the number of rows.
func (t *Table) Len() int { return len(t.rows) }

// String is the table, each line ended by a newline, no trailing blanks.
func (t *Table) String() string {
	head := make([]string, len(t.columns))
	width := make([]int, len(t.columns))
	for i, c := range t.columns {
		head[i] = c.Head
		width[i] = uniseg.StringWidth(c.Head)
		for _, row := range t.rows {
			width[i] = max(width[i], uniseg.StringWidth(row[i]))
		}
	}
	var b strings.Builder
	if strings.Join(head, "") != "" {
		t.line(&b, head, width)
	}
	for _, row := range t.rows {
		t.line(&b, row, width)
	}
	return b.String()
}

func (t *Table) line(b *strings.Builder, cells []string, width []int) {
	var line strings.Builder
	for i, cell := range cells {
		if i > 0 {
			line.WriteString("  ")
		}
		pad := strings.Repeat(" ", width[i]-uniseg.StringWidth(cell))
		if t.columns[i].Right {
			line.WriteString(pad + cell)
		} else {
			line.WriteString(cell + pad)
		}
	}
	b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
}

// Table writes the table to Out; under JSON it writes nothing.
func (t *Terminal) Table(table *Table) { t.Printf("%s", table.String()) }
