// Package diskfile joins files to what reads and writes disks. An Input opens raw
// images, block devices, VMDKs with their extents and parents, and standard input
// as one disk for backup image; Format lets restore disk write a VMDK and read it
// back. What a file is called stays with the commands.
package diskfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"holdfast/repo/image"
	"holdfast/restore"
	"holdfast/vmware/vmdk"
)

// VMDK is an open VMDK with all the files that it consists of.
type VMDK struct {
	*vmdk.Image
	files []*os.File
}

// OpenVMDK opens a VMDK and the extents and parents beside it. Errors are those
// of package vmdk, or of the file that cannot be opened.
func OpenVMDK(path string) (*VMDK, error) {
	v := &VMDK{}
	r, size, err := v.open(path)
	if err == nil {
		v.Image, err = vmdk.OpenChain(r, size, func(name string) (io.ReaderAt, int64, error) {
			// A link would lead out of the folder that the name may not leave.
			beside := filepath.Join(filepath.Dir(path), name)
			if info, err := os.Lstat(beside); err == nil && info.Mode()&os.ModeSymlink != 0 {
				return nil, 0, fmt.Errorf("%s is a link: %w", beside, vmdk.ErrFormat)
			}
			return v.open(beside)
		})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s as VMDK: %w", path, err), v.Close())
	}
	return v, nil
}

// open opens one of the files and keeps it for Close.
func (v *VMDK) open(path string) (io.ReaderAt, int64, error) {
	// Looked at before it is opened: opening a pipe waits for its writer for ever.
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is no regular file: %w", path, vmdk.ErrFormat)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	v.files = append(v.files, f)
	return f, info.Size(), nil
}

// Close closes all files.
func (v *VMDK) Close() error {
	var errs []error
	for _, f := range v.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// Extents lists the areas of the disk, in bytes, outside of which it is zero.
func (v *VMDK) Extents() ([]image.Extent, error) {
	allocated, err := v.Allocated(0, v.Size())
	if err != nil {
		return nil, fmt.Errorf("list allocated areas: %w", err)
	}
	extents := make([]image.Extent, len(allocated))
	for i, e := range allocated {
		extents[i] = image.Extent(e)
	}
	return extents, nil
}

// UnpackVMDK writes the disk of a streamOptimized VMDK that arrives as a stream
// into a temporary file, since its grains may come in any order. The caller
// closes the file and removes it.
func UnpackVMDK(ctx context.Context, in io.Reader) (_ *os.File, err error) {
	f, err := os.CreateTemp("", "holdfast-vmdk-*")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	size, err := vmdk.ReadStream(ctx, in, func(off int64, grain []byte) error {
		_, err := f.WriteAt(grain, off)
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, f.Truncate(size)
}

// Format writes and reads back streamOptimized VMDKs for package restore.
func Format() *restore.Format {
	return &restore.Format{Name: "vmdk", Encode: encode, Decode: decode}
}

func encode(ctx context.Context, w io.Writer, src restore.Disk) error {
	allocated := []vmdk.Extent{}
	err := src.Extents(ctx, func(start, length int64) error {
		allocated = append(allocated, vmdk.Extent{Start: start, Length: length})
		return nil
	})
	if err != nil {
		return err
	}
	ahead, stop, err := src.Sequential(ctx)
	if err != nil {
		return err
	}
	defer stop()
	_, err = vmdk.WriteStream(ctx, w, ahead, vmdk.CapacityFor(src.Size()), vmdk.StreamOptions{Allocated: allocated})
	return err
}

func decode(f *os.File, size int64) (io.ReaderAt, int64, error) {
	img, err := vmdk.Open(f, size, func(name string) (io.ReaderAt, int64, error) {
		return nil, 0, fmt.Errorf("the disk refers to %s: %w", name, vmdk.ErrFormat)
	})
	if err != nil {
		return nil, 0, err
	}
	return img, img.Size(), nil
}
