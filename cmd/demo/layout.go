package demo

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/diskfs/go-diskfs/filesystem"
	"github.com/diskfs/go-diskfs/filesystem/ext4"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/google/uuid"
)

// The disks' content is made by github.com/diskfs/go-diskfs. It is worth its
// weight because a demo whose disks hold random bytes shows nothing: with it
// they hold what e2fsck, fsck.fat and sgdisk accept, and a restore is compared
// file by file. Only its gpt, fat32 and ext4 packages are linked, which bring
// next to nothing else with them. Those tools do not accept everything that it
// does: directories on FAT, removing, renaming and truncating files on ext4,
// and its ext4 with reserved GDT blocks are avoided here (v1.9.4; the tests of
// this package ask the real tools).

const (
	mib         = 1 << 20
	sectorBytes = 512
	bootBytes   = 40 * mib // FAT32 must have 65,525 clusters, here of a sector each
	edgeBytes   = mib      // before the first and behind the last partition
)

// MinDiskBytes is the smallest disk that the story fits on.
const MinDiskBytes = 64 * mib

// errContent tells that a disk does not hold the files it should.
var errContent = errors.New("the disk does not hold what it should")

// volume is a file system on a partition of one of the VM's disks.
type volume struct {
	mount     string // where the guest has it, "/" or without a slash at its end
	disk      int
	partition int    // index in the table, from 0
	label     string //
	fat       bool   // FAT32, else ext4
	guid      string // of the partition; its file system's UUID, too
}

// volumes are the VM's file systems: a boot partition and the system on the
// first disk, what people work on on the second.
var volumes = []volume{
	{mount: "/boot", disk: 0, partition: 0, label: "BOOT", fat: true, guid: "6f9a1c1e-2f0b-4c3d-9d55-1d0f5b1e0001"},
	{mount: "/", disk: 0, partition: 1, label: "system", guid: "6f9a1c1e-2f0b-4c3d-9d55-1d0f5b1e0002"},
	{mount: "/srv", disk: 1, partition: 0, label: "work", guid: "6f9a1c1e-2f0b-4c3d-9d55-1d0f5b1e0003"},
}

var diskGUIDs = []string{"6f9a1c1e-2f0b-4c3d-9d55-1d0f5b1e00d1", "6f9a1c1e-2f0b-4c3d-9d55-1d0f5b1e00d2"}

// volumeOf finds the volume a path lies on: the one with the longest mount.
func volumeOf(name string) (v volume, within string) {
	for _, candidate := range volumes {
		if rest, ok := strings.CutPrefix(name, strings.TrimSuffix(candidate.mount, "/")+"/"); ok && len(candidate.mount) > len(v.mount) {
			v, within = candidate, rest
		}
	}
	return v, within
}

// partitions is the table of a disk of so many bytes.
func partitions(disk int, diskBytes int64) []*gpt.Partition {
	var table []*gpt.Partition
	start := int64(edgeBytes)
	for _, v := range volumes {
		if v.disk != disk {
			continue
		}
		end, kind := diskBytes-edgeBytes, gpt.LinuxFilesystem
		if v.fat {
			end, kind = start+bootBytes, gpt.EFISystemPartition
		}
		table = append(table, &gpt.Partition{
			Index: v.partition + 1, Start: uint64(start / sectorBytes), End: uint64(end/sectorBytes - 1), Type: kind, Name: v.label, GUID: v.guid,
		})
		start = end
	}
	return table
}

// format gives a disk its partition table and empty file systems.
func format(c *cache, disk int) error {
	size := c.under.Size()
	table := &gpt.Table{
		LogicalSectorSize: sectorBytes, PhysicalSectorSize: sectorBytes, ProtectiveMBR: true,
		GUID: diskGUIDs[disk], Partitions: partitions(disk, size),
	}
	if err := table.Write(c, size); err != nil {
		return fmt.Errorf("partition disk %d: %w", disk, err)
	}
	for _, v := range volumes {
		if v.disk != disk {
			continue
		}
		if err := v.format(c, table.Partitions[v.partition]); err != nil {
			return fmt.Errorf("format %s: %w", v.mount, err)
		}
	}
	return nil
}

func (v volume) format(c *cache, p *gpt.Partition) error {
	if v.fat {
		_, err := fat32.Create(c, p.GetSize(), p.GetStart(), sectorBytes, v.label, true)
		return err
	}
	id, err := uuid.Parse(v.guid)
	if err != nil {
		return err
	}
	_, err = ext4.Create(c, p.GetSize(), p.GetStart(), sectorBytes, &ext4.Params{
		UUID: &id, VolumeName: v.label, SectorsPerBlock: pageBytes / sectorBytes,
		Features: []ext4.FeatureOpt{ext4.WithFeatureReservedGDTBlocksForExpansion(false)},
	})
	return err
}

// fileSystem is what the two kinds of file system have in common. Paths in it
// have no leading slash; its root is ".".
type fileSystem interface {
	Mkdir(name string) error
	OpenFile(name string, flag int) (filesystem.File, error)
	ReadDir(name string) ([]fs.DirEntry, error)
}

// open opens the volume's file system by the partition table on its disk.
func (v volume) open(c *cache) (fileSystem, error) {
	table, err := gpt.Read(c, sectorBytes, sectorBytes)
	if err != nil {
		return nil, fmt.Errorf("read partition table: %w", err)
	}
	if v.partition >= len(table.Partitions) {
		return nil, fmt.Errorf("find partition %d: %w", v.partition+1, errContent)
	}
	p := table.Partitions[v.partition]
	if v.fat {
		return fat32.Read(c, p.GetSize(), p.GetStart(), sectorBytes)
	}
	return ext4.Read(c, p.GetSize(), p.GetStart(), sectorBytes)
}
