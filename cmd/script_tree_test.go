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

// copyTree copies a directory with all below it: cptree FROM TO.
func copyTree(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: cptree FROM TO")
	}
	ts.Check(os.CopyFS(ts.MkAbs(args[1]), os.DirFS(ts.MkAbs(args[0]))))
}

// loseFiles removes the files below a directory that have PART in their path, at
// least one: lose DIR PART.
func loseFiles(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 || args[1] == "" {
		ts.Fatalf("usage: lose DIR PART")
	}
	lost := 0
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(strings.TrimPrefix(path, ts.MkAbs(".")), args[1]) {
			return err
		}
		lost++
		return os.Remove(path)
	}))
	if lost == 0 {
		ts.Fatalf("there is nothing with %s in its name below %s", args[1], args[0])
	}
}
