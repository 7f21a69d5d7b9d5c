package picture

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// ErrNotFile: the page's name is taken by something that is no regular file.
var ErrNotFile = errors.New("not a regular file")

// Save writes Page to a file that everybody may read. It appears whole or not at all;
// a regular file of that name is replaced, anything else is ErrNotFile.
func Save(file string, charts []Chart, now time.Time, size func(bytes int64) string) (err error) {
	switch old, err := os.Lstat(file); {
	case err == nil && !old.Mode().IsRegular():
		return fmt.Errorf("write %s: %w", file, ErrNotFile)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("write page: %w", err)
	}
	var page bytes.Buffer
	if err := Page(&page, charts, now, size); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	_, err = f.Write(page.Bytes())
	const mode = 0o644
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("write page: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
