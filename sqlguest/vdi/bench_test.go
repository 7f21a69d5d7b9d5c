package vdi_test

import (
	"context"
	"io"
	"sync"
	"testing"

	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/vdi"
)

// BenchmarkSave moves a backup of one device through the queue to nobody.
func BenchmarkSave(b *testing.B) {
	const size = 64 << 20
	b.SetBytes(size)
	for b.Loop() {
		s, set := bench(b, bridge.Faults{}, 0)
		s.data[0], s.piece = make([]byte, size), 1<<20
		saving, err := vdi.Save(context.Background(), set, s.names, s.backup, vdi.Options{})
		if err != nil {
			b.Fatal(err)
		}
		var readers sync.WaitGroup
		for _, r := range saving.Streams() {
			readers.Go(func() { _, _ = io.Copy(io.Discard, r) })
		}
		readers.Wait()
		if _, err := saving.Commit(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
