package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"holdfast/sqlguest/server"
	"holdfast/sqlguest/vdi"
)

// stagedName is a staging file: a GUID in braces, a number for all devices but the
// first. Nothing else in the directory is ours.
var stagedName = regexp.MustCompile(`^(\{[0-9A-Fa-f-]{36}\})([0-9]{0,2})` + regexp.QuoteMeta(suffix) + `$`)

// Staged lists the devices whose files an earlier run has left in the staging
// directory, by name. The directories are as in server.Statement. A file may be of a
// BACKUP that still runs: who asks holds the database's lock, or leaves it alone.
func (s *Server) Staged(ctx context.Context, staging, local string) ([]string, error) {
	_, local, err := s.staging(ctx, staging, local)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(local)
	if err != nil {
		return nil, fmt.Errorf("list staging directory: %w", err)
	}
	var devices []string
	for _, e := range entries {
		if m := stagedName.FindStringSubmatch(e.Name()); m != nil && m[2] == "" && e.Type().IsRegular() {
			devices = append(devices, m[1])
		}
	}
	slices.Sort(devices)
	return devices, nil
}

// Adopt gives out the files that Staged found as the backup that they are: Commit
// deletes them, Abort keeps them (*Kept), unless the statement's text is a BACKUP
// DATABASE: who says so wants to be rid of them. Of the statement it reads Name,
// Devices, Staging and Local besides; the BACKUP itself is over. Whether it succeeded,
// msdb's row says, or the header of what is read.
func (s *Server) Adopt(ctx context.Context, st server.Statement) (server.Backup, error) {
	st.Transport = server.Disk
	if err := check(st); err != nil {
		return nil, fmt.Errorf("adopt backup: %w", err)
	}
	b, err := s.prepare(ctx, st)
	if err != nil {
		return nil, fmt.Errorf("adopt backup: %w", err)
	}
	for _, f := range b.streams {
		info, err := os.Lstat(f.path)
		if err != nil {
			return nil, fmt.Errorf("adopt backup: %w", err)
		}
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("adopt backup: %s is no regular file", f.path)
		}
	}
	b.isLog, b.outcome = !isData(st.Text), &server.Outcome{}
	close(b.ended)
	return b, nil
}

// StagedPath is what SQL Server calls the file of a device in the staging directory,
// "" being its default backup directory.
func StagedPath(staging, device string) string {
	if staging == "" {
		return device + suffix // SQL Server looks there for a name without a directory
	}
	return join(staging, device+suffix)
}

// unstage writes the streams into files, runs the RESTORE and deletes them.
func (s *Server) unstage(ctx context.Context, st server.Statement, streams []io.Reader) (*server.Outcome, error) {
	remote, local, err := s.staging(ctx, st.Staging, st.Local)
	if err != nil {
		return nil, err
	}
	s.sweep(ctx, local)
	prefix, err := s.lentTo(ctx)
	if err != nil {
		return nil, err
	}
	release, err := s.Hold(context.WithoutCancel(ctx), lentLock(prefix, st.Name))
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	defer func() { _ = release() }() // the lock goes with its session in any case
	var theirs, ours []string
	for _, name := range vdi.Names(st.Name, len(streams)) {
		theirs = append(theirs, join(remote, prefix+name+suffix))
		ours = append(ours, filepath.Join(local, prefix+name+suffix))
	}
	made := make([]bool, len(ours))
	outcome, err := s.feed(ctx, place(st.Text, clause(theirs)), st.Args, ours, made, streams)
	for i, path := range ours {
		if !made[i] {
			continue // it was there before
		}
		if removed := os.Remove(path); removed != nil && !errors.Is(removed, os.ErrNotExist) {
			s.log.Warn("staging file not deleted", "error", removed)
		}
	}
	if err != nil && looks(st.Text) {
		err = unseen(err, remote, local)
	}
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	return outcome, nil
}

func (s *Server) feed(ctx context.Context, text string, args []server.Arg, paths []string, made []bool, streams []io.Reader) (*server.Outcome, error) {
	// All at once, for the streams of one backup may be cut from one source.
	var writers errgroup.Group
	for i, path := range paths {
		writers.Go(func() error { return write(ctx, path, &made[i], streams[i]) })
	}
	if err := writers.Wait(); err != nil {
		return nil, err
	}
	return s.execute(ctx, text, args)
}

// write makes a file of a stream, and tells whether there is one by its doing.
func write(ctx context.Context, path string, made *bool, from io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("create staging file: %w", err)
	}
	*made = true
	_, err = io.Copy(f, reader{ctx, from})
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("write staging file %s: %w", strings.TrimSuffix(filepath.Base(path), suffix), err)
	}
	lend(path)
	return nil
}

// reader stops when ctx has ended.
type reader struct {
	ctx  context.Context
	from io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.from.Read(p)
}
