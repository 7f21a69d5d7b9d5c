package server

import "testing"

func said(numbers ...int32) *Error {
	e := &Error{}
	for _, n := range numbers {
		e.All = append(e.All, Message{Number: n, Severity: 16})
	}
	return e
}

// TestUnreadableIsNotAbsent: only what SQL Server has read and found to be no backup is
// none; whatever kept it from reading says nothing.
func TestUnreadableIsNotAbsent(t *testing.T) {
	for number, want := range map[int32]bool{
		3208: true, 3241: true, 3242: true, 3254: true,
		3201: false, 3203: false, 3271: false, 3243: false, 3255: false, 33111: false, 596: false, 701: false, 1205: false, 3204: false, 3013: false,
	} {
		if got := said(number, 3013).NoBackup(); got != want {
			t.Errorf("%d: no backup %v, want %v", number, got, want)
		}
		if said(3241, number).NoBackup() && !want && number != 3013 {
			t.Errorf("%d beside 3241 is no proof", number)
		}
	}
	if (&Error{}).NoBackup() {
		t.Error("silence is no proof")
	}
}

// TestAbsentIsToldByTheSystemsNumber: the text is of the server's language, and a file's
// name may hold numbers.
func TestAbsentIsToldByTheSystemsNumber(t *testing.T) {
	for text, want := range map[string]bool{
		"Cannot open backup device 'C:\\a\\x.bak'. Operating system error 2(The system cannot find the file specified.).":   true,
		"Cannot open backup device 'C:\\5 (old)\\x.bak'. Operating system error 3(The system cannot find the path).":        true,
		"Das Sicherungsmedium '\\\\nas\\x.bak' kann nicht geöffnet werden. Betriebssystemfehler 53(Netzwerkpfad).":          true,
		"Cannot open backup device 'C:\\a\\x.bak'. Operating system error 5(Access is denied.).":                            false,
		"Cannot open backup device 'C:\\2(a)\\x.bak'. Operating system error 32(The process cannot access the file).":       false,
		"Cannot open backup device '{x}'. Operating system error 0x80770007(A device set of that name was not found here).": false,
	} {
		e := &Error{All: []Message{{Number: 3201, Severity: 16, Text: text}, {Number: 3013, Severity: 16}}}
		if e.Absent() != want || !e.Unopened() {
			t.Errorf("%s: absent %v", text, e.Absent())
		}
	}
	if said(3241).Absent() || said(3241).Unopened() {
		t.Error("3241 was opened")
	}
}
