package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/plan/paths"
)

// FileType is sys.master_files' number for what a file holds. In JSON it is the word.
type FileType int

// String is rows, log, filestream or fulltext.
func (t FileType) String() string {
	if word, known := map[FileType]string{0: "rows", 1: "log", 2: "filestream", 4: "fulltext"}[t]; known {
		return word
	}
	return strconv.Itoa(int(t))
}

// MarshalText is String.
func (t FileType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// placing says where files go; each is placed by the first step that brings it.
type placing struct {
	o     *Options
	name  string            // the database's
	known map[string]int    // by identity, the place in files; -1 for what is there already
	taken map[string]string // chain.PathKey → logical name
	files []Place
	err   error
}

func newPlacing(o *Options, name string) *placing {
	p := &placing{o: o, name: name, known: map[string]int{}, taken: map[string]string{}}
	if o.Standing != nil {
		for _, f := range o.Standing.Files {
			p.known[identity(f)] = -1
			p.taken[chain.PathKey(f.Path)] = f.Name
		}
	}
	return p
}

// identity is what stays of a file when it is renamed or moved.
func identity(f chain.File) string { return fmt.Sprintf("%d %s", f.ID, f.GUID) }

const pageBytes = 8192

// moves are the MOVEs of one step: of its files that no step before it has brought.
// A log may bring files, too: those that were added while it was written.
func (p *placing) moves(b *chain.Backup) []Move {
	var list []Move
	for _, f := range b.Files {
		if !f.Drop.IsZero() {
			continue
		}
		if n, known := p.known[identity(f)]; known {
			if n >= 0 {
				p.files[n].Bytes = max(p.files[n].Bytes, f.Pages*pageBytes)
			}
			continue
		}
		p.known[identity(f)] = len(p.files)
		to := p.place(f)
		folded := chain.PathKey(to)
		if other, is := p.taken[folded]; is && p.err == nil && other != f.Name {
			p.err = fmt.Errorf("place file %s: %w: file %s goes to %s already", f.Name, ErrTarget, other, to)
		}
		p.taken[folded] = f.Name
		p.files = append(p.files, Place{Move: Move{f.Name, to}, Type: FileType(f.Type), Bytes: f.Pages * pageBytes})
		if to != f.Path {
			list = append(list, Move{f.Name, to})
		}
	}
	slices.SortStableFunc(list, func(a, b Move) int { return strings.Compare(a.File, b.File) })
	return list
}

// place is where a file goes: where MOVE says; else, with a new name or directory,
// to a path made of both that nobody has; else where it was.
func (p *placing) place(f chain.File) string {
	for file, to := range p.o.Moves {
		if strings.EqualFold(file, f.Name) {
			return to
		}
	}
	dir, base, separator := paths.Split(f.Path)
	target := p.o.DataDir
	if f.Type == 1 {
		target = p.o.LogDir
	}
	if target == "" && p.o.As == "" {
		return f.Path
	}
	if target != "" {
		dir, separator = strings.TrimRight(target, `\/`), `\`
		if strings.Contains(target, "/") {
			separator = "/"
		}
	}
	stem, extension := base, ""
	if dot := strings.LastIndexByte(base, '.'); dot >= 0 {
		stem, extension = base[:dot], base[dot:]
	}
	if p.o.As != "" {
		stem = p.stem(f)
	}
	return p.free(f, dir+separator, stem, extension)
}

// stem is a file's name in the new database: NAME, NAME_log, and with their id behind
// it for others.
func (p *placing) stem(f chain.File) string {
	name := paths.FileName(p.name)
	switch {
	case f.ID == 1:
		return name
	case f.ID == 2 && f.Type == 1:
		return name + "_log"
	}
	return fmt.Sprintf("%s_%d", name, f.ID)
}

// free is the first of a file's possible paths that no other file has. A name that
// would make the path too long is cut; what was cut still tells it apart.
func (p *placing) free(f chain.File, dir, stem, extension string) string {
	for n := 0; ; n++ {
		end := extension
		switch {
		case n == 1:
			end = fmt.Sprintf("_%d%s", f.ID, extension)
		case n > 1:
			end = fmt.Sprintf("_%d_%d%s", f.ID, n, extension)
		}
		path := dir + paths.Fit(stem, paths.Longest-len([]rune(dir+end))) + end
		folded := chain.PathKey(path)
		if _, taken := p.taken[folded]; !taken && !p.o.Taken[folded] {
			return path
		}
	}
}
