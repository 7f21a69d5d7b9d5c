package replay_test

import (
	"errors"
	"strings"
	"testing"

	"holdfast/repo/backend"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
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
	var names []string
	w.must(w.be.List(t.Context(), "", func(i backend.Info) error {
		if strings.HasPrefix(i.Name, "data/") {
			names = append(names, i.Name)
		}
		return nil
	}))
	if len(names) == 0 {
		t.Fatal("no packs")
	}
	for _, name := range names {
		w.must(w.be.Delete(t.Context(), name))
	}
	_, err := w.job(w.instance, plan.Target{}, plan.Options{Replace: true, Kick: true}).Do(t.Context())
	if err == nil || errors.Is(err, replay.ErrLeft) {
		t.Fatalf("%v", err)
	}
	w.wantState("sales", "ONLINE MULTI_USER")
	w.want("sales", "full log mark behind diff last tail")
}
