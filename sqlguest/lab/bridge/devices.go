// Package bridge joins a laboratory's SQL Server with the processes that play
// virtual devices for it.
//
// On a real machine sqlvdi.dll stands between them: shared memory, semaphores and
// names in Windows' kernel. Here a Hub does: SQL Server's side asks it for a set by
// name (Devices), and a client is either in this process (Hub.Create, a vdi.Set) or
// reaches it over TCP (Hub.Serve), as the sqlvdi.dll of package wine does. Both
// sides are held to the interface's rules: who calls out of turn gets its error.
package bridge

import (
	"context"
	"errors"
)

// ErrNoSet: nobody has created a device set of that name. SQL Server reports it as
// 3201, with the operating system's error 2 (file not found).
var ErrNoSet = errors.New("no virtual device set of that name")

// ErrAborted: the other side gave the set up, or was lost. SQL Server reports it
// as 3202 or 3203 with the operating system's error 995, and 3013.
var ErrAborted = errors.New("virtual device set aborted")

// DeviceError is a command that the client answered with an error of the
// operating system's. SQL Server reports it as 3202 or 3203 with that number.
type DeviceError struct {
	Device int
	Code   uint32 // Windows' number
}

// Devices is how a SQL Server reaches virtual device sets.
type Devices interface {
	// Open connects to the set that a client has created, and waits until the
	// client has opened all of its devices. The set is aborted when ctx ends.
	// Errors: ErrNoSet, ErrAborted.
	Open(ctx context.Context, r Request) (Set, error)
}

// Request says which set a statement names, and how it wants to use it.
type Request struct {
	// Instance is the SQL Server that asks; "" is the default instance.
	Instance string
	// Names are the devices' names in the order of the statement; the first is the
	// set's name.
	Names []string
	// Write is true for BACKUP.
	Write bool
	// BlockBytes and TransferBytes are BLOCKSIZE and MAXTRANSFERSIZE; 0 is
	// 65536 and 1 MiB.
	BlockBytes, TransferBytes int
}

// Set is SQL Server's side of a set in use. Exactly one of Close and Abort ends it.
type Set interface {
	// Devices are in the order of the request's names. Each is used by one
	// goroutine at a time, all of them at once.
	Devices() []Device
	// HasComplete tells whether the client wants VDC_Complete and gets it.
	HasComplete() bool
	// Abort makes the client's calls fail with VD_E_ABORT. It may come at any time,
	// and after Close it does nothing.
	Abort()
	// Close ends the set in order: each device answers VD_E_CLOSE.
	Close() error
}

// Device is SQL Server's side of one device. Each call is a command, and returns
// when the client has completed it: ErrAborted, or a *DeviceError.
type Device interface {
	// Write hands out up to MAXTRANSFERSIZE bytes.
	Write(p []byte) (int, error)
	// Read fills p; fewer bytes come with io.EOF.
	Read(p []byte) (int, error)
	// Flush asks to make everything so far safe.
	Flush() error
	// Complete says that everything was handed out, and asks whether the backup
	// is safe. Without HasComplete it does nothing.
	Complete() error
}
