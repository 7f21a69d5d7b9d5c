package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/repo/backend"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay/check"
)

// prober are Streams that can tell cheaply whether all of one is there.
type prober interface {
	Probe(ctx context.Context, point string, n int) error
}

// unread: a stream of a point cannot be read.
type unread struct {
	point  string
	err    error
	before *chain.Moment // the nearest that can be restored without it, nil if that is not known
}

// unreadable is an error that keeps a stream from being read: an *unread, unless nobody
// wanted to read on. A run that was interrupted, a statement that had failed, or a repository
// that does not answer says nothing of a point.
func unreadable(ctx context.Context, point string, err, said error) error {
	switch {
	case ctx.Err() != nil || errors.Is(err, context.Canceled):
		return cmp.Or(said, err)
	case errors.Is(err, backend.ErrUnreachable):
		return errors.Join(err, said)
	}
	return &unread{point: point, err: errors.Join(err, said)}
}

// Error names the point.
func (u *unread) Error() string { return fmt.Sprintf("read point %s: %v", u.point, u.err) }

// Unwrap gives the cause.
func (u *unread) Unwrap() error { return u.err }

// Hint says what can be restored without the point.
func (u *unread) Hint() string {
	const mend = "holdfast scrub --heal may mend the point, and then the same command with --continue instead of --replace goes on; "
	if u.before == nil {
		return mend + "holdfast chain shows what can be restored without it"
	}
	way := "--point " + u.before.Point
	if u.before.Point == "" {
		way = "--at '" + u.before.Time.Format("2006-01-02 15:04:05") + "'"
	}
	return mend + "without it --replace and " + way + " restore the nearest moment before"
}

// readable plans with points that are all there: one that is not is damaged for this run,
// and there may be a way round it. What accept says against a plan ends it.
func (r *Run) readable(ctx context.Context, accept func(*work) error) (*work, error) {
	var bad *unread
	for {
		x, err := r.prepare(ctx)
		if err != nil {
			if bad != nil {
				bad.before = before(err)
				err = &check.Lost{Err: fmt.Errorf("%w: %w", err, bad)}
			}
			return nil, err
		}
		if bad != nil {
			x.plan.Warnings = append(x.plan.Warnings, fmt.Sprintf("point %s cannot be read, and is left out: %v", bad.point, bad.err))
		}
		if err := accept(x); err != nil {
			return nil, err
		}
		var next *unread
		if err = x.tryStreams(ctx); !errors.As(err, &next) || ctx.Err() != nil {
			return x, err
		}
		bad = next
		r.Backups = damaged(r.Backups, bad)
	}
}

// tryStreams looks for every stream once: a point that is gone is better missed before
// the database is.
func (x *work) tryStreams(ctx context.Context) error {
	for _, s := range x.plan.Steps {
		for n := range s.Streams {
			if s.Point == "" || s.Point == plan.TailPoint || strings.HasPrefix(s.Point, KeptPoint) {
				continue // nothing, or no point yet
			}
			r, err := x.run.Streams.Open(ctx, s.Point, n)
			if err == nil {
				err = r.Close()
			}
			if p, can := x.run.Streams.(prober); err == nil && can {
				err = p.Probe(ctx, s.Point, n)
			}
			if err != nil {
				return fmt.Errorf("restore %s: %w", x.plan.Database, unreadable(ctx, s.Point, err, nil))
			}
		}
	}
	return nil
}

// damaged are the backups, one of which cannot be read.
func damaged(backups []chain.Backup, bad *unread) []chain.Backup {
	list := slices.Clone(backups)
	if b := find(list, bad.point); b != nil {
		b.Damage = bad.err.Error()
	}
	return list
}

// before is the nearest moment before one that cannot be reached.
func before(err error) *chain.Moment {
	var miss *plan.Unreachable
	if errors.As(err, &miss) {
		return miss.Before
	}
	return nil
}

// around plans without a point that could not be read, from where the database stands:
// on from there, or anew if nothing is in it yet. The error is bad if there is no way.
func (e *execution) around(ctx context.Context, bad *unread) error {
	e.backups = damaged(e.backups, bad)
	d, err := e.now(ctx)
	if err != nil {
		return errors.Join(bad, err)
	}
	o := e.wish
	o.Kick, o.Tail, o.Standing = false, false, nil
	anew, err := plan.Make(e.run.Target, e.backups, o)
	if err != nil {
		bad.before = before(err)
		return bad
	}
	o.Replace = o.Replace || d != nil // what is there is what this restore has begun
	switch {
	case d == nil || spot(d).Redo.IsZero():
		if anew, err = plan.Make(e.run.Target, e.backups, o); err != nil {
			return errors.Join(bad, err)
		}
	default:
		at := spot(d)
		o.Standing = &plan.Standing{Redo: at.Redo, Fork: at.RedoFork, Files: d.Prints()}
		if on, err := plan.Make(e.run.Target, e.backups, o); err == nil {
			anew = on
		} else if anew, err = again(e, o); err != nil {
			return errors.Join(bad, err)
		}
	}
	anew.Warnings = append(slices.Clone(e.plan.Warnings), anew.Warnings...)
	anew.Warnings = append(anew.Warnings, fmt.Sprintf("point %s cannot be read, and was left out: %v", bad.point, bad.err))
	e.plan, e.stopped = anew, false
	return nil
}

// again plans from the beginning, over what the restore has left.
func again(e *execution, o plan.Options) (plan.Plan, error) {
	o.Standing, o.Replace = nil, true
	return plan.Make(e.run.Target, e.backups, o)
}
