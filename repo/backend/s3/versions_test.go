package s3

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"holdfast/repo/backend"
)

// versionedPlaces are servers with a bucket that keeps versions.
func versionedPlaces(t *testing.T, test func(t *testing.T, endpoint string)) {
	t.Run("fake", func(t *testing.T) { test(t, fake(t, true, nil)) })
	t.Run("versitygw", func(t *testing.T) {
		endpoint := gateway(t)
		makeBucket(t, endpoint, bucket, minio.MakeBucketOptions{}, true)
		test(t, endpoint)
	})
}

// wantText demands what Get of name gives.
func wantText(t *testing.T, b backend.Backend, name, want string) {
	t.Helper()
	if got, err := b.Get(t.Context(), name, 0, -1); err != nil || string(got) != want {
		t.Errorf("get %s: %q, %v, want %q", name, got, err, want)
	}
}

func mustPut(t *testing.T, b *Backend, name, text string) {
	t.Helper()
	if err := b.Put(t.Context(), name, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// TestOldestVersionIsTheObject: a thief of the backup keys overwrites and puts
// a delete marker on top; readers and listings do not notice.
func TestOldestVersionIsTheObject(t *testing.T) {
	versionedPlaces(t, func(t *testing.T, endpoint string) {
		owner, thief := open(t, endpoint), open(t, endpoint)
		mustPut(t, owner, "commit/s/1", "the point")
		mustPut(t, owner, "commit/s/2", "another")
		mustPut(t, thief, "commit/s/1", "a forgery, longer")
		key := thief.key("commit/s/1")
		if err := thief.core.RemoveObject(t.Context(), bucket, key, minio.RemoveObjectOptions{}); err != nil {
			t.Fatalf("put a delete marker: %v", err)
		}
		fresh := open(t, endpoint)
		wantText(t, fresh, "commit/s/1", "the point")
		if got, err := fresh.Get(t.Context(), "commit/s/1", 4, 5); err != nil || string(got) != "point" {
			t.Errorf("get range: %q, %v", got, err)
		}
		if info, err := fresh.Stat(t.Context(), "commit/s/1"); err != nil || info.Bytes != 9 {
			t.Errorf("stat: %+v, %v", info, err)
		}
		var listed []string
		err := fresh.List(t.Context(), "commit/", func(info backend.Info) error {
			listed = append(listed, fmt.Sprintf("%s %d", info.Name, info.Bytes))
			return nil
		})
		if want := []string{"commit/s/1 9", "commit/s/2 7"}; err != nil || !slices.Equal(listed, want) {
			t.Errorf("list: %q, %v", listed, err)
		}
		wantText(t, thief, "commit/s/1", "a forgery, longer") // who replaces reads what he wrote
		if info, err := thief.Stat(t.Context(), "commit/s/1"); err != nil || info.Bytes != 17 {
			t.Errorf("stat of the own version: %+v, %v", info, err)
		}
	})
}

// TestPutIfAbsentOverDeleteMarkerLoses: If-None-Match sees only the marker, but
// the name is taken all the same.
func TestPutIfAbsentOverDeleteMarkerLoses(t *testing.T) {
	versionedPlaces(t, func(t *testing.T, endpoint string) {
		first := open(t, endpoint)
		for _, name := range []string{"commit/s/1", "commit/s/2"} {
			if err := first.PutIfAbsent(t.Context(), name, []byte("revoked")); err != nil {
				t.Fatal(err)
			}
			if err := first.core.RemoveObject(t.Context(), bucket, first.key(name), minio.RemoveObjectOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		for _, decided := range []int32{undecided, decides} {
			second := open(t, endpoint)
			second.absent.Store(decided)
			if err := second.PutIfAbsent(t.Context(), "commit/s/1", []byte("mine")); !errors.Is(err, backend.ErrExists) {
				t.Errorf("put new over a marker: %v", err)
			}
			if err := second.PutIfAbsent(t.Context(), "commit/s/2", []byte("revoked")); err != nil {
				t.Errorf("put the same over a marker: %v", err)
			}
		}
		wantText(t, open(t, endpoint), "commit/s/1", "revoked")
	})
}

// TestMarkerAloneIsNothing: a delete marker is no version, neither alone nor as
// the oldest.
func TestMarkerAloneIsNothing(t *testing.T) {
	versionedPlaces(t, func(t *testing.T, endpoint string) {
		b := open(t, endpoint)
		mustPut(t, b, "a", "gone")
		if err := b.core.RemoveObject(t.Context(), bucket, b.key("a"), minio.RemoveObjectOptions{}); err != nil {
			t.Fatal(err)
		}
		all, err := b.Versions(t.Context(), "a")
		if err != nil || len(all) != 1 {
			t.Fatalf("versions: %+v, %v", all, err)
		}
		if err := b.remove(t.Context(), "delete version", "a", all[0].ID); err != nil {
			t.Fatal(err)
		}
		if left, err := b.everything(t.Context(), "list", "a"); err != nil || len(left) != 1 || !left[0].IsDeleteMarker {
			t.Fatalf("left: %+v, %v; want a marker", left, err)
		}
		fresh := open(t, endpoint)
		if _, err := fresh.Get(t.Context(), "a", 0, -1); !errors.Is(err, backend.ErrNotFound) {
			t.Errorf("get: %v", err)
		}
		if _, err := fresh.Stat(t.Context(), "a"); !errors.Is(err, backend.ErrNotFound) {
			t.Errorf("stat: %v", err)
		}
		err = fresh.List(t.Context(), "", func(info backend.Info) error { return fmt.Errorf("listed %s", info.Name) })
		if err != nil {
			t.Error(err)
		}
		err = fresh.PutIfAbsent(t.Context(), "a", []byte("anew"))
		switch {
		case err == nil:
			wantText(t, open(t, endpoint), "a", "anew")
		case !errors.Is(err, backend.ErrUnreachable) || !strings.Contains(err.Error(), "both taken and not there"): // versitygw: a marker is in the way
			t.Errorf("put new: %v", err)
		}
	})
}

// TestVersionsOldestFirst: the engine may take the oldest that verifies.
func TestVersionsOldestFirst(t *testing.T) {
	versionedPlaces(t, func(t *testing.T, endpoint string) {
		b := open(t, endpoint)
		for _, text := range []string{"one", "two!", "three"} {
			mustPut(t, b, "config", text)
		}
		mustPut(t, b, "config-not", "other")
		all, err := b.Versions(t.Context(), "config")
		if err != nil || len(all) != 3 {
			t.Fatalf("versions: %+v, %v", all, err)
		}
		for i, want := range []string{"one", "two!", "three"} {
			got, err := b.GetVersion(t.Context(), "config", all[i].ID)
			if err != nil || string(got) != want || all[i].Bytes != int64(len(want)) || all[i].Modified.IsZero() {
				t.Errorf("version %d: %q, %+v, %v", i, got, all[i], err)
			}
		}
		if _, err := b.Versions(t.Context(), "conf"); !errors.Is(err, backend.ErrNotFound) {
			t.Errorf("versions of nothing: %v", err)
		}
	})
}

// TestVersionsWhereThereAreNone: one, without an id.
func TestVersionsWhereThereAreNone(t *testing.T) {
	b := open(t, fake(t, false, nil))
	mustPut(t, b, "config", "one")
	all, err := b.Versions(t.Context(), "config")
	if err != nil || len(all) != 1 || all[0].ID != "" || all[0].Bytes != 3 {
		t.Fatalf("versions: %+v, %v", all, err)
	}
	if got, err := b.GetVersion(t.Context(), "config", ""); err != nil || string(got) != "one" {
		t.Errorf("get version: %q, %v", got, err)
	}
	if _, err := b.Versions(t.Context(), "gone"); !errors.Is(err, backend.ErrNotFound) {
		t.Errorf("versions of nothing: %v", err)
	}
}

// TestDeleteLeavesNoVersion: a pruned object cannot come back, and frees its
// space; who remembered one of its versions reads what was written since.
func TestDeleteLeavesNoVersion(t *testing.T) {
	versionedPlaces(t, func(t *testing.T, endpoint string) {
		b, reader := open(t, endpoint), open(t, endpoint)
		mustPut(t, b, "data/p", "one")
		mustPut(t, b, "data/p", "two")
		mustPut(t, b, "data/p1", "stays")
		wantText(t, reader, "data/p", "one")
		if err := b.core.RemoveObject(t.Context(), bucket, b.key("data/p"), minio.RemoveObjectOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := b.Delete(t.Context(), "data/p"); err != nil {
			t.Fatal(err)
		}
		if all, err := b.everything(t.Context(), "list", "data/p"); err != nil || len(all) != 0 {
			t.Errorf("left: %+v, %v", all, err)
		}
		if _, err := reader.Get(t.Context(), "data/p", 0, -1); !errors.Is(err, backend.ErrNotFound) {
			t.Errorf("get deleted: %v", err)
		}
		mustPut(t, b, "data/p", "anew")
		wantText(t, reader, "data/p", "anew")
		wantText(t, reader, "data/p1", "stays")
	})
}

// lockedPlace is a versitygw with a bucket made for Object Lock: gofakes3 has
// none.
func lockedPlace(t *testing.T) string {
	t.Helper()
	endpoint := gateway(t)
	makeBucket(t, endpoint, bucket, minio.MakeBucketOptions{ObjectLocking: true}, false)
	return endpoint
}

func withLock(mode string, days int) func(*Options) {
	return func(o *Options) { o.ObjectLock = ObjectLock{Mode: mode, Days: days} }
}

// TestObjectLock: what is written is locked, cannot be deleted, and the lock
// only ever grows.
func TestObjectLock(t *testing.T) {
	endpoint := lockedPlace(t)
	for _, mode := range []string{Governance, Compliance} {
		t.Run(mode, func(t *testing.T) {
			b := open(t, endpoint, withLock(mode, 3), in(bucket, mode))
			if err := b.PutIfAbsent(t.Context(), "commit/s/1", []byte("point")); err != nil {
				t.Fatal(err)
			}
			wantUntil(t, b, "commit/s/1", mode, time.Now().AddDate(0, 0, 3))
			if err := b.Delete(t.Context(), "commit/s/1"); !errors.Is(err, ErrLocked) {
				t.Errorf("delete: %v", err)
			}
			wantText(t, b, "commit/s/1", "point")

			later := time.Now().AddDate(0, 0, 10)
			for range 2 {
				if err := b.ExtendRetention(t.Context(), "commit/s/1", later); err != nil {
					t.Fatalf("extend: %v", err)
				}
				wantUntil(t, b, "commit/s/1", mode, later)
			}
			if err := b.ExtendRetention(t.Context(), "commit/s/1", later.AddDate(0, 0, -5)); err != nil {
				t.Errorf("extend to less: %v", err)
			}
			wantUntil(t, b, "commit/s/1", mode, later)
			if err := b.ExtendRetention(t.Context(), "commit/s/2", later); !errors.Is(err, backend.ErrNotFound) {
				t.Errorf("extend of nothing: %v", err)
			}
		})
	}
}

// wantUntil demands mode and end, within a minute, of the lock on name.
func wantUntil(t *testing.T, b *Backend, name, mode string, want time.Time) {
	t.Helper()
	all, err := b.Versions(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	held, until, err := b.held(t.Context(), name, all[0].ID)
	if err != nil || held != (ObjectLock{Mode: mode}).mode() || until.Sub(want).Abs() > time.Minute {
		t.Errorf("lock of %s: %v until %v, want %s until %v; %v", name, held, until, mode, want, err)
	}
}

// TestObjectLockCountsByTheServersClock: this machine's is a year behind.
func TestObjectLockCountsByTheServersClock(t *testing.T) {
	endpoint := lockedPlace(t)
	b := open(t, endpoint, withLock(Governance, 3), func(o *Options) {
		o.Now = func() time.Time { return time.Now().AddDate(-1, 0, 0) }
	})
	mustPut(t, b, "data/p", "x")
	wantUntil(t, b, "data/p", Governance, time.Now().AddDate(0, 0, 3))
}

// TestObjectLockOnABucketWithoutIt: the server's word reaches the operator.
func TestObjectLockOnABucketWithoutIt(t *testing.T) {
	endpoint := gateway(t)
	makeBucket(t, endpoint, bucket, minio.MakeBucketOptions{}, true)
	err := open(t, endpoint, withLock(Governance, 3)).Put(t.Context(), "data/p", []byte("x"))
	if err == nil || !strings.Contains(err.Error(), "ObjectLock") {
		t.Errorf("put: %v", err)
	}
}

// TestExtendWithoutLockOption: there is no mode to give.
func TestExtendWithoutLockOption(t *testing.T) {
	b := open(t, fake(t, true, nil))
	mustPut(t, b, "data/p", "x")
	if err := b.ExtendRetention(t.Context(), "data/p", time.Now()); !errors.Is(err, ErrLockOption) {
		t.Errorf("extend: %v", err)
	}
}
