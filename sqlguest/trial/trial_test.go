package trial

import (
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// parallel is how many histories are lived at once.
var parallel = max(2, runtime.GOMAXPROCS(0))

func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestRestoresGiveWhatWasCommitted is the trial: see the package's comment. Every
// history is fixed by its seed; HOLDFAST_TRIAL_SEED is the first,
// HOLDFAST_TRIAL_HISTORIES how many there are, and HOLDFAST_TRIAL_OFTEN names
// operations, separated by commas, that are to come ten times as often. With
// HOLDFAST_TRIAL_DST=1 all of them lie where clocks are set back.
func TestRestoresGiveWhatWasCommitted(t *testing.T) {
	n := number(t, "HOLDFAST_TRIAL_HISTORIES", 100)
	first := number(t, "HOLDFAST_TRIAL_SEED", 0)
	often := mutant{often: strings.Split(os.Getenv("HOLDFAST_TRIAL_OFTEN"), ","), dst: os.Getenv("HOLDFAST_TRIAL_DST") == "1"}
	start := time.Now()
	var mu sync.Mutex
	total := map[string]int{}
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(parallel)
	for seed := first; seed < first+n && ctx.Err() == nil; seed++ {
		g.Go(func() error {
			count := map[string]int{"histories": 1}
			err := live(ctx, seed, count, often)
			mu.Lock()
			defer mu.Unlock()
			for k, v := range count {
				total[k] += v
			}
			return err
		})
	}
	err := g.Wait()
	for _, k := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%-60s %d", k, total[k])
	}
	t.Logf("in %s", time.Since(start))
	if err != nil {
		t.Fatal(err)
	}
	if n >= enough {
		demand(t, total)
	}
}

// enough histories show everything that is in demanded at least once.
const enough = 2000

// demanded is what must have happened, or the trial proves less than it says.
var demanded = []string{
	"op: auto", "op: clock set back", "op: clock set forth", "op: clocks changed (DST)", "op: copy beside it", "op: copy-only full", "op: copy-only log",
	"op: diff", "op: file added", "op: foreign differential", "op: foreign full", "op: foreign log", "op: forget a point", "op: full", "op: log", "op: mark",
	"op: msdb lost", "op: recovery model", "op: rename", "op: restore over it", "op: restore over it, refused", "op: revert", "op: revert of the disk alone", "op: rollback",
	"op: policy and prune", "op: service restarted", "op: snapshot", "op: tail of the log", "op: write",
	"fault: killed before SQL Server was told", "fault: killed before the confirmation was kept", "fault: msdb did not write its row", "fault: repository full, backup aborted",
	"rule: diff S-diff", "rule: diff S-auto-diff", "rule: diff Q20", "rule: full M11.1", "rule: full M11.4", "rule: full M11.7", "rule: full M11.8", "rule: full M11.9",
	"rule: full M12", "rule: full Q20", "rule: full Q21", "rule: full S-fork", "rule: full S-full", "rule: full S-lost", "rule: full S-no-chain", "rule: full S-revert",
	"rule: full S-unreachable", "rule: log S-auto-log", "rule: log S-bridged", "rule: log S-log", "rule: log S-overlap",
	"rule: refuse Q20", "rule: refuse Q21", "rule: refuse S-copy-diff", "rule: refuse S-fork", "rule: refuse S-lost", "rule: refuse S-revert", "rule: refuse S-unreachable",
	"rule: skip Q6", "rule: skip Q19",
	"policy: forgotten: no", "policy: forgotten: not", "policy: forgotten: older", "policy: forgotten: unreachable", "policy: forgotten: weeks,",
	"policy: kept: keep-daily", "policy: kept: keep-last", "policy: kept: keep-monthly", "policy: kept: keep-pit", "policy: kept: keep-weekly", "policy: kept: keep-within",
	"policy: kept: keep-yearly", "policy: kept: last", "policy: kept: needed", "policy: kept: pinned", "policy: kept: unconfirmed",
	"target: asked again: another way", "target: asked again: refused", "target: asked again: restored", "target: point that a policy has taken: refused", "target: point that a policy keeps: restored",
	"target: LSN: ambiguous", "target: LSN: refused", "target: LSN: restored", "target: before mark: refused", "target: before mark: restored",
	"target: latest: refused", "target: latest: restored", "target: mark after a time: refused", "target: mark after a time: restored", "target: mark: refused", "target: mark: restored",
	"target: neighbour: restored", "target: point: refused", "target: point: restored", "target: time: ambiguous", "target: time: refused", "target: time: restored",
}

func demand(t *testing.T, total map[string]int) {
	t.Helper()
	for _, k := range demanded {
		if total[k] == 0 {
			t.Errorf("%s: never", k)
		}
	}
}
