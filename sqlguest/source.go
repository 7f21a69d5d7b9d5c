// Package sqlguest protects the databases of a SQL Server: one database is one
// source of backups, and what kind of backup it gets is decided in package decide.
//
// The streams come from SQL Server through server.Server, beside the machine or
// through an agent in a guest. SQL Server is told to go on only once the recovery
// point is durable; its own verdict comes after that and is kept as the point's
// confirmation.
package sqlguest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"

	"holdfast/backup"
	"holdfast/repo/recovery"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/server"
)

// ErrUnconfirmed: the point is in the repository, and SQL Server did not say that
// its backup succeeded. It is no link of a chain until a later run has found out.
var ErrUnconfirmed = errors.New("SQL Server did not confirm the backup")

// ErrBroken: SQL Server made the backup, and it does not continue what it was made
// to continue: something came between the decision and the backup.
var ErrBroken = errors.New("the backup does not continue the chain")

// Source is one BACKUP of one database. All fields but Staging, Local and SetHash are
// required.
type Source struct {
	Server   server.Server
	Instance facts.Instance
	Database facts.Database
	Decision decide.Decision // full, differential or log
	// LastRestore is of the look that the decision was made on, see chain.Backup.
	LastRestore *chain.LastRestore
	// Ours are the database's backups that were known then.
	Ours []chain.Backup

	Label string // sql/VM/DATABASE
	ID    string // see Identities
	// Device is a fresh GUID in braces.
	Device    string
	Transport string // server.VDI or server.Disk
	Staging   string // see server.Statement
	Local     string
	SetHash   string // see chain.SetHash
	Guest     string // see chain.Backup, and so Address
	Address   string
	// Repository is the repository's id, which the set carries (chain.Owner); "" for none.
	Repository string
	// Tail: the log is the last of the database, which is RESTORING afterwards.
	Tail bool
	// Confirm keeps what SQL Server said of the point.
	Confirm func(ctx context.Context, p *recovery.Point, facts json.RawMessage) error
}

// Kind is the point's kind.
func (s *Source) Kind() recovery.Kind {
	switch s.Decision.Do {
	case decide.DoDiff:
		return recovery.SQLDiff
	case decide.DoLog:
		return recovery.SQLLog
	default:
		return recovery.SQLFull
	}
}

// Name is what people call the source.
func (s *Source) Name() string { return s.Label }

// Identity is what stays when the database is renamed.
func (s *Source) Identity() string { return s.ID }

// statement is the BACKUP. Names are quoted, never bound: older servers take no
// variable for a database that does not exist yet, and one form is enough.
func (s *Source) statement() server.Statement {
	what, with := "DATABASE", []string{"CHECKSUM", "STATS=5", "FORMAT", "INIT", "NO_COMPRESSION", "NAME=" + facts.Literal(chain.SetName)}
	if s.Repository != "" {
		with = append(with, "DESCRIPTION="+facts.Literal(chain.Owner(s.Repository)))
	}
	if s.Decision.Do == decide.DoLog {
		what = "LOG"
	}
	if s.Decision.Do == decide.DoDiff {
		with = append(with, "DIFFERENTIAL")
	}
	if s.Decision.CopyOnly {
		with = append(with, "COPY_ONLY")
	}
	if s.Tail {
		with = append(with, "NORECOVERY")
	}
	if s.Transport == server.VDI {
		with = append(with, "BLOCKSIZE=65536", "MAXTRANSFERSIZE=1048576")
	}
	return server.Statement{
		// The name may hold a percent sign, and the text is a format.
		Text: "BACKUP " + what + " " + strings.ReplaceAll(facts.Quote(s.Database.Name), "%", "%%") + " TO %s WITH " + strings.ReplaceAll(strings.Join(with, ", "), "%", "%%"),
		Name: s.Device, Devices: 1, Transport: s.Transport, Staging: s.Staging, Local: s.Local,
	}
}

// Freeze begins the BACKUP. SQL Server waits with the data until it is read.
func (s *Source) Freeze(ctx context.Context, _ *recovery.Point) (backup.Frozen, error) {
	file := s.file(ctx)
	b, err := s.Server.Backup(ctx, s.statement())
	if file != "" && errors.Is(err, server.ErrUntold) { // it may have begun
		err = fmt.Errorf("on %s: %w: %w", s.Instance.Name, &direct.Kept{Device: s.Device, Files: []string{file}, Unknown: true, Cut: true}, err)
	}
	if err != nil {
		return nil, fmt.Errorf("back up %s: %w", s.Label, err)
	}
	return &frozen{source: s, backup: b, file: file}, nil
}

// file is where a log is staged, as SQL Server calls it; "" for what may go at any time.
// It is asked for before it is needed: who could tell may be gone then.
func (s *Source) file(ctx context.Context) string {
	if s.Transport != server.Disk || s.Decision.Do != decide.DoLog {
		return ""
	}
	in := s.Staging
	if in == "" {
		in, _ = facts.AskBackupDirectory(ctx, s.Server) // "" too is where the file is found
	}
	return direct.StagedPath(in, s.Device)
}

// frozen is a BACKUP under way.
type frozen struct {
	file   string // see Source.file
	source *Source
	backup server.Backup
	read   atomic.Int64

	instance  facts.Instance // asked again when everything was read
	settings  *chain.Settings
	zone      string // the server's, "" if it does not say
	committed bool
}

// Items are the backup's streams.
func (f *frozen) Items() []backup.Item {
	var items []backup.Item
	for i, s := range f.backup.Streams() {
		items = append(items, backup.Item{
			Name: fmt.Sprintf("stream-%d", i), Label: f.source.Label,
			Stream: &backup.Stream{Bytes: -1, About: f.source.about(), Inline: f.source.Decision.Do == decide.DoLog, Fine: true, Open: func(context.Context) (io.ReadCloser, error) {
				return &counted{ReadCloser: s, n: &f.read}, nil
			}},
		})
	}
	return items
}

// about is how many bytes SQL Server will hand out, by what it says of pages and log that
// are in use; 0 if it does not say.
func (s *Source) about() int64 {
	e := s.Database.Estimate
	switch {
	case e == nil:
		return 0
	case s.Decision.Do == decide.DoDiff:
		return e.Diff
	case s.Decision.Do == decide.DoLog:
		return e.Log
	default:
		return e.Full
	}
}

// Holds asks for the server's time once everything was read: that is the moment the
// data is of. A BACKUP stands still by itself.
func (f *frozen) Holds(ctx context.Context) error {
	if err := f.ask(ctx); err != nil {
		return fmt.Errorf("%w: %w", backup.ErrMute, err)
	}
	return nil
}

func (f *frozen) ask(ctx context.Context) error {
	now, err := facts.AskInstance(ctx, f.source.Server)
	if err != nil {
		return fmt.Errorf("ask %s for its time: %w", f.source.Instance.Name, err)
	}
	f.instance = *now
	if f.zone, err = facts.AskZone(ctx, f.source.Server, now); err != nil {
		return fmt.Errorf("ask %s for its time: %w", f.source.Instance.Name, err)
	}
	f.settings, err = facts.AskSettings(ctx, f.source.Server, f.source.Database.Name)
	if said := (*server.Error)(nil); errors.As(err, &said) {
		return nil // a restore asks its operator instead
	}
	if f.source.Tail && f.settings != nil {
		f.settings.Access = f.source.Database.Access // before everybody was thrown out
	}
	if err == nil && f.source.Tail { // who takes a tail has not looked at keys
		f.source.Database.Encryption, err = facts.AskEncryption(ctx, f.source.Server, f.source.Database.Name)
	}
	return err
}

// State says what the point must know of the backup before SQL Server has said it.
func (f *frozen) State() backup.State {
	s := f.source
	b := chain.Backup{
		Header: chain.Header{
			Kind: chain.Kind(s.Decision.Do), Database: s.Database.Name, Family: s.Database.Family, DatabaseGUID: s.Database.GUID,
			FirstFork: s.Database.Fork, Fork: s.Database.Fork, First: s.Decision.First, Base: s.Decision.Base, CopyOnly: s.Decision.CopyOnly,
			Started: s.Instance.Now, ServerVersion: s.Instance.Version, ServerName: s.Instance.Name, Model: s.Database.Model,
		},
		Device: s.Device, Transport: s.Transport, Stripes: 1, StreamBytes: []int64{f.read.Load()},
		Files: s.Database.Prints(), SetHash: s.SetHash, ReadOnly: s.Database.ReadOnly,
		Rule: string(s.Decision.Rule), Reason: s.Decision.Reason, Abandons: s.Decision.Abandons, Left: chain.LeftBy(s.Ours, s.Database.Family, chain.Kind(s.Decision.Do)),
		LastRestore: s.LastRestore, LogEnd: s.Database.LogEnd, Run: f.instance.Run(&s.Database),
	}
	b.Guest, b.Address, b.Settings, b.Zone = s.Guest, s.Address, f.settings, f.zone
	if e := s.Database.Encryption; e != nil {
		b.Protector, b.Certificate = e.Thumbprint, e.Name
	}
	attrs, err := json.Marshal(b)
	if err != nil {
		panic("backup attributes: " + err.Error()) // plain data
	}
	state := backup.State{Time: f.instance.Now, Consistency: recovery.Application, Attrs: attrs, Rule: b.Rule, Reason: b.Reason, Parent: s.Decision.Parent}
	for _, w := range s.Decision.Warnings {
		state.Warnings = append(state.Warnings, w.Text)
	}
	return state
}

// Committed gives SQL Server the word, and keeps what it says. A backup that SQL
// Server gives up after all is denied, if the database stands where it stood; if nobody
// can tell, the point stays unconfirmed, and a later run asks.
func (f *frozen) Committed(ctx context.Context, p *recovery.Point) error {
	f.committed = true
	_, err := f.backup.Commit(ctx)
	if err != nil {
		var refused *server.Error
		if errors.As(err, &refused) && direct.GaveUp(refused) && f.untouched(ctx) {
			err = errors.Join(err, f.keep(ctx, p, chain.Confirmation{State: chain.Denied, By: chain.ByVerdict, Reason: refused.Error()}))
		}
		return fmt.Errorf("%w: %w", ErrUnconfirmed, err)
	}
	row, err := facts.FindDevice(ctx, f.source.Server, &f.source.Instance, f.source.Device)
	if err != nil && !errors.Is(err, facts.ErrNoRow) {
		return fmt.Errorf("%w: %w", ErrUnconfirmed, err)
	}
	b, err := chain.Parse(p.ID, p.Attrs, nil)
	if err != nil {
		return err
	}
	confirmation, problem := decide.Check(f.source.Decision, b, row)
	if confirmation.State == chain.Unconfirmed {
		return fmt.Errorf("%w: msdb has no row of it", ErrUnconfirmed)
	}
	addMarks(ctx, f.source.Server, &f.source.Instance, &f.source.Database, &confirmation, f.source.Ours, false)
	if err := f.keep(ctx, p, confirmation); err != nil {
		return err
	}
	if problem != nil {
		return fmt.Errorf("%w: %s (%s)", ErrBroken, problem.Reason, problem.Rule)
	}
	return nil
}

// untouched tells whether SQL Server is seen to stand where it stood before the backup.
func (f *frozen) untouched(ctx context.Context) bool {
	s := f.source
	all, err := facts.AskDatabases(ctx, s.Server, &s.Instance)
	if err != nil {
		return false
	}
	i := slices.IndexFunc(all, func(d facts.Database) bool { return d.Name == s.Database.Name && d.GUID == s.Database.GUID })
	return i >= 0 && decide.Untouched(s.Decision, &s.Database, &all[i])
}

func (f *frozen) keep(ctx context.Context, p *recovery.Point, c chain.Confirmation) error {
	data, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("confirm %s: %w", p.ID, err)
	}
	return f.source.Confirm(ctx, p, data)
}

// Release makes a BACKUP fail that was not committed: SQL Server truncates nothing.
func (f *frozen) Release(ctx context.Context) error {
	if f.committed {
		return nil
	}
	err := f.backup.Abort(ctx)
	if errors.Is(err, server.ErrUntold) {
		if f.file == "" {
			return nil // it ends with who ran it, and has truncated nothing
		}
		err = fmt.Errorf("on %s: %w", f.source.Instance.Name, &direct.Kept{Device: f.source.Device, Files: []string{f.file}, Unknown: true, Cut: true})
	}
	if err != nil {
		return fmt.Errorf("abort backup of %s: %w", f.source.Label, err)
	}
	return nil
}

// counted counts what is read.
type counted struct {
	io.ReadCloser
	n      *atomic.Int64
	broken *atomic.Bool // if it is not nil, told of a failure
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	if err != nil && err != io.EOF && c.broken != nil {
		c.broken.Store(true)
	}
	return n, err
}
