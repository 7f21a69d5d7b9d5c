package vmware

import (
	"context"

	"holdfast/vmware/leftover"
)

// CleanupOptions say what Cleanup may remove. Host is required.
type CleanupOptions = leftover.Options

// Cleaned is what Cleanup found.
type Cleaned = leftover.Found

// Cleanup looks through all VMs for snapshots of ours and for VMs that restores of
// ours left unfinished, and removes those of dead runs. Age is measured by the
// server's clock. A VM that fails does not stop the others; all errors come back
// together with what was done.
func (s *Session) Cleanup(ctx context.Context, opt CleanupOptions) ([]Cleaned, error) {
	return leftover.Clean(ctx, s.client, opt)
}
