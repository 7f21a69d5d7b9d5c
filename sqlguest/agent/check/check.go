// Package check looks at a SQL Server's machine before anything is begun there. Each
// look is a line: what was looked at, whether it is well, and what helps if not.
//
// A line that is not well forbids nothing by itself: who asks knows what is about to
// be done.
package check

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"holdfast/sqlguest/server"
)

// Line is one look.
type Line struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"` // a sentence
	Remedy string `json:"remedy,omitempty"` // what helps, if it is not OK
}

// Options of the looks. The zero value is a product's usual ones.
type Options struct {
	// Port must be free on loopback; 0 is 3545.
	Port int
	// FreeBytes is what each volume with database files must have free; 0 is 1 GiB.
	FreeBytes int64
}

// All takes every look that this system has.
func All(ctx context.Context, s server.Server, o Options) []Line {
	if o.Port == 0 {
		o.Port = 3545
	}
	if o.FreeBytes == 0 {
		o.FreeBytes = 1 << 30
	}
	lines := host(ctx, s)
	lines = append(lines, sysadmin(ctx, s))
	lines = append(lines, volumes(ctx, s, o.FreeBytes)...)
	lines = append(lines, port(o.Port))
	lines = append(lines, system(ctx)...)
	for i := range lines {
		if lines[i].OK {
			lines[i].Remedy = ""
		}
	}
	return lines
}

func host(ctx context.Context, s server.Server) []Line {
	h, err := s.Host(ctx)
	if err != nil {
		return []Line{{Name: "host", Detail: err.Error(), Remedy: "look at the agent's machine"}}
	}
	return []Line{
		{Name: "elevated", OK: h.Elevated, Detail: h.System + " on " + h.Architecture,
			Remedy: "log in to the guest as the built-in Administrator, or set LocalAccountTokenFilterPolicy to 1: the token is filtered"},
		{Name: "vdi", OK: h.HasVDI, Detail: h.WhyNoVDI, Remedy: "backups go through staging files, which need room beside the SQL Server"},
	}
}

func sysadmin(ctx context.Context, s server.Server) Line {
	line := Line{Name: "sysadmin", Remedy: "add the login to the server role sysadmin"}
	rows, err := s.Query(ctx, "SELECT IS_SRVROLEMEMBER('sysadmin') AS sysadmin")
	if err != nil {
		line.Detail = err.Error()
	} else if len(rows.Values) == 1 && len(rows.Values[0]) == 1 {
		line.OK = rows.Values[0][0] == int64(1)
	}
	return line
}

// volumesText asks for the volumes of all databases' files.
const volumesText = `SELECT DISTINCT v.volume_mount_point, v.available_bytes, v.file_system_type
FROM sys.master_files f CROSS APPLY sys.dm_os_volume_stats(f.database_id, f.file_id) v`

// volumes are a line each. The rule of 1 GiB is of log backups; a file system that
// is not NTFS matters on Windows alone.
func volumes(ctx context.Context, s server.Server, free int64) []Line {
	rows, err := s.Query(ctx, volumesText)
	if err != nil {
		return []Line{{Name: "volumes", Detail: err.Error(), Remedy: "the login needs VIEW SERVER STATE"}}
	}
	var lines []Line
	for _, row := range rows.Values {
		if len(row) != 3 {
			continue
		}
		available, _ := row[1].(int64)
		lines = append(lines, Line{
			Name: fmt.Sprintf("free space on %v", row[0]), OK: available >= free, Detail: fmt.Sprintf("%d MiB free (%v)", available>>20, row[2]),
			Remedy: fmt.Sprintf("make room: log backups stop below %d MiB", free>>20),
		})
	}
	return lines
}

// port looks whether somebody else's agent of the same kind is there.
func port(number int) Line {
	line := Line{Name: "port " + strconv.Itoa(number), Remedy: "another backup product's agent listens there: one product at a time should look after a SQL Server"}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(number)))
	if err != nil {
		line.Detail = err.Error()
		return line
	}
	_ = l.Close()
	line.OK = true
	return line
}
