// Package vdi moves backups through SQL Server's Virtual Device Interface: SQL
// Server writes a BACKUP into, or reads a RESTORE from, devices that another
// process on the same machine plays.
//
// The interface is a queue of commands. A client creates a set of devices under a
// name, runs a statement that names them (TO VIRTUAL_DEVICE = '…'), waits until SQL
// Server has configured the set, and then answers the commands of each device:
// take these bytes, give me so many, make sure they are safe. Everything around
// the data path is in the answers: a command that is not answered holds SQL Server
// back, and SQL Server does not truncate a log before it has them all.
//
//	Open ──→ Set ──→ Save (backup)  ──→ server.Backup: streams, Commit, Abort
//	                 Load (restore) ──→ verdict
//
// Set and Device are the interface itself, with no system in them: Open makes one
// from sqlvdi.dll (Windows on amd64, without cgo), the laboratory has one of its
// own, and Save and Load cannot tell them apart.
//
// # The word
//
// SQL Server 2012 SP3 and later say that they are done by VDC_Complete, if the
// client asked for it (KB3188454). Save holds that command until Commit. A server
// without it has only VDC_Flush, which may come several times: Save ends the stream
// at a Flush, too, and holds it until Commit; should more bytes come after that, the
// point that was committed is not the whole backup, and Save makes the statement
// fail (ErrMoreData).
//
// Facts: Microsoft's Virtual Device Interface specification of 2005, its reference
// in sql-docs (docs/relational-databases/backup-restore/vdi-reference), vdi.h and
// vdierror.h of microsoft/sql-server-samples, KB3188454.
package vdi

import (
	"strconv"
	"strings"
	"time"
)

// MaxDevices is how many devices a set can have.
const MaxDevices = 64

// Code is what SQL Server wants of a device.
type Code uint32

// The commands of vdi.h. A client that behaves like a pipe must know Read, Write,
// Flush and ClearError; Complete comes to those who asked for it.
const (
	Read        Code = 1
	Write       Code = 2
	ClearError  Code = 3
	Rewind      Code = 4
	WriteMark   Code = 5
	SkipMarks   Code = 6
	SkipBlocks  Code = 7
	LoadMedia   Code = 8
	GetPosition Code = 9
	SetPosition Code = 10
	Discard     Code = 11
	Flush       Code = 12
	Snapshot    Code = 13
	MountSnap   Code = 14
	Freeze      Code = 15
	FileBegin   Code = 16
	FileEnd     Code = 17
	GetError    Code = 18
	Complete    Code = 19
)

// Features of a set: what the client asks for, then what the server grants.
const (
	RequestComplete uint32 = 0x2000  // asked for by the client
	WriteMedia      uint32 = 0x10000 // granted: a backup
	ReadMedia       uint32 = 0x20000 // granted: a restore
	CompleteEnabled uint32 = 0x40000 // granted: VDC_Complete will come
)

// Completion is the answer to a command: an error number of Windows.
type Completion uint32

// The answers that are used here.
const (
	Done         Completion = 0
	WriteFault   Completion = 29  // our side cannot take the bytes
	ReadFault    Completion = 30  // our side cannot get the bytes
	EndOfFile    Completion = 38  // to Read: there is no more
	NotSupported Completion = 50  // a command that a pipe does not know
	Aborted      Completion = 995 // operation aborted
)

// Config is VDConfig: eleven numbers, the first seven the client's, the rest the
// server's.
type Config struct {
	DeviceCount     uint32
	Features        uint32
	PrefixZoneSize  uint32
	Alignment       uint32
	SoftFileMark    uint32
	EOMWarningSize  uint32
	ServerTimeOutMS uint32 // 0: the server waits for ever
	BlockSize       uint32 // bytes; transfers are multiples of it
	MaxIODepth      uint32 // commands of one device that may be open at once
	MaxTransferSize uint32 // bytes of one transfer, at most
	BufferAreaSize  uint32 // bytes of shared memory
}

// Command is one request to a device. It is the client's until it is completed.
type Command struct {
	Code     Code
	Size     uint32 // bytes of Buffer
	Position uint64
	// Buffer is memory shared with SQL Server: valid until the command is completed.
	Buffer []byte
	// Ref is the device's own.
	Ref uintptr
}

// Set is a set of virtual devices, from its creation to its end.
//
// A Set is used by one operation, by several goroutines at once.
type Set interface {
	// Configuration waits until SQL Server has configured the set: ErrTimeout if
	// it has not done so by then.
	Configuration(timeout time.Duration) (Config, error)
	// OpenDevice opens the device of that name, or by an unknown name ErrInvalid.
	OpenDevice(name string) (Device, error)
	// Abort tells both sides to give up: whoever waits gets ErrAbort, and SQL
	// Server's statement fails. It may be called at any time.
	Abort() error
	// Close ends the set and all that it holds. No other method runs by then.
	Close() error
}

// Device is one device of a set. It is used by one goroutine.
type Device interface {
	// Next waits for the next command: ErrTimeout if none came, ErrClose when SQL
	// Server has closed the device (the normal end), ErrAbort when either side gave up.
	Next(timeout time.Duration) (*Command, error)
	// Complete answers a command. bytes counts what was moved by Read or Write,
	// position answers GetPosition alone.
	Complete(c *Command, code Completion, bytes uint32, position uint64) error
}

// SetOptions say which set is created.
type SetOptions struct {
	// Instance is the instance's name without the machine's; "" is the default one.
	Instance string
	// Name is the set's and its first device's.
	Name string
	// Devices is how many there will be, 1 to MaxDevices.
	Devices int
}

// Names are the names of a set's devices: the first has the set's, as the
// interface demands, the others have their number appended.
func Names(set string, devices int) []string {
	names := make([]string, devices)
	for i := range names {
		names[i] = set
		if i > 0 {
			names[i] += strconv.Itoa(i)
		}
	}
	return names
}

// Clause is what a BACKUP or RESTORE statement says after TO or FROM.
func Clause(names []string) string {
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = "VIRTUAL_DEVICE = '" + strings.ReplaceAll(name, "'", "''") + "'"
	}
	return strings.Join(parts, ", ")
}
