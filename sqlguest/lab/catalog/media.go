package catalog

import (
	"fmt"

	"holdfast/sqlguest/lab/backups/stream"
	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/value"
)

const headerColumns = "BackupName nvarchar, BackupDescription nvarchar, BackupType smallint, ExpirationDate datetime, Compressed bit, Position smallint, DeviceType tinyint, UserName nvarchar, ServerName nvarchar, DatabaseName nvarchar, DatabaseVersion int, DatabaseCreationDate datetime, BackupSize numeric, FirstLSN lsn, LastLSN lsn, CheckpointLSN lsn, DatabaseBackupLSN lsn, BackupStartDate datetime, BackupFinishDate datetime, CompatibilityLevel tinyint, SoftwareVersionMajor int, SoftwareVersionMinor int, SoftwareVersionBuild int, MachineName nvarchar, BindingID uniqueidentifier, RecoveryForkID uniqueidentifier, Collation nvarchar, FamilyGUID uniqueidentifier, HasBulkLoggedData bit, IsSnapshot bit, IsReadOnly bit, IsSingleUser bit, HasBackupChecksums bit, IsDamaged bit, BeginsLogChain bit, HasIncompleteMetaData bit, IsForceOffline bit, IsCopyOnly bit, FirstRecoveryForkID uniqueidentifier, ForkPointLSN lsn, RecoveryModel nvarchar, DifferentialBaseLSN lsn, DifferentialBaseGUID uniqueidentifier, BackupTypeDescription nvarchar, BackupSetGUID uniqueidentifier, CompressedBackupSize bigint, Containment tinyint"

// HeaderColumns are those of RESTORE HEADERONLY.
func HeaderColumns() []value.Column { return Columns(headerColumns) }

// HeaderRow is one set as RESTORE HEADERONLY shows it.
func HeaderRow(h *stream.Header) []any {
	var major, minor, build int
	_, _ = fmt.Sscanf(h.SoftwareVersion, "%d.%d.%d", &major, &minor, &build)
	kind := map[uint8]string{stream.TypeFull: "Database", stream.TypeLog: "Transaction Log", stream.TypeDifferential: "Database Differential"}[h.BackupType]
	return []any{text(h.BackupName), text(h.BackupDescription), int64(h.BackupType), nil, false, int64(h.Position), int64(h.DeviceType), h.UserName, h.ServerName,
		h.DatabaseName, int64(h.DatabaseVersion), h.DatabaseCreationDate, Size(h.BackupSize), LSN(h.FirstLSN), LSN(h.LastLSN), LSN(h.CheckpointLSN),
		LSN(h.DatabaseBackupLSN), h.StartDate, h.FinishDate, int64(major * 10), int64(major), int64(minor), int64(build), h.MachineName,
		GUID(h.BindingID), GUID(h.RecoveryForkID), h.Collation, GUID(h.FamilyGUID), h.HasBulkLoggedData, h.IsSnapshot, h.IsReadOnly, h.IsSingleUser,
		h.HasBackupChecksums, false, h.BeginsLogChain, h.HasIncompleteMetaData, h.IsForceOffline, h.IsCopyOnly, GUID(h.FirstRecoveryForkID),
		LSN(h.ForkPointLSN), h.RecoveryModel, LSN(h.DifferentialBaseLSN), GUID(h.DifferentialBaseGUID), kind, GUID(h.BackupSetGUID), h.BackupSize, int64(0)}
}

const fileListColumns = "LogicalName nvarchar, PhysicalName nvarchar, Type char, FileGroupName nvarchar, Size numeric, MaxSize numeric, FileId bigint, CreateLSN lsn, DropLSN lsn, UniqueId uniqueidentifier, ReadOnlyLSN lsn, ReadWriteLSN lsn, BackupSizeInBytes bigint, SourceBlockSize int, FileGroupId int, LogGroupGUID uniqueidentifier, DifferentialBaseLSN lsn, DifferentialBaseGUID uniqueidentifier, IsReadOnly bit, IsPresent bit, TDEThumbprint varbinary, SnapshotUrl nvarchar"

// FileListColumns are those of RESTORE FILELISTONLY.
func FileListColumns() []value.Column { return Columns(fileListColumns) }

// FileListRows are a set's files as RESTORE FILELISTONLY shows them.
func FileListRows(h *stream.Header) (rows [][]any) {
	thumbprint := binary(h.Boot.Protector)
	for _, f := range h.Files {
		kind, group, groupID := "D", any("PRIMARY"), int64(1)
		if f.Type == storage.Log {
			kind, group, groupID = "L", nil, 0
		}
		bytes := int64(f.Pages) * 8192
		rows = append(rows, []any{f.Logical, f.Physical, kind, group, Size(bytes), Size(35184372080640), int64(f.ID), LSN(f.CreateLSN), LSN(f.DropLSN),
			GUID(f.GUID), nil, nil, bytes, int64(512), groupID, nil, LSN(f.Base.LSN), GUID(f.Base.GUID), false, h.BackupType != stream.TypeLog || kind == "L", thumbprint, nil})
	}
	return rows
}
