package cmd

import (
	"context"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"holdfast/backup"
	"holdfast/cmd/diskfile"
	"holdfast/cmd/typed"
	"holdfast/repo"
	"holdfast/repo/image"
	"holdfast/repo/recovery"
)

type imageOptions struct {
	name, at, extents, parent, format string
	full                              bool
	tags                              []string
}

func newBackupImageCommand(a *app) *cobra.Command {
	var opts imageOptions
	c := documented(&cobra.Command{
		Use:   "image PATH…",
		Short: "back up disk images, block devices or standard input",
		Long: `Image backs up each PATH as one disk; - is standard input. Holes of sparse files are not
read. With --changed-extents FILE only what the list names is read:
[{"start":bytes,"length":bytes},…] against the parent, in any order, overlaps allowed.
The parent is the newest point of the same name, or --parent POINT.

With --format auto a file named .vmdk is read as a VMDK, everything else as raw bytes:
what a file contains never decides, since a guest may write any header into its disk.`,
		Example: "holdfast -r /srv/backup backup image /var/lib/images/web01.raw\nlvcreate … && holdfast -r /srv/backup backup image /dev/vg0/web01-snap --name web01\nzcat web01.raw.gz | holdfast -r /srv/backup backup image - --name web01",
		Args:    args("PATH…"),
		RunE: func(c *cobra.Command, paths []string) error {
			if err := exclusive(c, "full", "changed-extents"); err != nil {
				return err
			}
			if c.Flags().Changed("name") && opts.name == "" {
				return usagef("leave it away to take the file's name", "--name is empty")
			}
			return runBackupImage(c.Context(), opts, paths, a)
		},
	}, append([]exitCode{exitIncomplete}, writerCodes...)...)
	f := c.Flags()
	f.StringVar(&opts.name, "name", "", "call the source image/`NAME` (default: the file's name without its extension)")
	f.StringVar(&opts.at, "time", "", "the `TIME` the data is of (default: now)")
	f.StringVar(&opts.extents, "changed-extents", "", "read only what the JSON list in `FILE` names")
	f.StringVar(&opts.parent, "parent", "", "the `POINT` that the changed extents are against")
	f.BoolVar(&opts.full, "full", false, "read everything")
	f.StringVar(&opts.format, "format", "auto", "`FORMAT`: auto, raw or vmdk")
	f.StringSliceVar(&opts.tags, "tag-point", nil, "give the point a `TAG`")
	return c
}

// check refuses flags and paths that cannot be meant.
func (opts imageOptions) check(paths []string) error {
	if opts.name != "" && len(paths) > 1 {
		return usagef("back them up one by one, or leave --name away", "--name names one source, but %d paths came", len(paths))
	}
	if opts.extents != "" && len(paths) > 1 {
		return usagef("back them up one by one", "--changed-extents is for one image, but %d paths came", len(paths))
	}
	if opts.extents != "" && paths[0] == "-" {
		return usagef("name a file, or leave the list away", "--changed-extents is for an image that can be read anywhere, and standard input cannot")
	}
	if opts.parent != "" && opts.extents == "" {
		return usagef("give --changed-extents FILE, too", "--parent says what changed extents are against, and there are none")
	}
	if opts.format != "auto" && opts.format != "raw" && opts.format != "vmdk" {
		return usagef("auto, raw or vmdk", "--format %q is unknown", opts.format)
	}
	sources := map[string]string{}
	for _, path := range paths {
		name := opts.label(path)
		if name == "" || strings.ContainsFunc(name, unicode.IsControl) {
			return usagef("give a name with --name", "image %q: %q is no name for a source", path, name)
		}
		if other, ok := sources[name]; ok {
			return usagef("back them up one by one, each with a --name of its own", "%s and %s would both be the source image/%s", other, path, name)
		}
		sources[name] = path
	}
	return nil
}

// label is what the source of a path is called.
func (opts imageOptions) label(path string) string {
	switch {
	case opts.name != "":
		return opts.name
	case path == "-":
		return "stdin"
	}
	return strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
}

func runBackupImage(ctx context.Context, opts imageOptions, paths []string, a *app) error {
	if err := opts.check(paths); err != nil {
		return err
	}
	var err error
	if opts.tags, err = typed.Tags(opts.tags); err != nil {
		return err
	}
	at, err := typed.Time(opts.at, a.now())
	if err != nil {
		return err
	}
	if at.After(a.now().Add(time.Minute)) {
		a.ui.Warn("--time %s lies in the future: latest will mean this point until then", at.Format(time.RFC3339))
	}
	var changed []image.Extent
	if opts.extents != "" {
		if changed, err = backup.ReadExtents(opts.extents); err != nil {
			return err
		}
	}
	a.ui.Stream()
	return a.withWriter(ctx, func(r *repo.Repository) error {
		run := a.newBatch(r)
		defer run.Progress.Done()
		settings := backup.Options{Tags: opts.tags, Full: opts.full}
		if opts.parent != "" {
			if settings.Parent, err = a.imageParent(ctx, r, opts, paths[0]); err != nil {
				return err
			}
		}
		for _, path := range paths {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			src, closeSource, err := diskfile.Input{Path: path, Label: opts.label(path), Format: opts.format, Time: at, TakeIn: a.takeStdin, Warn: a.ui.Warn}.Source(ctx)
			if err != nil {
				run.Fail(path, err)
				continue
			}
			src.Changed, src.UseChanged = changed, opts.extents != ""
			if opts.full {
				src.Allocated = nil // everything is everything, holes too
			}
			if err := diskfile.Within(changed, src.Bytes); err != nil {
				run.Fail(path, err)
			} else {
				run.One(ctx, src, settings)
			}
			closeSource()
		}
		return run.End()
	})
}

// imageParent finds the point that changed extents are against. It may be of
// another source, since an image may have got another name; that is worth a word.
func (a *app) imageParent(ctx context.Context, r *repo.Repository, opts imageOptions, path string) (*recovery.Point, error) {
	e, err := a.find(ctx, r, opts.parent)
	if err != nil {
		return nil, err
	}
	if e.Kind != recovery.Image {
		return nil, usagef("holdfast points --kind image lists those that can be", "point %s of %s is no point of an image", e.ID, e.Source)
	}
	if source := "image/" + opts.label(path); e.Source != source {
		a.ui.Warn("the parent %s is a point of %s, not of %s", e.ID, e.Source, source)
	}
	return e.Point, nil
}
