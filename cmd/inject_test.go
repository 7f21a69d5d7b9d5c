package cmd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/sqlguest/agent/inject"
	"holdfast/sqlguest/agent/program"
	sqllab "holdfast/sqlguest/lab"
	"holdfast/sqlguest/server"
	"holdfast/vmware"
	"holdfast/vmware/guest"
	"holdfast/vmware/lab"
)

var _ inject.Guest = (*guest.Guest)(nil)

// TestQ29AgentGoesThroughVMwareToolsAndOut: the real agent, built here, through the
// laboratory's guest operations, in front of the laboratory's SQL Server.
func TestQ29AgentGoesThroughVMwareToolsAndOut(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	binary, err := os.ReadFile(theAgent(t))
	ok(err)
	sql, err := sqllab.Start(sqllab.Options{BackupDirectory: t.TempDir(), Path: func(p string) string { return p },
		Logins: []sqllab.Login{{Name: "sa", Password: "canary-secret", Sysadmin: true}}})
	ok(err)
	defer sql.Close()
	l, err := lab.Start(ctx, lab.Options{})
	ok(err)
	defer l.Close()
	s, err := vmware.Connect(ctx, vmware.Options{URL: l.URL().String(), User: l.User(), Password: []byte(l.Password()), Insecure: true})
	ok(err)
	defer s.Close()
	vm, err := l.AddVM(lab.VMSpec{Name: "vm", PoweredOn: true, Guest: "ubuntu64Guest", GuestUser: "root", GuestPassword: "right"})
	ok(err)
	g, err := guest.Open(ctx, s.Client(), vm.Ref(), guest.Options{User: "root", Password: "right", Address: "127.0.0.1"})
	ok(err)
	options := inject.Options{
		Guest: g, Program: func(string) ([]byte, error) { return binary, nil }, Host: "here", PID: os.Getpid(), Pause: 10 * time.Millisecond,
		Config: program.Config{Listen: "127.0.0.1:0", Address: sql.Address(), User: "sa", Password: "canary-secret"},
	}
	i, err := inject.Open(ctx, options)
	ok(err)
	_, err = i.Query(ctx, "CREATE DATABASE d")
	ok(err)
	b, err := i.Backup(ctx, server.Statement{Text: "BACKUP DATABASE [d] TO %s", Name: "{00000000-0000-4000-8000-000000000001}", Devices: 1, Transport: server.Disk})
	ok(err)
	var data bytes.Buffer
	_, err = io.Copy(&data, b.Streams()[0])
	ok(err)
	_, err = b.Commit(ctx)
	ok(err)
	ok(i.Close(ctx))
	if data.Len() == 0 {
		t.Error("an empty backup")
	}
	left, err := os.ReadDir(filepath.Join(vm.GuestDir(), "var", "lib", "holdfast-agent"))
	if !os.IsNotExist(err) || len(left) != 0 {
		t.Errorf("left in the guest: %v %v", left, err)
	}
	options.Config.Password = "wrong"
	if _, err := inject.Open(ctx, options); !errors.Is(err, inject.ErrAgent) {
		t.Errorf("wrong SQL password: %v", err)
	}
}
