package origin

import (
	"crypto/rand"
	"fmt"
	"io"
	"sync/atomic"

	"holdfast/restore"
)

// Counted is a stream that tells of its bytes as they are read.
type Counted struct {
	io.ReadCloser
	N        *atomic.Int64    // of all streams of a step
	Progress restore.Progress // hears of the bytes, too
	failed   atomic.Value     // a failure
}

// failure is why a stream could not be read.
type failure struct{ error }

// Read reads, counts, and keeps what it failed by.
func (c *Counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.N.Add(int64(n))
	c.Progress.Read(int64(n))
	if err != nil && err != io.EOF {
		c.failed.Store(failure{err})
	}
	return n, err
}

// Failed is why the stream could not be read, nil if it could.
func (c *Counted) Failed() error {
	f, _ := c.failed.Load().(failure)
	return f.error
}

// Device makes a fresh GUID in braces.
func Device() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("{%X-%X-%X-%X-%X}", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
