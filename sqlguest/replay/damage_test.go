package replay_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"holdfast/repo/backend"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
	"holdfast/sqlguest/server"
)

// TestWayRoundAPointThatCannotBeRead: an older full and unbroken logs lead to the same
// moment.
func TestWayRoundAPointThatCannotBeRead(t *testing.T) {
	w := newWorld(t)
	w.add(10, "full")
	w.back(decide.Full, "sales")
	w.add(11, "log")
	w.back(decide.Log, "sales")
	second := w.back(decide.Full, "sales")[0]
	w.add(12, "log2")
	w.back(decide.Log, "sales")
	r := w.job(w.instance, plan.Target{}, plan.Options{Replace: true, Kick: true})
	r.Streams = &cut{r.Streams, second, 200_000}
	res, err := r.Do(t.Context())
	w.must(err)
	w.want("sales", "full log log2")
	w.wantState("sales", "ONLINE MULTI_USER")
	if !strings.Contains(strings.Join(res.Warnings, " "), "point "+second+" cannot be read") {
		t.Errorf("%q", res.Warnings)
	}
}

// without takes those packs away that were not there before.
func (w *world) without(packs, before []string) {
	w.t.Helper()
	for _, name := range packs {
		if !slices.Contains(before, name) {
			w.must(w.be.Delete(w.t.Context(), name))
		}
	}
}

func (w *world) packs() (names []string) {
	w.t.Helper()
	w.must(w.be.List(w.t.Context(), "data/", func(i backend.Info) error {
		names = append(names, i.Name)
		return nil
	}))
	return names
}

// TestPlanShowsTheWayRoundWhatIsLost: that which the restore goes; and where there is
// none, what the restore says.
func TestPlanShowsTheWayRoundWhatIsLost(t *testing.T) {
	w := newWorld(t)
	w.add(10, "full")
	first := w.back(decide.Full, "sales")[0]
	w.add(11, "log")
	w.back(decide.Log, "sales")
	before := w.packs()
	w.add(13, "lost")
	second := w.back(decide.Full, "sales")[0]
	packs := w.packs()
	w.add(12, "log2")
	w.back(decide.Log, "sales")
	w.without(packs, before)
	job := func(target plan.Target) *replay.Run {
		return w.job(w.instance, target, plan.Options{Replace: true, Kick: true})
	}
	p, err := job(plan.Target{}).Preview(t.Context())
	w.must(err)
	if said := strings.Join(p.Plan.Warnings, " "); !strings.Contains(said, "point "+second+" cannot be read") || !slices.ContainsFunc(p.Plan.Steps, func(s plan.Step) bool { return s.Point == first }) {
		t.Errorf("%q, %v", said, p.Plan.Steps)
	}
	var miss, done *plan.Unreachable
	if _, err := job(plan.Target{Point: second}).Preview(t.Context()); !errors.As(err, &miss) {
		t.Fatalf("%v", err)
	}
	if _, err := job(plan.Target{Point: second}).Do(t.Context()); !errors.As(err, &done) || done.Error() != miss.Error() {
		t.Errorf("plan %v, restore %v", miss, err)
	}
	w.wantState("sales", "ONLINE MULTI_USER")
}

// mute is a repository that does not answer for a while.
type mute struct {
	replay.Streams
	point string
}

func (m *mute) Probe(_ context.Context, point string, _ int) error {
	if point == m.point {
		return fmt.Errorf("look for data/xx: %w", backend.ErrUnreachable)
	}
	return nil
}

// TestRepositoryThatDoesNotAnswerIsNoLoss: nothing is decided by it, and no other way gone.
func TestRepositoryThatDoesNotAnswerIsNoLoss(t *testing.T) {
	w := newWorld(t)
	w.add(10, "full")
	w.back(decide.Full, "sales")
	w.add(11, "log")
	w.back(decide.Log, "sales")
	second := w.back(decide.Full, "sales")[0]
	w.add(12, "log2")
	last := w.back(decide.Log, "sales")[0]
	for _, point := range []string{second, last} {
		for _, nearest := range []plan.Nearest{plan.Refuse, plan.Before} {
			r := w.job(w.instance, plan.Target{}, plan.Options{As: "y", Nearest: nearest})
			r.Streams = &mute{r.Streams, point}
			if _, err := r.Preview(t.Context()); !errors.Is(err, backend.ErrUnreachable) || errors.Is(err, plan.ErrUnreachable) {
				t.Errorf("plan: %v", err)
			}
			if _, err := r.Do(t.Context()); !errors.Is(err, backend.ErrUnreachable) || errors.Is(err, plan.ErrUnreachable) {
				t.Errorf("restore: %v", err)
			}
		}
	}
	w.wantState("y", "none")
}

// TestLogThatCannotBeReadNamesTheNearestMoment: --continue would meet it again.
func TestLogThatCannotBeReadNamesTheNearestMoment(t *testing.T) {
	w := newWorld(t)
	s := w.live()
	r := w.job(w.instance, plan.Target{Point: s.last}, plan.Options{Replace: true, Kick: true})
	r.Streams = &cut{r.Streams, s.last, 1000}
	_, err := r.Do(t.Context())
	var left *replay.Left
	if !errors.As(err, &left) || !strings.Contains(left.Hint(), "--point "+s.diff) {
		t.Fatalf("%v, hint %q", err, left.Hint())
	}
	w.restore(w.instance, plan.Target{Point: s.diff}, plan.Options{Replace: true})
	w.want("sales", "full log mark behind diff")
}

// TestMissingPointIsFoundBeforeTheDatabaseIsTouched: the index tells which chunks there are.
func TestMissingPointIsFoundBeforeTheDatabaseIsTouched(t *testing.T) {
	w := newWorld(t)
	w.live()
	if len(w.packs()) == 0 {
		t.Fatal("no packs")
	}
	w.without(w.packs(), nil)
	_, err := w.job(w.instance, plan.Target{}, plan.Options{Replace: true, Kick: true}).Do(t.Context())
	if err == nil || errors.Is(err, replay.ErrLeft) {
		t.Fatalf("%v", err)
	}
	var knows interface{ Hint() string }
	if !errors.As(err, &knows) || !strings.Contains(knows.Hint(), "holdfast check ") || !strings.Contains(knows.Hint(), "holdfast repair index ") {
		t.Errorf("hint of %v", err)
	}
	w.wantState("sales", "ONLINE MULTI_USER")
	w.want("sales", "full log mark behind diff last tail")
}

// stopped is a stream that nobody wants any more.
type stopped struct {
	replay.Streams
	before func() // each is opened
	opened bool   // else Open itself is cut off
}

func (s *stopped) Open(ctx context.Context, point string, n int) (io.ReadCloser, error) {
	s.before()
	if s.opened {
		return io.NopCloser(s), nil
	}
	return nil, fmt.Errorf("load stream: %w", context.Canceled)
}

func (s *stopped) Read([]byte) (int, error) {
	return 0, fmt.Errorf("load stream: %w", context.Canceled)
}

// TestInterruptionIsNoDamage: neither of the run, before anything is touched and behind
// that, nor of a stream whose statement had failed.
func TestInterruptionIsNoDamage(t *testing.T) {
	w := newWorld(t)
	w.live()
	for _, opened := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		r := w.job(w.instance, plan.Target{}, plan.Options{As: "copy"})
		r.Streams = &stopped{Streams: r.Streams, before: cancel, opened: opened}
		_, err := r.Do(ctx)
		w.noDamage(err, context.Canceled)
	}
	r := w.job(w.instance, plan.Target{}, plan.Options{As: "copy"})
	r.Streams = &stopped{Streams: r.Streams, before: func() {}, opened: true}
	r.Server = &reading{w.sql}
	_, err := r.Do(t.Context())
	w.noDamage(err, errFault)
	w.wantState("copy", "none")
}

// reading is a server that fails for a reason of its own while it reads.
type reading struct{ server.Server }

func (s *reading) Restore(_ context.Context, _ server.Statement, streams []io.Reader) (*server.Outcome, error) {
	_, _ = streams[0].Read(make([]byte, 1))
	return nil, errFault
}

// noDamage wants an error that is of that cause and says nothing of a point's damage.
func (w *world) noDamage(err, cause error) {
	w.t.Helper()
	if !errors.Is(err, cause) || strings.Contains(err.Error(), "read point") {
		w.t.Errorf("%v", err)
	}
	if hint := (interface{ Hint() string })(nil); errors.As(err, &hint) && strings.Contains(hint.Hint(), "scrub") {
		w.t.Errorf("%v: hint %s", err, hint.Hint())
	}
}
