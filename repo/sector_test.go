package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"sync"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend"

	"holdfast/repo/pack"
)

var errSector = errors.New("input/output error")

// sick is a store on a disk that refuses to read some sectors. Writing an
// object anew gives it good ones.
type sick struct {
	backend.Backend
	mu  sync.Mutex
	bad map[string][]int64 // offsets of refused sectors, by object

	dead string // an object that is refused altogether
}

func (s *sick) Get(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	data, err := s.Backend.Get(ctx, name, offset, length)
	s.mu.Lock()
	defer s.mu.Unlock()
	if name == s.dead {
		return nil, fmt.Errorf("get %s: %w", name, errSector)
	}
	for _, at := range s.bad[name] {
		if err == nil && at < offset+int64(len(data)) && offset < at+4096 {
			return nil, fmt.Errorf("get %s: %w", name, errSector)
		}
	}
	return data, err
}

func (s *sick) Put(ctx context.Context, name string, data []byte) error {
	err := s.Backend.Put(ctx, name, data)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.bad, name)
	}
	return err
}

// TestSectorsThatCannotBeReadHealLikeWrongOnes: each object in turn has one
// sector, of header, data or parity, that the disk refuses.
func TestSectorsThatCannotBeReadHealLikeWrongOnes(t *testing.T) {
	m := newMuseum(t, "standard")
	for kind, name := range m.pieces {
		whole := object(t, m.be, name)
		for at := int64(0); at < int64(len(whole)); at += 4096 {
			be := &sick{Backend: m.be, bad: map[string][]int64{name: {at}}}
			r, err := repo.Open(t.Context(), be, m.secret, options())
			if err != nil {
				t.Fatalf("%s, sector %d: %v", kind, at, err)
			}
			points, problems, err := r.Points(t.Context())
			if err != nil || len(problems) > 0 || len(points) != 1 {
				t.Fatalf("%s, sector %d: %v %v", kind, at, problems, err)
			}
			wantContent(t, r, points[0].Point, m.data)
			wantVerdict(t, check(t, r), repo.ErrHealable)
			r.Close()
			if rep := scrub(t, be, true); rep.Healed != 1 || len(be.bad) != 0 || !bytes.Equal(object(t, be, name), whole) {
				t.Errorf("%s, sector %d was not healed: %+v", kind, at, rep.Findings)
			}
			wantVerdict(t, scrub(t, be, true), nil)
		}
	}
}

// TestSixteenRefusedSectorsOfAFullPack heal, and a disk that refuses everything
// is said to be damaged.
func TestSixteenRefusedSectorsOfAFullPack(t *testing.T) {
	f := newFullPack(t)
	secret := keyOf(t, f)
	size := int64(len(object(t, f.be, f.name)))
	rng := mrand.New(mrand.NewPCG(5, 5))
	var bad []int64
	for range 16 {
		bad = append(bad, rng.Int64N(size/4096)*4096)
	}
	be := &sick{Backend: f.be, bad: map[string][]int64{f.name: bad}}
	r := openAt(t, be, secret)
	wantContent(t, r, f.big, f.data)
	be.dead = f.name
	if _, err := read(t.Context(), r, f.big); !errors.Is(err, errSector) {
		t.Errorf("reading from a dead disk: %v", err)
	}
	wantContent(t, r, f.small, f.few)
	wantVerdict(t, check(t, r), pack.ErrDamaged)
}
