package cmd

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"runtime"

	"github.com/spf13/cobra"

	"holdfast/cmd/demo"
	"holdfast/cmd/typed"
	"holdfast/cmd/verdict"
)

type demoOptions struct {
	keep bool
	size string
}

func newDemoCommand(a *app) *cobra.Command {
	var opts demoOptions
	c := documented(&cobra.Command{
		Use:   "demo",
		Short: "show the whole story against a built-in laboratory",
		Long: `Demo needs no vCenter and no configuration. It starts a laboratory vCenter on this
machine, fills a VM's disks with files, backs it up in full and incrementally, restores
it, damages the repository and heals it. Each command is shown and really run; each
claim is checked. It takes some seconds, and nothing is left behind.`,
		Example:     "holdfast demo\nholdfast demo --size 1G --keep",
		Args:        args(),
		Annotations: map[string]string{offlineKey: ""},
		RunE:        func(c *cobra.Command, _ []string) error { return runDemo(c.Context(), opts, a) },
	})
	f := c.Flags()
	f.BoolVar(&opts.keep, "keep", false, "leave the repository, and tell how to go on with it")
	f.StringVar(&opts.size, "size", "256M", "`SIZE` of each of the VM's two disks, 64M to 16G")
	return c
}

func runDemo(ctx context.Context, opts demoOptions, a *app) error {
	size, err := typed.Size(opts.size)
	if err != nil {
		return err
	}
	// The laboratory's simulator talks to the standard logger.
	before := log.Writer()
	log.SetOutput(slog.NewLogLogger(a.log.Handler(), slog.LevelDebug).Writer())
	defer log.SetOutput(before)
	err = demo.Run(ctx, demo.Options{
		DiskBytes: max(size, 1), Keep: opts.keep, Run: a.runAnother, UI: a.ui,
		Out: a.std.Out, Err: a.std.Err, Windows: runtime.GOOS == "windows", Now: a.now,
	})
	if errors.Is(err, demo.ErrSize) {
		return usagef("64M to 16G", "--size %s: %v", opts.size, err)
	}
	return err
}

// runAnother runs a command line within this one, with an environment of its
// own, and returns its exit code. It has no signals of its own: ctx ends it,
// and then the outer command has the last word.
func (a *app) runAnother(ctx context.Context, args, environ []string, out, errs io.Writer) int {
	inner := newApp(args, Std{Out: out, Err: errs, Environ: environ, Now: a.std.Now})
	root := newRoot(inner, commands(inner))
	root.SetArgs(args)
	_, err := inner.runGuarded(ctx, root)
	if ctx.Err() != nil {
		return int(exitInterrupted)
	}
	if writeErr := inner.ui.Err(); err == nil && writeErr != nil {
		err = writeErr
	}
	code, hint := classify(err)
	if err != nil {
		inner.ui.Fail(int(code), err.Error(), hint, verdict.Fields(err))
	}
	return int(code)
}
