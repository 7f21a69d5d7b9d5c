package sqlguest_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/mem"
	"holdfast/repo/seal"
	"holdfast/sqlguest"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab/bridge"
)

// hiccup is a place that does not answer for names with that in them.
type hiccup struct {
	*mem.Backend
	silent atomic.Pointer[string]
}

func (h *hiccup) Get(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	if s := h.silent.Load(); s != nil && strings.Contains(name, *s) {
		return nil, fmt.Errorf("get %s: %w", name, backend.ErrUnreachable)
	}
	return h.Backend.Get(ctx, name, offset, length)
}

// TestSQL153UnreachableIsNoHole: what the network kept from us is not missing: the run
// ends, and nothing is decided without it.
func TestSQL153UnreachableIsNoHole(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	be := &hiccup{Backend: mem.New()}
	file, err := seal.NewKeyFile(rand.Reader)
	w.must(err)
	secret, err := seal.ParseKeyFile(file)
	w.must(err)
	w.repo, err = repo.Init(t.Context(), be, repo.InitParams{Keys: []repo.NewKey{{Secret: secret}}}, repo.Options{Now: func() time.Time { return w.now }, Rand: rand.Reader, Host: "test", Program: "holdfast test", PID: 1})
	w.must(err)
	w.run(decide.Auto, "sales")
	all := w.backups("sales")
	last := all[len(all)-1].Point
	for _, what := range []string{"confirm/", "commit/"} {
		t.Run(what, func(t *testing.T) {
			silent := what
			be.silent.Store(&silent)
			defer be.silent.Store(nil)
			reader, err := repo.Open(t.Context(), be, secret, repo.Options{Now: func() time.Time { return w.now }, Rand: rand.Reader, Host: "test", Program: "holdfast test", PID: 1})
			if err == nil {
				was := w.repo
				w.repo = reader
				defer func() { w.repo = was }()
				r := w.job(decide.Auto, w.sql)
				r.Databases = []string{"sales"}
				var steps []sqlguest.Step
				steps, err = r.All(t.Context())
				for _, s := range steps {
					err = errors.Join(err, s.Err)
					if s.Point != nil {
						t.Errorf("stored %s by %s: %s", s.Decision.Do, s.Decision.Rule, s.Decision.Reason)
					}
				}
			}
			if !errors.Is(err, backend.ErrUnreachable) {
				t.Errorf("the run ends with %v", err)
			}
		})
	}
	if all = w.backups("sales"); all[len(all)-1].Point != last {
		t.Errorf("a point came: %s", all[len(all)-1].Rule)
	}
}
