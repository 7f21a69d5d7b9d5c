package cmd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"holdfast/backup"
	"holdfast/cmd/ui"
	"holdfast/repo"
	"holdfast/repo/recovery"
)

func newBackupCommand(a *app) *cobra.Command {
	return newGroup("backup", "back up virtual machines and disk images",
		`Each backup leaves one recovery point a source. A point is complete in itself: what an
incremental backup did not have to read again is shared, never chained.`,
		newBackupVMCommand(a), newBackupImageCommand(a))
}

// backupSummary is how a backup ends, once a point.
type backupSummary struct {
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

// skipped is an item without a point.
type skipped struct {
	Source string `json:"source"`
	Rule   string `json:"rule"`
	Reason string `json:"reason"`
}

// backupRun backs up several sources into one repository. A source that fails
// does not stop the others. Sources may be backed up at the same time.
type backupRun struct {
	a *app
	r *repo.Repository

	mu       sync.Mutex // guards the rest, and keeps one source's lines together
	done     int
	failed   []failedSource
	lessThan []string // what is missing of those that are done
}

// failedSource is a source without a point.
type failedSource struct {
	name string
	err  error
}

// one backs up one source and shows what became of it.
func (b *backupRun) one(ctx context.Context, src backup.Source, opts backup.Options) {
	opts.Now, opts.Pick = b.a.now, pickPercent
	res, err := backup.Run(ctx, b.r, src, opts)
	if res != nil {
		b.show(res)
	}
	if err != nil {
		b.fail(src.Name(), err)
	}
}

// pickPercent draws by lot.
func pickPercent(percent float64) bool { return rand.Float64()*100 < percent }

func (b *backupRun) fail(source string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed = append(b.failed, failedSource{source, err})
	b.a.log.Error("backup failed", "source", source, "error", err)
}

func (b *backupRun) show(res *backup.Result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := res.Point
	b.done++
	if res.Downgraded {
		b.lessThan = append(b.lessThan, p.Source)
	}
	for _, w := range p.Warnings {
		b.a.ui.Warn("%s: %s", p.Source, w)
	}
	b.a.ui.Say("%s  %s  %s: %s\n", p.ID, p.Source, p.ReadMode, p.Reason)
	b.a.ui.Say("  %s in all, read %s, added %s in %d chunks, %s, %s-consistent\n",
		ui.Bytes(p.BytesTotal), ui.Bytes(p.BytesRead), ui.Bytes(p.BytesAdded), p.ChunksNew, ui.Duration(res.Duration), p.Consistency)
	b.a.ui.Event("summary", backupSummary{
		Point: p.ID, Source: p.Source, Items: len(p.Items), Disks: len(p.Disks()), Kind: p.Kind, Time: p.Time, Parent: p.Parent,
		ReadMode: p.ReadMode, Reason: p.Reason, Rule: p.Rule, Consistency: p.Consistency, BytesTotal: p.BytesTotal,
		BytesRead: p.BytesRead, BytesAdded: p.BytesAdded, ChunksNew: p.ChunksNew, Duration: res.Duration.Seconds(), Warnings: orEmpty(p.Warnings),
	})
	b.a.report.set("backup_bytes_read", "Bytes read from the source.", float64(p.BytesRead), [2]string{"source", p.Source})
	b.a.report.set("backup_bytes_added", "Bytes stored for it.", float64(p.BytesAdded), [2]string{"source", p.Source})
}

// all is every error there was.
func (b *backupRun) all() error {
	var all []error
	for _, f := range b.failed {
		all = append(all, fmt.Errorf("%s: %w", f.name, f.err))
	}
	return errors.Join(all...)
}

// end is the error of the whole run: nil, incomplete (3), or what went wrong
// where nothing went well.
func (b *backupRun) end() error {
	var reasons []string
	grave := len(b.failed) > 0 && b.done == 0
	for _, f := range b.failed {
		if b.done+len(b.failed) > 1 { // a single one is what the run ends with
			b.a.ui.Problem(f.name, f.err)
		}
		if errors.Is(f.err, backup.ErrRelease) || errors.Is(f.err, context.Canceled) {
			grave = true
		}
		reasons = append(reasons, fmt.Sprintf("%s: %v", f.name, f.err))
	}
	if grave {
		return b.all()
	}
	for _, source := range b.lessThan {
		reasons = append(reasons, source+": less than asked, see its warnings")
	}
	return incomplete(reasons...)
}
