package cmd

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEachRuleOfTheMissionIsNamedByATest: whoever asks what shows that a rule holds finds a
// test by the rule's id: in its name, in a row of its table, or above it. Rules of what
// is not built yet are listed, so that nobody takes their silence for a proof.
func TestEachRuleOfTheMissionIsNamedByATest(t *testing.T) {
	later := []string{
		"M1", "M2", "M3", "M8", // fulls through shadow copies
		"M13", "M20", // availability groups as a whole
	}
	rules := slices.Concat(numbered("Q", 30), numbered("M", 24), numbered("X", 10), numbered("R", 12))
	named := map[string]bool{}
	word, inName := regexp.MustCompile(`\b[QMXR][0-9]+\b`), regexp.MustCompile(`func Test((?:[QMXR][0-9]+)+)`)
	id := regexp.MustCompile(`[QMXR][0-9]+`)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"../sqlguest", "../repo/recovery", "."} {
		must(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || d.Name() == "mission_test.go" && dir == "." || !strings.HasSuffix(path, "_test.go") && !strings.HasSuffix(path, ".txtar") {
				return err
			}
			text, err := os.ReadFile(path)
			found := word.FindAllString(string(text), -1)
			for _, m := range inName.FindAllStringSubmatch(string(text), -1) {
				found = append(found, id.FindAllString(m[1], -1)...)
			}
			for _, rule := range found {
				named[rule] = true
			}
			return err
		}))
	}
	for _, rule := range rules {
		if !named[rule] && !slices.Contains(later, rule) {
			t.Errorf("no test names rule %s", rule)
		}
	}
}

func numbered(letter string, most int) (ids []string) {
	for n := range most {
		ids = append(ids, fmt.Sprint(letter, n+1))
	}
	return ids
}
