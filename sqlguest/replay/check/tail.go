package check

import (
	"slices"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/plan"
)

// Orphaned tells whether a tail would continue none of these backups, so that it could
// not be restored. Between is the point that would lead to it if SQL Server had confirmed
// it, "" if none would.
func Orphaned(ours []chain.Backup, tail chain.Backup) (orphan bool, between string) {
	if plan.Leads(ours, tail) {
		return false, ""
	}
	sure := slices.Clone(ours)
	for i := range sure {
		if b := &sure[i]; b.State == chain.Unconfirmed && b.Kind != "" {
			b.State, between = chain.Confirmed, b.Point
		}
	}
	if between != "" && !plan.Leads(sure, tail) {
		between = ""
	}
	return true, between
}

// checkOrphan: a tail that leads nowhere saves nothing.
func (c *checking) checkOrphan() {
	if c.Between != "" {
		c.forbid("P-tail", "holdfast backup sql looks for what is missing, and saves what the database holds in any case; then restore",
			"the log of database %s continues %s, which is not confirmed: its tail could not be restored", c.Old.Name, c.Between)
		return
	}
	c.forbid("P-tail", "if a run was killed, the same --staging takes in what it left; else back the database up first (holdfast backup sql --type full), or give up what it holds with --no-tail",
		"the log of database %s continues no backup of ours: its tail could not be restored", c.Old.Name)
}
