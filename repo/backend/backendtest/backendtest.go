// Package backendtest is the contract of backend.Backend as tests. A backend
// joins with a few lines:
//
//	func TestConformance(t *testing.T) {
//		backendtest.Run(t, func(t *testing.T) backend.Backend { return mem.New() })
//	}
//
// open must return an empty backend; the suite closes it. Everything here is
// what the repository relies upon: a backend that passes can hold one.
package backendtest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"holdfast/repo/backend"
)

// Open makes an empty backend for one test.
type Open func(t *testing.T) backend.Backend

// LargeBytes is the size of the largest object tried: more than any pack.
const LargeBytes = 40 << 20

// Run tests a backend against the contract; with words in only, just the tests
// whose names contain one of them, for variants that differ in little. The tests
// of an ability run where the backend claims it.
func Run(t *testing.T, open Open, only ...string) {
	ran := 0
	for _, c := range []struct {
		name string
		test func(*testing.T, backend.Backend)
	}{
		{"PutReplacesAndGetReturnsIt", putGet},
		{"EmptyObject", emptyObject},
		{"LargeObject", largeObject},
		{"Ranges", ranges},
		{"BytesAreCopied", bytesAreCopied},
		{"MissingIsErrNotFound", missing},
		{"FolderIsNoObject", folderIsNoObject},
		{"BadNamesAreRefused", badNames},
		{"LongestName", longestName},
		{"Stat", stat},
		{"ListIsSortedByFullName", listOrder},
		{"ListPrefixNeedNotEndAtFolder", listPrefix},
		{"ListOfManyObjects", listMany},
		{"ListStopsAtErrorOfFn", listStops},
		{"ListFnMayCallBackend", listReentrant},
		{"DeleteThenGone", deleteGone},
		{"PutAgainAfterDelete", putAfterDelete},
		{"PutIfAbsentSameBytesIsNil", absentSame},
		{"PutIfAbsentOtherBytesIsErrExists", absentOther},
		{"PutIfAbsentHasOneWinner", absentRace},
		{"ReadersDuringReplaceSeeNoMix", replaceRace},
		{"ManyWritersOfManyNames", manyWriters},
		{"SyncWhilePutting", syncWhilePutting},
		{"CancelledContext", cancelled},
		{"LocationIsNotEmpty", location},
		{"ReserveIsNoObject", reserve},
		{"VersionsOldestFirst", versions},
	} {
		if able := abilities[c.name]; able != nil && !claims(t, open, able) {
			continue
		}
		if len(only) > 0 && !slices.ContainsFunc(only, func(word string) bool { return strings.Contains(c.name, word) }) {
			continue
		}
		ran++
		t.Run(c.name, func(t *testing.T) {
			b := open(t)
			c.test(t, b)
			if err := b.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
	if ran == 0 {
		t.Errorf("no test of the contract is named like %q", only)
	}
}

// Bytes makes n bytes that differ for each seed.
func Bytes(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
	data := make([]byte, n)
	r.Read(data) // never fails
	return data
}

func put(t *testing.T, b backend.Backend, name string, data []byte) {
	t.Helper()
	if err := b.Put(t.Context(), name, data); err != nil {
		t.Fatalf("put %s: %v", name, err)
	}
}

// want demands that name holds exactly data.
func want(t *testing.T, b backend.Backend, name string, data []byte) {
	t.Helper()
	got, err := b.Get(t.Context(), name, 0, -1)
	if err != nil {
		t.Fatalf("get %s: %v", name, err)
	}
	if !bytes.Equal(got, data) {
		t.Fatalf("get %s: %d bytes, not the %d that were put", name, len(got), len(data))
	}
}

func wantErr(t *testing.T, what string, err, sentinel error) {
	t.Helper()
	if !errors.Is(err, sentinel) {
		t.Errorf("%s: got %v, want %v", what, err, sentinel)
	}
}

func list(t *testing.T, b backend.Backend, prefix string) []string {
	t.Helper()
	var names []string
	err := b.List(t.Context(), prefix, func(info backend.Info) error {
		names = append(names, info.Name)
		return nil
	})
	if err != nil {
		t.Fatalf("list %q: %v", prefix, err)
	}
	return names
}

func putGet(t *testing.T, b backend.Backend) {
	first, second := Bytes(1, 5000), Bytes(2, 300)
	put(t, b, "data/s1/p1", first)
	want(t, b, "data/s1/p1", first)
	put(t, b, "data/s1/p1", second)
	want(t, b, "data/s1/p1", second)
	if err := b.Sync(t.Context()); err != nil {
		t.Fatalf("sync: %v", err)
	}
	want(t, b, "data/s1/p1", second)
	put(t, b, "top", first)
	want(t, b, "top", first)
}

func emptyObject(t *testing.T, b backend.Backend) {
	put(t, b, "a/empty", nil)
	want(t, b, "a/empty", nil)
	if err := b.PutIfAbsent(t.Context(), "a/empty2", []byte{}); err != nil {
		t.Fatalf("put new empty: %v", err)
	}
	want(t, b, "a/empty2", nil)
	if got, err := b.Get(t.Context(), "a/empty", 0, 0); err != nil || len(got) != 0 {
		t.Errorf("get nothing of empty object: %d bytes, %v", len(got), err)
	}
	_, err := b.Get(t.Context(), "a/empty", 0, 1)
	wantErr(t, "get a byte of an empty object", err, backend.ErrRange)
	wantErr(t, "put new over empty", b.PutIfAbsent(t.Context(), "a/empty", []byte("x")), backend.ErrExists)
}

func largeObject(t *testing.T, b backend.Backend) {
	data := Bytes(3, LargeBytes)
	put(t, b, "data/large", data)
	want(t, b, "data/large", data)
	if err := b.PutIfAbsent(t.Context(), "data/large2", data); err != nil {
		t.Fatalf("put new: %v", err)
	}
	got, err := b.Get(t.Context(), "data/large2", LargeBytes-100_001, 100_000)
	if err != nil || !bytes.Equal(got, data[LargeBytes-100_001:LargeBytes-1]) {
		t.Errorf("get near the end: %d bytes, %v", len(got), err)
	}
}

func ranges(t *testing.T, b backend.Backend) {
	data := Bytes(4, 1000)
	put(t, b, "r", data)
	for _, c := range []struct {
		offset, length int64
		from, to       int // what comes; from < 0 means ErrRange
	}{
		{0, -1, 0, 1000}, {0, 1000, 0, 1000}, {0, 0, 0, 0}, {0, 1, 0, 1}, {999, 1, 999, 1000}, {500, -1, 500, 1000},
		{250, 500, 250, 750}, {1000, 0, 1000, 1000}, {1000, -1, 1000, 1000}, {500, 0, 500, 500}, {999, -7, 999, 1000},
		{0, 1001, -1, 0}, {1000, 1, -1, 0}, {999, 2, -1, 0}, {1001, -1, -1, 0}, {1001, 0, -1, 0},
		{-1, 1, -1, 0}, {-1, -1, -1, 0}, {-1000, 1000, -1, 0}, {1, 1<<63 - 1, -1, 0}, {1<<63 - 1, 1, -1, 0}, {1<<63 - 1, 1<<63 - 1, -1, 0},
	} {
		got, err := b.Get(t.Context(), "r", c.offset, c.length)
		what := fmt.Sprintf("get %d bytes from %d of 1000", c.length, c.offset)
		if c.from < 0 {
			wantErr(t, what, err, backend.ErrRange)
			continue
		}
		if err != nil || !bytes.Equal(got, data[c.from:c.to]) {
			t.Errorf("%s: %d bytes, %v", what, len(got), err)
		}
	}
}

func bytesAreCopied(t *testing.T, b backend.Backend) {
	data := Bytes(5, 100)
	mine := bytes.Clone(data)
	put(t, b, "x", mine)
	mine[0]++
	want(t, b, "x", data)
	got, err := b.Get(t.Context(), "x", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	got[0]++
	want(t, b, "x", data)
}

func missing(t *testing.T, b backend.Backend) {
	put(t, b, "there", []byte("x"))
	for _, name := range []string{"not-there", "no/folder/either", "there/below-an-object"} {
		_, err := b.Get(t.Context(), name, 0, -1)
		wantErr(t, "get "+name, err, backend.ErrNotFound)
		_, err = b.Get(t.Context(), name, 10, 5)
		wantErr(t, "get range of "+name, err, backend.ErrNotFound)
		_, err = b.Stat(t.Context(), name)
		wantErr(t, "stat "+name, err, backend.ErrNotFound)
		if err := b.Delete(t.Context(), name); err != nil {
			t.Errorf("delete %s: %v", name, err)
		}
	}
	if names := list(t, b, "no/folder/"); len(names) != 0 {
		t.Errorf("list of nothing: %q", names)
	}
}

func folderIsNoObject(t *testing.T, b backend.Backend) {
	put(t, b, "a/b/c", []byte("x"))
	for _, name := range []string{"a", "a/b"} {
		_, err := b.Get(t.Context(), name, 0, -1)
		wantErr(t, "get folder "+name, err, backend.ErrNotFound)
		_, err = b.Stat(t.Context(), name)
		wantErr(t, "stat folder "+name, err, backend.ErrNotFound)
		if err := b.Delete(t.Context(), name); err != nil {
			t.Errorf("delete folder %s: %v", name, err)
		}
	}
	want(t, b, "a/b/c", []byte("x"))
}

func badNames(t *testing.T, b backend.Backend) {
	for _, name := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "A", "a b", "a\\b", "a\x00b", "ä", strings.Repeat("a", 513),
	} {
		if b.Put(t.Context(), name, nil) == nil {
			t.Errorf("put %q: no error", name)
		}
		if b.PutIfAbsent(t.Context(), name, nil) == nil {
			t.Errorf("put new %q: no error", name)
		}
		if _, err := b.Get(t.Context(), name, 0, -1); err == nil {
			t.Errorf("get %q: no error", name)
		}
		if _, err := b.Stat(t.Context(), name); err == nil {
			t.Errorf("stat %q: no error", name)
		}
		if b.Delete(t.Context(), name) == nil {
			t.Errorf("delete %q: no error", name)
		}
	}
	if names := list(t, b, ""); len(names) != 0 {
		t.Errorf("left behind: %q", names)
	}
}

func longestName(t *testing.T, b backend.Backend) {
	name := strings.Repeat("abcdefg-1.2_3456/", 31)[:511] // parts as a file system can hold them
	put(t, b, name, []byte("long"))
	want(t, b, name, []byte("long"))
	if got := list(t, b, name[:200]); !slices.Equal(got, []string{name}) {
		t.Errorf("list: %q", got)
	}
}

func stat(t *testing.T, b backend.Backend) {
	put(t, b, "a/b", Bytes(6, 12345))
	info, err := b.Stat(t.Context(), "a/b")
	if err != nil || info.Name != "a/b" || info.Bytes != 12345 || info.Modified.IsZero() {
		t.Fatalf("stat: %+v, %v", info, err)
	}
	err = b.List(t.Context(), "a/", func(listed backend.Info) error {
		if listed.Name != info.Name || listed.Bytes != info.Bytes || listed.Modified.IsZero() {
			t.Errorf("listed %+v, stat says %+v", listed, info)
		}
		return nil
	})
	if err != nil {
		t.Errorf("list: %v", err)
	}
}

// orderNames come in the order of their bytes, which is not that of a walk
// through folders sorted by their own names: '-' and '.' are below '/'.
var orderNames = []string{
	"0", "a-b", "a.b", "a/0", "a/b-c", "a/b.c", "a/b/c", "a/b/d/e", "a/b0", "a0", "a_", "aa/b", "b",
}

func listOrder(t *testing.T, b backend.Backend) {
	for _, i := range rand.New(rand.NewPCG(1, 1)).Perm(len(orderNames)) {
		put(t, b, orderNames[i], []byte(orderNames[i]))
	}
	if got := list(t, b, ""); !slices.Equal(got, orderNames) {
		t.Errorf("list:\ngot  %q\nwant %q", got, orderNames)
	}
}

func listPrefix(t *testing.T, b backend.Backend) {
	for _, name := range orderNames {
		put(t, b, name, nil)
	}
	for _, prefix := range []string{
		"", "a", "a/", "a/b", "a/b/", "a/b/c", "a/b/c/", "a/b/d", "a-", "a.", "aa", "aa/", "b", "b/", "c", "a/b/d/e", "a/b/d/ef", "/", "a//", "../", "A",
	} {
		var wanted []string
		for _, name := range orderNames {
			if strings.HasPrefix(name, prefix) {
				wanted = append(wanted, name)
			}
		}
		if got := list(t, b, prefix); !slices.Equal(got, wanted) {
			t.Errorf("list %q:\ngot  %q\nwant %q", prefix, got, wanted)
		}
	}
}
