package backups

import (
	"slices"
	"strings"

	"holdfast/sqlguest/lab/backups/stream"
	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/storage/filesystem"
	"holdfast/sqlguest/lab/storage/message"
	"holdfast/sqlguest/server"
)

// longestPath is what Windows takes.
const longestPath = 259

// place says where each file of a data backup goes: files that the database has
// stay where they are unless MOVE says otherwise, others go where they were or where
// MOVE says. All problems are told, with 3119 behind them. old is the database that
// is overwritten or gone on with; nil for none.
func (r *restoring) place(old *storage.Database) ([]storage.File, error) {
	var problems []server.Message
	moves := map[string]string{}
	for logical, path := range r.o.Move {
		moves[fold(logical)] = path
	}
	var have []storage.File
	if old != nil {
		have = old.Info().Files
	}
	files := slices.Clone(r.h.Files)
	claimed := map[string]storage.File{}
	for i := range files {
		f := &files[i]
		path, moved := moves[fold(f.Logical)]
		delete(moves, fold(f.Logical))
		at := slices.IndexFunc(have, func(h storage.File) bool { return h.GUID == f.GUID && h.DropLSN.IsZero() })
		switch {
		case at >= 0 && r.h.BackupType != stream.TypeFull:
			f.Physical = have[at].Physical // a differential goes where its full lies
		case moved:
			f.Physical = path
		}
		problems = append(problems, r.problem(*f, have)...)
		if other, taken := claimed[filesystem.Key(f.Physical)]; taken {
			problems = append(problems, message.New(3176, f.Physical, f.Logical, f.ID, other.Logical, other.ID))
		}
		claimed[filesystem.Key(f.Physical)] = *f
	}
	for logical := range moves {
		problems = append(problems, message.New(3234, logical, r.h.DatabaseName))
	}
	if len(problems) > 0 {
		return nil, &server.Error{All: append(problems, message.New(3119))}
	}
	return files, nil
}

// problem says why a file cannot go where it should: the path is none (5133), it is
// another database's (1834), or a file is there (3142).
func (r *restoring) problem(f storage.File, have []storage.File) []server.Message {
	bad := message.New(3156, f.Logical, f.Physical)
	if !absolute(f.Physical) || len(f.Physical) > longestPath {
		return []server.Message{message.New(5133, f.Physical, "3(The system cannot find the path specified.)"), bad}
	}
	if slices.ContainsFunc(have, func(h storage.File) bool {
		return filesystem.Key(h.Physical) == filesystem.Key(f.Physical) && h.DropLSN.IsZero()
	}) {
		return nil // the database's own
	}
	for _, db := range r.s.Databases() {
		i := db.Info()
		for _, g := range i.Files {
			if filesystem.Key(g.Physical) == filesystem.Key(f.Physical) && g.DropLSN.IsZero() && !r.s.Same(i.Name, r.o.Database) {
				return []server.Message{message.New(1834, f.Physical, i.Name), bad}
			}
		}
	}
	if !r.o.Replace && r.s.o.FS.Exists(f.Physical) {
		return []server.Message{message.New(3142, f.Logical, f.Physical)}
	}
	return nil
}

func absolute(path string) bool {
	if strings.HasPrefix(path, "/") || strings.HasPrefix(path, `\\`) {
		return true
	}
	return len(path) > 3 && path[1] == ':' && (path[2] == '\\' || path[2] == '/')
}

// placer says where files go that a log adds: where MOVE says, or where they were.
func (r *restoring) placer() func(storage.File) storage.File {
	moves := map[string]string{}
	for logical, path := range r.o.Move {
		moves[fold(logical)] = path
	}
	return func(f storage.File) storage.File {
		if path, ok := moves[fold(f.Logical)]; ok {
			f.Physical = path
		}
		return f
	}
}
