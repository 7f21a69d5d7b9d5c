package points

import (
	"time"

	"holdfast/repo/recovery"
)

// wordsMost bounds what is remembered; what comes beyond it is held as it came.
const wordsMost = 64 << 10

// words holds texts and time zones that many points have in common, so that each
// is held once: of half a million points of two hundred databases that is most
// of what they say.
type words struct {
	texts map[string]string
	zones map[int]*time.Location // by offset in seconds
}

func newWords() *words {
	return &words{texts: map[string]string{}, zones: map[int]*time.Location{}}
}

func (w *words) text(t *string) {
	known, ok := w.texts[*t]
	if !ok && len(w.texts) < wordsMost {
		w.texts[*t] = *t
	}
	if ok {
		*t = known
	}
}

// time gives t the one zone of its offset. (This machine's own zone, which t may
// have, has another offset at another time of the year.)
func (w *words) time(t *time.Time) {
	_, offset := t.Zone()
	zone, ok := w.zones[offset]
	if !ok && len(w.zones) < wordsMost {
		zone, ok = time.FixedZone("", offset), true
		if offset == 0 {
			zone = time.UTC
		}
		w.zones[offset] = zone
	}
	if ok {
		*t = t.In(zone)
	}
}

// share makes the texts of an entry those that are held already. Its ids become
// parts of its SID.
func (w *words) share(e *Entry) {
	p := e.Point
	e.sid.Rand = p.SID[len(p.SID)-len(p.ID):]
	p.ID = e.sid.Rand
	kind := string(p.Kind)
	for _, t := range []*string{
		&kind, &e.sid.Src, &p.Source, &p.Identity, &p.ReadMode, &p.Reason, &p.Rule, &p.Consistency, &p.Host, &p.Program,
	} {
		w.text(t)
	}
	p.Kind = recovery.Kind(kind)
	for i := range p.Items {
		it := &p.Items[i]
		for _, t := range []*string{&it.Name, &it.Label, &it.ReadMode, &it.Reason, &it.Rule} {
			w.text(t)
		}
	}
	for i := range p.Tags {
		w.text(&p.Tags[i])
	}
	w.time(&p.Time)
	w.time(&p.Finished)
}
