// Package tsql reads Transact-SQL: a batch's text in, statements out. It is the part of
// the language that administrators, backup tools and a laboratory's users speak;
// nothing in it knows who asks.
//
// The language is Microsoft's; errors carry SQL Server's numbers (102 and 156 near the
// word where reading stopped, 105 for a quote that does not end).
package tsql

import (
	"strings"

	"holdfast/sqlguest/lab/tsql/ast"
	"holdfast/sqlguest/lab/tsql/syntax"
)

// parser reads statements.
type parser struct {
	*syntax.Reader
	readers map[string]reader
}

// Parse reads a batch. As in SQL Server, one syntax error means that none of it runs.
func Parse(text string) ([]ast.Statement, error) {
	r, err := syntax.NewReader(text)
	if err != nil {
		return nil, err
	}
	p := &parser{Reader: r, readers: readers()}
	var out []ast.Statement
	for {
		for p.AcceptSymbol(";") {
		}
		if p.Current().Kind == syntax.End {
			return out, nil
		}
		s, err := p.statement()
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
}

// statement reads one statement.
func (p *parser) statement() (ast.Statement, error) {
	p.Depth++
	defer func() { p.Depth-- }()
	if p.Depth > syntax.DepthLimit {
		return nil, p.Unexpected()
	}
	t := p.Current()
	at := ast.Located{Line: t.Line}
	if t.Kind == syntax.Symbol && t.Text == "(" {
		return p.selectStatement(at)
	}
	if t.Kind != syntax.Word {
		return nil, p.Unexpected()
	}
	if read, ok := p.readers[t.Upper]; ok {
		p.At++
		return read(p, at)
	}
	if p.At == 0 { // the first of a batch may be a procedure without EXEC
		return p.execute(at)
	}
	return nil, p.Unexpected()
}

// reader reads the rest of a statement whose first word has been read.
type reader func(*parser, ast.Located) (ast.Statement, error)

// readers are the statements' readers by first word.
func readers() map[string]reader {
	return map[string]reader{
		"SELECT": again((*parser).selectStatement), "WITH": again((*parser).selectStatement),
		"INSERT": (*parser).insert, "UPDATE": (*parser).update, "DELETE": (*parser).delete,
		"DECLARE": (*parser).declare, "SET": (*parser).set, "IF": (*parser).ifStatement, "WHILE": (*parser).while,
		"BEGIN": (*parser).begin, "BREAK": (*parser).breakOut, "CONTINUE": (*parser).breakOut, "RETURN": (*parser).returnOut,
		"PRINT": (*parser).print, "RAISERROR": (*parser).raise, "THROW": (*parser).throw, "WAITFOR": (*parser).waitFor,
		"EXEC": (*parser).execute, "EXECUTE": (*parser).execute, "COMMIT": (*parser).endTransaction,
		"ROLLBACK": (*parser).endTransaction, "SAVE": (*parser).endTransaction, "USE": (*parser).use,
		"CREATE": (*parser).create, "DROP": (*parser).drop, "TRUNCATE": (*parser).drop, "ALTER": (*parser).alter,
		"DBCC": (*parser).dbcc, "CHECKPOINT": (*parser).checkpoint, "KILL": (*parser).kill,
		"BACKUP": (*parser).backup, "RESTORE": (*parser).restore,
	}
}

// again makes a reader that reads the first word once more.
func again(read reader) reader {
	return func(p *parser, at ast.Located) (ast.Statement, error) {
		p.At--
		return read(p, at)
	}
}

func (p *parser) declare(at ast.Located) (ast.Statement, error) {
	d := &ast.Declare{Located: at}
	for {
		t := p.Current()
		if t.Kind != syntax.Var || strings.HasPrefix(t.Text, "@@") {
			return nil, p.Unexpected()
		}
		p.At++
		p.Accept("AS")
		v := ast.Declaration{Name: t.Text}
		var err error
		if p.Accept("TABLE") {
			table := &ast.CreateTable{}
			if err = p.columns(table); err != nil {
				return nil, err
			}
			v.Table = table.Columns
		} else if v.Type, err = p.TypeName(1); err != nil {
			return nil, err
		}
		if p.AcceptSymbol("=") {
			if v.Value, err = p.Expression(); err != nil {
				return nil, err
			}
		}
		d.Variables = append(d.Variables, v)
		if !p.AcceptSymbol(",") {
			return d, nil
		}
	}
}

func (p *parser) set(at ast.Located) (ast.Statement, error) {
	t := p.Current()
	if t.Kind == syntax.Var {
		p.At++
		op := ""
		switch s := p.Current().Text; s {
		case "+=", "-=", "*=", "/=", "%=":
			op = s[:1]
		case "=":
		default:
			return nil, p.Unexpected()
		}
		p.At++
		x, err := p.Expression()
		return &ast.SetVariable{Located: at, Name: t.Text, Op: op, Value: x}, err
	}
	s := &ast.SetOption{Located: at}
	for {
		t := p.Current()
		// An option ends with its line's last word: the next statement begins with a
		// word that starts one, except for the values ON, OFF and numbers.
		if t.Kind != syntax.Word && t.Kind != syntax.Number && t.Kind != syntax.String && !p.IsSymbol("-") && !p.IsSymbol(",") ||
			len(s.Words) > 0 && (syntax.Starters[t.Upper] && t.Upper != "SET") {
			break
		}
		if t.Upper == "SET" {
			break
		}
		word := t.Upper
		if word == "" {
			word = t.Text
		}
		s.Words = append(s.Words, word)
		p.At++
	}
	if len(s.Words) == 0 {
		return nil, p.Unexpected()
	}
	return s, nil
}

func (p *parser) ifStatement(at ast.Located) (ast.Statement, error) {
	s := &ast.If{Located: at}
	var err error
	if s.Condition, err = p.Expression(); err != nil {
		return nil, err
	}
	if s.Then, err = p.statement(); err != nil {
		return nil, err
	}
	mark := p.At
	for p.AcceptSymbol(";") {
	}
	if p.Accept("ELSE") {
		s.Else, err = p.statement()
		return s, err
	}
	p.At = mark
	return s, nil
}

func (p *parser) while(at ast.Located) (ast.Statement, error) {
	s := &ast.While{Located: at}
	var err error
	if s.Condition, err = p.Expression(); err != nil {
		return nil, err
	}
	s.Body, err = p.statement()
	return s, err
}

// begin reads BEGIN … END, BEGIN TRY … and BEGIN TRANSACTION.
func (p *parser) begin(at ast.Located) (ast.Statement, error) {
	switch {
	case p.Accept("TRAN"), p.Accept("TRANSACTION"):
		return p.beginTransaction(at)
	case p.Is("DISTRIBUTED"):
		return nil, p.Unexpected()
	case p.Accept("TRY"):
		s := &ast.Try{Located: at}
		var err error
		if s.Body, err = p.body("TRY"); err != nil {
			return nil, err
		}
		for p.AcceptSymbol(";") {
		}
		if err = p.Expect("BEGIN"); err == nil {
			err = p.Expect("CATCH")
		}
		if err != nil {
			return nil, err
		}
		s.Catch, err = p.body("CATCH")
		return s, err
	}
	body, err := p.body("")
	if err == nil && len(body) == 0 {
		p.At--
		return nil, p.Unexpected()
	}
	return &ast.Block{Located: at, Body: body}, err
}

// body reads statements to END and the word after it.
func (p *parser) body(word string) ([]ast.Statement, error) {
	var out []ast.Statement
	for {
		for p.AcceptSymbol(";") {
		}
		if p.Accept("END") {
			if word != "" {
				return out, p.Expect(word)
			}
			return out, nil
		}
		s, err := p.statement()
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
}

func (p *parser) beginTransaction(at ast.Located) (ast.Statement, error) {
	s := &ast.Transaction{Located: at, Kind: "BEGIN"}
	s.Name = p.nameOrVariable()
	if s.Name != nil && p.Accept("WITH") {
		if err := p.Expect("MARK"); err != nil {
			return nil, err
		}
		s.Mark = true
		if k := p.Current().Kind; k == syntax.String || k == syntax.National || k == syntax.Var {
			x, err := p.Primary()
			s.Description = x
			return s, err
		}
	}
	return s, nil
}

func (p *parser) endTransaction(at ast.Located) (ast.Statement, error) {
	s := &ast.Transaction{Located: at, Kind: p.Peek(-1).Upper}
	if p.Accept("TRAN") || p.Accept("TRANSACTION") {
		s.Name = p.nameOrVariable()
	} else {
		p.Accept("WORK")
	}
	if s.Kind == "SAVE" && s.Name == nil {
		return nil, p.Unexpected()
	}
	return s, nil
}

// nameOrVariable reads an optional name; a word that begins a statement is none.
func (p *parser) nameOrVariable() ast.Expr {
	t := p.Current()
	switch {
	case t.Kind == syntax.Var:
		p.At++
		return &ast.Variable{Name: t.Text}
	case t.Kind == syntax.Quoted, t.Kind == syntax.Word && !syntax.Reserved[t.Upper] && !syntax.Starters[t.Upper]:
		p.At++
		return syntax.Text(t.Text)
	}
	return nil
}

func (p *parser) breakOut(at ast.Located) (ast.Statement, error) {
	if p.Peek(-1).Upper == "BREAK" {
		return &ast.Break{Located: at}, nil
	}
	return &ast.Continue{Located: at}, nil
}

func (p *parser) returnOut(at ast.Located) (ast.Statement, error) {
	s := &ast.Return{Located: at}
	t := p.Current()
	if t.Kind == syntax.End || t.Kind == syntax.Symbol && t.Text == ";" || t.Upper != "" && syntax.Reserved[t.Upper] {
		return s, nil
	}
	var err error
	s.Value, err = p.Expression()
	return s, err
}

func (p *parser) print(at ast.Located) (ast.Statement, error) {
	x, err := p.Expression()
	return &ast.Print{Located: at, Value: x}, err
}

func (p *parser) raise(at ast.Located) (ast.Statement, error) {
	s := &ast.RaisError{Located: at}
	if err := p.Symbol("("); err != nil {
		return nil, err
	}
	args, err := p.List()
	if err != nil {
		return nil, err
	}
	if len(args) < 3 {
		return nil, p.Unexpected()
	}
	s.Message, s.Severity, s.State, s.Args = args[0], args[1], args[2], args[3:]
	if err := p.Symbol(")"); err != nil {
		return nil, err
	}
	if p.Accept("WITH") {
		for {
			if !p.Accept("NOWAIT") && !p.Accept("LOG") && !p.Accept("SETERROR") {
				return nil, p.Unexpected()
			}
			s.NoWait = s.NoWait || p.Peek(-1).Upper == "NOWAIT"
			if !p.AcceptSymbol(",") {
				break
			}
		}
	}
	return s, nil
}

func (p *parser) throw(at ast.Located) (ast.Statement, error) {
	s := &ast.Throw{Located: at}
	if k := p.Current().Kind; k != syntax.Number && k != syntax.Var {
		return s, nil
	}
	args, err := p.List()
	if err != nil {
		return nil, err
	}
	if len(args) != 3 {
		return nil, p.Unexpected()
	}
	s.Number, s.Message, s.State = args[0], args[1], args[2]
	return s, nil
}

func (p *parser) waitFor(at ast.Located) (ast.Statement, error) {
	s := &ast.WaitFor{Located: at}
	if !p.Accept("DELAY") {
		if err := p.Expect("TIME"); err != nil {
			return nil, err
		}
		s.Until = true
	}
	var err error
	s.Delay, err = p.Primary()
	return s, err
}

// execute reads EXEC [@r =] name [arguments] and EXEC ('text').
func (p *parser) execute(at ast.Located) (ast.Statement, error) {
	s := &ast.Exec{Located: at}
	var err error
	if p.AcceptSymbol("(") {
		if s.Text, err = p.Expression(); err != nil {
			return nil, err
		}
		return s, p.Symbol(")")
	}
	if p.Current().Kind == syntax.Var && p.PeekSymbol(1, "=") {
		s.Result = p.Current().Text
		p.At += 2
	}
	if s.Name, err = p.Parts(); err != nil {
		return nil, err
	}
	for {
		t := p.Current()
		if t.Kind == syntax.End || t.Kind == syntax.Symbol && t.Text != "-" || len(s.Args) == 0 && t.Kind == syntax.Word && (syntax.Starters[t.Upper] || t.Upper == "END" || t.Upper == "ELSE") {
			return s, nil
		}
		var a ast.Argument
		if t.Kind == syntax.Var && p.PeekSymbol(1, "=") {
			a.Name = t.Text
			p.At += 2
		}
		if w := p.Current(); w.Kind == syntax.Word && !syntax.Reserved[w.Upper] && !p.PeekSymbol(1, "(") {
			p.At++ // a bare word is a string here: EXEC sp_helpdb sales
			a.Value = syntax.Text(w.Text)
		} else if a.Value, err = p.Unary(); err != nil {
			return nil, err
		}
		a.Output = p.Accept("OUTPUT") || p.Accept("OUT")
		s.Args = append(s.Args, a)
		if !p.AcceptSymbol(",") {
			return s, nil
		}
	}
}

// ParseParameters reads the declarations of sp_executesql: "@a int, @b nvarchar(10) OUTPUT".
func ParseParameters(text string) ([]ast.Declaration, error) {
	r, err := syntax.NewReader(text)
	if err != nil {
		return nil, err
	}
	p := &parser{Reader: r}
	var out []ast.Declaration
	for {
		t := p.Current()
		if t.Kind != syntax.Var {
			return nil, p.Unexpected()
		}
		p.At++
		p.Accept("AS")
		d := ast.Declaration{Name: t.Text}
		if d.Type, err = p.TypeName(1); err != nil {
			return nil, err
		}
		if p.AcceptSymbol("=") {
			if d.Value, err = p.Primary(); err != nil {
				return nil, err
			}
		}
		_ = p.Accept("OUTPUT") || p.Accept("OUT")
		out = append(out, d)
		if p.Current().Kind == syntax.End {
			return out, nil
		}
		if err := p.Symbol(","); err != nil {
			return nil, err
		}
	}
}
