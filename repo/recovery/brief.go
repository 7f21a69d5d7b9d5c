package recovery

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Brief is a point as lists, searches and policies see it: without what only a
// restore needs, in 72 bytes beside what it has in common with other points. Of
// half a million points a repository can be asked to hold nothing more. The zero
// Brief is of no point; a Briefer makes the others.
type Brief struct {
	with        *common
	id, parent  shortID
	seconds     int64 // of Time, since 1970
	nanoseconds int32
	Pinned      bool  // no policy forgets it
	BytesTotal  int64 // as Point has them
	BytesAdded  int64
}

// shortID is an id in place, padded by zeros: a string of its own would take 32
// bytes and make the collector look at each of them.
type shortID [16]byte

func (s shortID) String() string { return string(bytes.TrimRight(s[:], "\x00")) }

// common is what many points of one source say alike, and, of a point unlike any
// that a writer of ours makes, what does not fit elsewhere.
type common struct {
	kind                                    Kind
	source, identity, readMode, consistency string
	session                                 string // the SID without the id at its end
	endless                                 bool   // the SID does not end with the id
	bare                                    bool   // its driver noted nothing of it
	zone                                    *time.Location
	tags                                    string // as JSON; "" for none
	farID, farParent                        string // that are no shortID
}

// Briefer makes briefs and holds once what they have in common. The zero value
// works, from one goroutine at a time. Memory: what the different sources,
// sessions' generations and tags take.
type Briefer struct {
	known map[common]*common
	zones map[int]*time.Location
}

// Brief shortens a point; pinned is what its label says. Nothing of p is kept
// but texts.
func (b *Briefer) Brief(p *Point, pinned bool) Brief {
	with := common{
		kind: p.Kind, source: p.Source, identity: p.Identity, readMode: p.ReadMode, consistency: p.Consistency,
		zone: b.zone(p.Time), bare: len(p.Attrs) == 0,
	}
	with.session, with.endless = strings.CutSuffix(p.SID, p.ID)
	with.endless = !with.endless
	if len(p.Tags) > 0 {
		text, _ := json.Marshal(p.Tags) // strings have no error
		with.tags = string(text)
	}
	short := Brief{
		seconds: p.Time.Unix(), nanoseconds: int32(p.Time.Nanosecond()),
		Pinned: pinned, BytesTotal: p.BytesTotal, BytesAdded: p.BytesAdded,
	}
	if !short.id.hold(p.ID) {
		with.farID = p.ID
	}
	if !short.parent.hold(p.Parent) {
		with.farParent = p.Parent
	}
	short.with = b.share(with)
	return short
}

// hold takes text in and reports whether it fits.
func (s *shortID) hold(text string) bool {
	if len(text) > len(s) || strings.IndexByte(text, 0) >= 0 {
		return false
	}
	copy(s[:], text)
	return true
}

func (b *Briefer) share(with common) *common {
	known, ok := b.known[with]
	if !ok {
		if b.known == nil {
			b.known = map[common]*common{}
		}
		known = &with
		b.known[with] = known
	}
	return known
}

// zone is the one zone of t's offset: how a time is shown depends on that alone.
// (This machine's own zone has another offset at another time of the year.)
func (b *Briefer) zone(t time.Time) *time.Location {
	_, offset := t.Zone()
	if offset == 0 {
		return time.UTC
	}
	zone, ok := b.zones[offset]
	if !ok {
		if b.zones == nil {
			b.zones = map[int]*time.Location{}
		}
		zone = time.FixedZone("", offset)
		b.zones[offset] = zone
	}
	return zone
}

// BriefsOf shortens points that nobody has pinned, in their order.
func BriefsOf(points []*Point) []Brief {
	var b Briefer
	briefs := make([]Brief, len(points))
	for i, p := range points {
		briefs[i] = b.Brief(p, false)
	}
	return briefs
}

// ID is the point's id.
func (b *Brief) ID() string { return far(b.id, b.with.farID) }

// idBegins reports whether the id begins with prefix.
func (b *Brief) idBegins(prefix string) bool {
	if b.with.farID != "" {
		return strings.HasPrefix(b.with.farID, prefix)
	}
	return len(prefix) <= len(b.id) && string(b.id[:len(prefix)]) == prefix
}

// Parent is the id of the point it was read against, "" for none.
func (b *Brief) Parent() string { return far(b.parent, b.with.farParent) }

func far(near shortID, far string) string {
	if far != "" {
		return far
	}
	return near.String()
}

// SID is the session that made it.
func (b *Brief) SID() string {
	if b.with.endless {
		return b.with.session
	}
	return b.with.session + b.ID()
}

// Kind says what it is a backup of.
func (b *Brief) Kind() Kind { return b.with.kind }

// Source is the source's name, for people.
func (b *Brief) Source() string { return b.with.source }

// Identity is what the source really is.
func (b *Brief) Identity() string { return b.with.identity }

// ReadMode is the most complete mode among the items.
func (b *Brief) ReadMode() string { return b.with.readMode }

// Consistency is the level that was reached.
func (b *Brief) Consistency() string { return b.with.consistency }

// Time is the moment the data is of, with the zone's offset.
func (b *Brief) Time() time.Time {
	return time.Unix(b.seconds, int64(b.nanoseconds)).In(b.with.zone)
}

// Tags are the tags as they are now, nil for none.
func (b *Brief) Tags() []string {
	var tags []string
	if b.with.tags != "" {
		_ = json.Unmarshal([]byte(b.with.tags), &tags) // as Brief wrote it
	}
	return tags
}

// Base is Point.Base.
func (b *Brief) Base() string {
	if b.with.kind.standsOnParent() {
		return b.Parent()
	}
	return ""
}

// SortBriefs orders by time; equal times by session, so that the order is the
// same everywhere.
func SortBriefs(briefs []Brief) {
	slices.SortFunc(briefs, func(a, b Brief) int {
		return cmp.Or(cmp.Compare(a.seconds, b.seconds), cmp.Compare(a.nanoseconds, b.nanoseconds),
			strings.Compare(a.with.session, b.with.session), bytes.Compare(a.id[:], b.id[:]))
	})
}

// byID finds briefs by their ids, with four bytes for each.
type byID struct {
	briefs []Brief
	order  []uint32
}

func newByID(briefs []Brief) byID {
	order := make([]uint32, len(briefs))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortStableFunc(order, func(a, b uint32) int { return compareIDs(&briefs[a], &briefs[b]) })
	return byID{briefs, order}
}

func compareIDs(a, b *Brief) int {
	return cmp.Or(bytes.Compare(a.id[:], b.id[:]), strings.Compare(a.with.farID, b.with.farID))
}

// find is the number of the brief with an id; none has the empty one.
func (ids byID) find(near shortID, far string) (int, bool) {
	if near == (shortID{}) && far == "" {
		return 0, false
	}
	at, found := slices.BinarySearchFunc(ids.order, near, func(n uint32, near shortID) int {
		b := &ids.briefs[n]
		return cmp.Or(bytes.Compare(b.id[:], near[:]), strings.Compare(b.with.farID, far))
	})
	if !found {
		return 0, false
	}
	for at+1 < len(ids.order) && compareIDs(&ids.briefs[ids.order[at+1]], &ids.briefs[ids.order[at]]) == 0 {
		at++ // of two by one id, which nobody makes, the newest
	}
	return int(ids.order[at]), true
}

// Ancestors are the ids of the points that p was read against, and those before
// them, nearest first, as far as they are among points.
func (p *Point) Ancestors(points []Brief) []string {
	chain := []string{}
	if p.Parent == "" {
		return chain
	}
	ids := newByID(points)
	var briefer Briefer
	above := briefer.Brief(p, false)
	for len(chain) < len(points) { // a manifest that lies cannot make it run for ever
		i, there := ids.find(above.parent, above.with.farParent)
		if !there {
			break
		}
		above = points[i]
		chain = append(chain, above.ID())
	}
	return chain
}
