// Package ask puts those questions to a SQL Server that only a restore has: where files
// go and how much room is there, who is in a database, what is at a path, which keys are
// there, and what msdb says of how a database came to be as it is. It changes nothing and
// decides nothing.
package ask

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay/check"
	"holdfast/sqlguest/server"
)

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

// Directories are the instance's defaults for data files and logs; "" where it does not
// tell.
func Directories(ctx context.Context, s server.Server) (data, log string, err error) {
	rows, err := s.Query(ctx, placesText)
	if err != nil {
		return "", "", fmt.Errorf("ask for the default directories: %w", err)
	}
	for _, v := range rows.Values {
		data, log = text(v, 0), text(v, 1)
	}
	return data, log, nil
}

// Rooms are the volumes that hold database files, those with the longest mount points
// first: the first that a path begins with is its volume.
func Rooms(ctx context.Context, s server.Server) (list []check.Room, err error) {
	rows, err := s.Query(ctx, roomsText)
	if err != nil {
		return nil, fmt.Errorf("ask for the volumes: %w", err)
	}
	for _, v := range rows.Values {
		list = append(list, check.Room{Volume: text(v, 0), Free: number(v, 1), Total: number(v, 2)})
	}
	slices.SortFunc(list, func(a, b check.Room) int { return len(b.Volume) - len(a.Volume) })
	return list, nil
}

// Sessions are those in a database.
func Sessions(ctx context.Context, s server.Server, database string) (list []check.Session, err error) {
	rows, err := s.Query(ctx, sessionsText, server.Arg{Name: "db", Value: database})
	if err != nil {
		return nil, fmt.Errorf("ask who uses %s: %w", database, err)
	}
	for _, v := range rows.Values {
		list = append(list, check.Session{ID: number(v, 0), Login: text(v, 1), Host: text(v, 2), Program: text(v, 3)})
	}
	return list, nil
}

// Path tells what is at a path of the server's; known is false where it cannot be told:
// there is no such procedure, or no right to it.
func Path(ctx context.Context, s server.Server, path string) (p check.Path, known bool, err error) {
	rows, err := s.Query(ctx, existsText, server.Arg{Name: "path", Value: path})
	var said *server.Error
	switch {
	case errors.As(err, &said):
		return check.Path{}, false, nil
	case err != nil:
		return check.Path{}, false, fmt.Errorf("ask for %s: %w", path, err)
	case len(rows.Values) != 1 || len(rows.Values[0]) < 3:
		return check.Path{}, false, nil
	}
	yes := func(i int) bool { b, is := rows.Values[0][i].(bool); return is && b || number(rows.Values[0], i) != 0 }
	return check.Path{Exists: yes(0), IsDirectory: yes(1), HasParent: yes(2)}, true, nil
}

// Keys are the thumbprints, in hexadecimal, of the certificates with which databases can
// be decrypted.
func Keys(ctx context.Context, s server.Server) (map[string]bool, error) {
	rows, err := s.Query(ctx, certificatesText)
	if err != nil {
		return nil, fmt.Errorf("ask for the certificates: %w", err)
	}
	keys := map[string]bool{}
	for _, v := range rows.Values {
		keys[strings.ToUpper(strings.TrimPrefix(text(v, 0), "0x"))] = true
	}
	return keys, nil
}

// Restored is what msdb says of the newest restore into a database: the family and the
// set that were restored, "" if it does not know, and the stop clause's time as the
// server's clock reads, zero if it had none.
type Restored struct {
	Family, Set string
	Stop        time.Time
}

// LastRestored asks for it; the zero value if there was none.
func LastRestored(ctx context.Context, s server.Server, database string) (Restored, error) {
	rows, err := s.Query(ctx, lastRestoredText, server.Arg{Name: "db", Value: database})
	if err != nil || len(rows.Values) == 0 {
		return Restored{}, err
	}
	v := rows.Values[0]
	stop, _, _ := plan.ParseTime(text(v, 2)) // zero if there was none
	return Restored{strings.ToUpper(text(v, 0)), strings.ToUpper(text(v, 1)), stop}, nil
}

// Closing is the tail backup that has closed a database: its device and set, and whose
// log it is. GUIDs are in upper case.
type Closing struct{ Device, Set, Family, GUID string }

// ClosedBy asks msdb for the tail backup of a database that ended at an LSN; nil if there
// was none.
func ClosedBy(ctx context.Context, s server.Server, database string, redo lsn.LSN) (*Closing, error) {
	rows, err := s.Query(ctx, closedText, server.Arg{Name: "db", Value: database}, server.Arg{Name: "redo", Value: redo.String()})
	if err != nil || len(rows.Values) == 0 {
		return nil, err
	}
	v := rows.Values[0]
	return &Closing{text(v, 0), strings.ToUpper(text(v, 1)), strings.ToUpper(text(v, 2)), strings.ToUpper(text(v, 3))}, nil
}
