package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/replay/check"
	"holdfast/sqlguest/server"
)

// The questions that only a restore has.
const (
	placesText = `SET NOCOUNT ON; SELECT CONVERT(nvarchar(4000),SERVERPROPERTY('InstanceDefaultDataPath')) AS data,
 CONVERT(nvarchar(4000),SERVERPROPERTY('InstanceDefaultLogPath')) AS logs`

	roomsText = `SET NOCOUNT ON; SELECT DISTINCT v.volume_mount_point, v.available_bytes, v.total_bytes
FROM sys.master_files f CROSS APPLY sys.dm_os_volume_stats(f.database_id,f.file_id) v`

	sessionsText = `SET NOCOUNT ON; SELECT session_id, login_name, host_name, program_name FROM sys.dm_exec_sessions
WHERE database_id=DB_ID(@db) AND is_user_process=1 ORDER BY session_id`

	// The procedure is undocumented and older than everything that replaces it; its
	// three columns have names with spaces, so that they are read by place.
	existsText = `EXEC master.dbo.xp_fileexist @path`

	// A database that a tail backup has closed stands where that ended.
	closedText = `SET NOCOUNT ON; SELECT TOP 1 x.physical_device_name, s.backup_set_uuid, s.family_guid, s.database_guid
FROM msdb.dbo.backupset s CROSS APPLY (SELECT TOP 1 physical_device_name FROM msdb.dbo.backupmediafamily
 WHERE media_set_id=s.media_set_id ORDER BY family_sequence_number) x
WHERE s.database_name=@db AND s.type='L' AND s.is_force_offline=1 AND s.last_lsn=CONVERT(numeric(25,0),@redo) ORDER BY s.backup_set_id DESC`

	lastRestoredText = `SET NOCOUNT ON; SELECT TOP 1 s.family_guid, s.backup_set_uuid, r.stop_at FROM msdb.dbo.restorehistory r JOIN msdb.dbo.backupset s ON s.backup_set_id=r.backup_set_id
WHERE r.destination_database_name=@db AND (r.restore_type IS NULL OR r.restore_type<>'V') ORDER BY r.restore_history_id DESC`

	certificatesText = `SET NOCOUNT ON; SELECT CONVERT(varchar(100),thumbprint,2) AS thumbprint FROM master.sys.certificates UNION ALL SELECT CONVERT(varchar(100),thumbprint,2) FROM master.sys.asymmetric_keys`
)

// work is one restore under way: what was seen, and what is planned.
type work struct {
	run *Run

	at        *facts.Instance
	databases []facts.Database
	data, log string // the instance's default directories
	volumes   []check.Room
	called    string          // the name that was looked for
	old       *facts.Database // the database of that name, nil if there is none
	oldID     string          // its identity, "" if it is not known
	orphan    bool            // the tail of its log would continue no backup of ours
	left      []string        // sets of ours that it left without a fork
	seen      *chain.LastRestore
	sessions  []check.Session // in old
	before    restored        // what was restored into old last
	closedBy  string          // the device of the tail that has closed old, if no point of ours holds it
	places    map[string]check.Path
	keys      map[string]bool // thumbprints of certificates in master

	madePlan
}

// look asks for all that does not depend on the plan.
func (r *Run) look(ctx context.Context) (*work, error) {
	x := &work{run: r, places: map[string]check.Path{}}
	var err error
	if x.at, err = facts.AskInstance(ctx, r.Server); err != nil {
		return nil, err
	}
	if x.databases, err = facts.AskDatabases(ctx, r.Server, x.at); err != nil {
		return nil, err
	}
	rows, err := r.Server.Query(ctx, placesText)
	if err != nil {
		return nil, fmt.Errorf("ask for the default directories: %w", err)
	}
	for _, v := range rows.Values {
		x.data, x.log = text(v, 0), text(v, 1)
	}
	rows, err = r.Server.Query(ctx, roomsText)
	if err != nil {
		return nil, fmt.Errorf("ask for the volumes: %w", err)
	}
	for _, v := range rows.Values {
		x.volumes = append(x.volumes, check.Room{Volume: text(v, 0), Free: number(v, 1), Total: number(v, 2)})
	}
	// The longest mount point of a path is its volume.
	slices.SortFunc(x.volumes, func(a, b check.Room) int { return len(b.Volume) - len(a.Volume) })
	return x, nil
}

func text(row []any, i int) string {
	if i >= len(row) {
		return ""
	}
	s, _ := row[i].(string) // anything else is NULL
	return s
}

func number(row []any, i int) int64 {
	if i >= len(row) {
		return 0
	}
	n, _ := row[i].(int64)
	return n
}

// find looks for the database that the plan is for.
func (x *work) find(ctx context.Context, name string) error {
	x.old, x.oldID, x.orphan, x.sessions, x.left, x.closedBy, x.before = nil, "", false, nil, nil, "", restored{}
	i, err := facts.Named(ctx, x.run.Server, x.databases, name)
	if err != nil || i < 0 {
		return err
	}
	x.old = &x.databases[i]
	ids, err := sqlguest.Identities(cmp.Or(x.run.Place, sqlguest.PlaceOf(x.at)), x.databases, func(id string) ([]chain.Backup, error) {
		if x.run.Keep == nil {
			return nil, nil
		}
		return x.run.Keep.Backups(ctx, id)
	})
	if err != nil {
		return err
	}
	x.oldID = ids[i]
	if x.hasTail() && x.oldID != "" && x.run.Keep != nil && !x.run.NoTail {
		if err = x.leaves(ctx); err != nil {
			return err
		}
	}
	if err := x.askClosed(ctx); err != nil {
		return err
	}
	if x.before, err = x.lastRestored(ctx); err != nil {
		return err
	}
	rows, err := x.run.Server.Query(ctx, sessionsText, server.Arg{Name: "db", Value: x.old.Name})
	if err != nil {
		return fmt.Errorf("ask who uses %s: %w", x.old.Name, err)
	}
	for _, v := range rows.Values {
		x.sessions = append(x.sessions, check.Session{ID: number(v, 0), Login: text(v, 1), Host: text(v, 2), Program: text(v, 3)})
	}
	return nil
}

// ask tells what is at a path of the server's; unknown is false where it cannot be
// told. Every path is asked for once.
func (x *work) ask(ctx context.Context, path string) (p check.Path, known bool, err error) {
	key := chain.PathKey(path)
	if p, known = x.places[key]; known {
		return p, true, nil
	}
	rows, err := x.run.Server.Query(ctx, existsText, server.Arg{Name: "path", Value: path})
	var said *server.Error
	switch {
	case errors.As(err, &said): // no such procedure, or no right to it
		return check.Path{}, false, nil
	case err != nil:
		return check.Path{}, false, fmt.Errorf("ask for %s: %w", path, err)
	case len(rows.Values) != 1 || len(rows.Values[0]) < 3:
		return check.Path{}, false, nil
	}
	yes := func(i int) bool { b, is := rows.Values[0][i].(bool); return is && b || number(rows.Values[0], i) != 0 }
	p = check.Path{Exists: yes(0), IsDirectory: yes(1), HasParent: yes(2)}
	x.places[key] = p
	return p, true, nil
}

// askKeys asks for the certificates with which databases can be decrypted.
func (x *work) askKeys(ctx context.Context) error {
	rows, err := x.run.Server.Query(ctx, certificatesText)
	if err != nil {
		return fmt.Errorf("ask for the certificates: %w", err)
	}
	x.keys = map[string]bool{}
	for _, v := range rows.Values {
		x.keys[strings.ToUpper(strings.TrimPrefix(text(v, 0), "0x"))] = true
	}
	return nil
}

// now asks where the database stands.
func (x *work) now(ctx context.Context) (*facts.Database, error) {
	all, err := facts.AskDatabases(ctx, x.run.Server, x.at)
	if err != nil {
		return nil, err
	}
	i, err := facts.Named(ctx, x.run.Server, all, x.plan.Database)
	if err != nil || i < 0 {
		return nil, err
	}
	return &all[i], nil
}

// spot is where a restoring database's next log must begin: that of its first file,
// which every database has.
func spot(d *facts.Database) (f facts.File) {
	for _, f := range d.Files {
		if f.ID == 1 {
			return f
		}
	}
	return f
}

func quote(name string) string { return facts.Quote(name) }
