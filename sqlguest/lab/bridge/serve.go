package bridge

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"golang.org/x/sync/errgroup"

	"holdfast/sqlguest/vdi"
)

// maxClients is how many processes may play devices at once.
const maxClients = 64

// Serve lets processes play devices through connections that the listener accepts,
// until ctx ends; it closes the listener and waits for all connections. A lost
// connection aborts its set, as the death of a process does on a real machine.
func (h *Hub) Serve(ctx context.Context, listener net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	var clients errgroup.Group
	clients.SetLimit(maxClients)
	for {
		conn, err := listener.Accept()
		if err != nil {
			_ = clients.Wait()
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept client of virtual devices: %w", err)
		}
		clients.Go(func() error {
			r := &remote{hub: h, conn: conn}
			r.serve(ctx)
			return nil
		})
	}
}

// remote is a client in another process. What it asks for is done to a Client in
// this one, so that there is one set of rules.
type remote struct {
	hub  *Hub
	conn net.Conn

	sending sync.Mutex
	workers sync.WaitGroup
	set     *Client

	mu      sync.Mutex
	devices []*remoteDevice // by the order of their opening
	told    bool            // that the set was aborted
}

type remoteDevice struct {
	device  vdi.Device
	mu      sync.Mutex
	current map[uint32]*vdi.Command
}

func (r *remote) serve(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { _ = r.conn.Close() })
	defer stop()
	in := bufio.NewReaderSize(r.conn, 1<<16)
	for {
		kind, body, err := readFrame(in)
		if err == nil {
			err = r.handle(kind, body)
		}
		if err != nil {
			break
		}
	}
	if r.set != nil {
		_ = r.set.Abort()
		_ = r.set.Close()
	}
	_ = r.conn.Close()
	r.workers.Wait()
}

// errBye ends a connection in order.
var errBye = errors.New("set closed")

func (r *remote) handle(kind byte, body []byte) error {
	switch {
	case kind == kindCreate && r.set == nil:
		return r.create(body)
	case r.set == nil:
		return errFrame
	case kind == kindOpen:
		return r.open(body)
	case kind == kindCompleted:
		return r.completed(body)
	case kind == kindAbort:
		return r.set.Abort()
	case kind == kindClose:
		_ = r.set.Close()
		return errBye
	}
	return errFrame
}

func (r *remote) send(kind byte, parts ...[]byte) error {
	r.sending.Lock()
	defer r.sending.Unlock()
	_, err := r.conn.Write(frame(kind, parts...))
	return err
}

// number is an error as the interface's result.
func number(err error) uint32 {
	var result vdi.Result
	switch {
	case err == nil:
		return 0
	case errors.As(err, &result):
		return uint32(result)
	default:
		return uint32(vdi.ErrUnexpected)
	}
}

func (r *remote) create(p []byte) error {
	c, err := parseCreation(p)
	if err != nil {
		return err
	}
	set, err := r.hub.Create(c.instance, c.name, c.config)
	if err != nil {
		return r.send(kindCreated, numbers(number(err)))
	}
	r.set = set
	if err := r.send(kindCreated, numbers(0)); err != nil {
		return err
	}
	r.workers.Go(func() {
		config, err := set.Configuration(-1)
		if err != nil {
			r.abortedOnce()
			return
		}
		_ = r.send(kindConfigured, putConfig(config))
	})
	return nil
}

func (r *remote) abortedOnce() {
	r.mu.Lock()
	first := !r.told
	r.told = true
	r.mu.Unlock()
	if first {
		_ = r.send(kindAborted)
	}
}

func (r *remote) open(p []byte) error {
	b := body{rest: p}
	name := b.text()
	if b.err != nil {
		return b.err
	}
	device, err := r.set.OpenDevice(name)
	if err != nil {
		return r.send(kindOpened, numbers(number(err), 0))
	}
	d := &remoteDevice{device: device, current: map[uint32]*vdi.Command{}}
	r.mu.Lock()
	index := uint32(len(r.devices))
	r.devices = append(r.devices, d)
	r.mu.Unlock()
	if err := r.send(kindOpened, numbers(0, index)); err != nil {
		return err
	}
	r.workers.Go(func() { r.hand(index, d) })
	return nil
}

// hand sends a device's commands to the client as they come.
func (r *remote) hand(index uint32, d *remoteDevice) {
	for {
		c, err := d.device.Next(-1)
		if errors.Is(err, vdi.ErrClose) {
			_ = r.send(kindClosed, numbers(index))
			return
		}
		if err != nil {
			r.abortedOnce()
			return
		}
		d.mu.Lock()
		d.current[uint32(c.Ref)] = c
		d.mu.Unlock()
		var data []byte
		if c.Code == vdi.Write {
			data = c.Buffer
		}
		head := numbers(index, uint32(c.Ref), uint32(c.Code), c.Size, uint32(c.Position), uint32(c.Position>>32))
		if r.send(kindCommand, head, data) != nil {
			return // the reader sees the lost connection, too, and aborts the set
		}
	}
}

func (r *remote) completed(p []byte) error {
	c, err := parseCompletion(p)
	if err != nil {
		return err
	}
	r.mu.Lock()
	if int(c.device) >= len(r.devices) {
		r.mu.Unlock()
		return errFrame
	}
	d := r.devices[c.device]
	r.mu.Unlock()
	d.mu.Lock()
	command := d.current[c.ref]
	delete(d.current, c.ref)
	d.mu.Unlock()
	if command == nil || len(c.data) > len(command.Buffer) {
		return errFrame
	}
	if command.Code == vdi.Read {
		copy(command.Buffer, c.data)
	}
	// An abort in between is told by the device's next command.
	if err := d.device.Complete(command, vdi.Completion(c.code), c.bytes, c.position); err != nil && !errors.Is(err, vdi.ErrAbort) {
		return err
	}
	return nil
}
