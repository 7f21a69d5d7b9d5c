package cmd

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"holdfast/cmd/ui"
	"holdfast/repo"
	"holdfast/repo/blob"
	"holdfast/repo/image"
	"holdfast/repo/recovery"
	"holdfast/restore"
)

func newDiffCommand(a *app) *cobra.Command {
	return documented(&cobra.Command{
		Use:     "diff A B",
		Short:   "show what changed between two points of one source",
		Long:    "Diff compares two recovery points chunk by chunk, by their maps alone: no data is\nread. Extents are multiples of the chunk size.",
		Example: "holdfast -r /srv/backup diff 3f21a7c0 latest:web01 --json",
		Args:    args("A", "B"),
		RunE: func(c *cobra.Command, words []string) error {
			return a.withRepository(c.Context(), func(r *repo.Repository) error { return runDiff(c.Context(), words, a, r) })
		},
	}, repositoryCodes...)
}

// diffReport is the result of diff.
type diffReport struct {
	A            string     `json:"a"`
	B            string     `json:"b"`
	BytesChanged int64      `json:"bytes_changed"`
	Items        []diffItem `json:"items"`
}

type diffItem struct {
	Item         string       `json:"item"`
	Change       string       `json:"change"` // same, changed, added, removed
	BytesChanged int64        `json:"bytes_changed"`
	Extents      []diffExtent `json:"extents"`
}

type diffExtent struct {
	Start  int64 `json:"start"`
	Length int64 `json:"length"`
}

func runDiff(ctx context.Context, words []string, a *app, r *repo.Repository) error {
	var points [2]repo.Entry
	for i, word := range words {
		e, err := a.find(ctx, r, word)
		if err != nil {
			return err
		}
		points[i] = e
	}
	if points[0].Identity != points[1].Identity {
		return usagef("compare points of one source", "diff: %s is of %s, %s of %s", points[0].ID, points[0].Source, points[1].ID, points[1].Source)
	}
	rep := diffReport{A: points[0].ID, B: points[1].ID, Items: []diffItem{}}
	for _, it := range points[0].Items {
		d := diffItem{Item: it.Name, Change: "removed", BytesChanged: it.Bytes, Extents: []diffExtent{}}
		if other := points[1].Item(it.Name); other != nil {
			var err error
			if d, err = diffItems(ctx, r, it, *other); err != nil {
				return err
			}
		}
		rep.Items = append(rep.Items, d)
	}
	for _, it := range points[1].Items {
		if points[0].Item(it.Name) == nil {
			rep.Items = append(rep.Items, diffItem{Item: it.Name, Change: "added", BytesChanged: it.Bytes, Extents: []diffExtent{}})
		}
	}
	for _, d := range rep.Items {
		rep.BytesChanged += d.BytesChanged
		a.ui.Printf("%-8s %-20s %s in %d extents\n", d.Change, d.Item, ui.Bytes(d.BytesChanged), len(d.Extents))
		for _, e := range d.Extents {
			a.ui.Printf("         %d +%d\n", e.Start, e.Length)
		}
	}
	a.ui.Printf("%s changed\n", ui.Bytes(rep.BytesChanged))
	return a.ui.Result(rep)
}

// diffItems compares one item of two points.
func diffItems(ctx context.Context, r *repo.Repository, x, y recovery.Item) (diffItem, error) {
	d := diffItem{Item: x.Name, Change: "same", Extents: []diffExtent{}}
	if x.Disk == nil || y.Disk == nil {
		same := string(x.Inline) == string(y.Inline) && (x.Stream == nil) == (y.Stream == nil) && (x.Stream == nil || *x.Stream == *y.Stream)
		if !same {
			d.Change, d.BytesChanged = "changed", max(x.Bytes, y.Bytes)
		}
		return d, nil
	}
	size := max(x.Disk.Bytes, y.Disk.Bytes)
	err := image.Diff(ctx, r, *x.Disk, *y.Disk, func(chunk int64, _, _ blob.ID) error {
		start := chunk * x.Disk.ChunkBytes
		length := min(x.Disk.ChunkBytes, size-start)
		if n := len(d.Extents) - 1; n >= 0 && d.Extents[n].Start+d.Extents[n].Length == start {
			d.Extents[n].Length += length
		} else {
			d.Extents = append(d.Extents, diffExtent{start, length})
		}
		d.BytesChanged += length
		return nil
	})
	if len(d.Extents) > 0 || x.Disk.Bytes != y.Disk.Bytes {
		d.Change = "changed"
	}
	return d, err
}

func newDumpCommand(a *app) *cobra.Command {
	return documented(&cobra.Command{
		Use:     "dump POINT [ITEM]",
		Short:   "write one item's bytes to standard output",
		Long:    "Dump writes a disk as raw bytes, or a stream as it was. ITEM is a name, a label or a\ndevice key; it may be left away where the point has one item only.",
		Example: "holdfast -r /srv/backup dump latest:web01 disk-2000 | zstd >web01.raw.zst",
		Args:    args("POINT", "[ITEM]"),
		RunE: func(c *cobra.Command, words []string) error {
			return a.withRepository(c.Context(), func(r *repo.Repository) error { return runDump(c.Context(), words, a, r) })
		},
	}, repositoryCodes...)
}

func runDump(ctx context.Context, words []string, a *app, r *repo.Repository) error {
	if a.json {
		return usagef("leave --json away, or ask for: holdfast show POINT --json", "dump writes an item's bytes, not JSON")
	}
	e, err := a.find(ctx, r, words[0])
	if err != nil {
		return err
	}
	item, err := pickItem(e.Point, words[1:])
	if err != nil {
		return err
	}
	progress := a.ui.Progress()
	defer progress.Done()
	progress.Start(item.Bytes, "dump "+item.Name)
	if !item.IsDisk() {
		src := restore.OpenStream(ctx, r, item)
		defer src.Close()
		_, err := io.Copy(a.ui.Out(), src)
		return err
	}
	disk, err := restore.OpenDisk(ctx, r, item, progress)
	if err != nil {
		return err
	}
	ahead, stop, err := disk.Sequential(ctx)
	if err != nil {
		return err
	}
	defer stop()
	buf := make([]byte, 1<<20)
	_, err = io.CopyBuffer(a.ui.Out(), io.NewSectionReader(ahead, 0, item.Bytes), buf)
	return err
}

// pickItem finds the item that was named, or the only one.
func pickItem(p *recovery.Point, words []string) (recovery.Item, error) {
	if len(words) == 0 {
		if len(p.Items) == 1 {
			return p.Items[0], nil
		}
		return recovery.Item{}, &restore.ItemError{Wanted: "", Have: p.Items}
	}
	for _, it := range p.Items {
		if it.Name == words[0] || it.Label == words[0] || it.Key != 0 && fmt.Sprint(it.Key) == words[0] {
			return it, nil
		}
	}
	return recovery.Item{}, &restore.ItemError{Wanted: words[0], Have: p.Items}
}
