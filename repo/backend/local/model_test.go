package local

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"holdfast/repo/backend"
	"holdfast/repo/backend/local/localtest"
	"holdfast/repo/backend/mem"
)

// modelNames share folders, and none is a folder of another.
var modelNames = []string{"a/x", "a/y", "a/b/x", "a/b/y", "c/d/e/f", "g", "ledger/0"}

// TestRandomCallsAgreeWithMemoryAndSurvivePowerCuts plays random calls on this
// backend, over the strict file system, and on the memory backend. Answers and
// contents agree at every step, and after a Sync no power cut loses anything.
func TestRandomCallsAgreeWithMemoryAndSurvivePowerCuts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		disk := localtest.New()
		opts := Options{
			UnsyncedFiles: rapid.IntRange(1, 5).Draw(t, "unsynced files"),
			Random:        strings.NewReader("01234567"), ReserveBytes: testReserve,
		}
		b, m := Over(disk, "strict", opts), mem.New()
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 3))
		for range rapid.IntRange(1, 30).Draw(t, "calls") {
			name := rapid.SampledFrom(modelNames).Draw(t, "name")
			data := []byte(rapid.SampledFrom([]string{"", "one", "two", "three"}).Draw(t, "data"))
			call := rapid.SampledFrom([]string{"put", "put new", "delete", "sync"}).Draw(t, "call")
			got, want := act(ctx, b, call, name, data), act(ctx, m, call, name, data)
			if (got == nil) != (want == nil) || errors.Is(got, backend.ErrExists) != errors.Is(want, backend.ErrExists) {
				t.Fatalf("%s %s: %v, memory says %v", call, name, got, want)
			}
			if got, want := contents(t, b), contents(t, m); !maps.Equal(got, want) {
				t.Fatalf("after %s %s: %q, memory holds %q", call, name, got, want)
			}
			cut := Over(disk.Crash(r), "strict", Options{Random: strings.NewReader("abcdefgh"), ReserveBytes: testReserve})
			switch {
			case call == "sync":
				if got, want := contents(t, cut), contents(t, m); !maps.Equal(got, want) {
					t.Fatalf("a power cut after a sync leaves %q of %q", got, want)
				}
			case call == "put new" && got == nil:
				if left, ok := contents(t, cut)[name]; !ok || left != string(data) {
					t.Fatalf("a power cut takes %s, which was durable", name)
				}
			}
		}
	})
}

func act(ctx context.Context, b backend.Backend, call, name string, data []byte) error {
	switch call {
	case "put":
		return b.Put(ctx, name, data)
	case "put new":
		return b.PutIfAbsent(ctx, name, data)
	case "delete":
		return b.Delete(ctx, name)
	}
	return b.Sync(ctx)
}

// contents reads all objects, and demands that List is in order and agrees with
// Stat and Get.
func contents(t *rapid.T, b backend.Backend) map[string]string {
	ctx := context.Background()
	all := map[string]string{}
	var names []string
	err := b.List(ctx, "", func(info backend.Info) error {
		names = append(names, info.Name)
		data, err := b.Get(ctx, info.Name, 0, info.Bytes)
		if err != nil {
			return err
		}
		if stat, err := b.Stat(ctx, info.Name); err != nil || stat.Bytes != info.Bytes {
			return fmt.Errorf("stat %s: %d bytes, %w", info.Name, stat.Bytes, err)
		}
		all[info.Name] = string(data)
		return nil
	})
	if err != nil || !slices.IsSorted(names) {
		t.Fatalf("list %q: %v", names, err)
	}
	return all
}
