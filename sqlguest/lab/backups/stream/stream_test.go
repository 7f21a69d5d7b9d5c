package stream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/storage/page"
	"holdfast/sqlguest/lab/storage/wal"
	"holdfast/sqlguest/lab/value"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/server"
)

// write makes a set of some extents and records on n devices.
func write(t testing.TB, n, extents, records int) []*bytes.Buffer {
	t.Helper()
	var buffers []*bytes.Buffer
	var devices []io.Writer
	for range n {
		b := &bytes.Buffer{}
		buffers, devices = append(buffers, b), append(devices, b)
	}
	h := Header{DatabaseName: "d", BackupSetGUID: value.GUID{9}, Boot: storage.Boot{Forks: []storage.Fork{{}}}}
	w, err := NewWriter(devices, h)
	if err != nil {
		t.Fatal(err)
	}
	for i := range extents {
		if err := w.Extent(storage.Extent{File: 1, Number: uint32(i), Data: bytes.Repeat([]byte{byte(i)}, page.ExtentBytes)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range records {
		if err := w.Record(&wal.Record{Op: wal.Begin, Tx: uint64(i), LSN: lsn.LSN{VLF: 1, Slot: uint16(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	h.LastLSN = lsn.LSN{VLF: 77}
	if err := w.Close(h); err != nil {
		t.Fatal(err)
	}
	return buffers
}

func read(buffers [][]byte) (items int, h Header, err error) {
	var devices []Device
	for i, b := range buffers {
		devices = append(devices, Device{fmt.Sprint(i), bytes.NewReader(b)})
	}
	m := Open(devices, false)
	set, err := m.Next()
	if err != nil {
		return 0, h, err
	}
	for {
		if _, err = set.Item(); err != nil {
			break
		}
		items++
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return items, set.Header, err
}

func TestAnyNumberOfDevicesGivesTheContentBack(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 64} {
		var raw [][]byte
		for _, b := range write(t, n, 9, 100) {
			if b.Len()%BlockBytes != 0 {
				t.Errorf("a device has %d bytes", b.Len())
			}
			raw = append(raw, b.Bytes())
		}
		items, h, err := read(raw)
		if err != nil || items != 109 || h.LastLSN.VLF != 77 || h.DatabaseName != "d" {
			t.Errorf("%d devices: %d items, %+v, %v", n, items, h, err)
		}
	}
}

// TestNoDamageIsOverlooked turns single bits all over a set and cuts it anywhere:
// reading it must fail with one of SQL Server's numbers.
func TestNoDamageIsOverlooked(t *testing.T) {
	b := write(t, 1, 2, 20)[0].Bytes()
	for at := 0; at < len(b); at += 397 {
		b[at] ^= 0x10
		check(t, b, at)
		b[at] ^= 0x10
	}
	for cut := 0; cut < len(b); cut += 4099 {
		check(t, b[:cut], cut)
	}
}

func check(t *testing.T, b []byte, at int) {
	t.Helper()
	var e *server.Error
	if _, _, err := read([][]byte{b}); !errors.As(err, &e) {
		t.Fatalf("damage at %d: %v", at, err)
	}
}

func FuzzRead(f *testing.F) {
	whole := write(f, 1, 0, 3)[0].Bytes()
	f.Add(whole[:40], whole[BlockBytes:BlockBytes+80])
	f.Add([]byte("TAPE"), []byte{})
	f.Fuzz(func(t *testing.T, head, body []byte) {
		// The fuzzer's bytes in blocks whose sums fit, so that it gets behind them.
		b := append([]byte(nil), whole...)
		copy(b[headBytes:BlockBytes], head)
		copy(b[BlockBytes+atKind:], body)
		for at := 0; at < len(b); at += BlockBytes {
			block := b[at : at+BlockBytes]
			copy(block, magic)
			s := sum(block)
			block[atSum], block[atSum+1], block[atSum+2], block[atSum+3] = byte(s), byte(s>>8), byte(s>>16), byte(s>>24)
		}
		var e *server.Error
		if _, _, err := read([][]byte{b}); err != nil && !errors.As(err, &e) {
			t.Fatal(err)
		}
	})
}
