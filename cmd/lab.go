package cmd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/spf13/cobra"

	"holdfast/vmware/lab"
)

func newLabCommand(a *app) *cobra.Command {
	var listen string
	serve := documented(&cobra.Command{
		Use:   "serve",
		Short: "run the laboratory until Ctrl-C, printing the variables to use against it",
		Long: `Serve runs a vCenter to practise on, with one host, two datastores and the VM web01 (two
disks). It keeps everything in a temporary directory that goes away with it. It speaks
the real protocols and enforces the real rules, but it is no vCenter: see its package
for what it does differently.`,
		Example:     "holdfast lab serve\nholdfast lab serve --listen 127.0.0.1:8989 --json",
		Args:        args(),
		Annotations: map[string]string{offlineKey: "", servesKey: ""},
		RunE:        func(c *cobra.Command, _ []string) error { return runLabServe(c.Context(), listen, a) },
	})
	serve.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "listen on `ADDRESS`")
	return newGroup("lab", "a vCenter to practise on", "The laboratory is a vCenter inside this program, for trying commands and for tests.", serve)
}

func runLabServe(ctx context.Context, listen string, a *app) error {
	l, err := lab.Start(ctx, lab.Options{Listen: listen})
	if err != nil {
		return err
	}
	defer l.Close()
	if err := addWeb01(l); err != nil {
		return err
	}
	env := l.Env()
	a.ui.Printf("# the laboratory runs until Ctrl-C; in another shell:\n")
	for _, name := range sortedNames(env) {
		a.ui.Printf("export %s='%s'\n", name, env[name])
	}
	if err := a.ui.Result(struct {
		Env map[string]string `json:"env"`
	}{env}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func sortedNames(env map[string]string) []string {
	var names []string
	for name := range env {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// addWeb01 makes the VM that the laboratory always has: two disks, the first
// with some data at its beginning, its middle and its end.
func addWeb01(l *lab.Lab) error {
	const first, second = 256 << 20, 64 << 20
	vm, err := l.AddVM(lab.VMSpec{
		Name: "web01", PoweredOn: true, Guest: "windows2019srv_64Guest", HardwareVersion: "vmx-19",
		ExtraConfig: map[string]string{"disk.EnableUUID": "TRUE"}, VSS: lab.ApplicationVSS,
		Disks: []lab.DiskSpec{{Bytes: first}, {Bytes: second, Datastore: lab.Datastore2}},
	})
	if err != nil {
		return fmt.Errorf("add web01: %w", err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 3<<20)
	for i := range data {
		data[i] = byte(rng.Uint32() >> 24 & 0x3f)
	}
	for n, size := range []int64{first, second} {
		for _, off := range []int64{0, size / 2, size - int64(len(data))} {
			if err := vm.WriteDisk(n, off, data); err != nil {
				return fmt.Errorf("fill web01: %w", err)
			}
		}
	}
	return nil
}
