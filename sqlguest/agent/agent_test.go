package agent_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"reflect"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast/sqlguest/agent"
	"holdfast/sqlguest/agent/trust"
	"holdfast/sqlguest/server"
	"holdfast/sqlguest/vdi"
)

func TestClientIsTheServer(t *testing.T) {
	p := start(t, agent.ServiceOptions{Checks: func(context.Context) []agent.Check { return []agent.Check{{ID: "port", Status: "ok"}} }})
	c := p.connect(t)
	defer c.Close()
	args := []server.Arg{{Name: "n"}, {Name: "i", Value: int64(math.MinInt64)}, {Name: "s", Value: "{x}"}, {Name: "b", Value: []byte{}}, {Name: "y", Value: false}}
	far, err := c.Query(t.Context(), "any", args...)
	must(t, err)
	near, _ := p.sql.Query(t.Context(), "any", args...)
	if !reflect.DeepEqual(far, near) {
		t.Errorf("rows from afar\n%#v\nnot as beside\n%#v", far, near)
	}
	_, err = c.Query(t.Context(), "fail")
	var said *server.Error
	if !errors.As(err, &said) || !reflect.DeepEqual(said, errDevice) {
		t.Errorf("error from afar %v", err)
	}
	if h, err := c.Host(t.Context()); err != nil || h.Name != "GUEST" {
		t.Errorf("host %+v, %v", h, err)
	}
	if list, err := c.Checks(t.Context()); err != nil || len(list) != 1 || list[0].Status != "ok" {
		t.Errorf("checks %+v, %v", list, err)
	}
	release, err := c.Hold(t.Context(), "d")
	must(t, err)
	if _, err := c.Hold(t.Context(), "d"); !errors.Is(err, server.ErrHeld) {
		t.Errorf("second hold: %v", err)
	}
	must(t, c.Held(t.Context(), "d"))
	if err := c.Held(t.Context(), "e"); !errors.Is(err, server.ErrLockLost) {
		t.Errorf("lock that nobody took: %v", err)
	}
	must(t, release())
	must(t, release())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Query(ctx, "wait"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled query: %v", err)
	}
}

func readAll(b server.Backup) ([][]byte, error) {
	out := make([][]byte, len(b.Streams()))
	errs := make([]error, len(out))
	var all sync.WaitGroup
	for i, s := range b.Streams() {
		all.Go(func() { out[i], errs[i] = io.ReadAll(s) })
	}
	all.Wait()
	return out, errors.Join(errs...)
}

func TestBackupAndRestoreFromAfar(t *testing.T) {
	p := start(t, agent.ServiceOptions{})
	p.sql.sizes = []int{5 << 20, 0, 1}
	c := p.connect(t)
	defer c.Close()
	b, err := c.Backup(t.Context(), server.Statement{Text: "BACKUP"})
	must(t, err)
	data, err := readAll(b)
	must(t, err)
	outcome, err := b.Commit(t.Context())
	if err != nil || !outcome.Has(3014) || !p.sql.truncated {
		t.Fatalf("commit %+v: %v", outcome, err)
	}
	must(t, b.Abort(t.Context()))
	var streams []io.Reader
	for i, d := range data {
		if !bytes.Equal(d, content(i, p.sql.sizes[i])) {
			t.Errorf("stream %d differs", i)
		}
		streams = append(streams, bytes.NewReader(d))
	}
	_, err = c.Restore(t.Context(), server.Statement{Text: "RESTORE"}, streams)
	must(t, err)
	if !reflect.DeepEqual(p.sql.restored, data) {
		t.Error("restored bytes differ")
	}
	broken := errors.New("chunk is missing")
	_, err = c.Restore(t.Context(), server.Statement{Text: "RESTORE"}, []io.Reader{io.MultiReader(bytes.NewReader(data[0]), failing{broken})})
	if !errors.Is(err, broken) {
		t.Errorf("restore of a broken stream: %v", err)
	}
	var said *server.Error
	if _, err = c.Restore(t.Context(), server.Statement{Text: "refused"}, []io.Reader{bytes.NewReader(data[0])}); !errors.As(err, &said) {
		t.Errorf("refused restore: %v", err)
	}
	if _, err := c.Backup(t.Context(), server.Statement{Text: "refused"}); !errors.As(err, &said) {
		t.Errorf("refused backup: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestFailedStreamIsNoEnd: SQL Server's error comes out of the stream, with its number.
func TestFailedStreamIsNoEnd(t *testing.T) {
	p := start(t, agent.ServiceOptions{})
	p.sql.sizes, p.sql.broken = []int{1000}, 0
	c := p.connect(t)
	defer c.Close()
	b, err := c.Backup(t.Context(), server.Statement{})
	must(t, err)
	var said *server.Error
	if _, err := readAll(b); !errors.As(err, &said) || !said.Has(3202) {
		t.Errorf("read: %v", err)
	}
	if _, err := b.Commit(t.Context()); !errors.Is(err, vdi.ErrUnread) || p.sql.truncated {
		t.Errorf("commit: %v", err)
	}
}

// TestQ26CutConnectionAborts: whatever the moment at which the connection is cut, a
// log is truncated only if the client had all of it and gave the word, no cut looks
// like an end, and nothing runs on.
func TestQ26CutConnectionAborts(t *testing.T) {
	p := start(t, agent.ServiceOptions{})
	rapid.Check(t, func(t *rapid.T) {
		c := p.connect(t)
		defer c.Close()
		p.sql.mu.Lock()
		p.sql.truncated, p.sql.committing = false, nil
		p.sql.sizes = rapid.SliceOfN(rapid.IntRange(0, 3<<20), 1, 3).Draw(t, "sizes")
		p.sql.mu.Unlock()
		phase := rapid.SampledFrom([]string{"begun", "reading", "read", "deciding", "closed", "goodness"}).Draw(t, "phase")
		_, err := c.Hold(context.Background(), "d")
		must2(t, err)
		b, err := c.Backup(context.Background(), server.Statement{})
		must2(t, err)
		word, before := false, 0
		switch phase {
		case "begun":
			p.cut()
		case "reading":
			part := make([]byte, rapid.IntRange(0, p.sql.sizes[0]).Draw(t, "bytes"))
			if _, err := io.ReadFull(b.Streams()[0], part); err != nil && len(part) > 0 {
				t.Fatal(err)
			}
			before = len(part)
			p.cut()
		}
		data, err := readAll(b)
		if err == nil {
			for i := range data {
				if got := before + len(data[i]); got != p.sql.sizes[i] {
					t.Fatalf("stream %d ended after %d of %d bytes", i, got, p.sql.sizes[i])
				}
				before = 0 // only of the first was something read before
			}
			switch phase {
			case "read":
				p.cut()
			case "deciding":
				p.sql.committing = p.cut
			case "closed":
				must2(t, c.Close())
			}
			word = true
			_, _ = b.Commit(context.Background())
		}
		_ = c.Close()
		_ = p.connect(t).Close() // the next session begins when the last has ended
		p.sql.mu.Lock()
		defer p.sql.mu.Unlock()
		if p.sql.running != 0 || len(p.sql.locks) != 0 {
			t.Fatalf("%d statements and %d locks are left", p.sql.running, len(p.sql.locks))
		}
		if p.sql.truncated && !word {
			t.Fatal("truncated without the word")
		}
		if p.sql.truncated != (phase == "goodness") && phase != "deciding" && phase != "reading" && phase != "begun" {
			t.Fatalf("phase %s: truncated %v", phase, p.sql.truncated)
		}
	})
}

func must2(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

// TestAbandonedBackupAborts: a client that closes a stream, or whose context ends.
func TestAbandonedBackupAborts(t *testing.T) {
	p := start(t, agent.ServiceOptions{})
	p.sql.sizes = []int{8 << 20}
	c := p.connect(t)
	b, err := c.Backup(t.Context(), server.Statement{})
	must(t, err)
	if _, err := b.Streams()[0].Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	must(t, b.Streams()[0].Close())
	if _, err := b.Commit(t.Context()); err == nil {
		t.Error("committed what was not read")
	}
	ctx, cancel := context.WithCancel(t.Context())
	b, err = c.Backup(ctx, server.Statement{})
	must(t, err)
	cancel()
	if _, err := readAll(b); err == nil {
		t.Error("read on after the context's end")
	}
	must(t, c.Close())
	_ = p.connect(t).Close()
	if p.sql.truncated || p.sql.running != 0 {
		t.Errorf("truncated %v, %d statements left", p.sql.truncated, p.sql.running)
	}
}

// TestAbortTellsThatNobodyAnswered: at once, before the session's end is noticed, and to
// everyone who asks; who can still be asked answers.
func TestAbortTellsThatNobodyAnswered(t *testing.T) {
	p := start(t, agent.ServiceOptions{})
	p.sql.sizes = []int{8 << 20}
	for range 20 {
		c := p.connect(t)
		ctx, cancel := context.WithCancel(t.Context())
		b, err := c.Backup(ctx, server.Statement{})
		must(t, err)
		alive, err := c.Backup(t.Context(), server.Statement{})
		must(t, err)
		if _, err := b.Streams()[0].Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		must(t, alive.Abort(t.Context()))
		p.cut()
		cancel()
		for range 2 {
			if err := b.Abort(ctx); !errors.Is(err, server.ErrUntold) {
				t.Fatalf("a cut session says %v", err)
			}
		}
		must(t, alive.Abort(t.Context()))
		_ = c.Close()
	}
}

func TestSecondPeerIsRefused(t *testing.T) {
	p := start(t, agent.ServiceOptions{})
	c := p.connect(t)
	if _, err := agent.Connect(t.Context(), agent.ClientOptions{Dial: p.dial, Keys: p.client}); !errors.Is(err, agent.ErrBusy) {
		t.Errorf("second session: %v", err)
	}
	must(t, c.Close())
	must(t, p.connect(t).Close())
}

// TestStrangersAreRefused: another run's keys, and the agent's own played back.
func TestStrangersAreRefused(t *testing.T) {
	p := start(t, agent.ServiceOptions{})
	service, other, err := trust.New(time.Now())
	must(t, err)
	mixed := *other // knows which certificate the agent has
	mixed.Authority, mixed.Peer = p.client.Authority, p.client.Peer
	for name, keys := range map[string]*trust.Keys{"other run": other, "other run's agent": service, "forged": &mixed} {
		if c, err := agent.Connect(t.Context(), agent.ClientOptions{Dial: p.dial, Keys: keys}); err == nil {
			_ = c.Close()
			t.Errorf("%s was let in", name)
		}
	}
	impostor := *p.client
	impostor.Peer = other.Certificate
	if _, err := agent.Connect(t.Context(), agent.ClientOptions{Dial: p.dial, Keys: &impostor}); !errors.Is(err, trust.ErrStranger) {
		t.Errorf("agent that is not ours: %v", err)
	}
	must(t, p.connect(t).Close())
}

// TestClocksDecideNothing: keys of long ago and of the future work as well.
func TestClocksDecideNothing(t *testing.T) {
	for _, year := range []int{1980, 2049} {
		service, client, err := trust.New(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC))
		must(t, err)
		p := start(t, agent.ServiceOptions{})
		q := &place{sql: p.sql, client: client, served: make(chan error, 1)}
		q.serve(t, service)
		must(t, q.connect(t).Close())
	}
}

func TestAgentEnds(t *testing.T) {
	p := start(t, agent.ServiceOptions{IdleTimeout: time.Millisecond})
	if err := <-p.served; !errors.Is(err, agent.ErrIdle) {
		t.Errorf("idle agent: %v", err)
	}
	p = start(t, agent.ServiceOptions{Lifetime: time.Millisecond})
	if err := <-p.served; !errors.Is(err, agent.ErrLifetime) {
		t.Errorf("old agent: %v", err)
	}
	p = start(t, agent.ServiceOptions{})
	must(t, p.connect(t).Goodbye(t.Context()))
	if err := <-p.served; err != nil {
		t.Errorf("goodbye: %v", err)
	}
}
