//go:build unix

package cmd

import (
	"os"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// sparseFile checks that a file takes at most so much room: sparse FILE SIZE.
func sparseFile(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: sparse FILE SIZE")
	}
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	used := info.Sys().(*syscall.Stat_t).Blocks * 512
	if (used <= scriptSize(ts, args[1])) == neg {
		ts.Fatalf("%s takes %d bytes of %d", args[0], used, info.Size())
	}
}
