package diskfile

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/cmd/settings"
	"holdfast/repo/image"
	"holdfast/vmware/vmdk"
)

// facts is what a point keeps of an image's file.
type facts struct {
	Path   string `json:"path"`
	Format string `json:"format"`
}

// Input says which disk image to open. Format is auto, raw or vmdk; auto goes by
// the name alone, since a guest may write any header into its disk.
type Input struct {
	Path   string // "-" is standard input
	Label  string // what the source is called
	Format string
	Time   time.Time // the moment the data is of
	// TakeIn gives standard input to one purpose, and to one only.
	TakeIn func(purpose string) (io.Reader, error)
	Warn   func(format string, args ...any)
}

// Source opens the image. What is returned closes it; call it once the source is
// not needed any more. A path that is no image is a settings.UsageError.
func (in Input) Source(ctx context.Context) (*backup.ImageSource, func(), error) {
	format := in.Format
	if format == "auto" {
		format = "raw"
		if strings.EqualFold(filepath.Ext(in.Path), ".vmdk") {
			format = "vmdk"
		}
	}
	src := &backup.ImageSource{Label: in.Label, Time: in.Time, Facts: facts{Path: in.Path, Format: format}}
	if in.Path == "-" {
		return in.stdin(ctx, src, format)
	}
	if format == "vmdk" {
		return src, func() {}, openVMDK(src, in.Path)
	}
	f, err := os.Open(in.Path)
	if err != nil {
		return nil, nil, fmt.Errorf("open image: %w", err)
	}
	if err := in.raw(src, f); err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("open image: %w", err)
	}
	return src, func() { f.Close() }, nil
}

// raw fills in a source that is the bytes of a file or block device.
func (in Input) raw(src *backup.ImageSource, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return settings.Usagef("name a disk image or block device", "it is a directory")
	case mode&(os.ModeNamedPipe|os.ModeSocket|os.ModeCharDevice) != 0:
		return settings.Usagef("a stream goes to standard input: backup image - --name NAME", "it is neither a file nor a block device")
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
			in.Warn("%s looks like a VMDK and is read as raw bytes; --format vmdk reads the disk in it", f.Name())
		}
	}
	return nil
}

// unclosed leaves closing to the owner: a source may be opened several times.
type unclosed struct{ io.ReaderAt }

func (unclosed) Close() error { return nil }

// stdin reads standard input. A VMDK there is unpacked into a temporary
// file first, since its grains may come in any order.
func (in Input) stdin(ctx context.Context, src *backup.ImageSource, format string) (*backup.ImageSource, func(), error) {
	stream, err := in.TakeIn("the image")
	if err != nil {
		return nil, nil, err
	}
	if format == "raw" {
		src.Bytes = -1
		src.OpenStream = func(context.Context) (io.ReadCloser, error) { return io.NopCloser(stream), nil }
		return src, func() {}, nil
	}
	f, err := UnpackVMDK(ctx, stream)
	if err != nil {
		return nil, nil, fmt.Errorf("unpack standard input: %w", err)
	}
	closeFile := func() { f.Close(); os.Remove(f.Name()) }
	if err := in.raw(src, f); err != nil {
		closeFile()
		return nil, nil, fmt.Errorf("unpack standard input: %w", err)
	}
	return src, closeFile, nil
}

// openVMDK fills in a source that is the disk inside a VMDK.
func openVMDK(src *backup.ImageSource, path string) error {
	disk, err := OpenVMDK(path)
	if err != nil {
		return err
	}
	defer disk.Close()
	src.Bytes = disk.Size()
	src.Open = func(context.Context) (backup.RandomAccess, error) { return OpenVMDK(path) }
	src.Allocated, err = disk.Extents()
	return err
}

// Within refuses extents that begin behind the end of an image of size bytes: such
// a list is of another one (backup.ErrExtents). Trackers round up, so that an extent may end there.
func Within(changed []image.Extent, size int64) error {
	for _, e := range changed {
		if e.Length > 0 && e.Start >= size {
			return fmt.Errorf("the extent at %d begins behind the end at %d: %w", e.Start, size, backup.ErrExtents)
		}
	}
	return nil
}
