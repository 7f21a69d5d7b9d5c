package guest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Who stands in a descriptor: SYSTEM and the administrators, and all users.
const (
	system         = "SY"
	administrators = "BA"
)

// access is who may do what with a directory of a Windows guest: its owner and the
// entries of its own, which give full control to it and all that will be in it. What is
// above it is inherited unless it is protected.
type access struct {
	owner     string
	protected bool
	own       []string
}

// accessOf is the access to a directory of this machine's; the caller holds the lock.
func (g *Operations) accessOf(dir string) *access {
	if g.access[dir] == nil {
		g.access[dir] = &access{owner: administrators}
	}
	return g.access[dir]
}

// renewed forgets what a directory's access was: it is a new one, or gone.
func (g *Operations) renewed(dir string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.access, dir)
}

// Own makes a directory of the guest that user's, an identifier such as S-1-5-21-1,
// with full control for those of the list. All of it stands in the directory itself.
func (g *Operations) Own(id, path, user string, protected bool, full ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	*g.accessOf(inside(g.opt.Dir(id), path)) = access{owner: user, protected: protected, own: full}
}

// Descriptor is a directory's security descriptor in SDDL.
func (g *Operations) Descriptor(id, path string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.descriptor(inside(g.opt.Dir(id), path))
}

func (g *Operations) descriptor(dir string) string {
	a := g.accessOf(dir)
	text := "O:" + a.owner + "G:" + a.owner + "D:"
	if a.protected {
		text += "P"
	}
	text += "AI"
	for _, who := range a.own {
		text += "(A;OICI;FA;;;" + who + ")"
	}
	if a.protected {
		return text
	}
	if above := g.access[filepath.Dir(dir)]; above != nil {
		for _, who := range above.own {
			text += "(A;OICIID;FA;;;" + who + ")"
		}
		return text
	}
	return text + "(A;OICIID;FA;;;SY)(A;OICIID;FA;;;BA)(A;OICIID;0x1200a9;;;BU)(A;CIID;DCLCRPCR;;;BU)"
}

// icacls plays what is asked of it as Windows' own does: /grant:r replaces the entries
// of those it names and of nobody else, /inheritance:r takes away what is inherited and
// nothing else, /reset takes away all that is not.
func (g *Operations) icacls(dir string, args []string) int32 {
	if len(args) < 2 || !isDirectory(dir) {
		return 2 // ERROR_FILE_NOT_FOUND
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.accessOf(dir)
	for n := 1; n < len(args); n++ {
		switch args[n] {
		case "/setowner":
			n++
			a.owner = alias(args[n])
		case "/reset":
			a.own, a.protected = nil, false
		case "/inheritance:r":
			a.protected = true
		case "/grant:r":
			for ; n+1 < len(args) && args[n+1][0] == '*'; n++ {
				who, right, _ := strings.Cut(args[n+1], ":")
				if right != "(OI)(CI)F" {
					return 87 // ERROR_INVALID_PARAMETER
				}
				if !slices.Contains(a.own, alias(who)) {
					a.own = append(a.own, alias(who))
				}
			}
		default:
			return 87
		}
	}
	return 0
}

// alias is an identifier as SDDL writes it.
func alias(who string) string {
	switch who = strings.TrimPrefix(who, "*"); who {
	case "S-1-5-18":
		return system
	case "S-1-5-32-544":
		return administrators
	}
	return who
}

// asked is a command of PowerShell's that compares a directory's descriptor and ends
// with 0 if it is as the expression says, else with 3.
var asked = regexp.MustCompile(`^if \(\(Get-Acl -LiteralPath '(.*)'\)\.Sddl -cmatch '(.*)'\) \{ exit 0 \} else \{ exit 3 \}$`)

func (g *Operations) powershell(root string, a Account, args []string) int32 {
	if len(args) == 0 {
		return 1
	}
	said := asked.FindStringSubmatch(args[len(args)-1])
	if said == nil {
		return 1
	}
	dir := inside(root, strings.ReplaceAll(said[1], "''", "'"))
	want, err := regexp.Compile(said[2])
	if err != nil || !isDirectory(dir) || a.Filtered {
		return 3
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if want.MatchString(g.descriptor(dir)) {
		return 0
	}
	return 3
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
