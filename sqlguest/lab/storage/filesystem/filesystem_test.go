package filesystem

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"testing"
)

// TestMemoryAndDirectoryBehaveAlike asks the same of both.
func TestMemoryAndDirectoryBehaveAlike(t *testing.T) {
	dir, err := NewDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]FS{"memory": &Memory{}, "directory": dir} {
		t.Run(name, func(t *testing.T) { conform(t, f) })
	}
}

func conform(t *testing.T, f FS) {
	const path = `C:\Data\it's, ünï.mdf`
	if _, err := f.Open(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open of a missing file: %v", err)
	}
	if err := f.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("remove of a missing file: %v", err)
	}
	file, err := f.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Create(`c:\DATA\it's, ÜNÏ.MDF`); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create of a file that is there, in other case: %v", err)
	}
	if _, err := file.WriteAt([]byte("end"), 10); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 20)
	if n, err := file.ReadAt(buf, 0); n != 13 || !errors.Is(err, io.EOF) || !bytes.Equal(buf[:13], append(make([]byte, 10), "end"...)) {
		t.Errorf("read %d bytes %q, %v", n, buf, err)
	}
	clone, err := f.Clone()
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Truncate(4); err != nil {
		t.Fatal(err)
	}
	if err := file.Truncate(8); err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte("x"), 9); err != nil {
		t.Fatal(err)
	}
	if size, err := file.Size(); size != 10 || err != nil {
		t.Errorf("size %d, %v", size, err)
	}
	if n, err := file.ReadAt(buf[:1], 10); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read behind the end: %d, %v", n, err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if data, err := ReadFile(clone, path); err != nil || len(data) != 13 {
		t.Errorf("the clone has %d bytes, %v", len(data), err)
	}
	if err := WriteFile(f, path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if data, err := ReadFile(f, path); err != nil || string(data) != "new" {
		t.Errorf("read %q, %v", data, err)
	}
	if err := f.Remove(path); err != nil || f.Exists(path) {
		t.Errorf("remove: %v", err)
	}
}
