package picture_test

import (
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lsn"
)

// database is one that is backed up, restored and reverted at random; of its backups
// there are headers only.
type database struct {
	now      time.Time
	end      uint32 // where its log ends
	logFrom  uint32 // where the next log backup begins
	forkOf   string // fork that this one left, until a log spans both
	fork     string
	at       uint32
	base     string // set of the differential base
	baseAt   uint32
	forks    int
	taken    []chain.Backup
	abandons []string
	after    int // backups that there were when the machine's snapshot was taken
	snapshot *database
}

func newDatabase() *database {
	return &database{now: time.Date(2026, 3, 2, 8, 0, 0, 0, time.FixedZone("", 3600)), end: 100, logFrom: 100, fork: "FORK1", forks: 1}
}

func at(block uint32) lsn.LSN { return lsn.LSN{VLF: 45, Block: block, Slot: 1} }

func id(n int) string { return fmt.Sprintf("%08x%024x", 0xabc00000+n, n) }

func (d *database) pass(seconds int) { d.now = d.now.Add(time.Duration(seconds) * time.Second) }

// backup takes one that begins at first; lasting is its length in seconds.
func (d *database) backup(kind chain.Kind, first uint32, lasting int, change func(*chain.Backup)) *chain.Backup {
	n := len(d.taken)
	b := chain.Backup{Point: id(n), State: chain.Confirmed, By: chain.ByRow, Rule: "S-" + string(kind), StreamBytes: []int64{int64(d.end) << 12}}
	b.Kind, b.Set, b.Database, b.Family, b.Fork, b.FirstFork = kind, fmt.Sprintf("SET%d", n), "sales", "6F9619FF-8B86-D011-B42D-00C04FC964FF", d.fork, d.fork
	b.First, b.Last, b.Checkpoint, b.Started = at(first), at(d.end), at(first), d.now
	d.pass(lasting)
	b.Finished = d.now.Truncate(time.Second)
	if change != nil {
		change(&b)
	}
	d.taken = append(d.taken, b)
	return &d.taken[n]
}

func (d *database) full(lasting int, change func(*chain.Backup)) {
	first := d.end
	d.end += 5
	b := d.backup(chain.Full, first, lasting, change)
	b.Abandons, d.abandons = d.abandons, nil
	if !b.CopyOnly {
		d.base, d.baseAt = b.Set, first
	}
}

func (d *database) diff(lasting int, change func(*chain.Backup)) {
	first := d.end
	d.end += 5
	b := d.backup(chain.Diff, first, lasting, change)
	b.Base, b.BaseLSN, b.DatabaseBackup = d.base, at(d.baseAt), at(d.baseAt)
}

func (d *database) log(lasting int, change func(*chain.Backup)) {
	b := d.backup(chain.Log, d.logFrom, lasting, change)
	if d.forkOf != "" {
		b.FirstFork, b.ForkPoint = d.forkOf, at(d.at)
	}
	if !b.CopyOnly {
		d.logFrom, d.forkOf = d.end, ""
	}
}

// restore brings the database back to where its log ended at an LSN, along the fork
// that it is on; the next log begins where the last whole log ended.
func (d *database) restore(to uint32) {
	from := uint32(0)
	for _, b := range d.taken {
		if b.Kind == chain.Log && b.Fork == d.fork && b.Last.Compare(at(to)) <= 0 {
			from = max(from, b.Last.Block)
		}
		if b.Kind == chain.Log && b.Fork == d.fork && b.First.Compare(at(to)) <= 0 && at(to).Less(b.Last) {
			from = max(from, b.First.Block)
		}
	}
	if from == 0 || d.forkOf != "" {
		return
	}
	d.forks++
	d.forkOf, d.fork, d.at = d.fork, fmt.Sprintf("FORK%d", d.forks), to
	d.end, d.logFrom = to+3, from
}

// revert sets the machine back to its snapshot.
func (d *database) revert() {
	if d.snapshot == nil {
		return
	}
	old := *d
	*d = *old.snapshot
	d.now, d.taken, d.forks = old.now, old.taken, old.forks
	for _, b := range old.taken[old.snapshot.after:] {
		d.abandons = append(d.abandons, b.Set)
	}
	d.abandons = slices.Concat(old.abandons, d.abandons)
	d.pass(60)
	d.full(5, nil)
}

// live makes a history at random.
func live(t *rapid.T) *database {
	d := newDatabase()
	lasting := rapid.IntRange(0, 9)
	for range rapid.IntRange(1, 50).Draw(t, "steps") {
		d.pass(rapid.IntRange(1, 600).Draw(t, "pause"))
		d.end += uint32(rapid.IntRange(0, 40).Draw(t, "records"))
		switch op := rapid.IntRange(0, 19).Draw(t, "op"); op {
		case 0, 1:
			d.full(lasting.Draw(t, "lasting"), nil)
		case 2:
			d.full(lasting.Draw(t, "lasting"), func(b *chain.Backup) { b.CopyOnly = true })
		case 3, 4:
			if d.base != "" {
				d.diff(lasting.Draw(t, "lasting"), nil)
			}
		case 5:
			d.log(lasting.Draw(t, "lasting"), func(b *chain.Backup) { b.BulkLogged = true })
		case 6:
			d.log(lasting.Draw(t, "lasting"), func(b *chain.Backup) { b.CopyOnly = true })
		case 7:
			d.log(lasting.Draw(t, "lasting"), func(b *chain.Backup) { b.Damage = "its stream is lost" })
		case 8:
			d.log(lasting.Draw(t, "lasting"), func(b *chain.Backup) { b.State, b.Last, b.Finished = chain.Unconfirmed, lsn.LSN{}, time.Time{} })
			d.logFrom = d.taken[len(d.taken)-1].First.Block // it is handed out once more
		case 9: // somebody else's
			d.logFrom, d.forkOf = d.end, ""
		case 10: // somebody else's full
			d.base, d.baseAt = "FOREIGN", d.end
			d.end += 5
		case 11:
			if d.end > 110 {
				d.restore(uint32(rapid.IntRange(105, int(d.end)).Draw(t, "to")))
			}
		case 12:
			s := *d
			s.after, s.snapshot = len(d.taken), nil
			d.snapshot = &s
		case 13:
			d.revert()
		default:
			d.log(lasting.Draw(t, "lasting"), nil)
		}
	}
	return d
}

// taken0 is a little before the first backup.
func (d *database) taken0() time.Time {
	if len(d.taken) == 0 {
		return d.now
	}
	return d.taken[0].Started.Add(-10 * time.Second)
}

// claims tells whether a report says that a second can be reached.
func claims(r chain.Report, second time.Time) bool {
	for _, l := range r.Lines {
		if slices.ContainsFunc(l.Spans, func(s chain.Span) bool { return !second.Before(s.From) && !s.To.Before(second) }) {
			return true
		}
	}
	return false
}

// show is a history for the reader of a failed test.
func show(d *database) string {
	text := ""
	for _, b := range d.taken {
		text += fmt.Sprintf("%s %-4s %s %d..%d fork %s<-%s at %d, %s - %s, base %s, copy %v bulk %v %q %q abandons %v\n", b.Point[:8], b.Kind, b.Set, b.First.Block, b.Last.Block, b.Fork, b.FirstFork, b.ForkPoint.Block,
			b.Started.Format(time.TimeOnly), b.Finished.Format(time.TimeOnly), b.Base, b.CopyOnly, b.BulkLogged, b.State, b.Damage, b.Abandons)
	}
	return text
}
