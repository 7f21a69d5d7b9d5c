package guest

import "testing"

func TestArgumentsAreQuoted(t *testing.T) {
	for _, k := range []struct {
		posix bool
		args  []string
		want  string
	}{
		{false, []string{`C:\a b\c.json`, "x"}, `"C:\a b\c.json" x`},
		{false, []string{`a\`, `b c\`, `say "hi"`, ""}, `a\ "b c\\" "say \"hi\"" ""`},
		{false, []string{`back\"slash`}, `"back\\\"slash"`},
		{true, []string{"/a/b", "it's; rm -rf $HOME", ""}, `/a/b 'it'\''s; rm -rf $HOME' ''`},
	} {
		if got := line(k.args, k.posix); got != k.want {
			t.Errorf("%q became %s, want %s", k.args, got, k.want)
		}
	}
}
