package plan

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/plan/stop"
)

// ErrTarget: what was asked for contradicts itself, or is no moment at all.
var ErrTarget = errors.New("not a target")

// ErrUnreachable: no backups lead to the target. The error is an *Unreachable.
var ErrUnreachable = errors.New("the moment is not reachable")

// ErrAmbiguous: the target means several moments. The error is an *Ambiguous.
var ErrAmbiguous = errors.New("the moment is not the only one")

// Target is a moment; the zero Target is the latest. One of At, LSN, Mark and Point.
type Target struct {
	At time.Time
	// Bare: At and After are readings of the server's own clock, whatever their
	// location says; else they are instants.
	Bare   bool
	LSN    lsn.LSN // up to and including this record
	Mark   string  // up to and including the transaction with this mark
	Before bool    // without the record or the transaction
	After  time.Time
	Point  string // the end of this backup
}

// String is the target in words.
func (t Target) String() string {
	with := "" // the transaction or the record is in it
	if t.Before {
		with = "just before "
	}
	switch {
	case t.Point != "":
		return "point " + t.Point
	case !t.LSN.IsZero():
		return with + "LSN " + t.LSN.String()
	case t.Mark != "":
		return with + "mark " + t.Mark
	case t.At.IsZero():
		return "latest"
	case t.Bare:
		return t.At.Format("2006-01-02 15:04:05.999") + " by the server's clock"
	}
	return t.At.Format(time.RFC3339Nano)
}

// layouts of times, those with an offset first.
var zoned = []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 Z07:00", "2006-01-02 15:04Z07:00", "2006-01-02 15:04 Z07:00"}
var bare = []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04"}

// ParseTime reads a time as people type it. bareTime tells that it names no offset
// and means the server's own clock.
func ParseTime(text string) (t time.Time, bareTime bool, err error) {
	for i, layout := range slices.Concat(zoned, bare) {
		if t, err := time.Parse(layout, text); err == nil {
			return t, i >= len(zoned), nil
		}
	}
	return time.Time{}, false, fmt.Errorf("read time %q: %w: write 2006-01-02 15:04:05, with an offset or Z if it is not the server's own clock", text, ErrTarget)
}

// Stop is the clause of every RESTORE LOG of a plan; the zero Stop is none.
type Stop = stop.Stop

// milliseconds tell marks apart that were made in one second.
const milliseconds = "2006-01-02T15:04:05.000Z07:00"

// Unreachable: the chain does not lead to the target. The two neighbours are the
// nearest moments that can be restored; nil where there is none. A moment without a
// point is a time inside a log.
type Unreachable struct {
	Target string        `json:"target"`
	Why    string        `json:"why"`
	Before *chain.Moment `json:"before,omitempty"`
	After  *chain.Moment `json:"after,omitempty"`
	hint   string        // what helps, where it is no neighbour
}

// Error names the target, the reason and both neighbours. If there is neither, it may be
// that nobody has looked for them.
func (u *Unreachable) Error() string {
	text := fmt.Sprintf("plan restore to %s: it cannot be reached: %s", u.Target, u.Why)
	if u.Before == nil && u.After == nil {
		return text
	}
	return text + fmt.Sprintf("; nearest before: %s; nearest after: %s", describe(u.Before), describe(u.After))
}

// Unwrap gives ErrUnreachable.
func (u *Unreachable) Unwrap() error { return ErrUnreachable }

// Hint says how a neighbour is restored.
func (u *Unreachable) Hint() string {
	switch {
	case u.hint != "":
		return u.hint
	case u.Before != nil && u.After != nil:
		return "--nearest restores the moment before, --nearest=after the one after"
	case u.Before != nil:
		return "--nearest restores the moment before"
	case u.After != nil:
		return "--nearest=after restores the moment after"
	}
	return "holdfast chain shows what can be restored"
}

// Fields are both neighbours for scripts: nearest_before and nearest_after in RFC 3339
// with the server's offset, each with _lsn and _point where it is the end of a point.
// What there is not is left out.
func (u *Unreachable) Fields() map[string]any {
	f := map[string]any{"target": u.Target}
	for side, m := range map[string]*chain.Moment{"nearest_before": u.Before, "nearest_after": u.After} {
		if m == nil {
			continue
		}
		f[side] = m.Time.Format(time.RFC3339)
		if m.Point != "" && m.Point != TailPoint {
			f[side+"_lsn"], f[side+"_point"] = m.LSN, m.Point
		}
	}
	return f
}

func describe(m *chain.Moment) string {
	switch {
	case m == nil:
		return "none"
	case m.Point == TailPoint:
		return "what the database holds now"
	case m.Point == "":
		return m.Time.Format(time.RFC3339)
	}
	return fmt.Sprintf("end of point %s (LSN %s, %s)", m.Point, m.LSN, m.Time.Format(time.RFC3339))
}

// Ambiguous: the target means several moments, and nothing here can tell which.
type Ambiguous struct {
	Target   string    `json:"target"`
	Why      string    `json:"why"`
	Readings []Reading `json:"readings"`
}

// Reading is one thing that a target can mean.
type Reading struct {
	Time time.Time `json:"time,omitzero"`
	LSN  lsn.LSN   `json:"lsn,omitzero"`
	Fork string    `json:"fork,omitempty"` // for Options.Fork
}

// Unwrap gives ErrAmbiguous.
func (a *Ambiguous) Unwrap() error { return ErrAmbiguous }

// Hint says how one of the readings is chosen.
func (a *Ambiguous) Hint() string {
	for _, r := range a.Readings {
		if r.Fork != "" && r.Time.IsZero() { // the same LSN, if any, on each
			return "--fork with the first characters of one chooses the history"
		}
	}
	if r := a.Readings; len(r) == 2 && r[0].LSN.IsZero() && r[0].Fork == "" && !r[0].Time.Equal(r[1].Time) {
		return "say which with an offset, as in --at " + r[0].Time.Format(time.RFC3339) + "; an LSN (--lsn) or a point (--point) means one moment alone"
	}
	return "an LSN (--lsn) or a point (--point) means one moment alone; --fork chooses the history, --after the mark"
}

// Fields are the readings for scripts.
func (a *Ambiguous) Fields() map[string]any {
	return map[string]any{"target": a.Target, "readings": a.Readings}
}

// Error names all readings.
func (a *Ambiguous) Error() string {
	text := fmt.Sprintf("plan restore to %s: %s:", a.Target, a.Why)
	several := slices.ContainsFunc(a.Readings, func(r Reading) bool { return r.Fork != a.Readings[0].Fork })
	for i, r := range a.Readings {
		if i > 0 {
			text += " or"
		}
		switch {
		case !r.LSN.IsZero() && !r.Time.IsZero():
			text += fmt.Sprintf(" %s at LSN %s", r.Time.Format(milliseconds), r.LSN)
			if several {
				text += " on fork " + shortFork(r.Fork)
			}
		case r.Fork != "":
			text += " on fork " + r.Fork
		default:
			text += " " + r.Time.Format(time.RFC3339)
		}
	}
	return text
}
