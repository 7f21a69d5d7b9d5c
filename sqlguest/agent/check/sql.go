package check

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/server"
)

// SQLOptions shape the looks at a SQL Server.
type SQLOptions struct {
	// Request is what a backup would ask for.
	Request decide.Request
	// FreeBytes is what each volume must have free for log backups; 0 is 1 GiB.
	FreeBytes int64
}

// shadowBytes is the least that Windows' shadow copies need on a volume.
const shadowBytes = 320 << 20

// SQL takes every look at a SQL Server.
func SQL(ctx context.Context, s server.Server, o SQLOptions) []Line {
	if o.FreeBytes == 0 {
		o.FreeBytes = 1 << 30
	}
	at, err := facts.AskInstance(ctx, s)
	if err != nil {
		return []Line{unanswered("sql-instance", "SQL Server", err)}
	}
	lines := instance(at, o.Request)
	if !at.SysAdmin {
		return lines // the rest would fail of that
	}
	all, err := facts.AskDatabases(ctx, s, at)
	if err != nil {
		return append(lines, unanswered("sql-databases", "databases", err))
	}
	lines = append(lines, databases(at, all, o.Request)...)
	lines = append(lines, volumes(ctx, s, all, o.FreeBytes)...)
	return append(lines, kept(ctx, s)...)
}

func unanswered(id, name string, err error) Line {
	return Line{ID: id, Name: name, Status: Failed, Detail: err.Error(), Remedy: "the login must be a member of the server role sysadmin, and the server must be running"}
}

// instance looks at the server as a whole.
func instance(at *facts.Instance, r decide.Request) []Line {
	lines := []Line{
		Line{ID: "S-version", Name: "version", Detail: at.Name + " has version " + at.Version + ", " + at.Edition,
			Remedy: "the oldest that is supported is SQL Server 2012 (11)"}.When(at.Major() == 0 || at.Major() >= 11, Failed),
		Line{ID: "Q5-sysadmin", Name: "login's role", Detail: "the login is a member of sysadmin",
			Remedy: "ALTER SERVER ROLE sysadmin ADD MEMBER [login]: backups through virtual devices need it"}.When(true, Failed),
	}
	if !at.SysAdmin {
		lines[1] = Line{ID: lines[1].ID, Name: lines[1].Name, Status: Failed, Detail: "the login is no member of sysadmin on " + at.Name,
			Remedy: "ALTER SERVER ROLE sysadmin ADD MEMBER [login]: backups through virtual devices need it"}
	}
	if at.Engine != 0 && (at.Engine < 2 || at.Engine > 4) {
		lines = append(lines, Line{ID: "S-edition", Name: "edition", Status: Failed, Detail: at.Name + " is a managed service", Remedy: "it backs up by its own means only"})
	}
	if at.Clustered {
		lines = append(lines, Line{ID: "Q11", Name: "failover cluster", Detail: at.Name + " is a failover cluster instance",
			Remedy: "inside a guest it is backed up only with --allow-ag"}.When(!r.Guest || r.AllowAG, Failed))
	}
	return lines
}

// databases looks for those that a backup would leave out, by the table that decides.
func databases(at *facts.Instance, all []facts.Database, r decide.Request) []Line {
	var lines []Line
	var simple, restoring, drive []string
	taken := 0
	r.Want = decide.Full
	for _, d := range all {
		said := decide.Decide(r, decide.Facts{Instance: *at, Database: d}, nil)
		switch {
		case said.Do == decide.DoFull:
			taken++
		case said.Exit != decide.ExitDone && said.Rule != decide.RuleSysAdmin && said.Rule != decide.RuleVersion:
			lines = append(lines, Line{ID: string(said.Rule) + "-left-out", Name: "database " + d.Name, Status: Warning,
				Detail: said.Reason, Remedy: fmt.Sprintf("as long as that is so backups leave it out and end with %d", said.Exit)})
		}
		if d.Model == "SIMPLE" && !d.System() {
			simple = append(simple, d.Name)
		}
		if d.State == "RESTORING" {
			restoring = append(restoring, d.Name)
		}
		if onDrive(&d, `C:\`) {
			drive = append(drive, d.Name)
		}
	}
	lines = append(lines,
		Line{ID: "sql-databases", Name: "databases", Status: OK, Detail: fmt.Sprintf("%d of %d are backed up", taken, len(all))},
		listed("Q6-model", "recovery models", "no log backups, and no restore to a moment, of SIMPLE databases: ", "every user database has logs", simple,
			"ALTER DATABASE … SET RECOVERY FULL, if moments between backups matter", OK),
		listed("Q25-restoring", "databases in RESTORING", "a restore was begun and not ended: ", "none", restoring,
			"the same restore with --continue instead of --replace ends it, if it was one of holdfast's: holdfast restore sql NAME --continue; drop a database only if nobody wants it", Warning),
		listed("Q9-drive", "system drive", "databases on the system drive: ", "no user database lies on C:", drive,
			"move them: a system drive that is full stops Windows and these databases", Warning))
	return lines
}

func onDrive(d *facts.Database, drive string) bool {
	return !d.System() && slices.ContainsFunc(d.Files, func(f facts.File) bool { return strings.HasPrefix(strings.ToUpper(f.Path), drive) })
}

// listed is a line about names that should be none.
func listed(id, name, some, none string, names []string, remedy string, otherwise Status) Line {
	l := Line{ID: id, Name: name, Detail: none, Remedy: remedy}
	if len(names) > 0 {
		l.Detail = some + strings.Join(names, ", ")
	}
	l = l.When(len(names) == 0, otherwise)
	if l.Status == OK {
		l.Remedy = ""
	}
	return l
}

// volume is what lies on one.
type volume struct {
	facts.Volume
	data int64 // bytes of databases
}

// volumes looks at the room on each volume with databases. An open database tells its
// own volumes.
func volumes(ctx context.Context, s server.Server, all []facts.Database, free int64) []Line {
	found := map[string]*volume{}
	var names []string
	for _, d := range all {
		if d.State != "ONLINE" || d.SnapshotOf != 0 {
			continue
		}
		list, err := facts.AskVolumes(ctx, s, d.Name)
		if err != nil {
			return []Line{{ID: "Q16-free", Name: "volumes", Status: Failed, Detail: err.Error(), Remedy: "the login needs VIEW SERVER STATE, which sysadmin has"}}
		}
		for _, v := range list {
			if found[v.Name] == nil {
				found[v.Name] = &volume{Volume: v}
				names = append(names, v.Name)
			}
		}
		for _, f := range d.Files {
			if len(list) > 0 {
				found[holder(list, f.Path)].data += f.Pages * 8192
			}
		}
	}
	slices.Sort(names)
	var lines []Line
	for _, name := range names {
		lines = append(lines, found[name].lines(free)...)
	}
	return lines
}

// holder is the volume on which a file lies: the longest name that its path begins with.
func holder(list []facts.Volume, path string) string {
	best := list[0].Name
	for _, v := range list {
		if strings.HasPrefix(strings.ToUpper(path), strings.ToUpper(v.Name)) && len(v.Name) >= len(best) {
			best = v.Name
		}
	}
	return best
}

func (v *volume) lines(free int64) []Line {
	lines := []Line{Line{ID: "Q16-free", Name: "free space on " + v.Name, Detail: fmt.Sprintf("%d MiB free of %d MiB (%s)", v.Available>>20, v.Total>>20, v.System),
		Remedy: fmt.Sprintf("make room: log backups stop below %d MiB", free>>20)}.When(v.Available >= free, Failed)}
	if !strings.Contains(v.Name, ":") {
		return lines // the rest is Windows'
	}
	isNTFS := strings.EqualFold(v.System, "NTFS") || strings.EqualFold(v.System, "ReFS")
	return append(lines,
		Line{ID: "Q9-ntfs", Name: "file system of " + v.Name, Detail: v.System, Remedy: "databases belong on NTFS: no other file system has shadow copies of them"}.When(isNTFS, Warning),
		Line{ID: "Q4-shadow", Name: "shadow copies on " + v.Name, Detail: fmt.Sprintf("%d MiB free beside %d MiB of databases", v.Available>>20, v.data>>20),
			Remedy: "quiesced snapshots of the machine need room for shadow copies, as much as the databases have if all changes; backup sql needs none"}.When(v.Available >= max(v.data, shadowBytes), Warning))
}

// kept looks for log backups that an earlier run has left in files.
func kept(ctx context.Context, s server.Server) []Line {
	stager, ok := s.(interface {
		Staged(ctx context.Context, staging, local string) ([]string, error)
	})
	if !ok {
		return nil
	}
	l := Line{ID: "S-kept", Name: "kept log backups", Detail: "none", Remedy: "keep the files: the next backup sql takes them in, and each is the only copy of its log"}
	devices, err := stager.Staged(ctx, "", "")
	if err != nil {
		return nil // the directory is on another machine, or there is none
	}
	if len(devices) > 0 {
		l.Detail = fmt.Sprintf("%d in the backup directory", len(devices))
	}
	return []Line{l.When(len(devices) == 0, Warning)}
}
