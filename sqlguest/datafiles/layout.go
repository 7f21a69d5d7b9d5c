package datafiles

import (
	"fmt"
	"strings"
	"unicode"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/plan"
)

// Absolute tells whether a directory is a whole path of the server's, of Windows or of
// Linux.
func Absolute(dir string) bool {
	drive := len(dir) > 2 && dir[1] == ':' && (dir[2] == '\\' || dir[2] == '/')
	return drive || strings.HasPrefix(dir, `\\`) || strings.HasPrefix(dir, "/")
}

// separator is what stands between a path's parts, by the path.
func separator(path string) string {
	if strings.HasPrefix(path, "/") {
		return "/"
	}
	return `\`
}

func join(dir string, parts ...string) string {
	s := separator(dir)
	return strings.Join(append([]string{strings.TrimRight(dir, `/\`)}, parts...), s)
}

// split cuts a path into directory and file, whichever system it is of.
func split(path string) (dir, file string) {
	i := strings.LastIndexAny(path, `/\`)
	return path[:i+1], path[i+1:]
}

// layout gives each file its place.
func (x *work) layout(files []plan.Place) error {
	if !Absolute(x.run.Dir) {
		return fmt.Errorf("%q is not a whole path at the server: %w", x.run.Dir, ErrDirectory)
	}
	x.root = join(x.run.Dir, x.run.Point, x.run.Request)
	sets := map[string]string{} // by directory of origin (chain.PathKey)
	taken := map[string]bool{}
	for _, f := range files {
		dir, file := split(f.To)
		key := chain.PathKey(dir)
		if sets[key] == "" {
			set := fileset(dir)
			for n := 2; taken[strings.ToLower(set)]; n++ {
				set = fmt.Sprintf("%s-%d", fileset(dir), n)
			}
			sets[key], taken[strings.ToLower(set)] = set, true
			x.dirs = append(x.dirs, join(x.root, set))
		}
		to := join(x.root, sets[key], file)
		if n := len([]rune(to)); n > longest {
			return fmt.Errorf("%s would have %d characters, more than %d (rule Q23): %w", to, n, longest, ErrDirectory)
		}
		x.files = append(x.files, File{Path: to, Logical: f.File, Type: f.Type.String(), Was: f.To, Bytes: f.Bytes})
	}
	return nil
}

// fileset names a directory of origin by its last part.
func fileset(dir string) string {
	_, name := split(strings.TrimRight(dir, `/\`))
	name = strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("-_. ", r) {
			return r
		}
		return '_'
	}, name)
	const most = 32
	if runes := []rune(name); len(runes) > most {
		name = string(runes[:most])
	}
	if name = strings.Trim(name, " ."); name == "" {
		return "files"
	}
	return name
}

// attach is the statement that takes the files in under the database's name.
func (x *work) attach(database string) string {
	var files []string
	for _, f := range x.files {
		if f.Type == "rows" || f.Type == "log" {
			files = append(files, "(FILENAME = "+facts.Literal(f.Path)+")")
		}
	}
	return "CREATE DATABASE " + facts.Quote(database) + " ON " + strings.Join(files, ", ") + " FOR ATTACH"
}

// text is the list of files: UTF-8 with a byte order mark, for editors of Windows, and
// one line a file with tabs between its fields.
func (r *Result) text(point string) []byte {
	var b strings.Builder
	line := func(fields ...string) {
		for i, f := range fields {
			if i > 0 {
				b.WriteByte('\t')
			}
			b.WriteString(strings.Map(func(r rune) rune {
				if unicode.IsControl(r) {
					return '\uFFFD'
				}
				return r
			}, f))
		}
		b.WriteString("\r\n")
	}
	b.WriteString("\uFEFF")
	line(fmt.Sprintf("# Database %s of %s, as of point %s", r.Database, r.Source, point))
	line("# File", "Logical name", "Type", "Database", "Instance", "Original file")
	for _, f := range r.Files {
		line(f.Path, f.Logical, f.Type, r.Database, r.Server, f.Was)
	}
	line("# To attach them:")
	line(r.Attach)
	return []byte(b.String())
}
