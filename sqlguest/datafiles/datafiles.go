// Package datafiles gets the files of a database, as they were at a moment, into a
// directory of a SQL Server: for tools that read such files, and to be attached by
// hand.
//
// Backups hold pages and log, not files, and only SQL Server makes files of them. So
// the database is restored under a name of its own (Rst_NAME) with its files in a new
// directory, and then detached, which leaves the files and forgets the database. No
// database and no file that was there before is touched; whatever goes wrong, the
// database is dropped again, and its half-made files with it.
//
// The directory is DIR, the point, the request, and below it one for each directory
// that the database had files in (M18): files of one name stay apart, and two
// requests never meet.
package datafiles

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
	"holdfast/sqlguest/server"
)

// ErrDirectory: the directory is not one that SQL Server could be told, or the files'
// paths would become too long.
var ErrDirectory = errors.New("no directory for a database's files")

// ErrTaken: the server has a database of the temporary one's name, which is somebody's
// or was left by a run that was killed. Nothing was changed.
var ErrTaken = errors.New("a database of that name is on the server already")

// ErrLeft: the temporary database could not be dropped.
var ErrLeft = errors.New("the temporary database is still there")

// List is the name of the list of files, in the request's directory.
const List = "database_files.txt"

// longest is the most characters of a path (Q23).
const longest = 256

// releaseTimeout bounds the cleaning up, which does not end with the run's context.
const releaseTimeout = 2 * time.Minute

// Run is one request. Restore, Dir and Request are needed.
type Run struct {
	// Restore is the restore as for package replay: Server, Streams, Backups, Target
	// and how the data travels. Options are made here, but for Name, which says what the
	// database is called.
	Restore replay.Run
	Source  string // as people name it
	Point   string // names the directory
	// Dir is an existing directory, as the server calls it.
	Dir     string
	Request string // unique: the last part of the directory
	// Write puts a new file beside the files, at a path as the server calls it; nil if
	// nobody can.
	Write func(path string, data []byte) error
}

// File is one file that was made.
type File struct {
	Path    string `json:"path"`    // as the server calls it
	Logical string `json:"logical"` // its name in the database
	Type    string `json:"type"`    // rows, log, filestream or fulltext
	Was     string `json:"was"`     // its path when it was backed up
	Bytes   int64  `json:"bytes"`
}

// Result is what a request came to.
type Result struct {
	Source   string    `json:"source"`
	Database string    `json:"database"`
	Server   string    `json:"server"`
	Points   []string  `json:"points"`
	Moment   time.Time `json:"moment,omitzero"`
	Dir      string    `json:"directory"`
	Files    []File    `json:"files"`
	List     string    `json:"list,omitempty"` // path of the list of files, if it was written
	Attach   string    `json:"attach"`         // a statement that attaches the files
	Seconds  float64   `json:"duration_seconds"`
	Warnings []string  `json:"warnings"`
}

// Do makes the files. Errors: those of plan.Make and replay.Run.Do, of which nothing is
// left behind; ErrDirectory; ErrLeft beside the cause.
func (r *Run) Do(ctx context.Context) (*Result, error) {
	p, err := plan.Make(r.Restore.Target, r.Restore.Backups, plan.Options{Name: r.Restore.Options.Name})
	if err != nil {
		return nil, err
	}
	x := &work{run: r, name: temporary(p.Database)}
	if err := x.layout(p.Files); err != nil {
		return nil, err
	}
	if err := x.preview(ctx); err != nil {
		return nil, err
	}
	for _, dir := range x.dirs {
		if _, err := r.Restore.Server.Query(ctx, "EXEC master.dbo.xp_create_subdir @path", server.Arg{Name: "path", Value: dir}); err != nil {
			return nil, fmt.Errorf("make directory %s at the server: %w", dir, err)
		}
	}
	job := r.Restore
	job.NoTail, job.Continue = true, false
	job.Options = x.options(func(f File) string { return f.Path })
	done, err := job.Do(ctx)
	if err == nil {
		err = x.detach(ctx)
	}
	if err != nil {
		return nil, x.drop(ctx, err)
	}
	return x.result(p.Database, done), nil
}

// temporary is the database's name for the while.
func temporary(database string) string {
	const most = 120 // sysname has 128; log files' names are made of it, too
	name := []rune("Rst_" + database)
	return string(name[:min(len(name), most)])
}

// work is a request under way.
type work struct {
	run   *Run
	name  string
	root  string   // the request's directory
	dirs  []string // that files come to, as the server calls them
	files []File
}

func (x *work) options(to func(File) string) plan.Options {
	o := plan.Options{As: x.name, Moves: map[string]string{}}
	for _, f := range x.files {
		o.Moves[f.Logical] = to(f)
	}
	return o
}

// preview checks the restore before any directory is made, as if all files went
// straight into Dir.
func (x *work) preview(ctx context.Context) error {
	n := 0
	switch d, err := x.find(ctx); {
	case err != nil:
		return err
	case d != nil:
		return fmt.Errorf("restore the files of %s: %s: %w", x.run.Source, x.name, ErrTaken)
	}
	job := x.run.Restore
	job.NoTail, job.Continue = true, false
	job.Options = x.options(func(f File) string {
		n++
		return join(x.run.Dir, fmt.Sprintf("%s-%d", x.run.Request, n))
	})
	seen, err := job.Preview(ctx)
	if err != nil {
		return err
	}
	return seen.Err()
}

// detach closes the database and leaves its files.
func (x *work) detach(ctx context.Context) error {
	alone := "ALTER DATABASE " + facts.Quote(x.name) + " SET SINGLE_USER WITH ROLLBACK IMMEDIATE"
	// Statistics need not be made anew for a database that nobody queries.
	const leave = "EXEC master.dbo.sp_detach_db @dbname, 'true'"
	if _, err := x.run.Restore.Server.Query(ctx, alone); err != nil {
		return fmt.Errorf("detach %s: %w", x.name, err)
	}
	if _, err := x.run.Restore.Server.Query(ctx, leave, server.Arg{Name: "dbname", Value: x.name}); err != nil {
		return fmt.Errorf("detach %s: %w", x.name, err)
	}
	return nil
}

// drop removes what a failed request has made, and gives the cause. Only a database of
// the name whose every file lies in the request's directory is ours.
func (x *work) drop(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	var left *replay.Left
	if errors.As(cause, &left) { // what it says of going on is void once the database is dropped
		cause = left.Err
	}
	s := x.run.Restore.Server
	d, err := x.find(ctx)
	if err != nil || d == nil || !x.owns(d) {
		if err != nil {
			err = fmt.Errorf("%w: %s on the server: %w", ErrLeft, x.name, err)
		}
		return errors.Join(cause, err)
	}
	if d.State == "ONLINE" {
		_, err = s.Query(ctx, "ALTER DATABASE "+facts.Quote(x.name)+" SET SINGLE_USER WITH ROLLBACK IMMEDIATE")
	}
	if _, dropped := s.Query(ctx, "DROP DATABASE "+facts.Quote(x.name)); dropped != nil {
		return errors.Join(cause, fmt.Errorf("%w: %s on the server: %w", ErrLeft, x.name, errors.Join(err, dropped)))
	}
	return cause
}

// find is the database of the temporary name, nil if there is none.
func (x *work) find(ctx context.Context) (*facts.Database, error) {
	at, err := facts.AskInstance(ctx, x.run.Restore.Server)
	if err != nil {
		return nil, err
	}
	all, err := facts.AskDatabases(ctx, x.run.Restore.Server, at)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Name == x.name {
			return &all[i], nil
		}
	}
	return nil, nil
}

func (x *work) owns(d *facts.Database) bool {
	for _, f := range d.Files {
		if !strings.HasPrefix(chain.PathKey(f.Path), chain.PathKey(x.root)) {
			return false
		}
	}
	return len(d.Files) > 0
}

func (x *work) result(database string, done *replay.Result) *Result {
	res := &Result{
		Source: x.run.Source, Database: database, Server: done.Server, Points: done.Points, Moment: done.Moment, Dir: x.root, Files: x.files,
		Attach: x.attach(database), Seconds: done.Seconds, Warnings: done.Warnings,
	}
	path := join(x.root, List)
	if x.run.Write == nil {
		res.Warnings = append(res.Warnings, List+" was not written: this machine does not see the SQL Server's directory "+x.run.Dir)
		return res
	}
	if err := x.run.Write(path, res.text(x.run.Point)); err != nil {
		res.Warnings = append(res.Warnings, fmt.Sprintf("%s was not written: %v", List, err))
		return res
	}
	res.List = path
	return res
}
