// Package backups is BACKUP and RESTORE by SQL Server's rules: which backup may be
// taken when, what it changes, what fits on what, with SQL Server's numbers for
// everything that does not.
//
// A Server holds databases and msdb's rows. A backup leaves it as streams on 1 to 64
// devices, in two phases: when BeginBackup returns, every byte has been handed out;
// what a backup changes (the differential base, the log's truncation, msdb) happens
// in Complete and only there. A restore needs the streams alone.
//
// Where Microsoft's documentation leaves a choice, this is what was chosen:
//
//   - The first log backup of a chain begins where the data backup's log began. A
//     copy-only full begins no chain.
//   - A log backup writes nothing into the log, so that an idle log is empty: it
//     begins and ends at the same LSN, and STOPAT after its last record is not
//     reached (4322).
//   - A log that ends exactly where the database is has nothing to add and is taken
//     without a word; one that ends earlier is 4326.
//   - Every recovery begins a new fork, at the LSN where redo stopped. The next log
//     backup begins where the last whole log that was restored ended.
//   - Every record with a time counts for STOPAT, not commits alone; the order of the
//     log decides, whatever the clock did.
//
// A failure is a *server.Error with the cause first and 3013 last. Who took a backup
// is all one to the server: the "foreign" backup of a test is one by another caller.
package backups

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf16"

	"holdfast/sqlguest/lab/backups/msdb"
	"holdfast/sqlguest/lab/estate"
	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/storage/filesystem"
	"holdfast/sqlguest/lab/storage/message"
	"holdfast/sqlguest/lab/value"
)

// Options make a server. Only FS and Now are needed.
type Options struct {
	Name, Machine string // "LAB" if empty; Machine is Name's part before the backslash
	// Version is the product version; "16.0.1000.6" if empty.
	Version string
	// Collation is Latin1_General_CI_AS if empty. Of one that is sensitive to case (_CS,
	// _BIN) the databases' names are; texts in queries compare as ever.
	Collation string
	FS        filesystem.FS
	// Data, Log and Backup are the default directories; C:\Data, C:\Log, C:\Backup
	// if empty. A directory with a slash in it makes slashes the separator.
	Data, Log, Backup string
	// Now is the server's local time with its offset. It may jump.
	Now func() time.Time
	// Seed fixes every GUID.
	Seed uint64
	// Clustered: the instance is a failover cluster's.
	Clustered bool
	// Sessions says how many sessions use a database; RESTORE over it and a tail
	// backup need none (3101). nil means that there never are any.
	Sessions func(database string) int
}

// Server is an instance without sessions: databases, msdb's rows, defaults. Its
// methods may be called at once.
type Server struct {
	o Options

	drawing sync.Mutex // guards rand; never held while another lock is taken
	rand    *rand.Rand

	mu        sync.Mutex
	databases map[string]*storage.Database // by Key of the name
	restoring map[string]bool              // names over which a RESTORE runs
	msdb      msdb.Tables
	estate    estate.Estate
	noMSDB    bool
	nextID    int
}

// catalogFile is where the list of databases and msdb's rows lie.
const catalogFile = `\\catalog`

// catalog is what a server knows beside its databases' files.
type catalog struct {
	Databases []catalogEntry `json:"databases"`
	MSDB      msdb.Tables    `json:"msdb"`
	Estate    estate.Estate  `json:"estate,omitzero"`
	NextID    int            `json:"next_id"`
	Draws     uint64         `json:"draws"`
}

type catalogEntry struct {
	Name    string `json:"name"`
	Primary string `json:"primary"`
	Log     string `json:"log"`
}

// New starts a server: an empty one, or the one whose files FS holds, whose
// databases are recovered as after a crash. A database that cannot be opened at all
// is left out and named in the error, beside which the server is usable.
func New(o Options) (*Server, error) {
	o.Name = orElse(o.Name, "LAB")
	machine, _, _ := strings.Cut(o.Name, `\`)
	o.Machine = orElse(o.Machine, machine)
	o.Version = orElse(o.Version, "16.0.1000.6")
	o.Collation = orElse(o.Collation, "Latin1_General_CI_AS")
	o.Data, o.Log, o.Backup = orElse(o.Data, `C:\Data`), orElse(o.Log, `C:\Log`), orElse(o.Backup, `C:\Backup`)
	s := &Server{o: o, databases: map[string]*storage.Database{}, restoring: map[string]bool{}, nextID: 5}
	raw, err := filesystem.ReadFile(o.FS, catalogFile)
	if err != nil {
		s.rand = rand.New(rand.NewPCG(o.Seed, 0))
		return s, nil // a new server
	}
	var c catalog
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("read the server's catalog: %w", err)
	}
	s.msdb, s.estate, s.nextID = c.MSDB, c.Estate, c.NextID
	s.rand = rand.New(rand.NewPCG(o.Seed, c.Draws)) // never the GUIDs of before
	var lost []error
	for _, e := range c.Databases {
		db, err := storage.Open(s.env(), e.Primary, e.Log, nil)
		if err != nil {
			lost = append(lost, fmt.Errorf("open database %s: %w", e.Name, err))
			continue
		}
		s.databases[s.Key(e.Name)] = db
		if db.Info().Name != e.Name { // its files were set back behind a new name, which master knows
			if err := db.Rename(e.Name); err != nil {
				lost = append(lost, fmt.Errorf("open database %s: %w", e.Name, err))
			}
		}
	}
	return s, errors.Join(lost...)
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func fold(name string) string { return strings.ToLower(name) }

// Key is what is the same for names of one database, by the server's collation.
func (s *Server) Key(database string) string {
	if strings.Contains(s.o.Collation, "_CS") || strings.Contains(s.o.Collation, "_BIN") {
		return database
	}
	return fold(database)
}

// Same tells whether two names mean one database.
func (s *Server) Same(a, b string) bool { return s.Key(a) == s.Key(b) }

// env is what databases get from the server.
func (s *Server) env() storage.Env {
	return storage.Env{FS: s.o.FS, Now: s.o.Now, GUID: s.GUID, Marked: s.marked}
}

// GUID draws the next GUID.
func (s *Server) GUID() value.GUID {
	s.drawing.Lock()
	defer s.drawing.Unlock()
	var g value.GUID
	for i := range g {
		g[i] = byte(s.rand.Uint32())
	}
	g[6], g[8] = g[6]&0x0f|0x40, g[8]&0x3f|0x80
	return g
}

func (s *Server) draw() uint64 {
	s.drawing.Lock()
	defer s.drawing.Unlock()
	return s.rand.Uint64()
}

// Options gives the options with their defaults filled in.
func (s *Server) Options() Options { return s.o }

// changed writes the catalog after a change, so that a server on a disk starts again
// after whatever ended it. In memory Close and Clone are early enough.
func (s *Server) changed() error {
	if _, memory := s.o.FS.(*filesystem.Memory); memory {
		return nil
	}
	return s.save()
}

// save writes the catalog; it is called with mu held.
func (s *Server) save() error {
	c := catalog{MSDB: s.msdb, Estate: s.estate, NextID: s.nextID, Draws: s.draw()}
	for _, db := range s.databases {
		i := db.Info()
		e := catalogEntry{Name: i.Name}
		for _, f := range i.Files {
			switch f.ID {
			case 1:
				e.Primary = f.Physical
			case 2:
				e.Log = f.Physical
			}
		}
		c.Databases = append(c.Databases, e)
	}
	slices.SortFunc(c.Databases, func(a, b catalogEntry) int { return strings.Compare(a.Name, b.Name) })
	raw, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("write the server's catalog: %w", err)
	}
	return filesystem.WriteFile(s.o.FS, catalogFile, raw)
}

// Clone is what a snapshot of the whole machine holds at this moment, started as a
// server of its own: databases are recovered, msdb's rows are those of now.
// Transactions that are open are undone in it. s goes on as before.
func (s *Server) Clone() (*Server, error) {
	s.mu.Lock()
	err := s.save()
	seed := s.draw()
	var fs filesystem.FS
	if err == nil {
		fs, err = s.o.FS.Clone()
	}
	s.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("clone server: %w", err)
	}
	o := s.o
	o.FS, o.Seed = fs, seed
	return New(o)
}

// Close closes the databases without a word in their files, as a stop does; New
// over the same FS starts the server again.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := []error{s.save()}
	for _, db := range s.databases {
		errs = append(errs, db.Close())
	}
	return errors.Join(errs...)
}

// CreateOptions describe a new database. Without files it gets NAME.mdf and
// NAME_log.ldf in the default directories.
type CreateOptions struct {
	Name  string
	Data  []storage.File
	Log   storage.File
	Model storage.Model
	Owner string
}

// join makes a path of a directory and a file's name, in the directory's manner.
func join(dir, name string) string {
	separator := `\`
	if strings.Contains(dir, "/") {
		separator = "/"
	}
	return strings.TrimRight(dir, `\/`) + separator + name
}

// named is 103 if a name has more than so many UTF-16 units.
func named(most int, names ...string) error {
	for _, name := range names {
		if len(utf16.Encode([]rune(name))) > most {
			return message.Fail(103, string([]rune(name)[:most/2]), most)
		}
	}
	return nil
}

// What sysname holds, and what it holds of a database whose log file's name is made of it.
const longestName, longestBare = 128, 123

// named is 103 for a name that is too long, the database's or a file's.
func (o *CreateOptions) named() error {
	if o.Log.Physical == "" {
		return named(longestBare, o.Name)
	}
	err := named(longestName, o.Name, o.Log.Logical)
	for _, f := range o.Data {
		err = cmp.Or(err, named(longestName, f.Logical))
	}
	return err
}

// Create makes a database; 1801 if there is one of that name, 5170 if a file exists, 103
// if a name is too long.
func (s *Server) Create(o CreateOptions) (*storage.Database, error) {
	if err := o.named(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	if s.databases[s.Key(o.Name)] != nil {
		s.mu.Unlock()
		return nil, message.Fail(1801, o.Name)
	}
	id := s.nextID
	s.nextID++
	s.mu.Unlock()
	if len(o.Data) == 0 {
		o.Data = []storage.File{{Logical: o.Name, Physical: join(s.o.Data, o.Name+".mdf")}}
	}
	if o.Log.Physical == "" {
		o.Log = storage.File{Logical: o.Name + "_log", Physical: join(s.o.Log, o.Name+"_log.ldf")}
	}
	db, err := storage.Create(s.env(), storage.CreateOptions{Name: o.Name, ID: id, Data: o.Data, Log: o.Log, Model: o.Model, Owner: o.Owner})
	if err != nil {
		return nil, err
	}
	return db, s.put(o.Name, db)
}

func (s *Server) put(name string, db *storage.Database) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.databases[s.Key(name)] = db
	return s.changed()
}

// Database finds a database; 911 if there is none.
func (s *Server) Database(name string) (*storage.Database, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if db := s.databases[s.Key(name)]; db != nil {
		return db, nil
	}
	return nil, message.Fail(911, name)
}

// Databases are all databases, by their ids.
func (s *Server) Databases() []*storage.Database {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*storage.Database
	for _, db := range s.databases {
		out = append(out, db)
	}
	slices.SortFunc(out, func(a, b *storage.Database) int { return a.Info().ID - b.Info().ID })
	return out
}

// sessions is how many sessions use a database.
func (s *Server) sessions(name string) int {
	if s.o.Sessions == nil {
		return 0
	}
	return s.o.Sessions(name)
}

// take removes a database from the list for one who is alone with it: 911, 3702 (or
// the number given) if it is in use.
func (s *Server) take(name string, inUse int32) (*storage.Database, error) {
	db, err := s.Database(name)
	if err != nil {
		return nil, err
	}
	if of := s.Estate(); of.MayRestore(name) != nil {
		return nil, message.Fail(3752, name)
	}
	release, ok := db.Seize()
	if !ok || db.Busy() || s.sessions(name) > 0 {
		if ok {
			release()
		}
		return nil, message.Fail(inUse, name)
	}
	release()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.databases, s.Key(name))
	return db, s.changed()
}

// Drop deletes a database and its files: 911, 3702 while it is in use.
func (s *Server) Drop(name string) error {
	db, err := s.take(name, 3702)
	if err != nil {
		return err
	}
	return db.Remove()
}

// Detach forgets a database and leaves its files, which Attach takes.
func (s *Server) Detach(name string) (files []storage.File, err error) {
	db, err := s.take(name, 3702)
	if err != nil {
		return nil, err
	}
	if err := db.Checkpoint(); err != nil && !message.Has(err, 3906) {
		return nil, err
	}
	return db.Info().Files, db.Close()
}

// Attach takes a database's files in under a name; primary is the first data file's
// path, moved says where files are that are not where they were, by logical name.
func (s *Server) Attach(name, primary string, moved map[string]string) (*storage.Database, error) {
	if _, err := s.Database(name); err == nil {
		return nil, message.Fail(1801, name)
	}
	db, err := storage.Open(s.env(), primary, "", moved)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	id := s.nextID
	s.nextID++
	s.mu.Unlock()
	if err := errors.Join(db.SetID(id), db.Rename(name)); err != nil {
		return nil, err
	}
	return db, s.put(name, db)
}

// Rename gives a database another name: 911, 1801, 5030 never.
func (s *Server) Rename(from, to string) error {
	db, err := s.Database(from)
	if err != nil {
		return err
	}
	if _, err := s.Database(to); err == nil && !s.Same(from, to) {
		return message.Fail(1801, to)
	}
	if err := db.Rename(to); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.databases, s.Key(from))
	s.databases[s.Key(to)] = db
	s.msdb.Rename(from, to)
	return s.changed()
}

// MSDB is a copy of msdb's rows; all empty while msdb is lost.
func (s *Server) MSDB() msdb.Tables {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.msdb.Clone()
}

// LoseMSDB deletes msdb's rows. While fails is set, backups cannot write theirs
// (3009) and succeed all the same.
func (s *Server) LoseMSDB(fails bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.msdb, s.noMSDB = msdb.Tables{}, fails
}

// ForgetHistory deletes a database's rows of msdb.
func (s *Server) ForgetHistory(database string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.msdb.Forget(database)
}

// marked keeps a marked transaction in logmarkhistory.
func (s *Server) marked(db *storage.Database, m storage.Mark) {
	name := db.Info().Name
	s.mu.Lock()
	defer s.mu.Unlock()
	// On a secondary the row is written by the primary, into its own msdb.
	if in, is := s.estate.Member(name); !s.noMSDB && (!is || in.Role == estate.Primary) {
		s.msdb.Marks = append(s.msdb.Marks, msdb.LogMark{DatabaseName: name, Name: m.Name, Description: m.Description,
			UserName: m.User, LSN: m.LSN, Time: m.Time})
		_ = s.changed() // the mark itself is in the log; the next change writes its row, too
	}
}

// now is the time that msdb notes: local, to the second.
func (s *Server) now() (local time.Time, quarterHours int) {
	t := s.o.Now()
	_, offset := t.Zone()
	return storage.Local(t).Truncate(time.Second), offset / 900
}

// check is for callers that hold no lock: a cancelled context is 3204.
func check(ctx context.Context) error {
	if ctx.Err() != nil {
		return message.Fail(3204)
	}
	return nil
}
