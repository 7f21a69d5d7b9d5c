package catalog

import (
	"context"
	"slices"

	"holdfast/sqlguest/lab/value"
	"holdfast/sqlguest/lsn"
)

// What the server says of room: drives and logs.

// fixedDrives are the volumes that the default directories lie on.
func (i *Instance) fixedDrives() (rows [][]any) {
	o := i.Server.Options()
	var seen []string
	for _, path := range []string{o.Data, o.Log, o.Backup} {
		mount, available, _, _ := i.Volume(directory(path))
		if !slices.Contains(seen, mount) {
			seen = append(seen, mount)
			rows = append(rows, []any{mount, int64(3), "DRIVE_FIXED", available})
		}
	}
	return rows
}

// logStats is the table function sys.dm_db_log_stats(database_id). A database that is not
// open has no row.
func (i *Instance) logStats(_ context.Context, args []any) (rows [][]any, err error) {
	if !i.Sysadmin {
		return nil, value.Severe(300, 14, "VIEW SERVER STATE permission was denied on object 'server', database 'master'.")
	}
	if len(args) != 1 {
		return nil, value.Errorf(313, "An insufficient number of arguments were supplied for the procedure or function sys.dm_db_log_stats.")
	}
	const mib = 1 << 20
	for _, d := range i.infos() {
		if args[0] != int64(d.ID) || d.LogEnd.IsZero() {
			continue
		}
		var since any
		if !d.LastLogBackup.IsZero() {
			since = float64(d.LogBytes) / mib
		}
		rows = append(rows, []any{number(d.ID), d.Model.String(), nil, d.LogEnd.Hex(), float64(d.LogBytes) / mib, d.LogReuseWaitDesc,
			blockLSN(d.LastLogBackup), since, blockLSN(d.Checkpoint)})
	}
	return rows, nil
}

// blockLSN is an LSN as views about the log write it; NULL for zero.
func blockLSN(l lsn.LSN) any {
	if l.IsZero() {
		return nil
	}
	return l.Hex()
}
