package vdi

import (
	"context"
	"fmt"
	"io"

	"holdfast/sqlguest/server"
)

// Load starts run, which is a RESTORE from the set's devices, and answers their
// reads from the streams: stream i belongs to names[i]. It owns the set and closes
// it in any case, and returns when the statement has ended and nobody reads the
// streams any more. A stream that can wait must stop waiting when ctx ends; one
// that is an io.Closer is closed if the restore fails, so that it does.
//
// Errors: a stream's own failure first, then what SQL Server said.
func Load(ctx context.Context, set Set, names []string, streams []io.Reader, run Statement, o Options) (*server.Outcome, error) {
	if len(names) != len(streams) {
		_ = set.Close()
		return nil, fmt.Errorf("begin restore: %d streams for %d devices", len(streams), len(names))
	}
	op, err := begin(ctx, set, names, run, o)
	if err != nil {
		return nil, fmt.Errorf("begin restore: %w", err)
	}
	l := &loading{op: op, streams: streams}
	op.failed = l.closeStreams
	op.serve(ctx, l.answer, func(int) error { return nil }, func() {})
	<-op.settle
	if err := op.explain(); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	return op.outcome, nil
}

// loading is a restore under way.
type loading struct {
	op      *operation
	streams []io.Reader
}

func (l *loading) closeStreams(error) {
	for _, s := range l.streams {
		if c, ok := s.(io.Closer); ok {
			_ = c.Close()
		}
	}
}

func (l *loading) answer(device int, c *Command) (Completion, uint32) {
	switch c.Code {
	case Read:
		return l.read(device, c.Buffer)
	case Flush, ClearError, Complete:
		return Done, 0
	}
	return NotSupported, 0
}

// read answers with exactly what was asked for, or with what is left and the end:
// SQL Server takes a short answer without it for a failure. Only io.EOF is an end:
// a stream that was cut says io.ErrUnexpectedEOF, so io.ReadFull would hide it.
func (l *loading) read(device int, p []byte) (Completion, uint32) {
	n, empty := 0, 0
	for n < len(p) {
		k, err := l.streams[device].Read(p[n:])
		n += k
		switch {
		case err == io.EOF && n < len(p):
			return EndOfFile, uint32(n)
		case err == io.EOF:
			return Done, uint32(n)
		case err == nil && k == 0 && empty == maxEmptyReads:
			err = io.ErrNoProgress
		}
		if err != nil {
			l.op.fail(fmt.Errorf("read stream %d of the backup: %w", device, err))
			return ReadFault, 0
		}
		if empty++; k > 0 {
			empty = 0
		}
	}
	return Done, uint32(n)
}

// maxEmptyReads is how often a stream may give nothing without an error.
const maxEmptyReads = 100
