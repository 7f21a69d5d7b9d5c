package guest

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/task"
)

// MakeDirectory makes a directory below one that is there; fs.ErrExist if it is
// there already.
func (g *Guest) MakeDirectory(ctx context.Context, path string) error {
	if err := g.files.MakeDirectory(ctx, g.auth, path, false); err != nil {
		return fmt.Errorf("make directory %s in the guest: %w", path, classify(err))
	}
	return nil
}

// Copy puts size bytes into a new file; fs.ErrExist if there is one of that name.
func (g *Guest) Copy(ctx context.Context, path string, size int64, from io.Reader) error {
	attributes := types.BaseGuestFileAttributes(&types.GuestFileAttributes{})
	if isPosix(path) {
		attributes = &types.GuestPosixFileAttributes{Permissions: 0o700}
	}
	to, err := g.files.InitiateFileTransferToGuest(ctx, g.auth, path, attributes, size, false)
	if err != nil {
		return fmt.Errorf("copy %s into the guest: %w", path, classify(err))
	}
	at, err := g.files.TransferURL(ctx, to)
	if err != nil {
		return fmt.Errorf("find the host of the guest: %w", task.Bare(err))
	}
	up := soap.DefaultUpload
	up.ContentLength = size
	if err := g.client.Upload(ctx, from, at, &up); err != nil {
		return fmt.Errorf("copy %s into the guest: %w", path, task.Bare(err))
	}
	return nil
}

func isPosix(path string) bool { return path != "" && path[0] == '/' }

// ReadFile opens a file of the guest's.
func (g *Guest) ReadFile(ctx context.Context, path string) (io.ReadCloser, error) {
	info, err := g.files.InitiateFileTransferFromGuest(ctx, g.auth, path)
	if err != nil {
		return nil, fmt.Errorf("read %s of the guest: %w", path, classify(err))
	}
	at, err := g.files.TransferURL(ctx, info.Url)
	if err != nil {
		return nil, fmt.Errorf("find the host of the guest: %w", task.Bare(err))
	}
	body, _, err := g.client.Download(ctx, at, &soap.DefaultDownload)
	if err != nil {
		return nil, fmt.Errorf("read %s of the guest: %w", path, task.Bare(err))
	}
	return body, nil
}

// List tells what a directory holds: names, sizes, times, and whether an entry is a
// directory or a link. It does not follow links below the directory.
func (g *Guest) List(ctx context.Context, path string) ([]fs.FileInfo, error) {
	var list []fs.FileInfo
	for {
		got, err := g.files.ListFiles(ctx, g.auth, path, int32(len(list)), 0, "")
		if err != nil {
			return nil, fmt.Errorf("list %s of the guest: %w", path, classify(err))
		}
		for _, f := range got.Files {
			list = append(list, entry{f})
		}
		if got.Remaining == 0 || len(got.Files) == 0 {
			break
		}
	}
	var named []fs.FileInfo
	for _, e := range list {
		if e.Name() != "." && e.Name() != ".." {
			named = append(named, e)
		}
	}
	return named, nil
}

// Delete deletes a file.
func (g *Guest) Delete(ctx context.Context, path string) error {
	if err := g.files.DeleteFile(ctx, g.auth, path); err != nil {
		return fmt.Errorf("delete %s of the guest: %w", path, classify(err))
	}
	return nil
}

// DeleteDirectory deletes a directory that is empty.
func (g *Guest) DeleteDirectory(ctx context.Context, path string) error {
	if err := g.files.DeleteDirectory(ctx, g.auth, path, false); err != nil {
		return fmt.Errorf("delete directory %s of the guest: %w", path, classify(err))
	}
	return nil
}

// entry is a file's description as the standard library has it.
type entry struct{ types.GuestFileInfo }

func (e entry) Name() string { return e.Path }
func (e entry) Size() int64  { return e.GuestFileInfo.Size }
func (e entry) IsDir() bool  { return e.Mode().IsDir() }
func (e entry) Sys() any     { return nil }

// Mode has no permissions: the guest's are of another kind.
func (e entry) Mode() fs.FileMode {
	switch types.GuestFileType(e.Type) {
	case types.GuestFileTypeDirectory:
		return fs.ModeDir
	case types.GuestFileTypeSymlink:
		return fs.ModeSymlink
	}
	return 0
}

// ModTime is zero where the guest does not tell.
func (e entry) ModTime() time.Time {
	if e.Attributes == nil {
		return time.Time{}
	}
	a := e.Attributes.GetGuestFileAttributes()
	if a.ModificationTime == nil {
		return time.Time{}
	}
	return *a.ModificationTime
}
