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
		line(p.locks(`C:\d`)[0]): `C:\Windows\System32\icacls.exe C:\d /setowner *S-1-5-32-544`,
		line(p.locks(`C:\d`)[1]): `C:\Windows\System32\icacls.exe C:\d /reset`,
		line(p.locks(`C:\d`)[2]): `C:\Windows\System32\icacls.exe C:\d /inheritance:r /grant:r *S-1-5-18:(OI)(CI)F *S-1-5-32-544:(OI)(CI)F`,
		line(p.proof(`C:\o'd`)): `C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe -NoProfile -NonInteractive -Command ` +
			`if ((Get-Acl -LiteralPath 'C:\o''d').Sddl -cmatch '^O:(BA|SY)G:[^:]*D:P(AI|AR)*(\(A;OICI;FA;;;(SY|BA)\))+$') { exit 0 } else { exit 3 }`,
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

// TestOnlyItsFirstWordIsAProgram: who names an agent's program among his arguments is
// no agent.
func TestOnlyItsFirstWordIsAProgram(t *testing.T) {
	windows, _ := placeFor("windows", "")
	linux, _ := placeFor("linux", "")
	run := strings.Repeat("R", runLength)
	w, l := windows.path(run, windows.binary), linux.path(run, linux.binary)
	for _, k := range []struct {
		p    place
		line string
		is   bool
	}{
		{windows, w, true}, {windows, w + " config.json", true}, {windows, `"` + w + `" config.json`, true}, {windows, strings.ToLower(w) + " config.json", true},
		{windows, `notepad.exe ` + w, false}, {windows, `"C:\tail.exe" "` + w + `"`, false}, {windows, w + ".log", false}, {windows, `"` + w + ` config.json"`, false},
		{linux, l + " config.json", true}, {linux, "/usr/bin/tail -f " + l, false}, {linux, "/mnt" + l, false}, {linux, l + "2", false}, {linux, "", false},
	} {
		program := l
		if k.p.windows {
			program = w
		}
		if got := k.p.runs(k.line, program); got != k.is {
			t.Errorf("%q: %t", k.line, got)
		}
		if got := k.p.agent(k.line); (got == run) != k.is {
			t.Errorf("%q is the agent of %q", k.line, got)
		}
	}
}
