package catalog

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/tsql/expr"
	"holdfast/sqlguest/lab/value"
)

// Size is a count of bytes as numeric(20,0).
func Size(n int64) any { return value.Number{Unscaled: big.NewInt(n)} }

var (
	sysname = value.Text(128)
	small   = value.Type{Kind: value.SmallInt}
	bit     = value.Type{Kind: value.Bit}
)

// optional makes a function of none or one argument.
func optional(t, argument value.Type, call func(a any, given bool) any) *expr.Function {
	return &expr.Function{Type: t, Max: 1, Types: []value.Type{argument}, Call: func(a []any) (any, error) {
		if len(a) == 0 {
			return call(nil, false), nil
		}
		return call(a[0], true), nil
	}}
}

// Function finds a function that knows the instance; nil if there is none.
func (i *Instance) Function(name []string) *expr.Function {
	last := strings.ToUpper(name[len(name)-1])
	if len(name) > 1 {
		if last == "FN_HADR_BACKUP_IS_PREFERRED_REPLICA" && strings.EqualFold(name[0], "sys") {
			return &expr.Function{Type: bit, Min: 1, Max: 1, Types: []value.Type{sysname}, Call: func(a []any) (any, error) { return i.preferred(a[0]), nil }}
		}
		return nil
	}
	if f := i.databaseFunction(last); f != nil {
		return f
	}
	switch last {
	case "SERVERPROPERTY":
		return expr.Strict(value.Type{Kind: value.Variant}, []value.Type{sysname}, func(a []any) (any, error) {
			return i.property(strings.ToLower(a[0].(string))), nil
		})
	case "IS_SRVROLEMEMBER":
		return &expr.Function{Type: expr.Int, Min: 1, Max: 2, Types: []value.Type{sysname, sysname}, Call: func(a []any) (any, error) {
			return i.member(a), nil
		}}
	case "SUSER_SNAME":
		return optional(sysname, expr.Any, func(id any, given bool) any {
			if b, is := id.([]byte); is && given {
				return loginOf(b)
			}
			return i.Login
		})
	case "SUSER_NAME", "ORIGINAL_LOGIN", "SYSTEM_USER":
		return optional(sysname, expr.Any, func(any, bool) any { return i.Login })
	case "USER_NAME", "USER", "CURRENT_USER", "SESSION_USER":
		return optional(sysname, expr.Any, func(any, bool) any {
			if i.Sysadmin {
				return "dbo"
			}
			return "guest"
		})
	case "IS_MEMBER", "IS_ROLEMEMBER":
		return expr.Strict(expr.Int, []value.Type{sysname}, func([]any) (any, error) { return i.yes(i.Sysadmin), nil })
	case "HAS_PERMS_BY_NAME":
		return &expr.Function{Type: expr.Int, Min: 3, Max: 5, Types: []value.Type{sysname, sysname, sysname, sysname, sysname}, Call: func([]any) (any, error) {
			return i.yes(i.Sysadmin), nil
		}}
	case "HAS_DBACCESS":
		return expr.Strict(expr.Int, []value.Type{sysname}, func(a []any) (any, error) {
			d, ok := i.find(a[0].(string))
			if !ok {
				return nil, nil
			}
			return i.yes(d.State == storage.Online && (i.Sysadmin || d.ID <= 4)), nil
		})
	case "HOST_NAME", "APP_NAME", "PROGRAM_NAME":
		return &expr.Function{Type: sysname, Call: func([]any) (any, error) { return i.client(last == "HOST_NAME"), nil }}
	}
	return nil
}

func (i *Instance) client(host bool) any {
	for _, s := range i.Sessions() {
		if s.ID == i.Me && host {
			return s.Host
		} else if s.ID == i.Me {
			return s.Program
		}
	}
	return nil
}

func (i *Instance) yes(b bool) any {
	if b {
		return int64(1)
	}
	return int64(0)
}

// member is IS_SRVROLEMEMBER: NULL for a role that does not exist.
func (i *Instance) member(a []any) any {
	role, _ := a[0].(string)
	if len(a) == 2 {
		if login, _ := a[1].(string); !strings.EqualFold(login, i.Login) {
			return nil
		}
	}
	switch strings.ToLower(role) {
	case "sysadmin", "serveradmin", "dbcreator", "diskadmin", "processadmin", "securityadmin", "setupadmin", "bulkadmin":
		return i.yes(i.Sysadmin)
	case "public":
		return int64(1)
	}
	return nil
}

// databaseFunction are the functions that look up databases and objects.
func (i *Instance) databaseFunction(name string) *expr.Function {
	switch name {
	case "DB_ID":
		return optional(small, sysname, func(a any, given bool) any {
			if !given {
				a = i.Database
			}
			s, _ := a.(string)
			return i.databaseID(s)
		})
	case "DB_NAME":
		return optional(sysname, expr.Int, func(a any, given bool) any {
			if !given {
				return i.Database
			}
			for _, d := range i.infos() {
				if a == int64(d.ID) {
					return d.Name
				}
			}
			return nil
		})
	case "OBJECT_ID":
		return &expr.Function{Type: expr.Int, Min: 1, Max: 2, Types: []value.Type{value.Text(776), sysname}, Call: func(a []any) (any, error) {
			s, _ := a[0].(string)
			return i.object(s), nil
		}}
	case "DATABASEPROPERTYEX":
		return expr.Strict(value.Type{Kind: value.Variant}, []value.Type{sysname, sysname}, func(a []any) (any, error) {
			return i.databaseProperty(a[0].(string), strings.ToLower(a[1].(string))), nil
		})
	case "SCHEMA_NAME":
		return optional(sysname, expr.Int, func(any, bool) any { return "dbo" })
	}
	return nil
}

// object is OBJECT_ID: names may have brackets, a schema, a database before them.
func (i *Instance) object(name string) any {
	parts := splitName(name)
	of := *i
	if len(parts) == 3 && parts[0] != "" {
		of.Database = parts[0]
	}
	if len(parts) == 0 {
		return nil
	}
	for _, t := range of.tables() {
		if strings.EqualFold(t.Name, parts[len(parts)-1]) {
			return number(t.ID)
		}
	}
	return nil
}

// splitName cuts a name of several parts at dots outside of brackets.
func splitName(name string) []string {
	var out []string
	var b strings.Builder
	quoted := false
	for k := 0; k < len(name); k++ {
		switch c := name[k]; {
		case c == '[' && !quoted:
			quoted = true
		case c == ']' && quoted && k+1 < len(name) && name[k+1] == ']':
			b.WriteByte(c)
			k++
		case c == ']' && quoted:
			quoted = false
		case c == '.' && !quoted:
			out = append(out, b.String())
			b.Reset()
		default:
			b.WriteByte(c)
		}
	}
	return append(out, b.String())
}

func (i *Instance) databaseProperty(database, property string) any {
	d, ok := i.find(database)
	if !ok {
		return nil
	}
	switch property {
	case "status":
		return d.State.String()
	case "recovery":
		return d.Model.String()
	case "useraccess":
		return d.Access.String()
	case "updateability":
		if d.ReadOnly || d.Standby {
			return "READ_ONLY"
		}
		return "READ_WRITE"
	case "isinstandby":
		return i.yes(d.Standby)
	case "isautoclose":
		return i.yes(d.AutoClose)
	case "collation":
		return i.Server.Options().Collation
	case "version":
		return i.major() * 10
	}
	return nil
}

func (i *Instance) major() int64 {
	major, _, _ := strings.Cut(i.Server.Options().Version, ".")
	n, _ := strconv.ParseInt(major, 10, 64)
	return n
}

// Version is @@VERSION.
func (i *Instance) Version() string {
	years := map[int64]string{11: "2012", 12: "2014", 13: "2016", 14: "2017", 15: "2019", 16: "2022", 17: "2025"}
	return fmt.Sprintf("Microsoft SQL Server %s (RTM) - %s (X64) \n\t%s on Windows Server 2022 Standard 10.0 <X64>\n", years[i.major()], i.Server.Options().Version, i.Edition)
}

// property is SERVERPROPERTY: NULL for a name that does not exist.
func (i *Instance) property(name string) any {
	o := i.Server.Options()
	machine, instance, _ := strings.Cut(o.Name, `\`)
	switch name {
	case "servername":
		return o.Name
	case "machinename", "computernamephysicalnetbios":
		return machine
	case "instancename":
		return text(instance)
	case "productversion", "resourceversion":
		return o.Version
	case "productlevel":
		return "RTM"
	case "productmajorversion":
		return fmt.Sprint(i.major())
	case "productminorversion":
		return "0"
	case "productbuild":
		if parts := strings.Split(o.Version, "."); len(parts) > 2 {
			return parts[2]
		}
	case "edition":
		return i.Edition
	case "engineedition":
		if strings.HasPrefix(i.Edition, "Standard") {
			return int64(2)
		}
		if strings.HasPrefix(i.Edition, "Express") {
			return int64(4)
		}
		return int64(3)
	case "isclustered":
		return i.yes(o.Clustered)
	case "ishadrenabled":
		return i.yes(len(i.Server.Estate().Members) > 0)
	case "isintegratedsecurityonly", "issingleuser", "isfulltextinstalled", "islocaldb":
		return int64(0)
	case "collation":
		return o.Collation
	case "collationid":
		return int64(872468488)
	case "processid":
		return int64(1)
	case "instancedefaultdatapath":
		return directory(o.Data)
	case "instancedefaultlogpath":
		return directory(o.Log)
	case "instancedefaultbackuppath":
		return directory(o.Backup)
	}
	return nil
}

// directory ends with its separator, as the server's default paths do.
func directory(path string) string {
	separator := `\`
	if strings.Contains(path, "/") {
		separator = "/"
	}
	if path == "" || strings.HasSuffix(path, separator) {
		return path
	}
	return path + separator
}
