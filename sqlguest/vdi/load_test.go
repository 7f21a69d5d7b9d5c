package vdi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/server"
	"holdfast/sqlguest/vdi"
)

func load(t *testing.T, s *sqlServer, set vdi.Set, streams ...io.Reader) (*server.Outcome, error) {
	t.Helper()
	return vdi.Load(t.Context(), set, s.names, streams, s.restore, vdi.Options{})
}

// TestRestoreAnswersExactly: also from readers that give little at a time, and for
// sizes around the pieces that SQL Server asks for.
func TestRestoreAnswersExactly(t *testing.T) {
	s, set := bench(t, bridge.Faults{OddCommands: true}, 50_000, 0, 1000, 999)
	outcome, err := load(t, s, set, iotest.HalfReader(bytes.NewReader(s.data[0])), bytes.NewReader(nil),
		iotest.DataErrReader(bytes.NewReader(s.data[2])), iotest.OneByteReader(bytes.NewReader(s.data[3])))
	if err != nil || outcome == nil {
		t.Fatal(err)
	}
	sameAs(t, s.restored, s.data)
}

// TestCutStreamIsNoEnd: a stream that was cut must fail the restore and not look
// like a short backup.
func TestCutStreamIsNoEnd(t *testing.T) {
	broken := errors.New("chunk missing")
	for _, end := range []error{io.ErrUnexpectedEOF, broken} {
		s, set := bench(t, bridge.Faults{}, 5000, 5000)
		_, err := load(t, s, set, io.MultiReader(bytes.NewReader(s.data[0][:1500]), iotest.ErrReader(end)), bytes.NewReader(s.data[1]))
		var said *server.Error
		if !errors.Is(err, end) || !errors.As(err, &said) {
			t.Fatalf("restore: %v", err)
		}
		if text := err.Error(); strings.Index(text, end.Error()) > strings.Index(text, "3203") {
			t.Fatalf("the stream's failure does not come first: %s", text)
		}
	}
}

// TestRestoreStalledStreamIsClosed: SQL Server gives up while a stream waits for
// bytes; Load must not wait for them.
func TestRestoreStalledStreamIsClosed(t *testing.T) {
	s, set := bench(t, bridge.Faults{AbortAt: 5}, 5000, 5000)
	stalled, never := io.Pipe()
	defer never.Close()
	_, err := load(t, s, set, stalled, bytes.NewReader(s.data[1]))
	var said *server.Error
	if !errors.As(err, &said) || !said.Has(3203) {
		t.Fatalf("restore: %v", err)
	}
}

func TestRestoreEndsWithItsContext(t *testing.T) {
	s, set := bench(t, bridge.Faults{}, 5000)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := vdi.Load(ctx, set, s.names, []io.Reader{readerFunc(func([]byte) (int, error) {
		cancel()
		return 0, ctx.Err()
	})}, s.restore, vdi.Options{})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("restore: %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestStreamWithoutProgress: a reader that gives nothing for ever is an error.
func TestStreamWithoutProgress(t *testing.T) {
	s, set := bench(t, bridge.Faults{}, 5000)
	_, err := load(t, s, set, readerFunc(func([]byte) (int, error) { return 0, nil }))
	if !errors.Is(err, io.ErrNoProgress) {
		t.Fatalf("restore: %v", err)
	}
}

func TestNamesAndClause(t *testing.T) {
	names := vdi.Names("{A'B}", 3)
	if want := "VIRTUAL_DEVICE = '{A''B}', VIRTUAL_DEVICE = '{A''B}1', VIRTUAL_DEVICE = '{A''B}2'"; vdi.Clause(names) != want {
		t.Fatalf("clause %s", vdi.Clause(names))
	}
}

func TestResultsHaveTextAndNumber(t *testing.T) {
	if text := vdi.ErrSecurity.Error(); !strings.Contains(text, "0x80770005") || !strings.Contains(vdi.ErrSecurity.Hint(), "sysadmin") {
		t.Fatalf("%s, hint %s", text, vdi.ErrSecurity.Hint())
	}
	if text := vdi.Result(0x80004005).Error(); !strings.Contains(text, "0x80004005") {
		t.Fatal(text)
	}
}

func TestStreamsAndDevicesMustBeAsMany(t *testing.T) {
	s, set := bench(t, bridge.Faults{}, 10, 10)
	if _, err := load(t, s, set, bytes.NewReader(nil)); err == nil {
		t.Fatal("one stream for two devices was taken")
	}
}
