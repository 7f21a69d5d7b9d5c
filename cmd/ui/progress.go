package ui

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// How often progress is shown: a bar as often as eyes follow, JSON status lines
// no more than one a second, a log one line a minute.
const (
	barInterval    = 100 * time.Millisecond
	statusInterval = time.Second
	lineInterval   = time.Minute
)

// Progress shows how far a run is. One run has one Progress, however many items
// it reads at once; what is counted is the sum over them. It satisfies
// backup.Progress and restore.Progress. All methods may be called from many
// goroutines, and Read and Add are cheap enough for each block read.
//
// The first Start or Begin starts one goroutine that shows the state at the
// pace of the medium; Done ends it and waits for it. A run that stalls thus
// still has its line a minute.
type Progress struct {
	t        *Terminal
	interval time.Duration // 0: nothing is shown
	show     func(snapshot)

	done atomic.Int64 // bytes dealt with

	mu      sync.Mutex
	label   string
	total   int64
	fixed   bool // total was given by Start; items do not add to it
	unknown bool // some item's size is not known, so there is no total
	coming  []item
	items   []item // those that are under way
	ended   int64  // bytes of the items that are not any more
	started time.Time
	stop    chan struct{}
	stopped chan struct{}
}

// item is a part of a run; bytes < 0 where its size is not known.
type item struct {
	name  string
	bytes int64
}

// take removes the first item of that name and returns its bytes, 0 without one.
func take(list *[]item, name string) (bytes int64, found bool) {
	i := slices.IndexFunc(*list, func(it item) bool { return it.name == name })
	if i < 0 {
		return 0, false
	}
	bytes = (*list)[i].bytes
	*list = slices.Delete(*list, i, i+1)
	return max(bytes, 0), true
}

// snapshot is the state at one moment.
type snapshot struct {
	label       string
	items       []string
	done, total int64 // total < 0: not known
	underWay    bool  // something has begun, or will, and has not ended
	elapsed     time.Duration
}

// Progress makes the progress of one run. It shows nothing until Start or
// Begin is called, nor at all when Quiet or NoProgress say so.
func (t *Terminal) Progress() *Progress {
	p := &Progress{t: t}
	switch {
	case t.opt.Quiet || t.opt.NoProgress:
	case t.opt.JSON:
		p.interval, p.show = statusInterval, p.showStatus
	case t.interactive:
		p.interval, p.show = barInterval, newBar(t).show
	default:
		p.interval, p.show = lineInterval, p.showLine
	}
	return p
}

// Start begins a run of total bytes (< 0: not known) under a label such as
// "backup vm/web01". A second Start begins the next part: the count is at 0 again.
func (p *Progress) Start(total int64, label string) {
	p.mu.Lock()
	p.label, p.total, p.fixed, p.unknown, p.items = label, max(total, 0), true, total < 0, nil
	p.coming, p.ended = nil, 0
	p.done.Store(0)
	p.started = p.t.opt.Now()
	p.mu.Unlock()
	p.run()
}

// Expect adds an item that is yet to begin, so that the total is that of the whole
// run from the start. totalBytes (< 0: not known) is what Begin of the same name
// will say, or a guess that Begin corrects. It shows nothing by itself.
func (p *Progress) Expect(name string, totalBytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.coming = append(p.coming, item{name, totalBytes})
	p.add(totalBytes)
}

// Begin begins an item of totalBytes (< 0: not known). It adds to the run unless
// it was expected.
func (p *Progress) Begin(name string, totalBytes int64) {
	p.mu.Lock()
	if guess, expected := take(&p.coming, name); expected && !p.fixed {
		p.total -= guess
	}
	p.items = append(p.items, item{name, totalBytes})
	p.add(totalBytes)
	p.mu.Unlock()
	p.run()
}

// add counts an item into the total; p.mu is held.
func (p *Progress) add(bytes int64) {
	switch {
	case p.fixed:
	case bytes < 0:
		p.unknown = true
	default:
		p.total += bytes
	}
}

// Read counts bytes of the begun items as dealt with.
func (p *Progress) Read(bytes int64) { p.done.Add(bytes) }

// Add is Read.
func (p *Progress) Add(n int64) { p.done.Add(n) }

// Follow makes a progress under label of calls that tell the state, not the step.
// The calls come one after the other.
func (p *Progress) Follow(label string) func(done, total int64) {
	var last int64 = -1
	return func(done, total int64) {
		if last < 0 {
			p.Start(total, label)
			last = 0
		}
		p.Add(done - last)
		last = done
	}
}

// Item says that the run, which knows one thing at a time, is now at name.
func (p *Progress) Item(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.items = []item{{name: name}}
}

// Note shows a sentence, above the bar if there is one. Under JSON it is a
// status line with the field note.
func (p *Progress) Note(text string) {
	if p.t.opt.JSON && !p.t.opt.Quiet {
		p.t.Event("status", struct {
			Note string `json:"note"`
		}{text})
		return
	}
	p.t.Note("%s", text)
}

// Warn shows a warning; see Terminal.Warn.
func (p *Progress) Warn(msg string) { p.t.Warn("%s", msg) }

// End takes an item off the display. Of items that have ended everything is dealt
// with, holes that nobody had to read as well; that shows once no other is under way,
// since what is read is not counted by item.
func (p *Progress) End(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	bytes, _ := take(&p.items, name)
	p.ended += bytes
	if len(p.items) == 0 && !p.fixed && p.done.Load() < p.ended {
		p.done.Store(p.ended)
	}
}

// Done ends the display and takes the bar off the screen. It may be called
// more than once, and on a Progress that never started.
func (p *Progress) Done() {
	p.mu.Lock()
	stop, stopped := p.stop, p.stopped
	p.stop = nil
	p.mu.Unlock()
	if stop != nil {
		close(stop)
		<-stopped
	}
}

// run starts the showing goroutine if it is not there yet.
func (p *Progress) run() {
	p.t.Stream()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started.IsZero() {
		p.started = p.t.opt.Now()
	}
	if p.interval == 0 || p.stop != nil {
		return
	}
	p.stop, p.stopped = make(chan struct{}), make(chan struct{})
	go p.loop(p.stop, p.stopped)
}

func (p *Progress) loop(stop, stopped chan struct{}) {
	defer close(stopped)
	tick := time.NewTicker(p.interval)
	defer tick.Stop()
	if p.interval != lineInterval {
		p.show(p.snapshot())
	}
	for {
		select {
		case <-stop:
			p.t.mu.Lock()
			defer p.t.mu.Unlock()
			if p.t.live != nil {
				p.t.live.clear()
				p.t.live = nil
			}
			return
		case <-tick.C:
			p.show(p.snapshot())
		}
	}
}

func (p *Progress) snapshot() snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := snapshot{
		label: p.label,
		done:  p.done.Load(), total: p.total, elapsed: p.t.opt.Now().Sub(p.started),
	}
	for _, it := range p.items {
		s.items = append(s.items, it.name)
	}
	if !p.fixed {
		s.underWay = len(p.items)+len(p.coming) > 0
		s.total = max(s.total, s.done) // it was an estimate
	}
	if p.unknown || p.total == 0 {
		s.total = -1
	}
	return s
}

// left estimates the time still needed from the average so far; 0: no idea.
func (s snapshot) left() time.Duration {
	if s.total < 0 || s.done <= 0 || s.done >= s.total {
		return 0
	}
	return time.Duration(float64(s.elapsed) * float64(s.total-s.done) / float64(s.done))
}

// most is the part done of what is under way, whatever was read of it: sizes may be
// estimates, and what was read is not stored yet.
const most = 0.99

// fraction is the part done, 0 … 1; 0 when the total is not known.
func (s snapshot) fraction() float64 {
	switch {
	case s.total <= 0:
		return 0
	case s.underWay:
		return min(most, float64(s.done)/float64(s.total))
	}
	return min(1, float64(s.done)/float64(s.total))
}

// title is what the run is at, for one line.
func (s snapshot) title() string {
	return Clean(strings.TrimSpace(s.label + " " + strings.Join(s.items, ", ")))
}
