package trial_test

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	mrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"holdfast/repo/backend"
	"holdfast/repo/backend/local"
	"holdfast/repo/backend/local/localtest"
)

// place is the backend of a directory on a disk that forgets.
type place struct {
	*local.Backend
	disk *localtest.FS
}

func openPlace(disk *localtest.FS, seed uint64) *place {
	opts := local.Options{Random: newDice(seed), ReserveBytes: 4096, SyncParallel: 1}
	return &place{Backend: local.Over(disk, "strict", opts), disk: disk}
}

// Damage changes an object behind everybody's back.
func (p *place) Damage(name string, change func([]byte) []byte) error {
	return p.disk.Damage(name, change)
}

// ruling decides what became of each thing that was not synced. nil is a kill
// without a power cut.
type ruling func(localtest.Chance) localtest.Fate

// Kinds of power cut. Each decides for all files and names at once.
var (
	allLost   = ruling(func(localtest.Chance) localtest.Fate { return localtest.Fate{} })
	noBytes   = ruling(func(c localtest.Chance) localtest.Fate { return localtest.Fate{Kept: !c.File} })
	halfBytes = tornBy(func(data []byte) []byte { return data[:len(data)/2] })
	halfZeros = tornBy(func(data []byte) []byte { clear(data[len(data)/2:]); return data })
	lastBytes = tornBy(func(data []byte) []byte { return data[:max(1, len(data))-1] })
)

func tornBy(cut func(data []byte) []byte) ruling {
	return func(c localtest.Chance) localtest.Fate {
		if !c.File {
			return localtest.Fate{Kept: true}
		}
		return localtest.Fate{Torn: cut}
	}
}

// only rules in another way over the one thing that is called name.
func only(name string, file bool, it localtest.Fate, others ruling) ruling {
	return func(c localtest.Chance) localtest.Fate {
		if c.Name == name && c.File == file {
			return it
		}
		return others(c)
	}
}

// allKept: the power goes and everything had been written just before.
func allKept(localtest.Chance) localtest.Fate { return localtest.Fate{Kept: true} }

// isStore tells objects from what the backend keeps for itself.
func isStore(name string) bool { return name != "lock" && !strings.HasPrefix(name, "tmp") }

// cut is a ruling with a name for the reader of a failure.
type cut struct {
	name string
	rule ruling
}

// cuts are the power cuts worth a look: everything lost, everything torn, and
// each thing lost, kept or torn alone.
func cuts(disk *localtest.FS) []cut {
	all := []cut{
		{"kept", nil}, {"lost", allLost}, {"names without bytes", noBytes}, {"torn in half", halfBytes},
		{"zeros from the middle", halfZeros}, {"torn at the end", lastBytes},
	}
	disk.Cut(func(c localtest.Chance) localtest.Fate {
		if isStore(c.Name) {
			name := "name " + c.Name
			if c.File {
				name = "bytes of " + c.Name
				half := func(data []byte) []byte { clear(data[len(data)/2:]); return data }
				all = append(all, cut{name + " torn", only(c.Name, true, localtest.Fate{Torn: half}, allKept)})
			}
			all = append(all,
				cut{name + " lost", only(c.Name, c.File, localtest.Fate{}, allKept)},
				cut{name + " alone kept", only(c.Name, c.File, localtest.Fate{Kept: true}, allLost)})
		}
		return localtest.Fate{Kept: true}
	})
	if long() {
		for seed := range uint64(3) {
			r := mrand.New(mrand.NewPCG(seed, 5))
			all = append(all, cut{fmt.Sprintf("luck %d", seed), func(localtest.Chance) localtest.Fate { return localtest.Fate{Kept: r.IntN(2) == 0} }})
		}
	}
	return all
}

// after is what a cut leaves of a disk.
func (c cut) after(disk *localtest.FS) *localtest.FS {
	if c.rule == nil {
		return disk.Clone()
	}
	return disk.Cut(c.rule)
}

// diskTrial is a script under fire over a directory.
type diskTrial struct {
	*trial
	disk  *localtest.FS          // after before, with nothing in doubt
	skip  func(call string) bool // a planted mistake
	bytes map[blockOf]uint64     // digests of what is known
}

// blockOf is the place of a file's bytes, which are never changed there.
type blockOf struct {
	first  *byte
	length int
}

func newDiskTrial(ctx context.Context, s script) (*diskTrial, error) {
	disk := localtest.New()
	be := openPlace(disk, 1)
	tr := &trial{script: s, base: newSite(be, 1), digest: maphash.MakeSeed(), seen: map[uint64]bool{}}
	p := tr.base.process(be, "")
	defer p.end()
	if err := s.before(ctx, p); err != nil {
		return nil, fmt.Errorf("before the script: %w", err)
	}
	if err := errors.Join(be.Sync(ctx), be.Close()); err != nil {
		return nil, err
	}
	return &diskTrial{trial: tr, disk: disk.Cut(allLost), bytes: map[blockOf]uint64{}}, nil
}

// moment is the disk and the promises before a call of the file system.
type moment struct {
	call string
	at   int // its number
	disk *localtest.FS
	site *site
}

// changes: a call after which a crash may leave something else than before it.
func changes(call string) bool {
	op, _, _ := strings.Cut(call, " ")
	return slices.Contains([]string{"create", "write", "rename", "renamenew", "link", "remove", "mkdir", "sync", "syncdir", "allocate"}, op)
}

// stage is a fresh copy of the disk that before has made, its site, and the
// session beside if the script has one.
func (tr *diskTrial) stage(ctx context.Context) (*localtest.FS, *site, *neighbour, error) {
	disk := tr.disk.Clone()
	s := tr.base.fork(openPlace(disk, 2), tr.seed+1000)
	there := openPlace(disk, 4)
	far, err := tr.openBeside(ctx, s, there)
	if err == nil {
		err = there.Sync(ctx)
	}
	disk.Skip = tr.skip
	return disk, s, far, err
}

// moments runs the script undisturbed and keeps what a process that dies before
// any of its calls would leave, and when all is done. Done and not done need no
// two moments: what one call has done is there before the next.
func (tr *diskTrial) moments(ctx context.Context) ([]moment, error) {
	disk, s, far, err := tr.stage(ctx)
	if err != nil {
		return nil, err
	}
	defer far.leave()
	p := s.process(s.store, "")
	defer p.end() // and so it is dead in all moments
	var all []moment
	keep := func(call string) { all = append(all, moment{call, len(disk.Calls), disk.Clone(), s.fork(nil, 0)}) }
	disk.Arm = func(call string) {
		if changes(call) {
			keep(call)
		}
	}
	err = tr.act(ctx, p)
	disk.Arm = nil
	keep("the end")
	return all, err
}

// leave ends a neighbour's process without a word.
func (n *neighbour) leave() {
	if n != nil {
		n.end()
		n.repo.Close()
	}
}

// crash is one moment and one cut, with a digest of what the aftermath sees.
type crash struct {
	moment
	cut
	key uint64
}

// crashes lists those that differ.
func (tr *diskTrial) crashes(ctx context.Context) (all []crash, total int, err error) {
	moments, err := tr.moments(ctx)
	for _, m := range moments {
		tr.learn(m.disk)
		for _, c := range cuts(m.disk) {
			total++
			key := tr.keyOf(m.site, c.after(m.disk))
			if !tr.seen[key] {
				tr.seen[key] = true
				all = append(all, crash{m, c, key})
			}
		}
	}
	return all, total, err
}

// learn notes digests of all that a disk holds.
func (tr *diskTrial) learn(disk *localtest.FS) {
	for _, n := range disk.Files() {
		if len(n.Data) > 0 {
			at := blockOf{&n.Data[0], len(n.Data)}
			if _, ok := tr.bytes[at]; !ok {
				tr.bytes[at] = maphash.Bytes(tr.digest, n.Data)
			}
		}
	}
}

// keyOf is a digest of all that the aftermath depends on.
func (tr *diskTrial) keyOf(s *site, disk *localtest.FS) uint64 {
	var h maphash.Hash
	h.SetSeed(tr.digest)
	for name, n := range disk.Files() {
		if !isStore(name) {
			continue
		}
		_, _ = h.WriteString(name)
		if len(n.Data) == 0 {
			continue
		}
		sum, ok := tr.bytes[blockOf{&n.Data[0], len(n.Data)}]
		if !ok {
			sum = maphash.Bytes(tr.digest, n.Data)
		}
		maphash.WriteComparable(&h, sum)
	}
	fmt.Fprint(&h, len(s.made), len(s.secrets), len(s.barred), len(s.gone), s.pinned, s.notes)
	return h.Sum64()
}

// examine lets the next processes find what a crash has left.
func (tr *diskTrial) examine(ctx context.Context, c crash) error {
	var far *neighbour
	disk, s := c.disk, c.site
	if tr.beside { // its session can be continued once only, so each crash has its run
		var err error
		if disk, s, far, err = tr.stage(ctx); err != nil {
			return err
		}
		disk.Fault = localtest.Fault{At: c.at, Err: localtest.ErrStopped, Stop: true}
		p := s.process(s.store, "")
		p.dead = disk.Stopped
		err = tr.act(ctx, p)
		p.end()
		if err != nil && !errors.Is(err, localtest.ErrStopped) {
			return fmt.Errorf("ended with %w", err)
		}
	}
	disk = c.after(disk)
	be := openPlace(disk, 3)
	err := tr.aftermath(ctx, s.fork(be, tr.seed+2000), be, "", far, c.rule == nil || c.name == "lost")
	return errors.Join(err, be.Close(), litter(disk))
}

// litter: of unfinished writes nothing stays behind the next process.
func litter(disk *localtest.FS) error {
	for name := range disk.Files() {
		if !isStore(name) && name != "tmp/reserve" && name != "lock" {
			return fmt.Errorf("%s is left over", name)
		}
	}
	return nil
}

// TestCrashAtEveryCallOfTheDisk: T1 over a directory. Whatever call of the file
// system a process dies at, and whatever a power cut leaves of the files and the
// names that were not synced by then: no promise is broken and nothing has to be
// cleared by hand.
func TestCrashAtEveryCallOfTheDisk(t *testing.T) {
	var mu sync.Mutex
	var total, different, examined int
	t.Cleanup(func() {
		t.Logf("%d crashes, %d of them leave different disks; examined: %d", total, different, examined)
	})
	for _, s := range scripts() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			tr, err := newDiskTrial(t.Context(), s)
			must(t, err)
			all, n, err := tr.crashes(t.Context())
			must(t, err)
			mu.Lock()
			total, different, examined = total+n, different+len(all), examined+(len(all)+tr.step()-1)/tr.step()
			mu.Unlock()
			for i := 0; i < len(all); i += tr.step() {
				c := all[i]
				if err := tr.examine(t.Context(), c); err != nil {
					t.Errorf("before %s (call %d), %s: %v", c.call, c.at, c.cut.name, err)
					if tr.bad++; tr.bad > 4 {
						t.FailNow()
					}
				}
			}
			t.Logf("%d crashes, %d of them leave different disks", n, len(all))
		})
	}
}

// firstViolation examines crashes of a script until one breaks a promise, over a
// disk on which the syncs for which skip is true were left out.
func firstViolation(ctx context.Context, s script, skip func(call string) bool) (violation error, err error) {
	tr, err := newDiskTrial(ctx, s)
	if err != nil {
		return nil, err
	}
	tr.skip = skip
	all, _, err := tr.crashes(ctx)
	for _, c := range slices.Backward(all) { // those at the end have the most promises to break
		if err := tr.examine(ctx, c); err != nil {
			return fmt.Errorf("before %s, %s: %w", c.call, c.cut.name, err), nil
		}
	}
	return nil, err
}

// TestDiskCrashesTellOfASyncThatIsLeftOut: the crashes above find a program that
// does not sync one sort of thing.
func TestDiskCrashesTellOfASyncThatIsLeftOut(t *testing.T) {
	found := map[string]script{}
	for _, s := range scripts() {
		found[s.name] = s
	}
	for _, mistake := range []struct{ syncs, script string }{
		{"sync tmp/", "second backup"}, // files are synced by the name they are written under
		{"sync tmp/", "scrub heals"},
		{"syncdir data/", "second backup"},
		{"syncdir meta/", "second backup"},
		{"syncdir index/", "second backup"},
		{"syncdir commit/", "second backup"},
		{"syncdir .", "first backup"},
		{"syncdir commit", "first backup"},
		{"syncdir data", "first backup"},
		{"syncdir forget/", "forget"},
		{"syncdir ledger", "forget and prune"},
		{"syncdir label/", "label"},
		{"syncdir ", "password changed"},
	} {
		t.Run(mistake.syncs+" of "+mistake.script, func(t *testing.T) {
			t.Parallel()
			skip := func(call string) bool {
				return call == mistake.syncs || strings.HasPrefix(call, mistake.syncs) && strings.ContainsAny(mistake.syncs[len(mistake.syncs)-1:], "/ ")
			}
			violation, err := firstViolation(t.Context(), found[mistake.script], skip)
			must(t, err)
			if violation == nil {
				t.Error("no crash tells of it")
			}
			t.Log(violation)
		})
	}
}

// TestDiskCrashesTellOfEachSyncOfAFile: of the files that a backup syncs not one
// can go without it.
func TestDiskCrashesTellOfEachSyncOfAFile(t *testing.T) {
	syncs := 0
	all := writing()
	if testing.Short() {
		all = all[1:2]
	}
	for _, s := range all {
		for left := 1; ; left++ {
			seen := 0
			violation, err := firstViolation(t.Context(), s, func(call string) bool {
				if strings.HasPrefix(call, "sync ") {
					seen++
				}
				return strings.HasPrefix(call, "sync ") && seen == left
			})
			must(t, err)
			if seen < left {
				break
			}
			syncs++
			if violation == nil {
				t.Errorf("%s: no crash tells that sync %d of %d is missing", s.name, left, seen)
			}
		}
	}
	t.Logf("%d syncs left out, one by one", syncs)
}

var _ backend.Backend = (*place)(nil)
