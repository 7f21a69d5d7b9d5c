package settings

import (
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"strings"
)

// UsageError is a mistake on the command line, in a variable or in a profile.
type UsageError struct{ text, hint string }

// Usagef makes a UsageError; hint says what to do about it.
func Usagef(hint, format string, args ...any) error {
	return &UsageError{fmt.Sprintf(format, args...), hint}
}

func (e *UsageError) Error() string { return e.text }

// Hint is what to do about it.
func (e *UsageError) Hint() string { return e.hint }

// SplitCommand splits a command line into words: blanks separate, '…' keeps
// everything, "…" keeps all but \" and \\, and outside of quotes a backslash
// keeps a following blank, quote or backslash. Before anything else it is
// itself, so that C:\Windows\x.exe needs no care. There are no variables.
func SplitCommand(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord := false
	var quote rune
	runes := []rune(line)
	for i := 0; i < len(runes); i++ {
		r := runes[i]
		escapable := ` '"\`
		if quote == '"' {
			escapable = `"\`
		}
		switch {
		case r == '\\' && quote != '\'' && i+1 < len(runes) && strings.ContainsRune(escapable, runes[i+1]):
			i++
			word.WriteRune(runes[i])
			inWord = true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == ' ' || r == '\t':
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, errors.New("split command: a quote is not closed")
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// Quote writes a word so that it can be pasted into a shell: PowerShell on Windows, where
// a quote within quotes is doubled, and sh elsewhere. SplitCommand reads the latter back.
// A word that needs no quotes gets none.
func Quote(word string) string { return quote(word, runtime.GOOS == "windows") }

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:][A-Za-z0-9_./:-]*$`)

// powerShellQuotes are what PowerShell takes for a single quote.
var powerShellQuotes = strings.NewReplacer("'", "''", "\u2018", "\u2018\u2018", "\u2019", "\u2019\u2019", "\u201a", "\u201a\u201a", "\u201b", "\u201b\u201b")

func quote(word string, windows bool) string {
	switch {
	case plainWord.MatchString(word):
		return word
	case windows:
		return "'" + powerShellQuotes.Replace(word) + "'"
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// Nearest is the one of known that word was most likely meant to be, or "".
func Nearest(word string, known []string) string {
	best, bestDistance := "", len(word)/4+1
	for _, k := range known {
		d := distance(word, k)
		if len(word) >= 4 && strings.HasPrefix(k, word) {
			d = min(d, 1)
		}
		if d <= bestDistance && (best == "" || d < bestDistance) {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance is the Levenshtein distance of a and b in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
