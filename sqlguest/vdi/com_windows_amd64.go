package vdi

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"holdfast/sqlguest/server"
)

// The interface's class and the identity of IClientVirtualDeviceSet2 (vdiguid.h).
var (
	classSet     = windows.GUID{Data1: 0x40700425, Data2: 0x0080, Data3: 0x11d2, Data4: [8]byte{0x85, 0x1f, 0x00, 0xc0, 0x4f, 0xc2, 0x17, 0x59}}
	interfaceSet = windows.GUID{Data1: 0xd0e6eb07, Data2: 0x7a62, Data3: 0x11d2, Data4: [8]byte{0x85, 0x73, 0x00, 0xc0, 0x4f, 0xc2, 0x17, 0x59}}
)

// Slots of the two tables of methods (vdi.h).
const (
	slotRelease = 2

	slotGetConfiguration = 4
	slotOpenDevice       = 5
	slotClose            = 6
	slotSignalAbort      = 7
	slotCreateEx         = 11

	slotGetCommand      = 3
	slotCompleteCommand = 4
)

const (
	inProcess = 1 // CLSCTX_INPROC_SERVER
	infinite  = math.MaxUint32
)

// object is a COM object: a pointer to a pointer to its table of methods.
type object struct {
	methods *[13]uintptr
}

// call runs a method. Pointers among args point outside of Go's heap, or are made
// from unsafe.Pointer in the caller's expression of a syscall; nothing moves.
func (o *object) call(slot int, args ...uintptr) error {
	all := append([]uintptr{uintptr(unsafe.Pointer(o))}, args...)
	r, _, _ := syscall.SyscallN(o.methods[slot], all...)
	if int32(r) < 0 {
		return Result(uint32(r))
	}
	return nil
}

// rawCommand is VDC_Command: 24 bytes.
type rawCommand struct {
	code     uint32
	size     uint32
	position uint64
	buffer   *byte
}

// native is what the interface writes into: outside of Go's heap, as its pointers
// pass through integers.
type native struct {
	config  Config
	device  *object
	command *rawCommand
}

func newNative() (*native, error) {
	const fixedZeroed = 0x40 // LPTR
	address, err := windows.LocalAlloc(fixedZeroed, uint32(unsafe.Sizeof(native{})))
	if err != nil {
		return nil, fmt.Errorf("allocate memory for the interface: %w", err)
	}
	return *(**native)(unsafe.Pointer(&address)), nil
}

func (n *native) free() {
	_, _ = windows.LocalFree(windows.Handle(unsafe.Pointer(n)))
}

// comSet is a Set of sqlvdi.dll's. A thread of its own has initialised COM's
// multithreaded apartment and keeps it for the life of the set; the methods may
// then be called from any thread.
type comSet struct {
	object  *object
	native  *native // GetConfiguration's, OpenDevice's
	devices []*comDevice

	leave chan struct{} // tells the thread to close the set
	left  chan error    // and it tells how that went, once nothing of it is left
}

// Open creates a set of virtual devices by sqlvdi.dll, which a SQL Server of this
// architecture has installed.
//
// Errors: server.ErrNoVDI if there is none; ErrSecurity, ErrInstanceName,
// ErrNotSupported and the other Results.
func Open(o SetOptions) (Set, error) {
	s := &comSet{leave: make(chan struct{}), left: make(chan error, 1)}
	opened := make(chan struct{})
	go func() { s.left <- s.live(o, opened) }()
	select {
	case <-opened:
		return s, nil
	case err := <-s.left:
		return nil, fmt.Errorf("open virtual device set: %w", err)
	}
}

// Available is server.ErrNoVDI with the reason, or nil where Open can work.
func Available() error {
	failed := make(chan error, 1)
	go func() {
		o, leave, err := createObject()
		if err == nil {
			_ = o.call(slotRelease)
			leave()
		}
		failed <- err
	}()
	return <-failed
}

// live is the life of the set's thread. It is never unlocked, so that it ends
// together with all that COM has hung on it.
func (s *comSet) live(o SetOptions, opened chan<- struct{}) error {
	object, leave, err := createObject()
	if err != nil {
		return err
	}
	defer leave()
	defer func() { _ = object.call(slotRelease) }()
	s.object = object
	if s.native, err = newNative(); err != nil {
		return err
	}
	defer s.native.free()
	if err := s.create(o); err != nil {
		return err
	}
	close(opened)
	<-s.leave
	err = s.object.call(slotClose)
	for _, d := range s.devices {
		d.native.free()
	}
	return err
}

// createObject locks the goroutine to its thread and makes the interface's object.
func createObject() (*object, func(), error) {
	runtime.LockOSThread()
	if err := windows.CoInitializeEx(0, windows.COINIT_MULTITHREADED); err != nil && !errors.Is(err, syscall.Errno(1)) {
		return nil, nil, fmt.Errorf("initialise COM: %w", err)
	}
	create := windows.NewLazySystemDLL("ole32.dll").NewProc("CoCreateInstance")
	n, err := newNative()
	if err != nil {
		windows.CoUninitialize()
		return nil, nil, err
	}
	defer n.free()
	r, _, _ := create.Call(uintptr(unsafe.Pointer(&classSet)), 0, inProcess, uintptr(unsafe.Pointer(&interfaceSet)), uintptr(unsafe.Pointer(&n.device)))
	if int32(r) < 0 {
		windows.CoUninitialize()
		return nil, nil, fmt.Errorf("%w: %w", server.ErrNoVDI, Result(uint32(r)))
	}
	return n.device, windows.CoUninitialize, nil
}

func (s *comSet) create(o SetOptions) error {
	name, err := windows.UTF16PtrFromString(o.Name)
	if err != nil {
		return fmt.Errorf("name device set %q: %w", o.Name, err)
	}
	var instance *uint16
	if o.Instance != "" {
		if instance, err = windows.UTF16PtrFromString(o.Instance); err != nil {
			return fmt.Errorf("name instance %q: %w", o.Instance, err)
		}
	}
	s.native.config = Config{DeviceCount: uint32(o.Devices), Features: RequestComplete}
	r, _, _ := syscall.SyscallN(s.object.methods[slotCreateEx], uintptr(unsafe.Pointer(s.object)),
		uintptr(unsafe.Pointer(instance)), uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&s.native.config)))
	if int32(r) < 0 {
		return Result(uint32(r))
	}
	return nil
}

func (s *comSet) Configuration(timeout time.Duration) (Config, error) {
	if err := s.object.call(slotGetConfiguration, milliseconds(timeout), uintptr(unsafe.Pointer(&s.native.config))); err != nil {
		return Config{}, err
	}
	return s.native.config, nil
}

func (s *comSet) OpenDevice(name string) (Device, error) {
	text, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, ErrInvalid
	}
	s.native.device = nil
	r, _, _ := syscall.SyscallN(s.object.methods[slotOpenDevice], uintptr(unsafe.Pointer(s.object)),
		uintptr(unsafe.Pointer(text)), uintptr(unsafe.Pointer(&s.native.device)))
	if int32(r) < 0 {
		return nil, Result(uint32(r))
	}
	n, err := newNative()
	if err != nil {
		return nil, err
	}
	d := &comDevice{object: s.native.device, native: n}
	s.devices = append(s.devices, d)
	return d, nil
}

func (s *comSet) Abort() error { return s.object.call(slotSignalAbort) }

// Close ends the set; its devices are invalid by that (they are not released: the
// set owns them).
func (s *comSet) Close() error {
	close(s.leave)
	if err := <-s.left; err != nil {
		return fmt.Errorf("close virtual device set: %w", err)
	}
	return nil
}

// comDevice is a Device of sqlvdi.dll's.
type comDevice struct {
	object *object
	native *native
}

func (d *comDevice) Next(timeout time.Duration) (*Command, error) {
	d.native.command = nil
	if err := d.object.call(slotGetCommand, milliseconds(timeout), uintptr(unsafe.Pointer(&d.native.command))); err != nil {
		return nil, err
	}
	raw := d.native.command
	c := &Command{Code: Code(raw.code), Size: raw.size, Position: raw.position, Ref: uintptr(unsafe.Pointer(raw))}
	if raw.buffer != nil {
		c.Buffer = unsafe.Slice(raw.buffer, raw.size)
	}
	return c, nil
}

func (d *comDevice) Complete(c *Command, code Completion, bytes uint32, position uint64) error {
	c.Buffer = nil // it is SQL Server's again
	return d.object.call(slotCompleteCommand, c.Ref, uintptr(code), uintptr(bytes), uintptr(position))
}

// milliseconds is a time as the interface takes it; a negative one is for ever.
func milliseconds(t time.Duration) uintptr {
	if ms := t.Milliseconds(); t >= 0 && ms < infinite {
		return uintptr(ms)
	}
	return infinite
}
