package demo

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// imprint is the hash of every file of a folder by its slash-separated path.
type imprint map[string][sha256.Size]byte

// takeImprint hashes a repository's files: all but the quarantine, where a heal
// puts the damaged bytes aside, and tmp, where the store keeps what is no object.
func takeImprint(dir string) (imprint, error) {
	all := imprint{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if strings.HasPrefix(rel, "quarantine/") || strings.HasPrefix(rel, "tmp/") {
			return nil
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		hash := sha256.New()
		if _, err := io.Copy(hash, f); err != nil {
			return err
		}
		all[rel] = [sha256.Size]byte(hash.Sum(nil))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("hash the repository's files: %w", err)
	}
	return all, nil
}

// differences counts the files of before that are gone or other now.
func (before imprint) differences(now imprint) (n int) {
	for name, hash := range before {
		if now[name] != hash {
			n++
		}
	}
	return n
}

// harm is what was done to a repository.
type harm struct {
	burst   int64  // bytes overwritten in one piece
	pack    string // where
	sectors int    // other files with one overwritten sector
	deleted string // a file that is gone
}

// hurt damages a repository as disks do: one long burst in the largest pack,
// a bad sector in the middle of every other file, a file that is lost. Parity
// has to bring all of it back: a burst of three of a pack's data shards (of
// which there are 64, so a shard is about a seventieth of the file) is within
// the promise of FORMAT.md §3, and so is a sector of anything.
func hurt(dir string, files imprint) (harm, error) {
	h := harm{deleted: "config"}
	largest := int64(-1)
	names := slices.Sorted(maps.Keys(files))
	for _, name := range names {
		info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return h, err
		}
		if info.Size() > largest && strings.HasPrefix(name, "data/") {
			h.pack, largest = name, info.Size()
		}
	}
	h.burst = min(mib, largest/70/pageBytes*pageBytes*3)
	for _, name := range names {
		file := filepath.Join(dir, filepath.FromSlash(name))
		var err error
		switch {
		case name == h.pack:
			err = invert(file, h.burst)
		case name == h.deleted:
			err = os.Remove(file)
		default:
			h.sectors++
			err = invert(file, sectorBytes)
		}
		if err != nil {
			return h, fmt.Errorf("damage %s: %w", name, err)
		}
	}
	return h, nil
}

// invert turns over every bit of so many bytes in the middle of a file, which
// may be write-protected.
func invert(name string, bytes int64) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if err := os.Chmod(name, info.Mode()|0o200); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	off := max(0, info.Size()-bytes) / 2 / sectorBytes * sectorBytes
	p := make([]byte, min(bytes, info.Size()))
	if _, err := f.ReadAt(p, off); err != nil {
		return err
	}
	for i := range p {
		p[i] ^= 0xff
	}
	if _, err := f.WriteAt(p, off); err != nil {
		return err
	}
	return f.Chmod(info.Mode())
}
