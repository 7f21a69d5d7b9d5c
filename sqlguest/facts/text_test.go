package facts

import (
	"fmt"
	"testing"

	"holdfast/sqlguest/lab/tsql"
)

// TestQuestionsAreTransactSQL: each question is a SET and one SELECT, for a reader
// that was not written for them.
func TestQuestionsAreTransactSQL(t *testing.T) {
	for name, text := range map[string]string{
		"instance": instanceText, "zone": zoneText, "databases": databasesText, "files": filesText, "history": rowText + historyWhere, "device": rowText + deviceWhere,
		"restores": restoresText, "marks": marksText, "running": runningText, "volumes": volumesText, "staging": stagingText, "group": groupText, "encryption": encryptionText,
		"log": logText, "named": namedText, "drives": drivesText, "allocated": fmt.Sprintf(allocatedText, Quote("it's, ünï]")), "modified": fmt.Sprintf(modifiedText, Quote("it's, ünï]")),
	} {
		statements, err := tsql.Parse(text)
		if err != nil || len(statements) != 2 {
			t.Errorf("%s: %d statements, %v\n%s", name, len(statements), err, text)
		}
	}
}
