// Package facts asks a SQL Server what decisions are made of: the instance, its
// databases and files, where each stands in its log chain, what msdb remembers.
//
// A NULL always means something here (no log backup is possible; the database is
// not open) and becomes the zero value of its field, never a guess. Times are the
// server's local ones and carry the offset that the server had then, because msdb
// keeps local time without one. The answers are read by column names, so that a
// laboratory, a driver and an agent can all give them.
package facts

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/server"
)

// ErrNoRow: msdb knows no backup with that device.
var ErrNoRow = errors.New("msdb has no such backup")

// Instance is one SQL Server.
type Instance struct {
	Name      string    `json:"name"`     // MACHINE or MACHINE\INSTANCE
	Instance  string    `json:"instance"` // "" is the default instance
	Version   string    `json:"version"`  // 16.0.4165.4
	Edition   string    `json:"edition"`
	Engine    int       `json:"engine"` // EngineEdition: 2 to 4 are servers of one's own
	Clustered bool      `json:"clustered"`
	Hadr      bool      `json:"hadr"`
	SysAdmin  bool      `json:"sysadmin"`
	Now       time.Time `json:"now"`     // by the server's clock, with its offset
	Started   time.Time `json:"started"` // server-local
}

// Major is the version's first number (11 is 2012, 16 is 2022), 0 if there is none.
func (i *Instance) Major() int {
	first, _, _ := strings.Cut(i.Version, ".")
	n, err := strconv.Atoi(first)
	if err != nil {
		return 0
	}
	return n
}

// Run tells the runs of a SQL Server apart, for chain.Backup.Run: when its service was
// started, as its clock showed it.
func (i *Instance) Run(d *Database) string {
	if d.Replica != "" || i.Started.IsZero() {
		return ""
	}
	return i.Started.Format("2006-01-02T15:04:05.000")
}

// Database is one database as sys.databases and its neighbours describe it. LogEnd,
// Volumes, Group, Encryption and Estimate are asked for one by one and empty until then.
type Database struct {
	ID           int       `json:"id"`
	Name         string    `json:"name"`
	State        string    `json:"state"`  // ONLINE, RESTORING …
	Access       string    `json:"access"` // MULTI_USER, SINGLE_USER, RESTRICTED_USER
	Model        string    `json:"model"`  // FULL, BULK_LOGGED, SIMPLE
	ReadOnly     bool      `json:"read_only"`
	Standby      bool      `json:"standby"`
	AutoClose    bool      `json:"auto_close"`
	Encrypted    bool      `json:"encrypted"`
	Created      time.Time `json:"created"`     // server-local, with the offset of now
	SnapshotOf   int       `json:"snapshot_of"` // id of the database that it is a snapshot of, 0 for none
	Replica      string    `json:"replica"`     // GUID of the availability replica, "" for none
	LogReuseWait string    `json:"log_reuse_wait"`
	Mirroring    string    `json:"mirroring"` // GUID, "" for none
	MirrorRole   string    `json:"mirror_role"`

	GUID      string  `json:"guid"`       // database_guid: new when a restore creates the database
	Family    string  `json:"family"`     // for life; "" while the database is not open
	Fork      string  `json:"fork"`       // recovery fork of now
	FirstFork string  `json:"first_fork"` // and of the next log's beginning
	ForkPoint lsn.LSN `json:"fork_point"`
	LastLog   lsn.LSN `json:"last_log"` // where the next log backup begins; NULL: none is possible
	LogEnd    string  `json:"log_end"`  // see Log.End; "" unknown

	Base    string  `json:"base"` // set GUID of the full that a differential would refer to
	BaseLSN lsn.LSN `json:"base_lsn"`

	Files []File `json:"files"`

	Volumes    []Volume    `json:"volumes,omitempty"`
	Group      *Group      `json:"group,omitempty"`
	Encryption *Encryption `json:"encryption,omitempty"`
	// Estimate is what staging files will need; asked for where backups are staged.
	Estimate *Estimate `json:"estimate,omitempty"`
}

// System tells whether this is one of SQL Server's own databases.
func (d *Database) System() bool { return d.ID >= 1 && d.ID <= 4 }

// File is one file of a database.
type File struct {
	chain.File
	State    string  `json:"state"`
	ReadOnly bool    `json:"read_only"`
	Redo     lsn.LSN `json:"redo"`      // where the next log must be applied, of a database being restored
	RedoFork string  `json:"redo_fork"` //
	Base     string  `json:"base"`
	BaseLSN  lsn.LSN `json:"base_lsn"`
}

// Prints are the fingerprints of the database's files.
func (d *Database) Prints() []chain.File {
	files := make([]chain.File, len(d.Files))
	for i, f := range d.Files {
		files[i] = f.File
	}
	return files
}

// MultiBase tells whether the data files have different differential bases, as file
// backups leave them; a differential over them needs several fulls.
func (d *Database) MultiBase() bool {
	base, first := "", true
	for _, f := range d.Files {
		if f.Type != 0 || !f.Drop.IsZero() {
			continue
		}
		if !first && f.Base != base {
			return true
		}
		base, first = f.Base, false
	}
	return false
}

// AskZone asks for the server's time zone by its name in Windows; "" where SQL Server
// does not say it: before 2022, or where it has no such function.
func AskZone(ctx context.Context, s server.Server, at *Instance) (string, error) {
	if at.Major() < zoneSince {
		return "", nil
	}
	rows, err := s.Query(ctx, zoneText)
	if said := (*server.Error)(nil); errors.As(err, &said) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("ask for the time zone: %w", err)
	}
	t, name := newTable(rows), ""
	err = t.each(func() { name = t.text("zone") })
	return name, err
}

// AskInstance asks for the server itself.
func AskInstance(ctx context.Context, s server.Server) (*Instance, error) {
	rows, err := s.Query(ctx, instanceText)
	if err != nil {
		return nil, fmt.Errorf("ask for the instance: %w", err)
	}
	if len(rows.Values) != 1 {
		return nil, fmt.Errorf("ask for the instance: %d rows: %w", len(rows.Values), ErrColumn)
	}
	t := newTable(rows)
	i := &Instance{}
	err = t.each(func() {
		i.Name, i.Instance = t.text("name"), t.text("instance")
		i.Version, i.Edition, i.Engine = t.text("version"), t.text("edition"), int(t.number("engine"))
		i.Clustered, i.Hadr, i.SysAdmin = t.yes("clustered"), t.yes("hadr"), t.yes("sysadmin")
		i.Now = t.instant("local_now")
		i.Started = t.local("started", i.Now.Location())
	})
	if err != nil {
		return nil, fmt.Errorf("ask for the instance: %w", err)
	}
	return i, nil
}

// AskDatabases asks for all databases, tempdb and snapshots too, with their files.
func AskDatabases(ctx context.Context, s server.Server, at *Instance) ([]Database, error) {
	rows, err := s.Query(ctx, databasesText)
	if err != nil {
		return nil, fmt.Errorf("ask for the databases: %w", err)
	}
	t := newTable(rows)
	var list []Database
	if err := t.each(func() { list = append(list, t.database(at.Now.Location())) }); err != nil {
		return nil, fmt.Errorf("ask for the databases: %w", err)
	}
	rows, err = s.Query(ctx, filesText)
	if err != nil {
		return nil, fmt.Errorf("ask for the files: %w", err)
	}
	if err := addFiles(list, rows); err != nil {
		return nil, fmt.Errorf("ask for the files: %w", err)
	}
	return list, nil
}

func (t *table) database(zone *time.Location) Database {
	return Database{
		ID: int(t.number("database_id")), Name: t.text("name"), State: t.text("state_desc"),
		Access: t.text("user_access_desc"), Model: t.text("recovery_model_desc"),
		ReadOnly: t.yes("is_read_only"), Standby: t.yes("is_in_standby"), AutoClose: t.yes("is_auto_close_on"),
		Encrypted: t.yes("is_encrypted"), Created: t.local("create_date", zone),
		SnapshotOf: int(t.number("source_database_id")), Replica: t.guid("replica_id"),
		LogReuseWait: t.text("log_reuse_wait_desc"), Mirroring: t.guid("mirroring_guid"), MirrorRole: t.text("mirroring_role_desc"),
		GUID: t.guid("database_guid"), Family: t.guid("family_guid"),
		Fork: t.guid("recovery_fork_guid"), FirstFork: t.guid("first_recovery_fork_guid"),
		ForkPoint: t.lsn("fork_lsn"), LastLog: t.lsn("last_log_lsn"),
	}
}

// addFiles gives each database its files and, from the primary one, its base.
func addFiles(list []Database, rows *server.Rows) error {
	place := map[int]int{}
	for i, d := range list {
		place[d.ID] = i
	}
	t := newTable(rows)
	return t.each(func() {
		i, known := place[int(t.number("database_id"))]
		if !known {
			return // made since the first question
		}
		f := File{
			File: chain.File{
				ID: int(t.number("file_id")), GUID: t.guid("file_guid"), Type: int(t.number("type")), Name: t.text("name"),
				Path: t.text("physical_name"), Pages: t.number("size"), Create: t.lsn("create_lsn"), Drop: t.lsn("drop_lsn"),
			},
			State: t.text("state_desc"), ReadOnly: t.yes("is_read_only"),
			Redo: t.lsn("redo_lsn"), RedoFork: t.guid("redo_start_fork_guid"),
			Base: t.guid("differential_base_guid"), BaseLSN: t.lsn("base_lsn"),
		}
		d := &list[i]
		if f.ID == 1 {
			d.Base, d.BaseLSN = f.Base, f.BaseLSN
		}
		d.Files = append(d.Files, f)
	})
}
