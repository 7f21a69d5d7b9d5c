// Package database joins SQL Server to the commands: it logs in, chooses how the
// streams travel, and shows what became of each database.
package database

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"

	"holdfast/backup"
	"holdfast/cmd/batch"
	"holdfast/cmd/settings"
	"holdfast/cmd/verdict"
	"holdfast/repo/backend"
	"holdfast/repo/recovery"
	"holdfast/sqlguest"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/server"
)

var (
	// ErrUnreachable: nothing answers as SQL Server at the address.
	ErrUnreachable = errors.New("SQL Server cannot be reached")
	// ErrLogin: SQL Server refused the login.
	ErrLogin = errors.New("SQL Server refused the login")
	// ErrCertificate: SQL Server's certificate proves nothing, so the one that answered
	// may be anybody, and was given no password.
	ErrCertificate = errors.New("SQL Server's certificate is not trusted")
	// ErrTransport: the streams have no way from this SQL Server to here.
	ErrTransport = errors.New("no way for the backup's data")
)

// Login says which SQL Server, and who asks.
type Login struct {
	Instance       string // [HOST\]INSTANCE or HOST:PORT; "." is the default instance of this machine
	User, Password string
	Each           bool // of several SQL Servers in a guest every one is meant
	Log            *slog.Logger
	// Patient puts an agent into a guest even where the SQL Server lets nobody in:
	// whoever asks it is told why.
	Patient bool
	// Trust takes a SQL Server on another machine by any certificate; else Roots, or this
	// machine's authorities if nil, must vouch for it. One on this machine has a
	// certificate that it made for itself, and nobody is in between.
	Trust bool
	Roots *x509.CertPool
}

// address is what the driver calls it: a word without a host is an instance of this
// machine.
func (l Login) address() string {
	if strings.ContainsAny(l.Instance, `\:.`) || strings.EqualFold(l.Instance, "localhost") {
		return l.Instance
	}
	if strings.EqualFold(l.Instance, "MSSQLSERVER") {
		return "localhost"
	}
	return `localhost\` + l.Instance
}

// options are those of the connection.
func (l Login) options() direct.Options {
	o := direct.Options{Address: l.address(), User: l.User, Password: l.Password, Roots: l.Roots, Logger: l.Log}
	o.Verify = !l.Trust && !o.IsHere()
	return o
}

// Connect logs in. Errors: ErrUnreachable, ErrLogin, ErrCertificate.
func Connect(ctx context.Context, l Login) (*direct.Server, error) { return connect(ctx, l.options()) }

func connect(ctx context.Context, o direct.Options) (*direct.Server, error) {
	s, err := direct.Open(ctx, o)
	var said *server.Error
	switch {
	case err == nil || ctx.Err() != nil:
		return s, err
	case o.Verify && strings.Contains(err.Error(), "failed to verify certificate"): // the driver keeps crypto/tls's words only
		return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	case errors.As(err, &said) && said.Has(18456):
		return nil, fmt.Errorf("%w: %w", ErrLogin, err)
	default:
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
}

// Options of a backup.
type Options struct {
	Request            decide.Request
	Databases, Exclude []string
	Transport          string // auto, vdi or disk
	Staging            string // SERVERPATH=LOCALPATH, "" for none
	Tags               []string
	Parallel           int
	Tell               func(step sqlguest.Step) // of each step; nil for nobody
}

// Check refuses what cannot be meant.
func (o Options) Check() error {
	if o.Staging == "" {
		return nil
	}
	if there, here, ok := strings.Cut(o.Staging, "="); !ok || there == "" || here == "" {
		return settings.Usagef(`as in --staging '\\nas\sql=/mnt/sql': the directory as SQL Server calls it, and as this machine does`, "--staging %q is not SERVERPATH=LOCALPATH", o.Staging)
	}
	return nil
}

// way chooses how streams travel: by virtual devices where the server is on this
// machine and has them, else by files in a directory that both sides reach.
func (o Options) way(host *server.Host, beside bool) (transport, staging, local string, err error) {
	staging, local, _ = strings.Cut(o.Staging, "=")
	switch {
	case o.Transport == server.VDI && !host.HasVDI:
		return "", "", "", fmt.Errorf("--transport vdi: %w: %s", ErrTransport, host.WhyNoVDI)
	case o.Transport != server.Disk && o.Staging == "" && host.HasVDI:
		return server.VDI, "", "", nil
	case o.Staging == "" && !beside:
		return "", "", "", fmt.Errorf("SQL Server is on another machine: %w", ErrTransport)
	}
	return server.Disk, staging, local, nil
}

// Place is a SQL Server and what it is called.
type Place struct {
	Server  server.Server
	Beside  bool   // Server speaks from the machine of the SQL Server
	Label   string // of its databases: sql/VM; "" is sql/ and the server's own name
	Several bool   // the machine has more than one
	Guest   string // the VM's name, if it is one's guest
	Address string // HOST:PORT, if it was reached so
}

// label is what the server's databases are called: a guest's default instance, and its
// only one, by the VM's name alone.
func (p Place) label(about *facts.Instance) string {
	switch {
	case p.Label == "":
		return "sql/" + about.Name
	case p.Several && about.Instance != "":
		return p.Label + `\` + about.Instance
	}
	return p.Label
}

// Backup backs up the databases of one SQL Server. What becomes of each is told to run;
// the error is that of the server as a whole.
func Backup(ctx context.Context, at Place, run *batch.Run, o Options) error {
	s := at.Server
	host, err := s.Host(ctx)
	if err != nil {
		return err
	}
	transport, staging, local, err := o.way(host, at.Beside)
	if err != nil {
		return err
	}
	about, err := facts.AskInstance(ctx, s)
	if err != nil {
		return err
	}
	o.Request.Guest, o.Request.SystemDrive = at.Label != "", host.SystemDrive
	job := &sqlguest.Run{
		Server: s, Label: at.label(about), Guest: at.Guest, Address: at.Address, Request: o.Request,
		Databases: o.Databases, Exclude: o.Exclude, Transport: transport, Staging: staging, Local: local,
		Parallel: o.Parallel, Device: newDevice, Log: run.Log, Warn: run.Progress.Warn,
		Keep: &sqlguest.Repository{Repo: run.Repository, Back: func(ctx context.Context, src backup.Source) (*recovery.Point, error) {
			return run.Point(ctx, src, backup.Options{Tags: o.Tags})
		}},
		Tell: func(step sqlguest.Step) {
			tell(run, step)
			if o.Tell != nil {
				o.Tell(step)
			}
		},
	}
	_, err = job.All(ctx)
	return err
}

// request is what is asked for at a place: guests have rules of their own.
func (o Options) request(at Place, host *server.Host) decide.Request {
	r := o.Request
	r.Guest, r.SystemDrive = at.Label != "", host.SystemDrive
	return r
}

// End is how a run ends whose servers said err: with that, if it is all there is to say,
// else with what the run itself says, and err among it.
func End(ctx context.Context, run *batch.Run, err error) error {
	run.Progress.Done()
	switch {
	case ctx.Err() != nil:
		if err != nil {
			run.Fail("backup sql", err)
		}
		return run.Cut(isLeft)
	case err == nil:
		return run.End()
	case run.Empty():
		return err
	}
	run.Fail("backup sql", err)
	return run.End()
}

// isLeft tells whether an error says what a run has left somewhere.
func isLeft(err error) bool {
	kept := (*direct.Kept)(nil)
	return errors.Is(err, backup.ErrRelease) || errors.As(err, &kept)
}

// tell notes what became of a database.
func tell(run *batch.Run, s sqlguest.Step) {
	d := s.Decision
	for _, w := range d.Warnings {
		if s.Point == nil { // those of a point are its own
			run.UI.Warn("%s: %s", s.Source, w.Text)
		}
	}
	switch {
	case s.Err != nil:
		run.Fail(s.Source, roomy(s.Err))
	case s.Point != nil:
		if d.Exit != decide.ExitDone {
			run.Less(s.Source, d.Reason)
		}
	case d.Exit == decide.ExitFailed:
		run.Fail(s.Source, fmt.Errorf("%s (rule %s)", d.Reason, d.Rule))
	default:
		run.Skip(s.Source, string(d.Rule), d.Reason, d.Exit != decide.ExitDone)
		if d.Rule == decide.RuleRestoring {
			run.Help("if it was one of holdfast's, the same restore with --continue instead of --replace ends it: holdfast restore sql " +
				settings.Quote(strings.TrimPrefix(s.Source, "sql/")) + " --continue; a database that is to stay RESTORING is left out with --exclude-db")
		}
	}
}

// roomy adds to what a kept file asks for that there must be room first.
func roomy(err error) error {
	kept := (*direct.Kept)(nil)
	if errors.As(err, &kept) && (errors.Is(err, backend.ErrNoSpace) || errors.Is(err, syscall.ENOSPC)) {
		return verdict.Advise(err, "free space in the repository's place; "+kept.Hint())
	}
	return err
}

// newDevice makes a fresh GUID in braces.
func newDevice() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("{%X-%X-%X-%X-%X}", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
