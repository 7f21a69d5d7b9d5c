// Package folder is the little that backend local asks of a directory tree.
// It is narrow so that a test can stand in for it, count and fail each single
// call, and throw away what was not synced (package localtest does).
//
// Names are slash-separated and relative; "." is the top. Errors match
// fs.ErrExist and fs.ErrNotExist as in package os.
package folder

import (
	"errors"
	"io"
	"io/fs"
)

// ErrLocked: another process holds the lock.
var ErrLocked = errors.New("locked by another process")

// Tree is a directory tree.
type Tree interface {
	Create(name string) (File, error)           // a new file, for writing
	Open(name string) (File, error)             // an existing one, for reading and Sync
	Lstat(name string) (fs.FileInfo, error)     // does not follow a link at the end
	ReadDir(name string) ([]fs.FileInfo, error) // unordered
	Mkdir(name string) error                    //
	Rename(from, to string) error               // replaces atomically
	RenameNew(from, to string) error            // atomically fails if to exists
	Link(from, to string) error                 // atomically fails if to exists
	Remove(name string) error                   // a file or an empty folder
	SyncDir(name string) error                  // makes a folder's entries durable
	Lock(name string) (io.Closer, error)        // OS lock on a file, made if missing; ErrLocked at once
	Close() error
}

// File is an open file.
type File interface {
	io.Writer
	io.ReaderAt
	io.Closer
	Stat() (fs.FileInfo, error)
	Sync() error
	// Allocate gives an empty file so many bytes of real blocks; false if the
	// file system does not do that.
	Allocate(bytes int64) (granted bool, err error)
}
