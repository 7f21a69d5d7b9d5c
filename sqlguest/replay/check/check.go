// Package check holds a restore against the server that is to do it, before anything
// is changed: a pure table of what speaks against it, each with a rule's id, a sentence
// and a remedy. Rules of the form P-… are of this package; the others are those of the
// decisions about backups, where the same fact speaks against both.
package check

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/plan"
)

// longestPath is what Windows takes, in characters; Q23's 256 is where trouble may
// begin, and only warned of.
const longestPath = 259

// expressBytes is what the data files of a database may have in an Express edition.
const expressBytes = 10 << 30

// fileStream is the type of a file that is a directory.
const fileStream = 2

// Finding is what a check found.
type Finding struct {
	Rule    string `json:"rule"`
	Text    string `json:"text"`   // a sentence without a full stop
	Remedy  string `json:"remedy"` // what to do about it
	Forbids bool   `json:"forbids"`
}

func (c *checking) forbid(rule, remedy, text string, args ...any) {
	c.findings = append(c.findings, Finding{rule, fmt.Sprintf(text, args...), remedy, true})
}

func (c *checking) warn(rule, remedy, text string, args ...any) {
	c.findings = append(c.findings, Finding{rule, fmt.Sprintf(text, args...), remedy, false})
}

// Room is a volume of the server's and what the restore needs there.
type Room struct {
	Volume string `json:"volume"` // where it is mounted
	Needed int64  `json:"needed"` // bytes, of all files that come there
	Freed  int64  `json:"freed"`  // bytes of the database that goes
	Free   int64  `json:"free"`   // bytes
	Total  int64  `json:"total"`
}

// Session is somebody who uses a database.
type Session struct {
	ID                   int64
	Login, Host, Program string
}

// Path is what the server says about a path.
type Path struct{ Exists, IsDirectory, HasParent bool }

// Facts are the restore and the server.
type Facts struct {
	At        *facts.Instance
	Databases []facts.Database
	// Old is the database that has the name already, nil if none has; Sessions are in it.
	Old      *facts.Database
	Sessions []Session
	Volumes  []Room          // with the longest mount points first
	Paths    map[string]Path // by chain.PathKey; those that are missing are not known
	Keys     map[string]bool // thumbprints, in hexadecimal, of the certificates in master

	Plan    *plan.Plan
	Backups []chain.Backup // among them those of the plan
	// Last is the newest of the backups that are restored, Full the one with which the
	// restore begins; nil where there is none.
	Last, Full *chain.Backup
	Wish       plan.Options
	Continue   bool
	NoTail     bool
	Tail       bool // the tail of the log is backed up first
	HasTail    bool // there is one
	Orphan     bool // it would continue no backup of ours; see Orphaned
	Between    string
	Elsewhere  bool // the backups are of another server
	Overwrites bool // the restore is WITH REPLACE
	// Family is Old's, by its own word or another witness's; "" if nobody tells.
	Family string
}

type checking struct {
	Facts
	findings []Finding
	rooms    []Room
}

// longestName is what SQL Server's sysname holds, in UTF-16 units.
const longestName = 128

// Name is a *Refused if a database cannot be called so; "" is nobody's wish.
func Name(as string) error {
	if n := len(utf16.Encode([]rune(as))); n > longestName {
		return &Refused{Database: string([]rune(as)[:20]) + "…", Findings: []Finding{{Rule: "P-name", Forbids: true,
			Text: fmt.Sprintf("the name has %d characters, more than %d", n, longestName), Remedy: "choose a shorter one"}}}
	}
	return nil
}

// All are the findings, and how much room the restore needs where.
func All(f Facts) ([]Finding, []Room) {
	c := &checking{Facts: f}
	for _, check := range []func(){c.checkServer, c.checkSystem, c.checkOld, c.checkUse, c.checkRooms, c.checkKeys, c.checkFiles, c.checkUndo} {
		check()
	}
	for _, d := range c.Databases {
		if d.State == "RESTORING" && (c.Old == nil || d.ID != c.Old.ID) {
			c.warn("Q25", "", "database %s on this server is RESTORING: somebody's restore of it is not finished", d.Name)
		}
	}
	return c.findings, c.rooms
}

// checkServer: can this server take the backups at all?
func (c *checking) checkServer() {
	if c.At.Engine < 2 || c.At.Engine > 4 {
		c.forbid("S-edition", "restore to a SQL Server of your own", "%s is a managed service, which takes no backups from devices", c.At.Name)
	}
	if !c.At.SysAdmin {
		c.forbid("Q5", "add the login to the server role sysadmin", "the login is not in the server role sysadmin")
	}
	if c.Last == nil {
		return
	}
	theirs := facts.Instance{Version: c.Last.ServerVersion}
	switch {
	case theirs.Major() > c.At.Major() && c.At.Major() > 0:
		c.forbid("P-version", "restore to a server of that version or a newer one", "the backups are of SQL Server %s, and %s runs %s: an older server does not restore what a newer one backed up", c.Last.ServerVersion, c.At.Name, c.At.Version)
	case theirs.Major() > 0 && theirs.Major() < c.At.Major() && c.Plan.End == plan.Standby:
		c.forbid("P-standby", "use --state recovery or norecovery", "the backups are of SQL Server %s: a server of another version upgrades the database when it opens it, and a standby database cannot be upgraded", c.Last.ServerVersion)
	case theirs.Major() > 0 && theirs.Major() < c.At.Major():
		c.warn("P-version", "", "the backups are of SQL Server %s: the database is upgraded to %s, and there is no way back to the older version", c.Last.ServerVersion, c.At.Version)
	}
	var data int64
	for _, f := range c.Plan.Files {
		if f.Type == 0 {
			data += f.Bytes
		}
	}
	if c.At.Engine == 4 && data > expressBytes {
		c.forbid("P-edition", "restore to an edition without that limit", "the data files have %d bytes, and %s of %s takes at most %d", data, c.At.Edition, c.At.Name, int64(expressBytes))
	}
}

// system are SQL Server's own databases, each with its rules.
var system = map[string]bool{"master": true, "model": true, "msdb": true, "tempdb": true}

// checkSystem: SQL Server's own databases.
func (c *checking) checkSystem() {
	name := strings.ToLower(c.Plan.Database)
	switch {
	case !system[name]:
		return
	case name == "tempdb":
		c.forbid("M4", other, "tempdb is made anew at every start; it is never restored")
	case name == "master" && c.stranger():
		c.forbid("P-master", other, "master is SQL Server's own database, which no other can take the place of")
	case c.stranger():
		c.forbid("P-system", other, "%s is SQL Server's own database, which no other can take the place of", name)
	case name == "master":
		c.forbid("P-master", `extract it under another name with --as NAME and take from it what you need; or, to replace it: start SQL Server with -m, RESTORE DATABASE master FROM a file (holdfast dump POINT stream-0 writes it) WITH REPLACE, start again`,
			"master is restored only by a server that runs in single-user mode, which stops itself afterwards")
	case c.Elsewhere:
		c.forbid("P-system", "extract it under another name with --as NAME", "%s is of another server", name)
	case c.Last != nil && build(c.Last.ServerVersion) != build(c.At.Version):
		c.forbid("P-system", "extract it under another name with --as NAME", "%s of build %s cannot replace that of build %s", name, c.Last.ServerVersion, c.At.Version)
	case len(c.Wish.Moves) > 0 || c.Plan.End != plan.Recovery:
		c.forbid("P-system", "leave --move and --state away", "%s stays in its place and is recovered", name)
	}
}

// other is the way out for what has a name that cannot be its own.
const other = "choose another name with --as"

// stranger tells whether what is restored is another database than the one of SQL Server's
// own that has the name.
func (c *checking) stranger() bool {
	return c.Last != nil && !strings.EqualFold(c.Last.Database, c.Plan.Database)
}

// never tells whether nothing at all is restored over what has the name, which
// checkSystem has said.
func (c *checking) never() bool {
	name := strings.ToLower(c.Plan.Database)
	return name == "tempdb" || name == "master" || system[name] && c.stranger()
}

// build is a version as far as backup sets tell it: its first three numbers.
func build(version string) string {
	parts := strings.Split(version, ".")
	return strings.Join(parts[:min(len(parts), 3)], ".")
}

// checkOld: may the database that exists be overwritten?
func (c *checking) checkOld() {
	d := c.Old
	if d == nil || c.never() {
		return
	}
	replace := c.Wish.Replace
	switch {
	case d.Mirroring != "":
		c.forbid("Q10", "end the mirroring first (ALTER DATABASE … SET PARTNER OFF), and set it up again afterwards", "database %s is mirrored", d.Name)
	case d.Replica != "":
		c.forbid("X5", "take it out of its group first (ALTER AVAILABILITY GROUP … REMOVE DATABASE), and join it again afterwards", "database %s is in an availability group", d.Name)
	case d.SnapshotOf != 0:
		c.forbid("P-snapshot", "choose another name with --as", "%s is a database snapshot", d.Name)
	}
	for _, s := range c.Databases {
		if s.SnapshotOf == d.ID {
			c.forbid("P-snapshot", "drop the snapshots first: DROP DATABASE", "database %s has the snapshot %s", d.Name, s.Name)
		}
	}
	switch {
	case c.Continue && (c.Family == "" || c.ours() == "") && !replace:
		c.forbid("P-family", "--replace instead of --continue begins anew and overwrites it; --as NAME chooses another name", "database %s is %s, and nobody tells whose backups were restored there", d.Name, d.State)
		return
	case c.Continue:
		if !c.sameFamily() {
			c.forbid("P-family", "restore under another name with --as", "database %s is of another family than the backups", d.Name)
		}
		return
	case d.State == "RESTORING" && !replace:
		c.forbid("P-restoring", "--continue goes on with it, --replace begins anew, --as NAME chooses another name", "database %s is RESTORING already", d.Name)
		return
	case !replace:
		c.forbid("P-exists", "--replace overwrites it, --as NAME chooses another name", "database %s exists", d.Name)
		return
	case !c.sameFamily() && c.Tail:
		c.warn("P-family", "", "database %s is another one than that of the backups; it is overwritten, and the tail of its log becomes a point of its own", d.Name)
	case !c.sameFamily():
		c.warn("P-family", "", "database %s is another one than that of the backups; it is overwritten, and what no backup of it holds is lost", d.Name)
	}
	c.checkTail()
}

// checkTail: is what the database holds since its last backup accounted for?
func (c *checking) checkTail() {
	d := c.Old
	switch {
	case c.NoTail && d.ID != 1 && d.ID != 2 && d.State != "RESTORING" && !d.Standby: // whatever its model: no backup holds it
		c.warn("P-tail", "", "what changed in database %s since its last backup is given up", d.Name)
	case c.NoTail || c.Tail || d.ID == 1 || d.ID == 2: // master has no log backups, tempdb nothing to keep
	case c.Orphan:
		c.checkOrphan()
	case d.State != "ONLINE" && d.State != "RESTORING" && d.Model != "SIMPLE":
		c.forbid("P-tail", fmt.Sprintf("bring it online; or save its log by hand (BACKUP LOG %s TO DISK = … WITH NO_TRUNCATE); or give it up with --no-tail", facts.Quote(d.Name)),
			"database %s is %s: the tail of its log cannot be backed up", d.Name, d.State)
	case c.HasTail:
		c.forbid("P-tail", "back it up first, or give it up with --no-tail", "nobody can back up the tail of the log of %s", d.Name)
	case d.State == "ONLINE" && !d.Standby:
		c.warn("P-tail", "", "database %s has no log that could be backed up: what changed in it since its last backup is lost", d.Name)
	case d.State != "ONLINE" && d.State != "RESTORING":
		c.warn("P-tail", "", "database %s is %s, and has no log that could be backed up: what changed in it since its last backup is lost", d.Name, d.State)
	}
}

// checkUse: does somebody use it?
func (c *checking) checkUse() {
	if len(c.Sessions) == 0 || c.never() { // in master are our own
		return
	}
	var who []string
	for i, s := range c.Sessions {
		if i == 3 {
			who = append(who, "…")
			break
		}
		who = append(who, strings.TrimSpace(fmt.Sprintf("%d %s %s", s.ID, s.Login, s.Program)))
	}
	use := "sessions use"
	if len(c.Sessions) == 1 {
		use = "session uses"
	}
	text := fmt.Sprintf("%d %s database %s: %s", len(c.Sessions), use, c.Old.Name, strings.Join(who, ", "))
	switch {
	case c.Old.System():
		c.forbid("P-use", "end them; for msdb stop SQL Server Agent", "%s", text)
	case !c.Wish.Kick:
		c.forbid("P-use", "--kick-users throws them out", "%s", text)
	default:
		c.warn("P-use", "", "%s; whoever does is thrown out", text)
	}
}

// checkRooms: is there room where the files go?
func (c *checking) checkRooms() {
	by := map[string]int{}
	room := func(path string) *Room {
		for _, v := range c.Volumes {
			if !strings.HasPrefix(chain.PathKey(path), chain.PathKey(v.Volume)) {
				continue
			}
			i, is := by[v.Volume]
			if !is {
				i = len(c.rooms)
				by[v.Volume] = i
				c.rooms = append(c.rooms, v)
			}
			return &c.rooms[i]
		}
		return nil
	}
	for _, f := range c.Plan.Files {
		if v := room(f.To); v != nil {
			v.Needed += f.Bytes
			continue
		}
		c.warn("P-room", "", "it is not known how much room there is for %s", f.To)
	}
	if c.Old != nil && c.Full != nil {
		for _, f := range c.Old.Files {
			if v := room(f.Path); v != nil && f.Drop.IsZero() {
				v.Freed += f.Pages * 8192
			}
		}
	}
	for _, v := range c.rooms {
		if v.Needed > v.Free+v.Freed {
			c.forbid("P-room", "make room, or put files elsewhere with --move LOGICAL=PATH", "the files need %d bytes on %s, and %d are free", v.Needed, v.Volume, v.Free+v.Freed)
		}
	}
}

// checkKeys: can the server decrypt the database?
func (c *checking) checkKeys() {
	for _, b := range Protectors(c.Plan, c.Backups) {
		if !c.Keys[strings.ToUpper(b.Protector)] {
			c.forbid("Q17", "bring that certificate with its private key into master there: CREATE CERTIFICATE … FROM FILE … WITH PRIVATE KEY",
				"the database is encrypted, and %s has no certificate %swith the thumbprint %s", c.At.Name, named(b.Certificate), b.Protector)
		}
	}
}

// named is a name and a blank, or nothing.
func named(name string) string {
	if name == "" {
		return ""
	}
	return facts.Quote(name) + " "
}

// Protectors are backups of the plan, one for each certificate that it needs: an
// encryption key may have been locked with another one in between, and then the full
// needs the old one and the logs the new one.
func Protectors(p *plan.Plan, backups []chain.Backup) (need []chain.Backup) {
	for _, s := range p.Steps {
		i := slices.IndexFunc(backups, func(b chain.Backup) bool { return b.Point == s.Point })
		if i < 0 || backups[i].Protector == "" {
			continue
		}
		if !slices.ContainsFunc(need, func(b chain.Backup) bool { return strings.EqualFold(b.Protector, backups[i].Protector) }) {
			need = append(need, backups[i])
		}
	}
	return need
}

// checkFiles: may each file be made where it is to go?
func (c *checking) checkFiles() {
	for _, f := range c.Plan.Files {
		c.checkFile(f)
	}
	for name := range c.Wish.Moves {
		if !slices.ContainsFunc(c.Plan.Files, func(f plan.Place) bool { return strings.EqualFold(f.File, name) }) {
			c.forbid("P-move", "the plan names the files", "--move names file %q, which the backups do not have", name)
		}
	}
}

func (c *checking) checkFile(f plan.Place) {
	const move = "put it elsewhere with --move LOGICAL=PATH"
	n := len([]rune(f.To))
	p, known := c.Paths[chain.PathKey(f.To)]
	owner := Owner(c.Databases, f.To)
	switch {
	case n > longestPath:
		c.forbid("Q23", move, "the path of file %s has %d characters, more than %d: %s", f.File, n, longestPath, f.To)
	case !absolute(f.To):
		c.forbid("P-path", move, "file %s would go to %q, which is no whole path", f.File, f.To)
	case owner != "" && (c.Old == nil || owner != c.Old.Name):
		c.forbid("P-file", move, "file %s would go to %s, which belongs to database %s", f.File, f.To, owner)
	case !known && owner == "" && c.Overwrites: // which would overwrite whatever is there
		c.forbid("P-file", "let the login run master.dbo.xp_fileexist; or leave --replace away, so that SQL Server itself refuses a file that exists", "it is not known what is at %s, and WITH REPLACE would overwrite it", f.To)
	case !known:
		c.warn("P-file", "", "it is not known what is at %s", f.To)
	case p.IsDirectory && (f.Type != fileStream || owner == ""):
		c.forbid("P-path", move, "file %s would go to %s, which is a directory", f.File, f.To)
	case p.Exists && owner == "":
		c.forbid("P-file", "remove it, or "+move, "file %s would go to %s, where there is a file of nobody known", f.File, f.To)
	case !p.HasParent && !p.Exists:
		c.forbid("P-path", "make the directory, or "+move, "file %s would go to %s: its directory does not exist", f.File, f.To)
	}
}

// Owner is the database that has a file at that path, "" if none has.
func Owner(databases []facts.Database, path string) string {
	for _, d := range databases {
		for _, f := range d.Files {
			if chain.PathKey(f.Path) == chain.PathKey(path) && f.Drop.IsZero() {
				return d.Name
			}
		}
	}
	return ""
}

// checkUndo: may the undo file of a standby database be made?
func (c *checking) checkUndo() {
	path := c.Wish.UndoFile
	p, known := c.Paths[chain.PathKey(path)]
	// It may be of last time, which goes with the next log; if it does not, it is spared then.
	own := c.Continue && c.Old != nil && c.Old.Standby && !p.IsDirectory
	owner := Owner(c.Databases, path)
	switch {
	case c.Plan.End != plan.Standby:
	case !absolute(path):
		c.forbid("P-undo", "give a path of the server's with --undo-file", "the undo file %q is no whole path", path)
	case owner != "":
		c.forbid("P-undo", "name another --undo-file", "the undo file would be %s, which belongs to database %s", path, owner)
	case slices.ContainsFunc(c.Plan.Files, func(f plan.Place) bool { return chain.PathKey(f.To) == chain.PathKey(path) }):
		c.forbid("P-undo", "name another --undo-file", "the undo file would be %s, which is a file of the database itself", path)
	case !known:
		c.forbid("P-undo", "let the login run master.dbo.xp_fileexist", "it is not known what is at %s, and the undo file would overwrite it", path)
	case (p.Exists || p.IsDirectory) && !own:
		c.forbid("P-undo", "name another --undo-file", "the undo file %s exists already", path)
	case !p.HasParent && !p.Exists:
		c.forbid("P-undo", "make the directory, or name another --undo-file", "the directory of the undo file %s does not exist", path)
	}
}

// absolute tells whether a path is whole, on Windows or elsewhere.
func absolute(path string) bool {
	switch {
	case strings.HasPrefix(path, "/"), strings.HasPrefix(path, `\\`):
		return true
	case len(path) > 3 && path[1] == ':':
		return path[2] == '\\' || path[2] == '/'
	}
	return false
}

// sameFamily tells whether the database that exists may be of the backups' family.
func (c *checking) sameFamily() bool {
	return c.Family == "" || c.ours() == "" || c.Family == c.ours()
}

// ours is the backups' family. The plan may have none of them: a database that is gone on
// with may stand where they end.
func (c *checking) ours() string {
	for _, b := range slices.Backward(c.Backups) {
		if b.Family != "" {
			return b.Family
		}
	}
	return ""
}
