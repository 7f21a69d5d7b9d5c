package demo

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"time"

	"holdfast/cmd/ui"
	"holdfast/repo/recovery"
	"holdfast/vmware/lab"
)

// day is the VM at one moment, and the recovery point of it.
type day struct {
	files  tree
	disks  [][sha256.Size]byte
	point  recovery.Point
	backup time.Duration
}

// story is the demo from its first sentence to its last. A step that fails,
// and a claim that is false, end it.
func (s *stage) story(ctx context.Context) error {
	s.tell.say("Holdfast's whole story on this machine alone. Every command really runs;\neverything called proved was checked, and a false claim would end the story.")
	if err := s.opening(ctx); err != nil {
		return err
	}
	first, err := s.firstBackup(ctx)
	if err != nil {
		return err
	}
	second, err := s.secondBackup(ctx, first)
	if err != nil {
		return err
	}
	if err := s.restoreMachine(ctx, second); err != nil {
		return err
	}
	if err := s.restoreDisk(ctx, first); err != nil {
		return err
	}
	if err := s.disaster(ctx); err != nil {
		return err
	}
	return s.ending(first)
}

// claim ends the story unless a claim holds; the claim is told either way.
func (s *stage) claim(holds bool, format string, args ...any) error {
	if !holds {
		return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrClaim)
	}
	s.tell.proved(format, args...)
	return nil
}

// opening fills the VM and makes the repository.
func (s *stage) opening(ctx context.Context) error {
	if _, err := run(ctx, s.drives(s.vm), true, s.files.install()); err != nil {
		return err
	}
	s.tell.begin("A vCenter to practise on", fmt.Sprintf(`A laboratory in this process speaks vSphere's own protocols, on the loopback address only.
In it runs %s. Its two disks of %s hold partition tables, FAT32 and ext4,
and on them %d files of %s.`, vmName, ui.Bytes(s.opt.DiskBytes), len(s.files), ui.Bytes(s.files.bytes())))
	s.export(s.reach)
	if _, err := s.run(ctx, []string{"vm", "list"}); err != nil {
		return err
	}
	s.tell.begin("A repository", `It will be encrypted and deduplicated, and carry enough parity to mend itself.
A key in a file opens this one; a password does as well.`)
	if _, err := s.run(ctx, []string{"init", "--new-key-file", s.path("key")}); err != nil {
		return err
	}
	s.export(map[string]string{"HOLDFAST_KEY_FILE": s.path("key")})
	return nil
}

// backup backs the VM up and looks at the point.
func (s *stage) backup(ctx context.Context) (*day, error) {
	d := &day{files: s.files}
	var err error
	if d.disks, err = s.hashes(ctx, s.vm); err != nil {
		return nil, err
	}
	if d.backup, err = s.run(ctx, []string{"backup", "vm", vmName}); err != nil {
		return nil, err
	}
	if err := s.ask(ctx, &d.point, "show", "latest:"+vmName); err != nil {
		return nil, err
	}
	return d, s.noSnapshot(ctx)
}

// noSnapshot claims that the VM has none.
func (s *stage) noSnapshot(ctx context.Context) error {
	var vms []struct {
		Name      string   `json:"name"`
		Snapshots []string `json:"snapshots"`
	}
	if err := s.ask(ctx, &vms, "vm", "list"); err != nil {
		return err
	}
	left := -1
	for _, vm := range vms {
		if vm.Name == vmName {
			left = len(vm.Snapshots)
		}
	}
	return s.claim(left == 0, "the backup left no snapshot on the VM")
}

// firstBackup is the full one.
func (s *stage) firstBackup(ctx context.Context) (*day, error) {
	s.tell.begin("The first backup", `A snapshot, then only what was ever written is read. What is zero is not stored at all.
Changed-block tracking is off on the VM; the backup turns it on for the next one, and says so.`)
	d, err := s.backup(ctx)
	if err != nil {
		return nil, err
	}
	p := d.point
	s.tell.count("full backup", p.BytesRead, d.backup, "%s of disks, %s read, %s stored", ui.Bytes(p.BytesTotal), ui.Bytes(p.BytesRead), ui.Bytes(p.BytesAdded))
	return d, s.claim(p.ReadMode == recovery.ReadAllocated && p.BytesRead < p.BytesTotal/2,
		"%s of %s were read: the rest of the disks was never written", ui.Bytes(p.BytesRead), ui.Bytes(p.BytesTotal))
}

// secondBackup is the incremental one, after a bad day in the guest.
func (s *stage) secondBackup(ctx context.Context, first *day) (*day, error) {
	files, writes := s.files.aBadDay()
	written, err := run(ctx, s.drives(s.vm), false, writes)
	if err != nil {
		return nil, err
	}
	s.files = files
	s.tell.begin("A bad day, and the backup after it", fmt.Sprintf(`The web site's log grew, orders came in, and somebody encrypted all %d invoices: the guest
wrote %s. Nobody has noticed yet. The next backup asks vSphere what changed.`, invoices, ui.Bytes(written)))
	d, err := s.backup(ctx)
	if err != nil {
		return nil, err
	}
	p := d.point
	s.tell.count("incremental backup", p.BytesRead, d.backup, "%s written by the guest, %s read, %s stored", ui.Bytes(written), ui.Bytes(p.BytesRead), ui.Bytes(p.BytesAdded))
	err = s.claim(p.ReadMode == recovery.ReadCBT && p.Parent == first.point.ID && p.BytesRead < first.point.BytesRead/2,
		"this time %s were read, not %s, by changed-block tracking", ui.Bytes(p.BytesRead), ui.Bytes(first.point.BytesRead))
	if err != nil {
		return nil, err
	}
	s.tell.say("Both points are complete; neither needs the other.")
	_, err = s.run(ctx, []string{"points"})
	return d, err
}

// restoreMachine brings the VM back beside itself.
func (s *stage) restoreMachine(ctx context.Context, want *day) error {
	s.tell.begin("The machine comes back", "A new VM is made of the newest point: its configuration, its firmware's memory, its disks.")
	took, err := s.run(ctx, []string{"restore", "vm", "latest:" + vmName, "--name", restoredName})
	if err != nil {
		return err
	}
	vm := s.lab.VM(restoredName)
	if vm == nil {
		return s.claim(false, "there is a VM %s", restoredName)
	}
	got, err := s.hashes(ctx, vm)
	if err != nil {
		return err
	}
	same := len(got) == len(want.disks)
	for i := range got {
		same = same && got[i] == want.disks[i]
	}
	if err := s.claim(same, "the disks of %s equal those of %s, all %s, byte for byte", restoredName, vmName, ui.Bytes(want.point.BytesTotal)); err != nil {
		return err
	}
	for i, d := range s.drives(vm) {
		if err := compare(ctx, d, i, want.files.onDisk(i)); err != nil {
			return s.claim(false, "disk %d of %s: %v", i, restoredName, err)
		}
	}
	s.tell.count("restore of the VM", want.point.BytesTotal, took, "%d disks, %d files equal", len(got), len(want.files))
	return s.claim(true, "its partition tables and file systems are in order, and its %d files hold what was written", len(want.files))
}

// hashes are the digests of all disks of a VM.
func (s *stage) hashes(ctx context.Context, vm *lab.VM) ([][sha256.Size]byte, error) {
	var all [][sha256.Size]byte
	for i, d := range s.drives(vm) {
		sum, err := digest(ctx, d)
		if err != nil {
			return nil, fmt.Errorf("read disk %d of %s: %w", i, vm.Name(), err)
		}
		all = append(all, sum)
	}
	return all, nil
}

// workDisk is the disk with the invoices: its index, and its label in vSphere.
const (
	workDisk  = 1
	workLabel = "Hard disk 2"
)

// restoreDisk brings one disk back as it was before the bad day.
func (s *stage) restoreDisk(ctx context.Context, first *day) error {
	s.tell.begin("The day before comes back", `But the invoices are just as encrypted in it. The first point is from before:
its second disk, into a plain file.`)
	file := s.path("before.raw")
	took, err := s.run(ctx, []string{"restore", "disk", first.point.ID[:8], "--disk", workLabel, "-o", file, "--sparse"})
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("open the restored disk: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at the restored disk: %w", err)
	}
	restored := fileDrive{f, info.Size()}
	sum, err := digest(ctx, restored)
	if err != nil {
		return fmt.Errorf("read the restored disk: %w", err)
	}
	if err := s.claim(sum == first.disks[workDisk], "the file equals the disk as it was at the first backup, byte for byte"); err != nil {
		return err
	}
	files := first.files.onDisk(workDisk)
	if err := compare(ctx, restored, workDisk, files); err != nil {
		return s.claim(false, "the file holds the disk's files: %v", err)
	}
	s.tell.count("restore of one disk", restored.bytes, took, "%s as a file, %d files equal", ui.Bytes(restored.bytes), len(files))
	return s.claim(true, "all %d invoices in it can be read again", invoices)
}

// disaster damages the repository and lets it heal.
func (s *stage) disaster(ctx context.Context) error {
	dir := s.path("repository")
	before, err := takeImprint(dir)
	if err != nil {
		return err
	}
	h, err := hurt(dir, before)
	if err != nil {
		return err
	}
	s.tell.begin("The repository's own disk goes bad", fmt.Sprintf(`Behind the program's back every file of the repository is damaged now: %s in one piece of the
largest, a sector in the middle of %d others, and the file %s is deleted.
Healing takes no key: parity is enough. Its exit code is 3, not 0: a disk that does this
should not go unnoticed.`, ui.Bytes(h.burst), h.sectors, h.deleted))
	// 3: the damage could be healed, and was.
	took, err := s.run(ctx, []string{"scrub", "--heal"}, 3)
	if err != nil {
		return err
	}
	after, err := takeImprint(dir)
	if err != nil {
		return err
	}
	changed := before.differences(after)
	s.tell.count("healing", h.burst, took, "%s in one burst, %d bad sectors, 1 lost file", ui.Bytes(h.burst), h.sectors)
	if err := s.claim(changed == 0, "all %d files are again, bit for bit, what they were", len(before)); err != nil {
		return err
	}
	if took, err = s.run(ctx, []string{"check", "--read-data"}); err != nil {
		return err
	}
	s.tell.count("check of all data", 0, took, "%d objects, every byte decrypted and compared", len(before))
	return s.claim(true, "both points can still be restored, down to the last byte")
}

// ending closes with the table, and with what is left.
func (s *stage) ending(first *day) error {
	if !s.opt.Keep {
		s.tell.end("")
		s.tell.say("Nothing of it is left on this machine; --keep leaves the repository to play with.")
		return nil
	}
	s.tell.end(s.dir)
	s.tell.say("The repository stays in %s. To go on:", s.dir)
	s.tell.variables(map[string]string{"HOLDFAST_REPOSITORY": s.path("repository"), "HOLDFAST_KEY_FILE": s.path("key")})
	s.tell.suggest("show", "latest:"+vmName)
	s.tell.suggest("diff", first.point.ID[:8], "latest:"+vmName)
	s.tell.suggest("restore", "disk", "latest:"+vmName, "--disk", workLabel, "-o", s.path("after.vmdk"), "--format", "vmdk")
	s.tell.gap()
	s.tell.say("The laboratory ended with the demo. This one stays until Ctrl-C, and tells its variables:")
	s.tell.suggest("lab", "serve")
	s.tell.say("With those set in another terminal, the VM can be restored into it:")
	s.tell.suggest("restore", "vm", "latest:"+vmName, "--name", restoredName)
	s.tell.gap()
	s.tell.say("When done, remove %s.", s.dir)
	return nil
}
