package vdi

import "fmt"

// Result is an HRESULT of the Virtual Device Interface, as an error.
type Result uint32

// The results of vdierror.h.
const (
	// ErrNotOpen: the set or the device is not open.
	ErrNotOpen Result = 0x80770002
	// ErrTimeout: nothing came within the time; it is asked again.
	ErrTimeout Result = 0x80770003
	// ErrAbort: one of the sides has given up.
	ErrAbort Result = 0x80770004
	// ErrSecurity: the rights are not enough to make the shared objects.
	ErrSecurity Result = 0x80770005
	// ErrInvalid: a name or a value is wrong.
	ErrInvalid Result = 0x80770006
	// ErrInstanceName: this machine has no such instance.
	ErrInstanceName Result = 0x80770007
	// ErrNotSupported: the configuration is not supported.
	ErrNotSupported Result = 0x80770009
	// ErrMemory: the shared memory could not be had.
	ErrMemory Result = 0x8077000a
	// ErrUnexpected: a fault inside the interface.
	ErrUnexpected Result = 0x8077000b
	// ErrProtocol: a call out of turn.
	ErrProtocol Result = 0x8077000c
	// ErrOpen: all devices are open, or some still are when the set is closed.
	ErrOpen Result = 0x8077000d
	// ErrClose: the server has closed the device, which is the normal end.
	ErrClose Result = 0x8077000e
	// ErrBusy: somebody else uses the resource.
	ErrBusy Result = 0x8077000f
	// ErrNoClass: COM knows no such class (REGDB_E_CLASSNOTREG): no SQL Server's
	// client library of this architecture is installed.
	ErrNoClass Result = 0x80040154
	// ErrAccess: access was denied (E_ACCESSDENIED).
	ErrAccess Result = 0x80070005
)

// texts have a sentence of what happened and one of what helps, if any.
var texts = map[Result][2]string{
	ErrNotOpen:      {"the device set is not open", ""},
	ErrTimeout:      {"no answer within the time", ""},
	ErrAbort:        {"the device set was aborted", ""},
	ErrSecurity:     {"rights are missing for the virtual device set", "run elevated, as an administrator whose login has the sysadmin role, on the machine of the SQL Server"},
	ErrInvalid:      {"a device name or a value is not valid", ""},
	ErrInstanceName: {"no instance of that name on this machine", "give the instance without the machine's name; the default instance has none"},
	ErrNotSupported: {"the configuration of the device set is not supported", "a set has 1 to 64 devices"},
	ErrMemory:       {"no memory for the device set's buffers", "lower MAXTRANSFERSIZE or BUFFERCOUNT, or the number of devices"},
	ErrUnexpected:   {"an unexpected fault in the virtual device interface", "SQL Server's error log names the cause (18210, 3041)"},
	ErrProtocol:     {"a call came out of turn", ""},
	ErrOpen:         {"devices of the set are open", ""},
	ErrClose:        {"SQL Server closed the device", ""},
	ErrBusy:         {"the device set is in use", ""},
	ErrNoClass:      {"the class of the virtual device interface is not registered", "it comes with a SQL Server of the same architecture; without one, backups go through files"},
	ErrAccess:       {"access was denied", "run elevated, as an administrator whose login has the sysadmin role"},
}

// Error is the sentence with the number.
func (r Result) Error() string {
	text := texts[r][0]
	if text == "" {
		text = "virtual device interface"
	}
	return fmt.Sprintf("%s (0x%08x)", text, uint32(r))
}

// Hint is what helps, or "".
func (r Result) Hint() string { return texts[r][1] }
