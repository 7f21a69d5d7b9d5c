package vdi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/server"
	"holdfast/sqlguest/vdi"
)

// schedule is what happens to one backup, drawn before it begins.
type schedule struct {
	faults   bridge.Faults
	complete completing
	sizes    []int
	piece    int
	buffer   int
	end      string // what our side does in the end
	after    int    // and after how many bytes of all streams
	beside   string // what happens at the same time as Commit
}

func drawSchedule(t *rapid.T) schedule {
	return schedule{
		faults: bridge.Faults{
			NoComplete:  rapid.Bool().Draw(t, "no complete"),
			FlushEvery:  rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "flush every"),
			EmptyWrites: rapid.Bool().Draw(t, "empty writes"),
			AbortAt:     rapid.SampledFrom([]int{0, 0, 0, 1, 2, 5, 9, 14, 25}).Draw(t, "abort at"),
		},
		complete: completing(rapid.IntRange(0, 2).Draw(t, "completing")),
		sizes:    rapid.SliceOfN(rapid.IntRange(0, 9000), 1, 4).Draw(t, "sizes"),
		piece:    rapid.SampledFrom([]int{300, 1000, 1024, 65536, 70_000}).Draw(t, "piece"),
		buffer:   rapid.SampledFrom([]int{1, 1000, 1 << 20}).Draw(t, "buffer"),
		end:      rapid.SampledFrom([]string{"commit", "commit", "commit", "abort", "close", "cancel", "commit early", "statement"}).Draw(t, "end"),
		after:    rapid.IntRange(0, 20_000).Draw(t, "after"),
		beside:   rapid.SampledFrom([]string{"", "", "abort", "cancel", "statement", "close"}).Draw(t, "beside"),
	}
}

// TestNothingIsTruncatedUnlessCommitted is the rule over random schedules: SQL
// Server truncates only if Commit was called after every byte had been taken, and
// Commit succeeds only if it did.
func TestNothingIsTruncatedUnlessCommitted(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) { runSchedule(t, r, drawSchedule(r)) })
}

func runSchedule(t *testing.T, r *rapid.T, plan schedule) {
	s, set := bench(t, plan.faults, plan.sizes...)
	s.complete, s.piece = plan.complete, plan.piece
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	statement, stop := context.WithCancel(t.Context())
	defer stop()
	b, err := vdi.Save(ctx, set, s.names, func(ctx context.Context) (o *server.Outcome, err error) {
		both, end := context.WithCancel(ctx)
		defer end()
		defer context.AfterFunc(statement, end)()
		return s.backup(both)
	}, vdi.Options{BufferBytes: plan.buffer})
	if err != nil {
		if s.truncated.Load() {
			r.Fatalf("log truncated by a backup that never began: %v", err)
		}
		return
	}
	events := map[string]func(){
		"abort": func() { _ = b.Abort(t.Context()) }, "close": func() { _ = b.Streams()[0].Close() },
		"cancel": cancel, "statement": stop,
		"commit early": func() { _, _ = b.Commit(t.Context()) },
	}
	taken := &taker{streams: b.Streams(), limit: int64(plan.after), event: events[plan.end]}
	readErr := taken.run()
	everything := readErr == nil && taken.equal(s.data)
	if s.truncated.Load() {
		r.Fatal("log truncated before Commit")
	}
	if readErr != nil {
		if err := b.Abort(t.Context()); err != nil {
			r.Fatalf("abort: %v", err)
		}
		if s.truncated.Load() {
			r.Fatalf("log truncated although a stream failed: %v", readErr)
		}
		return
	}
	var beside sync.WaitGroup
	if event := events[plan.beside]; event != nil {
		beside.Go(event)
	}
	_, err = b.Commit(t.Context())
	beside.Wait()
	if s.truncated.Load() && !everything {
		r.Fatal("log truncated although the streams do not hold all of it")
	}
	if err == nil && (!s.truncated.Load() || !everything) {
		r.Fatal("commit succeeded although SQL Server did not finish")
	}
	if taken.event == nil && (plan.beside == "" || plan.beside == "close") && plan.faults.AbortAt == 0 && err != nil && !errors.Is(err, vdi.ErrMoreData) {
		r.Fatalf("a good day ended in: %v", err)
	}
}

// taker reads all streams at once and lets the event happen after so many bytes.
type taker struct {
	streams []io.ReadCloser
	limit   int64
	event   func()

	total atomic.Int64
	once  sync.Once
	got   []bytes.Buffer
}

func (k *taker) run() error {
	k.got = make([]bytes.Buffer, len(k.streams))
	errs := make([]error, len(k.streams))
	var wg sync.WaitGroup
	for i, s := range k.streams {
		wg.Go(func() { errs[i] = k.read(i, s) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (k *taker) read(i int, s io.Reader) error {
	p := make([]byte, 512)
	for {
		n, err := s.Read(p)
		k.got[i].Write(p[:n])
		if k.total.Add(int64(n)) > k.limit && k.event != nil {
			k.once.Do(k.event)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (k *taker) equal(want [][]byte) bool {
	for i := range want {
		if !bytes.Equal(k.got[i].Bytes(), want[i]) {
			return false
		}
	}
	return true
}

// TestRestoreIsWholeOrFails over random sizes, pieces, faults and cuts: a verdict
// without an error means that SQL Server has exactly the bytes of the backup.
func TestRestoreIsWholeOrFails(t *testing.T) {
	cut := errors.New("stream cut")
	rapid.Check(t, func(r *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(0, 9000), 1, 4).Draw(r, "sizes")
		abortAt := rapid.SampledFrom([]int{0, 0, 0, 1, 2, 4, 8}).Draw(r, "abort at")
		cutAt := rapid.SampledFrom([]int{-1, -1, 0, 1, 1000, 4000}).Draw(r, "cut at")
		s, set := bench(t, bridge.Faults{AbortAt: abortAt}, sizes...)
		s.piece = rapid.SampledFrom([]int{1000, 1024, 70_000}).Draw(r, "piece")
		var streams []io.Reader
		for _, data := range s.data {
			streams = append(streams, bytes.NewReader(data))
		}
		isCut := cutAt >= 0 && cutAt <= sizes[0]
		if isCut {
			streams[0] = io.MultiReader(bytes.NewReader(s.data[0][:cutAt]), iotest.ErrReader(cut))
		}
		_, err := vdi.Load(t.Context(), set, s.names, streams, s.restore, vdi.Options{})
		switch {
		case err == nil && (isCut || abortAt == 1):
			r.Fatal("a restore that was cut succeeded")
		case err != nil && !isCut && abortAt == 0:
			r.Fatalf("a good restore failed: %v", err)
		case err != nil:
			return
		}
		for i := range s.data {
			if !bytes.Equal(s.restored[i], s.data[i]) {
				r.Fatalf("device %d restored with other bytes", i)
			}
		}
	})
}
