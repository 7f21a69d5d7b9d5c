package vdi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/server"
	"holdfast/sqlguest/vdi"
)

// sqlServer is SQL Server's half of a BACKUP and a RESTORE: it hands data out,
// flushes, completes, and truncates its log exactly when all of that was answered
// well.
type sqlServer struct {
	devices  bridge.Devices
	instance string
	names    []string
	data     [][]byte // one a device
	piece    int      // bytes of one Write
	// complete is how VDC_Complete goes out.
	complete completing
	forgets  bool // to close its devices

	truncated atomic.Bool
	restored  [][]byte
}

type completing int

const (
	together completing = iota
	oneAfterTheOther
	firstOnly
)

// refuse is a statement's failure with SQL Server's numbers.
func refuse(number int32, err error) *server.Error {
	return &server.Error{All: []server.Message{
		{Number: number, Severity: 16, Text: err.Error()},
		{Number: 3013, Severity: 16, Text: "BACKUP LOG is terminating abnormally."},
	}}
}

func (s *sqlServer) backup(ctx context.Context) (*server.Outcome, error) {
	set, err := s.devices.Open(ctx, bridge.Request{Instance: s.instance, Names: s.names, Write: true, TransferBytes: 1 << 16})
	if err != nil {
		return nil, refuse(3201, err)
	}
	if err := s.handOut(set); err != nil {
		set.Abort()
		return nil, refuse(3202, err)
	}
	s.truncated.Store(true)
	if !s.forgets {
		_ = set.Close()
	}
	return &server.Outcome{Messages: []server.Message{{Number: 3014, Text: "BACKUP LOG successfully processed"}}}, nil
}

func (s *sqlServer) handOut(set bridge.Set) error {
	var writers errgroup.Group
	for i, d := range set.Devices() {
		writers.Go(func() error {
			for rest := s.data[i]; len(rest) > 0; {
				n := min(len(rest), s.piece)
				if _, err := d.Write(rest[:n]); err != nil {
					set.Abort()
					return err
				}
				rest = rest[n:]
			}
			return d.Flush()
		})
	}
	if err := writers.Wait(); err != nil {
		return err
	}
	if s.complete != together {
		for i, d := range set.Devices() {
			if s.complete == firstOnly && i > 0 {
				break
			}
			if err := d.Complete(); err != nil {
				return err
			}
		}
		return nil
	}
	var completers errgroup.Group
	for _, d := range set.Devices() {
		completers.Go(d.Complete)
	}
	return completers.Wait()
}

func (s *sqlServer) restore(ctx context.Context) (*server.Outcome, error) {
	set, err := s.devices.Open(ctx, bridge.Request{Instance: s.instance, Names: s.names, TransferBytes: 1 << 16})
	if err != nil {
		return nil, refuse(3201, err)
	}
	s.restored = make([][]byte, len(s.names))
	var readers errgroup.Group
	for i, d := range set.Devices() {
		readers.Go(func() (err error) {
			s.restored[i], err = readDevice(d, s.piece)
			if err != nil {
				set.Abort()
			}
			return err
		})
	}
	if err := readers.Wait(); err != nil {
		return nil, refuse(3203, err)
	}
	_ = set.Close()
	return &server.Outcome{}, nil
}

func readDevice(d bridge.Device, piece int) ([]byte, error) {
	var all []byte
	buffer := make([]byte, piece)
	for {
		n, err := d.Read(buffer)
		all = append(all, buffer[:n]...)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// pattern is data that differs from device to device and from place to place.
func pattern(device, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i>>8 + device*31)
	}
	return p
}

// bench is a hub, a set on it and the server that uses it.
func bench(t testing.TB, faults bridge.Faults, sizes ...int) (*sqlServer, vdi.Set) {
	t.Helper()
	hub := bridge.NewHub(bridge.Options{Faults: faults})
	s := &sqlServer{devices: hub, names: vdi.Names("{6F1C2B5E-0000-4000-8000-000000000001}", len(sizes)), piece: 1000}
	for i, n := range sizes {
		s.data = append(s.data, pattern(i, n))
	}
	set, err := hub.OpenSet(vdi.SetOptions{Name: s.names[0], Devices: len(sizes)})
	if err != nil {
		t.Fatal(err)
	}
	return s, set
}

// readAll reads all streams at once, each to its end or error.
func readAll(streams []io.ReadCloser) ([][]byte, error) {
	out := make([][]byte, len(streams))
	errs := make([]error, len(streams))
	var wg sync.WaitGroup
	for i, r := range streams {
		wg.Go(func() {
			out[i], errs[i] = io.ReadAll(r)
			if errs[i] != nil {
				errs[i] = fmt.Errorf("stream %d: %w", i, errs[i])
			}
		})
	}
	wg.Wait()
	return out, errors.Join(errs...)
}
