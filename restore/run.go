package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"holdfast/repo"
	"holdfast/repo/recovery"
	"holdfast/repo/stream"
)

// ErrVerify: the target does not hold what the point holds. The target was
// taken back.
var ErrVerify = errors.New("what was written differs from the recovery point")

// ErrItem: the point has no item of that name, label or key.
var ErrItem = errors.New("no such item in the recovery point")

const abortTimeout = 10 * time.Minute

// Options steer a restore. Now is required.
type Options struct {
	Now      func() time.Time
	Progress Progress // nil: NoProgress
	NoVerify bool     // only for targets that verify by themselves
}

// Result is what became of a restore.
type Result struct {
	Point        *recovery.Point
	Items        int
	BytesWritten int64
	Verified     map[string]string // item → how it was assured
	Duration     time.Duration
}

// Run restores the given items of a point. If anything fails, and before an
// interrupt ends the program, what was made at the target is removed.
func Run(ctx context.Context, r *repo.Repository, p *recovery.Point, items []recovery.Item, target Target, opts Options) (_ *Result, err error) {
	if opts.Progress == nil {
		opts.Progress = NoProgress{}
	}
	began := opts.Now()
	placed, err := target.Create(ctx, p, items)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
		defer cancel()
		if abortErr := placed.Abort(ctx); abortErr != nil {
			err = errors.Join(err, fmt.Errorf("take back what was made: %w", abortErr))
		}
	}()
	res := &Result{Point: p, Items: len(items), Verified: map[string]string{}}
	run := &run{repo: r, placed: placed, opts: opts, res: res}
	// All is written before anything is read back: a host may keep the files of
	// an import locked until its last disk has come.
	for _, step := range []func(context.Context, recovery.Item) error{run.write, run.verify} {
		for _, item := range items {
			if err := step(ctx, item); err != nil {
				return nil, fmt.Errorf("restore %s: %w", item.Name, err)
			}
		}
	}
	if err := placed.Commit(ctx); err != nil {
		return nil, err
	}
	res.Duration = opts.Now().Sub(began)
	return res, nil
}

// run is one restore under way.
type run struct {
	repo   *repo.Repository
	placed Placed
	opts   Options
	res    *Result
}

// write brings one item to the target.
func (r *run) write(ctx context.Context, item recovery.Item) error {
	if !item.IsDisk() {
		src := OpenStream(ctx, r.repo, item)
		defer src.Close()
		return r.placed.WriteStream(ctx, item, src)
	}
	disk, err := OpenDisk(ctx, r.repo, item, r.opts.Progress)
	if err != nil {
		return err
	}
	r.opts.Progress.Begin(labelOf(item), item.Bytes)
	defer r.opts.Progress.End(labelOf(item))
	if err := r.placed.WriteDisk(ctx, item, disk); err != nil {
		return err
	}
	r.res.BytesWritten += item.Bytes
	return nil
}

// verify has the target read one disk back.
func (r *run) verify(ctx context.Context, item recovery.Item) error {
	if !item.IsDisk() || r.opts.NoVerify {
		return nil
	}
	disk, err := OpenDisk(ctx, r.repo, item, r.opts.Progress)
	if err != nil {
		return err
	}
	r.opts.Progress.Begin("verify "+labelOf(item), item.Bytes)
	defer r.opts.Progress.End("verify " + labelOf(item))
	how, err := r.placed.Verify(ctx, item, disk)
	if err != nil {
		return err
	}
	r.res.Verified[item.Name] = how
	return nil
}

// labelOf is what people call an item.
func labelOf(item recovery.Item) string {
	if item.Label != "" {
		return item.Label
	}
	return item.Name
}

// OpenStream reads a stream item, wherever it lies.
func OpenStream(ctx context.Context, r *repo.Repository, item recovery.Item) io.ReadCloser {
	if item.Stream == nil {
		return io.NopCloser(&inline{item.Inline})
	}
	return stream.Open(ctx, r, *item.Stream)
}

// inline reads bytes that lie in the manifest.
type inline struct{ left []byte }

func (i *inline) Read(p []byte) (int, error) {
	if len(i.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, i.left)
	i.left = i.left[n:]
	return n, nil
}

// SelectDisks picks the disks that keys name, by item name, label or device
// key; no keys mean all disks.
func SelectDisks(p *recovery.Point, keys []string) ([]recovery.Item, error) {
	disks := p.Disks()
	if len(keys) == 0 {
		return disks, nil
	}
	var out []recovery.Item
	for _, key := range keys {
		found := -1
		for i, d := range disks {
			if d.Name == key || d.Label == key || fmt.Sprint(d.Key) == key {
				found = i
				break
			}
		}
		if found < 0 {
			return nil, &ItemError{Wanted: key, Have: disks}
		}
		out = append(out, disks[found])
	}
	return out, nil
}

// ItemError names the item that was asked for and those that exist.
type ItemError struct {
	Wanted string
	Have   []recovery.Item
}

func (e *ItemError) Error() string {
	if e.Wanted == "" {
		return fmt.Sprintf("the point holds %d items: say which", len(e.Have))
	}
	return fmt.Sprintf("item %q: %v", e.Wanted, ErrItem)
}

// Unwrap gives ErrItem.
func (e *ItemError) Unwrap() error { return ErrItem }

// Hint lists what there is.
func (e *ItemError) Hint() string {
	hint := "the point holds:"
	for _, it := range e.Have {
		hint += " " + it.Name
		if it.Label != "" {
			hint += " (" + it.Label + ")"
		}
	}
	return hint
}
