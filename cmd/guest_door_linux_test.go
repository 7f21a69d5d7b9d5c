package cmd

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"holdfast/sqlguest/agent/program"
)

// TestQ29X10OneProgramWithOneDoor: in the middle of a backup the guest holds the one
// program that was put in through VMware Tools and what says whose it is, and no secret
// any more; the program listens on the agent's port and on no second one. Nothing of it
// is left when the run has ended.
func TestQ29X10OneProgramWithOneDoor(t *testing.T) {
	t.Parallel()
	w := newWard(t, "ubuntu64Guest")
	held, let := w.mid()
	t.Cleanup(let)
	c := w.command(nil, "backup", "sql", "--vm", "db01", "-d", "sales")
	var out strings.Builder
	c.Stdout, c.Stderr = &out, &out
	w.must(c.Start())
	w.await(held)
	var files []string
	for _, path := range w.left() {
		if s, err := os.Stat(path); err == nil && s.Mode().IsRegular() {
			files = append(files, filepath.Base(path))
			if data, err := os.ReadFile(path); err == nil && (strings.Contains(string(data), "PRIVATE KEY") || strings.Contains(string(data), "canary-sql")) && filepath.Base(path) != program.BinaryName {
				t.Errorf("%s holds a secret", path)
			}
		}
	}
	slices.Sort(files)
	if want := []string{program.BinaryName, program.ReadyName, program.MarkerName}; !slices.Equal(files, want) {
		t.Errorf("the guest holds %q, want %q", files, want)
	}
	if doors := listening(t, w.agentPID()); !slices.Equal(doors, []string{w.env["HOLDFAST_GUEST_PORT"]}) {
		t.Errorf("the agent listens on %q, want %s alone", doors, w.env["HOLDFAST_GUEST_PORT"])
	}
	let()
	_ = c.Wait() // the code tells
	w.judge(c, out.String(), exitDone, "sql/db01/sales")
	w.clean()
}

// listening are the TCP ports that a process listens on, as the kernel has them.
func listening(t *testing.T, pid int) (ports []string) {
	t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(links) == 0 {
		t.Fatalf("process %d has no files: %v", pid, err)
	}
	sockets := map[string]bool{}
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil {
			sockets[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			continue // no IPv6
		}
		for _, line := range strings.Split(string(data), "\n") {
			const local, state, inode, listens = 1, 3, 9, "0A"
			f := strings.Fields(line)
			if len(f) <= inode || f[state] != listens || !sockets[f[inode]] {
				continue
			}
			_, hex, _ := strings.Cut(f[local], ":")
			port, err := strconv.ParseUint(hex, 16, 16)
			if err != nil {
				t.Fatal(err)
			}
			ports = append(ports, strconv.FormatUint(port, 10))
		}
	}
	return ports
}
