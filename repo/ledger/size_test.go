package ledger

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// TestEntryThatNoRecordHoldsIsRefusedBeforeItIsWritten: what passes the check
// fits, with the names of the runs that are yet to come; and the limit is the
// one that is documented.
func TestEntryThatNoRecordHoldsIsRefusedBeforeItIsWritten(t *testing.T) {
	sid := sidOf(1, 1).String()
	points, names := make(Pile, 722_000), make([]string, 722_000)
	for i := range points {
		points[i], names[i] = sidOf(1, 1).Pack(), sid
	}
	run := IndexName(sidOf(1, 1), 0)
	e := Entry{
		Version: Version, Horizon: 1 << 31, Points: points, Superseded: []string{run},
		Condemned: []Condemned{{Since: 1 << 31, Packs: []string{packOf(sidOf(1, 1), 1)}, Covered: []string{sid}, Going: true}},
		Open:      []Open{{SID: sid, Beats: 1 << 30}},
	}
	if err := e.CheckSize(); err != nil {
		t.Fatal(err)
	}
	for range runsBytes / (len(run) + nameExtra) {
		e.Runs = append(e.Runs, run)
	}
	if data, err := json.Marshal(&e); err != nil || len(data) > recordBytes {
		t.Errorf("%d bytes passed the check, %v", len(data), err)
	}
	for name, spoil := range map[string]func(*Entry){
		"points":    func(e *Entry) { e.Points = append(points[:len(points):len(points)], points[:30_000]...) },
		"condemned": func(e *Entry) { e.Condemned = []Condemned{{Packs: []string{strings.Repeat("x", 1<<20)}}} },
		"covered":   func(e *Entry) { e.Condemned = []Condemned{{Covered: names[:30_000]}} },
	} {
		e := Entry{Points: points}
		if spoil(&e); !errors.Is(e.CheckSize(), ErrFull) {
			t.Errorf("%s: %v", name, e.CheckSize())
		}
	}
}
