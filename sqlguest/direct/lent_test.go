package direct

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/server"
)

// beheld is a stream that looks around when it is read.
type beheld struct{ look func() }

func (b *beheld) Read([]byte) (int, error) {
	if b.look != nil {
		b.look()
	}
	b.look = nil
	return 0, io.EOF
}

// TestFilesOfKilledRestoresGo: a run that was killed while SQL Server read its staging
// files leaves whole backups; the next one deletes them, and nothing that lives, is
// another server's, or is no file of ours.
func TestFilesOfKilledRestoresGo(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	must(os.Chmod(dir, 0o700)) //nolint:gosec // a directory
	l, err := lab.Start(lab.Options{Sample: true, BackupDirectory: dir, Path: func(p string) string { return p }, Logins: []lab.Login{{Name: "sa", Password: "x", Sysadmin: true}}})
	must(err)
	defer func() { _ = l.Close() }()
	s, err := Open(t.Context(), Options{Address: l.Address(), User: "sa", Password: "x"})
	must(err)
	defer func() { _ = s.Close() }()
	prefix, err := s.lentTo(t.Context())
	must(err)
	const dead, other = "{6F1C2B5E-0000-4000-8000-000000000001}", "{6F1C2B5E-0000-4000-8000-000000000002}"
	stay := []string{"holdfast-restore-000000000000-" + dead + ".bak", prefix + "mine.bak", dead + ".bak", prefix + dead + ".txt"}
	for _, name := range append([]string{prefix + dead + ".bak", prefix + dead + "2.bak"}, stay...) {
		must(os.WriteFile(filepath.Join(dir, name), []byte("a backup"), 0o600))
	}
	must(os.Mkdir(filepath.Join(dir, prefix+other+".bak"), 0o700))
	stay = append(stay, prefix+other+".bak")
	list := func() (names []string) {
		entries, err := os.ReadDir(dir)
		must(err)
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	backUp := func(device string) {
		b, err := s.Backup(t.Context(), server.Statement{Text: "BACKUP DATABASE sales TO %s WITH COPY_ONLY", Name: device, Devices: 1, Transport: server.Disk})
		must(err)
		_, err = io.Copy(io.Discard, b.Streams()[0])
		must(err)
		_, err = b.Commit(t.Context())
		must(err)
	}
	slices.Sort(stay)
	backUp("{6F1C2B5E-0000-4000-8000-000000000003}")
	if got := list(); !slices.Equal(got, stay) {
		t.Errorf("left %q, want %q", got, stay)
	}
	looked := false
	_, err = s.Restore(t.Context(), server.Statement{Text: "RESTORE DATABASE x FROM %s", Name: "{6F1C2B5E-0000-4000-8000-000000000004}", Transport: server.Disk}, []io.Reader{&beheld{func() {
		looked = true
		backUp("{6F1C2B5E-0000-4000-8000-000000000005}")
		info, err := os.Stat(filepath.Join(dir, prefix+"{6F1C2B5E-0000-4000-8000-000000000004}.bak"))
		if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("the file of a restore that runs: %v, %v", info, err)
		}
	}}})
	var said *server.Error
	if !looked || !errors.As(err, &said) {
		t.Errorf("restore of an empty stream: %v", err)
	}
	if got := list(); !slices.Equal(got, stay) {
		t.Errorf("left %q, want %q", got, stay)
	}
	// A file under the name that is there already is nobody's to overwrite.
	taken := filepath.Join(dir, prefix+"{6F1C2B5E-0000-4000-8000-000000000006}.bak")
	if runtime.GOOS == "windows" {
		return // links are for administrators there
	}
	must(os.Symlink(filepath.Join(dir, stay[0]), taken))
	_, err = s.Restore(t.Context(), server.Statement{Text: "RESTORE DATABASE x FROM %s", Name: "{6F1C2B5E-0000-4000-8000-000000000006}", Transport: server.Disk}, []io.Reader{strings.NewReader("x")})
	if data, unread := os.ReadFile(taken); !errors.Is(err, os.ErrExist) || unread != nil || string(data) != "a backup" {
		t.Errorf("restore: %v; %q, %v", err, data, unread)
	}
	s.proven.Clear()
	if _, err := s.Backup(t.Context(), server.Statement{Text: "BACKUP DATABASE sales TO %s WITH COPY_ONLY", Name: "{6F1C2B5E-0000-4000-8000-000000000006}", Devices: 1, Transport: server.Disk}); !errors.Is(err, ErrStaging) {
		t.Errorf("backup into a directory where nothing can be tried: %v", err)
	}
}
