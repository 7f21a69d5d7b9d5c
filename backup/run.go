package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/repo"
	"holdfast/repo/chunk"
	"holdfast/repo/recovery"
	"holdfast/repo/stream"
)

// ErrTorn: the source did not stand still until everything was read. Nothing
// was committed.
var ErrTorn = errors.New("the source moved while it was read")

// ErrMute: the source could not be asked for what the point must say of it, once
// everything was read. It stands still by itself, and nothing was committed.
var ErrMute = errors.New("the source did not answer after it was read, and nothing was committed")

// ErrRelease: the point is committed, but something of ours is still on the
// source (a snapshot) and must be removed.
var ErrRelease = errors.New("the source could not be released")

const (
	defaultDisksAtOnce = 2
	releaseTimeout     = 15 * time.Minute
	inlineBytes        = 32 << 10 // of all items of a point together
)

// Options steer a run. Now is required.
type Options struct {
	Now      func() time.Time
	Progress Progress // nil: NoProgress
	Tags     []string
	// Parent, if set, is what the source's changes are relative to, instead of
	// the source's newest point.
	Parent *recovery.Point
	// Full reads everything, whatever the source's newest point is.
	Full bool
	// Disks are read so many at once, each with Reads ranges under way.
	Disks, Reads int
	// VerifyUnchanged is the percentage of the chunks said to be unchanged that
	// are read all the same and compared with the parent.
	VerifyUnchanged float64
	// ProveEvery makes of every so-manieth incremental point in a row one whose
	// unchanged chunks are all read and compared; 0 never does.
	ProveEvery int
	// Pick decides whether an unchanged chunk is verified; it gets the
	// percentage. Required if VerifyUnchanged is not zero.
	Pick func(percent float64) bool
}

// Result is what became of a run.
type Result struct {
	Point      *recovery.Point
	Downgraded bool // less than asked, or something left out: exit code 3
	Duration   time.Duration
}

// Run makes one recovery point of the source. Whatever happens after Freeze,
// the source is released. An error together with a Result means that the point
// is there and good, but something was left behind (ErrRelease).
func Run(ctx context.Context, r *repo.Repository, src Source, opts Options) (*Result, error) {
	if opts.Progress == nil {
		opts.Progress = NoProgress{}
	}
	began := opts.Now()
	session, err := r.Begin(ctx, src.Name(), src.Identity())
	if err != nil {
		return nil, err
	}
	parent := session.Parent()
	if opts.Parent != nil {
		if err := session.Expect(ctx, opts.Parent); err != nil {
			session.Abort()
			return nil, err
		}
		parent = opts.Parent
	}
	if opts.Full {
		parent = nil
	}
	frozen, err := src.Freeze(ctx, parent)
	if err != nil {
		session.Abort()
		return nil, err
	}
	if opts.ProveEvery > 0 && parent != nil && parent.Unproven+1 >= opts.ProveEvery {
		opts.VerifyUnchanged, opts.Pick = 100, func(float64) bool { return true }
		opts.Progress.Note(fmt.Sprintf("%s: %d backups trusted what the source said had changed; this one reads everything and compares", src.Name(), parent.Unproven))
	}
	run := &run{repo: r, session: session, parent: parent, opts: opts}
	point, err := run.store(ctx, src, frozen)
	if err != nil {
		// The source first: what is kept of an interrupted run may take a while to
		// be sent, and a snapshot must not wait for that.
		err = errors.Join(err, release(ctx, frozen))
		session.Abort()
		return nil, err
	}
	err = frozen.Committed(ctx, point)
	err = errors.Join(err, release(ctx, frozen))
	return &Result{Point: point, Downgraded: frozen.State().Downgraded || run.missed || run.shrunk != "", Duration: opts.Now().Sub(began)}, err
}

// release frees the source under a context of its own: an interrupt must not
// leave a snapshot behind.
func release(ctx context.Context, frozen Frozen) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err := frozen.Release(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrRelease, err)
	}
	return nil
}

// run is one point in the making.
type run struct {
	repo    *repo.Repository
	session *repo.Session
	parent  *recovery.Point
	opts    Options
	shrunk  string // a stream that was shorter than the time before, in a sentence
	missed  bool   // tracking missed a change; the disk was read in full instead
	// streams are the labels of those under way: what is read of a stream is far ahead of
	// what is stored, so that they are until the point is committed.
	streams []string
}

// saved is what storing one item gave.
type saved struct {
	item        recovery.Item
	bytesRead   int64
	missed      bool
	incremental bool // the rest was taken from the parent
}

// store reads all items into the repository and commits the point.
func (r *run) store(ctx context.Context, src Source, frozen Frozen) (*recovery.Point, error) {
	items := frozen.Items()
	results := make([]saved, len(items))
	inline := 0
	disksCtx, stop := context.WithCancel(ctx)
	defer stop()
	defer func() {
		for _, label := range r.streams {
			r.opts.Progress.End(label)
		}
	}()
	group, gctx := errgroup.WithContext(disksCtx)
	group.SetLimit(orDefault(r.opts.Disks, defaultDisksAtOnce))
	for i, item := range items {
		if item.Disk != nil {
			group.Go(func() (err error) {
				results[i], err = r.disk(gctx, item)
				return err
			})
			continue
		}
		// Streams are few and small beside disks: one after the other.
		var err error
		if results[i], err = r.stream(gctx, item, &inline); err != nil {
			diskFailed := gctx.Err() != nil
			stop() // nobody needs the disks any more
			if diskErr := group.Wait(); diskFailed && diskErr != nil {
				return nil, diskErr // the cause of err
			}
			return nil, err
		}
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if err := r.session.Flush(ctx); err != nil {
		return nil, err
	}
	if holder, ok := frozen.(Holder); ok {
		if err := holder.Holds(ctx); errors.Is(err, ErrMute) {
			return nil, err
		} else if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrTorn, err)
		}
	}
	point := r.point(src, frozen.State(), results)
	if err := r.session.Commit(ctx, point); err != nil {
		return nil, err
	}
	return point, nil
}

func orDefault(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}

// point puts together what the manifest will say.
func (r *run) point(src Source, state State, results []saved) *recovery.Point {
	stats := r.session.Stats()
	p := &recovery.Point{
		Kind: src.Kind(), Source: src.Name(), Identity: src.Identity(), Time: state.Time, Finished: r.opts.Now(),
		Consistency: state.Consistency, Warnings: state.Warnings, Attrs: state.Attrs, Tags: r.opts.Tags,
		BytesAdded: stats.BytesAdded, ChunksNew: stats.ChunksNew,
	}
	for _, s := range results {
		if s.incremental {
			p.Parent = r.parent.ID
			p.Unproven = r.parent.Unproven + 1
		}
		p.Items = append(p.Items, s.item)
		p.BytesTotal += s.item.Bytes
		p.BytesRead += s.bytesRead
		r.missed = r.missed || s.missed
		if s.item.IsDisk() && weight(s.item.ReadMode) > weight(p.ReadMode) {
			p.ReadMode, p.Reason, p.Rule = s.item.ReadMode, s.item.Reason, s.item.Rule
		}
		if s.missed {
			p.Warnings = append(p.Warnings, fmt.Sprintf("%s: tracking missed a change; the disk was read in full", s.item.Label))
		}
	}
	if r.opts.VerifyUnchanged >= 100 {
		p.Unproven = 0
	}
	if r.shrunk != "" {
		p.Warnings = append(p.Warnings, r.shrunk)
	}
	if p.ReadMode == "" {
		p.ReadMode = recovery.ReadStream
	}
	if state.Rule != "" {
		p.Parent, p.Reason, p.Rule = state.Parent, state.Reason, state.Rule
	}
	return p
}

// weight orders read modes: the point as a whole is called by the heaviest.
func weight(mode string) int {
	for i, m := range []string{recovery.ReadExtents, recovery.ReadCBT, recovery.ReadAllocated, recovery.ReadStream, recovery.ReadFull} {
		if m == mode {
			return i + 1
		}
	}
	return 0
}

// stream stores an item that is read from first byte to last.
func (r *run) stream(ctx context.Context, item Item, inline *int) (saved, error) {
	src, err := item.Stream.Open(ctx)
	if err != nil {
		return saved{}, fmt.Errorf("open %s: %w", item.Name, err)
	}
	defer src.Close()
	r.opts.Progress.Begin(item.Label, item.Stream.Expected())
	r.streams = append(r.streams, item.Label)
	out := saved{item: recovery.Item{Name: item.Name, Label: item.Label, Key: item.Key, Attrs: item.Attrs, ReadMode: recovery.ReadStream}}
	var in io.Reader = &counting{r: src, tell: r.opts.Progress.Read}
	if item.Stream.Inline {
		small, rest, err := takeSmall(in, inlineBytes-*inline)
		if err != nil {
			return saved{}, fmt.Errorf("read %s: %w", item.Name, err)
		}
		if rest == nil {
			*inline += len(small)
			out.item.Inline, out.item.Bytes, out.bytesRead = small, int64(len(small)), int64(len(small))
			return out, wholeStream(item, out.bytesRead)
		}
		in = rest
	}
	cut := chunk.Files()
	if item.Stream.Fine {
		cut = chunk.SQL()
	}
	s, err := stream.Write(ctx, r.session, chunk.New(in, r.repo.CDCKey(), cut), stream.Options{})
	if err != nil {
		return saved{}, fmt.Errorf("store %s: %w", item.Name, err)
	}
	out.item.Stream, out.item.Bytes, out.bytesRead = &s, s.Bytes, s.Bytes
	return out, wholeStream(item, s.Bytes)
}

// wholeStream refuses a stream that is not as long as it was said to be: it was
// cut off, or is not what was announced.
func wholeStream(item Item, bytes int64) error {
	if item.Stream.Bytes < 0 || item.Stream.Bytes == bytes {
		return nil
	}
	return fmt.Errorf("read %s: %d bytes, not %d: %w", item.Name, bytes, item.Stream.Bytes, ErrChanged)
}

// takeSmall reads at most limit bytes; if there is more, rest is the whole
// stream again and small is nil.
func takeSmall(in io.Reader, limit int) (small []byte, rest io.Reader, err error) {
	small, err = io.ReadAll(io.LimitReader(in, int64(max(limit, 0))+1))
	if err != nil {
		return nil, nil, err
	}
	if len(small) <= limit {
		return small, nil, nil
	}
	return nil, io.MultiReader(&replay{small}, in), nil
}

// replay gives bytes that were read ahead.
type replay struct{ left []byte }

func (r *replay) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// counting tells how many bytes were read.
type counting struct {
	r    io.Reader
	tell func(int64)
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.tell(int64(n))
	return n, err
}
