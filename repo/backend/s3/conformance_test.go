package s3

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"holdfast/repo/backend"
	"holdfast/repo/backend/backendtest"
	"holdfast/repo/backend/retry"
)

func TestConformanceOverFake(t *testing.T) {
	t.Parallel()
	endpoint := fake(t, false, nil)
	next := numbered("fake")
	backendtest.Run(t, func(t *testing.T) backend.Backend { return open(t, endpoint, in(bucket, next())) })
}

// almostAll of the contract, for servers that have versions. Two tests are
// missing, for two servers' own faults: gofakes3 gives no marker for the next
// page of versions (ListOfManyObjects), and versitygw's posix store reads the
// version's name and its bytes in two steps, so that a reader may get the bytes
// of the version after (ReadersDuringReplaceSeeNoMix).
var almostAll = []string{
	"PutReplaces", "Empty", "Large", "Ranges", "Bytes", "Missing", "Folder", "BadNames", "LongestName", "Stat", "ListIs", "ListPrefix",
	"ListStops", "ListFn", "Delete", "PutIfAbsent", "ManyWriters", "Sync", "Cancelled", "Location", "Versions",
}

// TestConformanceOverFakeWithVersions: the rules for versions change nothing
// for who writes each name once, nor for who reads what he replaced himself.
func TestConformanceOverFakeWithVersions(t *testing.T) {
	endpoint := fake(t, true, nil)
	next := numbered("fake")
	backendtest.Run(t, func(t *testing.T) backend.Backend {
		b := open(t, endpoint, in(bucket, next()))
		if _, err := b.Stat(t.Context(), "nothing"); err == nil || b.versions.Load() != many {
			t.Fatalf("versions not noticed: %v", err)
		}
		return b
	}, append(almostAll, "Readers")...)
}

// TestConformanceOverServerWithoutPutIfAbsent: one process alone still gets all
// of the contract.
func TestConformanceOverServerWithoutPutIfAbsent(t *testing.T) {
	endpoint := fake(t, false, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				r.Header.Del("If-None-Match")
			}
			next.ServeHTTP(w, r)
		})
	})
	next := numbered("fake")
	backendtest.Run(t, func(t *testing.T) backend.Backend { return open(t, endpoint, in(bucket, next())) })
}

// TestConformanceOverWholeBucket: without a prefix. The bucket is a new one for
// each test.
func TestConformanceOverWholeBucket(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) backend.Backend {
		return open(t, fake(t, false, nil), in(bucket, ""))
	}, "List", "Missing", "Folder", "Put")
}

func TestConformanceOverVersitygw(t *testing.T) {
	t.Parallel()
	endpoint := gateway(t)
	makeBucket(t, endpoint, bucket, minio.MakeBucketOptions{}, false)
	next := numbered("real")
	backendtest.Run(t, func(t *testing.T) backend.Backend { return open(t, endpoint, in(bucket, next())) })
}

func TestConformanceOverVersitygwWithVersions(t *testing.T) {
	t.Parallel()
	endpoint := gateway(t)
	makeBucket(t, endpoint, bucket, minio.MakeBucketOptions{}, true)
	next := numbered("real")
	backendtest.Run(t, func(t *testing.T) backend.Backend {
		// It answers 500 when objects go while it lists them: that is for retry.
		return retry.New(open(t, endpoint, in(bucket, next())), retry.Options{Sleep: noWait})
	}, append(almostAll, "ListOfMany")...)
}

// noWait is a Sleep for tests of everything but time.
func noWait(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// TestListBeyondOnePage: 2,500 keys are three pages, and no name is lost or
// doubled where they meet.
func TestListBeyondOnePage(t *testing.T) {
	var pages atomic.Int64
	endpoint := fake(t, false, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("prefix") {
				pages.Add(1)
			}
			next.ServeHTTP(w, r)
		})
	})
	listPages(t, open(t, endpoint))
	if n := pages.Load(); n != 3 {
		t.Errorf("%d pages, want 3", n)
	}
}

func TestListBeyondOnePageOfVersitygw(t *testing.T) {
	t.Parallel()
	endpoint := gateway(t)
	for _, versioned := range []bool{false, true} {
		t.Run(fmt.Sprintf("versioned=%v", versioned), func(t *testing.T) {
			name := fmt.Sprintf("pages-%v", versioned)
			makeBucket(t, endpoint, name, minio.MakeBucketOptions{}, versioned)
			listPages(t, open(t, endpoint, in(name, "p")))
		})
	}
}

func listPages(t *testing.T, b *Backend) {
	t.Helper()
	var want, got []string
	for i := range 2500 {
		name := fmt.Sprintf("data/%03x/%04d", i%9, i)
		if err := b.Put(t.Context(), name, []byte(name)); err != nil {
			t.Fatal(err)
		}
		want = append(want, name)
	}
	slices.Sort(want)
	err := b.List(t.Context(), "data/", func(info backend.Info) error {
		got = append(got, info.Name)
		if info.Bytes != int64(len(info.Name)) {
			t.Errorf("%s: %d bytes", info.Name, info.Bytes)
		}
		return nil
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("list: %d names, want %d; %v", len(got), len(want), err)
	}
}

// TestSameBucketTwoPrefixes: what lies beside a repository is not seen.
func TestSameBucketTwoPrefixes(t *testing.T) {
	endpoint := fake(t, false, nil)
	one, two := open(t, endpoint, in(bucket, "a")), open(t, endpoint, in(bucket, "a-b"))
	for _, b := range []*Backend{one, two} {
		if err := b.Put(t.Context(), "config", []byte(b.Location())); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range []*Backend{one, two} {
		var names []string
		err := b.List(t.Context(), "", func(info backend.Info) error {
			names = append(names, info.Name)
			return nil
		})
		got, gerr := b.Get(t.Context(), "config", 0, -1)
		if err != nil || gerr != nil || len(names) != 1 || string(got) != b.Location() || !strings.HasSuffix(b.Location(), b.where.Prefix) {
			t.Errorf("%s: %q, %q, %v, %v", b.Location(), names, got, err, gerr)
		}
	}
}
