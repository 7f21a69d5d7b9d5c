package catalog

import (
	"strings"

	"holdfast/sqlguest/lab/tsql/plan"
)

// History finds a table of msdb's backup history (schema dbo); nil if there is none.
func (i *Instance) History(name string) plan.Relation {
	switch strings.ToLower(name) {
	case "backupset":
		return fixed(backupSetColumns, i.backupSets)
	case "backupmediaset":
		return fixed("media_set_id int, media_uuid uniqueidentifier, media_family_count tinyint, name nvarchar, description nvarchar, software_name nvarchar, software_vendor_id int, mirror_count tinyint, is_compressed bit, is_encrypted bit", func() (rows [][]any) {
			for _, m := range i.Server.MSDB().Media {
				rows = append(rows, []any{number(m.ID), GUID(m.UUID), number(m.FamilyCount), nil, nil, m.Software, int64(4608), int64(1), false, false})
			}
			return rows
		})
	case "backupmediafamily":
		return fixed("media_set_id int, family_sequence_number tinyint, media_family_id uniqueidentifier, media_count int, logical_device_name nvarchar, physical_device_name nvarchar, device_type tinyint, physical_block_size int, mirror tinyint", func() (rows [][]any) {
			for _, f := range i.Server.MSDB().Families {
				rows = append(rows, []any{number(f.MediaSetID), number(f.Sequence), GUID(f.UUID), int64(1), text(f.LogicalName), f.PhysicalName, number(f.DeviceType), int64(65536), int64(0)})
			}
			return rows
		})
	case "backupfile":
		return fixed("backup_set_id int, file_number int, file_type char, logical_name nvarchar, physical_name nvarchar, file_guid uniqueidentifier, file_size numeric, backup_size numeric, backed_up_page_count int, create_lsn lsn, drop_lsn lsn, differential_base_lsn lsn, differential_base_guid uniqueidentifier, is_present bit, state tinyint, state_desc nvarchar", i.backupFiles)
	case "restorehistory":
		return fixed("restore_history_id int, restore_date datetime, destination_database_name nvarchar, user_name nvarchar, backup_set_id int, restore_type char, replace bit, recovery bit, restart bit, stop_at datetime, device_count tinyint, stop_at_mark_name nvarchar, stop_before bit", func() (rows [][]any) {
			for _, r := range i.Server.MSDB().Restores {
				rows = append(rows, []any{number(r.ID), at(r.Date), r.DestinationDatabase, text(r.UserName), number(r.BackupSetID), r.Type, r.Replace, r.Recovery, false, at(r.StopAt), int64(1), text(r.StopAtMark), r.StopBefore})
			}
			return rows
		})
	case "logmarkhistory":
		return fixed("database_name nvarchar, mark_name nvarchar, description nvarchar, user_name nvarchar, lsn lsn, mark_time datetime", func() (rows [][]any) {
			for _, m := range i.Server.MSDB().Marks {
				rows = append(rows, []any{m.DatabaseName, m.Name, text(m.Description), m.UserName, LSN(m.LSN), at(m.Time)})
			}
			return rows
		})
	case "suspect_pages":
		return fixed("database_id int, file_id int, page_id bigint, event_type int, error_count int, last_update_date datetime", func() [][]any { return nil })
	}
	return nil
}

const backupSetColumns = "backup_set_id int, backup_set_uuid uniqueidentifier, media_set_id int, first_family_number tinyint, last_family_number tinyint, position int, expiration_date datetime, name nvarchar, description nvarchar, user_name nvarchar, software_major_version tinyint, software_minor_version tinyint, software_build_version smallint, time_zone smallint, first_lsn lsn, last_lsn lsn, checkpoint_lsn lsn, database_backup_lsn lsn, database_creation_date datetime, backup_start_date datetime, backup_finish_date datetime, type char, compatibility_level tinyint, database_version int, backup_size numeric, compressed_backup_size numeric, database_name nvarchar, server_name nvarchar, machine_name nvarchar, collation_name nvarchar, is_password_protected bit, recovery_model nvarchar, has_bulk_logged_data bit, is_snapshot bit, is_readonly bit, is_single_user bit, has_backup_checksums bit, is_damaged bit, begins_log_chain bit, has_incomplete_metadata bit, is_force_offline bit, is_copy_only bit, first_recovery_fork_guid uniqueidentifier, last_recovery_fork_guid uniqueidentifier, fork_point_lsn lsn, database_guid uniqueidentifier, family_guid uniqueidentifier, differential_base_lsn lsn, differential_base_guid uniqueidentifier, key_algorithm nvarchar, encryptor_thumbprint varbinary, encryptor_type nvarchar"

func (i *Instance) backupSets() (rows [][]any) {
	tables := i.Server.MSDB()
	count := map[int]int{}
	for _, m := range tables.Media {
		count[m.ID] = m.FamilyCount
	}
	for _, s := range tables.Sets {
		rows = append(rows, []any{number(s.ID), GUID(s.UUID), number(s.MediaSetID), int64(1), number(count[s.MediaSetID]), number(s.Position), nil,
			text(s.Name), text(s.Description), s.UserName, number(s.SoftwareMajor), number(s.SoftwareMinor), number(s.SoftwareBuild), number(s.TimeZone),
			LSN(s.FirstLSN), LSN(s.LastLSN), LSN(s.CheckpointLSN), LSN(s.DatabaseBackupLSN), at(s.DatabaseCreationDate), at(s.StartDate), at(s.FinishDate),
			s.Type, number(s.CompatibilityLevel), number(s.DatabaseVersion), Size(s.BackupSize), Size(s.BackupSize), s.DatabaseName, s.ServerName,
			s.MachineName, s.Collation, s.IsPasswordProtected, s.RecoveryModel, s.HasBulkLoggedData, s.IsSnapshot, s.IsReadOnly, s.IsSingleUser,
			s.HasBackupChecksums, s.IsDamaged, s.BeginsLogChain, s.HasIncompleteMetadata, s.IsForceOffline, s.IsCopyOnly,
			GUID(s.FirstRecoveryFork), GUID(s.LastRecoveryFork), LSN(s.ForkPointLSN), GUID(s.DatabaseGUID), GUID(s.FamilyGUID),
			LSN(s.DifferentialBaseLSN), GUID(s.DifferentialBaseGUID), nil, nil, nil})
	}
	return rows
}

func (i *Instance) backupFiles() (rows [][]any) {
	for _, f := range i.Server.MSDB().Files {
		rows = append(rows, []any{number(f.BackupSetID), number(f.FileNumber), f.FileType, f.LogicalName, f.PhysicalName, GUID(f.FileGUID),
			Size(f.FileSize), Size(f.BackedUpPageCount * 8192), number(f.BackedUpPageCount), LSN(f.CreateLSN), LSN(f.DropLSN),
			LSN(f.DifferentialBaseLSN), GUID(f.DifferentialBaseGUID), f.IsPresent, int64(0), "ONLINE"})
	}
	return rows
}
