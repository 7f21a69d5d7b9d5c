// Package cmd is the program: flags in, text or JSON out, exit code. It alone
// knows cobra and viper, prints, exits and reads the environment; everything
// below it is told what it needs.
//
// Main runs one command line and returns its exit code, so that tests and the
// demo run the real thing in process. A command is one file with one function
// newXCommand(a *app) that declares it, an options struct that its flags fill,
// and runX(ctx, opts, a) that does it. What all commands share is the app:
// terminal, settings, log, clock. Errors are returned; exit.go alone turns them
// into exit codes and hints.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"holdfast/cmd/about"
	"holdfast/cmd/database"
	"holdfast/cmd/monitor"
	"holdfast/cmd/secret"
	"holdfast/cmd/settings"
	"holdfast/cmd/sqlcmd"
	"holdfast/cmd/ui"
	"holdfast/cmd/usage"
	"holdfast/cmd/verdict"
)

// Std is what a process has: its streams and its environment. The zero value
// reads nothing, writes nowhere and has an empty environment.
type Std struct {
	In       io.Reader
	Out, Err io.Writer
	Environ  []string // "NAME=value", as os.Environ gives it
	// Now is the clock of what is recorded and shown; nil means time.Now.
	Now func() time.Time
	// Prompt asks a person for a secret; nil asks on In if it is a terminal.
	Prompt func(ctx context.Context, label string) ([]byte, error)
	// Signals are requests to stop; nil means the process's own signals.
	Signals <-chan os.Signal
}

// app is what every command works with. All of it is set before the command
// runs.
type app struct {
	std      Std
	ui       *ui.Terminal
	log      *slog.Logger
	settings *settings.Settings
	report   *monitor.Report
	redact   *secret.Redactor
	now      func() time.Time

	command *cobra.Command // what runs, once prepare has been called

	json, quiet, verbose bool

	// screen is ui for the goroutine that waits for signals while prepare
	// replaces it.
	screen atomic.Pointer[ui.Terminal]

	healed   sync.Map       // objects of which the operator was told that reading healed them
	unlisted sync.Once      // the operator is told that the index is incomplete
	unlocked sync.Once      // and that no lock can be taken
	vanished verdict.Missed // points that this machine has seen and that are gone
	stdinFor string         // what standard input was given to, "" while it is free
	closeLog func() error
}

// commands lists every command of the program.
func commands(a *app) []*cobra.Command {
	return []*cobra.Command{
		newInitCommand(a),
		newKeyCommand(a),
		newPointsCommand(a),
		newShowCommand(a),
		newDiffCommand(a),
		newDumpCommand(a),
		newTagCommand(a),
		newPinCommand(a),
		newUnpinCommand(a),
		newCheckCommand(a),
		newScrubCommand(a),
		newRepairCommand(a),
		newForgetCommand(a),
		newPruneCommand(a),
		newCopyCommand(a),
		newStatsCommand(a),
		newBackupCommand(a),
		newRestoreCommand(a),
		newVMCommand(a),
		sqlcmd.New(door{a}),
		sqlcmd.NewChain(door{a}),
		sqlcmd.NewDoctor(door{a}),
		newDemoCommand(a),
		newLabCommand(a),
		newConfigCommand(a),
		newCompletionCommand(a),
		newManCommand(a),
		newVersionCommand(a),
	}
}

// Main runs one command line (without the program's name) and returns the exit
// code. The first signal cancels the command, which then cleans up; see
// listen for those that follow.
func Main(args []string, std Std) int {
	if len(args) > 0 && args[0] == database.AgentCommand {
		return serveGuest(args[1:], std)
	}
	return run(args, std, commands)
}

// serveGuest makes the program the agent in a guest, where nobody types its commands.
func serveGuest(args []string, std Std) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := database.Agent(ctx, args, std.Err); err != nil {
		return int(exitFailed)
	}
	return int(exitDone)
}

// run is Main with a choice of commands.
func run(args []string, std Std, commands func(*app) []*cobra.Command) int {
	a := newApp(args, std)
	root := newRoot(a, commands(a))
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	done := make(chan int, 2) // the command's code and, before it, that of leaving it behind
	var interrupted atomic.Bool
	stopListening := listen(a.std.Signals, a, func() {
		interrupted.Store(true)
		cancel(errInterrupted)
	}, func() { done <- int(exitInterrupted) })
	defer stopListening()
	// The command has a goroutine of its own only so that the last signal can
	// leave a cleanup that hangs; in every other case it is waited for.
	go func() {
		done <- a.execute(ctx, root, args, &interrupted)
	}()
	return <-done
}

// newApp makes the app as far as it can be before flags are parsed: enough to
// report that they cannot be.
func newApp(args []string, std Std) *app {
	if std.In == nil {
		std.In = strings.NewReader("")
	}
	if std.Out == nil {
		std.Out = io.Discard
	}
	if std.Err == nil {
		std.Err = io.Discard
	}
	if std.Now == nil {
		std.Now = time.Now
	}
	a := &app{std: std, now: std.Now, redact: &secret.Redactor{}, log: slog.New(slog.DiscardHandler), settings: &settings.Settings{}}
	a.closeLog = func() error { return nil }
	a.json = wantsJSON(args, std.Environ)
	a.ui = ui.New(ui.Options{Out: std.Out, Err: std.Err, JSON: a.json, Redact: a.redact.Redact, Now: a.now})
	a.screen.Store(a.ui)
	a.report = monitor.NewReport(a.now())
	a.knowSecrets()
	return a
}

// wantsJSON looks for --json before the parser does: the error that a flag is
// unknown must come in the language that was asked for.
func wantsJSON(args []string, env settings.Environment) bool {
	want, _ := strconv.ParseBool(env.Text("HOLDFAST_JSON"))
	for _, arg := range args {
		if arg == "--" {
			break
		}
		if arg == "--json" {
			want = true
		}
		if text, ok := strings.CutPrefix(arg, "--json="); ok {
			want, _ = strconv.ParseBool(text)
		}
	}
	return want
}

// knowSecrets tells the redactor of each secret in the environment, in effect
// or not.
func (a *app) knowSecrets() {
	for _, secret := range settings.Environment(a.std.Environ).Secrets() {
		a.redact.Add(secret)
	}
}

// execute runs the command and ends the run: error, report, log, in that order.
func (a *app) execute(ctx context.Context, root *cobra.Command, args []string, interrupted *atomic.Bool) int {
	root.SetArgs(args)
	c, err := a.runGuarded(ctx, root)
	if _, serves := c.Annotations[servesKey]; interrupted.Load() && !(serves && err == nil) {
		// Also when the command returned nil: the signal may have cut short
		// what it does not call an error.
		err = interruption(c, err)
	}
	if writeErr := a.ui.Err(); err == nil && writeErr != nil {
		err = writeErr
	}
	code, hint := classify(err)
	if err != nil {
		a.ui.Fail(int(code), err.Error(), hint, verdict.Fields(err))
	}
	a.finish(context.WithoutCancel(ctx), c, code, err)
	return int(code)
}

// interruption is the error of an interrupted run. What the command says is
// kept: it may be that its cleanup failed.
func interruption(c *cobra.Command, err error) error {
	why := errInterrupted
	if own := verdict.Hinter(nil); sends(c) && !errors.As(err, &own) {
		why = verdict.Advise(why, "run it again when you like: what is already stored is not sent twice")
	}
	if err == nil || err == context.Canceled {
		return why
	}
	return fmt.Errorf("%w: %w", why, err)
}

// sends reports whether a command stores content in the repository.
func sends(c *cobra.Command) bool {
	return c.Name() == "copy" || c.HasParent() && c.Parent().Name() == "backup"
}

// runGuarded runs the command; a panic becomes errCrashed. What was thrown is
// not shown unless the runtime threw it: it may be a value with secrets in it.
func (a *app) runGuarded(ctx context.Context, root *cobra.Command) (c *cobra.Command, err error) {
	c = root
	defer func() {
		thrown := recover()
		if thrown == nil {
			return
		}
		what := fmt.Sprintf("%T", thrown)
		if e, ok := thrown.(interface {
			error
			RuntimeError()
		}); ok {
			what = e.Error()
		}
		if a.command != nil {
			c = a.command
		}
		a.ui.Warn("panic: %s\n%s", what, withoutArguments(debug.Stack()))
		err = fmt.Errorf("%w: %s", errCrashed, what)
	}()
	return root.ExecuteContextC(ctx)
}

// withoutArguments drops the values from the calls in a stack trace.
func withoutArguments(stack []byte) string {
	var b strings.Builder
	for line := range strings.Lines(string(stack)) {
		if open := strings.LastIndex(line, "("); open > 0 && !strings.HasPrefix(line, "\t") {
			line = line[:open] + "()\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

// newRoot makes the whole tree.
func newRoot(a *app, commands []*cobra.Command) *cobra.Command {
	root := newGroup("holdfast", "back up and restore virtual machines and SQL Servers",
		`Holdfast backs up VMware virtual machines, SQL Servers and disk images
into an encrypted, deduplicated repository that heals its own damage, and brings
them back. Try "holdfast demo": it needs no vCenter and no configuration.

Every global flag can also be given as a variable (HOLDFAST_REPOSITORY for
--repo, HOLDFAST_LOG_FILE for --log-file …) or in a profile of the configuration
file. A flag wins over a variable, a variable over a profile.`,
		commands...)
	root.Annotations = map[string]string{offlineKey: ""} // it only prints help
	root.Example = "holdfast demo\nholdfast -r /srv/backup init\nholdfast -r /srv/backup backup vm web01\nholdfast -r /srv/backup points"
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetIn(a.std.In)
	root.SetOut(a.ui.Out())
	root.SetErr(a.std.Err)
	root.SetFlagErrorFunc(usage.FlagError)
	root.SetHelpFunc(func(c *cobra.Command, _ []string) { usage.Write(a.ui.Out(), c) })
	root.SetHelpCommand(newHelpCommand(a))
	settings.AddFlags(root.PersistentFlags())
	bare := root.RunE
	root.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		return bare(c, args)
	}
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error { return a.prepare(c) }
	return root
}

// servesKey is the annotation of a command that runs until it is interrupted:
// for it a signal is the end, not a failure.
const servesKey = "serves"

func newHelpCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:         "help [COMMAND]",
		Short:       "help for a command",
		Annotations: map[string]string{offlineKey: ""},
		RunE: func(c *cobra.Command, words []string) error {
			target, rest, err := c.Root().Find(words)
			if err != nil || len(rest) > 0 {
				return usage.Unknown(c.Root(), words)
			}
			usage.Write(a.ui.Out(), target)
			return nil
		},
	}
}

// isCompletion reports whether a shell asks, at a press of Tab, how a command
// line may go on: nothing is run, read, logged or told then.
func isCompletion(c *cobra.Command) bool { return strings.HasPrefix(c.Name(), "__complete") }

// prepare resolves the settings and makes terminal and log of them.
func (a *app) prepare(c *cobra.Command) error {
	if isCompletion(c) {
		return nil
	}
	a.command = c
	s, err := settings.Load(c, a.std.Environ)
	if err != nil {
		return err
	}
	a.settings = s
	for _, secret := range s.Secrets() {
		a.redact.Add(secret)
	}
	a.json, a.quiet, a.verbose = s.Bool("json"), s.Bool("quiet"), s.Bool("verbose")
	var fileLog *slog.Logger
	if fileLog, err = a.openLog(); err != nil {
		return err
	}
	a.ui = ui.New(ui.Options{
		Out: a.std.Out, Err: a.std.Err, JSON: a.json, Quiet: a.quiet, Verbose: a.verbose,
		NoProgress: s.Bool("no-progress"), Log: fileLog, Redact: a.redact.Redact, Now: a.now,
	})
	a.screen.Store(a.ui)
	c.Root().SetOut(a.ui.Out())
	misspelled := settings.Environment(a.std.Environ).Misspelled()
	for _, name := range slices.Sorted(maps.Keys(misspelled)) {
		a.ui.Warn("the variable %s means nothing here; %s is one", name, misspelled[name])
	}
	if file := s.SecretFile(); file != "" {
		secret.WarnReadable(file, a.ui.Warn)
	}
	a.log.Info("start", "command", c.CommandPath(), "version", about.Program().Version)
	return nil
}
