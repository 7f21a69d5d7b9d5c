package facts

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"holdfast/sqlguest/server"
)

// What a volume holds of a database.
const (
	UseData    = "data"
	UseLog     = "log"
	UseStaging = "staging"
)

// Volume is one volume that a database, or the staging of its backups, lies on.
type Volume struct {
	Name      string `json:"name"` // C:\, D:\mount\, /var/opt/mssql
	Use       string `json:"use"`
	Available int64  `json:"available"` // bytes
	Total     int64  `json:"total"`
	System    string `json:"system"` // file system: NTFS, ReFS, ext4 …
}

// AskVolumes asks for the volumes of a database's files, each once for data and once
// for log.
func AskVolumes(ctx context.Context, s server.Server, database string) ([]Volume, error) {
	rows, err := s.Query(ctx, volumesText, server.Arg{Name: "db", Value: database})
	if err != nil {
		return nil, fmt.Errorf("ask for the volumes of %s: %w", database, err)
	}
	t := newTable(rows)
	var list []Volume
	seen := map[[2]string]bool{}
	err = t.each(func() {
		v := Volume{
			Name: t.text("volume_mount_point"), Use: UseData, Available: t.number("available_bytes"),
			Total: t.number("total_bytes"), System: t.text("file_system_type"),
		}
		if t.number("type") == 1 {
			v.Use = UseLog
		}
		if key := [2]string{v.Name, v.Use}; !seen[key] {
			seen[key] = true
			list = append(list, v)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("ask for the volumes of %s: %w", database, err)
	}
	return list, nil
}

// AskStaging asks for the volume that staging files go to, as far as SQL Server can tell
// of volumes: those that hold database files. "" is the default backup directory; nil,
// without an error, is a volume that it does not know.
func AskStaging(ctx context.Context, s server.Server, staging string) (*Volume, error) {
	rows, err := s.Query(ctx, stagingText)
	if err != nil {
		return nil, fmt.Errorf("ask for the volume of staging files: %w", err)
	}
	t := newTable(rows)
	var best *Volume
	err = t.each(func() {
		path := staging
		if path == "" {
			path = t.text("path")
		}
		v := Volume{Name: t.text("volume_mount_point"), Use: UseStaging, Available: t.number("available_bytes"),
			Total: t.number("total_bytes"), System: t.text("file_system_type")}
		if isBelow(path, v.Name) && (best == nil || len(best.Name) < len(v.Name)) {
			best = &v
		}
	})
	if err != nil {
		return nil, fmt.Errorf("ask for the volume of staging files: %w", err)
	}
	return best, nil
}

// isBelow tells whether a path lies on the volume mounted there, by the rules of the
// server's system: Windows makes no difference of case.
func isBelow(path, mount string) bool {
	if strings.ContainsAny(mount, `\:`) {
		path, mount = strings.ToLower(path), strings.ToLower(mount)
	}
	rest, below := strings.CutPrefix(path, mount)
	return below && mount != "" && (rest == "" || strings.ContainsAny(mount[len(mount)-1:], `\/`) || strings.ContainsAny(rest[:1], `\/`))
}

// Group is a database's place in its availability group.
type Group struct {
	Preferred bool   `json:"preferred"` // the group wants its backups taken here
	Role      string `json:"role"`      // PRIMARY, SECONDARY, RESOLVING; "" unknown
}

// AskGroup asks for that place; replica is Database.Replica.
func AskGroup(ctx context.Context, s server.Server, database, replica string) (*Group, error) {
	rows, err := s.Query(ctx, groupText, server.Arg{Name: "db", Value: database}, server.Arg{Name: "replica", Value: replica})
	if err != nil {
		return nil, fmt.Errorf("ask for the availability group of %s: %w", database, err)
	}
	t := newTable(rows)
	g := &Group{}
	if err := t.each(func() { g.Preferred, g.Role = t.yes("preferred"), strings.ToUpper(t.text("role")) }); err != nil {
		return nil, fmt.Errorf("ask for the availability group of %s: %w", database, err)
	}
	return g, nil
}

// Encryption is a database's encryption key and what that is locked with. The
// target of a restore must have the same certificate or key.
type Encryption struct {
	State      int    `json:"state"` // encryption_state: 3 encrypted, others under way
	Protector  string `json:"protector"`
	Thumbprint string `json:"thumbprint"` // hexadecimal
	Name       string `json:"name"`       // of the certificate in master, "" if it is not one
}

// AskEncryption asks for it; nil if the database has no key.
func AskEncryption(ctx context.Context, s server.Server, database string) (*Encryption, error) {
	rows, err := s.Query(ctx, encryptionText, server.Arg{Name: "db", Value: database})
	if err != nil {
		return nil, fmt.Errorf("ask for the encryption of %s: %w", database, err)
	}
	t := newTable(rows)
	var e *Encryption
	err = t.each(func() {
		thumb, _ := t.value("encryptor_thumbprint").([]byte)
		e = &Encryption{
			State: int(t.number("encryption_state")), Protector: t.text("encryptor_type"),
			Thumbprint: strings.ToUpper(hex.EncodeToString(thumb)), Name: t.text("name"),
		}
	})
	if err != nil {
		return nil, fmt.Errorf("ask for the encryption of %s: %w", database, err)
	}
	return e, nil
}

// Changed is how many pages lie in extents that changed since the differential base.
type Changed struct {
	Modified int64 `json:"modified"`
	Total    int64 `json:"total"`
}

// AskChanged asks for it; nil, without an error, where the server cannot tell:
// before SQL Server 2016 SP2, or if nothing is counted.
func AskChanged(ctx context.Context, s server.Server, database string) (*Changed, error) {
	rows, err := s.Query(ctx, fmt.Sprintf(changedText, Quote(database)))
	if err != nil {
		if unknown(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("ask for the changes of %s: %w", database, err)
	}
	t := newTable(rows)
	var c *Changed
	err = t.each(func() {
		if modified := t.maybe("modified"); modified != nil {
			c = &Changed{Modified: *modified, Total: t.number("total")}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("ask for the changes of %s: %w", database, err)
	}
	return c, nil
}
