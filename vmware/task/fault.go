package task

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode"

	"github.com/vmware/govmomi/vim25/types"
)

// ErrNoSpace: a datastore has no room left for what a task was to write.
var ErrNoSpace = errors.New("no space left on the datastore")

// Fault makes the error of a task or lease that ended with one. It speaks in
// words, understands fault.Is and fault.As, and is ErrNoSpace where that is what
// the fault means. f must not be nil.
func Fault(f *types.LocalizedMethodFault) error { return &faultError{f} }

type faultError struct{ f *types.LocalizedMethodFault }

// Error is the server's own sentence if there is one: it names things and speaks
// the language of the session. Where there is none, or only the name of a type,
// it is ours.
func (e *faultError) Error() string {
	name := typeName(e.f.Fault)
	own := strings.TrimSpace(e.f.LocalizedMessage)
	if own != "" && strings.Trim(own, "*") != name && strings.TrimPrefix(strings.Trim(own, "*"), "types.") != name {
		return own
	}
	if words := inWords(e.f.Fault); words != "" {
		return words
	}
	return spelledOut(name)
}

// Fault is for fault.Is and fault.As.
func (e *faultError) Fault() types.BaseMethodFault { return e.f.Fault }

// Is reports whether the fault means that a datastore is full.
func (e *faultError) Is(target error) bool {
	if target != ErrNoSpace {
		return false
	}
	switch e.f.Fault.(type) {
	case *types.NoDiskSpace, *types.InsufficientStorageSpace:
		return true
	}
	return false
}

// inWords says what those faults mean that an operator meets and that carry more
// than their name; "" for all others. The names are those of the vSphere API's
// reference of faults.
func inWords(f types.BaseMethodFault) string {
	switch f := f.(type) {
	case *types.NoDiskSpace:
		return "no space left on the datastore" + named(f.Datastore) + forWhat(f.File)
	case *types.InsufficientStorageSpace:
		return "no space left on the datastore"
	case *types.NoPermission:
		missing := f.PrivilegeId
		if missing == "" {
			return "a privilege is missing"
		}
		return "the privilege " + missing + " is missing"
	case *types.InvalidPowerState:
		return fmt.Sprintf("it is %s and would have to be %s", power(f.ExistingState), power(f.RequestedState))
	case *types.DuplicateName:
		return "the name" + named(f.Name) + " is taken"
	case *types.FileAlreadyExists:
		return "the file" + named(f.File) + " exists"
	case *types.FileNotFound:
		return "there is no file" + named(f.File)
	case *types.FileLocked:
		return "the file" + named(f.File) + " is locked by another process"
	case *types.CannotAccessFile:
		return "the file" + named(f.File) + " cannot be read or written"
	case *types.FileTooLarge:
		return "the file" + named(f.File) + " is larger than the datastore" + named(f.Datastore) + " allows"
	case *types.TaskInProgress:
		return "it is busy with another task"
	case *types.ManagedObjectNotFound:
		return "it is there no more" + forWhat(f.Obj.Value)
	case *types.HostNotConnected, *types.HostCommunication:
		return "the host does not answer"
	case *types.ApplicationQuiesceFault:
		return "the guest could not bring its applications to a consistent state"
	}
	return ""
}

func named(name string) string {
	if name == "" {
		return ""
	}
	return " " + name
}

func forWhat(what string) string {
	if what == "" {
		return ""
	}
	return " (" + what + ")"
}

func power(state types.VirtualMachinePowerState) string {
	return strings.ToLower(strings.TrimPrefix(string(state), "powered"))
}

// typeName is the name of a fault in the API.
func typeName(f types.BaseMethodFault) string {
	t := reflect.TypeOf(f)
	if t == nil {
		return ""
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Name()
}

// spelledOut makes words of a type's name: FilterInUse is "filter in use".
func spelledOut(name string) string {
	if name == "" {
		return "the server names no cause"
	}
	runes := []rune(name)
	var words []string
	for start := 0; start < len(runes); {
		end := start + 1
		for end < len(runes) && !wordBegins(runes, end) {
			end++
		}
		word := string(runes[start:end])
		if end-start == 1 || word != strings.ToUpper(word) { // acronyms stay
			word = strings.ToLower(word)
		}
		words = append(words, word)
		start = end
	}
	return strings.Join(words, " ")
}

// wordBegins reports whether a word begins at i: a capital after a small letter,
// or the last capital of several before a small one.
func wordBegins(runes []rune, i int) bool {
	return unicode.IsUpper(runes[i]) && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1]))
}
