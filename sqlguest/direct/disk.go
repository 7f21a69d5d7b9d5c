package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"holdfast/sqlguest/server"
	"holdfast/sqlguest/vdi"
)

// ErrStaging: the staging directory is not there, or cannot be reached from here.
var ErrStaging = errors.New("staging directory cannot be used")

// suffix of staging files. The rest of the name is the device's, so that msdb's
// physical_device_name tells which backup a file is.
const suffix = ".bak"

// Kept says that a log backup's files are the only copy of what SQL Server has
// truncated. Staged and Adopt are the way on.
type Kept struct {
	Device string
	Files  []string // as this process sees them
	// Lost: SQL Server has finished the backup, and this process does not see its files,
	// which are then as SQL Server calls them.
	Lost bool `json:"lost,omitempty"`
	// Unknown: nobody can tell whether SQL Server finished the backup, or still will.
	Unknown bool
	// Cut: because the agent that ran it is gone.
	Cut bool `json:"-"`
}

// Error names the files.
func (k *Kept) Error() string {
	what := "the log is truncated"
	if k.Unknown {
		what = "the log may be truncated"
	}
	if k.Lost {
		return fmt.Sprintf("%s, and its only backup is where SQL Server has written it, at %s, which is not seen from here", what, strings.Join(k.Files, ", "))
	}
	if k.Cut { // perhaps there never was a file
		return fmt.Sprintf("%s, and if so its only backup is in %s", what, strings.Join(k.Files, ", "))
	}
	return fmt.Sprintf("%s, and its only backup is kept in %s", what, strings.Join(k.Files, ", "))
}

// Hint says what to do with the files.
func (k *Kept) Hint() string {
	if k.Lost {
		return "keep these files, they hold what SQL Server no longer has; mount the directory, or name the one that SQL Server writes to (--staging SERVERPATH=LOCALPATH): the next backup of this server that sees them takes them in"
	}
	const taken = ": the next backup of this server with the same staging directory takes them in"
	if k.Cut {
		return "keep these files if they are there, they may hold what SQL Server no longer has" + taken + "; look whether the network was cut, or the agent was ended in the guest (a virus scanner, a reboot)"
	}
	return "keep these files, they hold what SQL Server no longer has" + taken
}

// staged is a BACKUP into files. Its streams wait until the statement has ended.
type staged struct {
	server  *Server
	device  string
	isLog   bool
	streams []*file
	dir     string   // as SQL Server calls it
	remote  []string // the files as SQL Server calls them

	cancel  context.CancelFunc
	ended   chan struct{} // outcome and verdict stand
	outcome *server.Outcome
	verdict error

	mu        sync.Mutex
	committed bool
}

var _ server.Backup = (*staged)(nil)

// stage begins a BACKUP TO DISK. The directory is looked at, from both sides, before SQL
// Server does anything that a log backup does.
func (s *Server) stage(ctx context.Context, st server.Statement) (*staged, error) {
	b, err := s.prepare(ctx, st)
	if err != nil {
		return nil, err
	}
	if err := s.prove(ctx, st, b.dir, filepath.Dir(b.streams[0].path)); err != nil {
		return nil, err
	}
	s.sweep(ctx, filepath.Dir(b.streams[0].path))
	ctx, b.cancel = context.WithCancel(ctx)
	go func() {
		defer close(b.ended)
		b.outcome, b.verdict = s.execute(ctx, place(st.Text, clause(b.remote)), st.Args)
	}()
	return b, nil
}

// prepare finds the files' places.
func (s *Server) prepare(ctx context.Context, st server.Statement) (*staged, error) {
	remote, local, err := s.staging(ctx, st.Staging, st.Local)
	if err != nil {
		return nil, err
	}
	b := &staged{server: s, device: st.Name, dir: remote, isLog: isLog(st.Text), ended: make(chan struct{}), cancel: func() {}}
	for _, name := range vdi.Names(st.Name, st.Devices) {
		b.remote = append(b.remote, join(remote, name+suffix))
		b.streams = append(b.streams, &file{of: b, path: filepath.Join(local, name+suffix)})
	}
	return b, nil
}

// staging is the directory as the server and as this process call it.
func (s *Server) staging(ctx context.Context, remote, local string) (string, string, error) {
	if remote == "" {
		rows, err := s.Query(ctx, "SELECT CAST(SERVERPROPERTY('InstanceDefaultBackupPath') AS nvarchar(4000)) AS path")
		if err != nil {
			return "", "", fmt.Errorf("ask for the default backup directory: %w", err)
		}
		if len(rows.Values) == 1 && len(rows.Values[0]) == 1 {
			remote, _ = rows.Values[0][0].(string)
		}
		if remote == "" {
			return "", "", fmt.Errorf("%w: this SQL Server does not tell its default backup directory, so it must be named", ErrStaging)
		}
	}
	if local == "" {
		local = remote
	}
	if info, err := os.Stat(local); err != nil || !info.IsDir() {
		return "", "", fmt.Errorf("%w: %s is no directory of this machine", ErrStaging, local)
	}
	return remote, local, nil
}

// join appends a name by the server's rules, not by this machine's.
func join(dir, name string) string {
	separator := "/"
	if strings.Contains(dir, `\`) || len(dir) > 1 && dir[1] == ':' {
		separator = `\`
	}
	return strings.TrimRight(dir, `/\`) + separator + name
}

func clause(paths []string) string {
	parts := make([]string, len(paths))
	for i, p := range paths {
		parts[i] = "DISK = N'" + strings.ReplaceAll(p, "'", "''") + "'"
	}
	return strings.Join(parts, ", ")
}

// isLog tells whether the statement truncates a log when it ends.
func isLog(text string) bool { return backsUp(text, "LOG") }

// isData tells whether it is a BACKUP that truncates nothing.
func isData(text string) bool { return backsUp(text, "DATABASE") }

func backsUp(text, what string) bool {
	words := strings.Fields(text)
	return len(words) > 1 && strings.EqualFold(words[0], "BACKUP") && strings.EqualFold(words[1], what)
}

// Streams are the files' bytes.
func (b *staged) Streams() []io.ReadCloser {
	out := make([]io.ReadCloser, len(b.streams))
	for i, f := range b.streams {
		out[i] = f
	}
	return out
}

// Commit deletes the files and returns what SQL Server said. A file that stays is
// no failure of the backup: a later run finds it by Staged.
func (b *staged) Commit(ctx context.Context) (*server.Outcome, error) {
	for _, f := range b.streams {
		if !f.wasRead() {
			return nil, errors.Join(fmt.Errorf("commit backup: %w", vdi.ErrUnread), b.Abort(ctx))
		}
	}
	b.mu.Lock()
	b.committed = true
	b.mu.Unlock()
	b.cancel()
	if err := b.remove(); err != nil {
		b.server.log.Warn("staging file not deleted", "error", err)
	}
	return b.outcome, nil
}

// Abort stops the statement and deletes its files, unless they are a log that SQL
// Server has truncated, or may have (see GaveUp): then the error is a *Kept.
func (b *staged) Abort(ctx context.Context) error {
	b.mu.Lock()
	committed := b.committed
	b.mu.Unlock()
	if committed {
		return nil
	}
	b.cancel()
	<-b.ended // the driver gives up soon after its context
	b.close()
	if !b.isLog || b.verdict != nil && GaveUp(b.verdict) {
		return b.remove()
	}
	kept := &Kept{Device: b.device}
	for _, f := range b.streams {
		if _, err := os.Lstat(f.path); !errors.Is(err, os.ErrNotExist) {
			kept.Files = append(kept.Files, f.path)
		}
	}
	switch {
	case len(kept.Files) == 0 && b.verdict != nil:
		return nil // should SQL Server still make it, Staged finds it
	case len(kept.Files) == 0:
		kept.Files, kept.Lost = b.remote, true
	}
	// That msdb has no row proves nothing: the log is truncated before it is written,
	// and SQL Server may still be at work behind a connection that was cut.
	kept.Unknown = b.verdict != nil && !b.server.finished(ctx, b.remote[0])
	return fmt.Errorf("abort backup: %w", kept)
}

// finished tells whether msdb knows that a backup into that file was completed.
func (s *Server) finished(ctx context.Context, path string) bool {
	rows, err := s.Query(ctx, "SELECT COUNT(*) AS found FROM msdb.dbo.backupmediafamily WHERE physical_device_name = @path", server.Arg{Name: "path", Value: path})
	return err == nil && len(rows.Values) == 1 && rows.Values[0][0] != int64(0)
}

func (b *staged) close() {
	for _, f := range b.streams {
		_ = f.Close()
	}
}

// remove deletes the files; those that are gone are no error.
func (b *staged) remove() error {
	b.close()
	var all error
	for _, f := range b.streams {
		if err := os.Remove(f.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			all = errors.Join(all, fmt.Errorf("delete staging file: %w", err))
		}
	}
	return all
}

// file is one stream: it opens its file at the first Read after the statement's end.
type file struct {
	of   *staged
	path string

	mu     sync.Mutex
	f      *os.File
	err    error // of the opening
	read   bool  // io.EOF was told
	closed bool
}

// Read waits for the statement's end, which comes by itself or by the backup's
// context or Abort. A statement that failed is the error.
func (f *file) Read(p []byte) (int, error) {
	<-f.of.ended
	if f.of.verdict != nil {
		return 0, f.of.verdict
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, os.ErrClosed
	}
	if f.f == nil && f.err == nil {
		f.f, f.err = os.Open(f.path)
	}
	if f.err != nil {
		return 0, fmt.Errorf("open staging file: %w", f.err)
	}
	n, err := f.f.Read(p)
	f.read = f.read || err == io.EOF
	return n, err
}

func (f *file) wasRead() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.read
}

// Close lets go of the file; it stays where it is.
func (f *file) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	if f.f == nil {
		return nil
	}
	return f.f.Close()
}
