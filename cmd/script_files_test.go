package cmd

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"holdfast/cmd/typed"

	"github.com/rogpeppe/go-internal/testscript"
)

// makeFile writes a file of SIZE bytes that is a hole but for random data, by
// SEED, at the RANGEs: make FILE SIZE SEED [START+LENGTH…]. Without ranges all
// of it is data.
func makeFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: make FILE SIZE SEED [START+LENGTH…]")
	}
	size := scriptSize(ts, args[1])
	ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(args[0])), 0o755))
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	ts.Check(f.Truncate(size))
	ranges := args[3:]
	if len(ranges) == 0 {
		ranges = []string{fmt.Sprintf("0+%d", size)}
	}
	writeRanges(ts, f, args[2], ranges)
}

// alterFile writes random data into a file: alter FILE SEED START+LENGTH….
func alterFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: alter FILE SEED START+LENGTH…")
	}
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_WRONLY, 0)
	ts.Check(err)
	defer f.Close()
	writeRanges(ts, f, args[1], args[2:])
}

func writeRanges(ts *testscript.TestScript, w io.WriterAt, seed string, ranges []string) {
	for _, r := range ranges {
		start, data := rangeData(ts, seed, r)
		_, err := w.WriteAt(data, start)
		ts.Check(err)
	}
}

// rangeData is the random data that a seed puts at START+LENGTH.
func rangeData(ts *testscript.TestScript, seed, r string) (start int64, data []byte) {
	n, err := strconv.ParseUint(seed, 10, 64)
	ts.Check(err)
	from, length, ok := strings.Cut(r, "+")
	if !ok {
		ts.Fatalf("%q is not START+LENGTH", r)
	}
	start = scriptSize(ts, from)
	var key [32]byte
	copy(key[:], fmt.Sprintf("%d at %d", n, start))
	data = make([]byte, scriptSize(ts, length))
	_, err = rand.NewChaCha8(key).Read(data)
	ts.Check(err)
	return start, data
}

func scriptSize(ts *testscript.TestScript, text string) int64 {
	size, err := typed.Size(text)
	ts.Check(err)
	return size
}

// damageFile damages the largest file below DIR, or FILE itself: damage PATH
// flip|zero|cut START+LENGTH [PART]. START may be negative: from the end. PART is in
// the file's path.
func damageFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 || len(args) > 4 {
		ts.Fatalf("usage: damage PATH flip|zero|cut START+LENGTH [PART]")
	}
	path := largestFile(ts, ts.MkAbs(args[0]), args[3:]...)
	data, err := os.ReadFile(path)
	ts.Check(err)
	from, length, _ := strings.Cut(args[2], "+")
	n := int(scriptSize(ts, length))
	start := len(data) - int(scriptSize(ts, strings.TrimPrefix(from, "-")))
	if !strings.HasPrefix(from, "-") {
		start = int(scriptSize(ts, from))
	}
	start = max(start, 0)
	end := min(start+n, len(data))
	switch args[1] {
	case "flip":
		for i := start; i < end; i++ {
			data[i] ^= 0xff
		}
	case "zero":
		clear(data[start:end])
	case "cut":
		data = data[:start]
	default:
		ts.Fatalf("damage: %q is unknown", args[1])
	}
	ts.Check(os.Chmod(path, 0o600))
	ts.Check(os.WriteFile(path, data, 0o600))
	ts.Logf("damaged %s", path)
}

func largestFile(ts *testscript.TestScript, path string, parts ...string) string {
	var largest string
	var bytes int64 = -1
	ts.Check(filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		for _, part := range parts {
			if !strings.Contains(p, part) {
				return nil
			}
		}
		info, err := d.Info()
		if err == nil && info.Size() > bytes {
			largest, bytes = p, info.Size()
		}
		return err
	}))
	if largest == "" {
		ts.Fatalf("no file below %s", path)
	}
	return largest
}

// sameFiles compares two files, stdout among them, byte for byte.
func sameFiles(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: same A B")
	}
	a, b := ts.ReadFile(args[0]), ts.ReadFile(args[1])
	if (a == b) == neg {
		ts.Fatalf("%s (%d bytes) and %s (%d bytes): same is %v", args[0], len(a), args[1], len(b), a == b)
	}
}

// samePart compares the beginning of A with all of B; what A has more must be
// zeros: a VMDK ends on a sector, the disk in it may not.
func samePart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: part A B")
	}
	a, b := []byte(ts.ReadFile(args[0])), []byte(ts.ReadFile(args[1]))
	if len(a) < len(b) || !bytes.Equal(a[:len(b)], b) || len(bytes.Trim(a[len(b):], "\x00")) > 0 {
		ts.Fatalf("%s does not begin with %s and end in zeros", args[0], args[1])
	}
}

// fileMode checks the permissions of a file: mode FILE 0600. Windows has none.
func fileMode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode FILE OCTAL")
	}
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); runtime.GOOS != "windows" && got != args[1] {
		ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
	}
}

// onlyFiles checks the names in a directory: only DIR NAME….
func onlyFiles(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: only DIR NAME…")
	}
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, args[1:]) {
		ts.Fatalf("%s holds %q, want %q", args[0], names, args[1:])
	}
}

// prefixOf puts the first N characters of a word into a variable: prefix VAR WORD N.
func prefixOf(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: prefix VAR WORD N")
	}
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	ts.Setenv(args[0], args[1][:n])
}
