package tsql

import (
	"fmt"
	"strconv"
	"strings"

	"holdfast/sqlguest/lab/tsql/ast"
	"holdfast/sqlguest/lab/tsql/syntax"
)

func (p *parser) use(at ast.Located) (ast.Statement, error) {
	n, err := p.Name()
	return &ast.Use{Located: at, Database: n}, err
}

func (p *parser) checkpoint(at ast.Located) (ast.Statement, error) {
	if p.Current().Kind == syntax.Number {
		p.At++
	}
	return &ast.Checkpoint{Located: at}, nil
}

func (p *parser) kill(at ast.Located) (ast.Statement, error) {
	x, err := p.Primary()
	return &ast.Kill{Located: at, Session: x}, err
}

func (p *parser) create(at ast.Located) (ast.Statement, error) {
	switch {
	case p.Accept("TABLE"):
		s := &ast.CreateTable{Located: at}
		var err error
		if s.Name, err = p.Parts(); err != nil {
			return nil, err
		}
		if err = p.columns(s); err == nil && p.Accept("ON") {
			_, err = p.Name() // one filegroup serves all
		}
		return s, err
	case p.Accept("DATABASE"):
		return p.createDatabase(at)
	}
	return nil, p.Unexpected()
}

// columns reads (a int NOT NULL PRIMARY KEY, …, PRIMARY KEY (a)).
func (p *parser) columns(s *ast.CreateTable) error {
	if err := p.Symbol("("); err != nil {
		return err
	}
	for {
		if p.Accept("CONSTRAINT") {
			if _, err := p.Name(); err != nil {
				return err
			}
		}
		if p.Is("PRIMARY") || p.Is("UNIQUE") {
			if err := p.tableKey(s); err != nil {
				return err
			}
		} else {
			c, err := p.column()
			if err != nil {
				return err
			}
			s.Columns = append(s.Columns, c)
		}
		if !p.AcceptSymbol(",") {
			return p.Symbol(")")
		}
	}
}

// tableKey reads a key that stands beside the columns.
func (p *parser) tableKey(s *ast.CreateTable) error {
	primary := p.Accept("PRIMARY")
	if primary {
		if err := p.Expect("KEY"); err != nil {
			return err
		}
	} else {
		return p.Unexpected() // UNIQUE over several columns is not ours
	}
	p.clustered()
	if err := p.Symbol("("); err != nil {
		return err
	}
	for {
		n, err := p.Name()
		if err != nil {
			return err
		}
		_ = p.Accept("ASC") || p.Accept("DESC")
		s.Key = append(s.Key, n)
		if !p.AcceptSymbol(",") {
			return p.Symbol(")")
		}
	}
}

func (p *parser) clustered() { _ = p.Accept("CLUSTERED") || p.Accept("NONCLUSTERED") }

func (p *parser) column() (ast.ColumnDefinition, error) {
	var c ast.ColumnDefinition
	var err error
	if c.Name, err = p.Name(); err != nil {
		return c, err
	}
	if c.Type, err = p.TypeName(1); err != nil {
		return c, err
	}
	for {
		switch {
		case p.Accept("NULL"):
		case p.Accept("NOT"):
			c.NotNull = true
			err = p.Expect("NULL")
		case p.Accept("PRIMARY"):
			c.PrimaryKey, c.NotNull = true, true
			err = p.Expect("KEY")
			p.clustered()
		case p.Accept("UNIQUE"):
			c.Unique = true
			p.clustered()
		case p.Accept("IDENTITY"):
			err = p.identity(&c)
		case p.Accept("CONSTRAINT"), p.Accept("COLLATE"):
			_, err = p.Name()
		case p.Accept("DEFAULT"):
			c.Default, err = p.Primary()
		default:
			return c, nil
		}
		if err != nil {
			return c, err
		}
	}
}

func (p *parser) identity(c *ast.ColumnDefinition) error {
	c.Identity, c.NotNull, c.Seed, c.Step = true, true, 1, 1
	if !p.AcceptSymbol("(") {
		return nil
	}
	for i, n := range []*int64{&c.Seed, &c.Step} {
		if i > 0 {
			if err := p.Symbol(","); err != nil {
				return err
			}
		}
		minus := p.AcceptSymbol("-")
		v, err := strconv.ParseInt(p.Current().Text, 10, 64)
		if err != nil {
			return p.Unexpected()
		}
		p.At++
		if *n = v; minus {
			*n = -v
		}
	}
	return p.Symbol(")")
}

func (p *parser) createDatabase(at ast.Located) (ast.Statement, error) {
	s := &ast.CreateDatabase{Located: at}
	var err error
	if s.Name, err = p.Name(); err != nil {
		return nil, err
	}
	if p.Accept("ON") {
		p.Accept("PRIMARY")
		if s.Files, err = p.fileSpecs(false); err != nil {
			return nil, err
		}
	}
	if p.Accept("LOG") {
		if err = p.Expect("ON"); err != nil {
			return nil, err
		}
		logs, err := p.fileSpecs(true)
		if err != nil {
			return nil, err
		}
		s.Files = append(s.Files, logs...)
	}
	if p.Accept("COLLATE") {
		_, err = p.Name()
	}
	if err == nil && p.Accept("FOR") {
		s.Attach = true
		err = p.Expect("ATTACH")
	}
	return s, err
}

func (p *parser) fileSpecs(log bool) ([]ast.FileSpec, error) {
	var out []ast.FileSpec
	for {
		if err := p.Symbol("("); err != nil {
			return nil, err
		}
		f := ast.FileSpec{Log: log}
		for {
			name, err := p.word()
			if err != nil {
				return nil, err
			}
			o := ast.Option{Name: name}
			if p.AcceptSymbol("=") {
				if o.Value, err = p.fileValue(); err != nil {
					return nil, err
				}
			}
			f.Options = append(f.Options, o)
			if !p.AcceptSymbol(",") {
				break
			}
		}
		if err := p.Symbol(")"); err != nil {
			return nil, err
		}
		out = append(out, f)
		if !p.AcceptSymbol(",") {
			return out, nil
		}
	}
}

// fileValue reads a name, a path, or a size such as 8MB, which stays text.
func (p *parser) fileValue() (ast.Expr, error) {
	t := p.Current()
	switch t.Kind {
	case syntax.Number:
		p.At++
		s := t.Text
		if u := p.Current(); u.Kind == syntax.Word && strings.Contains(" KB MB GB TB ", " "+u.Upper+" ") {
			p.At++
			s += u.Upper
		} else if p.AcceptSymbol("%") {
			s += "%"
		}
		return syntax.Text(s), nil
	case syntax.Word, syntax.Quoted:
		p.At++
		return syntax.Text(t.Text), nil
	}
	return p.Primary()
}

// word reads any word in upper case.
func (p *parser) word() (string, error) {
	t := p.Current()
	if t.Kind != syntax.Word {
		return "", p.Unexpected()
	}
	p.At++
	return t.Upper, nil
}

func (p *parser) drop(at ast.Located) (ast.Statement, error) {
	truncate := p.Peek(-1).Upper == "TRUNCATE"
	table := p.Accept("TABLE")
	if !table && (truncate || !p.Accept("DATABASE")) {
		return nil, p.Unexpected()
	}
	exists := false
	if p.Accept("IF") {
		if err := p.Expect("EXISTS"); err != nil {
			return nil, err
		}
		exists = true
	}
	var names [][]string
	for {
		n, err := p.Parts()
		if err != nil {
			return nil, err
		}
		names = append(names, n)
		if truncate || !p.AcceptSymbol(",") {
			break
		}
	}
	if table {
		return &ast.DropTable{Located: at, Names: names, IfExists: exists, Truncate: truncate}, nil
	}
	s := &ast.DropDatabase{Located: at, IfExists: exists}
	for _, n := range names {
		s.Names = append(s.Names, n[len(n)-1])
	}
	return s, nil
}

// authorization reads ALTER AUTHORIZATION ON DATABASE::name TO login, from its third word.
func (p *parser) authorization(at ast.Located) (ast.Statement, error) {
	s := &ast.AlterDatabase{Located: at, Action: "AUTHORIZATION"}
	for _, word := range []string{"ON", "DATABASE"} {
		if err := p.Expect(word); err != nil {
			return nil, err
		}
	}
	err := p.Symbol("::")
	if err == nil {
		s.Name, err = p.Name()
	}
	if err == nil {
		err = p.Expect("TO")
	}
	if err == nil {
		s.Target, err = p.Name()
	}
	return s, err
}

func (p *parser) alter(at ast.Located) (ast.Statement, error) {
	if p.Accept("AUTHORIZATION") {
		return p.authorization(at)
	}
	if err := p.Expect("DATABASE"); err != nil {
		return nil, err
	}
	s := &ast.AlterDatabase{Located: at}
	var err error
	if !p.Accept("CURRENT") {
		if s.Name, err = p.Name(); err != nil {
			return nil, err
		}
	}
	switch {
	case p.Accept("SET"):
		s.Action = "SET"
		return s, p.alterSet(s)
	case p.Accept("ADD"):
		s.Action = "ADD FILE"
		log := p.Accept("LOG")
		if log {
			s.Action = "ADD LOG FILE"
		}
		if err = p.Expect("FILE"); err != nil {
			return nil, err
		}
		if s.Files, err = p.fileSpecs(log); err == nil && p.Accept("TO") {
			if err = p.Expect("FILEGROUP"); err == nil {
				_, err = p.Parts()
			}
		}
	case p.Accept("REMOVE"):
		s.Action = "REMOVE FILE"
		if err = p.Expect("FILE"); err == nil {
			s.Target, err = p.Name()
		}
	case p.Accept("MODIFY"):
		if p.Accept("NAME") {
			s.Action = "MODIFY NAME"
			if err = p.Symbol("="); err == nil {
				s.Target, err = p.Name()
			}
			break
		}
		s.Action = "MODIFY FILE"
		if err = p.Expect("FILE"); err == nil {
			s.Files, err = p.fileSpecs(false)
		}
	default:
		return nil, p.Unexpected()
	}
	return s, err
}

// alterSet reads SET words [= word], … [WITH ROLLBACK IMMEDIATE | NO_WAIT].
func (p *parser) alterSet(s *ast.AlterDatabase) error {
	for {
		t := p.Current()
		if t.Kind == syntax.Word && t.Upper != "WITH" && (!syntax.Starters[t.Upper] || len(s.Words) == 0) {
			s.Words = append(s.Words, t.Upper)
			p.At++
			continue
		}
		if t.Kind == syntax.Number || p.IsSymbol("=") || p.IsSymbol(",") {
			if t.Kind == syntax.Number {
				s.Words = append(s.Words, t.Text)
			}
			p.At++
			continue
		}
		break
	}
	if len(s.Words) == 0 {
		return p.Unexpected()
	}
	if !p.Accept("WITH") {
		return nil
	}
	if p.Accept("NO_WAIT") {
		s.NoWait = true
		return nil
	}
	if err := p.Expect("ROLLBACK"); err != nil {
		return err
	}
	s.Rollback = true
	if p.Accept("IMMEDIATE") {
		return nil
	}
	if err := p.Expect("AFTER"); err != nil {
		return err
	}
	p.At++
	p.Accept("SECONDS")
	return nil
}

func (p *parser) dbcc(at ast.Located) (ast.Statement, error) {
	s := &ast.DBCC{Located: at}
	var err error
	if s.Command, err = p.word(); err != nil {
		return nil, err
	}
	if p.AcceptSymbol("(") && !p.AcceptSymbol(")") {
		for {
			t := p.Current()
			if t.Kind == syntax.Word || t.Kind == syntax.Quoted {
				p.At++
				s.Args = append(s.Args, syntax.Text(t.Text))
			} else {
				x, err := p.Expression()
				if err != nil {
					return nil, err
				}
				s.Args = append(s.Args, x)
			}
			if !p.AcceptSymbol(",") {
				break
			}
		}
		if err = p.Symbol(")"); err != nil {
			return nil, err
		}
	}
	if p.Accept("WITH") {
		for {
			w, err := p.word()
			if err != nil {
				return nil, err
			}
			s.Options = append(s.Options, w)
			if !p.AcceptSymbol(",") {
				break
			}
		}
	}
	return s, nil
}

// databaseName reads a database's name, which may be a variable.
func (p *parser) databaseName() (ast.Expr, error) {
	if t := p.Current(); t.Kind == syntax.Var {
		p.At++
		return &ast.Variable{Name: t.Text}, nil
	}
	n, err := p.Name()
	return syntax.Text(n), err
}

func (p *parser) backup(at ast.Located) (ast.Statement, error) {
	s := &ast.Backup{Located: at}
	switch {
	case p.Accept("DATABASE"):
	case p.Accept("LOG"), p.Accept("TRAN"), p.Accept("TRANSACTION"):
		s.Log = true
	default:
		return nil, p.Unexpected()
	}
	var err error
	if s.Database, err = p.databaseName(); err != nil {
		return nil, err
	}
	for p.Is("FILE") || p.Is("FILEGROUP") || p.Is("READ_WRITE_FILEGROUPS") {
		word, _ := p.word()
		if p.AcceptSymbol("=") {
			x, err := p.Primary()
			if err != nil {
				return nil, err
			}
			if l, ok := x.(*ast.Literal); ok {
				word += "=" + fmt.Sprint(l.Value)
			}
		}
		s.Parts = append(s.Parts, word)
		p.AcceptSymbol(",")
	}
	if err = p.Expect("TO"); err != nil {
		return nil, err
	}
	if s.Devices, err = p.devices(); err != nil {
		return nil, err
	}
	s.Options, err = p.options()
	return s, err
}

func (p *parser) restore(at ast.Located) (ast.Statement, error) {
	s := &ast.Restore{Located: at}
	var err error
	if s.What, err = p.word(); err != nil {
		return nil, err
	}
	switch s.What {
	case "DATABASE", "LOG", "TRAN", "TRANSACTION":
		if s.What != "DATABASE" {
			s.What = "LOG"
		}
		if s.Database, err = p.databaseName(); err != nil {
			return nil, err
		}
	case "HEADERONLY", "FILELISTONLY", "VERIFYONLY", "LABELONLY":
		if !p.Is("FROM") {
			return nil, p.Unexpected()
		}
	default:
		p.At--
		return nil, p.Unexpected()
	}
	if p.Accept("FROM") {
		if s.Devices, err = p.devices(); err != nil {
			return nil, err
		}
	}
	s.Options, err = p.options()
	return s, err
}

func (p *parser) devices() ([]ast.Device, error) {
	var out []ast.Device
	for {
		var d ast.Device
		t := p.Current()
		switch {
		case t.Kind == syntax.Word && p.PeekSymbol(1, "="):
			d.Kind = t.Upper
			p.At += 2
			x, err := p.Primary()
			if err != nil {
				return nil, err
			}
			d.Name = x
		default:
			x, err := p.databaseName()
			if err != nil {
				return nil, err
			}
			d.Name = x
		}
		switch d.Kind {
		case "", "DISK", "VIRTUAL_DEVICE", "URL", "TAPE":
		default:
			return nil, syntax.Errorf(155, t.Line, "'%s' is not a recognized ast.Device Type option.", t.Text)
		}
		out = append(out, d)
		if !p.AcceptSymbol(",") {
			return out, nil
		}
	}
}

// options reads WITH a, b = c, MOVE 'x' TO 'y', …
func (p *parser) options() ([]ast.Option, error) {
	if !p.Accept("WITH") {
		return nil, nil
	}
	var out []ast.Option
	for {
		name, err := p.word()
		if err != nil {
			return nil, err
		}
		o := ast.Option{Name: name}
		switch {
		case name == "MOVE":
			if o.Value, err = p.Primary(); err != nil {
				return nil, err
			}
			if err = p.Expect("TO"); err != nil {
				return nil, err
			}
			o.To, err = p.Primary()
		case name == "ENCRYPTION" && p.IsSymbol("("):
			err = p.Hint()
		case p.AcceptSymbol("="):
			o.Value, err = p.fileValue()
			if err == nil && (name == "STOPATMARK" || name == "STOPBEFOREMARK") && p.Accept("AFTER") {
				o.To, err = p.Primary()
			}
		}
		if err != nil {
			return nil, err
		}
		out = append(out, o)
		if !p.AcceptSymbol(",") {
			return out, nil
		}
	}
}
