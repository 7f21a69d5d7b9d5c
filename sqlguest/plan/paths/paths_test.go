package paths

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzFileName: every database's name makes a name that Windows and Linux take.
func FuzzFileName(f *testing.F) {
	for _, name := range []string{"sales", "", "NUL", "a/b", "com1.x", "...", "x\x00y", "\xff", strings.Repeat("long", 80)} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got := FileName(name)
		if got == "" || strings.ContainsAny(got, "<>:\"/\\|?*\x00\n") || reserved(got) || strings.HasSuffix(got, ".") || strings.HasSuffix(got, " ") {
			t.Errorf("%q makes %q", name, got)
		}
		if path := Standby(`C:\Data\`, name); utf8.RuneCountInString(path) > Longest || !strings.HasPrefix(path, `C:\Data\`) {
			t.Errorf("%q makes %q", name, path)
		}
	})
}
