package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"holdfast/sqlguest/server"
)

// marker is what a file holds by which it is told whether both sides call one directory by
// the names that were given: SQL Server answers that it is no backup, and has read it then.
const marker = "Holdfast looks whether SQL Server sees this file. It is deleted at once.\n"

// looks tells of a statement that only reads what is given to it.
func looks(text string) bool { return strings.HasPrefix(text, "RESTORE HEADERONLY") }

// prove makes sure that the two names are of one directory, before SQL Server writes a
// backup there that nobody would find: a log is truncated when its BACKUP ends. It does so
// once a directory, by the way that a restore takes. What SQL Server may not read is proof
// enough: where it may not look, it cannot write a backup either.
func (s *Server) prove(ctx context.Context, st server.Statement, remote, local string) error {
	key := remote + "\x00" + local
	if _, proven := s.proven.Load(key); proven {
		return nil
	}
	st.Text, st.Args, st.Staging, st.Local = "RESTORE HEADERONLY FROM %s", nil, remote, local
	_, err := s.unstage(ctx, st, []io.Reader{strings.NewReader(marker)})
	var said *server.Error
	if errors.As(err, &said) && (said.NoBackup() || said.Unopened() && !said.Absent()) {
		err = nil
	}
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		err = fmt.Errorf("%w: %w", ErrStaging, err)
	}
	if err != nil {
		return fmt.Errorf("look whether SQL Server sees the staging directory: %w", err)
	}
	s.proven.Store(key, true)
	return nil
}

// unseen explains why a statement that only looks could not open its files.
func unseen(err error, remote, local string) error {
	var said *server.Error
	if !errors.As(err, &said) || !said.Unopened() {
		return err
	}
	why := "SQL Server may not read there what is written to"
	if said.Absent() {
		why = "it is not the directory that SQL Server calls " + remote + ", or not mounted: SQL Server does not see what is written to"
	}
	return fmt.Errorf("%w: %s %s: %w", ErrStaging, why, local, err)
}
