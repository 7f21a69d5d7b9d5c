package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Version of the records below.
const Version = 1

// ErrVersion: the record was written by a newer program.
var ErrVersion = errors.New("record of a newer version")

// Session is the record that a writer begins with, and its heartbeats.
type Session struct {
	Version int       `json:"version"`
	SID     string    `json:"sid"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Source  string    `json:"source"`
}

// Entry is one maintenance decision.
type Entry struct {
	Version    int         `json:"version"`
	Horizon    uint32      `json:"horizon"`    // sessions with gen below it are settled
	Roll       uint32      `json:"roll"`       // sessions with a lower number in the roll are below the horizon
	Points     Pile        `json:"points"`     // sids below the horizon that are points
	Runs       []string    `json:"runs"`       // index segments that a compaction wrote
	Superseded []string    `json:"superseded"` // index segments that those replace
	Condemned  []Condemned `json:"condemned"`  // packs that may not be reused and will go
	Open       []Open      `json:"open"`       // sessions seen without a slot

	// Made is, by source, the highest number of a point that was forgotten as the newest
	// and has no slot any more: what the source makes next is numbered higher.
	Made map[string]int64 `json:"made,omitempty"`
}

// Condemned is a batch of packs condemned by one ledger entry. It waits until
// every session that may have reused its packs is settled; then it is going,
// and its packs stay named until they are seen to be gone.
type Condemned struct {
	Since   uint32   `json:"since"`
	Packs   []string `json:"packs"`
	Covered []string `json:"covered"`         // slots at or above the horizon that were examined for it; those below all were
	Going   bool     `json:"going,omitempty"` // its packs may be deleted by anybody at any time
}

// Open is a session without a slot, and how far its heartbeat had come.
type Open struct {
	SID   string `json:"sid"`
	Beats int    `json:"beats"`
}

// Slot is what stands in commit/: a point, or a revocation of the session.
type Slot struct {
	Version int             `json:"version"`
	Point   json.RawMessage `json:"point,omitempty"`
	Revoked *Revocation     `json:"revoked,omitempty"`
}

// Revocation ends a session that will not be heard of again.
type Revocation struct {
	By   string    `json:"by"`
	Time time.Time `json:"time"`
}

// Forget is a tombstone.
type Forget struct {
	Version int       `json:"version"`
	Time    time.Time `json:"time"`
	Reason  string    `json:"reason"`
}

// Label is a point's tags and pin.
type Label struct {
	Version int      `json:"version"`
	Tags    []string `json:"tags"`
	Pinned  bool     `json:"pinned"`
}

// Config describes the repository.
type Config struct {
	Version        int         `json:"version"`
	ID             string      `json:"id"`
	Created        time.Time   `json:"created"`
	Parity         string      `json:"parity"`
	DiskChunkBytes int64       `json:"disk_chunk_bytes"`
	Compression    string      `json:"compression"`
	Lock           *ObjectLock `json:"lock,omitempty"` // nil: objects are not locked
}

// ObjectLock says how the place is to lock each object as it is written.
type ObjectLock struct {
	Mode string `json:"mode"` // governance or compliance
	Days int    `json:"days"` // from then on, by the place's clock
}

// Decode reads a record and refuses one of another version.
func Decode[T any](payload []byte) (*T, error) {
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(payload, &head); err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	if head.Version != Version {
		return nil, fmt.Errorf("read record of version %d: %w", head.Version, ErrVersion)
	}
	v := new(T)
	if err := json.Unmarshal(payload, v); err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	return v, nil
}

// Payload is the entry's record, as json.Marshal writes it. Of half a million
// points it is 22 MB, and encoding/json would hold them three times.
func (e *Entry) Payload() ([]byte, error) {
	rest := *e
	rest.Points = nil
	text, err := json.Marshal(&rest)
	if err != nil {
		return nil, fmt.Errorf("write ledger entry: %w", err)
	}
	const field = `"points":`
	head, tail, found := bytes.Cut(text, []byte(field+"null"))
	if !found || e.Points == nil {
		return json.Marshal(e)
	}
	whole := append(make([]byte, 0, len(text)+len("[]")+e.Points.textBytes()), head...)
	whole = e.Points.appendList(append(whole, field...))
	return append(whole, tail...), nil
}

// IsVoid reports whether a session's slot counts for nothing: it is below the
// horizon and not among the points that the ledger knows.
func (e *Entry) IsVoid(sid SID) bool {
	return sid.Gen < e.Horizon && !slices.Contains(e.Points, sid.Pack())
}

// IsCondemned reports whether the pack of that name may not be reused.
func (e *Entry) IsCondemned(pack string) bool {
	for _, batch := range e.Condemned {
		if slices.Contains(batch.Packs, pack) {
			return true
		}
	}
	return false
}
