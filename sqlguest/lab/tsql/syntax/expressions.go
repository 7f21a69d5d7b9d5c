package syntax

import (
	"encoding/hex"
	"math/big"
	"strconv"
	"strings"

	"holdfast/sqlguest/lab/tsql/ast"
	"holdfast/sqlguest/lab/value"
)

// DepthLimit bounds how deep expressions and queries nest.
const DepthLimit = 200

// Expression reads an expression or a predicate; both share one grammar here, the
// evaluator tells them apart by their types.
func (p *Reader) Expression() (ast.Expr, error) {
	p.Depth++
	defer func() { p.Depth-- }()
	if p.Depth > DepthLimit {
		return nil, Errorf(191, p.Current().Line, "Some part of your SQL statement is nested too deeply. Rewrite the query or break it up into smaller queries.")
	}
	return p.chain(p.conjunction, "OR")
}

func (p *Reader) conjunction() (ast.Expr, error) { return p.chain(p.negation, "AND") }

// chain reads operands joined by words, left to right.
func (p *Reader) chain(operand func() (ast.Expr, error), word string) (ast.Expr, error) {
	left, err := operand()
	for err == nil && p.Accept(word) {
		var right ast.Expr
		if right, err = operand(); err == nil {
			left = &ast.Binary{Op: word, L: left, R: right}
		}
	}
	return left, err
}

func (p *Reader) negation() (ast.Expr, error) {
	if p.Accept("NOT") {
		x, err := p.negation()
		return &ast.Unary{Op: "NOT", X: x}, err
	}
	return p.comparison()
}

func (p *Reader) comparison() (ast.Expr, error) {
	left, err := p.sum()
	if err != nil {
		return nil, err
	}
	for {
		t := p.Current()
		switch {
		case t.Kind == Symbol && comparisons[t.Text] != "":
			p.At++
			right, err := p.sum()
			if err != nil {
				return nil, err
			}
			left = &ast.Binary{Op: comparisons[t.Text], L: left, R: right}
		case p.Is("IS"):
			p.At++
			not := p.Accept("NOT")
			if err := p.Expect("NULL"); err != nil {
				return nil, err
			}
			left = &ast.IsNull{X: left, Not: not}
		case p.Is("IN"), p.Is("LIKE"), p.Is("BETWEEN"), p.Is("NOT"):
			if left, err = p.membership(left, p.Accept("NOT")); err != nil {
				return nil, err
			}
		default:
			return left, nil
		}
	}
}

var comparisons = map[string]string{"=": "=", "<>": "<>", "!=": "<>", "<": "<", ">": ">", "<=": "<=", ">=": ">=", "!<": ">=", "!>": "<="}

// membership reads IN, LIKE and BETWEEN.
func (p *Reader) membership(x ast.Expr, not bool) (ast.Expr, error) {
	switch {
	case p.Accept("IN"):
		if err := p.Symbol("("); err != nil {
			return nil, err
		}
		in := &ast.In{X: x, Not: not}
		var err error
		if p.Is("SELECT") || p.Is("WITH") {
			in.Query, err = p.Query()
		} else {
			in.List, err = p.List()
		}
		if err != nil {
			return nil, err
		}
		return in, p.Symbol(")")
	case p.Accept("LIKE"):
		pattern, err := p.sum()
		if err != nil {
			return nil, err
		}
		l := &ast.Like{X: x, Pattern: pattern, Not: not}
		if p.Accept("ESCAPE") {
			l.Escape, err = p.sum()
		}
		return l, err
	case p.Accept("BETWEEN"):
		low, err := p.sum()
		if err != nil {
			return nil, err
		}
		if err := p.Expect("AND"); err != nil {
			return nil, err
		}
		high, err := p.sum()
		return &ast.Between{X: x, Low: low, High: high, Not: not}, err
	}
	return nil, p.Unexpected()
}

func (p *Reader) sum() (ast.Expr, error)     { return p.operators(p.product, "+", "-", "&", "|", "^") }
func (p *Reader) product() (ast.Expr, error) { return p.operators(p.Unary, "*", "/", "%") }

func (p *Reader) operators(operand func() (ast.Expr, error), ops ...string) (ast.Expr, error) {
	left, err := operand()
	for err == nil {
		op := ""
		for _, o := range ops {
			if p.IsSymbol(o) {
				op = o
			}
		}
		if op == "" {
			break
		}
		p.At++
		var right ast.Expr
		if right, err = operand(); err == nil {
			left = &ast.Binary{Op: op, L: left, R: right}
		}
	}
	return left, err
}

// Unary reads an operand with its signs.
func (p *Reader) Unary() (ast.Expr, error) {
	if t := p.Current(); t.Kind == Symbol && (t.Text == "-" || t.Text == "+" || t.Text == "~") {
		p.Depth++
		defer func() { p.Depth-- }()
		if p.Depth > DepthLimit {
			return nil, p.Unexpected()
		}
		p.At++
		x, err := p.Unary()
		return &ast.Unary{Op: t.Text, X: x}, err
	}
	x, err := p.Primary()
	for err == nil && p.Is("COLLATE") {
		p.At++
		_, err = p.Name() // one collation serves all
	}
	return x, err
}

// Primary reads an operand: a constant, a variable, a column, a call, parentheses.
func (p *Reader) Primary() (ast.Expr, error) {
	t := p.Current()
	switch t.Kind {
	case String, National:
		p.At++
		k := value.VarChar
		if t.Kind == National {
			k = value.NVarChar
		}
		return &ast.Literal{Value: t.Text, Type: value.Type{Kind: k, Size: max(len([]rune(t.Text)), 1)}}, nil
	case Number:
		p.At++
		return number(t)
	case Hex:
		p.At++
		digits := t.Text
		if len(digits)%2 == 1 {
			digits = "0" + digits
		}
		raw, err := hex.DecodeString(digits)
		return &ast.Literal{Value: raw, Type: value.Type{Kind: value.VarBinary, Size: max(len(raw), 1)}}, err
	case Var:
		p.At++
		return &ast.Variable{Name: t.Text}, nil
	case Symbol:
		if t.Text == "(" {
			return p.parenthesis()
		}
		if t.Text != "." && t.Text != "*" {
			return nil, p.Unexpected()
		}
	case End:
		return nil, p.Unexpected()
	}
	if e, ok, err := p.special(); ok || err != nil {
		return e, err
	}
	return p.reference()
}

func number(t Token) (ast.Expr, error) {
	if strings.ContainsAny(t.Text, "eE") {
		f, err := strconv.ParseFloat(t.Text, 64)
		if err != nil {
			return nil, Errorf(168, t.Line, "The floating point value '%s' is out of the range of computer representation (8 bytes).", t.Text)
		}
		return &ast.Literal{Value: f, Type: value.Type{Kind: value.Float}}, nil
	}
	if n, err := strconv.ParseInt(t.Text, 10, 32); err == nil {
		return &ast.Literal{Value: n, Type: value.Type{Kind: value.Int}}, nil
	}
	n, ok := value.ParseNumber(t.Text)
	if !ok || len(new(big.Int).Abs(n.Unscaled).String()) > 38 {
		return nil, Errorf(1007, t.Line, "The number '%s' is out of the range for numeric representation (maximum precision 38).", t.Text)
	}
	return &ast.Literal{Value: n, Type: value.TypeOf(n)}, nil
}

func (p *Reader) parenthesis() (ast.Expr, error) {
	p.At++
	if p.Is("SELECT") || p.Is("WITH") {
		q, err := p.Query()
		if err != nil {
			return nil, err
		}
		return &ast.Scalar{Query: q}, p.Symbol(")")
	}
	x, err := p.Expression()
	if err != nil {
		return nil, err
	}
	return x, p.Symbol(")")
}

// special reads what begins with a word of its own: NULL, CASE, CAST, EXISTS…
func (p *Reader) special() (e ast.Expr, ok bool, err error) {
	t := p.Current()
	if t.Kind != Word {
		return nil, false, nil
	}
	switch t.Upper {
	case "NULL":
		p.At++
		return &ast.Literal{Value: nil, Type: value.Type{Kind: value.Null}}, true, nil
	case "CASE":
		p.At++
		e, err = p.caseExpr()
		return e, true, err
	case "EXISTS":
		p.At++
		if err := p.Symbol("("); err != nil {
			return nil, true, err
		}
		q, err := p.Query()
		if err != nil {
			return nil, true, err
		}
		return &ast.Exists{Query: q}, true, p.Symbol(")")
	case "CAST", "TRY_CAST", "CONVERT", "TRY_CONVERT":
		if p.PeekSymbol(1, "(") {
			p.At += 2
			e, err = p.cast(strings.HasSuffix(t.Upper, "CAST"), strings.HasPrefix(t.Upper, "TRY_"))
			return e, true, err
		}
	case "CURRENT_TIMESTAMP", "USER", "CURRENT_USER", "SESSION_USER", "SYSTEM_USER":
		if !p.PeekSymbol(1, "(") {
			p.At++
			return &ast.Call{Name: []string{t.Upper}}, true, nil
		}
	}
	return nil, false, nil
}

func (p *Reader) caseExpr() (ast.Expr, error) {
	c := &ast.Case{}
	var err error
	if !p.Is("WHEN") {
		if c.Operand, err = p.Expression(); err != nil {
			return nil, err
		}
	}
	for p.Accept("WHEN") {
		var w ast.When
		if w.If, err = p.Expression(); err != nil {
			return nil, err
		}
		if err = p.Expect("THEN"); err != nil {
			return nil, err
		}
		if w.Then, err = p.Expression(); err != nil {
			return nil, err
		}
		c.Whens = append(c.Whens, w)
	}
	if len(c.Whens) == 0 {
		return nil, p.Unexpected()
	}
	if p.Accept("ELSE") {
		if c.Else, err = p.Expression(); err != nil {
			return nil, err
		}
	}
	return c, p.Expect("END")
}

// cast reads CAST(x AS type) and CONVERT(type, x, style) after the parenthesis.
func (p *Reader) cast(as, try bool) (ast.Expr, error) {
	c := &ast.Cast{Try: try}
	var err error
	if as {
		if c.X, err = p.Expression(); err == nil {
			err = p.Expect("AS")
		}
		if err == nil {
			c.Type, err = p.TypeName(30)
		}
	} else {
		if c.Type, err = p.TypeName(30); err == nil {
			err = p.Symbol(",")
		}
		if err == nil {
			c.X, err = p.Expression()
		}
		if err == nil && p.AcceptSymbol(",") {
			c.Style, err = p.Expression()
		}
	}
	if err != nil {
		return nil, err
	}
	return c, p.Symbol(")")
}

// reference reads a column, or a function with its arguments.
func (p *Reader) reference() (ast.Expr, error) {
	var parts []string
	var err error
	if w := p.Current(); w.Kind == Word && callable[w.Upper] && p.PeekSymbol(1, "(") {
		p.At++
		parts = []string{w.Text}
	} else if parts, err = p.Parts(); err != nil {
		return nil, err
	}
	if !p.AcceptSymbol("(") {
		return &ast.ColumnRef{Parts: parts}, nil
	}
	c := &ast.Call{Name: parts}
	if p.AcceptSymbol("*") {
		c.Star = true
		return c, p.Symbol(")")
	}
	if p.AcceptSymbol(")") {
		return c, nil
	}
	c.Distinct = p.Accept("DISTINCT")
	if c.Args, err = p.arguments(parts[len(parts)-1]); err != nil {
		return nil, err
	}
	return c, p.Symbol(")")
}

// callable are reserved words that are functions' names too.
var callable = map[string]bool{"LEFT": true, "RIGHT": true, "COALESCE": true, "NULLIF": true}

// arguments reads a function's arguments; the first of DATEADD and its like is a bare
// word, which becomes a literal.
func (p *Reader) arguments(function string) ([]ast.Expr, error) {
	var first []ast.Expr
	switch strings.ToUpper(function) {
	case "DATEADD", "DATEDIFF", "DATEDIFF_BIG", "DATEPART", "DATENAME":
		t := p.Current()
		p.At++
		first = []ast.Expr{&ast.Literal{Value: strings.ToLower(t.Text), Type: value.Text(max(len(t.Text), 1))}}
		if err := p.Symbol(","); err != nil {
			return nil, err
		}
	}
	rest, err := p.List()
	return append(first, rest...), err
}

// List reads expressions with commas between them.
func (p *Reader) List() ([]ast.Expr, error) {
	var out []ast.Expr
	for {
		x, err := p.Expression()
		if err != nil {
			return nil, err
		}
		out = append(out, x)
		if !p.AcceptSymbol(",") {
			return out, nil
		}
	}
}

// TypeName reads a type; textSize is what char and binary have without a length: 1 in a
// declaration, 30 in CAST.
func (p *Reader) TypeName(textSize int) (value.Type, error) {
	t := p.Current()
	parts, err := p.Parts()
	if err != nil {
		return value.Type{}, err
	}
	name := parts[len(parts)-1]
	if strings.EqualFold(name, "double") {
		p.Accept("PRECISION")
	}
	var measures []int
	if p.AcceptSymbol("(") {
		for {
			m := p.Current()
			p.At++
			n, err := strconv.Atoi(m.Text)
			if m.Upper == "MAX" {
				n, err = value.Max, nil
			}
			if err != nil {
				p.At--
				return value.Type{}, p.Unexpected()
			}
			measures = append(measures, n)
			if !p.AcceptSymbol(",") {
				break
			}
		}
		if err := p.Symbol(")"); err != nil {
			return value.Type{}, err
		}
	}
	typ, ok := value.ParseType(name, measures)
	if !ok {
		return typ, Errorf(243, t.Line, "Type %s is not a defined system type.", name)
	}
	if len(measures) == 0 && typ.Size == 1 {
		typ.Size = textSize
	}
	return typ, nil
}
