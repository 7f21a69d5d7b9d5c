package program

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// dropRule removes a rule of the firewall.
func dropRule(ctx context.Context, name string) error {
	dir, err := windows.GetSystemDirectory()
	if err != nil {
		return fmt.Errorf("remove firewall rule: %w", err)
	}
	if err := exec.CommandContext(ctx, filepath.Join(dir, "netsh.exe"), "advfirewall", "firewall", "delete", "rule", "name="+name).Run(); err != nil {
		return fmt.Errorf("remove firewall rule %s: %w", name, err)
	}
	return nil
}
