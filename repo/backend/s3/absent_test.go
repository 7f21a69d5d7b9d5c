package s3

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"holdfast/repo/backend"
	"holdfast/repo/backend/retry"
)

// TestPutIfAbsentOnAServerThatIgnoresIt: nothing of others' is overwritten, not
// even before that is known, and it is said.
func TestPutIfAbsentOnAServerThatIgnoresIt(t *testing.T) {
	endpoint, liar := before(t, false, func(w http.ResponseWriter, r *http.Request, good http.Handler) bool {
		r.Header.Del("If-None-Match")
		good.ServeHTTP(w, r)
		return true
	})
	liar.on.Store(true)
	logger, heard := hear()
	b := open(t, endpoint, func(o *Options) { o.Log = logger })
	mustPut(t, b, "config", "theirs")
	if err := b.PutIfAbsent(t.Context(), "config", []byte("mine")); !errors.Is(err, backend.ErrExists) {
		t.Errorf("put new over others: %v", err)
	}
	wantText(t, b, "config", "theirs")
	if err := b.PutIfAbsent(t.Context(), "commit/s/1", []byte("mine")); err != nil {
		t.Errorf("put new: %v", err)
	}
	if b.SingleWriter() == "" || !strings.Contains(heard(), "only one process") {
		t.Errorf("single writer: %q, log %s", b.SingleWriter(), heard())
	}
	if err := b.PutIfAbsent(t.Context(), "commit/s/1", []byte("other")); !errors.Is(err, backend.ErrExists) {
		t.Errorf("put new over own: %v", err)
	}
	wantText(t, b, "commit/s/1", "mine")
}

// TestPutIfAbsentRefused: 501 to the header (Backblaze B2), and 400 likewise.
func TestPutIfAbsentRefused(t *testing.T) {
	for _, c := range []struct {
		status        int
		code, message string
	}{
		{501, "NotImplemented", "A header you provided implies functionality that is not implemented"},
		{400, "InvalidRequest", "If-None-Match is not supported"},
	} {
		endpoint, liar := before(t, false, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			if r.Method != http.MethodPut || r.Header.Get("If-None-Match") == "" {
				return false
			}
			io.Copy(io.Discard, r.Body)
			answer(w, c.status, c.code, c.message)
			return true
		})
		liar.on.Store(true)
		b := open(t, endpoint)
		if err := b.PutIfAbsent(t.Context(), "config", []byte("mine")); err != nil || b.SingleWriter() == "" {
			t.Errorf("%d: put new: %v, single writer %q", c.status, err, b.SingleWriter())
		}
		wantText(t, b, "config", "mine")
		if b.plainMD5.Load() {
			t.Errorf("%d: the checksum was blamed", c.status)
		}
	}
}

// TestChecksumHeadersRefused: put-if-absent is not blamed, and Content-MD5
// guards the bytes instead.
func TestChecksumHeadersRefused(t *testing.T) {
	var refused, digests atomic.Int64
	endpoint, liar := before(t, false, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.Method != http.MethodPut {
			return false
		}
		if r.Header.Get("Content-MD5") != "" {
			digests.Add(1)
		}
		if r.Header.Get("x-amz-checksum-crc32c") == "" {
			return false
		}
		refused.Add(1)
		io.Copy(io.Discard, r.Body)
		answer(w, http.StatusBadRequest, "InvalidArgument", "Unsupported header 'x-amz-checksum-crc32c' received for this API call.")
		return true
	})
	liar.on.Store(true)
	b := open(t, endpoint)
	if err := b.PutIfAbsent(t.Context(), "config", []byte("mine")); err != nil || b.SingleWriter() != "" || b.absent.Load() != decides {
		t.Errorf("put new: %v, single writer %q", err, b.SingleWriter())
	}
	mustPut(t, b, "a", "x")
	if refused.Load() != 1 || digests.Load() != 3 {
		t.Errorf("%d refused, %d digests; want 1 and 3", refused.Load(), digests.Load())
	}
}

// TestNotModifiedMeansTaken: some servers answer 304 instead of 412.
func TestNotModifiedMeansTaken(t *testing.T) {
	endpoint, liar := before(t, false, func(w http.ResponseWriter, r *http.Request, good http.Handler) bool {
		if r.Method != http.MethodPut || r.Header.Get("If-None-Match") == "" {
			return false
		}
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNotModified)
		return true
	})
	b := open(t, endpoint)
	mustPut(t, b, "config", "theirs")
	liar.on.Store(true)
	b.absent.Store(decides)
	if err := b.PutIfAbsent(t.Context(), "config", []byte("mine")); !errors.Is(err, backend.ErrExists) {
		t.Errorf("put new: %v", err)
	}
	if err := b.PutIfAbsent(t.Context(), "config", []byte("theirs")); err != nil {
		t.Errorf("put the same: %v", err)
	}
}

// TestConflictIsAskedAgain: 409 is an answer about now, not about the name.
func TestConflictIsAskedAgain(t *testing.T) {
	var conflicts atomic.Int64
	endpoint, liar := before(t, false, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.Method != http.MethodPut || conflicts.Add(1) > 2 {
			return false
		}
		io.Copy(io.Discard, r.Body)
		answer(w, http.StatusConflict, "ConditionalRequestConflict", "The conditional request cannot succeed")
		return true
	})
	liar.on.Store(true)
	b := open(t, endpoint)
	if err := retry.New(b, retry.Options{Sleep: noWait}).PutIfAbsent(t.Context(), "config", []byte("mine")); err != nil {
		t.Errorf("put new: %v", err)
	}
	if b.SingleWriter() != "" {
		t.Errorf("single writer: %s", b.SingleWriter())
	}
}

// TestProbeIsHarmless: the bytes stay, a wrong guess about them sends nothing,
// and without the right to put nothing is learnt.
func TestProbeIsHarmless(t *testing.T) {
	var puts atomic.Int64
	var mayPut atomic.Bool
	mayPut.Store(true)
	endpoint, liar := before(t, false, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.Method != http.MethodPut {
			return false
		}
		puts.Add(1)
		if !mayPut.Load() {
			answer(w, http.StatusForbidden, "AccessDenied", "Access Denied.")
		}
		return !mayPut.Load()
	})
	b := open(t, endpoint)
	mustPut(t, b, "config", "config")
	liar.on.Store(true)
	if err := b.ProbePutIfAbsent(t.Context(), "config", []byte("other")); !errors.Is(err, backend.ErrExists) || puts.Load() != 0 {
		t.Errorf("probe with other bytes: %v, %d puts", err, puts.Load())
	}
	if err := b.ProbePutIfAbsent(t.Context(), "gone", []byte("other")); !errors.Is(err, backend.ErrNotFound) || puts.Load() != 0 {
		t.Errorf("probe of nothing: %v, %d puts", err, puts.Load())
	}
	mayPut.Store(false)
	if err := b.ProbePutIfAbsent(t.Context(), "config", []byte("config")); !errors.Is(err, ErrAccess) || b.absent.Load() != undecided {
		t.Errorf("probe without rights: %v", err)
	}
	mayPut.Store(true)
	if err := b.ProbePutIfAbsent(t.Context(), "config", []byte("config")); err != nil || b.absent.Load() != decides || b.SingleWriter() != "" {
		t.Errorf("probe: %v, single writer %q", err, b.SingleWriter())
	}
	puts.Store(0)
	if err := b.PutIfAbsent(t.Context(), "commit/s/1", []byte("x")); err != nil || puts.Load() != 1 {
		t.Errorf("put new after the probe: %v, %d puts, want 1", err, puts.Load())
	}
	wantText(t, b, "config", "config")
}

// TestProbeOfVersitygw: a real server decides.
func TestProbeOfVersitygw(t *testing.T) {
	versionedPlaces(t, func(t *testing.T, endpoint string) {
		b := open(t, endpoint)
		mustPut(t, b, "config", "config")
		if err := b.ProbePutIfAbsent(t.Context(), "config", []byte("config")); err != nil || b.absent.Load() != decides {
			t.Errorf("probe: %v, single writer %q", err, b.SingleWriter())
		}
	})
}

// TestMissingKeyHiddenAsAccessDenied: so Amazon answers who may list only a
// prefix; the listing tells the truth, and a real refusal stays one.
func TestMissingKeyHiddenAsAccessDenied(t *testing.T) {
	endpoint, liar := before(t, false, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.URL.RawQuery != "" || r.Method == http.MethodPut {
			return false
		}
		answer(w, http.StatusForbidden, "AccessDenied", "Access Denied.")
		return true
	})
	b := open(t, endpoint)
	mustPut(t, b, "there", "x")
	liar.on.Store(true)
	if _, err := b.Get(t.Context(), "gone", 0, -1); !errors.Is(err, backend.ErrNotFound) {
		t.Errorf("get of a missing key: %v", err)
	}
	if _, err := b.Stat(t.Context(), "gone"); !errors.Is(err, backend.ErrNotFound) {
		t.Errorf("stat of a missing key: %v", err)
	}
	if _, err := b.Get(t.Context(), "there", 0, -1); !errors.Is(err, ErrAccess) {
		t.Errorf("get of a forbidden key: %v", err)
	}
	if _, err := b.Get(t.Context(), "else", 0, -1); !errors.Is(err, backend.ErrNotFound) {
		t.Errorf("get of a missing key beside one: %v", err)
	}
}

// TestVersionsNoticedWhereNobodyMayAsk: s3:GetBucketVersioning is refused, and
// the first answer with a version id tells.
func TestVersionsNoticedWhereNobodyMayAsk(t *testing.T) {
	endpoint, liar := before(t, true, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if !r.URL.Query().Has("versioning") {
			return false
		}
		answer(w, http.StatusForbidden, "AccessDenied", "Access Denied.")
		return true
	})
	owner := open(t, endpoint)
	mustPut(t, owner, "a", "first")
	mustPut(t, open(t, endpoint), "a", "second")
	liar.on.Store(true)
	wantText(t, open(t, endpoint), "a", "first")
	b := open(t, endpoint)
	if info, err := b.Stat(t.Context(), "a"); err != nil || info.Bytes != 5 {
		t.Errorf("stat: %+v, %v", info, err)
	}
	if b.versions.Load() != many {
		t.Error("versions not noticed")
	}
}
