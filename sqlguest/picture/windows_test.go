package picture_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/picture"
	"holdfast/sqlguest/plan"
)

// TestWindowsAreWhatThePlannerReaches: each moment that a report claims has a plan,
// and each moment between has none.
func TestWindowsAreWhatThePlannerReaches(t *testing.T) {
	claimed, between, ends, gaps := 0, 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		d := live(t)
		r := chain.Describe(d.taken, nil)
		makes := func(target plan.Target) bool {
			_, err := plan.Make(target, d.taken, plan.Options{})
			return err == nil
		}
		for i, l := range r.Lines {
			for _, s := range l.Spans {
				middle := s.From.Add(s.To.Sub(s.From) / 2).Truncate(time.Second)
				for _, at := range []time.Time{s.From, middle, s.To} {
					if claimed++; !makes(plan.Target{At: at, Bare: true}) {
						t.Fatalf("line %d claims %s to %s, and no plan leads to %s\n%s", i, s.From, s.To, at, show(d))
					}
				}
			}
			for _, w := range l.Windows {
				if end := d.taken[slices.IndexFunc(d.taken, func(b chain.Backup) bool { return b.Point == w.From.Point })].Ending(); w.Single && w.From != end {
					t.Fatalf("line %d: the end of a backup alone is %v, and refusals say %v", i, w.From, end)
				}
				for _, m := range []chain.Moment{w.From, w.To} {
					if ends++; !makes(plan.Target{Point: m.Point}) {
						t.Fatalf("line %d claims the end of %s, and no plan leads there\n%s", i, m.Point, show(d))
					}
				}
			}
		}
		for _, l := range r.Lines {
			for _, o := range l.Holes {
				if o.Why != chain.HoleGap || o.From.IsZero() {
					continue
				}
				gaps++
				if on := crossed(d.taken, r.Family, o); on != "" {
					t.Fatalf("a gap from %s to the end of %s, and a plan leads into it on fork %s\n%s", o.From, o.Point, on, show(d))
				}
			}
		}
		for second := d.taken0(); second.Before(d.now); second = second.Add(time.Duration(rapid.IntRange(1, 200).Draw(t, "ahead")) * time.Second) {
			if !claims(r, second) {
				if between++; makes(plan.Target{At: second, Bare: true}) {
					t.Fatalf("no line claims %s, and a plan leads there\n%s", second, show(d))
				}
			}
		}
		if newest := makes(plan.Target{}); len(d.taken) > 0 && newest == r.Broken {
			t.Fatalf("broken %v, and a plan for the newest moment: %v\n%s", r.Broken, newest, show(d))
		}
	})
	t.Logf("%d moments claimed, %d between, %d ends, %d gaps", claimed, between, ends, gaps)
	if claimed < 100 || gaps < 20 || between < 500 || ends < 100 {
		t.Error("the histories hold too little: the test proves nothing")
	}
}

// crossed is a fork on which a plan leads over the first record of a gap, although the
// history holds the backup behind it. Where LSNs were given out twice on a fork nothing
// tells which one a plan meant.
func crossed(taken []chain.Backup, family string, o chain.Hole) string {
	list := chain.Histories(taken, family)
	forks := map[string]int{}
	for i := range list {
		forks[list[i].Fork]++
	}
	for i := range list {
		h := &list[i]
		if !h.Holds(o.Point) || forks[h.Fork] > 1 {
			continue
		}
		if _, err := plan.Make(plan.Target{LSN: o.From}, taken, plan.Options{Fork: h.Fork}); err == nil {
			return h.Fork
		}
	}
	return ""
}

// TestAPointDoesNotContradictItself: what can be restored has a way, and a window
// around its end.
func TestAPointDoesNotContradictItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := live(t)
		for range min(len(d.taken), 6) {
			b := d.taken[rapid.IntRange(0, len(d.taken)-1).Draw(t, "point")]
			a := picture.AboutPoint(d.taken, b.Point)
			if way := a.WhyNot == ""; way != (len(a.Needs) > 0) || way != a.Restorable || way != (a.Window != nil) {
				t.Fatalf("%s: restorable %v, needs %q, why not %q, window %+v\n%s", b.Point[:8], a.Restorable, a.Needs, a.WhyNot, a.Window, show(d))
			}
		}
	})
}
