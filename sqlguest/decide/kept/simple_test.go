package kept

import (
	"strings"
	"testing"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lsn"
)

// TestSQL16UnreadFileOfSIMPLE: a database that has been SIMPLE in all our backups has no log
// whose only copy a file could be, so that what a killed BACKUP has left of it goes, and
// is not warned of in every run. Where it has had logs, or nobody knows, the file stays,
// and the reason says until when.
func TestSQL16UnreadFileOfSIMPLE(t *testing.T) {
	unread := File{Device: "{DE000000-0000-0000-0000-000000000077}"}
	writing, known := unread, unread
	writing.Running = true
	known.Row = copied(file(chain.Full, "13", 290, 310, true).Row)
	for _, c := range []struct {
		name string
		file File
		set  func(w *world)
		drop bool
	}{
		{"always SIMPLE", unread, nil, true},
		{"SQL Server may be writing it", writing, nil, false},
		{"msdb knows it", known, nil, false},
		{"a full of FULL", unread, func(w *world) { w.ours[0].Model = "FULL" }, false},
		{"FULL now", unread, func(w *world) { w.db().Model = "FULL" }, false},
		{"no backup of ours", unread, func(w *world) { w.ours = nil }, false},
	} {
		w := newWorld()
		w.without("02", "04")
		w.db().Model, w.db().LastLog = "SIMPLE", lsn.LSN{}
		for i := range w.ours {
			w.ours[i].Model = "SIMPLE"
		}
		if c.set != nil {
			c.set(w)
		}
		f := Decide([]File{c.file}, w.ours, w.db())[0]
		if f.Drop != c.drop || f.Take || !c.drop && !c.file.Running && !strings.Contains(f.Decision.Reason, "delete it once") {
			t.Errorf("%s: %+v", c.name, f)
		}
	}
}
