package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"holdfast/backup"
	"holdfast/cmd/secret"
	"holdfast/cmd/ui"
	"holdfast/cmd/usage"
	"holdfast/restore"
)

var (
	_ backup.Progress  = (*ui.Progress)(nil)
	_ restore.Progress = (*ui.Progress)(nil)
)

// outcome is what one run of the program left.
type outcome struct {
	code     int
	out, err string
}

// try runs the real Main with commands added by the test.
func try(std Std, extra func(a *app) *cobra.Command, args ...string) outcome {
	var out, errs bytes.Buffer
	std.Out, std.Err = &out, &errs
	code := run(args, std, func(a *app) []*cobra.Command {
		all := commands(a)
		if extra != nil {
			all = append(all, extra(a))
		}
		return all
	})
	return outcome{code, out.String(), errs.String()}
}

// probe makes a command `probe` that does what the test says.
func probe(do func(ctx context.Context, a *app) error) func(*app) *cobra.Command {
	return func(a *app) *cobra.Command {
		return documented(&cobra.Command{
			Use: "probe", Short: "probe", Example: "holdfast probe",
			RunE: func(c *cobra.Command, _ []string) error { return do(c.Context(), a) },
		})
	}
}

func TestFirstSignalCancelsSecondExplainsThirdLeaves(t *testing.T) {
	signals := make(chan os.Signal)
	cleaning := make(chan struct{})
	hang := make(chan struct{})
	defer close(hang)
	go func() {
		signals <- os.Interrupt
		<-cleaning
		signals <- os.Interrupt
		signals <- os.Interrupt
	}()
	got := try(Std{Signals: signals}, probe(func(ctx context.Context, _ *app) error {
		<-ctx.Done()
		close(cleaning)
		<-hang // a cleanup that never ends
		return ctx.Err()
	}), "probe")
	if got.code != 130 {
		t.Errorf("code %d", got.code)
	}
	for _, want := range []string{"cleaning up, please wait", "still cleaning up", "left without cleaning up"} {
		if !strings.Contains(got.err, want) {
			t.Errorf("standard error lacks %q:\n%s", want, got.err)
		}
	}
}

func TestInterruptedRunEndsWith130AndKeepsWhatCleanupSays(t *testing.T) {
	signals := make(chan os.Signal, 1)
	signals <- os.Interrupt
	got := try(Std{Signals: signals}, probe(func(ctx context.Context, _ *app) error {
		<-ctx.Done()
		return errors.New("remove snapshot: it is stuck")
	}), "probe", "--json")
	last := got.err[strings.LastIndex(strings.TrimSpace(got.err), "\n")+1:]
	var e struct {
		MessageType string `json:"message_type"`
		Code        int
		Message     string
		Hint        *string
	}
	if err := json.Unmarshal([]byte(last), &e); err != nil {
		t.Fatalf("%v in %q", err, got.err)
	}
	if got.code != 130 || e.Code != 130 || e.MessageType != "exit_error" || e.Hint == nil ||
		e.Message != "interrupted: remove snapshot: it is stuck" {
		t.Errorf("got %d %+v", got.code, e)
	}
	if got.out != "" {
		t.Errorf("standard output: %q", got.out)
	}
}

func TestSignalAfterWhichACommandSaysNothingIsStill130(t *testing.T) {
	signals := make(chan os.Signal, 1)
	signals <- os.Interrupt
	got := try(Std{Signals: signals}, probe(func(ctx context.Context, _ *app) error { <-ctx.Done(); return nil }), "probe")
	if got.code != 130 {
		t.Errorf("code %d", got.code)
	}
}

func TestSignalOfTheProcessInterrupts(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot send itself Ctrl-C on Windows")
	}
	got := try(Std{}, probe(func(ctx context.Context, _ *app) error {
		self, err := os.FindProcess(os.Getpid())
		if err != nil {
			return err
		}
		if err := self.Signal(os.Interrupt); err != nil {
			return err
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}), "probe")
	if got.code != 130 {
		t.Errorf("code %d: %s", got.code, got.err)
	}
}

func TestPanicIsExit2AndTellsNoValues(t *testing.T) {
	got := try(Std{}, probe(func(context.Context, *app) error { panic("password is hunter2hunter2") }), "probe")
	if got.code != 2 || !strings.Contains(got.err, "crashed") || !strings.Contains(got.err, "report") {
		t.Errorf("code %d:\n%s", got.code, got.err)
	}
	if strings.Contains(got.err, "hunter2") {
		t.Errorf("the thrown value is shown:\n%s", got.err)
	}
	got = try(Std{}, probe(func(_ context.Context, a *app) error {
		few := make([]int, len(a.stdinFor))
		_ = few[len(a.stdinFor)]
		return nil
	}), "probe")
	if got.code != 2 || !strings.Contains(got.err, "index out of range") || !strings.Contains(got.err, "main_test.go") {
		t.Errorf("a fault of the runtime tells neither what nor where: code %d:\n%s", got.code, got.err)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestResultThatCannotBeWrittenIsNotExit0(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"version", "--json"}, {"completion", "bash"}, {"--help"}} {
		var errs bytes.Buffer
		if code := Main(args, Std{Out: fullDisk{}, Err: &errs}); code != 1 || !strings.Contains(errs.String(), "no space left") {
			t.Errorf("%v: code %d: %s", args, code, errs.String())
		}
	}
}

func TestZeroStdRuns(t *testing.T) {
	if code := Main([]string{"version"}, Std{}); code != 0 {
		t.Errorf("code %d", code)
	}
}

func TestFailuresSpeakJSONWhateverComesFirst(t *testing.T) {
	for _, c := range []struct {
		env  []string
		args []string
	}{
		{nil, []string{"--json", "--nonsense", "version"}},
		{nil, []string{"version", "--nonsense", "--json"}},
		{nil, []string{"nonsense", "--json"}},
		{[]string{"HOLDFAST_JSON=true"}, []string{"version", "--nonsense"}},
		{[]string{"HOLDFAST_LIMIT_UPLOAD=fast"}, []string{"--json", "version"}},
	} {
		got := try(Std{Environ: c.env}, nil, c.args...)
		var e struct {
			MessageType string `json:"message_type"`
			Code        int
			Message     string
		}
		if err := json.Unmarshal([]byte(got.err), &e); err != nil || e.MessageType != "exit_error" || e.Code != 1 || e.Message == "" || got.code != 1 || got.out != "" {
			t.Errorf("%v: %v %+v", c.args, err, got)
		}
	}
}

// walk calls visit for every command of the program.
func walk(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, sub := range c.Commands() {
		walk(sub, visit)
	}
}

func wholeTree() *cobra.Command {
	a := newApp(nil, Std{})
	return newRoot(a, commands(a))
}

func TestEveryCommandDocumentsExitStatusAndExamples(t *testing.T) {
	walk(wholeTree(), func(c *cobra.Command) {
		if c.HasSubCommands() || c.Name() == "help" {
			return
		}
		sections := usage.Sections(c)
		n := len(sections)
		if n < 2 || sections[n-2].Title != "EXIT STATUS" || sections[n-1].Title != "EXAMPLES" {
			t.Errorf("%s: help does not end with EXIT STATUS and EXAMPLES", c.CommandPath())
		}
		for line := range strings.Lines(c.Example) {
			if !strings.Contains(line, "holdfast ") {
				t.Errorf("%s: example %q does not call holdfast", c.CommandPath(), line)
			}
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || c.Short[0] < 'a' || c.Short[0] > 'z' {
			t.Errorf("%s: short help %q: lower case, no full stop", c.CommandPath(), c.Short)
		}
	})
}

func TestNoFlagTakesAPassword(t *testing.T) {
	walk(wholeTree(), func(c *cobra.Command) {
		for _, name := range []string{"password", "passwd", "new-password", "from-password", "key", "secret"} {
			if c.Flag(name) != nil {
				t.Errorf("%s has a flag --%s", c.CommandPath(), name)
			}
		}
	})
}

func TestEachGlobalFlagOfTheContractExists(t *testing.T) {
	root := wholeTree()
	for _, name := range strings.Fields(`repo repository-file password-file password-command key-file config profile json quiet
		verbose log-file log-format no-progress cache-dir limit-upload limit-download metrics-textfile ping-url tls-ca`) {
		if root.PersistentFlags().Lookup(name) == nil {
			t.Errorf("--%s is missing", name)
		}
	}
	for short, long := range map[string]string{"r": "repo", "q": "quiet", "v": "verbose"} {
		if f := root.PersistentFlags().ShorthandLookup(short); f == nil || f.Name != long {
			t.Errorf("-%s is not --%s", short, long)
		}
	}
}

func TestStdinIsGivenOnce(t *testing.T) {
	got := try(Std{In: strings.NewReader("secret-from-stdin\n")}, probe(func(ctx context.Context, a *app) error {
		got, err := a.loadSecret(ctx, secret.Repository)
		if err != nil || string(got) != "secret-from-stdin" {
			return fmt.Errorf("first: %w", err)
		}
		_, err = a.takeStdin("the image")
		return err
	}), "probe", "--password-file", "-")
	if got.code != 1 || !strings.Contains(got.err, "wanted twice: for repository password and for the image") {
		t.Errorf("got %+v", got)
	}
}

func TestCompletionTellsNoMonitorAndReadsNoSettings(t *testing.T) {
	got := try(Std{Environ: []string{"HOLDFAST_LIMIT_UPLOAD=broken", "HOLDFAST_PING_URL=http://127.0.0.1:1/x"}}, nil, "__complete", "ver")
	if got.code != 0 || !strings.Contains(got.out, "version") || strings.Contains(got.err, "ping") {
		t.Errorf("got %+v", got)
	}
}

func TestClockOfARunComesFromOutside(t *testing.T) {
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	file := t.TempDir() + "/m.prom"
	got := try(Std{Now: func() time.Time { return at }}, probe(func(context.Context, *app) error { return nil }), "probe", "--metrics-textfile", file)
	data, err := os.ReadFile(file)
	if got.code != 0 || err != nil || !strings.Contains(string(data), fmt.Sprintf("} %d\n", at.Unix())) {
		t.Errorf("%+v %v\n%s", got, err, data)
	}
}

// TestHelpOfWhatWritesSaysThatThePlaceMayBeTaken: where one may write at a time each
// command that writes may end with 11.
func TestHelpOfWhatWritesSaysThatThePlaceMayBeTaken(t *testing.T) {
	for _, command := range []string{
		"init", "backup image", "backup vm", "copy", "forget", "prune", "tag", "pin", "unpin", "scrub",
		"key add", "key remove", "key passwd", "key rotate", "repair index", "repair packs", "restore disk",
	} {
		got := try(Std{}, nil, append(strings.Fields(command), "--help")...)
		if got.code != 0 || !strings.Contains(got.out, "\n   11  something alive holds") {
			t.Errorf("%s --help ends with %d and says nothing of 11", command, got.code)
		}
	}
	if got := try(Std{}, nil, "points", "--help"); strings.Contains(got.out, "\n   11  ") {
		t.Error("points writes nothing")
	}
}
