package direct_test

import (
	"context"
	"errors"
	"io"
	"reflect"
	"testing"

	"holdfast/sqlguest/server"
)

// TestServiceStoppedWhileStreamsWait: the statement's connection is lost without a
// word; reading and aborting must end all the same, and the log is as it was.
func TestServiceStoppedWhileStreamsWait(t *testing.T) {
	l, s := laboratory(t)
	backUp(t, s, statement("BACKUP DATABASE [d] TO %s", server.VDI))
	before := lastLog(t, s)
	b, err := s.Backup(t.Context(), statement("BACKUP LOG [d] TO %s", server.VDI))
	must(t, err)
	must(t, l.StopService())
	if _, err := b.Commit(t.Context()); err == nil {
		t.Error("committed on a server that was stopped")
	}
	_ = b.Abort(t.Context())
	must(t, l.StartService())
	if after := lastLog(t, s); !reflect.DeepEqual(before, after) {
		t.Errorf("next log began at %v and now at %v", before, after)
	}
}

// TestContextEndsBackup: its streams say so, and nothing is truncated.
func TestContextEndsBackup(t *testing.T) {
	_, s := laboratory(t)
	backUp(t, s, statement("BACKUP DATABASE [d] TO %s", server.VDI))
	before := lastLog(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	b, err := s.Backup(ctx, statement("BACKUP LOG [d] TO %s", server.VDI))
	must(t, err)
	cancel()
	if _, err := io.ReadAll(b.Streams()[0]); err == nil {
		t.Log("the stream was whole already") // the word was not given, which is what counts
	}
	if _, err := b.Commit(t.Context()); !errors.Is(err, context.Canceled) {
		t.Errorf("commit: %v", err)
	}
	if after := lastLog(t, s); !reflect.DeepEqual(before, after) {
		t.Errorf("next log began at %v and now at %v", before, after)
	}
}
