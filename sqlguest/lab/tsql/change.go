package tsql

import (
	"holdfast/sqlguest/lab/tsql/ast"
	"holdfast/sqlguest/lab/tsql/syntax"
)

func (p *parser) target() ([]string, error) {
	if t := p.Current(); t.Kind == syntax.Var {
		p.At++
		return []string{t.Text}, nil
	}
	return p.Parts()
}

func (p *parser) insert(at ast.Located) (ast.Statement, error) {
	p.Accept("INTO")
	s := &ast.Insert{Located: at}
	var err error
	if s.Table, err = p.target(); err != nil {
		return nil, err
	}
	if p.IsSymbol("(") {
		if s.Columns, err = p.NameList(); err != nil {
			return nil, err
		}
	}
	switch {
	case p.Accept("VALUES"):
		s.Rows, err = p.Rows()
	case p.Accept("DEFAULT"):
		s.Rows = [][]ast.Expr{{}}
		s.Columns = []string{}
		err = p.Expect("VALUES")
	case p.Accept("EXEC"), p.Accept("EXECUTE"):
		var e ast.Statement
		if e, err = p.execute(at); err == nil {
			s.Exec = e.(*ast.Exec)
		}
	default:
		s.Query, err = p.Query()
	}
	return s, err
}

func (p *parser) update(at ast.Located) (ast.Statement, error) {
	s := &ast.Update{Located: at}
	var err error
	if s.Top, err = p.Top(); err != nil {
		return nil, err
	}
	if s.Table, err = p.target(); err != nil {
		return nil, err
	}
	if err = p.Expect("SET"); err != nil {
		return nil, err
	}
	for {
		parts, err := p.Parts()
		if err != nil {
			return nil, err
		}
		a := ast.Assignment{Column: parts[len(parts)-1]}
		op := p.Current().Text
		if len(op) == 2 && op[1] == '=' && op[0] != '<' && op[0] != '>' && op[0] != '!' {
			p.At++
		} else if err := p.Symbol("="); err != nil {
			return nil, err
		}
		if a.Value, err = p.Expression(); err != nil {
			return nil, err
		}
		if len(op) == 2 {
			a.Value = &ast.Binary{Op: op[:1], L: &ast.ColumnRef{Parts: parts}, R: a.Value}
		}
		s.Set = append(s.Set, a)
		if !p.AcceptSymbol(",") {
			break
		}
	}
	s.From, s.Where, err = p.fromWhere()
	return s, err
}

func (p *parser) delete(at ast.Located) (ast.Statement, error) {
	s := &ast.Delete{Located: at}
	var err error
	if s.Top, err = p.Top(); err != nil {
		return nil, err
	}
	p.Accept("FROM")
	if s.Table, err = p.target(); err != nil {
		return nil, err
	}
	s.From, s.Where, err = p.fromWhere()
	return s, err
}

func (p *parser) fromWhere() (from []ast.TableRef, where ast.Expr, err error) {
	if p.Accept("FROM") {
		if from, err = p.Tables(); err != nil {
			return nil, nil, err
		}
	}
	if p.Accept("WHERE") {
		where, err = p.Expression()
	}
	return from, where, err
}

func (p *parser) selectStatement(at ast.Located) (ast.Statement, error) {
	q, err := p.Query()
	if err != nil {
		return nil, err
	}
	if p.Accept("OPTION") { // hints change nothing here
		if err := p.Hint(); err != nil {
			return nil, err
		}
	}
	return &ast.SelectStatement{Located: at, Query: q}, nil
}
