package settings

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"pgregory.net/rapid"
)

// The order holds for every setting, not for a lucky one.
func TestOrderOfEverySetting(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		set := rapid.SampledFrom(table).Draw(rt, "setting")
		if set.commandLine || set.name == "vcenter.url" {
			return
		}
		sample := func(i int) string {
			switch {
			case set.choices != nil:
				return set.choices[i%len(set.choices)]
			case set.form == isBool:
				return []string{"true", "false"}[i%2]
			case set.form == isCount:
				return fmt.Sprint(i)
			case set.form == isToken:
				return fmt.Sprintf("http://host%d/x", i)
			}
			return fmt.Sprintf("text%d", i)
		}
		var env Environment
		want, level := "", unset
		if rapid.Bool().Draw(rt, "in profile") {
			want, level = sample(3), fromProfile
		}
		p := &profile{values: map[string]string{}}
		if level == fromProfile {
			p.values[set.name] = want
		}
		names := set.variables()
		for i := len(names) - 1; i >= 0; i-- {
			if rapid.Bool().Draw(rt, names[i]) {
				want, level = sample(10+i), fromVariable
				if i > 0 {
					level = fromOtherVariable
				}
				env = append(env, names[i]+"="+want)
			}
		}
		c := &cobra.Command{}
		c.Flags().String(set.name, "", "")
		if rapid.Bool().Draw(rt, "as flag") {
			want, level = sample(20), fromFlag
			_ = c.Flags().Set(set.name, want)
		}
		s := &Settings{values: map[string]value{}, profile: p}
		if err := s.resolve(set, c, env); err != nil {
			rt.Fatal(err)
		}
		if level == unset {
			want = defaultOf(set.name, env)
		}
		if s.Text(set.name) != want || level != unset && s.Origin(set.name).level != level {
			rt.Fatalf("%s: %q at level %d, want %q at %d", set.name, s.Text(set.name), s.Origin(set.name).level, want, level)
		}
	})
}

func TestURLsAreShownWithoutSecrets(t *testing.T) {
	for text, want := range map[string]string{
		"s3:https://key:secret@host/bucket": "s3:https://***@host/bucket",
		"u:p@vc":                            "***@vc",
		"https://vc/sdk":                    "https://vc/sdk",
		"/srv/backup@home":                  "/srv/backup@home",
		"https://u:p@ss/wo@rd@vc/sdk":       "https://***@vc/sdk",
	} {
		if got := redactURL(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func FuzzProfile(f *testing.F) {
	f.Add("yaml", []byte("profiles:\n  p:\n    repo: /profile\n"))
	f.Add("toml", []byte("[profiles.default]\nrepo='x'\n[profiles.default.vcenter]\nuser='u'\n"))
	f.Add("yaml", []byte("profiles: {default: {repo: [1, {a: b}]}}"))
	f.Fuzz(func(t *testing.T, format string, data []byte) {
		if format != "toml" {
			format = "yaml"
		}
		file := filepath.Join(t.TempDir(), "c."+format)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		all, err := readConfig(file)
		if err != nil {
			return
		}
		for name, section := range all {
			if p, err := newProfile(file, name, section); err == nil {
				for key, text := range p.values {
					if text == "" {
						t.Errorf("key %s is accepted without a value", key)
					}
				}
			}
		}
	})
}

func TestSplitCommand(t *testing.T) {
	for line, want := range map[string][]string{
		``:                          nil,
		`pass show x`:               {"pass", "show", "x"},
		`  a	b  `:                   {"a", "b"},
		`'a b' "c d" e\ f`:          {"a b", "c d", "e f"},
		`a"b"'c'`:                   {"abc"},
		`"" ''`:                     {"", ""},
		`C:\Windows\x.exe "C:\P F"`: {`C:\Windows\x.exe`, `C:\P F`},
		`"say \"x\" \\ \n" '\"'`:    {`say "x" \ \n`, `\"`},
		`a \'b\'`:                   {"a", "'b'"},
		`$HOME $(x) *;|`:            {"$HOME", "$(x)", "*;|"},
	} {
		if got, err := SplitCommand(line); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q %v", line, got, err)
		}
	}
	for _, bad := range []string{`'a`, `"a`, `a "b\"`} {
		if got, err := SplitCommand(bad); err == nil {
			t.Errorf("%s: %q", bad, got)
		}
	}
}

func TestQuotedWordsSplitBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		words := rapid.SliceOfN(rapid.StringMatching(`[a-z "\\$é]{0,6}`), 1, 4).Draw(rt, "words")
		var quoted []string
		for _, w := range words {
			quoted = append(quoted, "'"+w+"'")
		}
		got, err := SplitCommand(strings.Join(quoted, " "))
		if err != nil || !reflect.DeepEqual(got, words) {
			rt.Fatalf("%q: %q %v", words, got, err)
		}
	})
}

// TestQuotedWordsCanBePasted: what Quote writes is one word to a shell.
func TestQuotedWordsCanBePasted(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		words := rapid.SliceOfN(rapid.StringMatching(`[a-z '"\\$é-]{0,6}`), 1, 4).Draw(rt, "words")
		var quoted []string
		for _, w := range words {
			quoted = append(quoted, quote(w, false))
		}
		got, err := SplitCommand(strings.Join(quoted, " "))
		if err != nil || !reflect.DeepEqual(got, words) {
			rt.Fatalf("%q: %q %v", words, got, err)
		}
	})
	for _, c := range []struct {
		word    string
		windows bool
		want    string
	}{
		{"sql/db01/it's", false, `'sql/db01/it'\''s'`}, {"sql/db01/it's", true, `'sql/db01/it''s'`}, {"it\u2019s", true, "'it\u2019\u2019s'"},
		{`sql/db01\X/sales`, false, `'sql/db01\X/sales'`}, {"sql/db01/sales", false, "sql/db01/sales"}, {"sql/db01/sales", true, "sql/db01/sales"},
		{"", false, "''"}, {"-x", false, "'-x'"}, {"$HOME", true, "'$HOME'"},
	} {
		if got := quote(c.word, c.windows); got != c.want {
			t.Errorf("%q: %s, want %s", c.word, got, c.want)
		}
	}
}

func FuzzSplitCommand(f *testing.F) {
	f.Add(`a 'b c' "d\"e" f\ g`)
	f.Add(`C:\x\y.exe "unclosed`)
	f.Fuzz(func(t *testing.T, line string) {
		words, err := SplitCommand(line)
		if err != nil {
			return
		}
		if n := len(strings.Join(words, "")); n > len([]rune(line))*4 {
			t.Errorf("%d bytes of words from %q", n, line)
		}
	})
}
