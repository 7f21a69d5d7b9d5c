package trial_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"golang.org/x/sync/errgroup"

	"holdfast/repo"
	"holdfast/repo/backend/s3"
	"holdfast/repo/pack"
	"holdfast/repo/recovery"
)

// cachingProxy stands before an S3 server and answers LISTs as a cache that
// nobody has told anything does: from what it was answered before, at any earlier
// moment. What is asked for by name goes through.
type cachingProxy struct {
	server http.Handler

	mu     sync.Mutex
	rng    *rand.Rand
	past   map[string][]*httptest.ResponseRecorder // by query
	lies   bool
	served int // answers of the past
}

func (c *cachingProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet || !r.URL.Query().Has("list-type") {
		c.server.ServeHTTP(w, r)
		return
	}
	old := c.remembered(r.URL.RawQuery)
	if old == nil {
		old = httptest.NewRecorder()
		c.server.ServeHTTP(old, r)
		c.remember(r.URL.RawQuery, old)
	}
	maps.Copy(w.Header(), old.Header())
	w.WriteHeader(old.Code)
	_, _ = w.Write(old.Body.Bytes())
}

// remembered is an answer of the past, or nil if this one is to be true.
func (c *cachingProxy) remembered(query string) *httptest.ResponseRecorder {
	c.mu.Lock()
	defer c.mu.Unlock()
	past := c.past[query]
	if !c.lies || len(past) == 0 || c.rng.IntN(6) > 0 {
		return nil
	}
	c.served++
	return past[c.rng.IntN(len(past))]
}

func (c *cachingProxy) remember(query string, answer *httptest.ResponseRecorder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.past[query] = append(c.past[query], answer)
}

func (c *cachingProxy) lie(whether bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lies = whether
}

// lyingBucket is a bucket behind such a proxy, on loopback.
func lyingBucket(t *testing.T) (proxy *cachingProxy, open func() *s3.Backend) {
	t.Helper()
	store := s3mem.New()
	must(t, store.CreateBucket("siege"))
	proxy = &cachingProxy{server: gofakes3.New(store).Server(), rng: rand.New(rand.NewPCG(1, 2)), past: map[string][]*httptest.ResponseRecorder{}}
	server := httptest.NewUnstartedServer(proxy)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	return proxy, func() *s3.Backend {
		be, err := s3.Open(t.Context(), s3.Options{
			Location:  s3.Location{Endpoint: server.URL, Bucket: "siege", Prefix: "site"},
			AccessKey: "access", SecretKey: s3.NewSecret([]byte("secret")), Region: "us-east-1",
		})
		must(t, err)
		return be
	}
}

// besieged is a site in such a bucket. Each command is a process of its own.
type besieged struct {
	*site
	open  func() *s3.Backend
	mu    sync.Mutex
	made  map[string][]byte // reported as committed
	going map[string]bool   // somebody has begun to forget it
	done  map[string]int
}

// command runs one. What a lie makes of it is an error, never a wrong result.
func (b *besieged) command(ctx context.Context, what string, do func(p *process, r *repo.Repository) error) error {
	be := b.open()
	defer be.Close()
	p := b.process(be, "")
	defer p.end()
	err := p.with(ctx, func(r *repo.Repository) error { return do(p, r) })
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.done[what]++
		return nil
	}
	for _, loud := range []error{repo.ErrMissing, pack.ErrDamaged, repo.ErrPruneBlocked, repo.ErrPruneContended, repo.ErrSessionLost, recovery.ErrUnknown} {
		if errors.Is(err, loud) {
			b.done[what+" refused: "+loud.Error()]++
			return nil
		}
	}
	if strings.Contains(err.Error(), "the listing is stale") { // found out by the backend itself
		b.done[what+" refused: stale listing"]++
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (b *besieged) count(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.done[what]
}

func (b *besieged) backUp(ctx context.Context, source string, data []byte) error {
	return b.command(ctx, "backup", func(p *process, r *repo.Repository) error {
		s, point, err := p.upload(ctx, r, source, data)
		if err != nil {
			return err
		}
		if err := s.Commit(ctx, point); err != nil {
			s.Abort()
			return err
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.made[point.ID] = data
		return nil
	})
}

// thin forgets some of the points that are listed, then prunes.
func (b *besieged) thin(ctx context.Context, rng *rand.Rand) error {
	return b.command(ctx, "prune", func(_ *process, r *repo.Repository) error {
		entries, _, err := r.Points(ctx)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if rng.IntN(10) > 0 {
				continue
			}
			b.mu.Lock()
			b.going[e.ID] = true
			b.mu.Unlock()
			if err := r.Forget(ctx, e, "trial"); err != nil {
				return err
			}
		}
		unused := 0.0
		_, err = r.Prune(ctx, repo.PruneOptions{MaxUnused: &unused})
		return err
	})
}

// TestCachedListingsOfABucketLoseNothing: between the machines and an S3 server
// stands a cache that answers LISTs from any earlier moment, while they back up, forget
// and prune. Once it is gone every point that was committed and not forgotten
// restores byte for byte, and two prunes leave nothing over.
func TestCachedListingsOfABucketLoseNothing(t *testing.T) {
	proxy, open := lyingBucket(t)
	first := open()
	defer first.Close()
	b := &besieged{site: newSite(first, 3), open: open, made: map[string][]byte{}, going: map[string]bool{}, done: map[string]int{}}
	p := b.process(first, "")
	must(t, p.init(t.Context()))
	p.end()
	proxy.lie(true)

	group, ctx := errgroup.WithContext(t.Context())
	for w := range uint32(3) {
		group.Go(func() error {
			rng, data := rand.New(rand.NewPCG(7, uint64(w))), picture(1, 6) // much is shared
			for range 14 {
				data = repaint(data, rng.Uint32N(4), rng.IntN(6))
				if err := b.backUp(ctx, fmt.Sprintf("image/%d", w), data); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for q := range uint64(2) {
		group.Go(func() error {
			rng := rand.New(rand.NewPCG(8, q))
			for n := 0; n < 12 || n < 100 && b.count("prune") < 3; n++ {
				if err := b.thin(ctx, rng); err != nil {
					return err
				}
			}
			return nil
		})
	}
	must(t, group.Wait())
	proxy.lie(false)
	maps.DeleteFunc(b.made, func(id string, _ []byte) bool { return b.going[id] })
	t.Logf("%v, %d listings of the past, %d points stand", b.done, proxy.served, len(b.made))
	if b.done["backup"] == 0 || b.done["prune"] == 0 || proxy.served == 0 || len(b.made) == 0 {
		t.Error("nothing was tried")
	}
	b.judge(t)
}

// judge holds the place against what was promised.
func (b *besieged) judge(t *testing.T) {
	t.Helper()
	be := b.open()
	defer be.Close()
	p := b.process(be, "")
	must(t, p.with(t.Context(), func(r *repo.Repository) error {
		for range 2 {
			if _, err := r.Prune(t.Context(), repo.PruneOptions{DeadAfter: 1}); err != nil {
				return err
			}
		}
		entries, problems, err := r.Points(t.Context())
		if err != nil || len(problems) > 0 {
			return fmt.Errorf("list points: %v %w", problems, err)
		}
		for _, e := range entries {
			want, stands := b.made[e.ID]
			if !stands {
				continue // somebody began to forget it, or its commit was in doubt
			}
			got, err := readBack(t.Context(), r, e.Point)
			if err != nil {
				return fmt.Errorf("restore %s: %w", e.SID, err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s came back different", e.SID)
			}
			delete(b.made, e.ID)
		}
		rep, err := r.Check(t.Context(), repo.CheckOptions{ReadData: true})
		if err != nil {
			return err
		}
		return rep.Verdict()
	}))
	for _, id := range slices.Sorted(maps.Keys(b.made)) {
		t.Errorf("point %s was committed and is gone", id)
	}
}
