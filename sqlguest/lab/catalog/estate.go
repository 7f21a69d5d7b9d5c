package catalog

import (
	"encoding/hex"

	"holdfast/sqlguest/lab/estate"
	"holdfast/sqlguest/lab/tsql/plan"
)

// What the server says of keys and of availability groups.

// binary is a thumbprint as a value: NULL for none.
func binary(hexadecimal string) any {
	b, err := hex.DecodeString(hexadecimal)
	if err != nil || len(b) == 0 {
		return nil
	}
	return b
}

func (i *Instance) estateView(name string) plan.Relation {
	switch name {
	case "dm_database_encryption_keys":
		return fixed("database_id int, encryption_state int, encryptor_type nvarchar, encryptor_thumbprint varbinary, key_algorithm nvarchar, percent_complete real", i.encryptionKeys)
	case "certificates":
		return fixed("name sysname, certificate_id int, thumbprint varbinary, subject nvarchar, expiry_date datetime, pvt_key_encryption_type char", func() (rows [][]any) {
			for n, c := range i.Server.Estate().Certificates {
				rows = append(rows, []any{c.Name, number(256 + n), c.Thumbprint, c.Name, nil, "MK"})
			}
			return rows
		})
	case "asymmetric_keys":
		return fixed("name sysname, asymmetric_key_id int, thumbprint varbinary, algorithm_desc nvarchar", func() [][]any { return nil })
	}
	return i.groupView(name)
}

// encryptionKeys has a row for each database that has a key, encrypted or not any more.
func (i *Instance) encryptionKeys() (rows [][]any) {
	for _, d := range i.infos() {
		if d.Protector == "" {
			continue
		}
		state := int64(1)
		if d.Encrypted {
			state = 3
		}
		rows = append(rows, []any{number(d.ID), state, "CERTIFICATE", binary(d.Protector), "AES", float64(0)})
	}
	return rows
}

var roles = map[string]int64{estate.Resolving: 0, estate.Primary: 1, estate.Secondary: 2}

// members are the databases in groups, in the databases' order, with their ids.
func (i *Instance) members(row func(id int64, name string, m estate.Member) []any) (rows [][]any) {
	of := i.Server.Estate()
	for _, d := range i.infos() {
		if m, is := of.Member(d.Name); is {
			rows = append(rows, row(int64(d.ID), d.Name, m))
		}
	}
	return rows
}

// groupView are the views of availability groups: this instance's replicas of them.
func (i *Instance) groupView(name string) plan.Relation {
	of := map[string]struct {
		spec string
		row  func(id int64, name string, m estate.Member) []any
	}{
		"dm_hadr_availability_replica_states": {"replica_id uniqueidentifier, group_id uniqueidentifier, is_local bit, role tinyint, role_desc sysname, operational_state_desc sysname, connected_state_desc sysname, synchronization_health_desc sysname", func(_ int64, _ string, m estate.Member) []any {
			return []any{GUID(m.Replica), GUID(m.Group), true, roles[m.Role], m.Role, "ONLINE", "CONNECTED", "HEALTHY"}
		}},
		"dm_hadr_database_replica_states": {"database_id int, group_id uniqueidentifier, replica_id uniqueidentifier, group_database_id uniqueidentifier, is_local bit, is_primary_replica bit, synchronization_state tinyint, synchronization_state_desc sysname, database_state_desc sysname", func(id int64, _ string, m estate.Member) []any {
			return []any{id, GUID(m.Group), GUID(m.Replica), GUID(m.Database), true, m.Role == estate.Primary, int64(2), "SYNCHRONIZED", "ONLINE"}
		}},
		"availability_groups": {"group_id uniqueidentifier, name sysname, automated_backup_preference tinyint, automated_backup_preference_desc sysname", func(_ int64, _ string, m estate.Member) []any {
			return []any{GUID(m.Group), m.Name, int64(2), "SECONDARY"}
		}},
		"availability_replicas": {"replica_id uniqueidentifier, group_id uniqueidentifier, replica_server_name nvarchar", func(_ int64, _ string, m estate.Member) []any {
			return []any{GUID(m.Replica), GUID(m.Group), i.Server.Options().Name}
		}},
		"availability_databases_cluster": {"group_id uniqueidentifier, group_database_id uniqueidentifier, database_name sysname", func(_ int64, name string, m estate.Member) []any {
			return []any{GUID(m.Group), GUID(m.Database), name}
		}},
	}
	v, is := of[name]
	if !is {
		return nil
	}
	return fixed(v.spec, func() [][]any { return i.members(v.row) })
}

// preferred is sys.fn_hadr_backup_is_preferred_replica: a database outside of groups
// belongs here.
func (i *Instance) preferred(database any) any {
	of := i.Server.Estate()
	name, _ := database.(string)
	if m, is := of.Member(name); is {
		return m.Preferred
	}
	return true
}
