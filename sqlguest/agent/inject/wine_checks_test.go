package inject_test

import (
	"strings"
	"testing"

	"holdfast/sqlguest/agent/check"
	"holdfast/sqlguest/agent/inject"
	"holdfast/sqlguest/lab/machine"
	"holdfast/sqlguest/lab/wine"
)

// looks: Q2, Q3: the agent asks Windows' own service manager, registry and event log, and
// says how they stand, before and after somebody has changed them.
func looks(t *testing.T, g *machine.Guest, i *inject.Injected) {
	t.Helper()
	expect := func(want map[string]string) {
		t.Helper()
		lines, err := i.Checks(t.Context())
		must(t, err)
		got := map[string]string{}
		for _, l := range lines {
			got[l.ID] = string(l.Status) + " " + l.Detail
			if (l.Status == check.OK) != (l.Remedy == "") {
				t.Errorf("a remedy belongs to what is not well: %+v", l)
			}
		}
		for id, says := range want {
			if !strings.HasPrefix(got[id], says) {
				t.Errorf("%s: %q, want %q; all: %q", id, got[id], says, got)
			}
		}
	}
	run := func(program string, args ...string) {
		t.Helper()
		_, err := wine.Output(g.Command(program, args...))
		must(t, err)
	}
	const providers = `HKLM\SYSTEM\CurrentControlSet\Services\VSS\Providers\`
	expect(map[string]string{"Q3-writer": "warning not installed", "Q2-providers": "ok ", "vdi": "ok ", "Q5-elevated": "ok "})
	for _, service := range []string{"SQLWriter", "MSSQL$PROD"} {
		run("sc", "create", service, "binPath=", `C:\windows\system32\nothing.exe`, "start=", "disabled")
	}
	run("reg", "add", providers+"{b5946137-7b9f-4925-af80-51abd60b20d5}", "/ve", "/d", "Microsoft Software Shadow Copy provider 1.0", "/f")
	expect(map[string]string{"Q3-writer": "warning disabled", "service-MSSQL$PROD": "warning disabled", "Q2-providers": "ok Microsoft's own alone"})
	run("reg", "add", providers+"{00000000-1111-2222-3333-444444444444}", "/ve", "/d", "Another Maker's", "/f")
	expect(map[string]string{"Q2-providers": "warning others than Microsoft's: {00000000-1111-2222-3333-444444444444} Another Maker's"})
}
