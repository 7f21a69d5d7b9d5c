// Package syntax reads the inner parts of Transact-SQL: words, expressions and queries.
// Package tsql builds statements with it.
package syntax

import "strings"

// Reader walks the tokens of a batch. Its methods read what they are named after and
// stand behind it then; an error is SQL Server's word about the token that does not
// belong where it stands (102, 156).
type Reader struct {
	tokens []Token
	// At is the next token's number: a place to come back to.
	At int
	// Depth counts how deep statements and expressions nest, up to DepthLimit.
	Depth int
}

// NewReader cuts a text into tokens.
func NewReader(text string) (*Reader, error) {
	tokens, err := lex(text)
	return &Reader{tokens: tokens}, err
}

// Starters are the words that begin a statement.
var Starters = func() map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(`SELECT WITH INSERT UPDATE DELETE DECLARE SET IF WHILE BEGIN BREAK CONTINUE RETURN PRINT
		RAISERROR THROW WAITFOR EXEC EXECUTE COMMIT ROLLBACK SAVE USE CREATE DROP TRUNCATE ALTER DBCC CHECKPOINT KILL BACKUP RESTORE`) {
		m[w] = true
	}
	return m
}()

// Current is the next token.
func (p *Reader) Current() Token { return p.tokens[min(p.At, len(p.tokens)-1)] }

// Peek is the token n further on; n may be -1.
func (p *Reader) Peek(n int) Token { return p.tokens[min(p.At+n, len(p.tokens)-1)] }

// Is tells whether the next token is that unquoted word.
func (p *Reader) Is(word string) bool { return p.Current().Upper == word && word != "" }

// Accept reads that word if it comes next.
func (p *Reader) Accept(word string) bool {
	if p.Is(word) {
		p.At++
		return true
	}
	return false
}

// Expect reads that word.
func (p *Reader) Expect(word string) error {
	if !p.Accept(word) {
		return p.Unexpected()
	}
	return nil
}

// IsSymbol tells whether the next token is that symbol.
func (p *Reader) IsSymbol(s string) bool {
	t := p.Current()
	return t.Kind == Symbol && t.Text == s
}

// PeekSymbol tells whether the token n further on is that symbol.
func (p *Reader) PeekSymbol(n int, s string) bool {
	t := p.Peek(n)
	return t.Kind == Symbol && t.Text == s
}

// AcceptSymbol reads that symbol if it comes next.
func (p *Reader) AcceptSymbol(s string) bool {
	if p.IsSymbol(s) {
		p.At++
		return true
	}
	return false
}

// Symbol reads that symbol.
func (p *Reader) Symbol(s string) error {
	if !p.AcceptSymbol(s) {
		return p.Unexpected()
	}
	return nil
}

// Unexpected is SQL Server's word about a token that does not belong where it stands.
func (p *Reader) Unexpected() error {
	t := p.Current()
	if t.Kind == End && p.At > 0 {
		t = p.Peek(-1)
	}
	if Reserved[t.Upper] {
		return Errorf(156, t.Line, "Incorrect syntax near the keyword '%s'.", t.Text)
	}
	return Errorf(102, t.Line, "Incorrect syntax near '%s'.", t.Text)
}

// Name reads an identifier.
func (p *Reader) Name() (string, error) {
	t := p.Current()
	if t.Kind != Quoted && (t.Kind != Word || Reserved[t.Upper]) {
		return "", p.Unexpected()
	}
	p.At++
	return t.Text, nil
}

// Parts reads a name of several parts; an empty one (db..t) is "".
func (p *Reader) Parts() ([]string, error) {
	first, err := p.Name()
	if err != nil {
		return nil, err
	}
	out := []string{first}
	for p.AcceptSymbol(".") {
		if p.IsSymbol(".") {
			out = append(out, "")
			continue
		}
		// After a dot also a reserved word is a name to us: sys.key, d.user.
		t := p.Current()
		if t.Kind != Quoted && t.Kind != Word {
			return nil, p.Unexpected()
		}
		p.At++
		out = append(out, t.Text)
	}
	return out, nil
}
