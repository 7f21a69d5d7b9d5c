package vdi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/server"
	"holdfast/sqlguest/vdi"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			code = 1
		}
	}
	os.Exit(code)
}

func save(t *testing.T, s *sqlServer, set vdi.Set) *vdi.Saving {
	t.Helper()
	b, err := vdi.Save(t.Context(), set, s.names, s.backup, vdi.Options{BufferBytes: 4096})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sameAs(t *testing.T, got, want [][]byte) {
	t.Helper()
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("device %d: %d bytes that differ from the %d of SQL Server", i, len(got[i]), len(want[i]))
		}
	}
}

// TestBackupWaitsForTheWord: with each way in which a server may end a backup, the
// streams come to their end, nothing is truncated before Commit, and then it is.
func TestBackupWaitsForTheWord(t *testing.T) {
	for name, c := range map[string]struct {
		faults   bridge.Faults
		complete completing
	}{
		"complete":               {},
		"complete in turn":       {complete: oneAfterTheOther},
		"complete of one device": {complete: firstOnly},
		"flush alone":            {faults: bridge.Faults{NoComplete: true}},
		"several flushes":        {faults: bridge.Faults{FlushEvery: 3}},
		"empty writes":           {faults: bridge.Faults{EmptyWrites: true, FlushEvery: 2}},
		"odd commands":           {faults: bridge.Faults{OddCommands: true}},
		"empty, flush alone":     {faults: bridge.Faults{EmptyWrites: true, NoComplete: true}},
	} {
		t.Run(name, func(t *testing.T) {
			s, set := bench(t, c.faults, 50_000, 10, 7001)
			s.complete = c.complete
			b := save(t, s, set)
			got, err := readAll(b.Streams())
			if err != nil {
				t.Fatal(err)
			}
			sameAs(t, got, s.data)
			if s.truncated.Load() {
				t.Fatal("log truncated before the word was given")
			}
			outcome, err := b.Commit(t.Context())
			if err != nil || !outcome.Has(3014) || !s.truncated.Load() {
				t.Fatalf("commit: %v, outcome %+v, truncated %v", err, outcome, s.truncated.Load())
			}
			if err := b.Abort(t.Context()); err != nil {
				t.Fatalf("abort after commit: %v", err)
			}
		})
	}
}

// TestAbortAtTheEndKeepsTheLog: everything was read, but the repository failed.
func TestAbortAtTheEndKeepsTheLog(t *testing.T) {
	for _, faults := range []bridge.Faults{{}, {NoComplete: true}} {
		s, set := bench(t, faults, 9000, 9000)
		b := save(t, s, set)
		if _, err := readAll(b.Streams()); err != nil {
			t.Fatal(err)
		}
		if err := b.Abort(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.truncated.Load() {
			t.Fatal("log truncated although the backup was aborted")
		}
		if _, err := b.Commit(t.Context()); !errors.Is(err, server.ErrAborted) || s.truncated.Load() {
			t.Fatalf("commit after abort: %v", err)
		}
	}
}

// TestCommitBeforeTheEndIsRefused: a caller that has not read everything has not
// saved everything.
func TestCommitBeforeTheEndIsRefused(t *testing.T) {
	s, set := bench(t, bridge.Faults{}, 100, 100)
	b := save(t, s, set)
	if _, err := io.ReadAll(b.Streams()[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Commit(t.Context()); !errors.Is(err, vdi.ErrUnread) || s.truncated.Load() {
		t.Fatalf("commit: %v, truncated %v", err, s.truncated.Load())
	}
}

// TestStreamClosedEarlyAbortsTheStatement: the sink's failure is told first, SQL
// Server's second.
func TestStreamClosedEarlyAbortsTheStatement(t *testing.T) {
	s, set := bench(t, bridge.Faults{}, 100_000, 100_000)
	b := save(t, s, set)
	if _, err := io.ReadFull(b.Streams()[0], make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if err := b.Streams()[0].Close(); err != nil {
		t.Fatal(err)
	}
	_, err := b.Commit(t.Context())
	var said *server.Error
	if !errors.As(err, &said) || s.truncated.Load() {
		t.Fatalf("commit: %v", err)
	}
	if text := err.Error(); strings.Index(text, "closed before") > strings.Index(text, "3202") || !strings.Contains(text, "closed before") {
		t.Fatalf("the sink's failure does not come first: %s", text)
	}
}

// TestServerAbortReachesTheReader with SQL Server's own words.
func TestServerAbortReachesTheReader(t *testing.T) {
	s, set := bench(t, bridge.Faults{AbortAt: 20}, 100_000, 100_000)
	b := save(t, s, set)
	_, err := readAll(b.Streams())
	var said *server.Error
	if !errors.As(err, &said) || !said.Has(3202) {
		t.Fatalf("streams ended by: %v", err)
	}
	if err := b.Abort(t.Context()); err != nil || s.truncated.Load() {
		t.Fatalf("abort: %v", err)
	}
}

// TestMoreDataAfterTheWordFailsTheBackup: a server without VDC_Complete flushes in
// the middle; what was committed is not the whole, so the statement must fail.
func TestMoreDataAfterTheWordFailsTheBackup(t *testing.T) {
	s, set := bench(t, bridge.Faults{NoComplete: true, FlushEvery: 3}, 10_000)
	b := save(t, s, set)
	got, err := readAll(b.Streams())
	if err != nil || len(got[0]) != 3000 {
		t.Fatalf("%d bytes before the first flush: %v", len(got[0]), err)
	}
	if _, err := b.Commit(t.Context()); !errors.Is(err, vdi.ErrMoreData) || s.truncated.Load() {
		t.Fatalf("commit: %v, truncated %v", err, s.truncated.Load())
	}
}

// TestStatementThatFailsEarlyDoesNotHang: nobody ever connects to the set.
func TestStatementThatFailsEarlyDoesNotHang(t *testing.T) {
	s, set := bench(t, bridge.Faults{}, 10)
	denied := &server.Error{All: []server.Message{{Number: 262, Severity: 14, Text: "BACKUP DATABASE permission denied"}}}
	_, err := vdi.Save(t.Context(), set, s.names, func(context.Context) (*server.Outcome, error) { return nil, denied }, vdi.Options{})
	if !errors.Is(err, error(denied)) {
		t.Fatalf("save: %v", err)
	}
	s, set = bench(t, bridge.Faults{}, 10)
	_, err = vdi.Save(t.Context(), set, s.names, func(context.Context) (*server.Outcome, error) { return nil, nil }, vdi.Options{})
	if !errors.Is(err, vdi.ErrUnused) {
		t.Fatalf("save with a statement that does nothing: %v", err)
	}
}

// TestStatementThatWaitsForALockEndsWithTheContext: it never reaches the set, so
// that the set's abort does not reach it.
func TestStatementThatWaitsForALockEndsWithTheContext(t *testing.T) {
	s, set := bench(t, bridge.Faults{}, 10)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := vdi.Save(ctx, set, s.names, func(ctx context.Context) (*server.Outcome, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	}, vdi.Options{})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("save: %v", err)
	}
}

// TestServerThatDoesNotAsk: a statement that ends well without Flush or Complete
// has truncated behind our back, and no end of a stream may hide that.
func TestServerThatDoesNotAsk(t *testing.T) {
	s, set := bench(t, bridge.Faults{}, 500)
	b, err := vdi.Save(t.Context(), set, s.names, func(ctx context.Context) (*server.Outcome, error) {
		link, err := s.devices.Open(ctx, bridge.Request{Names: s.names, Write: true})
		if err != nil {
			return nil, err
		}
		if _, err := link.Devices()[0].Write(s.data[0]); err != nil {
			return nil, err
		}
		return &server.Outcome{}, link.Close()
	}, vdi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(b.Streams()); !errors.Is(err, vdi.ErrNotAsked) {
		t.Fatalf("stream ended by: %v", err)
	}
	if err := b.Abort(t.Context()); !errors.Is(err, vdi.ErrNotAsked) {
		t.Fatalf("abort: %v", err)
	}
}

// TestFlowControl: SQL Server gets no further ahead of the reader than the queue.
func TestFlowControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var writes atomic.Int32
		s, set := bench(t, bridge.Faults{Before: func(_ int, code vdi.Code) {
			if code == vdi.Write {
				writes.Add(1)
			}
		}}, 100_000)
		b := save(t, s, set) // a queue of 4096 bytes and writes of 1000
		synctest.Wait()
		// Four writes fit, the fifth waits in its answer, the sixth is not begun.
		if n := writes.Load(); n != 5 {
			t.Fatalf("SQL Server began %d writes while nobody read", n)
		}
		got, err := readAll(b.Streams())
		if err != nil {
			t.Fatal(err)
		}
		sameAs(t, got, s.data)
		if _, err := b.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestVerdictAfterTheWord: SQL Server may fail after the word was given, and the
// caller must hear it.
func TestVerdictAfterTheWord(t *testing.T) {
	s, set := bench(t, bridge.Faults{}, 500)
	full := &server.Error{All: []server.Message{{Number: 3009, Severity: 16, Text: "Could not insert a backup or restore history/detail record in the msdb database."}}}
	b, err := vdi.Save(t.Context(), set, s.names, func(ctx context.Context) (*server.Outcome, error) {
		if _, err := s.backup(ctx); err != nil {
			return nil, err
		}
		return nil, full
	}, vdi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(b.Streams()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Commit(t.Context()); !errors.Is(err, error(full)) {
		t.Fatalf("commit: %v", err)
	}
}

// TestCommitGivesUpWithItsContext: the verdict does not come; the statement is
// cancelled, and the error does not claim success.
func TestCommitGivesUpWithItsContext(t *testing.T) {
	s, set := bench(t, bridge.Faults{}, 500)
	b, err := vdi.Save(t.Context(), set, s.names, func(ctx context.Context) (*server.Outcome, error) {
		if _, err := s.backup(ctx); err != nil {
			return nil, err
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}, vdi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(b.Streams()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Commit(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("commit: %v", err)
	}
}

// watchedSet is a set with eyes: it fails the test when a method is called beside
// or after Close, which would be a crash in a DLL.
type watchedSet struct {
	vdi.Set
	t       *testing.T
	closed  chan struct{}
	aborted atomic.Bool
	deaf    bool  // Abort reaches nobody
	refuses error // of Configuration
	sudden  bool  // SQL Server gives up before the devices are opened
}

func watched(t *testing.T, inner vdi.Set) *watchedSet {
	return &watchedSet{Set: inner, t: t, closed: make(chan struct{})}
}

func (s *watchedSet) Configuration(timeout time.Duration) (vdi.Config, error) {
	if s.refuses != nil {
		return vdi.Config{}, s.refuses
	}
	return s.Set.Configuration(timeout)
}

func (s *watchedSet) OpenDevice(name string) (vdi.Device, error) {
	if s.sudden {
		_ = s.Set.Abort()
	}
	return s.Set.OpenDevice(name)
}

func (s *watchedSet) Close() error {
	close(s.closed) // panics at a second Close
	return s.Set.Close()
}

func (s *watchedSet) Abort() error {
	s.aborted.Store(true)
	select {
	case <-s.closed:
		s.t.Error("set aborted after it was closed")
	default:
	}
	if s.deaf {
		return nil
	}
	return s.Set.Abort()
}

// TestSetIsLeftAloneAfterClose whatever the caller does when all is over.
func TestSetIsLeftAloneAfterClose(t *testing.T) {
	s, inner := bench(t, bridge.Faults{}, 5000)
	ctx, cancel := context.WithCancel(t.Context())
	b, err := vdi.Save(ctx, watched(t, inner), s.names, s.backup, vdi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(b.Streams()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	for range 10 {
		if _, err := b.Commit(ctx); err != nil {
			t.Fatalf("a verdict that was known is forgotten: %v", err)
		}
		_ = b.Abort(ctx)
		_ = b.Streams()[0].Close()
	}
}

// TestAbortIsSignalled: SQL Server may be busy and hand nothing out for long, so
// that only the signal reaches it.
func TestAbortIsSignalled(t *testing.T) {
	s, inner := bench(t, bridge.Faults{}, 5000)
	set := watched(t, inner)
	b, err := vdi.Save(t.Context(), set, s.names, s.backup, vdi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Abort(t.Context()); err != nil || !set.aborted.Load() {
		t.Fatalf("abort: %v, signalled %v", err, set.aborted.Load())
	}
}

// TestDeafInterface: even if the abort's signal is lost, the answers to commands
// keep the log.
func TestDeafInterface(t *testing.T) {
	for range 20 {
		s, inner := bench(t, bridge.Faults{}, 100, 100)
		set := watched(t, inner)
		set.deaf = true
		b, err := vdi.Save(t.Context(), set, s.names, s.backup, vdi.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(b.Streams()[0]); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Commit(t.Context()); !errors.Is(err, vdi.ErrUnread) || s.truncated.Load() {
			t.Fatalf("commit: %v, truncated %v", err, s.truncated.Load())
		}
	}
}

// TestContextEndAbortsTheSet although the statement does not listen to it.
func TestContextEndAbortsTheSet(t *testing.T) {
	s, set := bench(t, bridge.Faults{}, 100_000)
	ctx, cancel := context.WithCancel(t.Context())
	b, err := vdi.Save(ctx, set, s.names, func(ctx context.Context) (*server.Outcome, error) {
		return s.backup(context.WithoutCancel(ctx))
	}, vdi.Options{BufferBytes: 4096})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := readAll(b.Streams()); !errors.Is(err, context.Canceled) {
		t.Fatalf("streams: %v", err)
	}
	if err := b.Abort(t.Context()); err != nil || s.truncated.Load() {
		t.Fatalf("abort: %v", err)
	}
}

// TestInterfaceThatFailsEndsTheStatement, which waits and knows nothing of it.
func TestInterfaceThatFailsEndsTheStatement(t *testing.T) {
	s, inner := bench(t, bridge.Faults{}, 10)
	set := watched(t, inner)
	set.refuses = vdi.ErrSecurity
	_, err := vdi.Save(t.Context(), set, s.names, func(ctx context.Context) (*server.Outcome, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}, vdi.Options{})
	if !errors.Is(err, vdi.ErrSecurity) {
		t.Fatalf("save: %v", err)
	}
}

// TestServerThatGivesUpBeforeTheDevicesAreOpen: its words are the reason.
func TestServerThatGivesUpBeforeTheDevicesAreOpen(t *testing.T) {
	s, inner := bench(t, bridge.Faults{}, 10)
	set := watched(t, inner)
	set.sudden = true
	_, err := vdi.Save(t.Context(), set, s.names, s.backup, vdi.Options{})
	var said *server.Error
	if !errors.As(err, &said) || !said.Has(3201) || errors.Is(err, context.Canceled) {
		t.Fatalf("save: %v", err)
	}
}

// TestServerThatForgetsToClose its devices: the statement's end is the end.
func TestServerThatForgetsToClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, set := bench(t, bridge.Faults{}, 500, 0)
		s.forgets = true
		b := save(t, s, set)
		if _, err := readAll(b.Streams()); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestServerThatDiesWithoutAWord: the connection of the statement is lost, and the
// devices hear nothing.
func TestServerThatDiesWithoutAWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, set := bench(t, bridge.Faults{}, 500)
		lost := errors.New("connection reset")
		b, err := vdi.Save(t.Context(), set, s.names, func(ctx context.Context) (*server.Outcome, error) {
			link, err := s.devices.Open(ctx, bridge.Request{Names: s.names, Write: true})
			if err != nil {
				return nil, err
			}
			_, _ = link.Devices()[0].Write(s.data[0])
			return nil, lost
		}, vdi.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readAll(b.Streams()); !errors.Is(err, lost) {
			t.Fatalf("streams: %v", err)
		}
		if err := b.Abort(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
