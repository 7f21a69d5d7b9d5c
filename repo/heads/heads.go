// Package heads remembers, on this machine, the newest point that was made or seen
// of each source. A place of storage that hides or loses the newest manifest cannot
// be told from one that never had it by looking at the place alone; who has seen
// the point can tell (FORMAT.md §12). What was seen at one place says nothing of
// another: a copy of the repository, made as files, has the same id, and is behind
// the original from the next backup on.
package heads

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"holdfast/repo/ledger"
)

// fileName is the file of a place, by its location.
func fileName(place string) string {
	sum := sha256.Sum256([]byte(place))
	return "heads-" + hex.EncodeToString(sum[:8]) + ".json"
}

// Heads is the memory of one repository at one place. The zero value, and one without a folder,
// remembers nothing. It is a cache: a file that is lost or damaged is begun anew.
type Heads struct {
	mu   sync.Mutex
	path string
	seen map[string]string // src → sid; of a point that is missed: src/random part → sid
}

// Open reads what is remembered in dir, the folder of one repository, of the place
// of that location; dir "" is no folder.
func Open(dir, place string) *Heads {
	h := &Heads{seen: map[string]string{}}
	if dir == "" {
		return h
	}
	h.path = filepath.Join(dir, fileName(place))
	if text, err := os.ReadFile(h.path); err == nil {
		if json.Unmarshal(text, &h.seen) != nil || h.seen == nil {
			h.seen = map[string]string{}
		}
	}
	return h
}

// Saw remembers the newest point of its source.
func (h *Heads) Saw(sid ledger.SID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.path == "" || h.seen[sid.Src] == sid.String() {
		return nil
	}
	h.seen[sid.Src] = sid.String()
	return h.keep()
}

// Miss remembers a point that is gone beside the newest one that will be made of its
// source, until it is dropped.
func (h *Heads) Miss(sid ledger.SID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.path == "" || h.seen[missing(sid)] != "" {
		return nil
	}
	h.seen[missing(sid)] = sid.String()
	return h.keep()
}

func missing(sid ledger.SID) string { return sid.Src + "/" + sid.Rand }

// Drop forgets a point, if it is remembered.
func (h *Heads) Drop(sid ledger.SID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	known := len(h.seen)
	for _, key := range []string{sid.Src, missing(sid)} {
		if h.seen[key] == sid.String() {
			delete(h.seen, key)
		}
	}
	if h.path == "" || len(h.seen) == known {
		return nil
	}
	return h.keep()
}

// keep writes the file in one step.
func (h *Heads) keep() error {
	text, err := json.Marshal(h.seen)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(h.path), 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(h.path), "heads-*.tmp")
	if err != nil {
		return err
	}
	_, err = temp.Write(text)
	if closeErr := temp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(temp.Name(), h.path)
	}
	if err != nil {
		os.Remove(temp.Name())
		return fmt.Errorf("remember newest points: %w", err)
	}
	return nil
}

// Of are the remembered points: of src, or of all sources if it is empty, in a fixed
// order; one for each source.
func (h *Heads) Of(src string) []ledger.SID {
	return h.list(func(key string) bool { return !strings.Contains(key, "/") && (src == "" || src == key) })
}

// Missed are the points of which Miss was told, in a fixed order.
func (h *Heads) Missed() []ledger.SID {
	return h.list(func(key string) bool { return strings.Contains(key, "/") })
}

func (h *Heads) list(is func(key string) bool) []ledger.SID {
	h.mu.Lock()
	defer h.mu.Unlock()
	var seen []ledger.SID
	for _, key := range slices.Sorted(maps.Keys(h.seen)) {
		if sid, err := ledger.ParseSID(h.seen[key]); err == nil && is(key) {
			seen = append(seen, sid)
		}
	}
	return seen
}
