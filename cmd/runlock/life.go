package runlock

import (
	"os"
	"path/filepath"
	"strings"
)

// Life is what proves this run's death to another one: the machine's present boot, the
// lock's own file, and its id. Neither a clone of the machine nor a copy of the file
// has the same. It is "" where the system does not tell enough.
func (l *Lock) Life() string {
	file := fileID(l.file)
	if bootID() == "" || file == "" {
		return ""
	}
	return strings.Join([]string{bootID(), file, l.Run.ID}, "/")
}

// Lives are those of the other runs of this machine whose locks are here.
func (l *Lock) Lives() (lives []string) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if e.Name() == l.Run.ID {
			continue
		}
		f, err := openLock(filepath.Join(l.dir, e.Name()))
		if err != nil {
			continue
		}
		if file := fileID(f); bootID() != "" && file != "" {
			lives = append(lives, strings.Join([]string{bootID(), file, e.Name()}, "/"))
		}
		_ = f.Close()
	}
	return lives
}

// Dead reports whether the run of that life has ended beyond doubt: it ran on this
// machine since it was started, its very lock is here, and nobody holds it. A run that
// is not known here is not dead, and a number of a process proves nothing.
func (l *Lock) Dead(life string) bool {
	parts := strings.Split(life, "/")
	if len(parts) != 3 || parts[0] == "" || parts[0] != bootID() || parts[2] != filepath.Base(parts[2]) || parts[2] == l.Run.ID {
		return false
	}
	f, err := openLock(filepath.Join(l.dir, parts[2]))
	if err != nil {
		return false
	}
	defer f.Close()
	if fileID(f) != parts[1] {
		return false
	}
	free, err := tryLock(f)
	return err == nil && free
}

// fileID names an open file among all of this boot, "" if the system does not tell.
func fileID(f *os.File) string {
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	return inode(info)
}
