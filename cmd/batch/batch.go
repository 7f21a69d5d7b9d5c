// Package batch backs up several sources in one run. One that fails does not stop
// the others; each point is shown as it is made, and End says what the run as a
// whole comes to: done, done but not complete, or failed.
package batch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"holdfast/backup"
	"holdfast/cmd/monitor"
	"holdfast/cmd/ui"
	"holdfast/cmd/verdict"
	"holdfast/repo"
	"holdfast/repo/recovery"
)

// summary is how a backup ends, once a point.
type summary struct {
	Point       string        `json:"point"`
	Source      string        `json:"source"`
	Items       int           `json:"items"`
	Disks       int           `json:"disks"`
	Kind        recovery.Kind `json:"kind"`
	Time        time.Time     `json:"time"`
	Parent      string        `json:"parent"`
	ReadMode    string        `json:"read_mode"`
	Reason      string        `json:"reason"`
	Rule        string        `json:"rule"`
	Consistency string        `json:"consistency"`
	BytesTotal  int64         `json:"bytes_total"`
	BytesRead   int64         `json:"bytes_read"`
	BytesAdded  int64         `json:"bytes_added"`
	ChunksNew   int64         `json:"chunks_new"`
	Duration    float64       `json:"duration_seconds"`
	Warnings    []string      `json:"warnings"`
}

// Run is one run's backups. The exported fields are needed; set them before the
// first One. Its methods may be called from many goroutines.
type Run struct {
	Repository *repo.Repository
	UI         *ui.Terminal
	Report     *monitor.Report
	Log        *slog.Logger
	Now        func() time.Time
	Progress   *ui.Progress
	// Explain tells what an error means and what helps; nil: nobody knows.
	Explain func(error) (verdict.Code, string)

	mu       sync.Mutex // guards the rest, and keeps one source's lines together
	done     int
	failed   []failedSource
	lessThan []string // sources that got less than was asked
	missing  []string // sources left out by a rule, though they are protected
	help     string   // what helps where nothing failed, but something is missing
}

// failedSource is a source without a point.
type failedSource struct {
	name string
	err  error
}

// One backs up one source and shows what became of it.
func (b *Run) One(ctx context.Context, src backup.Source, opts backup.Options) {
	if _, err := b.Point(ctx, src, opts); err != nil {
		b.Fail(src.Name(), err)
	}
}

// Point backs up one source and shows the point; what to make of an error is the
// caller's. A point together with an error is there.
func (b *Run) Point(ctx context.Context, src backup.Source, opts backup.Options) (*recovery.Point, error) {
	opts.Now, opts.Pick, opts.Progress = b.Now, pickPercent, b.Progress
	res, err := backup.Run(ctx, b.Repository, expecting{src, b.Progress}, opts)
	if res == nil {
		return nil, err
	}
	b.show(res)
	return res.Point, err
}

// skipped is an item without a point.
type skipped struct {
	Source string `json:"source"`
	Rule   string `json:"rule"`
	Reason string `json:"reason"`
}

// Skip notes that a rule leaves a source without a point; missing says that the run
// is not complete by it.
func (b *Run) Skip(source, rule, reason string, missing bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.UI.Note("skipped %s: %s (rule %s)", source, reason, rule)
	b.UI.Event("skipped", skipped{source, rule, reason})
	if missing && b.UI.Tells() {
		b.missing = append(b.missing, fmt.Sprintf("%s: left out by rule %s, see above", source, rule))
	} else if missing {
		b.missing = append(b.missing, fmt.Sprintf("%s: %s", source, reason))
	}
}

// Help notes what helps against what is missing; of several things the first is told.
func (b *Run) Help(hint string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.help = cmp.Or(b.help, hint)
}

// Less notes that something of a source is missing although it has a point, and why.
func (b *Run) Less(source, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.missing = append(b.missing, source+": "+why)
}

// expecting is a source that tells how much of it will be read as soon as that is
// known, so that how far the run is does not count the items begun alone.
type expecting struct {
	backup.Source
	progress *ui.Progress
}

// Freeze freezes the source.
func (e expecting) Freeze(ctx context.Context, parent *recovery.Point) (backup.Frozen, error) {
	frozen, err := e.Source.Freeze(ctx, parent)
	if err != nil {
		return nil, err
	}
	for _, it := range frozen.Items() {
		e.progress.Expect(it.Label, planned(it))
	}
	return frozen, nil
}

// planned is how many bytes of an item will be read, -1 where that is not known.
// The engine may round it up to whole chunks.
func planned(it backup.Item) int64 {
	switch {
	case it.Disk == nil:
		return it.Stream.Expected()
	case it.Disk.Extents == nil && !it.Disk.Incremental:
		return it.Disk.Bytes
	}
	var sum int64
	for _, e := range it.Disk.Extents {
		sum += e.Length
	}
	return sum
}

// pickPercent draws by lot.
func pickPercent(percent float64) bool { return rand.Float64()*100 < percent }

// Fail notes that a source has no point, and why.
func (b *Run) Fail(source string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed = append(b.failed, failedSource{source, err})
	b.Log.Error("backup failed", "source", source, "error", err)
}

func (b *Run) show(res *backup.Result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := res.Point
	b.done++
	if res.Downgraded {
		b.lessThan = append(b.lessThan, p.Source)
	}
	for _, w := range p.Warnings {
		if w != p.Reason || !b.UI.Tells() { // the next line says it
			b.UI.Warn("%s: %s", p.Source, w)
		}
	}
	b.UI.Say("%s\n", ui.Clean(fmt.Sprintf("%s  %s  %s: %s", p.ID, p.Source, p.ReadMode, p.Reason)))
	b.UI.Say("  %s in all, read %s, added %s in %d chunks, %s, %s-consistent\n",
		ui.Bytes(p.BytesTotal), ui.Bytes(p.BytesRead), ui.Bytes(p.BytesAdded), p.ChunksNew, ui.Duration(res.Duration), p.Consistency)
	b.UI.Event("summary", summary{
		Point: p.ID, Source: p.Source, Items: len(p.Items), Disks: len(p.Disks()), Kind: p.Kind, Time: p.Time, Parent: p.Parent,
		ReadMode: p.ReadMode, Reason: p.Reason, Rule: p.Rule, Consistency: p.Consistency, BytesTotal: p.BytesTotal,
		BytesRead: p.BytesRead, BytesAdded: p.BytesAdded, ChunksNew: p.ChunksNew, Duration: res.Duration.Seconds(), Warnings: ui.OrEmpty(p.Warnings),
	})
	b.Report.Add("backup_bytes_read", "Bytes read from the source.", float64(p.BytesRead), [2]string{"source", p.Source})
	b.Report.Add("backup_bytes_added", "Bytes stored for it.", float64(p.BytesAdded), [2]string{"source", p.Source})
}

// All is every error there was.
func (b *Run) All() error {
	var all []error
	for _, f := range b.failed {
		all = append(all, fmt.Errorf("%s: %w", f.name, f.err))
	}
	return errors.Join(all...)
}

// Cut is the error of a run that was interrupted: what it says beyond that it was. What
// only fails because the run ends says no more than the interrupt itself; keep tells what
// must be said all the same.
func (b *Run) Cut(keep func(error) bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed = slices.DeleteFunc(b.failed, func(f failedSource) bool { return errors.Is(f.err, context.Canceled) && !keep(f.err) })
	return b.All()
}

// Empty tells whether nothing has become of anything yet: no point, no failure.
func (b *Run) Empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.done == 0 && len(b.failed) == 0
}

// advise gives an error what helps against it, if that is known.
func (b *Run) advise(err error) error {
	if b.Explain == nil {
		return err
	}
	if _, hint := b.Explain(err); hint != "" {
		return verdict.Advise(err, hint)
	}
	return err
}

// End is the error of the whole run: nil, verdict.Incomplete, or what went wrong
// where nothing went well.
func (b *Run) End() error {
	var reasons []string
	grave := len(b.failed) > 0 && b.done == 0
	for _, f := range b.failed {
		why := fmt.Sprintf("%s: %v", f.name, f.err)
		if b.done+len(b.failed) > 1 { // a single one is what the run ends with
			b.UI.Problem(f.name, b.advise(f.err))
			if !b.UI.JSON() {
				why = f.name + " failed, see its error"
			}
		}
		if errors.Is(f.err, backup.ErrRelease) || errors.Is(f.err, context.Canceled) {
			grave = true
		}
		reasons = append(reasons, why)
	}
	if grave {
		return b.All()
	}
	reasons = append(reasons, b.missing...)
	for _, source := range b.lessThan {
		reasons = append(reasons, source+": less than asked, see its warnings")
	}
	if err := verdict.Incomplete(reasons...); err != nil && b.help != "" {
		return verdict.Advise(err, b.help)
	}
	return verdict.Incomplete(reasons...)
}
