package bridge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"reflect"
	"sync"
	"testing"

	"holdfast/sqlguest/vdi"
)

func config(devices int) vdi.Config {
	return vdi.Config{DeviceCount: uint32(devices), Features: vdi.RequestComplete}
}

// create makes a set of devices a, a1, a2, …
func create(t *testing.T, h *Hub, devices int) *Client {
	t.Helper()
	c, err := h.Create("", "a", config(devices))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// connect opens both sides.
func connect(t *testing.T, h *Hub, devices int, write bool) (Set, *Client, []vdi.Device) {
	t.Helper()
	c := create(t, h, devices)
	names := vdi.Names("a", devices)
	var set Set
	var failed error
	var opening sync.WaitGroup
	opening.Go(func() { set, failed = h.Open(t.Context(), Request{Names: names, Write: write}) })
	if _, err := c.Configuration(-1); err != nil {
		t.Fatal(err)
	}
	var open []vdi.Device
	for _, name := range names {
		d, err := c.OpenDevice(name)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, d)
	}
	opening.Wait()
	if failed != nil {
		t.Fatal(failed)
	}
	return set, c, open
}

func want(t *testing.T, what string, err, wanted error) {
	t.Helper()
	if !errors.Is(err, wanted) {
		t.Errorf("%s: %v, not %v", what, err, wanted)
	}
}

// TestClientOutOfTurn: the interface's results for calls that come too early, too
// late or under a wrong name.
func TestClientOutOfTurn(t *testing.T) {
	h := NewHub(Options{Instances: []string{"", "PAYROLL"}})
	_, err := h.Create("NOBODY", "a", config(1))
	want(t, "unknown instance", err, vdi.ErrInstanceName)
	_, err = h.Create("", "a", config(0))
	want(t, "no devices", err, vdi.ErrNotSupported)
	_, err = h.Create("", "", config(1))
	want(t, "no name", err, vdi.ErrInvalid)
	c := create(t, h, 2)
	_, err = h.Create("", "a", config(2))
	want(t, "name taken", err, vdi.ErrBusy)
	if _, err = h.Create("PAYROLL", "a", config(2)); err != nil {
		t.Errorf("the same name on another instance: %v", err)
	}
	_, err = c.Configuration(0)
	want(t, "configuration without a server", err, vdi.ErrTimeout)
	_, err = c.OpenDevice("a")
	want(t, "open before the configuration", err, vdi.ErrProtocol)

	ctx, cancel := context.WithCancel(t.Context())
	var opening sync.WaitGroup
	opening.Go(func() {
		_, err := h.Open(ctx, Request{Names: []string{"a", "b"}})
		want(t, "server's context ended", err, ErrAborted)
	})
	got, err := c.Configuration(-1)
	if err != nil || got.Features != vdi.ReadMedia|vdi.CompleteEnabled || got.MaxTransferSize != 1<<20 || got.BlockSize != 65536 {
		t.Errorf("configuration %+v, %v", got, err)
	}
	_, err = h.Open(t.Context(), Request{Names: []string{"a", "b"}})
	want(t, "second statement", err, ErrNoSet)
	_, err = c.OpenDevice("c")
	want(t, "unknown device", err, vdi.ErrInvalid)
	if _, err = c.OpenDevice("b"); err != nil {
		t.Error(err)
	}
	_, err = c.OpenDevice("b")
	want(t, "device opened twice", err, vdi.ErrProtocol)
	cancel()
	opening.Wait()
	_, err = c.OpenDevice("a")
	want(t, "open after the abort", err, vdi.ErrAbort)
	want(t, "close after the abort", c.Close(), nil)
	want(t, "second close", c.Close(), vdi.ErrProtocol)
	_, err = h.Open(t.Context(), Request{Names: []string{"a"}})
	want(t, "statement without a set", err, ErrNoSet)
	create(t, h, 3)
	_, err = h.Open(t.Context(), Request{Names: []string{"a"}})
	want(t, "statement with too few devices", err, ErrDeviceCount)
}

// TestCommandsAndAnswers: what a client answers is what the server sees.
func TestCommandsAndAnswers(t *testing.T) {
	h := NewHub(Options{})
	set, c, devices := connect(t, h, 1, true)
	if !set.HasComplete() {
		t.Error("complete was asked for and not granted")
	}
	_, err := devices[0].Next(0)
	want(t, "no command yet", err, vdi.ErrTimeout)
	var serving sync.WaitGroup
	serving.Go(func() {
		d := set.Devices()[0]
		if n, err := d.Write([]byte("abc")); n != 3 || err != nil {
			t.Errorf("write: %d, %v", n, err)
		}
		var refused *DeviceError
		if _, err := d.Write([]byte("abc")); !errors.As(err, &refused) || refused.Code != 112 {
			t.Errorf("write to a full disk: %v", err)
		}
		if _, err := d.Write([]byte("abc")); !errors.As(err, &refused) || refused.Code != 0 {
			t.Errorf("write that was taken in part: %v", err)
		}
		want(t, "flush", d.Flush(), nil)
		want(t, "complete", d.Complete(), ErrAborted)
		want(t, "close", set.Close(), nil)
	})
	answers := []struct {
		code  vdi.Code
		with  vdi.Completion
		bytes uint32
	}{{vdi.Write, vdi.Done, 3}, {vdi.Write, 112, 0}, {vdi.Write, vdi.Done, 2}, {vdi.Flush, vdi.Done, 0}, {vdi.Complete, vdi.Aborted, 0}}
	for _, a := range answers {
		command, err := devices[0].Next(-1)
		if err != nil || command.Code != a.code {
			t.Fatalf("command %+v, %v", command, err)
		}
		want(t, "complete", devices[0].Complete(command, a.with, a.bytes, 0), nil)
		want(t, "complete again", devices[0].Complete(command, a.with, a.bytes, 0), vdi.ErrInvalid)
	}
	serving.Wait()
	_, err = devices[0].Next(-1)
	want(t, "after the end", err, vdi.ErrClose)
	want(t, "close", c.Close(), nil)
}

// TestBufferIsSpoiledAfterCompletion: who keeps a buffer instead of its bytes sees
// nonsense, as with memory that is shared with SQL Server.
func TestBufferIsSpoiledAfterCompletion(t *testing.T) {
	set, _, devices := connect(t, NewHub(Options{}), 1, true)
	var serving sync.WaitGroup
	serving.Go(func() { _, _ = set.Devices()[0].Write([]byte("abc")) })
	command, err := devices[0].Next(-1)
	if err != nil || string(command.Buffer) != "abc" {
		t.Fatal(command, err)
	}
	kept := command.Buffer
	want(t, "complete", devices[0].Complete(command, vdi.Done, 3, 0), nil)
	serving.Wait()
	if string(kept) == "abc" {
		t.Error("the buffer still has its bytes")
	}
}

func TestCloseWithOpenDevicesIsAnAbort(t *testing.T) {
	set, c, _ := connect(t, NewHub(Options{}), 1, true)
	want(t, "close", c.Close(), vdi.ErrOpen)
	_, err := set.Devices()[0].Write([]byte("abc"))
	want(t, "write", err, ErrAborted)
	want(t, "server's close", set.Close(), ErrAborted)
}

// TestReadEnds: the end is told by its number, and a short answer without it is an
// error.
func TestReadEnds(t *testing.T) {
	set, _, devices := connect(t, NewHub(Options{}), 1, false)
	var serving sync.WaitGroup
	serving.Go(func() {
		d := set.Devices()[0]
		p := make([]byte, 4)
		if n, err := d.Read(p); n != 4 || err != nil || string(p) != "abcd" {
			t.Errorf("read: %d, %v, %q", n, err, p)
		}
		if n, err := d.Read(p); n != 2 || err != io.EOF || string(p[:2]) != "ef" {
			t.Errorf("read at the end: %d, %v, %q", n, err, p)
		}
		var short *DeviceError
		if _, err := d.Read(p); !errors.As(err, &short) {
			t.Errorf("short read: %v", err)
		}
		if _, err := d.Write(p); err == nil {
			t.Error("a restore's device was written to")
		}
	})
	for _, a := range []struct {
		data string
		with vdi.Completion
	}{{"abcd", vdi.Done}, {"ef", vdi.EndOfFile}, {"gh", vdi.Done}} {
		command, err := devices[0].Next(-1)
		if err != nil || command.Code != vdi.Read || command.Size != 4 {
			t.Fatal(command, err)
		}
		n := copy(command.Buffer, a.data)
		want(t, "complete", devices[0].Complete(command, a.with, uint32(n), 0), nil)
	}
	serving.Wait()
}

// process is a client in another process: what the DLL does, frame by frame.
type process struct {
	t    *testing.T
	conn net.Conn
}

// serve lets processes connect to h until the test ends.
func serve(t *testing.T, h *Hub) *process {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { want(t, "serve", h.Serve(ctx, l), nil) })
	conn, err := net.Dial("tcp", l.Addr().String())
	t.Cleanup(func() { cancel(); serving.Wait() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &process{t: t, conn: conn}
}

func (p *process) say(kind byte, parts ...[]byte) {
	p.t.Helper()
	if _, err := p.conn.Write(frame(kind, parts...)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) hear(kind byte, parts ...[]byte) []byte {
	p.t.Helper()
	got, body, err := readFrame(p.conn)
	if err != nil || got != kind {
		p.t.Fatalf("frame %d, %x, %v in place of %d", got, body, err, kind)
	}
	if wanted := bytes.Join(parts, nil); len(parts) > 0 && !bytes.Equal(body, wanted) {
		p.t.Fatalf("frame %d says %x and not %x", kind, body, wanted)
	}
	return body
}

var nameA = []byte{1, 0, 'a'}

// create makes the set a, of one device, on the default instance.
func (p *process) create() {
	p.t.Helper()
	p.say(kindCreate, putConfig(config(1)), []byte{0}, nameA)
	p.hear(kindCreated, numbers(0))
}

// TestProcessOverTCP: a backup of one device as the DLL sees it.
func TestProcessOverTCP(t *testing.T) {
	h := NewHub(Options{})
	p := serve(t, h)
	p.say(kindCreate, putConfig(config(1)), []byte{1, 1, 0, 'X'}, nameA)
	p.hear(kindCreated, numbers(uint32(vdi.ErrInstanceName)))
	p.create()
	var working sync.WaitGroup
	defer working.Wait()
	working.Go(func() {
		set, err := h.Open(context.Background(), Request{Names: []string{"a"}, Write: true})
		if err != nil {
			t.Error(err)
			return
		}
		_, err = set.Devices()[0].Write([]byte("abc"))
		want(t, "write", err, nil)
		want(t, "complete", set.Devices()[0].Complete(), nil)
		want(t, "close", set.Close(), nil)
	})
	c := body{rest: p.hear(kindConfigured)}
	if got := c.config(); got.Features != vdi.WriteMedia|vdi.CompleteEnabled || c.err != nil {
		t.Fatalf("configuration %+v", got)
	}
	p.say(kindOpen, []byte{1, 0, 'b'})
	p.hear(kindOpened, numbers(uint32(vdi.ErrInvalid), 0))
	p.say(kindOpen, nameA)
	p.hear(kindOpened, numbers(0, 0))
	p.hear(kindCommand, numbers(0, 1, uint32(vdi.Write), 3, 0, 0), []byte("abc"))
	p.say(kindCompleted, numbers(0, 1, 0, 3, 0, 0))
	p.hear(kindCommand, numbers(0, 2, uint32(vdi.Complete), 0, 0, 0))
	p.say(kindCompleted, numbers(0, 2, 0, 0, 0, 0))
	p.hear(kindClosed, numbers(0))
	p.say(kindClose)
}

// TestProcessThatAborts, lies or is lost: SQL Server's side hears of it.
func TestProcessThatAborts(t *testing.T) {
	for name, end := range map[string]func(*process){
		"abort":                func(p *process) { p.say(kindAbort); p.hear(kindAborted) },
		"death":                func(p *process) { _ = p.conn.Close() },
		"close while open":     func(p *process) { p.say(kindClose) },
		"unknown frame":        func(p *process) { p.say(77) },
		"second create":        func(p *process) { p.say(kindCreate) },
		"unknown device":       func(p *process) { p.say(kindCompleted, numbers(5, 1, 0, 3, 0, 0)) },
		"unknown command":      func(p *process) { p.say(kindCompleted, numbers(0, 9, 0, 3, 0, 0)) },
		"more than was wanted": func(p *process) { p.say(kindCompleted, numbers(0, 1, 0, 3, 0, 0), make([]byte, 9)) },
		"a frame too large":    func(p *process) { _, _ = p.conn.Write([]byte{255, 255, 255, 255, 1}) },
	} {
		t.Run(name, func(t *testing.T) {
			h := NewHub(Options{})
			p := serve(t, h)
			p.create()
			ended := make(chan error, 1)
			go func() {
				set, err := h.Open(context.Background(), Request{Names: []string{"a"}, Write: true})
				if err == nil {
					_, err = set.Devices()[0].Write([]byte("abc"))
				}
				ended <- err
			}()
			p.hear(kindConfigured)
			p.say(kindOpen, nameA)
			p.hear(kindOpened, numbers(0, 0))
			p.hear(kindCommand)
			end(p)
			want(t, "write", <-ended, ErrAborted)
		})
	}
}

// TestProcessHearsOfTheServersAbort while it waits for the configuration.
func TestProcessHearsOfTheServersAbort(t *testing.T) {
	h := NewHub(Options{})
	p := serve(t, h)
	p.create()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		_, err := h.Open(ctx, Request{Names: []string{"a"}})
		ended <- err
	}()
	p.hear(kindConfigured)
	p.say(kindOpen, []byte{1, 0, 'z'})
	p.hear(kindOpened, numbers(uint32(vdi.ErrInvalid), 0))
	cancel()
	want(t, "open", <-ended, ErrAborted)
	p.say(kindOpen, nameA)
	p.hear(kindOpened, numbers(uint32(vdi.ErrAbort), 0))
}

func TestConfigurationRoundTrip(t *testing.T) {
	c := vdi.Config{DeviceCount: 1, Features: 2, PrefixZoneSize: 3, Alignment: 4, SoftFileMark: 5, EOMWarningSize: 6, ServerTimeOutMS: 7, BlockSize: 8, MaxIODepth: 9, MaxTransferSize: 10, BufferAreaSize: 11}
	b := body{rest: putConfig(c)}
	if got := b.config(); !reflect.DeepEqual(got, c) || b.err != nil || len(b.rest) != 0 {
		t.Fatalf("%+v, %v", got, b.err)
	}
}

// FuzzFrame: no bytes make the parsers panic or take more memory than a frame may
// have, and what is parsed says the same again.
func FuzzFrame(f *testing.F) {
	f.Add(frame(kindCreate, putConfig(config(2)), []byte{1, 2, 0, 'x', 'y', 1, 0, 'a'}))
	f.Add(frame(kindCompleted, numbers(0, 1, 2, 3, 4, 5), []byte("data")))
	f.Add(frame(kindOpen, []byte{200, 0, 'a'}))
	f.Add([]byte{255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		kind, p, err := readFrame(bytes.NewReader(in))
		if err != nil {
			return
		}
		if !bytes.HasPrefix(in, frame(kind, p)) {
			t.Fatalf("frame %d of %d bytes does not say itself again", kind, len(p))
		}
		if c, err := parseCreation(p); err == nil && len(c.instance)+len(c.name) > len(p) {
			t.Fatal("names longer than their frame")
		}
		if c, err := parseCompletion(p); err == nil && len(c.data) != len(p)-24 {
			t.Fatal("data of a wrong length")
		}
	})
}
