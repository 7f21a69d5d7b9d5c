package check_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestOperatorsFindEveryFinding: each id that speaks against a restore stands in the
// operators' table.
func TestOperatorsFindEveryFinding(t *testing.T) {
	page, err := os.ReadFile("../../../docs/sqlserver.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "\nWhat speaks against a restore")
	table, _, _ = strings.Cut(table, "\n## ")
	n := 0
	for _, pattern := range []string{"*.go", "../*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range regexp.MustCompile(`"(P-[a-z]+)"`).FindAllStringSubmatch(string(text), -1) {
				if n++; !strings.Contains(table, id[1]+" ") && !strings.Contains(table, id[1]+",") {
					t.Errorf("%s: rule %s is not in docs/sqlserver.md", file, id[1])
				}
			}
		}
	}
	if n == 0 {
		t.Error("no rule was found at all")
	}
}
