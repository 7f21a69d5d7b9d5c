package sqlcmd

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"holdfast/cmd/database"
	"holdfast/cmd/ui"
	"holdfast/sqlguest/agent"
	"holdfast/sqlguest/agent/check"
	"holdfast/sqlguest/server"
)

// looked is the SQL Server in a guest whose agent has looked at its Windows.
type looked struct {
	server.Server
	lines []agent.Check
	err   error
}

func (l looked) Checks(context.Context) ([]agent.Check, error) { return l.lines, l.err }

// TestQ28BackupsWarnOfTheGuestsEvents and of nothing else that a look finds; where there
// is no guest, or nothing was noted, they are silent.
func TestQ28BackupsWarnOfTheGuestsEvents(t *testing.T) {
	noted := agent.Check{ID: check.EventsID, Name: "events 57, 137, 140", Status: check.Warning, Detail: "3 in the last 24 hours", Remedy: "look at the System log"}
	well, other := noted, noted
	well.Status, other.ID = check.OK, "Q3-writer"
	for _, c := range []struct {
		name  string
		place database.Place
		want  string
	}{
		{"noted", database.Place{Guest: "db01", Server: looked{lines: []agent.Check{other, noted}}}, "warning: db01: events 57, 137, 140: 3 in the last 24 hours; look at the System log (rule Q28)\n"},
		{"nothing noted", database.Place{Guest: "db01", Server: looked{lines: []agent.Check{well, other}}}, ""},
		{"nobody could look", database.Place{Guest: "db01", Server: looked{err: errors.New("cut")}}, ""},
		{"no guest", database.Place{Server: looked{lines: []agent.Check{noted}}}, ""},
	} {
		var said bytes.Buffer
		warnOfEvents(t.Context(), c.place, ui.New(ui.Options{Err: &said}))
		if got := said.String(); !strings.EqualFold(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
