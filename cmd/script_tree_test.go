package cmd

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// listTree writes the name, size and sum of every file below DIR into FILE, and the
// names of directories, so that two states of a repository can be compared: tree
// DIR FILE.
func listTree(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tree DIR FILE")
	}
	root := ts.MkAbs(args[0])
	var lines strings.Builder
	ts.Check(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil || d.IsDir() {
			fmt.Fprintf(&lines, "%s/\n", filepath.ToSlash(name))
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(&lines, "%s %d %x\n", filepath.ToSlash(name), len(data), sha256.Sum256(data))
		return err
	}))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(lines.String()), 0o600))
}
