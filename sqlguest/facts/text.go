package facts

import "strings"

// zoneSince is the major version that tells its time zone.
const zoneSince = 16

// The questions. Names and numbers travel as parameters; where a database must
// stand in the text itself it is quoted. Nothing is asked that SQL Server 2012
// lacks, and whatever may be absent for an offline database is a LEFT JOIN, so that
// its row says NULL instead of being missing. sys.database_recovery_status itself
// opens databases that AUTO_CLOSE has closed.
const (
	instanceText = `SET NOCOUNT ON; SELECT CONVERT(nvarchar(256),SERVERPROPERTY('ServerName')) AS name,
 CONVERT(nvarchar(128),SERVERPROPERTY('InstanceName')) AS instance,
 CONVERT(nvarchar(64),SERVERPROPERTY('ProductVersion')) AS version,
 CONVERT(nvarchar(128),SERVERPROPERTY('Edition')) AS edition,
 CONVERT(int,SERVERPROPERTY('EngineEdition')) AS engine,
 CONVERT(int,SERVERPROPERTY('IsClustered')) AS clustered,
 CONVERT(int,SERVERPROPERTY('IsHadrEnabled')) AS hadr,
 IS_SRVROLEMEMBER('sysadmin') AS sysadmin, SYSDATETIMEOFFSET() AS local_now,
 (SELECT sqlserver_start_time FROM sys.dm_os_sys_info) AS started`

	// zoneText is understood since SQL Server 2022.
	zoneText = `SET NOCOUNT ON; SELECT CURRENT_TIMEZONE_ID() AS zone`

	databasesText = `SET NOCOUNT ON; SELECT d.database_id, d.name, d.state_desc, d.user_access_desc, d.recovery_model_desc,
 d.is_read_only, d.is_in_standby, d.is_auto_close_on, d.is_encrypted, d.create_date, d.source_database_id,
 d.replica_id, d.log_reuse_wait_desc, m.mirroring_guid, m.mirroring_role_desc,
 r.database_guid, r.family_guid, r.recovery_fork_guid, r.first_recovery_fork_guid,
 CONVERT(varchar(26),r.last_log_backup_lsn) AS last_log_lsn, CONVERT(varchar(26),r.fork_point_lsn) AS fork_lsn
FROM sys.databases d
LEFT JOIN sys.database_recovery_status r ON r.database_id=d.database_id
LEFT JOIN sys.database_mirroring m ON m.database_id=d.database_id
ORDER BY d.database_id`

	filesText = `SET NOCOUNT ON; SELECT database_id, file_id, file_guid, type, name, physical_name, state_desc, size, is_read_only,
 CONVERT(varchar(26),create_lsn) AS create_lsn, CONVERT(varchar(26),drop_lsn) AS drop_lsn,
 CONVERT(varchar(26),redo_start_lsn) AS redo_lsn, redo_start_fork_guid,
 differential_base_guid, CONVERT(varchar(26),differential_base_lsn) AS base_lsn
FROM sys.master_files ORDER BY database_id, file_id`

	// rowText is completed by one of the conditions below.
	rowText = `SET NOCOUNT ON; SELECT s.backup_set_id, s.backup_set_uuid, s.type, s.name, s.description, s.database_name,
 s.is_copy_only, s.is_snapshot, s.begins_log_chain, s.has_bulk_logged_data, s.is_force_offline, s.is_damaged,
 s.has_backup_checksums, s.has_incomplete_metadata,
 CONVERT(varchar(26),s.first_lsn) AS first_lsn, CONVERT(varchar(26),s.last_lsn) AS last_lsn,
 CONVERT(varchar(26),s.checkpoint_lsn) AS checkpoint_lsn,
 CONVERT(varchar(26),s.database_backup_lsn) AS database_backup_lsn,
 CONVERT(varchar(26),s.fork_point_lsn) AS fork_point_lsn,
 s.differential_base_guid, CONVERT(varchar(26),s.differential_base_lsn) AS base_lsn,
 s.first_recovery_fork_guid, s.last_recovery_fork_guid, s.family_guid, s.database_guid,
 s.backup_start_date, s.backup_finish_date, s.time_zone, s.backup_size, s.user_name, s.machine_name, s.server_name,
 s.software_major_version, s.software_minor_version, s.software_build_version, s.recovery_model,
 x.device_type, x.physical_device_name
FROM msdb.dbo.backupset s CROSS APPLY (SELECT TOP 1 device_type, physical_device_name FROM msdb.dbo.backupmediafamily
 WHERE media_set_id=s.media_set_id ORDER BY family_sequence_number) x `

	// By family, not by name: a renamed database keeps its history.
	historyWhere = `WHERE s.family_guid=CONVERT(uniqueidentifier,@family) AND s.last_lsn>=CONVERT(numeric(25,0),@from)
ORDER BY s.backup_set_id`

	// A virtual device has the name itself, a staging file carries it in its own.
	deviceWhere = `WHERE EXISTS (SELECT 1 FROM msdb.dbo.backupmediafamily f WHERE f.media_set_id=s.media_set_id
 AND f.physical_device_name LIKE '%'+@device+'%') ORDER BY s.backup_set_id`

	// These two are completed by the conditions below.
	restoresText    = `SET NOCOUNT ON; SELECT ` + restoreColumns
	lastRestoreText = `SET NOCOUNT ON; SELECT TOP 1 ` + restoreColumns

	restoreColumns = `r.restore_history_id, s.backup_set_uuid, r.restore_date, r.destination_database_name, r.restore_type,
 r.[replace], r.recovery, r.stop_at, r.user_name
FROM msdb.dbo.restorehistory r LEFT JOIN msdb.dbo.backupset s ON s.backup_set_id=r.backup_set_id `

	restoresWhere = `WHERE r.destination_database_name=@db ORDER BY r.restore_history_id`

	// RESTORE VERIFYONLY (V) leaves a row as well and changes nothing.
	lastRestoreWhere = `WHERE (r.destination_database_name=@db OR r.destination_database_name=@was OR r.restore_history_id=@seen)
 AND (r.restore_type IS NULL OR r.restore_type<>'V') ORDER BY r.restore_history_id DESC`

	marksText = `SET NOCOUNT ON; SELECT mark_name, description, user_name, CONVERT(varchar(26),lsn) AS lsn, mark_time
FROM msdb.dbo.logmarkhistory WHERE database_name=@db AND lsn>=CONVERT(numeric(25,0),@first)
 AND lsn<CONVERT(numeric(25,0),@last) ORDER BY lsn`

	runningText = `SET NOCOUNT ON; SELECT session_id, command, DB_NAME(database_id) AS db, percent_complete
FROM sys.dm_exec_requests WHERE command LIKE 'BACKUP%' OR command LIKE 'RESTORE%'`

	volumesText = `SET NOCOUNT ON; SELECT f.type, v.volume_mount_point, v.available_bytes, v.total_bytes, v.file_system_type
FROM sys.master_files f CROSS APPLY sys.dm_os_volume_stats(f.database_id,f.file_id) v WHERE f.database_id=DB_ID(@db)`

	stagingText = `SET NOCOUNT ON; SELECT DISTINCT v.volume_mount_point, v.available_bytes, v.total_bytes, v.file_system_type,
 CAST(SERVERPROPERTY('InstanceDefaultBackupPath') AS nvarchar(4000)) AS path
FROM sys.master_files f CROSS APPLY sys.dm_os_volume_stats(f.database_id,f.file_id) v`

	groupText = `SET NOCOUNT ON; SELECT sys.fn_hadr_backup_is_preferred_replica(@db) AS preferred,
 (SELECT MAX(role_desc) FROM sys.dm_hadr_availability_replica_states WHERE is_local=1
  AND replica_id=CONVERT(uniqueidentifier,@replica)) AS role`

	encryptionText = `SET NOCOUNT ON; SELECT k.encryption_state, k.encryptor_type, k.encryptor_thumbprint, c.name
FROM sys.dm_database_encryption_keys k LEFT JOIN master.sys.certificates c ON c.thumbprint=k.encryptor_thumbprint
WHERE k.database_id=DB_ID(@db)`

	// The function came with SQL Server 2016 SP2; an older server answers 208.
	logText = `SET NOCOUNT ON; SELECT log_end_lsn, log_since_last_log_backup_mb FROM sys.dm_db_log_stats(DB_ID(@db))`

	// The two are apart, for the second column came with SQL Server 2016 SP2; an older
	// server answers 207. They are asked for staging files only: a large database counts
	// for a while.
	allocatedText = `SET NOCOUNT ON; SELECT SUM(allocated_extent_page_count) AS pages FROM %s.sys.dm_db_file_space_usage`
	modifiedText  = `SET NOCOUNT ON; SELECT SUM(modified_extent_page_count) AS pages FROM %s.sys.dm_db_file_space_usage`

	// The view came with SQL Server 2017; an older server answers 208.
	drivesText = `SET NOCOUNT ON; SELECT fixed_drive_path, free_space_in_bytes,
 CAST(SERVERPROPERTY('InstanceDefaultBackupPath') AS nvarchar(4000)) AS path FROM sys.dm_os_enumerate_fixed_drives`
)

// Quote writes an identifier as T-SQL's QUOTENAME does: in brackets, a closing
// bracket doubled. Every character of a name is safe in it.
func Quote(name string) string {
	return "[" + strings.ReplaceAll(name, "]", "]]") + "]"
}

// Literal writes a text as a Unicode literal, an apostrophe doubled.
func Literal(text string) string {
	return "N'" + strings.ReplaceAll(text, "'", "''") + "'"
}
