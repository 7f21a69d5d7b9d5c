package direct

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/server"
)

// TestSQL16AKilledLogBackupKeepsItsFile: SQL Server does not say whether it had made the
// backup before its session ended, and the log may be truncated.
func TestSQL16AKilledLogBackupKeepsItsFile(t *testing.T) {
	l, err := lab.Start(lab.Options{Logins: []lab.Login{{Name: "sa", Password: "x", Sysadmin: true}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	s, err := Open(t.Context(), Options{Address: l.Address(), User: "sa", Password: "x"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for _, c := range []struct {
		said []int32
		kept bool
	}{{[]int32{596, 0}, true}, {[]int32{1205}, true}, {[]int32{3202, 3013}, false}} {
		path := filepath.Join(t.TempDir(), "{x}.bak")
		if err := os.WriteFile(path, []byte("the only copy"), 0o600); err != nil {
			t.Fatal(err)
		}
		talk := &conversation{isBackup: true, refused: true}
		for _, n := range c.said {
			talk.messages = append(talk.messages, server.Message{Number: n, Severity: 21})
		}
		b := &staged{server: s, device: "{x}", isLog: true, ended: make(chan struct{}), cancel: func() {}, remote: []string{`C:\Backup\{x}.bak`}}
		b.streams = []*file{{of: b, path: path}}
		_, b.verdict = talk.end()
		close(b.ended)
		var kept *Kept
		err := b.Abort(t.Context())
		if errors.As(err, &kept) != c.kept || c.kept && (!kept.Unknown || len(kept.Files) != 1) {
			t.Errorf("%d: abort: %v", c.said, err)
		}
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) == c.kept {
			t.Errorf("%d: its file: %v", c.said, err)
		}
	}
}
