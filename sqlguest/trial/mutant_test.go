package trial

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/recovery"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
	"holdfast/sqlguest/server"
)

// mutant is a mistake planted between what the repository tells and what is carried
// out; the zero mutant is none.
type mutant struct {
	name string
	do   func(*replay.Run)
	// judge is a mistake in what a policy says instead.
	judge func([]recovery.Judged)
	// often are operations that happen ten times as often: where the mistake shows.
	often []string
	// dst puts the history where clocks are set back.
	dst bool
}

func (m mutant) restore(r *replay.Run) *replay.Run {
	if m.do != nil {
		r.Backups = slices.Clone(r.Backups)
		m.do(r)
	}
	return r
}

// each changes all backups.
func each(fn func(b *chain.Backup)) func(*replay.Run) {
	return func(r *replay.Run) {
		for i := range r.Backups {
			fn(&r.Backups[i])
		}
	}
}

// rewriting is a server to which other statements come than were sent.
type rewriting struct {
	server.Server
	rewrite func(text string) string
}

func (r rewriting) Restore(ctx context.Context, st server.Statement, streams []io.Reader) (*server.Outcome, error) {
	st.Text = r.rewrite(st.Text)
	return r.Server.Restore(ctx, st, streams)
}

func rewrite(pattern, by string) func(*replay.Run) {
	re := regexp.MustCompile(pattern)
	return func(r *replay.Run) {
		r.Server = rewriting{r.Server, func(text string) string { return re.ReplaceAllString(text, by) }}
	}
}

// newestFull gives differentials another base: the newest full before them that fits.
func newestFull(fits func(b *chain.Backup) bool) func(*replay.Run) {
	return func(r *replay.Run) {
		set := ""
		for i := range r.Backups {
			switch b := &r.Backups[i]; {
			case b.Kind == chain.Full && b.State == chain.Confirmed && fits(b):
				set = b.Set
			case b.Kind == chain.Diff && set != "":
				b.Base = set
			}
		}
	}
}

// mutants are mistakes of the kinds that chain, plan and replay could make.
var mutants = []mutant{
	{name: "time: a second too late", do: func(r *replay.Run) {
		if !r.Target.At.IsZero() {
			r.Target.At = r.Target.At.Add(time.Second)
		}
	}},
	{name: "time: a second too early", do: func(r *replay.Run) {
		if !r.Target.At.IsZero() {
			r.Target.At = r.Target.At.Add(-time.Second)
		}
	}},
	{name: "time: no stop clause", do: rewrite(`, STOPAT = N'[^']*'`, "")},
	{name: "time: an instant taken for a reading", do: func(r *replay.Run) { r.Target.Bare = true; r.Target.At = r.Target.At.UTC() }},
	{name: "LSN: before and through exchanged", do: func(r *replay.Run) {
		if !r.Target.LSN.IsZero() {
			r.Target.Before = !r.Target.Before
		}
	}},
	{name: "mark: before and at exchanged", do: func(r *replay.Run) {
		if r.Target.Mark != "" {
			r.Target.Before = !r.Target.Before
		}
	}},
	{name: "mark: no stop clause", do: rewrite(`, STOP(AT|BEFORE)MARK = N'(mark|lsn)[^']*'( AFTER N'[^']*')?`, "")},
	{name: "data backup good from its start on", do: each(func(b *chain.Backup) {
		if b.Kind != chain.Log {
			b.Finished = b.Finished.Add(-time.Minute)
		}
	})},
	{name: "log good beyond its start", do: each(func(b *chain.Backup) {
		if b.Kind == chain.Log {
			b.Started = b.Started.Add(time.Minute)
		}
	})},
	{name: "copy-only full taken for a base", do: newestFull(func(b *chain.Backup) bool { return b.CopyOnly }), often: []string{"full"}},
	{name: "oldest full taken for the base", do: func(r *replay.Run) {
		first := ""
		newestFull(func(b *chain.Backup) bool { first = cmp.Or(first, b.Set); return b.Set == first })(r)
	}},
	{name: "forks ignored", do: each(func(b *chain.Backup) { b.Fork, b.FirstFork, b.ForkPoint = "ONE", "ONE", chain.Header{}.ForkPoint }), often: []string{"back"}},
	{name: "fork points ignored", do: each(func(b *chain.Backup) { b.FirstFork, b.ForkPoint = b.Fork, chain.Header{}.ForkPoint }), often: []string{"back"}},
	{name: "gaps ignored", do: func(r *replay.Run) {
		var last *chain.Backup
		for i := range r.Backups {
			if b := &r.Backups[i]; b.Kind == chain.Log && b.State == chain.Confirmed && !b.CopyOnly {
				if last != nil && last.Fork == b.Fork && last.Last.Less(b.First) {
					b.First = last.Last
				}
				last = b
			}
		}
	}, often: []string{"foreign log", "forget"}},
	{name: "bulk-logged logs taken for others", do: each(func(b *chain.Backup) { b.BulkLogged = false }), often: []string{"model"}},
	{name: "abandoned sets mixed in", do: each(func(b *chain.Backup) { b.Abandons = nil }), often: []string{"snapshot", "revert"}},
	{name: "abandoned sets forgotten", do: func(r *replay.Run) {
		var sets []string
		for _, b := range r.Backups {
			sets = append(sets, b.Abandons...)
		}
		r.Backups = slices.DeleteFunc(r.Backups, func(b chain.Backup) bool { return slices.Contains(sets, b.Set) })
	}, often: []string{"snapshot", "revert"}},
	{name: "denied points taken for links", do: func(r *replay.Run) {
		for i := range r.Backups {
			if b := &r.Backups[i]; b.State != chain.Confirmed && i > 0 {
				b.State, b.Last, b.Set = chain.Confirmed, chain.Header{}.Last, b.Device
				b.Last = r.Backups[i-1].Last
				b.Finished = b.Started
			}
		}
	}, often: []string{"hurt"}},
	{name: "order of making by LSN", do: func(r *replay.Run) {
		slices.SortStableFunc(r.Backups, func(a, b chain.Backup) int { return a.Last.Compare(b.Last) })
	}, often: []string{"snapshot", "revert", "back"}},
	{name: "latest is what is nearest", do: func(r *replay.Run) {
		if r.Target == (plan.Target{}) {
			for i := range r.Backups {
				if n := len(r.Backups) - 1; i == n && n > 0 {
					r.Backups = r.Backups[:n]
				}
			}
		}
	}},
	{name: "a policy takes what others need", judge: drops(func(j recovery.Judged) bool { return strings.HasPrefix(j.Reasons[0], "needed by ") })},
	{name: "a policy takes fulls that nothing else keeps", judge: drops(func(j recovery.Judged) bool {
		return strings.HasPrefix(j.Reasons[0], "needed by ") && j.Point.Kind() == recovery.SQLFull
	})},
	{name: "DST hour guessed", do: func(r *replay.Run) {
		r.Options.Zone = nil
		for i := range r.Backups {
			b := &r.Backups[i]
			b.Started, b.Finished = wall(b.Started), wall(b.Finished)
		}
	}, dst: true, often: []string{"log", "wait"}},
}

// drops makes a policy take points that it keeps.
func drops(which func(j recovery.Judged) bool) func([]recovery.Judged) {
	return func(judged []recovery.Judged) {
		for i := range judged {
			if j := &judged[i]; j.Keep && which(*j) {
				j.Keep = false
			}
		}
	}
}

// TestPlantedMistakesAreCaught: a trial that would not see a mistake proves nothing.
func TestPlantedMistakesAreCaught(t *testing.T) {
	limit := number(t, "HOLDFAST_TRIAL_MUTANTS", 200)
	type outcome struct {
		after uint64
		err   error
	}
	found := make([]outcome, len(mutants))
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(parallel)
	for i, m := range mutants {
		g.Go(func() error {
			for seed := uint64(1); seed <= limit; seed++ {
				err := live(ctx, 1000*uint64(i)+seed, map[string]int{}, m)
				if err == nil {
					continue
				}
				found[i] = outcome{seed, err}
				without := m
				without.do, without.judge = nil, nil
				if err := live(ctx, 1000*uint64(i)+seed, map[string]int{}, without); err != nil {
					return fmt.Errorf("without the mistake: %w", err)
				}
				return nil
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for i, m := range mutants {
		if found[i].err == nil {
			t.Errorf("%s: not caught in %d histories", m.name, limit)
			continue
		}
		t.Logf("%-42s caught after %3d histories: %.160s", m.name, found[i].after, found[i].err)
	}
}
