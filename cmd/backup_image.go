package cmd

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"holdfast/backup"
	"holdfast/cmd/diskfile"
	"holdfast/repo"
	"holdfast/repo/image"
	"holdfast/repo/recovery"
	"holdfast/vmware/vmdk"
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
	}, append([]exitCode{exitIncomplete}, repositoryCodes...)...)
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
	if opts.tags, err = tagList(opts.tags); err != nil {
		return err
	}
	at, err := a.parseTime(opts.at)
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
		run := &backupRun{a: a, r: r}
		progress := a.ui.Progress()
		defer progress.Done()
		settings := backup.Options{Tags: opts.tags, Full: opts.full, Progress: progress}
		if opts.parent != "" {
			if settings.Parent, err = a.imageParent(ctx, r, opts, paths[0]); err != nil {
				return err
			}
		}
		for _, path := range paths {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			src, closeSource, err := a.imageSource(ctx, path, opts, at)
			if err != nil {
				run.fail(path, err)
				continue
			}
			src.Changed, src.UseChanged = changed, opts.extents != ""
			if opts.full {
				src.Allocated = nil // everything is everything, holes too
			}
			if err := withinImage(changed, src.Bytes); err != nil {
				run.fail(path, err)
			} else {
				run.one(ctx, src, settings)
			}
			closeSource()
		}
		return run.end()
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

// withinImage refuses extents that begin behind the end of the image: such a
// list is of another one. Trackers round up, so that an extent may end there.
func withinImage(changed []image.Extent, size int64) error {
	for _, e := range changed {
		if e.Length > 0 && e.Start >= size {
			return fmt.Errorf("the extent at %d begins behind the end at %d: %w", e.Start, size, backup.ErrExtents)
		}
	}
	return nil
}

// parseTime reads a moment: RFC 3339, or local date and time. "" is now.
func (a *app) parseTime(text string) (time.Time, error) {
	if text == "" {
		return a.now(), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usagef("write it like 2026-03-01T12:00:00+01:00 or 2026-03-01 12:00:00 (local)", "%q is no time", text)
}

// imageFacts is what a point keeps of an image's file.
type imageFacts struct {
	Path   string `json:"path"`
	Format string `json:"format"`
}

// imageSource opens what a path names.
func (a *app) imageSource(ctx context.Context, path string, opts imageOptions, at time.Time) (*backup.ImageSource, func(), error) {
	format := opts.format
	if format == "auto" {
		format = "raw"
		if strings.EqualFold(filepath.Ext(path), ".vmdk") {
			format = "vmdk"
		}
	}
	src := &backup.ImageSource{Label: opts.label(path), Time: at, Facts: imageFacts{Path: path, Format: format}}
	if path == "-" {
		return a.stdinSource(ctx, src, format)
	}
	if format == "vmdk" {
		return src, func() {}, openVMDK(src, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("open image: %w", err)
	}
	if err := a.rawSource(src, f); err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("open image: %w", err)
	}
	return src, func() { f.Close() }, nil
}

// rawSource fills in a source that is the bytes of a file or block device.
func (a *app) rawSource(src *backup.ImageSource, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return usagef("name a disk image or block device", "it is a directory")
	case mode&(os.ModeNamedPipe|os.ModeSocket|os.ModeCharDevice) != 0:
		return usagef("a stream goes to standard input: backup image - --name NAME", "it is neither a file nor a block device")
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("find its size: %w", err)
	}
	src.Bytes = size
	src.Open = func(context.Context) (backup.RandomAccess, error) { return unclosed{f}, nil }
	if info.Mode().IsRegular() {
		src.Allocated = backup.Allocated(f, size)
		if vmdk.Sniff(f) {
			a.ui.Warn("%s looks like a VMDK and is read as raw bytes; --format vmdk reads the disk in it", f.Name())
		}
	}
	return nil
}

// unclosed leaves closing to the owner: a source may be opened several times.
type unclosed struct{ io.ReaderAt }

func (unclosed) Close() error { return nil }

// stdinSource reads standard input. A VMDK there is unpacked into a temporary
// file first, since its grains may come in any order.
func (a *app) stdinSource(ctx context.Context, src *backup.ImageSource, format string) (*backup.ImageSource, func(), error) {
	in, err := a.takeStdin("the image")
	if err != nil {
		return nil, nil, err
	}
	if format == "raw" {
		src.Bytes = -1
		src.OpenStream = func(context.Context) (io.ReadCloser, error) { return io.NopCloser(in), nil }
		return src, func() {}, nil
	}
	f, err := diskfile.UnpackVMDK(ctx, in)
	if err != nil {
		return nil, nil, fmt.Errorf("unpack standard input: %w", err)
	}
	closeFile := func() { f.Close(); os.Remove(f.Name()) }
	if err := a.rawSource(src, f); err != nil {
		closeFile()
		return nil, nil, fmt.Errorf("unpack standard input: %w", err)
	}
	return src, closeFile, nil
}

// openVMDK fills in a source that is the disk inside a VMDK.
func openVMDK(src *backup.ImageSource, path string) error {
	disk, err := diskfile.OpenVMDK(path)
	if err != nil {
		return err
	}
	defer disk.Close()
	src.Bytes = disk.Size()
	src.Open = func(context.Context) (backup.RandomAccess, error) { return diskfile.OpenVMDK(path) }
	src.Allocated, err = disk.Extents()
	return err
}
