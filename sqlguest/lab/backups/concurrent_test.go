package backups

import (
	"context"
	"maps"
	"sync"
	"testing"

	"holdfast/sqlguest/lab/storage"
)

// TestWritersDoNotWaitForBackups lets three writers work while full, differential
// and log backups run at once, and restores what the streams hold.
func TestWritersDoNotWaitForBackups(t *testing.T) {
	b := newBench(t, 1, storage.Full)
	db := b.database()
	full := b.full()
	var writers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			for i := range 60 {
				tx, err := db.Begin(context.Background(), "")
				if err != nil {
					t.Error(err)
					return
				}
				_, err = tx.Insert("t", []any{int64(w*1000 + i), "row"})
				if err == nil && i%7 == 0 {
					err = tx.Rollback()
				} else if err == nil {
					_, err = tx.Commit()
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	logs := []*kept{}
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		b.diff()
		logs = append(logs, b.log())
	}
	other, _ := newServer(t, 2)
	b.must(other, full, RestoreOptions{End: NoRecovery})
	for _, k := range logs {
		b.must(other, k, RestoreOptions{End: NoRecovery})
	}
	if _, err := other.Restore(context.Background(), RestoreOptions{Database: "sales"}, nil); err != nil {
		t.Fatal(err)
	}
	if got, want := rows(t, other, "sales"), rows(t, b.s, "sales"); !maps.Equal(got, want) || len(want) != 3*51 {
		t.Errorf("%d rows, want %d", len(got), len(want))
	}
}
