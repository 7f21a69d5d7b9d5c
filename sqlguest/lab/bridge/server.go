package bridge

import (
	"fmt"
	"io"

	"holdfast/sqlguest/vdi"
)

// Error names the device and the number.
func (e *DeviceError) Error() string {
	return fmt.Sprintf("virtual device %d answered with operating system error %d", e.Device, e.Code)
}

// serverSet is a Set: SQL Server's side.
type serverSet struct {
	link    *link
	devices []*serverDevice
	stop    func() bool
}

func (s *serverSet) Devices() []Device {
	out := make([]Device, len(s.devices))
	for i, d := range s.devices {
		out[i] = d
	}
	return out
}

func (s *serverSet) HasComplete() bool { return s.link.config.Features&vdi.CompleteEnabled != 0 }

func (s *serverSet) Abort() {
	s.stop()
	s.link.abort()
}

func (s *serverSet) Close() error {
	s.stop()
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	if s.link.isOver {
		if s.link.isAborted() {
			return ErrAborted
		}
		return nil
	}
	s.link.isOver = true
	close(s.link.closed)
	return nil
}

// serverDevice is a Device: SQL Server's side.
type serverDevice struct {
	port       *port
	canWrite   bool
	writes     int
	hasGreeted bool // the odd commands have been sent
}

// greet sends what a client that behaves like a pipe must refuse with 50, and what
// it must take.
func (d *serverDevice) greet() error {
	if d.hasGreeted || !d.port.link.faults.OddCommands {
		return nil
	}
	d.hasGreeted = true
	for code, wanted := range map[vdi.Code]vdi.Completion{
		vdi.ClearError: vdi.Done, vdi.Rewind: vdi.NotSupported, vdi.GetPosition: vdi.NotSupported, vdi.Snapshot: vdi.NotSupported, 99: vdi.NotSupported,
	} {
		a, err := d.send(code, nil)
		if err != nil {
			return err
		}
		if a.code != wanted {
			return fmt.Errorf("command %d: %w", code, d.refused(a))
		}
	}
	return nil
}

func (d *serverDevice) Write(p []byte) (int, error) {
	if !d.canWrite {
		return 0, fmt.Errorf("write to virtual device %d of a restore", d.port.index)
	}
	if err := d.greet(); err != nil {
		return 0, err
	}
	most := int(d.port.link.config.MaxTransferSize)
	written := 0
	for {
		piece := p[written:min(len(p), written+most)]
		a, err := d.send(vdi.Write, append([]byte(nil), piece...))
		if err != nil {
			return written, err
		}
		if a.code != vdi.Done || int(a.bytes) != len(piece) {
			return written, d.refused(a)
		}
		written += len(piece)
		d.writes++
		if every := d.port.link.faults.FlushEvery; every > 0 && d.writes%every == 0 {
			if err := d.Flush(); err != nil {
				return written, err
			}
		}
		if written == len(p) {
			return written, nil
		}
	}
}

// refused is the error of an answer that is none; a short answer without an error
// number is one, too.
func (d *serverDevice) refused(a answer) error {
	if a.code == vdi.Aborted {
		return ErrAborted
	}
	return &DeviceError{Device: d.port.index, Code: uint32(a.code)}
}

func (d *serverDevice) Read(p []byte) (int, error) {
	if err := d.greet(); err != nil {
		return 0, err
	}
	most := int(d.port.link.config.MaxTransferSize)
	n := 0
	for n < len(p) {
		buffer := make([]byte, min(most, len(p)-n))
		a, err := d.send(vdi.Read, buffer)
		if err != nil {
			return n, err
		}
		switch {
		case a.code == vdi.Done && int(a.bytes) == len(buffer):
			n += copy(p[n:], buffer)
		case a.code == vdi.EndOfFile && int(a.bytes) < len(buffer):
			return n + copy(p[n:], buffer[:a.bytes]), io.EOF
		default:
			return n, d.refused(a)
		}
	}
	return n, nil
}

func (d *serverDevice) Flush() error {
	if d.port.link.faults.EmptyWrites {
		if a, err := d.send(vdi.Write, nil); err != nil {
			return err
		} else if a.code != vdi.Done {
			return d.refused(a)
		}
	}
	return d.ask(vdi.Flush)
}

func (d *serverDevice) Complete() error {
	if d.port.link.config.Features&vdi.CompleteEnabled == 0 {
		return nil
	}
	return d.ask(vdi.Complete)
}

func (d *serverDevice) ask(code vdi.Code) error {
	a, err := d.send(code, nil)
	if err != nil {
		return err
	}
	if a.code != vdi.Done {
		return d.refused(a)
	}
	return nil
}

// send hands one command out and waits until it is completed. The buffer of a
// Write is spoiled afterwards: the client had no right to look at it any more.
func (d *serverDevice) send(code vdi.Code, buffer []byte) (answer, error) {
	l := d.port.link
	if before := l.faults.Before; before != nil {
		before(d.port.index, code)
	}
	l.mu.Lock()
	l.commands++
	l.lastRef++
	c := &pending{done: make(chan answer, 1)}
	c.command = vdi.Command{Code: code, Size: uint32(len(buffer)), Buffer: buffer, Ref: l.lastRef}
	dies := l.commands == l.faults.AbortAt
	l.mu.Unlock()
	if dies {
		l.abort()
	}
	if l.isAborted() {
		return answer{}, ErrAborted
	}
	select {
	case d.port.commands <- c:
	case <-l.aborted:
		return answer{}, ErrAborted
	}
	select {
	case a := <-c.done:
		if code == vdi.Write {
			for i := range buffer {
				buffer[i] = 0xdd
			}
		}
		return a, nil
	case <-l.aborted:
		return answer{}, ErrAborted
	}
}
