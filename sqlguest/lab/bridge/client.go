package bridge

import (
	"time"

	"holdfast/sqlguest/vdi"
)

// Client is a vdi.Set within this process: what IClientVirtualDeviceSet2 is to a
// process on the machine of a SQL Server.
type Client struct {
	hub      *Hub
	link     *link
	isClosed bool
}

var _ vdi.Set = (*Client)(nil)

// after is a channel for a timeout: one that never fires if it is negative.
func after(timeout time.Duration) (<-chan time.Time, func() bool) {
	if timeout < 0 {
		return nil, func() bool { return false }
	}
	t := time.NewTimer(timeout)
	return t.C, t.Stop
}

// Configuration waits for SQL Server.
func (c *Client) Configuration(timeout time.Duration) (vdi.Config, error) {
	expired, stop := after(timeout)
	defer stop()
	if c.link.isAborted() {
		return vdi.Config{}, vdi.ErrAbort
	}
	select {
	case <-c.link.configured:
		c.link.mu.Lock()
		defer c.link.mu.Unlock()
		return c.link.config, nil
	case <-c.link.aborted:
		return vdi.Config{}, vdi.ErrAbort
	case <-expired:
		return vdi.Config{}, vdi.ErrTimeout
	}
}

// OpenDevice opens one of the devices that the statement names.
func (c *Client) OpenDevice(name string) (vdi.Device, error) {
	if c.link.isAborted() {
		return nil, vdi.ErrAbort
	}
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	if c.link.ports == nil {
		return nil, vdi.ErrProtocol
	}
	if c.link.open == len(c.link.ports) {
		return nil, vdi.ErrOpen
	}
	for _, p := range c.link.ports {
		if p.name != name {
			continue
		}
		if p.isOpen {
			return nil, vdi.ErrProtocol
		}
		p.isOpen = true
		if c.link.open++; c.link.open == len(c.link.ports) {
			close(c.link.ready)
		}
		return &clientDevice{port: p}, nil
	}
	return nil, vdi.ErrInvalid
}

// Abort gives up for both sides.
func (c *Client) Abort() error {
	c.link.abort()
	return nil
}

// Close ends the set. With devices still open it is an abort, and ErrOpen.
func (c *Client) Close() error {
	if c.isClosed {
		return vdi.ErrProtocol
	}
	c.isClosed = true
	defer c.hub.remove(c.link)
	select {
	case <-c.link.closed:
		return nil
	case <-c.link.aborted:
		return nil
	default:
	}
	c.link.abort()
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	if c.link.open > 0 {
		return vdi.ErrOpen
	}
	return nil
}

// clientDevice is a vdi.Device.
type clientDevice struct {
	port *port
}

func (d *clientDevice) Next(timeout time.Duration) (*vdi.Command, error) {
	l := d.port.link
	if l.isAborted() {
		return nil, vdi.ErrAbort
	}
	expired, stop := after(timeout)
	defer stop()
	select {
	case p := <-d.port.commands:
		d.port.mu.Lock()
		defer d.port.mu.Unlock()
		d.port.active[p.command.Ref] = p
		c := p.command
		return &c, nil
	case <-l.aborted:
		return nil, vdi.ErrAbort
	case <-l.closed:
		return nil, vdi.ErrClose
	case <-expired:
		return nil, vdi.ErrTimeout
	}
}

func (d *clientDevice) Complete(c *vdi.Command, code vdi.Completion, bytes uint32, _ uint64) error {
	d.port.mu.Lock()
	p := d.port.active[c.Ref]
	delete(d.port.active, c.Ref)
	d.port.mu.Unlock()
	switch {
	case d.port.link.isAborted():
		return vdi.ErrAbort
	case p == nil:
		return vdi.ErrInvalid
	}
	p.done <- answer{code: code, bytes: bytes}
	return nil
}
