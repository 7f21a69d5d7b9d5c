package cmd

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// source is one parsed Go file of the project.
type source struct {
	file    string // slash-separated, from the module's root
	pkg     string // its folder: "", "cmd", "repo/pack"
	test    bool
	imports []string
	syntax  *ast.File
}

// sources parses every Go file of the module, whatever system it is built for.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	root := ".."
	set := token.NewFileSet()
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && file != root && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_")) {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(file) != ".go" {
			return nil
		}
		syntax, err := parser.ParseFile(set, file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		s := source{file: filepath.ToSlash(rel), test: strings.HasSuffix(file, "_test.go"), syntax: syntax}
		if s.pkg = path.Dir(s.file); s.pkg == "." {
			s.pkg = ""
		}
		for _, i := range syntax.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, name)
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// drivers are the top-level folders that know a foreign system.
var drivers = []string{"vmware", "sqlguest"}

func within(pkg, folder string) bool { return pkg == folder || strings.HasPrefix(pkg, folder+"/") }

func isDriver(pkg string) bool {
	return slices.ContainsFunc(drivers, func(d string) bool { return within(pkg, d) })
}

func top(pkg string) string { first, _, _ := strings.Cut(pkg, "/"); return first }

// isLab reports whether pkg is a practice system or belongs to one.
func isLab(pkg string) bool { return slices.Contains(strings.Split(pkg, "/"), "lab") }

// forbidden tells why a file of package from must not import package to of the
// project; "" when it may. The layers go one way:
//
//	main → cmd → drivers → { backup, restore } → repo → repo/* → repo/{blob,backend}
func forbidden(from, to string, test bool) string {
	switch {
	case from == "":
		if to != "cmd" {
			return "main hands over to cmd and does nothing else"
		}
	case top(to) == "cmd" && top(from) != "cmd":
		return "cmd joins the parts; a part that knows cmd cannot be used without it"
	case from == "cmd/ui":
		return "the terminal shows what it is told and knows nothing of the project"
	case isLab(to) && !isLab(from) && !test && top(from) != "cmd":
		return "a lab is for tests and the demo; the program must work without one"
	case top(from) == "cmd":
	case isDriver(from) && isDriver(to) && top(from) != top(to):
		return "drivers never know each other: one must be usable, and removable, without the other"
	case isDriver(from):
	case isDriver(to):
		return "the engine knows no foreign system: drivers bring sources and targets to it"
	case from == "backup" && top(to) == "restore", from == "restore" && top(to) == "backup":
		return "backup and restore meet in the repository only, so that either can change alone"
	case top(from) == "backup", top(from) == "restore":
	case top(from) == "repo" && top(to) != "repo":
		return "the repository is the bottom: it imports only its own folders"
	case from == "repo/blob":
		return "blob holds the nouns that all share, and is a leaf"
	case from == "repo/backend":
		return "the backend interface stands apart, beside no implementation"
	case from != "repo" && top(from) == "repo" && to == "repo" && !test:
		return "a layer of the repository must not know the whole that is made of it"
	}
	return ""
}

func TestImportsFollowTheLayers(t *testing.T) {
	for _, s := range sources(t) {
		for _, name := range s.imports {
			to, ours := strings.CutPrefix(name, "holdfast/")
			if !ours || to == s.pkg {
				continue
			}
			if why := forbidden(s.pkg, to, s.test); why != "" {
				t.Errorf("%s imports %s: %s", s.file, name, why)
			}
		}
	}
}

// The rule itself is tested: a test that forbids nothing would always pass.
func TestLayerRuleForbidsAndAllows(t *testing.T) {
	for _, c := range []struct {
		from, to string
		test, ok bool
	}{
		{"", "cmd", false, true}, {"", "repo", false, false},
		{"cmd", "vmware", false, true}, {"cmd", "vmware/lab", false, true}, {"cmd", "cmd/ui", false, true}, {"cmd", "repo/seal", false, true},
		{"cmd/ui", "backup", false, false}, {"repo", "cmd/ui", false, false},
		{"vmware", "sqlguest", false, false}, {"sqlguest/agent", "vmware/disk", false, false}, {"vmware", "vmware/vmdk", false, true},
		{"vmware", "backup", false, true}, {"vmware", "repo/recovery", false, true}, {"vmware", "vmware/lab", false, false}, {"vmware", "vmware/lab", true, true},
		{"vmware/lab", "vmware/vmdk", false, true}, {"vmware/lab", "vmware/lab/chain", false, true},
		{"backup", "restore", false, false}, {"restore", "backup", false, false}, {"backup", "repo", false, true}, {"backup", "vmware", false, false},
		{"repo", "repo/pack", false, true}, {"repo", "backup", false, false}, {"repo/pack", "repo", false, false}, {"repo/pack", "repo/blob", false, true},
		{"repo/backend/local", "repo/backend", false, true}, {"repo/blob", "repo/backend", false, false}, {"repo/backend", "repo/backend/local", false, false},
	} {
		if why := forbidden(c.from, c.to, c.test); (why == "") != c.ok {
			t.Errorf("%s → %s: %q", c.from, c.to, why)
		}
	}
}

// homes says which folders may import a foreign module, and why only they.
var homes = []struct {
	module  string
	folders []string
	why     string
}{
	{"github.com/spf13/cobra", []string{"cmd"}, "only cmd has flags"},
	{"github.com/spf13/pflag", []string{"cmd"}, "only cmd has flags"},
	{"github.com/spf13/viper", []string{"cmd"}, "only cmd has settings"},
	{"github.com/schollz/progressbar", []string{"cmd"}, "only cmd shows anything"},
	{"github.com/vmware/govmomi", []string{"vmware"}, "only its driver knows vSphere"},
	{"github.com/microsoft/go-mssqldb", []string{"sqlguest"}, "only its driver knows SQL Server"},
}

func TestForeignModulesStayAtHome(t *testing.T) {
	for _, s := range sources(t) {
		for _, name := range s.imports {
			for _, h := range homes {
				if within(name, h.module) && !slices.ContainsFunc(h.folders, func(f string) bool { return within(s.pkg, f) }) {
					t.Errorf("%s imports %s: %s", s.file, name, h.why)
				}
			}
		}
	}
}

// loud are the calls that only cmd and a program's main may make: a library is
// told what it needs and returns what it found.
var loud = map[string][]string{
	"os":  {"Exit", "Getenv", "LookupEnv", "Environ", "Stdout", "Stderr", "Stdin", "UserHomeDir", "UserCacheDir", "UserConfigDir"},
	"fmt": {"Print", "Printf", "Println"},
	"log": {"Print", "Printf", "Println", "Fatal", "Fatalf", "Fatalln", "Panic", "Panicf", "Panicln"},
}

func TestLibrariesDoNotPrintExitOrReadTheEnvironment(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || top(s.pkg) == "cmd" || s.syntax.Name.Name == "main" {
			continue
		}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := call.X.(*ast.Ident)
			if ok && slices.Contains(s.imports, pkg.Name) && slices.Contains(loud[pkg.Name], call.Sel.Name) {
				t.Errorf("%s uses %s.%s: libraries never print, exit or read the environment", s.file, pkg.Name, call.Sel.Name)
			}
			return true
		})
	}
}

// The doc comment of a package must teach: at least a sentence or two.
const packageCommentBytes = 80

func TestEveryPackageHasACommentThatTeaches(t *testing.T) {
	longest := map[string]int{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		longest[s.pkg] = max(longest[s.pkg], len(s.syntax.Doc.Text()))
	}
	for pkg, n := range longest {
		if n < packageCommentBytes {
			t.Errorf("package %q: its comment has %d bytes; say what it is for and how it is used", "holdfast/"+pkg, n)
		}
	}
}

func TestNoNameSaysNothing(t *testing.T) {
	empty := []string{"util", "utils", "common", "helper", "helpers", "manager", "handler", "types", "misc", "base", "internal", "pkg"}
	for _, s := range sources(t) {
		for part := range strings.SplitSeq(strings.TrimSuffix(strings.TrimSuffix(s.file, ".go"), "_test"), "/") {
			if slices.Contains(empty, part) {
				t.Errorf("%s: %q says nothing about what is in there", s.file, part)
			}
		}
	}
}
