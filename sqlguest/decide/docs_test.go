package decide

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestOperatorsFindEveryRule: each id that a run can show stands in the operators' table,
// and none that there is no more.
func TestOperatorsFindEveryRule(t *testing.T) {
	page, err := os.ReadFile("../../docs/sqlserver.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), "## The rules by their ids\n")
	table, _, ended := strings.Cut(table, "\nWhat speaks against a restore")
	if !found || !ended {
		t.Fatal("the table is not there")
	}
	var told []Rule
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]+) \|`).FindAllStringSubmatch(table, -1) {
		for id := range strings.SplitSeq(row[1], ", ") {
			told = append(told, Rule(id))
		}
	}
	known := append(Rules(), RuleDrive, RuleTDE, RuleBulk, RuleMarks, RulePreferred, "S-none")
	for _, id := range known {
		if !slices.Contains(told, id) {
			t.Errorf("rule %s is not in docs/sqlserver.md", id)
		}
	}
	for _, id := range told {
		if id != "id" && !slices.Contains(known, id) {
			t.Errorf("docs/sqlserver.md has a rule %q that nothing knows", id)
		}
	}
}
