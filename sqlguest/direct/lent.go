package direct

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Files that a RESTORE reads are named after the server that reads them and after the
// devices; whoever makes some holds the lock of their name on that server meanwhile. A run
// that is killed loses the lock with its session, and leaves the files: whole backups.
// The next one that uses the directory with that server deletes those whose lock is free.
const lentPrefix = "holdfast-restore-"

// lentTo is what the names of the server's files begin with.
func (s *Server) lentTo(ctx context.Context) (string, error) {
	rows, err := s.Query(ctx, "SELECT CAST(SERVERPROPERTY('ServerName') AS nvarchar(256)) AS name")
	if err != nil {
		return "", fmt.Errorf("ask for the server's name: %w", err)
	}
	name := ""
	if len(rows.Values) == 1 && len(rows.Values[0]) == 1 {
		name, _ = rows.Values[0][0].(string)
	}
	sum := sha256.Sum256([]byte(strings.ToLower(name)))
	return lentPrefix + hex.EncodeToString(sum[:6]) + "-", nil
}

// lentLock is the lock of a device's files.
func lentLock(prefix, device string) string { return "holdfast " + prefix + device }

// lentName is the rest of a file's name: the device, a number for all but the first.
var lentName = regexp.MustCompile(`^(\{?[0-9A-Fa-f-]{36}\}?)[0-9]{0,2}` + regexp.QuoteMeta(suffix) + `$`)

// sweep deletes what dead runs' restores have left in the directory for this server.
// Trouble is told and is nobody's failure.
func (s *Server) sweep(ctx context.Context, local string) {
	entries, err := os.ReadDir(local)
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return !strings.HasPrefix(e.Name(), lentPrefix) || !e.Type().IsRegular() })
	prefix := ""
	if err == nil && len(entries) > 0 {
		prefix, err = s.lentTo(ctx)
	}
	if err != nil {
		s.log.Warn("files of earlier restores not looked for", "error", err)
		return
	}
	for _, e := range entries {
		path := filepath.Join(local, e.Name())
		rest, ours := strings.CutPrefix(e.Name(), prefix)
		m := lentName.FindStringSubmatch(rest)
		if !ours || m == nil {
			continue
		}
		release, err := s.Hold(ctx, lentLock(prefix, m[1]))
		if err != nil {
			continue // its run lives, or nobody knows
		}
		if err := os.Remove(path); err != nil {
			s.log.Warn("file of an earlier restore not deleted", "error", err)
		} else {
			s.log.Info("file of an earlier restore deleted", "file", path)
		}
		_ = release() // the lock goes with its session in any case
	}
}
