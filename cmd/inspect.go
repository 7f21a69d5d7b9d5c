package cmd

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"holdfast/cmd/ui"
	"holdfast/cmd/view"
	"holdfast/repo"
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
	}, append([]exitCode{exitIncomplete}, repositoryCodes...)...)
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
	rep, err := view.Compare(ctx, r, points[0], points[1])
	if err != nil {
		return err
	}
	for _, d := range rep.Items {
		a.ui.Printf("%-8s %-20s %s in %d extents\n", d.Change, d.Item, ui.Bytes(d.BytesChanged), len(d.Extents))
		for _, e := range d.Extents {
			a.ui.Printf("         %d +%d\n", e.Start, e.Length)
		}
	}
	a.ui.Printf("%s changed\n", ui.Bytes(rep.BytesChanged))
	return a.ui.Result(rep)
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
	}, append([]exitCode{exitIncomplete}, repositoryCodes...)...)
}

func runDump(ctx context.Context, words []string, a *app, r *repo.Repository) error {
	if a.json {
		return usagef("leave --json away, or ask for: holdfast show POINT --json", "dump writes an item's bytes, not JSON")
	}
	e, err := a.find(ctx, r, words[0])
	if err != nil {
		return err
	}
	item, err := view.Item(e.Point, words[1:])
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
