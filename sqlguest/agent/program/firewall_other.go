//go:build !windows

package program

import "context"

// dropRule has nothing to do: only Windows' firewall is opened.
func dropRule(context.Context, string) error { return nil }
