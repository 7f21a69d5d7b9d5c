// Package wine lets programs for Windows run on Linux beside a laboratory's SQL
// Server: a Wine prefix with a sqlvdi.dll that speaks to package bridge.
//
// The agent for Windows is real there: COM finds the class in the registry and
// loads a DLL into the process, whose tables of methods, structures and buffers
// have SQL Server's layout. What is not real: the rights on Windows' kernel objects,
// shared memory and the DLL's inside.
//
// It needs wine (64 bits) and the C compiler of mingw-w64, in Debian the packages
// wine64, wine and gcc-mingw-w64-x86-64.
package wine

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ErrAbsent: a program that this needs is not installed. The error names it.
var ErrAbsent = errors.New("not installed")

// BridgeVariable is the environment variable that tells the DLL where the
// laboratory's devices are: an address and a port of TCP.
const BridgeVariable = "HOLDFAST_VDI_BRIDGE"

//go:embed source/*.c
var sources embed.FS

// Prefix is a Windows of its own: a registry, a C: drive and a server process.
type Prefix struct {
	dir    string
	wine   string
	server string
	// Bridge is the address for BridgeVariable; "" for none.
	Bridge string
}

// parts are the programs that a prefix is made with.
type parts struct {
	wine, server, boot, compiler string
}

func find() (parts, error) {
	var p parts
	for _, want := range []struct {
		to    *string
		names []string
	}{
		{&p.wine, []string{"wine64", "/usr/lib/wine/wine64", "wine"}},
		{&p.server, []string{"wineserver", "/usr/lib/wine/wineserver64"}},
		{&p.boot, []string{"wineboot"}},
		{&p.compiler, []string{"x86_64-w64-mingw32-gcc"}},
	} {
		for _, name := range want.names {
			if path, err := exec.LookPath(name); err == nil && *want.to == "" {
				*want.to = path
			}
		}
		if *want.to == "" {
			return p, fmt.Errorf("%s: %w", want.names[0], ErrAbsent)
		}
	}
	return p, nil
}

// New makes a prefix below dir, which exists and is the caller's to remove, and
// installs the DLLs. It takes about ten seconds. Close ends it.
//
// Errors: ErrAbsent; what a program wrote when it failed.
func New(ctx context.Context, dir string) (*Prefix, error) {
	found, err := find()
	if err != nil {
		return nil, err
	}
	p := &Prefix{dir: dir, wine: found.wine, server: found.server}
	for _, sub := range []string{"home", "prefix", "source"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("make prefix: %w", err)
		}
	}
	if err := p.install(ctx, found); err != nil {
		return nil, errors.Join(err, p.Close(context.WithoutCancel(ctx)))
	}
	return p, nil
}

func (p *Prefix) install(ctx context.Context, found parts) error {
	if err := run(p.command(ctx, found.boot, "--init")); err != nil {
		return fmt.Errorf("make prefix: %w", err)
	}
	// Wine boots a prefix before its first program, and that program was boot itself:
	// two service managers run now, which answer in turn and know different services.
	if err := p.Close(ctx); err != nil {
		return err
	}
	system := filepath.Join(p.dir, "prefix", "drive_c", "windows", "system32")
	for _, name := range []string{"sqlvdi", "bcryptprimitives"} {
		text, err := sources.ReadFile("source/" + name + ".c")
		if err != nil {
			return fmt.Errorf("read source of %s.dll: %w", name, err)
		}
		source := filepath.Join(p.dir, "source", name+".c")
		if err := os.WriteFile(source, text, 0o600); err != nil {
			return fmt.Errorf("write source of %s.dll: %w", name, err)
		}
		compile := exec.CommandContext(ctx, found.compiler, "-shared", "-O1", "-Wall", "-Wextra", "-Werror",
			"-o", filepath.Join(system, name+".dll"), source, "-lws2_32", "-lole32", "-luuid", "-ladvapi32")
		if err := run(compile); err != nil {
			return fmt.Errorf("compile %s.dll: %w", name, err)
		}
	}
	if err := p.register(ctx); err != nil {
		return err
	}
	// What is started next shall boot the prefix, not meet services that are ending.
	return p.Close(ctx)
}

// registration is the class as SQL Server's setup registers it.
const registration = `REGEDIT4

[HKEY_LOCAL_MACHINE\Software\Classes\CLSID\{40700425-0080-11D2-851F-00C04FC21759}]
@="IClientVirtualDeviceSet"

[HKEY_LOCAL_MACHINE\Software\Classes\CLSID\{40700425-0080-11D2-851F-00C04FC21759}\InprocServer32]
@="C:\\windows\\system32\\sqlvdi.dll"
"ThreadingModel"="Both"
`

func (p *Prefix) register(ctx context.Context) error {
	file := filepath.Join(p.dir, "source", "sqlvdi.reg")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(registration, "\n", "\r\n")), 0o600); err != nil {
		return fmt.Errorf("write registration: %w", err)
	}
	if err := run(p.Command(ctx, "regedit", "/S", Path(file))); err != nil {
		return fmt.Errorf("register sqlvdi.dll: %w", err)
	}
	return nil
}

// Command is a program for Windows, ready to be run: a name that Wine knows or a
// file of this machine. It has the environment of the prefix, and nothing of ours.
// Its outputs should be files, or it is run by Output, which says why.
func (p *Prefix) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	return p.command(ctx, p.wine, append([]string{program}, args...)...)
}

func (p *Prefix) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, program, args...)
	c.Dir = p.dir
	c.Env = []string{
		"HOME=" + filepath.Join(p.dir, "home"), "WINEPREFIX=" + filepath.Join(p.dir, "prefix"), "WINEARCH=win64",
		// Nothing is asked of a person, and menus and the add-ons for .NET and HTML
		// are left out.
		"WINEDEBUG=-all", "WINEDLLOVERRIDES=winemenubuilder.exe,mscoree,mshtml=", "DISPLAY=",
		"PATH=/usr/local/bin:/usr/bin:/bin",
	}
	if p.Bridge != "" {
		c.Env = append(c.Env, BridgeVariable+"="+p.Bridge)
	}
	return c
}

// Drive is where the prefix's C: is on this machine.
func (p *Prefix) Drive() string { return filepath.Join(p.dir, "prefix", "drive_c") }

// Path is a file of this machine as programs of Windows name it.
func Path(file string) string { return `Z:` + strings.ReplaceAll(file, "/", `\`) }

// Close ends every program of the prefix and its server, and waits for them.
func (p *Prefix) Close(ctx context.Context) error {
	// The server answers with an error when none runs, which is what is wanted.
	_ = run(p.command(ctx, p.server, "-k"))
	if err := run(p.command(ctx, p.server, "-w")); err != nil {
		return fmt.Errorf("end prefix: %w", err)
	}
	return nil
}

// Output runs a command and returns what it wrote on its standard output; what it
// wrote as an error is part of the error. It goes through a file: the services that
// Wine starts beside the first program inherit its pipes and hold them open for
// seconds after the program's end.
func Output(c *exec.Cmd) ([]byte, error) {
	dir, err := os.MkdirTemp("", "wine-output-")
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", filepath.Base(c.Path), err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var said [2][]byte
	err = intoFiles(c, dir, &said)
	if err != nil {
		err = fmt.Errorf("run %s: %w: %s", filepath.Base(c.Path), err, bytes.TrimSpace(said[1]))
	}
	return said[0], err
}

func intoFiles(c *exec.Cmd, dir string, said *[2][]byte) error {
	var files [2]*os.File
	for i := range files {
		f, err := os.Create(filepath.Join(dir, []string{"out", "err"}[i]))
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		files[i] = f
	}
	c.Stdout, c.Stderr = files[0], files[1]
	failed := c.Run()
	for i, f := range files {
		var err error
		if said[i], err = os.ReadFile(f.Name()); err != nil && failed == nil {
			failed = err
		}
	}
	return failed
}

func run(c *exec.Cmd) error {
	_, err := Output(c)
	return err
}
