package catalog

import (
	"context"
	"strings"
	"time"

	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/tsql/plan"
	"holdfast/sqlguest/lab/value"
)

// serverView are the views that say the same in every database.
func (i *Instance) serverView(name string) plan.Relation {
	switch name {
	case "databases":
		return fixed(databaseColumns, i.databases)
	case "master_files":
		return fixed(fileColumns, i.masterFiles)
	case "database_recovery_status":
		return fixed("database_id int, database_guid uniqueidentifier, family_guid uniqueidentifier, last_log_backup_lsn lsn, recovery_fork_guid uniqueidentifier, first_recovery_fork_guid uniqueidentifier, fork_point_lsn lsn", i.recoveryStatus)
	case "database_mirroring":
		return fixed("database_id int, mirroring_guid uniqueidentifier, mirroring_state tinyint, mirroring_state_desc nvarchar, mirroring_role tinyint, mirroring_role_desc nvarchar, mirroring_partner_name nvarchar", func() (rows [][]any) {
			for _, d := range i.infos() {
				rows = append(rows, []any{number(d.ID), nil, nil, nil, nil, nil, nil})
			}
			return rows
		})
	case "dm_exec_sessions", "sysprocesses":
		return fixed("session_id smallint, login_time datetime, host_name nvarchar, program_name nvarchar, login_name nvarchar, status nvarchar, database_id smallint, open_transaction_count int, is_user_process bit", i.sessions)
	case "dm_exec_requests":
		return fixed("session_id smallint, request_id int, start_time datetime, status nvarchar, command nvarchar, database_id smallint, percent_complete real, blocking_session_id smallint, wait_type nvarchar, total_elapsed_time int", i.requests)
	case "dm_os_sys_info":
		return fixed("cpu_count int, physical_memory_kb bigint, sqlserver_start_time datetime", func() [][]any {
			return [][]any{{int64(2), int64(4 << 20), storage.Local(i.Started)}}
		})
	case "dm_os_volume_stats":
		return &plan.View{Header: Columns("database_id int, file_id int, volume_mount_point nvarchar, volume_id nvarchar, logical_volume_name nvarchar, file_system_type nvarchar, total_bytes bigint, available_bytes bigint"), Values: i.volumeStats}
	case "dm_os_enumerate_fixed_drives":
		return fixed("fixed_drive_path nvarchar, drive_type int, drive_type_desc nvarchar, free_space_in_bytes bigint", i.fixedDrives)
	case "dm_db_log_stats":
		return &plan.View{Header: Columns("database_id int, recovery_model nvarchar, log_min_lsn nvarchar, log_end_lsn nvarchar, total_log_size_mb float, log_truncation_holdup_reason nvarchar, log_backup_lsn nvarchar, log_since_last_log_backup_mb float, log_checkpoint_lsn nvarchar"), Values: i.logStats}
	case "dm_os_host_info":
		return fixed("host_platform nvarchar, host_distribution nvarchar, host_release nvarchar", func() [][]any {
			return [][]any{{"Windows", "Windows Server 2022 Standard", "10.0"}}
		})
	case "server_principals", "sql_logins":
		return fixed("name sysname, principal_id int, type char, type_desc nvarchar, is_disabled bit", func() [][]any {
			return [][]any{{"sa", int64(1), "S", "SQL_LOGIN", false}}
		})
	}
	return nil
}

const databaseColumns = "name sysname, database_id int, source_database_id int, owner_sid varbinary, create_date datetime, compatibility_level tinyint, collation_name nvarchar, user_access tinyint, user_access_desc nvarchar, is_read_only bit, is_auto_close_on bit, is_auto_shrink_on bit, state tinyint, state_desc nvarchar, is_in_standby bit, is_cleanly_shutdown bit, recovery_model tinyint, recovery_model_desc nvarchar, page_verify_option tinyint, page_verify_option_desc nvarchar, is_encrypted bit, log_reuse_wait tinyint, log_reuse_wait_desc nvarchar, replica_id uniqueidentifier, group_database_id uniqueidentifier, is_distributor bit, is_published bit, is_subscribed bit, is_merge_published bit, is_broker_enabled bit, is_trustworthy_on bit, is_db_chaining_on bit, is_cdc_enabled bit, containment tinyint"

func (i *Instance) databases() (rows [][]any) {
	estate := i.Server.Estate()
	for _, d := range i.infos() {
		if !i.Sysadmin && d.ID > 4 {
			continue // a login without rights sees the system's databases alone
		}
		in, _ := estate.Member(d.Name)
		rows = append(rows, []any{d.Name, number(d.ID), nil, sid(d.Owner), at(d.Created), i.major() * 10, i.Server.Options().Collation,
			number(uint8(d.Access)), d.Access.String(), d.ReadOnly, d.AutoClose, false, number(uint8(d.State)), d.State.String(), d.Standby, false,
			number(uint8(d.Model)), d.Model.String(), int64(2), "CHECKSUM", d.Encrypted, number(d.LogReuseWait), d.LogReuseWaitDesc, GUID(in.Replica), GUID(in.Database),
			false, false, false, false, d.Broker, d.Trustworthy, d.Chaining, false, int64(0)})
	}
	return rows
}

// sid is a login's security identifier; that of sa is 1 everywhere.
func sid(login string) any {
	switch login {
	case "":
		return nil
	case "sa":
		return []byte{1}
	}
	return []byte(login)
}

// loginOf is the login with a security identifier.
func loginOf(id []byte) any {
	if len(id) == 1 && id[0] == 1 {
		return "sa"
	}
	return text(string(id))
}

const fileColumns = "database_id int, file_id int, file_guid uniqueidentifier, type tinyint, type_desc nvarchar, data_space_id int, name sysname, physical_name nvarchar, state tinyint, state_desc nvarchar, size int, max_size int, growth int, is_read_only bit, is_sparse bit, is_percent_growth bit, create_lsn lsn, drop_lsn lsn, read_only_lsn lsn, read_write_lsn lsn, differential_base_lsn lsn, differential_base_guid uniqueidentifier, differential_base_time datetime, redo_start_lsn lsn, redo_start_fork_guid uniqueidentifier, redo_target_lsn lsn, redo_target_fork_guid uniqueidentifier, backup_lsn lsn"

func (i *Instance) masterFiles() (rows [][]any) {
	for _, d := range i.infos() {
		for _, f := range d.Files {
			rows = append(rows, fileRow(d, f))
		}
	}
	return rows
}

func fileRow(d storage.Info, f storage.File) []any {
	kind, space := "ROWS", int64(1)
	if f.Type == storage.Log {
		kind, space = "LOG", 0
	}
	var redo, fork any
	if d.State == storage.Restoring || d.Standby {
		redo, fork = LSN(d.RedoStart), GUID(d.RedoFork)
	}
	state, desc := number(uint8(d.State)), d.State.String()
	if !f.DropLSN.IsZero() {
		state, desc = int64(8), "DEFUNCT"
	}
	return []any{number(d.ID), number(f.ID), GUID(f.GUID), number(uint8(f.Type)), kind, space, f.Logical, f.Physical, state, desc,
		number(f.Pages), int64(-1), int64(8192), false, false, false, LSN(f.CreateLSN), LSN(f.DropLSN), nil, nil,
		LSN(f.Base.LSN), GUID(f.Base.GUID), at(f.Base.Time), redo, fork, nil, nil, nil}
}

func (i *Instance) recoveryStatus() (rows [][]any) {
	for _, d := range i.infos() {
		if d.State != storage.Online { // offline, or it will not start
			rows = append(rows, []any{number(d.ID), nil, nil, nil, nil, nil, nil})
			continue
		}
		rows = append(rows, []any{number(d.ID), GUID(d.DatabaseGUID), GUID(d.FamilyGUID), LSN(d.LastLogBackup), GUID(d.Fork()), GUID(d.FirstFork), LSN(d.ForkPoint)})
	}
	return rows
}

func (i *Instance) databaseID(name string) any {
	if d, ok := i.find(name); ok {
		return number(d.ID)
	}
	return nil
}

func (i *Instance) sessions() (rows [][]any) {
	for _, s := range i.Sessions() {
		if !i.Sysadmin && s.ID != i.Me {
			continue
		}
		status := "sleeping"
		if s.Command != "" {
			status = "running"
		}
		rows = append(rows, []any{s.ID, at(s.LoginTime), s.Host, s.Program, s.Login, status, i.databaseID(s.Database), number(s.OpenTransactions), true})
	}
	return rows
}

func (i *Instance) requests() (rows [][]any) {
	for _, s := range i.Sessions() {
		if s.Command == "" || !i.Sysadmin && s.ID != i.Me {
			continue
		}
		elapsed := i.Now().Sub(s.RequestTime) / time.Millisecond
		rows = append(rows, []any{s.ID, int64(0), at(s.RequestTime), "running", s.Command, i.databaseID(s.Database), s.Percent, int64(0), nil, int64(max(elapsed, 0))})
	}
	return rows
}

// volumeStats is the table function sys.dm_os_volume_stats(database_id, file_id).
func (i *Instance) volumeStats(_ context.Context, args []any) (rows [][]any, err error) {
	if !i.Sysadmin {
		return nil, value.Severe(300, 14, "VIEW SERVER STATE permission was denied on object 'server', database 'master'.")
	}
	if len(args) != 2 {
		return nil, value.Errorf(313, "An insufficient number of arguments were supplied for the procedure or function sys.dm_os_volume_stats.")
	}
	for _, d := range i.infos() {
		for _, f := range d.Files {
			if args[0] != int64(d.ID) || args[1] != int64(f.ID) {
				continue
			}
			mount, available, total, system := i.Volume(f.Physical)
			rows = append(rows, []any{int64(d.ID), number(f.ID), mount, mount, nil, system, total, available})
		}
	}
	return rows, nil
}

// databaseView are the views of one database.
func (i *Instance) databaseView(name string) plan.Relation {
	switch name {
	case "database_files":
		return fixed(strings.TrimPrefix(fileColumns, "database_id int, "), func() (rows [][]any) {
			if d, ok := i.current(); ok {
				for _, f := range d.Files {
					rows = append(rows, fileRow(d, f)[1:])
				}
			}
			return rows
		})
	case "tables":
		return fixed("name sysname, object_id int, schema_id int, type char, type_desc nvarchar, create_date datetime", func() [][]any {
			return i.objects(func(t storage.Table) []any {
				return []any{t.Name, number(t.ID), int64(1), "U", "USER_TABLE", nil}
			})
		})
	case "objects":
		return fixed("name sysname, object_id int, schema_id int, parent_object_id int, type char, type_desc nvarchar", func() [][]any {
			return i.objects(func(t storage.Table) []any {
				return []any{t.Name, number(t.ID), int64(1), int64(0), "U", "USER_TABLE"}
			})
		})
	case "schemas":
		return fixed("name sysname, schema_id int, principal_id int", func() [][]any { return [][]any{{"dbo", int64(1), int64(1)}} })
	case "columns":
		return fixed("object_id int, name sysname, column_id int, system_type_name nvarchar, max_length smallint, precision tinyint, scale tinyint, is_nullable bit, is_identity bit", i.tableColumns)
	case "dm_db_file_space_usage":
		return &plan.View{Header: Columns("database_id int, file_id int, filegroup_id int, total_page_count bigint, allocated_extent_page_count bigint, unallocated_extent_page_count bigint, modified_extent_page_count bigint"), Values: func(context.Context, []any) ([][]any, error) {
			return i.spaceUsage()
		}}
	case "filegroups", "data_spaces":
		return fixed("name sysname, data_space_id int, type char, type_desc nvarchar, is_default bit, is_read_only bit", func() [][]any {
			return [][]any{{"PRIMARY", int64(1), "FG", "ROWS_FILEGROUP", true, false}}
		})
	}
	return nil
}

// tables are those of the session's database; none where it cannot be read.
func (i *Instance) tables() []storage.Table {
	db, err := i.Server.Database(i.Database)
	if err != nil {
		return nil
	}
	tables, err := db.Tables()
	if err != nil {
		return nil
	}
	return tables
}

func (i *Instance) objects(row func(t storage.Table) []any) (rows [][]any) {
	for _, t := range i.tables() {
		rows = append(rows, row(t))
	}
	return rows
}

func (i *Instance) tableColumns() (rows [][]any) {
	for _, t := range i.tables() {
		for n, c := range t.Columns {
			size := c.Type.Size
			if c.Type.IsText() && size > 0 {
				size *= 2
			}
			rows = append(rows, []any{number(t.ID), c.Name, int64(n + 1), c.Type.Name(), number(min(size, 8000)), number(c.Type.Precision), number(c.Type.Scale), c.Nullable, c.Identity})
		}
	}
	return rows
}

// spaceUsage is what a differential and a full would hold.
func (i *Instance) spaceUsage() (rows [][]any, err error) {
	db, err := i.Server.Database(i.Database)
	if err != nil {
		return nil, err
	}
	usage, err := db.Usage()
	if err != nil {
		return nil, err
	}
	id := number(db.Info().ID)
	for _, u := range usage {
		rows = append(rows, []any{id, number(u.File), int64(1), u.Total, u.Allocated, u.Total - u.Allocated, u.Modified})
	}
	return rows, nil
}
