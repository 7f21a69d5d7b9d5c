package cmd

import (
	"github.com/spf13/cobra"

	"holdfast/cmd/batch"
	"holdfast/cmd/sqlcmd"
	"holdfast/repo"
)

func newBackupCommand(a *app) *cobra.Command {
	return newGroup("backup", "back up virtual machines, SQL Server databases and disk images",
		`Each backup leaves one recovery point a source. A point is complete in itself: what an
incremental backup did not have to read again is shared, never chained.`,
		newBackupVMCommand(a), sqlcmd.NewBackup(door{a}), newBackupImageCommand(a))
}

// newBatch begins a backup of one or several sources into r. The caller ends its
// progress with Done.
func (a *app) newBatch(r *repo.Repository) *batch.Run {
	return &batch.Run{Repository: r, UI: a.ui, Report: a.report, Log: a.log, Now: a.now, Progress: a.ui.Progress(), Explain: classify}
}
