package facts

import (
	"context"
	"fmt"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/server"
)

// settingsText asks for what a restore does not bring back.
const settingsText = `SET NOCOUNT ON; SELECT SUSER_SNAME(owner_sid) AS owner_name, user_access_desc, is_read_only, is_trustworthy_on,
 is_db_chaining_on, is_broker_enabled, is_cdc_enabled, is_published, is_merge_published FROM sys.databases WHERE name=@db`

// AskSettings asks for what of a database a restore does not bring back; nil if there
// is no such database.
func AskSettings(ctx context.Context, s server.Server, database string) (*chain.Settings, error) {
	rows, err := s.Query(ctx, settingsText, server.Arg{Name: "db", Value: database})
	if err != nil {
		return nil, fmt.Errorf("ask for the settings of %s: %w", database, err)
	}
	t := newTable(rows)
	var found *chain.Settings
	err = t.each(func() {
		found = &chain.Settings{
			Owner: t.text("owner_name"), Access: t.text("user_access_desc"), ReadOnly: t.yes("is_read_only"),
			Trustworthy: t.yes("is_trustworthy_on"), Chaining: t.yes("is_db_chaining_on"), Broker: t.yes("is_broker_enabled"),
			CDC: t.yes("is_cdc_enabled"), Published: t.yes("is_published") || t.yes("is_merge_published"),
		}
	})
	if err != nil {
		return nil, fmt.Errorf("ask for the settings of %s: %w", database, err)
	}
	return found, nil
}
