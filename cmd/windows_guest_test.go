package cmd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/sqlguest/agent/inject"
	"holdfast/sqlguest/agent/program"
	sqllab "holdfast/sqlguest/lab"
	"holdfast/vmware"
	"holdfast/vmware/guest"
	"holdfast/vmware/lab"
)

// windowsGuest is a Windows guest of the laboratory, whose icacls and netsh it plays,
// with this system's agent in it, and what opens it.
func windowsGuest(t *testing.T, spec lab.VMSpec, address string) (*lab.Lab, *lab.VM, inject.Options) {
	t.Helper()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	binary, err := os.ReadFile(theAgent(t))
	ok(err)
	sql, err := sqllab.Start(sqllab.Options{Logins: []sqllab.Login{{Name: "sa", Password: "canary-secret", Sysadmin: true}}})
	ok(err)
	t.Cleanup(func() { ok(sql.Close()) })
	l, err := lab.Start(ctx, lab.Options{})
	ok(err)
	t.Cleanup(l.Close)
	s, err := vmware.Connect(ctx, vmware.Options{URL: l.URL().String(), User: l.User(), Password: []byte(l.Password()), Insecure: true})
	ok(err)
	t.Cleanup(func() { s.Close() }) //nolint:errcheck // the laboratory goes as a whole
	spec.Name, spec.PoweredOn, spec.Guest, spec.GuestUser, spec.GuestPassword = "vm", true, "windows2019srv_64Guest", "Administrator", "right"
	vm, err := l.AddVM(spec)
	ok(err)
	g, err := guest.Open(ctx, s.Client(), vm.Ref(), guest.Options{User: "Administrator", Password: "right", Address: address})
	ok(err)
	from, err := g.Seen(ctx)
	ok(err)
	return l, vm, inject.Options{
		Guest: g, Program: func(string) ([]byte, error) { return binary, nil }, Host: "here", PID: os.Getpid(), Pause: 10 * time.Millisecond, From: from,
		Config: program.Config{Listen: "127.0.0.1:0", Address: sql.Address(), User: "sa", Password: "canary-secret"},
	}
}

// isGone fails unless nothing of an agent is in the guest.
func isGone(t *testing.T, l *lab.Lab, vm *lab.VM) {
	t.Helper()
	if rules := l.FirewallRules(vm); len(rules) > 0 {
		t.Errorf("rules left in the guest's firewall: %q", rules)
	}
	if left, err := os.ReadDir(filepath.Join(vm.GuestDir(), "ProgramData", program.ParentName)); !os.IsNotExist(err) {
		t.Errorf("left in the guest: %v %v", left, err)
	}
}

// TestFirewallOfAWindowsGuest: one rule while the agent is there, none afterwards, and
// none of a run that died either.
func TestFirewallOfAWindowsGuest(t *testing.T) {
	t.Parallel()
	l, vm, o := windowsGuest(t, lab.VMSpec{}, "127.0.0.1")
	i, err := inject.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if rules := l.FirewallRules(vm); len(rules) != 1 {
		t.Errorf("rules while the agent is there: %q", rules)
	}
	if err := i.Close(t.Context()); err != nil {
		t.Error(err)
	}
	isGone(t, l, vm)
	// A run that dies: its agent ends by itself; this system's removes no rule.
	dead, err := inject.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.Client.Close(); err != nil {
		t.Fatal(err)
	}
	for running := 1; running > 0; {
		list, err := o.Guest.Programs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		running = len(list)
	}
	o.Dead = func(inject.Marker) bool { return true }
	// On Windows the program that cannot delete itself would be left, and the marker.
	marker := filepath.Join(vm.GuestDir(), "ProgramData", program.ParentName, ruleOf(t, l, vm)[len("holdfast-agent-"):])
	if err := os.MkdirAll(marker, 0o700); err != nil {
		t.Fatal(err)
	}
	l.OwnDirectory(vm, agentsDirectory, "BA", true, "SY", "BA")
	l.OwnDirectory(vm, agentsDirectory+`\`+filepath.Base(marker), "BA", true, "SY", "BA")
	if err := os.WriteFile(filepath.Join(marker, program.MarkerName), []byte(`{"run":"`+filepath.Base(marker)+`","host":"here","pid":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	next, err := inject.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Close(t.Context()); err != nil {
		t.Error(err)
	}
	isGone(t, l, vm)
}

func ruleOf(t *testing.T, l *lab.Lab, vm *lab.VM) string {
	t.Helper()
	rules := l.FirewallRules(vm)
	if len(rules) != 1 {
		t.Fatalf("rules %q", rules)
	}
	return rules[0]
}

// TestFilteredTokenIsToldFromAnUnsafeDirectory: User Account Control took the
// administrator's rights away.
func TestFilteredTokenIsToldFromAnUnsafeDirectory(t *testing.T) {
	t.Parallel()
	l, vm, o := windowsGuest(t, lab.VMSpec{GuestFiltered: true}, "127.0.0.1")
	_, err := inject.Open(t.Context(), o)
	if code, hint := classify(err); !errors.Is(err, inject.ErrRights) || code != exitRefused || hint == "" {
		t.Errorf("filtered token: %v (%d, %s)", err, code, hint)
	}
	isGone(t, l, vm)
}

// TestClosedPortOfAGuest: the agent listens, and the network does not let us through.
func TestClosedPortOfAGuest(t *testing.T) {
	t.Parallel()
	l, vm, o := windowsGuest(t, lab.VMSpec{}, "127.0.0.2")
	_, err := inject.Open(t.Context(), o)
	if code, _ := classify(err); !errors.Is(err, inject.ErrPort) || code != exitUnreachable {
		t.Errorf("closed port: %v (%d)", err, code)
	}
	isGone(t, l, vm)
}
