package lab_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/guest"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/lab"
)

func TestGuestRefusesWrongLoginAndSilentGuests(t *testing.T) {
	c := start(t, lab.Options{})
	vm, o := c.add(lab.VMSpec{Name: "vm", GuestUser: "sa", GuestPassword: "right", PoweredOn: true})
	_, silent := c.add(lab.VMSpec{Name: "silent", PoweredOn: true, Tools: lab.ToolsNotRunning})
	ops := guest.NewOperationsManager(c.c.Client, o.Reference())
	auth, err := ops.AuthManager(c.ctx)
	must(t, err)
	good := &types.NamePasswordAuthentication{Username: "sa", Password: "right"}
	must(t, auth.ValidateCredentials(c.ctx, good))
	if err := auth.ValidateCredentials(c.ctx, &types.NamePasswordAuthentication{Username: "sa", Password: "wrong"}); !isFault[*types.InvalidGuestLogin](err) {
		t.Errorf("wrong password: %v", err)
	}
	quiet, err := guest.NewOperationsManager(c.c.Client, silent.Reference()).AuthManager(c.ctx)
	must(t, err)
	if err := quiet.ValidateCredentials(c.ctx, good); !isFault[*types.GuestOperationsUnavailable](err) {
		t.Errorf("without tools: %v", err)
	}
	must(t, vm.PowerOff())
	if err := auth.ValidateCredentials(c.ctx, good); !isFault[*types.GuestOperationsUnavailable](err) {
		t.Errorf("powered off: %v", err)
	}
}

// TestGuestProgramFromInjectedFile is the whole way of an agent: file in, program run,
// result out, everything removed.
func TestGuestProgramFromInjectedFile(t *testing.T) {
	shell, err := exec.LookPath("sh")
	if err != nil || runtime.GOOS == "windows" {
		t.Skip("needs a POSIX shell to play the guest's program")
	}
	c := start(t, lab.Options{})
	vm, o := c.add(lab.VMSpec{Name: "vm", PoweredOn: true})
	login := &types.NamePasswordAuthentication{Username: "Administrator", Password: "secret"}
	ops := guest.NewOperationsManager(c.c.Client, o.Reference())
	files, err := ops.FileManager(c.ctx)
	must(t, err)
	programs, err := ops.ProcessManager(c.ctx)
	must(t, err)
	dir, err := files.CreateTemporaryDirectory(c.ctx, login, "holdfast-", "", "")
	must(t, err)
	if !strings.HasPrefix(dir, `C:\Windows\Temp\holdfast-`) {
		t.Errorf("temporary directory %q", dir)
	}
	script := "echo \"$GREETING|$HOME\" > out.txt; exit 7\n"
	u, err := files.InitiateFileTransferToGuest(c.ctx, login, dir+`\run.sh`, &types.GuestFileAttributes{}, int64(len(script)), false)
	must(t, err)
	put, err := files.TransferURL(c.ctx, u)
	must(t, err)
	up := soap.DefaultUpload
	up.ContentLength = int64(len(script))
	must(t, c.c.Client.Upload(c.ctx, strings.NewReader(script), put, &up))
	pid, err := programs.StartProgram(c.ctx, login, &types.GuestProgramSpec{
		ProgramPath: shell, Arguments: `"` + dir + `\run.sh"`, WorkingDirectory: dir, EnvVariables: []string{"GREETING=hello world"}})
	must(t, err)
	var p types.GuestProcessInfo
	for p.EndTime == nil {
		list, err := programs.ListProcesses(c.ctx, login, []int64{pid})
		must(t, err)
		if len(list) != 1 {
			t.Fatalf("%d processes", len(list))
		}
		p = list[0]
	}
	if p.ExitCode != 7 {
		t.Errorf("exit code %d", p.ExitCode)
	}
	info, err := files.InitiateFileTransferFromGuest(c.ctx, login, dir+`\out.txt`)
	must(t, err)
	get, err := files.TransferURL(c.ctx, info.Url)
	must(t, err)
	body, _, err := c.c.Client.Download(c.ctx, get, &soap.DefaultDownload)
	must(t, err)
	out, err := io.ReadAll(body)
	must(t, err)
	if string(bytes.TrimSpace(out)) != "hello world|" {
		t.Errorf("output %q: the environment must be replaced", out)
	}
	if code, _ := transfer(t, "GET", get.String(), nil); code != 404 {
		t.Errorf("second use of a one-time URL: %d", code)
	}
	must(t, files.DeleteDirectory(c.ctx, login, dir, true))
	if _, err := os.Stat(filepath.Join(vm.GuestDir(), "Windows", "Temp", filepath.Base(strings.ReplaceAll(dir, `\`, "/")))); !os.IsNotExist(err) {
		t.Errorf("directory still there: %v", err)
	}
}

func TestGuestFilesAndTermination(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip("needs a program that waits")
	}
	c := start(t, lab.Options{})
	vm, o := c.add(lab.VMSpec{Name: "vm", PoweredOn: true})
	login := &types.NamePasswordAuthentication{Username: "Administrator", Password: "secret"}
	ops := guest.NewOperationsManager(c.c.Client, o.Reference())
	files, err := ops.FileManager(c.ctx)
	must(t, err)
	programs, err := ops.ProcessManager(c.ctx)
	must(t, err)
	must(t, files.MakeDirectory(c.ctx, login, `C:\data\sub`, true))
	if err := files.MakeDirectory(c.ctx, login, `C:\data`, false); !isFault[*types.FileAlreadyExists](err) {
		t.Errorf("second make: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(vm.GuestDir(), "data", "a.txt"), []byte("abc"), 0o600))
	must(t, files.MoveFile(c.ctx, login, `C:\data\a.txt`, `C:\data\sub\b.txt`, false))
	list, err := files.ListFiles(c.ctx, login, `C:\data\sub`, 0, 0, `\.txt$`)
	must(t, err)
	if len(list.Files) != 1 || list.Files[0].Path != "b.txt" || list.Files[0].Size != 3 {
		t.Errorf("list %+v", list.Files)
	}
	must(t, files.DeleteFile(c.ctx, login, `C:\data\sub\b.txt`))
	if err := files.DeleteFile(c.ctx, login, `C:\..\..\..\etc\hostname`); !isFault[*types.FileNotFound](err) {
		t.Errorf("path out of the guest: %v", err)
	}
	env, err := programs.ReadEnvironmentVariable(c.ctx, login, []string{"ProgramData"})
	must(t, err)
	if fmt.Sprint(env) != `[ProgramData=C:\ProgramData]` {
		t.Errorf("environment %v", env)
	}
	pid, err := programs.StartProgram(c.ctx, login, &types.GuestProgramSpec{ProgramPath: sleep, Arguments: "600"})
	must(t, err)
	must(t, programs.TerminateProcess(c.ctx, login, pid))
	for ended := false; !ended; {
		list, err := programs.ListProcesses(c.ctx, login, []int64{pid})
		must(t, err)
		ended = len(list) == 1 && list[0].EndTime != nil
	}
	if err := programs.TerminateProcess(c.ctx, login, 1); err == nil {
		t.Error("terminated a process that is not the guest's")
	}
	begun := time.Now()
	_, err = programs.StartProgram(c.ctx, login, &types.GuestProgramSpec{ProgramPath: sleep, Arguments: "600"})
	must(t, err)
	c.lab.Close() // ends it and waits
	if time.Since(begun) > time.Minute {
		t.Error("Close waited for the program's own end")
	}
}
