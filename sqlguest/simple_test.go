package sqlguest_test

import (
	"os"
	"path/filepath"
	"testing"

	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab/bridge"
)

// TestSQL16UnreadFileOfSIMPLEIsDropped by the next run, instead of being warned of for ever:
// a BACKUP into a file was cut, and the database has no log that could be in it.
func TestSQL16UnreadFileOfSIMPLEIsDropped(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.all(w.disk(decide.Auto, w.sql, "stock"))
	device := w.backups("stock")[0].Device
	left := device[:len("{00000000-0000")] + "-4000-8000-00000000ABCD}.bak"
	w.must(os.WriteFile(filepath.Join(w.dir, left), []byte("cut"), 0o600))
	w.all(w.disk(decide.Auto, w.sql, "stock"))
	if files := w.files(); len(files) != 0 {
		t.Errorf("left: %q", files)
	}
}
