package index

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/zeebo/blake3"

	"holdfast/repo/index/segment"
)

// A local file is a segment, followed by the names of the repository's segments
// that it stands for (JSON) and by a tail of 32 bytes:
//
//	tail   magic HFLOCAL1 ‖ segment bytes u64 ‖ zeros 8 ‖ check u64 (xxhash64 of names ‖ the rest of the tail)
//
// Knowing which packs each name brought is what allows a segment that is gone
// to be taken out of a merged file again.
const (
	localMagic  = "HFLOCAL1"
	tailBytes   = 32
	localSuffix = ".idx"
	tempPattern = "*.tmp"

	// staleTemp is how much older than a new temporary file another must be
	// before it counts as the leaving of a dead process.
	staleTemp = 24 * time.Hour
)

// named is a segment name of the repository and its packs' ordinals in a shard.
type named struct {
	Name  string   `json:"name"`
	Packs []uint32 `json:"packs"`
}

// shard is an open local file, or the same in memory. The list of parts uses it,
// and so may some Marks; who ends the last use closes the file.
type shard struct {
	seg   *Segment
	names []named
	file  io.Closer // nil in memory
	bad   atomic.Bool

	mu   sync.Mutex // guards what follows
	path string     // "" in memory, and when another file has taken the name
	uses int
	drop bool // remove the file when it is closed
}

// cover adds the shard's names to covered.
func (s *shard) cover(covered map[string]bool) {
	for _, n := range s.names {
		covered[n.Name] = true
	}
}

// coveredBy reports whether all the shard's names are in covered.
func (s *shard) coveredBy(covered map[string]bool) bool {
	return !slices.ContainsFunc(s.names, func(n named) bool { return !covered[n.Name] })
}

// liveIn tells which packs any of the wanted names lists.
func (s *shard) liveIn(wanted map[string]bool) []bool {
	live := make([]bool, len(s.seg.Packs()))
	for _, n := range s.names {
		if wanted[n.Name] {
			for _, i := range n.Packs {
				live[i] = true
			}
		}
	}
	return live
}

// condemn marks a damaged shard, and takes its file away so that no later
// process trusts it. Where an open file cannot be removed, discard or close
// does it.
func (s *shard) condemn() {
	if s.bad.Swap(true) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop = s.remove() != nil
}

func (s *shard) condemned() bool { return s.bad.Load() }

// remove takes the file away, if there is one. mu is held.
func (s *shard) remove() error {
	if s.path == "" {
		return nil
	}
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.path = "" // the name may be another file's from now on
	return nil
}

// where is the file's path, "" if it has none any more.
func (s *shard) where() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.path
}

// disown says that another file of the same content has taken the name.
func (s *shard) disown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.path = ""
}

// hold begins one more use.
func (s *shard) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uses++
}

// close ends one use.
func (s *shard) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.uses--; s.uses > 0 || s.file == nil {
		return nil
	}
	err := s.file.Close()
	if s.drop {
		_ = s.remove()
	}
	return err
}

// discard ends the use of a shard that the list of parts needs no more, and
// removes its file. That may fail while another process has it open on Windows;
// whoever opens the directory next finds it redundant.
func (s *shard) discard() {
	s.mu.Lock()
	// At once where an open file can be removed: a new one may get its name.
	s.drop = s.remove() != nil
	s.mu.Unlock()
	_ = s.close()
}

// store is the directory of local files; "" stands for memory.
type store struct{ dir string }

// load opens all local files, largest first. Damaged ones are deleted.
func (st store) load(log *slog.Logger) ([]*shard, error) {
	if st.dir == "" {
		return nil, nil
	}
	if err := os.MkdirAll(st.dir, 0o700); err != nil {
		return nil, err
	}
	files, err := os.ReadDir(st.dir)
	if err != nil {
		return nil, err
	}
	var shards []*shard
	for _, f := range files {
		if f.IsDir() || !strings.HasSuffix(f.Name(), localSuffix) {
			continue
		}
		path := filepath.Join(st.dir, f.Name())
		s, err := openFile(path)
		switch {
		case errors.Is(err, ErrCorrupt), errors.Is(err, ErrConservation):
			log.Warn("local index file damaged", "file", path, "error", err)
			_ = os.Remove(path)
		case errors.Is(err, fs.ErrNotExist): // merged away by another process just now
		case err != nil:
			for _, s := range shards {
				_ = s.close()
			}
			return nil, err
		default:
			shards = append(shards, s)
		}
	}
	slices.SortStableFunc(shards, func(a, b *shard) int { return b.seg.Len() - a.seg.Len() })
	return shards, nil
}

func openFile(path string) (*shard, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		var s *shard
		if s, err = openShard(f, info.Size()); err == nil {
			s.file, s.path = f, path
			return s, nil
		}
	}
	_ = f.Close()
	return nil, fmt.Errorf("open %s: %w", filepath.Base(path), err)
}

// openShard reads tail, names and the segment's lists.
func openShard(r io.ReaderAt, size int64) (*shard, error) {
	if size < tailBytes {
		return nil, fmt.Errorf("%d bytes: %w", size, ErrCorrupt)
	}
	var tail [tailBytes]byte
	if err := segment.ReadAt(r, tail[:], size-tailBytes); err != nil {
		return nil, err
	}
	segBytes := binary.LittleEndian.Uint64(tail[8:])
	if string(tail[:8]) != localMagic || segBytes > uint64(size-tailBytes) {
		return nil, fmt.Errorf("bad tail: %w", ErrCorrupt)
	}
	list := make([]byte, size-tailBytes-int64(segBytes))
	if err := segment.ReadAt(r, list, int64(segBytes)); err != nil {
		return nil, err
	}
	if tailCheck(list, tail[:]) != binary.LittleEndian.Uint64(tail[24:]) {
		return nil, fmt.Errorf("names: bad check: %w", ErrCorrupt)
	}
	seg, err := segment.Open(io.NewSectionReader(r, 0, int64(segBytes)), int64(segBytes))
	if err != nil {
		return nil, err
	}
	names, err := getNames(list, len(seg.Packs()))
	return &shard{seg: seg, names: names, uses: 1}, err
}

func tailCheck(list, tail []byte) uint64 {
	h := xxhash.New()
	_, _ = h.Write(list)
	_, _ = h.Write(tail[:24])
	return h.Sum64()
}

// getNames reads the names of a local file; ordinals must be below packs.
func getNames(b []byte, packs int) ([]named, error) {
	var names []named
	if err := json.Unmarshal(b, &names); err != nil {
		return nil, fmt.Errorf("names: %v: %w", err, ErrCorrupt)
	}
	for _, n := range names {
		if len(n.Packs) > 0 && int64(slices.Max(n.Packs)) >= int64(packs) {
			return nil, fmt.Errorf("packs of %s: %w", n.Name, ErrCorrupt)
		}
	}
	return names, nil
}

// take stores a segment of the repository, after holding it against the law.
func (st store) take(name string, content []byte) (*shard, error) {
	data := memory(content)
	seg, err := segment.Open(&data, int64(len(content)))
	if err != nil {
		return nil, err
	}
	if err := seg.Verify(); err != nil {
		return nil, err
	}
	fill := func(w io.Writer) (int64, error) {
		n, err := w.Write(content)
		return int64(n), err
	}
	return st.create(fill, func(seg *Segment) []named {
		n := named{Name: name, Packs: make([]uint32, len(seg.Packs()))}
		for i := range n.Packs {
			n.Packs[i] = uint32(i)
		}
		return []named{n}
	})
}

// createTries is how often create begins again when another process has found
// the new file redundant and removed it before it could be opened.
const createTries = 10

// create makes a local file of the segment that fill writes, returning its
// size, and the names that belong to it.
func (st store) create(fill func(io.Writer) (int64, error), names func(*Segment) []named) (*shard, error) {
	if st.dir == "" {
		var m memory
		if _, err := write(&m, fill, names); err != nil {
			return nil, err
		}
		return openShard(&m, int64(len(m)))
	}
	for try := 1; ; try++ {
		s, err := st.createFile(fill, names)
		if try == createTries || !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
	}
}

func (st store) createFile(fill func(io.Writer) (int64, error), names func(*Segment) []named) (*shard, error) {
	// Anyone may empty a cache at any time, the directory included.
	if err := os.MkdirAll(st.dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(st.dir, tempPattern)
	if err != nil {
		return nil, err
	}
	st.sweep(f)
	base, err := write(f, fill, names)
	// Closed before the rename, since Windows does not move an open file. No
	// sync: after a crash the checks find out what is missing.
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return nil, err
	}
	path := filepath.Join(st.dir, base+localSuffix)
	if os.Rename(f.Name(), path) != nil {
		// On Windows a file of that name cannot be replaced while someone has
		// it open. A second one is harmless: the next OpenLocal drops it.
		path = strings.TrimSuffix(f.Name(), filepath.Ext(f.Name())) + localSuffix
		if err := os.Rename(f.Name(), path); err != nil {
			_ = os.Remove(f.Name())
			return nil, err
		}
	}
	return openFile(path)
}

// sink is a file, or memory.
type sink interface {
	io.Writer
	io.ReaderAt
}

// write puts segment, names and tail into w, and returns a file name made from
// the content: the same packs under the same names have the same one.
func write(w sink, fill func(io.Writer) (int64, error), names func(*Segment) []named) (string, error) {
	buffered := bufio.NewWriterSize(w, 256<<10)
	segBytes, err := fill(buffered)
	if err = errors.Join(err, buffered.Flush()); err != nil {
		return "", err
	}
	seg, err := segment.Open(w, segBytes)
	if err != nil {
		return "", err
	}
	end, err := json.Marshal(names(seg))
	if err != nil {
		return "", err
	}
	var tail [tailBytes]byte
	copy(tail[:], localMagic)
	binary.LittleEndian.PutUint64(tail[8:], uint64(segBytes))
	binary.LittleEndian.PutUint64(tail[24:], tailCheck(end, tail[:]))
	end = append(end, tail[:]...)
	if _, err := w.Write(end); err != nil {
		return "", err
	}
	h := blake3.New()
	for _, p := range seg.Packs() {
		b, _ := p.AppendBinary(nil)
		_, _ = h.Write(b)
	}
	_, _ = h.Write(end)
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// sweep removes temporary files that are much older than the new one, by the
// file system's own clock. Removing one in use costs its owner a merge.
func (st store) sweep(fresh *os.File) {
	now, err := fresh.Stat()
	old, _ := filepath.Glob(filepath.Join(st.dir, tempPattern))
	for _, path := range old {
		if at, atErr := os.Stat(path); errors.Join(err, atErr) == nil && now.ModTime().Sub(at.ModTime()) > staleTemp {
			_ = os.Remove(path)
		}
	}
}

// memory is a file in memory.
type memory []byte

func (m *memory) Write(b []byte) (int, error) {
	*m = append(*m, b...)
	return len(b), nil
}

// ReadAt reads like a file.
func (m *memory) ReadAt(b []byte, at int64) (int, error) { return bytes.NewReader(*m).ReadAt(b, at) }
