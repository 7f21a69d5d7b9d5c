package wine

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// TestPrefixRunsPrograms: the prefix has our DLLs in place, programs get its
// environment alone, and nothing is left running.
func TestPrefixRunsPrograms(t *testing.T) {
	p, err := New(t.Context(), t.TempDir())
	if errors.Is(err, ErrAbsent) && os.Getenv("HOLDFAST_DEMAND_PARTS") == "" {
		t.Skip("Wine's parts are missing: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	p.Bridge = "127.0.0.1:1"
	for _, dll := range []string{"sqlvdi.dll", "bcryptprimitives.dll"} {
		if _, err := os.Stat(p.Drive() + "/windows/system32/" + dll); err != nil {
			t.Error(err)
		}
	}
	t.Setenv("CANARY", "of our side")
	out, err := Output(p.Command(t.Context(), "cmd", "/c", "set"))
	if err != nil || !strings.Contains(string(out), BridgeVariable+"=127.0.0.1:1") || strings.Contains(string(out), "CANARY") {
		t.Fatalf("environment %s, %v", out, err)
	}
	hasOneServiceManager(t, p)
}

// hasOneServiceManager: what one program has registered every later one finds. Two
// service managers in a prefix answer in turn, and each knows its own services alone.
func hasOneServiceManager(t *testing.T, p *Prefix) {
	t.Helper()
	if _, err := Output(p.Command(t.Context(), "sc", "create", "MSSQL$PROD", "binPath=", `C:\nothing.exe`, "start=", "disabled")); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		out, err := Output(p.Command(t.Context(), "sc", "query", "MSSQL$PROD"))
		if err != nil || !strings.Contains(string(out), "STOPPED") {
			t.Errorf("a service that was created is not found: %q, %v", out, err)
		}
	}
}

func TestPathOfAFile(t *testing.T) {
	if got := Path("/tmp/a b/c.reg"); got != `Z:\tmp\a b\c.reg` {
		t.Fatal(got)
	}
}
