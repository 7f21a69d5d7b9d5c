package syntax

import (
	"strings"
	"unicode"
	"unicode/utf16"

	"holdfast/sqlguest/lab/value"
)

// Kind is a kind of token.
type Kind uint8

// The kinds of tokens.
const (
	End Kind = iota
	Word
	Quoted // [x] or "x"
	Var
	String
	National // N'…'
	Number
	Hex
	Symbol
)

// Token is one word of a batch. Text is what it means: quotes are off, doubled ones
// halved. Upper is Text in upper case for words, else "".
type Token struct {
	Kind  Kind
	Text  string
	Upper string
	Line  int32
}

// lexer cuts a batch into tokens.
type lexer struct {
	src  []rune
	at   int
	line int32
}

// lex cuts the whole batch, or fails with 102 or 105 (a quote that does not end).
func lex(text string) ([]Token, error) {
	l := &lexer{src: []rune(text), line: 1}
	var out []Token
	for {
		t, err := l.next()
		if err != nil {
			return nil, err
		}
		out = append(out, t)
		if t.Kind == End {
			return out, nil
		}
	}
}

func (l *lexer) peek(ahead int) rune {
	if l.at+ahead < len(l.src) {
		return l.src[l.at+ahead]
	}
	return 0
}

// skip passes over blanks and comments; block comments nest, as in T-SQL.
func (l *lexer) skip() error {
	for l.at < len(l.src) {
		switch c := l.src[l.at]; {
		case c == '\n':
			l.line++
			l.at++
		case unicode.IsSpace(c) || c == '\ufeff':
			l.at++
		case c == '-' && l.peek(1) == '-':
			for l.at < len(l.src) && l.src[l.at] != '\n' {
				l.at++
			}
		case c == '/' && l.peek(1) == '*':
			if err := l.skipBlock(); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	return nil
}

func (l *lexer) skipBlock() error {
	depth, line := 0, l.line
	for l.at < len(l.src) {
		switch {
		case l.src[l.at] == '/' && l.peek(1) == '*':
			depth++
			l.at += 2
		case l.src[l.at] == '*' && l.peek(1) == '/':
			depth--
			l.at += 2
			if depth == 0 {
				return nil
			}
		default:
			if l.src[l.at] == '\n' {
				l.line++
			}
			l.at++
		}
	}
	return Errorf(113, line, "Missing end comment mark '*/'.")
}

func (l *lexer) next() (Token, error) {
	if err := l.skip(); err != nil {
		return Token{}, err
	}
	t := Token{Line: l.line}
	if l.at >= len(l.src) {
		return t, nil
	}
	c := l.src[l.at]
	var err error
	switch {
	case c == '\'':
		t.Kind = String
		t.Text, err = l.quoted('\'')
	case (c == 'N' || c == 'n') && l.peek(1) == '\'':
		l.at++
		t.Kind = National
		t.Text, err = l.quoted('\'')
	case c == '[':
		t.Kind = Quoted
		t.Text, err = l.quoted(']')
	case c == '"':
		t.Kind = Quoted
		t.Text, err = l.quoted('"')
	case c == '@':
		t.Kind = Var
		t.Text = l.run(wordRune)
	case c == '0' && (l.peek(1) == 'x' || l.peek(1) == 'X'):
		t.Kind = Hex
		l.at += 2
		t.Text = l.run(hexRune)
	case unicode.IsDigit(c) || c == '.' && unicode.IsDigit(l.peek(1)):
		t.Kind = Number
		t.Text = l.number()
	case wordRune(c):
		t.Kind = Word
		t.Text = l.run(wordRune)
		t.Upper = strings.ToUpper(t.Text)
	default:
		t.Kind = Symbol
		t.Text = l.symbol()
	}
	if err == nil && (t.Kind == Word || t.Kind == Quoted || t.Kind == Var) && len(utf16.Encode([]rune(t.Text))) > longestName {
		err = Errorf(103, t.Line, "The identifier that starts with '%s' is too long. Maximum length is %d.", string([]rune(t.Text)[:longestName/2]), longestName)
	}
	return t, err
}

// longestName is what an identifier has (sysname), in UTF-16 units.
const longestName = 128

func wordRune(c rune) bool {
	return unicode.IsLetter(c) || unicode.IsDigit(c) || c == '_' || c == '@' || c == '#' || c == '$'
}

func hexRune(c rune) bool { return strings.ContainsRune("0123456789abcdefABCDEF", c) }

func (l *lexer) run(accept func(rune) bool) string {
	start := l.at
	for l.at < len(l.src) && accept(l.src[l.at]) {
		l.at++
	}
	return string(l.src[start:l.at])
}

// quoted reads to the closing quote; a doubled one stands for itself.
func (l *lexer) quoted(end rune) (string, error) {
	line := l.line
	l.at++
	var b strings.Builder
	for l.at < len(l.src) {
		c := l.src[l.at]
		if c == end {
			if l.peek(1) != end {
				l.at++
				return b.String(), nil
			}
			l.at++
		}
		if c == '\n' {
			l.line++
		}
		b.WriteRune(c)
		l.at++
	}
	return "", Errorf(105, line, "Unclosed quotation mark after the character string '%s'.", b.String())
}

func (l *lexer) number() string {
	start := l.at
	for unicode.IsDigit(l.peek(0)) || l.peek(0) == '.' {
		l.at++
	}
	if c := l.peek(0); c == 'e' || c == 'E' {
		digits := 1
		if s := l.peek(1); s == '+' || s == '-' {
			digits = 2
		}
		if unicode.IsDigit(l.peek(digits)) {
			l.at += digits
			for unicode.IsDigit(l.peek(0)) {
				l.at++
			}
		}
	}
	return string(l.src[start:l.at])
}

// symbol reads an operator; those of two characters come first.
func (l *lexer) symbol() string {
	if l.at+1 < len(l.src) {
		two := string(l.src[l.at : l.at+2])
		switch two {
		case "<>", "<=", ">=", "!=", "!<", "!>", "+=", "-=", "*=", "/=", "%=", "::":
			l.at += 2
			return two
		}
	}
	l.at++
	return string(l.src[l.at-1])
}

// Errorf is an error of severity 15 with its line.
func Errorf(number int32, line int32, format string, args ...any) *value.Error {
	e := value.Severe(number, 15, format, args...)
	e.All[0].Line = line
	return e
}

// Reserved are the words that cannot be names or aliases unless quoted.
var Reserved = func() map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(`ADD ALL ALTER AND ANY AS ASC AUTHORIZATION BACKUP BEGIN BETWEEN BREAK BY CASE CHECK
		CHECKPOINT CLOSE COALESCE COLLATE COLUMN COMMIT CONSTRAINT CONTINUE CONVERT CREATE CROSS CURRENT CURRENT_TIMESTAMP
		CURSOR DATABASE DBCC DECLARE DEFAULT DELETE DENY DESC DISTINCT DROP ELSE END ESCAPE EXCEPT EXEC EXECUTE EXISTS
		FETCH FOR FOREIGN FROM FULL FUNCTION GOTO GRANT GROUP HAVING IF IN INDEX INNER INSERT INTERSECT INTO IS JOIN KEY
		KILL LEFT LIKE MERGE NOT NULL NULLIF OF OFF ON OPEN OPTION OR ORDER OUTER PERCENT PRIMARY PRINT PROC PROCEDURE
		RAISERROR READ RECONFIGURE REFERENCES RESTORE RETURN REVOKE RIGHT ROLLBACK SAVE SELECT SET SHUTDOWN SOME TABLE
		THEN TO TOP TRAN TRANSACTION TRUNCATE TRY_CONVERT UNION UNIQUE UPDATE USE USER VALUES VIEW WAITFOR WHEN WHERE WHILE WITH`) {
		m[w] = true
	}
	return m
}()
