package facts

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
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
// of volumes: those that hold database files, and from SQL Server 2017 on every drive. ""
// is the default backup directory; nil, without an error, is a volume that it does not know.
func AskStaging(ctx context.Context, s server.Server, staging string) (*Volume, error) {
	v, err := deepest(ctx, s, staging, stagingText, func(t *table) Volume {
		return Volume{Name: t.text("volume_mount_point"), Use: UseStaging, Available: t.number("available_bytes"),
			Total: t.number("total_bytes"), System: t.text("file_system_type")}
	})
	if err != nil {
		return nil, err
	}
	drive, err := deepest(ctx, s, staging, drivesText, func(t *table) Volume {
		return Volume{Name: t.text("fixed_drive_path"), Use: UseStaging, Available: t.number("free_space_in_bytes")}
	})
	switch {
	case err != nil && !unknown(err):
		return nil, err
	case drive != nil && (v == nil || len(v.Name) < len(drive.Name)):
		return drive, nil
	}
	return v, nil
}

// ErrNoRoom: the volume of the staging directory has too little room.
var ErrNoRoom = errors.New("not enough room where files are staged")

// AskRoom is ErrNoRoom if the staging directory's volume, as far as it is known, cannot take
// files of those sizes.
func AskRoom(ctx context.Context, s server.Server, staging string, files []int64) error {
	v, err := AskStaging(ctx, s, staging)
	if err != nil || v == nil {
		return err
	}
	need := int64(0)
	for _, n := range files {
		need += n
	}
	if v.Available < need {
		return fmt.Errorf("%w: they take %d bytes of %s, and %d are free", ErrNoRoom, need, v.Name, v.Available)
	}
	return nil
}

// AskBackupDirectory is where SQL Server puts a file whose name has no directory; "" if it
// does not say.
func AskBackupDirectory(ctx context.Context, s server.Server) (string, error) {
	rows, err := s.Query(ctx, "SELECT CAST(SERVERPROPERTY('InstanceDefaultBackupPath') AS nvarchar(4000)) AS path")
	if err != nil {
		return "", fmt.Errorf("ask for the backup directory: %w", err)
	}
	path := ""
	t := newTable(rows)
	err = t.each(func() { path = t.text("path") })
	return path, err
}

// deepest is the volume with the longest mount point above the staging directory.
func deepest(ctx context.Context, s server.Server, staging, text string, read func(*table) Volume) (*Volume, error) {
	rows, err := s.Query(ctx, text)
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
		v := read(t)
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

// Log is what SQL Server says of a database's log.
type Log struct {
	// End is where it ends, as SQL Server writes it: it moves with every record, and is
	// equal to an earlier one if nothing was logged in between.
	End string
	// Since is how many bytes, rounded up, the next log backup has to read.
	Since int64
}

// AskLog asks for it; the zero Log, without an error, where the server cannot tell:
// before SQL Server 2016 SP2.
func AskLog(ctx context.Context, s server.Server, database string) (l Log, err error) {
	rows, err := s.Query(ctx, logText, server.Arg{Name: "db", Value: database})
	if err != nil {
		if unknown(err) {
			return Log{}, nil
		}
		return Log{}, fmt.Errorf("ask for the log of %s: %w", database, err)
	}
	t := newTable(rows)
	err = t.each(func() {
		l.End = t.text("log_end_lsn")
		if t.value("log_since_last_log_backup_mb") != nil {
			l.Since = int64(math.Ceil(t.real("log_since_last_log_backup_mb") * (1 << 20)))
		}
	})
	if err != nil {
		return Log{}, fmt.Errorf("ask for the log of %s: %w", database, err)
	}
	return l, nil
}

// Estimate is how many bytes backups of a database will have, without compression: pages
// in extents that are in use, and log. 0 is not known.
type Estimate struct {
	Full int64 `json:"full"`
	Diff int64 `json:"diff"`
	Log  int64 `json:"log"`
}

// AskEstimate asks for it. The number of changed pages is good for a size and for nothing
// else: it never is 0, because a full writes to the extents of the file's header and of
// the boot page itself, and what a user changes in these does not move it.
func AskEstimate(ctx context.Context, s server.Server, database string) (e Estimate, err error) {
	const pageBytes = 8192
	log, err := AskLog(ctx, s, database)
	if err != nil {
		return e, err
	}
	e.Log = log.Since
	for text, to := range map[string]*int64{allocatedText: &e.Full, modifiedText: &e.Diff} {
		rows, err := s.Query(ctx, fmt.Sprintf(text, Quote(database)))
		if err != nil {
			// Also where the database lets nobody in now: a secondary that is not read
			// (976), somebody else's single-user mode (924).
			if said := (*server.Error)(nil); errors.As(err, &said) {
				continue
			}
			return Estimate{}, fmt.Errorf("ask how large backups of %s become: %w", database, err)
		}
		t := newTable(rows)
		if err := t.each(func() { *to = t.number("pages") * pageBytes }); err != nil {
			return Estimate{}, fmt.Errorf("ask how large backups of %s become: %w", database, err)
		}
	}
	return e, nil
}
