package inject

import (
	"strings"
	"testing"
)

// TestWindowsCommands: what runs in a Windows guest, word for word.
func TestWindowsCommands(t *testing.T) {
	p, err := placeFor("windows", "")
	if err != nil {
		t.Fatal(err)
	}
	line := func(c command) string { return c.program + " " + strings.Join(c.args, " ") }
	for got, want := range map[string]string{
		line(p.locks()[0]):                    `C:\Windows\System32\icacls.exe . /setowner *S-1-5-32-544`,
		line(p.locks()[1]):                    `C:\Windows\System32\icacls.exe . /inheritance:r /grant:r *S-1-5-18:(OI)(CI)F *S-1-5-32-544:(OI)(CI)F`,
		line(p.rule("RUN", "10.0.0.5", 3542)): `C:\Windows\System32\netsh.exe advfirewall firewall add rule name=holdfast-agent-RUN dir=in action=allow protocol=TCP localport=3542 remoteip=10.0.0.5 program=C:\ProgramData\holdfast-agent\RUN\holdfast-agent.exe`,
		line(p.unrule("RUN")):                 `C:\Windows\System32\netsh.exe advfirewall firewall delete rule name=holdfast-agent-RUN`,
	} {
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	for path, want := range map[string]string{p.parent: `C:\ProgramData`, p.path("RUN"): p.parent, `C:\x`: `C:\`} {
		if dir, _ := p.split(path); dir != want {
			t.Errorf("%s is in %s, want %s", path, dir, want)
		}
	}
	if _, err := placeFor("solaris", ""); err == nil {
		t.Error("a place on a system without agents")
	}
}
