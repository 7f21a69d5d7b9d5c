package view

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/cmd/verdict"
	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/repo/recovery"
)

// Unread is what of a repository's sources cannot be read: manifests, labels,
// confirmations. What it was decides what others are worth, so a policy takes nothing
// of such a source; of the other sources it decides as always. The zero value is a
// repository that can be read.
type Unread struct{ objects []*repo.PointError }

// Add notes what cannot be read, each object once.
func (u *Unread) Add(problems ...*repo.PointError) {
	for _, p := range problems {
		if !slices.ContainsFunc(u.objects, func(o *repo.PointError) bool { return o.Object == p.Object }) {
			u.objects = append(u.objects, p)
		}
	}
}

// Chains is known, but for the chains that cannot be told since something cannot be
// read: that is noted, and Keep makes good what is said of such a source. A place that
// does not answer says nothing of what is there and is an error as before.
func (u *Unread) Chains(known recovery.Chains) recovery.Chains {
	return func(identity string, ids []string) (recovery.Chain, error) {
		chain, err := known(identity, ids)
		lost, unread := errors.AsType[*repo.PointError](err)
		if !unread || errors.Is(err, backend.ErrUnreachable) {
			return chain, err
		}
		u.Add(lost)
		return recovery.Alone{}, nil
	}
}

// Keep keeps all of the sources of which something cannot be read, warns of each once,
// and returns the error of a run that is not complete for them. all says that every
// source is in question, not those judged alone.
func (u *Unread) Keep(judged []recovery.Judged, all bool, warn func(format string, args ...any)) error {
	var sources, told []string
	for _, p := range u.objects {
		src := sourceOf(p.Object)
		if slices.Contains(told, src) {
			continue
		}
		told = append(told, src)
		name := keepSource(judged, src, "unreadable")
		switch {
		case name != "":
			warn("%s of %s cannot be read, and all of %s stays: %s. %s", p.Object, name, name, cause(p), mends(p))
		case all:
			name = "a source of which no point can be read"
			warn("%s cannot be read: %s. %s", p.Object, cause(p), mends(p))
		default:
			continue
		}
		sources = append(sources, name)
	}
	switch n := len(sources); n {
	case 0:
		return nil
	case 1:
		return incomplete("something of %s cannot be read, and nothing of it was decided", sources[0])
	default:
		return incomplete("something of %d sources cannot be read, and nothing of them was decided; the first is %s", n, sources[0])
	}
}

// Points are the points that cannot be read themselves: of all sources, or of those
// judged.
func (u *Unread) Points(judged []recovery.Judged, all bool) (list []*repo.PointError) {
	srcs := map[string]bool{}
	for _, j := range judged {
		if sid, err := ledger.ParseSID(j.Point.SID()); err == nil {
			srcs[sid.Src] = true
		}
	}
	for _, p := range u.objects {
		if strings.HasPrefix(p.Object, ledger.Commits) && (all || srcs[sourceOf(p.Object)]) {
			list = append(list, p)
		}
	}
	return list
}

func incomplete(format string, args ...any) error {
	const hint = "holdfast check names what cannot be read, holdfast scrub --heal may mend it; what is lost is given up with holdfast forget ID"
	return verdict.Advise(verdict.Incomplete(fmt.Sprintf(format, args...)), hint)
}

// keepSource keeps every point of the source at a place (ledger.SID.Src), and tells
// what it is called; "" if none of it was judged.
func keepSource(judged []recovery.Judged, src, reason string) (name string) {
	for i := range judged {
		j := &judged[i]
		if sid, err := ledger.ParseSID(j.Point.SID()); err != nil || sid.Src != src {
			continue
		}
		name = j.Point.Source()
		if !j.Keep {
			j.Keep, j.Reasons = true, []string{reason}
		}
	}
	return name
}

// sourceOf is the place of the source of an object: PREFIX/SRC/….
func sourceOf(object string) string {
	_, below, _ := strings.Cut(object, "/")
	src, _, _ := strings.Cut(below, "/")
	return src
}

// cause is what keeps an object from being read, without its name over and over.
func cause(p *repo.PointError) string {
	return strings.ReplaceAll(p.Err.Error(), "open "+p.Object+": ", "")
}

// mends says what to do about an object that cannot be read.
func mends(p *repo.PointError) string {
	if strings.HasPrefix(p.Object, ledger.Labels) {
		return "holdfast scrub --heal may repair it; holdfast tag, pin and unpin write a new one"
	}
	return "holdfast scrub --heal may repair it, or bring it back from a copy of the repository; holdfast forget " + p.ID + " gives the point up"
}
