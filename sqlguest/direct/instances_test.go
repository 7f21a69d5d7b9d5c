package direct_test

import (
	"context"
	"errors"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/lab/wine"
)

func TestAddressesOfSeveralServers(t *testing.T) {
	got, err := direct.Addresses("  localhost\\A 127.0.0.1:1433 ")
	if want := []string{`localhost\A`, "127.0.0.1:1433"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestFirstServerThatLetsUsIn is opened, and all others are named, those too that were
// tried in vain.
func TestFirstServerThatLetsUsIn(t *testing.T) {
	l, _ := laboratory(t)
	dead, elsewhere := "127.0.0.1:1", "127.0.0.1:2"
	s, err := direct.OpenFirst(t.Context(), direct.Options{Address: dead + " " + l.Address() + " " + elsewhere, User: "sa", Password: password})
	must(t, err)
	defer s.Close()
	h, err := s.Host(t.Context())
	if err != nil || !slices.Equal(h.Others, []string{dead, elsewhere}) {
		t.Errorf("others %q, %v", h.Others, err)
	}
	if _, err := direct.OpenFirst(t.Context(), direct.Options{Address: dead + " " + elsewhere, User: "sa"}); err == nil || !strings.Contains(err.Error(), dead) || !strings.Contains(err.Error(), elsewhere) {
		t.Errorf("nobody there: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := direct.OpenFirst(ended, direct.Options{Address: dead + " " + elsewhere}); err == nil || strings.Contains(err.Error(), elsewhere) {
		t.Errorf("after the end of its context: %v", err)
	}
}

// TestServerOfAnotherMachineIsNobodysNeighbour: whoever serves a machine opens what is on
// it, by its names and addresses, and asks nobody else; an address of the machine's own is
// on it, one that nobody has here is not.
func TestServerOfAnotherMachineIsNobodysNeighbour(t *testing.T) {
	own, err := net.InterfaceAddrs()
	must(t, err)
	name, err := os.Hostname()
	must(t, err)
	here := []string{"localhost", `localhost\A`, ".", "127.0.0.1:1433", "[::1]:1433", name, name + `\A`}
	for _, a := range own {
		if ip, is := a.(*net.IPNet); is {
			here = append(here, net.JoinHostPort(ip.IP.String(), "1433"))
		}
	}
	for _, address := range here {
		if !(direct.Options{Address: address}).IsHere() {
			t.Errorf("%s is here", address)
		}
	}
	l, _ := laboratory(t)
	for _, address := range []string{"192.0.2.1:1433", "db02", `db02\A`, "db02.example.org:1433", l.Address() + " 192.0.2.1:1433"} {
		_, err := direct.OpenFirst(t.Context(), direct.Options{Address: address, User: "sa", Password: password})
		if !errors.Is(err, direct.ErrElsewhere) || strings.Contains(err.Error(), l.Address()) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestInstancesOfAWindowsMachine: setup's names in both views of the registry, under Wine.
func TestInstancesOfAWindowsMachine(t *testing.T) {
	prefix, err := wine.New(t.Context(), t.TempDir())
	if errors.Is(err, wine.ErrAbsent) && os.Getenv("HOLDFAST_DEMAND_PARTS") == "" {
		t.Skip("Wine's parts are missing: ", err)
	}
	must(t, err)
	defer func() { must(t, prefix.Close(context.WithoutCancel(t.Context()))) }()
	program := filepath.Join(t.TempDir(), "instances.exe")
	build := osexec.CommandContext(t.Context(), "go", "build", "-o", program, "./testdata/instances")
	build.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ask := func() []string {
		t.Helper()
		out, err := wine.Output(prefix.Command(t.Context(), program))
		must(t, err)
		return strings.Fields(string(out))
	}
	if got := ask(); !slices.Equal(got, []string{"localhost"}) {
		t.Errorf("without SQL Server: %q", got)
	}
	const key = `HKLM\SOFTWARE\Microsoft\Microsoft SQL Server\Instance Names\SQL`
	for _, at := range [][2]string{{"REPORTS", "/reg:64"}, {"MSSQLSERVER", "/reg:64"}, {"OLD", "/reg:32"}, {"REPORTS", "/reg:32"}} {
		_, err := wine.Output(prefix.Command(t.Context(), "reg", "add", key, "/v", at[0], "/t", "REG_SZ", "/d", "MSSQL16."+at[0], at[1], "/f"))
		must(t, err)
	}
	if got, want := ask(), []string{"localhost", `localhost\OLD`, `localhost\REPORTS`}; !slices.Equal(got, want) {
		t.Errorf("instances %q, want %q", got, want)
	}
}
