// Package catalog is what the laboratory's SQL Server tells of itself: system views as
// virtual tables (sys.databases, sys.master_files, msdb's history …) and the functions
// that know the instance (SERVERPROPERTY, DB_ID …). Columns have the names and types of
// SQL Server's documentation; those that nobody reads are left out.
package catalog

import (
	"context"
	"strings"
	"time"

	"holdfast/sqlguest/lab/backups"
	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/tsql/plan"
	"holdfast/sqlguest/lab/value"
	"holdfast/sqlguest/lsn"
)

// Session is a session as sys.dm_exec_sessions and sys.dm_exec_requests have it.
type Session struct {
	ID                     int64
	Login, Host, Program   string
	Database               string
	LoginTime, RequestTime time.Time
	OpenTransactions       int
	// Command is the kind of statement that runs ("BACKUP DATABASE"); "" if none.
	Command string
	Percent float64
}

// Instance is the server that the views describe, as one session sees it.
type Instance struct {
	Server  *backups.Server
	Started time.Time
	// Edition and Now are the server's.
	Edition string
	Now     func() time.Time
	// Sessions are those at this moment.
	Sessions func() []Session
	// Volume says of a path how much room its volume has.
	Volume func(path string) (mount string, available, total int64, system string)
	// Me, Login, Database and Sysadmin are the session that asks.
	Me       int64
	Login    string
	Database string
	Sysadmin bool
}

// Columns reads "name type, name type"; every column can be NULL; the
// type lsn is numeric(25,0).
func Columns(spec string) []value.Column {
	var out []value.Column
	for _, part := range strings.Split(spec, ", ") {
		name, kind, _ := strings.Cut(strings.TrimSpace(part), " ")
		t := value.LSN
		if kind != "lsn" {
			t, _ = value.ParseType(kind, nil)
		}
		if size := map[string]int{"nvarchar": 260, "char": 2, "varbinary": 85}[kind]; size > 0 {
			t.Size = size
		}
		out = append(out, value.Column{Name: name, Type: t, Nullable: true})
	}
	return out
}

// fixed is a view of rows that are computed when it is read.
func fixed(spec string, rows func() [][]any) plan.Relation {
	return &plan.View{Header: Columns(spec), Values: func(context.Context, []any) ([][]any, error) { return rows(), nil }}
}

// LSN is a log sequence number as a value: NULL for zero.
func LSN(l lsn.LSN) any {
	if l.IsZero() {
		return nil
	}
	n, ok := value.ParseNumber(l.String())
	if !ok {
		return nil
	}
	return n
}

// GUID is a GUID as a value: NULL for zero.
func GUID(g value.GUID) any {
	if g == (value.GUID{}) {
		return nil
	}
	return g
}

// at is a time as a value: NULL for zero.
func at(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return storage.Local(t)
}

// text is NULL where it is empty.
func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func number[T int | int32 | int64 | uint8 | uint16 | uint32](n T) any { return int64(n) }

// infos are all databases by their ids.
func (i *Instance) infos() []storage.Info {
	var out []storage.Info
	for _, db := range i.Server.Databases() {
		out = append(out, db.Info())
	}
	return out
}

// current is the session's database.
func (i *Instance) current() (storage.Info, bool) { return i.find(i.Database) }

func (i *Instance) find(name string) (storage.Info, bool) {
	for _, info := range i.infos() {
		if i.Server.Same(info.Name, name) {
			return info, true
		}
	}
	return storage.Info{}, false
}

// System finds a view of schema sys; nil if there is none. database is the one whose own
// views (sys.tables) are meant.
func (i *Instance) System(name, database string) plan.Relation {
	of := *i
	of.Database = database
	for _, views := range []func(string) plan.Relation{of.serverView, of.databaseView, of.estateView, of.emptyView} {
		if v := views(strings.ToLower(name)); v != nil {
			return v
		}
	}
	return nil
}

// emptyView are views of what the laboratory does not have: they exist and are empty.
func (i *Instance) emptyView(name string) plan.Relation {
	specs := map[string]string{
		"dm_hadr_availability_replica_cluster_states": "replica_id uniqueidentifier, replica_server_name nvarchar, group_id uniqueidentifier",
		"dm_hadr_cluster":     "cluster_name nvarchar, quorum_type_desc sysname",
		"dm_exec_connections": "session_id int, client_net_address nvarchar, encrypt_option nvarchar",
		"configurations":      "configuration_id int, name nvarchar, value int, value_in_use int, description nvarchar",
	}
	spec := specs[name]
	if spec == "" {
		return nil
	}
	return fixed(spec, func() [][]any { return nil })
}
