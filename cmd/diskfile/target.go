package diskfile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"holdfast/cmd/runlock"
	"holdfast/repo/recovery"
	"holdfast/restore"
)

// Target is a restore.FileTarget that removes what runs to the same file left
// beside it when they were killed: as much as the disk, under a hidden name. While
// it restores it holds a lock beside the file, so a second run to the same file is
// refused (runlock.ErrHeld), and whoever holds it knows that the others are dead.
type Target struct {
	restore.FileTarget
	Log *slog.Logger
}

// Create removes leftovers and makes the temporary file.
func (t *Target) Create(ctx context.Context, p *recovery.Point, items []recovery.Item) (restore.Placed, error) {
	release, err := runlock.Hold(t.hidden())
	if errors.Is(err, runlock.ErrHeld) {
		return nil, fmt.Errorf("restore to %s: %w", t.Path, err)
	}
	if err != nil {
		// No folder, no right, no locks there: whether that keeps the restore from
		// being made FileTarget finds out. Nobody is proven dead, so nothing goes.
		t.Log.Info("leftovers are not looked for", "target", t.Path, "error", err)
		return t.FileTarget.Create(ctx, p, items)
	}
	t.sweep()
	placed, err := t.FileTarget.Create(ctx, p, items)
	if err != nil {
		release()
		return nil, err
	}
	return &heldFile{placed, release}, nil
}

// hidden is the name of the lock; with "-" and digits behind it, that of the
// temporary files of FileTarget.
func (t *Target) hidden() string {
	return filepath.Join(filepath.Dir(t.Path), "."+restore.TempBase(t.Path)+".restoring")
}

// sweep removes the temporary files of dead runs; the lock must be held.
func (t *Target) sweep() {
	entries, err := os.ReadDir(filepath.Dir(t.Path))
	if err != nil {
		t.Log.Info("leftovers are not looked for", "target", t.Path, "error", err)
		return
	}
	prefix := filepath.Base(t.hidden()) + "-"
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), prefix)
		if !ok || number == "" || strings.Trim(number, "0123456789") != "" || !e.Type().IsRegular() {
			continue
		}
		err := os.Remove(filepath.Join(filepath.Dir(t.Path), e.Name()))
		t.Log.Info("remove the leftover of a run that died", "file", e.Name(), "error", err)
	}
}

// heldFile is a file whose lock goes when it has its name or is taken back.
type heldFile struct {
	restore.Placed
	release func()
}

// Commit gives the file its name.
func (h *heldFile) Commit(ctx context.Context) error {
	if err := h.Placed.Commit(ctx); err != nil {
		return err // Abort follows
	}
	h.release()
	return nil
}

// Abort removes the temporary file.
func (h *heldFile) Abort(ctx context.Context) error {
	defer h.release()
	return h.Placed.Abort(ctx)
}
