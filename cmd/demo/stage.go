package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/vmware/lab"
)

// vmName is the VM that everything is about, restoredName its copy.
const (
	vmName       = "web01"
	restoredName = "web01-restored"
)

// stage is what the story stands on: a folder, a laboratory, a VM in it, and
// the environment of the commands.
type stage struct {
	opt     Options
	dir     string // all files of the demo
	lab     *lab.Lab
	vm      *lab.VM
	reach   map[string]string // variables that name repository and vCenter
	environ []string          // of the commands
	tell    *teller
	files   tree // in the VM now
}

// newStage makes folder and laboratory; with an error it has left nothing.
func newStage(ctx context.Context, opt Options) (*stage, error) {
	dir, err := os.MkdirTemp(opt.TempDir, "holdfast-demo-")
	if err != nil {
		return nil, fmt.Errorf("make folder for the demo: %w", err)
	}
	s := &stage{opt: opt, dir: dir, tell: newTeller(opt), files: firstFiles(opt.DiskBytes)}
	if err := s.build(ctx); err != nil {
		return nil, errors.Join(err, s.close(false))
	}
	return s, nil
}

func (s *stage) build(ctx context.Context) (err error) {
	if s.lab, err = lab.Start(ctx, lab.Options{Dir: s.path("laboratory")}); err != nil {
		return fmt.Errorf("start laboratory: %w", err)
	}
	s.vm, err = s.lab.AddVM(lab.VMSpec{
		Name: vmName, Guest: "ubuntu64Guest", Firmware: "efi", PoweredOn: true,
		Disks: []lab.DiskSpec{{Bytes: s.opt.DiskBytes}, {Bytes: s.opt.DiskBytes}},
	})
	if err != nil {
		return fmt.Errorf("add VM %s: %w", vmName, err)
	}
	return s.settle()
}

// settle makes the environment of the commands: secrets in files, so that the
// variables can be shown, and nothing of the user's own settings.
func (s *stage) settle() error {
	for name, text := range map[string]string{
		"vcenter-password": s.lab.Password(), "config.yaml": "",
	} {
		if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	s.reach = map[string]string{
		"HOLDFAST_REPOSITORY":            s.path("repository"),
		"HOLDFAST_VCENTER_PASSWORD_FILE": s.path("vcenter-password"),
	}
	for name, value := range s.lab.Env() {
		if name != "HOLDFAST_VCENTER_PASSWORD" {
			s.reach[name] = value
		}
	}
	s.environ = []string{"HOLDFAST_CACHE_DIR=" + s.path("cache"), "HOLDFAST_CONFIG=" + s.path("config.yaml")}
	return nil
}

// export sets variables for the commands that follow, before the audience.
func (s *stage) export(variables map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		s.environ = append(s.environ, name+"="+variables[name])
	}
	s.tell.variables(variables)
}

// close ends the laboratory and removes everything; with keep it leaves the
// repository and what was restored from it.
func (s *stage) close(keep bool) error {
	if s.lab != nil {
		s.lab.Close()
	}
	if !keep {
		if err := os.RemoveAll(s.dir); err != nil {
			return fmt.Errorf("clean up: %w", err)
		}
		return nil
	}
	var errs []error
	for _, name := range []string{"laboratory", "cache", "vcenter-password", "config.yaml"} {
		errs = append(errs, os.RemoveAll(s.path(name)))
	}
	return errors.Join(errs...)
}

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

// drives are the disks of a VM in the laboratory.
func (s *stage) drives(vm *lab.VM) []drive {
	var all []drive
	for i := range vm.DiskKeys() {
		all = append(all, vmDrive{vm, i, s.opt.DiskBytes})
	}
	return all
}

// run types a command: shows it, runs it, shows what it says. Any exit code
// but those in ok (default 0) ends the story.
func (s *stage) run(ctx context.Context, args []string, ok ...int) (time.Duration, error) {
	out, errs, said := s.tell.typed(args)
	began := s.opt.Now()
	code := s.opt.Run(ctx, args, s.environ, out, errs)
	took := s.opt.Now().Sub(began)
	said(code, took)
	if err := ctx.Err(); err != nil {
		return took, err
	}
	if code != 0 && !slices.Contains(ok, code) {
		return took, fmt.Errorf("%s ended with exit code %d: %w", commandLine(args), code, ErrClaim)
	}
	return took, nil
}

// ask runs a command unseen and decodes the JSON it answers.
func (s *stage) ask(ctx context.Context, into any, args ...string) error {
	var out, errs bytes.Buffer
	code := s.opt.Run(ctx, append(args, "--json"), s.environ, &out, &errs)
	if err := ctx.Err(); err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("%s ended with exit code %d: %s: %w", commandLine(args), code, strings.TrimSpace(errs.String()), ErrClaim)
	}
	if err := json.NewDecoder(&out).Decode(into); err != nil && err != io.EOF {
		return fmt.Errorf("decode what %s answers: %w", commandLine(args), err)
	}
	return nil
}

// commandLine is a command as one types it.
func commandLine(args []string) string {
	words := []string{"holdfast"}
	for _, arg := range args {
		if strings.ContainsAny(arg, " '") {
			arg = `"` + arg + `"`
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}
