package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/task"
	"holdfast/vmware/vmdk"
)

// Exporter reads disks through one ExportSnapshot lease, begun at the first
// disk and shared by all. A disk comes whole and in one go, so it is put into a
// sparse temporary file first and read from there.
type Exporter struct {
	Client   *vim25.Client
	Snapshot types.ManagedObjectReference
	Disks    []Device // all disks of the snapshot, in their order
	TempDir  string   // "" is the system's
	Lease    LeaseOptions
	Retry    task.Retry
	Log      *slog.Logger

	mu    sync.Mutex
	lease *Lease
}

// Open fetches a disk. The reader's Close removes the temporary file.
func (e *Exporter) Open(ctx context.Context, d Device) (Reader, error) {
	lease, err := e.hold(ctx)
	if err != nil {
		return nil, fmt.Errorf("export disk %d: %w", d.Key, err)
	}
	at, err := URLOf(lease.URLs, d, e.Disks)
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(e.TempDir, "holdfast-export-*")
	if err != nil {
		return nil, fmt.Errorf("make temporary file: %w", err)
	}
	// The name goes at once where the system allows it; Close sees to the rest.
	r := &exported{file: file, size: d.Bytes, gone: os.Remove(file.Name()) == nil}
	again := func(err error) bool {
		return ctx.Err() == nil && lease.Check(ctx) == nil && !errors.Is(err, vmdk.ErrFormat) && !errors.Is(err, errWriter)
	}
	err = quick(e.Retry).Do(ctx, again, func(ctx context.Context) error { return e.fetch(ctx, lease, at.Url, r) })
	if err != nil {
		if lost := lease.Check(context.WithoutCancel(ctx)); lost != nil {
			err = lost
		}
		return nil, errors.Join(fmt.Errorf("export disk %d: %w", d.Key, err), r.Close())
	}
	return r, nil
}

func (e *Exporter) hold(ctx context.Context) (*Lease, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lease != nil {
		return e.lease, nil
	}
	res, err := methods.ExportSnapshot(ctx, e.Client, &types.ExportSnapshot{This: e.Snapshot})
	if err != nil {
		return nil, fmt.Errorf("begin export: %w", err)
	}
	e.lease, err = HoldLease(ctx, e.Client, res.Returnval, e.Lease)
	return e.lease, err
}

// fetch streams the disk into the file from the beginning.
func (e *Exporter) fetch(ctx context.Context, lease *Lease, address string, r *exported) error {
	ctx, cancel := lease.Bind(ctx)
	defer cancel()
	u, err := e.Client.ParseURL(address)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	res, err := e.Client.Client.Client.Do(req)
	if err != nil {
		return cause(ctx, task.Bare(err))
	}
	defer res.Body.Close() //nolint:errcheck // what matters was read
	if res.StatusCode != http.StatusOK {
		return &statusError{res.StatusCode, res.Status}
	}
	if err := r.file.Truncate(0); err != nil {
		return fmt.Errorf("%w: %w", errWriter, err)
	}
	if err := r.file.Truncate(r.size); err != nil {
		return fmt.Errorf("%w: %w", errWriter, err)
	}
	size, err := vmdk.ReadStream(ctx, res.Body, func(off int64, grain []byte) error {
		if off+int64(len(grain)) > r.size {
			return fmt.Errorf("%d bytes at %d leave the disk of %d: %w", len(grain), off, r.size, vmdk.ErrFormat)
		}
		lease.Percent(int(off * 100 / r.size))
		if _, err := r.file.WriteAt(grain, off); err != nil {
			return fmt.Errorf("%w: %w", errWriter, err)
		}
		return nil
	})
	if err != nil {
		return cause(ctx, err)
	}
	if size != r.size {
		return fmt.Errorf("stream is of a disk of %d bytes, want %d: %w", size, r.size, vmdk.ErrFormat)
	}
	return nil
}

// cause prefers why a context ended over what that broke.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// Close ends the lease. It must come before the snapshot is removed, which the
// lease blocks.
func (e *Exporter) Close(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lease == nil {
		return nil
	}
	lease := e.lease
	e.lease = nil
	if lease.Err() != nil || ctx.Err() != nil {
		return lease.Abort(ctx)
	}
	return lease.Complete(ctx)
}

type exported struct {
	file *os.File
	size int64
	gone bool
}

func (r *exported) ReadAt(ctx context.Context, p []byte, off int64) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	n, err := r.file.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = ErrLength
	}
	return fmt.Errorf("read exported disk at %d: %w", off, err)
}

func (r *exported) Close() error {
	err := r.file.Close()
	if !r.gone {
		err = errors.Join(err, os.Remove(r.file.Name()))
	}
	return err
}
