package cmd

import (
	"bytes"
	"go/ast"
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The bars keep every place small enough to be read in one sitting. They count
// lines of code: blank lines and comments cost nothing.
const (
	packageLines  = 1500 // of a package, without its tests
	commandLines  = 4000 // of cmd, which is one file a command
	fileLinesMost = 700  // of any file, all lines
	fileLinesP95  = 500
	funcLinesMost = 80 // of any function, from func to the closing brace
	funcLinesP95  = 55
	funcLinesHalf = 12
)

// text is the file as it stands on disk.
func (s source) text(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(s.file)))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// countCode counts the lines that hold code.
func countCode(text []byte) int {
	set := token.NewFileSet()
	f := set.AddFile("", -1, len(text))
	var s scanner.Scanner
	s.Init(f, text, nil, 0) // without comments
	seen := map[int]bool{}
	for {
		pos, tok, literal := s.Scan()
		if tok == token.EOF {
			return len(seen)
		}
		if tok == token.SEMICOLON && literal == "\n" {
			continue // the scanner's own, at the end of a line
		}
		first := f.Line(pos)
		for i := range strings.Count(literal, "\n") + 1 { // a raw string has many lines
			seen[first+i] = true
		}
	}
}

func TestShapeCountsCodeOnly(t *testing.T) {
	text := "package x\n\n// one\n/* two\nthree */\nvar a = `b\n\n` // four\n\nfunc f() {\n\t// five\n\treturn\n}\n"
	if got := countCode([]byte(text)); got != 1+3+3 {
		t.Errorf("counted %d lines of code in\n%s", got, text)
	}
}

// percentile is the value below which the share p of the sorted list lies.
func percentile(sorted []int, p float64) int {
	return sorted[min(int(float64(len(sorted))*p), len(sorted)-1)]
}

func TestPackagesStaySmall(t *testing.T) {
	lines := map[string]int{}
	for _, s := range sources(t) {
		if !s.test {
			lines[s.pkg] += countCode(s.text(t))
		}
	}
	for pkg, n := range lines {
		most := packageLines
		if pkg == "cmd" {
			most = commandLines
		}
		if n > most {
			t.Errorf("package %q has %d lines of code, more than %d: a part of it wants a name of its own", "holdfast/"+pkg, n, most)
		}
	}
}

func TestFilesStaySmall(t *testing.T) {
	var all []int
	for _, s := range sources(t) {
		n := bytes.Count(s.text(t), []byte("\n"))
		if all = append(all, n); n > fileLinesMost {
			t.Errorf("%s has %d lines, more than %d", s.file, n, fileLinesMost)
		}
	}
	slices.Sort(all)
	if n := percentile(all, 0.95); n > fileLinesP95 {
		t.Errorf("one file of twenty has %d lines or more; the bar is %d", n, fileLinesP95)
	}
}

func TestFunctionsStaySmall(t *testing.T) {
	var all []int
	for _, s := range sources(t) {
		text := s.text(t)
		for _, d := range s.syntax.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			start := s.syntax.FileStart
			n := 1 + bytes.Count(text[f.Pos()-start:f.End()-start], []byte("\n"))
			if n > funcLinesMost {
				t.Errorf("%s: %s has %d lines, more than %d", s.file, f.Name.Name, n, funcLinesMost)
			}
			if !s.test {
				all = append(all, n)
			}
		}
	}
	slices.Sort(all)
	half, p95 := percentile(all, 0.5), percentile(all, 0.95)
	if half > funcLinesHalf || p95 > funcLinesP95 {
		t.Errorf("half of the functions have %d lines or more and one of twenty %d; the bars are %d and %d", half, p95, funcLinesHalf, funcLinesP95)
	}
	t.Logf("%d functions: half have up to %d lines, 95 %% up to %d, the longest %d", len(all), half, p95, all[len(all)-1])
}
